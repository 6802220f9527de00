//! `kill -9` loses nothing and repeats no end.

use crate::harness::{Server, ended, until};
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn two_hundred_running_executions_survive_kill_9() {
    let mut server = Server::start(200);
    server.register("sleep", "hostile/sleep");
    let task = server.task(&json!({
        "name": "sleeper", "task_type": "sleep", "overlap": "allow",
        "parameters": {"milliseconds": 3000},
    }));
    let triggered: BTreeSet<String> = (0..200).map(|_| server.trigger(task)).collect();
    assert_eq!(triggered.len(), 200, "task_ids are unique");
    let path = format!("/v1/executions?task={task}&limit=1000");
    // Some may have slept their fill before the last was triggered.
    until("none waits any more", || {
        let items = server.items(&path);
        let waiting = items.iter().filter(|item| item["state"] == "available");
        (waiting.count() == 0).then_some(())
    });
    server.kill();
    server.restart();
    let items = until("all have ended", || {
        let items = server.items(&path);
        items.iter().all(ended).then_some(items)
    });
    assert_eq!(items.len(), 200);
    let ids: BTreeSet<String> = items
        .iter()
        .map(|item| item["task_id"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(ids, triggered);
    let rows: BTreeSet<_> = items.iter().map(|item| item["id"].as_i64()).collect();
    assert_eq!(rows.len(), 200, "an end was recorded twice");
    for item in &items {
        assert_eq!(item["state"], "succeeded", "{item}");
    }
    let lost = items.iter().filter(|item| item["lost"] != 0).count();
    assert!(lost > 0, "the kill met no running execution");
}
