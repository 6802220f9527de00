//! The file of `task apply`: plugins and tasks as they shall be, in TOML.

mod document;

use super::failure::Failure;
use super::plugin_register::read_component;
use super::values;
use document::{document, items, read_sizes, rename, unknown};
use horarium_model::input::type_name;
use horarium_model::task_type::digest;
use horarium_model::text::one_line;
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
mod tests;
