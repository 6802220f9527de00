//! What a declaration says.

use super::super::registration::read_grants;
use horarium_model::grant::Grant;
use horarium_model::input::{Fields, type_name};
use horarium_model::limits::LimitOverrides;
use horarium_model::program::ProgramInput;
use horarium_model::task_type::{DIGEST, NAME, check_name, is_digest};
use horarium_model::text::sanitize;
use horarium_model::{Invalid, TaskSpec};
use serde_json::{Value, json};

/// Most tasks of one declaration: it is one transaction, and others wait for it.
const MAX_TASKS: usize = 5_000;
/// Most plugins of one declaration.
const MAX_PLUGINS: usize = 200;
/// Longest name of a set.
const MAX_SET: usize = 100;

/// A declaration: plugins and tasks as they shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyRequest {
    /// Its name; the tasks it writes carry it.
    pub set: String,
    /// Versions that shall be active.
    pub plugins: Vec<PluginWish>,
    /// Tasks, each with a key, as they are created. `paused` and `pause_reason` stay as they are unless named.
    pub tasks: Vec<Value>,
    /// Delete tasks of the set that are no longer declared.
    pub prune: bool,
    /// Take tasks from other sets.
    pub take_over: bool,
    /// What becomes of tasks that are there.
    pub existing: Existing,
    /// What becomes of new tasks that do not fit their plugin.
    pub unfit: Unfit,
    /// Only look.
    pub dry_run: bool,
    /// The plan that was looked at; another one is refused.
    pub plan: Option<String>,
}

/// A plugin as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginWish {
    /// The registered name.
    pub task_type: String,
    /// The version.
    pub digest: String,
    /// What it may do, all of it.
    pub grants: Vec<Grant>,
    /// Its limits, all of them.
    pub limits: LimitOverrides,
    /// What of the parameters a WASI program is started with.
    pub input: ProgramInput,
}

/// What becomes of tasks that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They become as declared.
    Update,
    /// They stay as they are: for imports, which are given again.
    Keep,
}

/// What becomes of new tasks whose plugin is unknown or refuses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing is done.
    Refuse,
    /// They are created paused, with the reason.
    Pause,
}

impl ApplyRequest {
    /// Reads `{"set", "plugins", "tasks", "prune", "take_over", "existing", "unfit", "dry_run", "plan"}`.
    ///
    /// # Errors
    /// Every problem found. What is wrong inside a task is found when it is planned.
    pub fn from_json(body: &Value) -> Result<Self, Invalid> {
        Fields::read(body, "", Self::read)
    }

    /// What [`Self::from_json`] takes, as a JSON Schema.
    pub fn describe() -> Value {
        Fields::describe(|fields| {
            Self::read(fields);
            fields.shape("tasks", || {
                let mut task = TaskSpec::describe();
                task["properties"]["key"]["type"] = "string".into();
                if let Some(required) = task["required"].as_array_mut() {
                    required.push("key".into());
                }
                json!({ "items": task })
            });
        })
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            set: read_set(fields),
            plugins: fields
                .objects("plugins", MAX_PLUGINS, read_plugin)
                .unwrap_or_default(),
            tasks: fields
                .list("tasks", MAX_TASKS, read_task)
                .unwrap_or_default(),
            prune: fields.boolean("prune").unwrap_or(false),
            take_over: fields.boolean("take_over").unwrap_or(false),
            existing: fields
                .choice(
                    "existing",
                    &[("update", Existing::Update), ("keep", Existing::Keep)],
                )
                .unwrap_or(Existing::Update),
            unfit: fields
                .choice(
                    "unfit",
                    &[("refuse", Unfit::Refuse), ("pause", Unfit::Pause)],
                )
                .unwrap_or(Unfit::Refuse),
            dry_run: fields.boolean("dry_run").unwrap_or(false),
            plan: fields.text("plan", 1, 100),
        }
    }
}

fn read_set(fields: &mut Fields<'_>) -> String {
    let set = fields.text("set", 1, MAX_SET).unwrap_or_default();
    if fields.value("set").is_none() {
        let detail = "is missing; name the set of declarations, such as team/nightly";
        fields.missing("set", detail);
    } else if sanitize(&set, false) != set || set.trim() != set {
        let detail = "has control characters, or begins or ends with a blank";
        fields.problem("set", detail);
    }
    set
}

fn read_plugin(fields: &mut Fields<'_>) -> PluginWish {
    let task_type = fields.text("task_type", 1, 64);
    if fields.value("task_type").is_none() {
        fields.missing("task_type", "is missing; it is the name tasks use");
    } else if let Some(Err(detail)) = task_type.as_deref().map(check_name) {
        fields.problem("task_type", detail);
    }
    let digest = fields.text("digest", 1, 80);
    if fields.value("digest").is_none() {
        fields.missing("digest", "is missing; it names the version");
    } else if digest.as_deref().is_some_and(|digest| !is_digest(digest)) {
        let detail = "must be blake3: and the 64 hexadecimal digits of the component";
        fields.problem("digest", detail);
    }
    fields.shape("task_type", || json!({ "pattern": NAME }));
    fields.shape("digest", || json!({ "pattern": DIGEST }));
    PluginWish {
        task_type: task_type.unwrap_or_default(),
        digest: digest.unwrap_or_default(),
        grants: read_grants(fields, "grants").unwrap_or_default(),
        limits: fields
            .object("limits", LimitOverrides::read)
            .unwrap_or_default(),
        input: ProgramInput::read(fields).unwrap_or_default(),
    }
}

/// A declared task is known by its key.
fn read_task(task: &Value) -> Result<Value, String> {
    match task {
        Value::Object(map) if map.get("key").is_some_and(Value::is_string) => Ok(task.clone()),
        Value::Object(_) => Err(
            "has no key (a text); a declared task is known by its key, which must not change"
                .to_owned(),
        ),
        other => Err(format!("must be an object, not {}", type_name(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_with_its_place() {
        let wrong = json!({
            "plugins": [{"task_type": "Bad", "digest": "x", "grants": ["everything"], "limit": {}}, 3],
            "tasks": [{"name": "n"}, {"key": 5}, []], "existing": "kepp", "prun": true,
        });
        let Err(Invalid(problems)) = ApplyRequest::from_json(&wrong) else {
            panic!("refused");
        };
        let mut places: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        places.sort_unstable();
        assert_eq!(
            places,
            [
                "/existing",
                "/plugins/0/digest",
                "/plugins/0/grants/0",
                "/plugins/0/limit",
                "/plugins/0/task_type",
                "/plugins/1",
                "/prun",
                "/set",
                "/tasks/0",
                "/tasks/1",
                "/tasks/2"
            ]
        );
    }

    #[test]
    fn little_must_be_said() {
        let read = ApplyRequest::from_json(&json!({"set": "team/nightly"})).expect("read");
        assert!(read.tasks.is_empty() && !read.prune && !read.dry_run);
        assert_eq!(
            (read.existing, read.unfit),
            (Existing::Update, Unfit::Refuse)
        );
    }
}
