//! The two deletion rules of the history.

use crate::harness::{Server, state, until};
use serde_json::{Value, json};

/// A server with one task that ran once: the task, and its execution's `task_id`.
fn ran_once(server: &Server) -> (i64, String) {
    let task = server.task(&json!({"name": "t", "task_type": "hello"}));
    let task_id = server.trigger(task);
    assert_eq!(state(&server.end_of(&task_id)), "succeeded");
    (task, task_id)
}

#[test]
fn history_stays_without_its_task_or_goes_with_it() {
    let server = Server::start(2);
    server.register("hello", "hello");
    let (kept, kept_run) = ran_once(&server);
    let (gone, gone_run) = ran_once(&server);

    server
        .cli(&["task", "delete", &kept.to_string(), "--json"])
        .ok();
    let execution = server.get(&format!("/v1/executions/{kept_run}"));
    assert_eq!(execution["config_id"], Value::Null);
    assert_eq!(execution["task_id"], kept_run.as_str());
    assert_eq!(server.text("GET", &format!("/v1/tasks/{kept}"), "").0, 404);

    let id = gone.to_string();
    server
        .cli(&["task", "delete", &id, "--history", "delete", "--json"])
        .ok();
    let path = format!("/v1/executions/{gone_run}");
    until("the history is gone", || {
        (server.text("GET", &path, "").0 == 404).then_some(())
    });
    let left = server.items("/v1/executions");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["task_id"], kept_run.as_str());
    assert_eq!(server.items("/v1/tasks"), Vec::<Value>::new());
}

#[test]
fn what_waits_is_cancelled_and_what_runs_finishes() {
    let server = Server::start(1);
    server.register("sleep", "hostile/sleep");
    let task = server.task(&json!({
        "name": "t", "task_type": "sleep", "overlap": "allow",
        "parameters": {"milliseconds": 1500},
    }));
    let running = server.trigger(task);
    let path = format!("/v1/executions/{running}");
    until("the first runs", || {
        (state(&server.get(&path)) == "running").then_some(())
    });
    let waiting = server.trigger(task);
    let answer = server.send("DELETE", &format!("/v1/tasks/{task}"), &json!({}));
    assert_eq!(answer, json!({"cancelled": 1, "running": 1}));
    let cancelled = server.end_of(&waiting);
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(cancelled["error_kind"], "cancelled");
    let message = cancelled["error_message"].as_str().expect("a message");
    assert!(message.starts_with("config_deleted"), "{message}");
    assert_eq!(state(&server.end_of(&running)), "succeeded");
}
