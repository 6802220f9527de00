//! An execution keeps its identity over its attempts.

use crate::harness::Server;
use serde_json::json;

#[test]
fn the_task_id_is_stable_over_retries() {
    let server = Server::start(2);
    server.register("flaky", "hostile/flaky");
    let task = server.task(&json!({
        "name": "t", "task_type": "flaky", "max_retries": 3,
        "parameters": {"class": "retryable", "fail_times": 2},
        "retry_policy": {"initial_seconds": 1, "factor": 1, "jitter": "none"},
    }));
    let task_id = server.trigger(task);
    let execution = server.end_of(&task_id);
    assert_eq!(execution["state"], "succeeded", "{execution}");
    assert_eq!(execution["attempt"], 3);
    assert_eq!(execution["task_id"], task_id.as_str());
    // What the guest was told is the same identity.
    assert_eq!(execution["result"]["task_id"], task_id.as_str());
    assert_eq!(execution["result"]["attempt"], 3);
    let attempts = server.items(&format!("/v1/executions/{task_id}/attempts"));
    let numbers: Vec<_> = attempts.iter().map(|a| a["attempt"].as_i64()).collect();
    assert!(
        numbers.contains(&Some(1)) && numbers.contains(&Some(2)),
        "{attempts:?}"
    );
    assert_eq!(server.items("/v1/executions").len(), 1);
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let server = Server::start(2);
    server.register("flaky", "hostile/flaky");
    let task = server.task(&json!({
        "name": "t", "task_type": "flaky", "max_retries": 3,
        "parameters": {"class": "permanent", "fail_times": 2},
    }));
    let id = task.to_string();
    let outcome = server.cli(&["task", "trigger", &id, "--wait", "--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let execution = outcome.json();
    assert_eq!(execution["state"], "failed");
    assert_eq!(execution["attempt"], 1);
    assert_eq!(execution["is_success"], false);
    assert!(execution["error_message"].is_string(), "{execution}");
}
