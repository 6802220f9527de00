//! Task configs that cannot be: each is refused naming the field, and nothing is written.

use crate::support::{Host, text};
use serde_json::{Value, json};

fn host() -> Host {
    let host = Host::start();
    host.register("hello", "");
    host
}

/// A good config with one thing changed.
fn with(changes: &Value) -> Value {
    let mut config =
        json!({"name": "Good", "task_type": "hello", "scheduler_type": "manual", "parameters": {}});
    json_patch::merge(&mut config, changes);
    config
}

fn cron(expression: &str) -> Value {
    json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": expression}})
}

fn date(run_at: &str) -> Value {
    json!({"scheduler_type": "date", "schedule_config": {"run_at": run_at}})
}

/// What is wrong, where the answer must point to, and words of it.
fn wrong() -> Vec<(Value, &'static str, Vec<&'static str>)> {
    let at = "/schedule_config/cron_expression";
    let zone = json!({"scheduler_type": "cron",
        "schedule_config": {"cron_expression": "0 9 * * *", "timezone": "Europe/Berln"}});
    let jitter = json!({"scheduler_type": "cron",
        "schedule_config": {"cron_expression": "* * * * *", "jitter_seconds": 60}});
    vec![
        (
            json!({"parameters": {"n": "many"}}),
            "/parameters/n",
            vec![],
        ),
        (
            json!({"parameters": {"n": 91}}),
            "/parameters/n",
            vec!["90"],
        ),
        (
            json!({"parameters": {"nam": "x"}}),
            "/parameters",
            vec!["nam"],
        ),
        (json!({"parameters": [1]}), "/parameters", vec!["object"]),
        (json!({"parameters": "text"}), "/parameters", vec!["object"]),
        (cron("* * *"), at, vec!["fields"]),
        (cron("61 * * * *"), at, vec!["minute", "61"]),
        (cron("0 0 31 2 *"), at, vec!["nine years"]),
        (cron("0 0 L * *"), at, vec!["day"]),
        (cron("0 0 * * fry"), at, vec!["fry"]),
        (cron(""), at, vec![]),
        (zone, "/schedule_config/timezone", vec!["Europe/Berlin"]),
        (jitter, "/schedule_config/jitter_seconds", vec![]),
        (json!({"scheduler_type": "cron"}), at, vec!["missing"]),
        (
            json!({"scheduler_type": "sometimes"}),
            "/scheduler_type",
            vec!["cron", "date", "manual"],
        ),
        (
            date("2099-01-01T00:00:00"),
            "/schedule_config/run_at",
            vec!["offset"],
        ),
        (
            date("2020-01-01T00:00:00Z"),
            "/schedule_config/run_at",
            vec!["past"],
        ),
        (date("tomorrow"), "/schedule_config/run_at", vec![]),
        (
            json!({"timeout_seconds": 0}),
            "/timeout_seconds",
            vec!["1", "86400"],
        ),
        (
            json!({"timeout_seconds": 86401}),
            "/timeout_seconds",
            vec!["86400"],
        ),
        (json!({"timeout_seconds": 1.5}), "/timeout_seconds", vec![]),
        (json!({"max_retries": -1}), "/max_retries", vec!["0", "100"]),
        (json!({"max_retries": "three"}), "/max_retries", vec![]),
        (json!({"priority": 101}), "/priority", vec!["100"]),
        (json!({"task_type": "helo"}), "/task_type", vec!["hello"]),
        (json!({"task_type": "Hello World"}), "/task_type", vec![]),
        (json!({"task_type": null}), "/task_type", vec!["missing"]),
        (
            json!({"timeout_second": 5}),
            "/timeout_second",
            vec!["timeout_seconds"],
        ),
        (json!({"limits": {"fule": 5}}), "/limits/fule", vec!["fuel"]),
        (json!({"limits": {"fuel": 0}}), "/limits/fuel", vec![]),
        (
            json!({"retry_policy": {"initial": 5}}),
            "/retry_policy/initial",
            vec!["initial_seconds"],
        ),
        (
            json!({"retry_policy": {"initial_seconds": 0}}),
            "/retry_policy/initial_seconds",
            vec!["1"],
        ),
        (
            json!({"retry_policy": {"retry_on": ["trapp"]}}),
            "/retry_policy/retry_on/0",
            vec!["trap"],
        ),
        (
            json!({"schedule_config": {"cron_expresion": "* * * * *"}}),
            "/schedule_config",
            vec![],
        ),
        (json!({"overlap": "maybe"}), "/overlap", vec!["queue_one"]),
        (json!({"key": "No Slug!"}), "/key", vec![]),
        (json!({"name": ""}), "/name", vec!["1", "200"]),
        (json!({"name": "x".repeat(10_000)}), "/name", vec!["200"]),
        (
            json!({"plugin_version": "blake3:00"}),
            "/plugin_version",
            vec![],
        ),
    ]
}

#[test]
fn every_wrong_field_is_named_and_nothing_is_written() {
    let host = host();
    let good = host
        .post("/v1/tasks", &with(&json!({"name": "First"})))
        .is(201)
        .json();
    let path = format!("/v1/tasks/{}", good["id"]);
    for (changes, pointer, words) in wrong() {
        let created = host.post("/v1/tasks", &with(&changes));
        names(&created, &changes, pointer, &words);
        // A change of what is there is judged alike.
        let patch = changes.to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        let patched = host.send("PATCH", &path, &headers, patch.as_bytes());
        if changes.get("task_type") != Some(&Value::Null)
            && !changes["parameters"]["nam"].is_string()
        {
            assert!(
                (400..500).contains(&patched.status),
                "{changes}: {patched:#?}"
            );
        }
    }
    assert_eq!(
        host.get(&path).is(200).json(),
        good,
        "the task is as it was"
    );
    assert_eq!(
        host.run("task list")["items"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(host.executions("").len(), 0);
}

fn names(reply: &crate::support::Reply, changes: &Value, pointer: &str, words: &[&str]) {
    assert!([400, 422].contains(&reply.status), "{changes}: {reply:#?}");
    let problem = reply.problem();
    let errors = problem["errors"].as_array().expect("errors is a list");
    let error = errors
        .iter()
        .find(|e| text(e, "pointer").starts_with(pointer));
    let error = error.unwrap_or_else(|| panic!("no error at {pointer} for {changes}: {problem:#}"));
    let detail = text(error, "detail");
    assert!(
        detail.len() < 400 && !detail.contains('\n'),
        "one line: {detail}"
    );
    for word in words {
        assert!(detail.contains(word), "no `{word}` for {changes}: {detail}");
    }
}

#[test]
fn the_position_within_an_expression_is_told() {
    let host = host();
    let problem = host
        .post("/v1/tasks", &with(&cron("0 0 1 61 *")))
        .is(422)
        .problem();
    let error = &problem["errors"][0];
    assert!(error["position"].is_u64(), "{problem:#}");
    assert!(text(error, "detail").contains("month"), "{problem:#}");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let host = host();
    let changes = json!({"name": "", "max_retries": -1, "timeout_seconds": 0, "priorty": 5});
    let problem = host.post("/v1/tasks", &with(&changes)).is(422).problem();
    let errors = problem["errors"].as_array().expect("a list");
    let pointers: Vec<&str> = errors.iter().map(|e| text(e, "pointer")).collect();
    for pointer in ["/name", "/max_retries", "/timeout_seconds", "/priorty"] {
        assert!(pointers.contains(&pointer), "{pointers:?}");
    }
}

#[test]
fn the_command_line_ends_with_2_and_names_the_field() {
    let host = host();
    let long = "x".repeat(10_000);
    for (flags, wanted) in [
        ("--type hello --set n=many".to_owned(), "/parameters/n"),
        ("--type hello --params '[1]'".to_owned(), "--params"),
        (
            "--type hello --params '{\"n\": 1, \"n\": 2}'".to_owned(),
            "--params",
        ),
        (
            "--type hello --cron '* * *'".to_owned(),
            "/schedule_config/cron_expression",
        ),
        ("--type hello --cron '61 * * * *'".to_owned(), "minute"),
        (
            "--type hello --cron '0 0 31 2 *'".to_owned(),
            "/schedule_config/cron_expression",
        ),
        (
            "--type hello --cron '0 9 * * *' --timezone Mars/Olympus".to_owned(),
            "/schedule_config/timezone",
        ),
        ("--type hello --at 2099-01-01T00:00:00".to_owned(), "offset"),
        ("--type hello --at 2020-01-01T00:00:00Z".to_owned(), "past"),
        ("--type hello --timeout 0".to_owned(), "/timeout_seconds"),
        ("--type hello --max-retries -1".to_owned(), "/max_retries"),
        ("--type helo".to_owned(), "hello"),
        ("--type hello --naem x".to_owned(), "--naem"),
        (format!("--type hello --key {long}"), "/key"),
    ] {
        let refused = host
            .cli(&format!("task create --name Wrong {flags}"))
            .exits(2);
        let refused = refused.complains(&[wanted]);
        assert!(refused.stderr.len() < 2000, "{refused:#?}");
    }
    host.cli(&format!("task create --type hello --name {long}"))
        .exits(2)
        .complains(&["/name", "200"]);
    // As JSON the complaint is the problem document.
    let refused = host
        .cli("task create --name Wrong --type hello --timeout 0 --json")
        .exits(2);
    let problem: Value = serde_json::from_str(&refused.stderr).expect("a document on stderr");
    assert_eq!(problem["errors"][0]["pointer"], "/timeout_seconds");
    assert_eq!(host.run("task list")["items"], json!([]));
}
