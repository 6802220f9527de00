//! `task create` and `task update`: flags that become a spec, or a merge patch of one.

use super::failure::{Failure, Outcome};
use super::task_show::describe;
use super::values::{self, Setting};
use super::{Remote, now};
use crate::client::segment;
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

#[derive(Debug, Args)]
pub(crate) struct SpecArguments {
    /// Parameters, a JSON object, or @FILE (@- for standard input)
    #[arg(long, value_name = "JSON|@FILE")]
    params: Option<String>,
    /// One parameter; the value is JSON if it parses, else text; a KEY like /a/b is a JSON pointer
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Fire by a cron expression
    #[arg(long, value_name = "EXPR", conflicts_with = "at")]
    cron: Option<String>,
    /// The zone the expression means, an IANA name [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Fire once: an instant with offset, or +90s, +10m, +2h, +1d from now
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// A short unique name for programs
    #[arg(long)]
    key: Option<String>,
    /// Attempts after the first [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_retries: Option<i64>,
    /// Seconds an attempt may take [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// -100 to 100, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// While an execution lives: allow, skip, queue_one or cancel_running
    #[arg(long, value_name = "RULE")]
    overlap: Option<String>,
    /// A limit of each run, such as fuel=1000000000 or memory_bytes=16MiB
    #[arg(long, value_name = "NAME=N", value_parser = values::limit)]
    limit: Vec<(String, u64)>,
    /// When failures run again, such as '{"initial_seconds": 1}'
    #[arg(long, value_name = "JSON|@FILE")]
    retry: Option<String>,
    /// How many run at once, start in a time, or wait, such as '{"max": 2, "key": "/site", "rate": {"count": 10, "seconds": 60}}'
    #[arg(long, value_name = "JSON|@FILE")]
    concurrency: Option<String>,
    /// What its end starts, such as '[{"task": "report", "parameters": {"/n": "/count"}}]'
    #[arg(long, value_name = "JSON|@FILE")]
    chain: Option<String>,
    /// Missed slots: skip, once or all [default: once]
    #[arg(long, value_name = "RULE")]
    catch_up: Option<String>,
    /// How old a missed slot may be to be made up [default: 86400]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    catch_up_window: Option<i64>,
    /// How late a slot may fire and still be on time [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    misfire_grace: Option<i64>,
    /// Spread fires over this many seconds after their slot [default: 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    jitter: Option<i64>,
    /// Slots count from this instant on
    #[arg(long, value_name = "INSTANT")]
    start_at: Option<String>,
    /// Slots count before this instant only
    #[arg(long, value_name = "INSTANT")]
    end_at: Option<String>,
    /// Make no slots yet
    #[arg(long)]
    paused: bool,
    /// Pause by itself after this many failed executions in a row
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pause_after_failures: Option<i64>,
    /// What waits longer than this ends expired
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    expires_after: Option<i64>,
    /// Run this version whatever is active: its digest
    #[arg(long, value_name = "DIGEST")]
    plugin_version: Option<String>,
}

fn field_name(text: &str) -> Result<String, String> {
    let known = horarium_model::TaskSpec::KEYS;
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(
        match horarium_model::text::nearest(text, known.iter().copied()) {
            Some(near) => format!("no such field; did you mean {near}?"),
            None => format!("no such field; there are {}", known.join(", ")),
        },
    )
}

impl SpecArguments {
    /// What was named, parameters aside, as fields of a spec.
    fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut spec = Map::new();
        put(&mut spec, "key", &self.key);
        put(&mut spec, "max_retries", &self.max_retries);
        put(&mut spec, "timeout_seconds", &self.timeout);
        put(&mut spec, "priority", &self.priority);
        put(&mut spec, "overlap", &self.overlap);
        put(
            &mut spec,
            "pause_after_failures",
            &self.pause_after_failures,
        );
        put(&mut spec, "expires_after_seconds", &self.expires_after);
        put(&mut spec, "plugin_version", &self.plugin_version);
        if self.paused {
            spec.insert("paused".into(), true.into());
        }
        if !self.limit.is_empty() {
            let limits = self.limit.iter().cloned();
            let limits: Map<String, Value> = limits.map(|(k, v)| (k, v.into())).collect();
            spec.insert("limits".into(), limits.into());
        }
        for (flag, key, text) in [
            ("--retry", "retry_policy", &self.retry),
            ("--concurrency", "concurrency", &self.concurrency),
        ] {
            if let Some(text) = text {
                spec.insert(key.into(), values::object_argument(flag, text)?.into());
            }
        }
        if let Some(text) = &self.chain {
            spec.insert("chain".into(), values::json_argument("--chain", text)?);
        }
        let schedule = self.schedule()?;
        let kind = match (&self.cron, &self.at) {
            (Some(_), _) => Some("cron"),
            (None, Some(_)) => Some("date"),
            (None, None) => None,
        };
        put(&mut spec, "scheduler_type", &kind);
        if !schedule.is_empty() {
            spec.insert("schedule_config".into(), schedule.into());
        }
        Ok(spec)
    }

    fn schedule(&self) -> Result<Map<String, Value>, Failure> {
        let mut schedule = Map::new();
        put(&mut schedule, "cron_expression", &self.cron);
        put(&mut schedule, "timezone", &self.timezone);
        put(&mut schedule, "catch_up", &self.catch_up);
        put(
            &mut schedule,
            "catch_up_window_seconds",
            &self.catch_up_window,
        );
        put(&mut schedule, "misfire_grace_seconds", &self.misfire_grace);
        put(&mut schedule, "jitter_seconds", &self.jitter);
        for (key, text) in [
            ("run_at", &self.at),
            ("start_at", &self.start_at),
            ("end_at", &self.end_at),
        ] {
            // Spans are ours to work out; anything else is the server's to judge, in the writer's words.
            let instant = match text {
                Some(text) if text.starts_with('+') => {
                    let instant = values::instant(text, now())
                        .map_err(|detail| Failure::refused(format!("--at: {detail}")))?;
                    Some(horarium_model::schedule::wire(instant))
                }
                other => other.clone(),
            };
            put(&mut schedule, key, &instant);
        }
        Ok(schedule)
    }
}

fn put<T: serde::Serialize>(map: &mut Map<String, Value>, key: &str, value: &Option<T>) {
    if let Some(value) = value {
        map.insert(key.into(), json!(value));
    }
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
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Create {
        #[command(flatten)]
        arguments: CreateArguments,
    }

    #[derive(Parser)]
    struct Update {
        #[command(flatten)]
        arguments: UpdateArguments,
    }

    fn created(flags: &[&str]) -> Value {
        let flags = ["create", "--name", "n", "--type", "t"].iter().chain(flags);
        new_spec(&Create::try_parse_from(flags).expect("flags").arguments).expect("a spec")
    }

    fn patched(flags: &[&str], current: &Value) -> Result<Value, Failure> {
        let flags = ["update", "7"].iter().chain(flags);
        spec_patch(
            &Update::try_parse_from(flags).expect("flags").arguments,
            current,
        )
    }

    #[test]
    fn flags_become_a_spec_the_model_accepts() {
        let spec = created(&[
            "--cron",
            "*/5 * * * *",
            "--timezone",
            "Europe/Berlin",
            "--params",
            r#"{"a": 1}"#,
            "--set",
            "b=true",
            "--max-retries",
            "0",
            "--timeout",
            "5",
            "--priority",
            "-3",
            "--limit",
            "fuel=1_000_000_000",
            "--retry",
            r#"{"initial_seconds": 1}"#,
            "--overlap",
            "queue_one",
            "--catch-up",
            "all",
            "--jitter",
            "10",
            "--key",
            "k",
            "--expires-after",
            "60",
            "--pause-after-failures",
            "3",
            "--paused",
        ]);
        let read = horarium_model::TaskSpec::from_json(&spec, now(), None).expect("accepted");
        assert_eq!(
            (read.max_retries, read.timeout_seconds, read.priority),
            (0, 5, -3)
        );
        assert_eq!(
            Value::Object(read.parameters.clone()),
            json!({"a": 1, "b": true})
        );
        assert_eq!(read.limits.fuel, Some(1_000_000_000));
        assert!(read.paused);
    }

    #[test]
    fn what_is_out_of_range_is_left_for_the_server_to_refuse() {
        let spec = created(&["--max-retries", "-1", "--timeout", "0"]);
        assert_eq!(
            (&spec["max_retries"], &spec["timeout_seconds"]),
            (&json!(-1), &json!(0))
        );
        assert_eq!(spec["scheduler_type"], "manual");
        let date = created(&["--at", "2030-01-01T00:00:00"]);
        assert_eq!(
            date["schedule_config"],
            json!({"run_at": "2030-01-01T00:00:00"})
        );
        let soon = created(&["--at", "+90s"]);
        assert!(horarium_model::TaskSpec::from_json(&soon, now(), None).is_ok());
    }

    #[test]
    fn a_changed_kind_forgets_the_old_schedule() {
        let current = json!({"scheduler_type": "date", "schedule_config": {"run_at": "x", "catch_up": "once"}, "parameters": {}});
        let patch = patched(&["--cron", "@daily", "--catch-up", "all"], &current);
        assert_eq!(
            patch,
            Ok(json!({"scheduler_type": "cron", "schedule_config":
                {"cron_expression": "@daily", "catch_up": "all", "run_at": null}}))
        );
        assert_eq!(
            patched(&["--manual"], &current).map(|p| p["schedule_config"]["run_at"].clone()),
            Ok(Value::Null)
        );
    }

    #[test]
    fn parameters_are_changed_by_the_least_patch() {
        let current =
            json!({"scheduler_type": "manual", "parameters": {"a": {"b": 1, "c": 2}, "d": 3}});
        let patch = patched(&["--params", r#"{"a": {"b": 1, "e": 4}}"#], &current);
        assert_eq!(
            patch,
            Ok(json!({"parameters": {"a": {"c": null, "e": 4}, "d": null}}))
        );
        let patch = patched(&["--set", "/a/b=9"], &current);
        assert_eq!(patch, Ok(json!({"parameters": {"a": {"b": 9}}})));
        assert_eq!(patched(&["--set", "d=3"], &current), Ok(json!({})));
        assert!(patched(&["--set", "d=null"], &current).is_err());
    }

    #[test]
    fn clear_knows_the_fields() {
        let current = json!({"parameters": {}});
        assert_eq!(
            patched(&["--clear", "priority"], &current),
            Ok(json!({"priority": null}))
        );
        assert!(patched(&["--clear", "priority", "--priority", "1"], &current).is_err());
        let wrong = Update::try_parse_from(["update", "7", "--clear", "prioritty"]);
        assert!(wrong.is_err_and(|e| e.to_string().contains("did you mean priority?")));
    }
}
