//! Flags as specs and as merge patches.

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
