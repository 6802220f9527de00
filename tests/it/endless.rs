//! Endless loops end by their timeout, and starve nobody.

use crate::harness::{Server, ended, until};
use serde_json::json;

#[test]
fn eight_endless_loops_time_out_and_the_server_answers_meanwhile() {
    let server = Server::start(8);
    server.register("spin", "hostile/spin");
    let task = server.task(&json!({
        "name": "loop", "task_type": "spin", "overlap": "allow",
        "timeout_seconds": 1, "max_retries": 0,
    }));
    for _ in 0..8 {
        server.trigger(task);
    }
    let path = format!("/v1/executions?task={task}");
    let mut answers_while_running = 0;
    let items = until("all loops have ended", || {
        let items = server.items(&path);
        let running = items.iter().any(|item| item["state"] == "running");
        assert_eq!(server.raw("GET", "/healthz", &[], b"").0, 200);
        answers_while_running += u32::from(running);
        items.iter().all(ended).then_some(items)
    });
    assert!(answers_while_running > 0, "no loop was seen running");
    assert_eq!(items.len(), 8);
    for item in &items {
        assert_eq!(item["state"], "failed", "{item}");
        assert_eq!(item["error_kind"], "timeout", "{item}");
        assert_eq!(item["is_success"], false, "{item}");
    }
}
