//! Bad task configs: each is refused with the field's name, and nothing is written.

use crate::harness::Server;
use serde_json::{Value, json};

/// A good task, changed.
fn task(change: &Value) -> String {
    let mut task = json!({"name": "t", "task_type": "hello", "scheduler_type": "manual"});
    let (task_map, change) = (task.as_object_mut(), change.as_object());
    task_map
        .expect("an object")
        .extend(change.expect("an object").clone());
    task.to_string()
}

fn cron(expression: &str, timezone: &str) -> String {
    let config = json!({"cron_expression": expression, "timezone": timezone});
    task(&json!({"scheduler_type": "cron", "schedule_config": config}))
}

fn date(run_at: &str) -> String {
    task(&json!({"scheduler_type": "date", "schedule_config": {"run_at": run_at}}))
}

/// The body, the status, and what the answer must name.
fn table() -> Vec<(String, u16, &'static str)> {
    let deep = format!(
        r#"{{"name":"t","task_type":"hello","scheduler_type":"manual","parameters":{{"name":{}1{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let at = "/schedule_config";
    let expression = "/schedule_config/cron_expression";
    vec![
        (cron("* * *", "UTC"), 422, expression),
        (cron("61 * * * *", "UTC"), 422, expression),
        (cron("0 0 31 2 *", "UTC"), 422, expression),
        (
            cron("* * * * *", "Mars/Base"),
            422,
            "/schedule_config/timezone",
        ),
        (date("2030-01-31T09:00:00"), 422, at),
        (date("2020-01-31T09:00:00Z"), 422, at),
        (
            task(&json!({"timeout_seconds": 0})),
            422,
            "/timeout_seconds",
        ),
        (task(&json!({"max_retries": -1})), 422, "/max_retries"),
        (task(&json!({"task_type": "nobody"})), 422, "/task_type"),
        (task(&json!({"max_retrys": 1})), 422, "max_retries"),
        (
            task(&json!({"retry_policy": {"first": 1}})),
            422,
            "/retry_policy",
        ),
        (task(&json!({"parameters": [1]})), 422, "/parameters"),
        (
            task(&json!({"parameters": {"n": "x"}})),
            422,
            "/parameters/n",
        ),
        (task(&json!({"parameters": {"nmae": 1}})), 422, "nmae"),
        (task(&json!({"name": "n".repeat(10_000)})), 422, "/name"),
        (deep, 400, "levels"),
        (
            r#"{"name":"a","name":"b","task_type":"hello","scheduler_type":"manual"}"#.to_owned(),
            400,
            "name",
        ),
        (
            r#"{"name":"a\u0000","task_type":"hello","scheduler_type":"manual"}"#.to_owned(),
            400,
            "u0000",
        ),
        (r#"{"name":"#.to_owned(), 400, "JSON"),
    ]
}

#[test]
fn each_bad_task_is_refused_by_the_name_of_its_field() {
    let server = Server::start(2);
    server.register("hello", "hello");
    let good = server.task(&json!({"name": "good", "task_type": "hello"}));
    let before = server.items("/v1/tasks");
    let mut wrong = Vec::new();
    for (body, expected, part) in table() {
        let (status, answer) = server.text("POST", "/v1/tasks", &body);
        let pointed = answer["errors"].as_array().is_some_and(|e| !e.is_empty());
        if status != expected || !answer.to_string().contains(part) || (status == 422 && !pointed) {
            let start: String = body.chars().take(200).collect();
            wrong.push(format!("{start}\n  {status} {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(server.items("/v1/tasks"), before, "something was written");
    assert_eq!(server.items("/v1/executions"), Vec::<Value>::new());

    let path = format!("/v1/tasks/{good}/parameters");
    let (status, answer) = server.text("PATCH", &path, r#"{"n": 1000}"#);
    assert_eq!(status, 422, "{answer}");
    assert_eq!(server.get(&path), json!({}), "the patch was written");
}

#[test]
fn the_command_line_refuses_with_exit_code_two() {
    let server = Server::start(2);
    server.register("hello", "hello");
    let create = ["task", "create", "--name", "t", "--type", "hello", "--json"];
    for (more, part) in [
        (["--cron", "* * *"], "/schedule_config/cron_expression"),
        (["--at", "2020-01-31T09:00:00Z"], "/schedule_config"),
        (["--timeout", "0"], "timeout"),
        (["--max-retries", "-1"], "max"),
        (["--params", "[1]"], "params"),
        (["--params", r#"{"n": "x"}"#], "/parameters/n"),
        (["--no-such-flag", "1"], "--no-such-flag"),
    ] {
        let mut args = create.to_vec();
        args.extend(more);
        server.cli(&args).refused(part);
    }
    assert_eq!(server.items("/v1/tasks"), Vec::<Value>::new());
}
