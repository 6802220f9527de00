//! The file of `task apply`: plugins and tasks as they shall be, in TOML.

use super::failure::Failure;
use super::plugin_register::read_component;
use super::values;
use horarium_model::input::type_name;
use horarium_model::json::escape;
use horarium_model::task_type::digest;
use horarium_model::text::{nearest, one_line};
use horarium_model::{Invalid, Problem, TaskSpec};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Keys of the file.
const TOP: &[&str] = &["set", "plugins", "tasks"];
/// Keys of a plugin.
const PLUGIN: &[&str] = &[
    "type",
    "task_type",
    "file",
    "grants",
    "limits",
    "args_from",
    "env_from",
    "stdin_from",
];
/// Keys of a task beside those of REST.
const SHORT: &[&str] = &["type", "cron", "timezone", "at"];

/// What a file declares.
#[derive(Debug, PartialEq)]
pub(crate) struct Declared {
    /// Its name.
    pub(crate) set: String,
    /// Whether the file says the name.
    pub(crate) is_named: bool,
    /// Plugins as REST takes them.
    pub(crate) plugins: Vec<Value>,
    /// Their files, in the same order.
    pub(crate) files: Vec<PathBuf>,
    /// Tasks as REST takes them.
    pub(crate) tasks: Vec<Value>,
    places: Places,
}

/// Where in the file each item stands.
#[derive(Debug, Default, PartialEq)]
struct Places {
    plugins: Vec<String>,
    tasks: Vec<String>,
}

impl Declared {
    /// Reads a file (`-` is standard input); paths in it are relative to where it is.
    pub(crate) fn read(file: &str) -> Result<Self, Failure> {
        let text = values::read_text(file)?;
        let (directory, set) = place(file)?;
        let document = document(file, &text)?;
        Self::from_document(&document, &directory, set).map_err(|invalid| {
            Failure::invalid(&invalid).relocate(|pointer| format!("{file}: {pointer}"))
        })
    }

    fn from_document(
        document: &Value,
        directory: &Path,
        default_set: Option<String>,
    ) -> Result<Self, Invalid> {
        let mut problems = Vec::new();
        let Some(top) = document.as_object() else {
            return Err(Invalid::one("", "must be a table"));
        };
        unknown(top, "", &[TOP], &mut problems);
        let named = match top.get("set") {
            None => None,
            Some(Value::String(set)) => Some(set.clone()),
            Some(other) => {
                let detail = format!("must be a string, not {}", type_name(other));
                problems.push(Problem::at("/set", detail));
                None
            }
        };
        let mut declared = Self {
            is_named: named.is_some(),
            set: named.or(default_set).unwrap_or_default(),
            plugins: Vec::new(),
            files: Vec::new(),
            tasks: Vec::new(),
            places: Places::default(),
        };
        if declared.set.is_empty() && !problems.iter().any(|p| p.pointer == "/set") {
            let detail = "is missing; what comes from standard input needs a name, such as set = \"team/nightly\"";
            problems.push(Problem::at("/set", detail));
        }
        for (pointer, name, table) in items(top, "plugins", &mut problems) {
            match declared.plugin(&pointer, name, &table, directory) {
                Ok(()) => declared.places.plugins.push(pointer),
                Err(Invalid(more)) => problems.extend(more),
            }
        }
        for (pointer, key, table) in items(top, "tasks", &mut problems) {
            match task(&pointer, key, table) {
                Ok(task) => {
                    declared.tasks.push(task);
                    declared.places.tasks.push(pointer);
                }
                Err(Invalid(more)) => problems.extend(more),
            }
        }
        match problems.is_empty() {
            true => Ok(declared),
            false => Err(Invalid(problems)),
        }
    }

    fn plugin(
        &mut self,
        pointer: &str,
        name: Option<String>,
        table: &Map<String, Value>,
        directory: &Path,
    ) -> Result<(), Invalid> {
        let mut problems = Vec::new();
        unknown(table, pointer, &[PLUGIN], &mut problems);
        let mut wish = table.clone();
        let file = wish.remove("file");
        let said = wish.remove("type");
        rename(
            &mut wish,
            pointer,
            "`type`",
            "task_type",
            said,
            &mut problems,
        );
        let name = name.map(Value::from);
        rename(
            &mut wish,
            pointer,
            "the table's name",
            "task_type",
            name,
            &mut problems,
        );
        if let Some(limits) = wish.get_mut("limits") {
            read_sizes(limits, &format!("{pointer}/limits"), &mut problems);
        }
        match file {
            Some(Value::String(file)) => {
                let path = directory.join(file);
                match read_component(&path) {
                    Ok(bytes) => drop(wish.insert("digest".into(), digest(&bytes).into())),
                    Err(failure) => {
                        problems.push(Problem::at(format!("{pointer}/file"), failure.detail()));
                    }
                }
                self.files.push(path);
            }
            Some(other) => {
                let detail = format!("must be a string, not {}", type_name(&other));
                problems.push(Problem::at(format!("{pointer}/file"), detail));
            }
            None => problems.push(Problem::at(
                format!("{pointer}/file"),
                "is missing; it is the component, relative to this file",
            )),
        }
        if !problems.is_empty() {
            return Err(Invalid(problems));
        }
        self.plugins.push(wish.into());
        Ok(())
    }

    /// Where in the file a pointer of the server's leads.
    pub(crate) fn place_of(&self, pointer: &str) -> String {
        for (list, places) in [
            ("/plugins/", &self.places.plugins),
            ("/tasks/", &self.places.tasks),
        ] {
            let Some(rest) = pointer.strip_prefix(list) else {
                continue;
            };
            let (index, rest) = rest
                .split_once('/')
                .map_or((rest, ""), |(i, rest)| (i, rest));
            let place = index
                .parse::<usize>()
                .ok()
                .and_then(|index| places.get(index));
            if let Some(place) = place {
                return match rest {
                    "" => place.clone(),
                    // What the file says of the bytes is their name.
                    "digest" => format!("{place}/file"),
                    rest => format!("{place}/{rest}"),
                };
            }
        }
        pointer.to_owned()
    }
}

/// The directory that paths are relative to, and the name of a set that names none: directory and file.
fn place(file: &str) -> Result<(PathBuf, Option<String>), Failure> {
    if file == "-" {
        return Ok((PathBuf::from("."), None));
    }
    let path = std::fs::canonicalize(file)
        .map_err(|error| Failure::refused(format!("{file}: {error}")))?;
    let name =
        |part: Option<&std::ffi::OsStr>| part.map(|name| one_line(&name.to_string_lossy(), 48));
    let directory = path.parent().unwrap_or(Path::new("/"));
    let set = [name(directory.file_name()), name(path.file_stem())];
    let set: Vec<String> = set.into_iter().flatten().collect();
    Ok((directory.to_owned(), Some(set.join("/"))))
}

/// The file as JSON: instants become text, what JSON does not have is refused.
fn document(file: &str, text: &str) -> Result<Value, Failure> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let at = line
            .map(|line| format!(", line {line}"))
            .unwrap_or_default();
        Failure::refused(format!("{file}{at}: {}", error.message()))
    })?;
    let value = as_json(toml::Value::Table(table), "").map_err(|invalid| {
        Failure::invalid(&invalid).relocate(|pointer| format!("{file}: {pointer}"))
    })?;
    // The same door as the server's, for its words and places.
    horarium_model::json::parse(value.to_string().as_bytes())
        .map_err(|problem| Failure::refused(format!("{file}: {problem}")))
}

fn as_json(value: toml::Value, pointer: &str) -> Result<Value, Invalid> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .ok_or_else(|| Invalid::one(pointer, "is no number that JSON has"))?
            .into(),
        toml::Value::Array(items) => {
            let each = items.into_iter().enumerate();
            let all: Result<Vec<Value>, Invalid> = each
                .map(|(index, item)| as_json(item, &format!("{pointer}/{index}")))
                .collect();
            all?.into()
        }
        toml::Value::Table(table) => {
            let mut map = Map::new();
            for (key, value) in table {
                let at = format!("{pointer}/{}", escape(&key));
                map.insert(key, as_json(value, &at)?);
            }
            map.into()
        }
    })
}

/// An item's place, the name its table has, and the table.
type Item = (String, Option<String>, Map<String, Value>);

/// `[key.NAME]` tables, or `[[key]]`.
fn items(top: &Map<String, Value>, key: &str, problems: &mut Vec<Problem>) -> Vec<Item> {
    let all: Vec<(String, Option<String>, &Value)> = match top.get(key) {
        None => Vec::new(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| {
                (
                    format!("/{key}/{}", escape(name)),
                    Some(name.clone()),
                    value,
                )
            })
            .collect(),
        Some(Value::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (format!("/{key}/{index}"), None, value))
            .collect(),
        Some(other) => {
            let detail = format!("must be tables, [{key}.NAME], not {}", type_name(other));
            problems.push(Problem::at(format!("/{key}"), detail));
            Vec::new()
        }
    };
    let mut tables = Vec::with_capacity(all.len());
    for (pointer, name, value) in all {
        match value {
            Value::Object(table) => tables.push((pointer, name, table.clone())),
            other => {
                let detail = format!("must be a table, not {}", type_name(other));
                problems.push(Problem::at(pointer, detail));
            }
        }
    }
    tables
}

fn unknown(
    table: &Map<String, Value>,
    pointer: &str,
    known: &[&[&str]],
    problems: &mut Vec<Problem>,
) {
    let known = || known.iter().copied().flatten().copied();
    for key in table
        .keys()
        .filter(|key| !known().any(|known| known == *key))
    {
        let hint = match nearest(key, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        };
        let detail = format!("is not known here; {hint}");
        problems.push(Problem::at(format!("{pointer}/{}", escape(key)), detail));
    }
}

/// Puts what an alias said under the name it stands for, which must not be said besides.
fn rename(
    table: &mut Map<String, Value>,
    pointer: &str,
    alias: &str,
    name: &str,
    said: Option<Value>,
    problems: &mut Vec<Problem>,
) {
    let Some(said) = said else { return };
    if table.contains_key(name) {
        let detail = format!("is said twice: by `{name}` and by {alias}");
        problems.push(Problem::at(format!("{pointer}/{name}"), detail));
        return;
    }
    table.insert(name.to_owned(), said);
}

/// Sizes may be written as `"16MiB"`.
fn read_sizes(limits: &mut Value, pointer: &str, problems: &mut Vec<Problem>) {
    let Some(limits) = limits.as_object_mut() else {
        return;
    };
    for (name, value) in limits.iter_mut() {
        let Value::String(text) = value else { continue };
        match values::limit(&format!("{name}={text}")) {
            Ok((_, number)) => *value = number.into(),
            Err(detail) => {
                problems.push(Problem::at(format!("{pointer}/{}", escape(name)), detail))
            }
        }
    }
}

/// A task as REST takes it.
fn task(
    pointer: &str,
    key: Option<String>,
    mut table: Map<String, Value>,
) -> Result<Value, Invalid> {
    let mut problems = Vec::new();
    unknown(&table, pointer, &[TaskSpec::KEYS, SHORT], &mut problems);
    if let Some(key) = key {
        rename(
            &mut table,
            pointer,
            "the table's name",
            "key",
            Some(key.into()),
            &mut problems,
        );
    }
    let said = table.remove("type");
    rename(
        &mut table,
        pointer,
        "`type`",
        "task_type",
        said,
        &mut problems,
    );
    if let Some(key) = table.get("key").cloned() {
        table.entry("name").or_insert(key);
    }
    if let Some(limits) = table.get_mut("limits") {
        read_sizes(limits, &format!("{pointer}/limits"), &mut problems);
    }
    let (cron, at) = (table.remove("cron"), table.remove("at"));
    let zone = table.remove("timezone");
    let kind = match (&cron, &at) {
        (Some(_), Some(_)) => {
            problems.push(Problem::at(
                format!("{pointer}/at"),
                "and `cron` exclude each other",
            ));
            "cron"
        }
        (Some(_), None) => "cron",
        (None, Some(_)) => "date",
        (None, None) => match table.get("schedule_config") {
            Some(schedule) if schedule.get("cron_expression").is_some() => "cron",
            Some(schedule) if schedule.get("run_at").is_some() => "date",
            _ => "manual",
        },
    };
    table.entry("scheduler_type").or_insert(kind.into());
    for (short, long, value) in [
        ("`cron`", "cron_expression", cron),
        ("`timezone`", "timezone", zone),
        ("`at`", "run_at", at),
    ] {
        let Some(value) = value else { continue };
        let schedule = table.entry("schedule_config").or_insert_with(|| json!({}));
        if let Some(schedule) = schedule.as_object_mut() {
            rename(
                schedule,
                &format!("{pointer}/schedule_config"),
                short,
                long,
                Some(value),
                &mut problems,
            );
        }
    }
    match problems.is_empty() {
        true => Ok(table.into()),
        false => Err(Invalid(problems)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, directory: &Path) -> Result<Declared, Failure> {
        let file = directory.join("tasks.toml");
        std::fs::write(&file, text).expect("written");
        Declared::read(&file.display().to_string())
    }

    #[test]
    fn tables_and_lists_say_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("plugins")).expect("made");
        std::fs::write(directory.path().join("plugins/a.wasm"), b"\0asm").expect("written");
        let tables = read(
            r#"
            set = "team/nightly"
            [plugins.scraper]
            file = "plugins/a.wasm"
            grants = ["state"]
            limits = { fuel = 1_000, memory_bytes = "16MiB" }
            [tasks.nightly]
            type = "scraper"
            cron = "0 3 * * *"
            timezone = "Europe/Berlin"
            schedule_config = { catch_up = "all" }
            parameters = { since = 2030-01-01T00:00:00Z, deep = [{ a = 1.5 }] }
            [tasks.once]
            name = "Once"
            type = "scraper"
            at = 2030-01-31T09:00:00+01:00
            "#,
            directory.path(),
        )
        .expect("read");
        let lists = read(
            r#"
            set = "team/nightly"
            [[plugins]]
            task_type = "scraper"
            file = "plugins/a.wasm"
            grants = ["state"]
            limits = { fuel = 1_000, memory_bytes = 16777216 }
            [[tasks]]
            key = "nightly"
            name = "nightly"
            task_type = "scraper"
            scheduler_type = "cron"
            schedule_config = { cron_expression = "0 3 * * *", timezone = "Europe/Berlin", catch_up = "all" }
            parameters = { since = "2030-01-01T00:00:00Z", deep = [{ a = 1.5 }] }
            [[tasks]]
            key = "once"
            name = "Once"
            type = "scraper"
            schedule_config = { run_at = "2030-01-31T09:00:00+01:00" }
            "#,
            directory.path(),
        )
        .expect("read");
        assert_eq!(
            (&tables.plugins, &tables.tasks),
            (&lists.plugins, &lists.tasks)
        );
        assert_eq!(tables.plugins[0]["digest"], digest(b"\0asm"));
        assert_eq!(tables.tasks[1]["scheduler_type"], "date");
        assert!(tables.is_named);
        assert_eq!(
            tables.place_of("/tasks/1/schedule_config/run_at"),
            "/tasks/once/schedule_config/run_at"
        );
        assert_eq!(lists.place_of("/plugins/0/digest"), "/plugins/0/file");
        for task in &tables.tasks {
            let now = super::super::now();
            horarium_model::TaskSpec::from_json(task, now, None).expect("as the server takes it");
        }
    }

    #[test]
    fn a_set_without_a_name_is_called_like_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path().join("nightly");
        std::fs::create_dir(&directory).expect("made");
        let declared = read("", &directory).expect("read");
        assert_eq!(
            (declared.set.as_str(), declared.is_named),
            ("nightly/tasks", false)
        );
    }

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let page = include_str!("../../../../docs/apply.md");
        let example = page
            .split("```")
            .find_map(|part| part.strip_prefix("toml\n"));
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("plugins")).expect("made");
        let plugin = directory.path().join("plugins/reddit_scraper.wasm");
        std::fs::write(plugin, b"\0asm").expect("written");
        let declared = read(example.expect("an example"), directory.path()).expect("read");
        assert_eq!((declared.plugins.len(), declared.tasks.len()), (1, 4));
        for task in &declared.tasks {
            let now = super::super::now();
            horarium_model::TaskSpec::from_json(task, now, None).expect("as the server takes it");
        }
    }

    #[test]
    fn the_schema_for_editors_knows_the_same_keys() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../../docs/tasks.schema.json"))
                .expect("a schema");
        let keys = |at: &str| -> Vec<String> {
            let properties = schema.pointer(at).and_then(Value::as_object);
            let mut keys: Vec<String> = properties.expect(at).keys().cloned().collect();
            keys.sort_unstable();
            keys
        };
        let sorted = |known: &[&[&str]]| {
            let mut keys: Vec<String> = known.concat().into_iter().map(str::to_owned).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys("/properties"), sorted(&[TOP]));
        assert_eq!(keys("/$defs/plugin/properties"), sorted(&[PLUGIN]));
        assert_eq!(
            keys("/$defs/task/properties"),
            sorted(&[TaskSpec::KEYS, SHORT])
        );
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = r#"
            taskz = 1
            [plugins.a]
            file = "none.wasm"
            grant = []
            [tasks.b]
            type = "a"
            task_type = "a"
            corn = "* * * * *"
            cron = "* * * * *"
            at = "2030-01-01T00:00:00Z"
            limits = { memory_bytes = "much" }
            "#;
        let told = read(text, directory.path())
            .expect_err("refused")
            .render(false);
        for part in [
            "/taskz: is not known here; did you mean `tasks`?",
            "/plugins/a/grant: is not known here; did you mean `grants`?",
            "/plugins/a/file: ",
            "/tasks/b/task_type: is said twice",
            "/tasks/b/corn: is not known here; did you mean `cron`?",
            "/tasks/b/at: and `cron` exclude each other",
            "/tasks/b/limits/memory_bytes: `much` is not a whole number",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        let broken = read("[tasks\n", directory.path()).expect_err("refused");
        assert!(
            broken.render(false).contains("tasks.toml, line 1: "),
            "{broken:?}"
        );
        let infinite = read("[tasks.a]\nparameters = { x = inf }", directory.path());
        assert!(infinite.is_err_and(|f| f.render(false).contains("/tasks/a/parameters/x")));
    }
}
