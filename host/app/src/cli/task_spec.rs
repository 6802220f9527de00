//! `task create` and `task update`: flags that become a spec, or a merge patch of one.

mod arguments;

use super::failure::{Failure, Outcome};
use super::task_show::describe;
use super::values;
use super::{Remote, now};
use crate::client::segment;
use arguments::{SpecArguments, field_name, put};
use clap::Args;
use serde_json::{Map, Value, json};

/// `task create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// A name for people
    #[arg(long)]
    name: String,
    /// The plugin's registered name
    #[arg(long = "type", value_name = "TYPE")]
    task_type: String,
    /// Create it once, however often it is sent with this key within a day
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    spec: SpecArguments,
}

/// `task update`: what is not named stays as it is.
#[derive(Debug, Args)]
pub(crate) struct UpdateArguments {
    /// The task's id or key
    #[arg(value_name = "TASK")]
    task: String,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// The plugin's registered name
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<String>,
    /// Fire by hand only from now on
    #[arg(long, conflicts_with_all = ["cron", "at"])]
    manual: bool,
    /// Put a field back to its default, such as priority
    #[arg(long, value_name = "FIELD", value_parser = field_name)]
    clear: Vec<String>,
    #[command(flatten)]
    spec: SpecArguments,
}

/// The body of `task create`.
fn new_spec(arguments: &CreateArguments) -> Result<Value, Failure> {
    let mut spec = arguments.spec.fields()?;
    spec.insert("name".into(), arguments.name.clone().into());
    spec.insert("task_type".into(), arguments.task_type.clone().into());
    spec.entry("scheduler_type").or_insert("manual".into());
    if let Some(parameters) =
        values::parameters(arguments.spec.params.as_deref(), &arguments.spec.set)?
    {
        spec.insert("parameters".into(), parameters.into());
    }
    Ok(spec.into())
}

pub(crate) fn create(remote: &Remote, arguments: &CreateArguments) -> Outcome {
    let key = arguments.idempotency_key.as_deref();
    let spec = new_spec(arguments)?;
    let answer = remote.client.post_once("/v1/tasks", &spec, key)?;
    remote.show(&answer, |task| {
        format!(
            "Created task {}.\n{}{}",
            task["id"],
            describe(task, now()),
            next_step(task)
        )
    })
}

pub(crate) fn update(remote: &Remote, arguments: &UpdateArguments) -> Outcome {
    let path = format!("/v1/tasks/{}", segment(&arguments.task));
    let current = remote.client.get(&path, &Vec::new())?;
    let patch = spec_patch(arguments, &current.json()?)?;
    if patch.as_object().is_some_and(Map::is_empty) {
        return Err(Failure::refused("nothing to change was named")
            .hint("see `horarium task update --help`"));
    }
    // The patch was made from this version: a change in between must not be undone by it.
    let answer = remote.client.patch(
        &path,
        "application/merge-patch+json",
        current.etag.as_deref(),
        &patch,
    )?;
    remote.show(&answer, |task| {
        format!(
            "Updated task {}.\n{}{}",
            task["id"],
            describe(task, now()),
            next_step(task)
        )
    })
}

/// What a person is likely to do with a task she wrote.
fn next_step(task: &Value) -> String {
    let id = &task["id"];
    if task["paused"] == true {
        format!("Let it fire: horarium task resume {id}\n")
    } else if task["is_scheduled"] == true {
        format!(
            "See when it fires: horarium task next {id}; run it now: horarium task trigger {id} --wait\n"
        )
    } else {
        format!("Run it: horarium task trigger {id} --wait\n")
    }
}

/// The merge patch (RFC 7396) that makes of `current` what was asked for.
fn spec_patch(arguments: &UpdateArguments, current: &Value) -> Result<Value, Failure> {
    let mut patch = arguments.spec.fields()?;
    put(&mut patch, "name", &arguments.name);
    put(&mut patch, "task_type", &arguments.task_type);
    if arguments.manual {
        patch.insert("scheduler_type".into(), "manual".into());
    }
    if let Some(kind) = patch.get("scheduler_type")
        && Some(kind) != current.get("scheduler_type")
    {
        forget_other_schedule(&mut patch, current);
    }
    parameters_patch(&arguments.spec, current, &mut patch)?;
    for field in &arguments.clear {
        if patch.insert(field.clone(), Value::Null).is_some() {
            return Err(Failure::refused(format!(
                "--clear {field}: it is set by another flag as well"
            )));
        }
    }
    Ok(patch.into())
}

/// Keys of the old kind's schedule do not belong to the new one's.
fn forget_other_schedule(patch: &mut Map<String, Value>, current: &Value) {
    let old = current.get("schedule_config").and_then(Value::as_object);
    let schedule = patch.entry("schedule_config").or_insert_with(|| json!({}));
    if let (Some(old), Some(new)) = (old, schedule.as_object_mut()) {
        for key in old.keys() {
            new.entry(key.clone()).or_insert(Value::Null);
        }
    }
}

fn parameters_patch(
    spec: &SpecArguments,
    current: &Value,
    patch: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let old = current
        .get("parameters")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let wanted = match &spec.params {
        Some(text) => values::object_argument("--params", text)?,
        None if spec.set.is_empty() => return Ok(()),
        None => old.as_object().cloned().unwrap_or_default(),
    };
    let mut wanted = wanted;
    for setting in &spec.set {
        setting.apply(&mut wanted)?;
    }
    let wanted = Value::Object(wanted);
    let difference = merge_difference(&old, &wanted);
    let mut reached = old;
    json_patch::merge(&mut reached, &difference);
    if reached != wanted {
        return Err(Failure::refused(
            "a merge patch cannot set a value to null, and these parameters hold one",
        )
        .hint("use `horarium task parameters set TASK --params JSON`, which replaces them whole"));
    }
    if difference != json!({}) {
        patch.insert("parameters".into(), difference);
    }
    Ok(())
}

/// The merge patch from `old` to `new`, but for nulls in `new`, which it cannot say.
fn merge_difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                patch.insert(key.clone(), merge_difference(before, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch.into()
}

#[cfg(test)]
mod tests;
