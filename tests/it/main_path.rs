//! Register, schedule, run, keep: the main job from outside.

use crate::harness::{Server, ended, until};
use serde_json::{Value, json};

const TASK_KEYS: &str = "id tenant_id key name task_type scheduler_type parameters schedule_config \
    max_retries timeout_seconds priority limits retry_policy overlap concurrency chain plugin_version \
    paused pause_reason pause_after_failures expires_after_seconds version created_at updated_at \
    deleted_at next_fire_at last_slot is_scheduled";

const EXECUTION_KEYS: &str = "id config_id task_id is_success started_at completed_at \
    duration_seconds result error_message error_traceback tenant_id task_type state trigger slot \
    slot_last slot_count skip_reason priority attempt max_attempts lost parameters error_kind usage \
    plugin_digest host created_at first_started_at due_at expires_at cancel_requested_at progress \
    parent_task_id retry_of";

#[track_caller]
fn has_keys(value: &Value, keys: &str) {
    let object = value.as_object().expect("an object");
    let missing: Vec<_> = keys
        .split_whitespace()
        .filter(|key| !object.contains_key(*key))
        .collect();
    assert!(missing.is_empty(), "{missing:?} not in {value}");
}

#[test]
fn what_ran_is_still_known_after_a_restart() {
    let mut server = Server::start(4);
    assert_eq!(server.register("hello", "hello")["state"], "ready");
    let create = |name: &str, more: &[&str]| {
        let mut args = vec![
            "task", "create", "--name", name, "--type", "hello", "--json",
        ];
        args.extend(more);
        server.cli(&args).ok()
    };
    let cron = create("each second", &["--cron", "* * * * * *"]);
    let manual = create("by hand", &["--set", "name=Ada"]);
    has_keys(&cron, TASK_KEYS);
    has_keys(&manual, TASK_KEYS);
    assert_eq!(
        (&cron["is_scheduled"], &manual["is_scheduled"]),
        (&json!(true), &json!(false))
    );

    let manual_id = manual["id"].to_string();
    let run = server
        .cli(&["task", "trigger", &manual_id, "--wait", "--json"])
        .ok();
    has_keys(&run, EXECUTION_KEYS);
    assert_eq!(run["state"], "succeeded");
    assert_eq!(run["is_success"], true);
    assert_eq!(run["result"]["greeting"], "Hello, Ada!");
    assert_eq!(run["trigger"], "manual");

    let of_cron = format!("/v1/executions?task={}&limit=1000", cron["id"]);
    until("two slots have run", || {
        let items = server.items(&of_cron);
        (items.iter().filter(|item| ended(item)).count() >= 2).then_some(())
    });
    let cron_id = cron["id"].to_string();
    server.cli(&["task", "pause", &cron_id, "--json"]).ok();
    let before = until("all have ended", || {
        let items = server.items("/v1/executions?limit=1000");
        items.iter().all(ended).then_some(items)
    });

    assert_eq!(server.stop().code(), Some(0));
    assert!(!server.dir().join("server.json").exists());
    server.restart();
    assert_eq!(server.items("/v1/executions?limit=1000"), before);
    let path = format!("/v1/executions/{}", run["task_id"].as_str().expect("text"));
    assert_eq!(server.get(&path)["result"], run["result"]);

    let scheduled = server.items(&of_cron);
    let mut slots: Vec<_> = scheduled.iter().map(|item| &item["slot"]).collect();
    let all = slots.len();
    slots.sort_by_key(|slot| slot.to_string());
    slots.dedup();
    assert_eq!(slots.len(), all, "a slot fired twice");
    for item in &scheduled {
        assert_eq!(item["trigger"], "schedule", "{item}");
        assert_eq!(item["state"], "succeeded", "{item}");
    }
}
