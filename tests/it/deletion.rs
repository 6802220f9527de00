//! What becomes of executions when their task is deleted.

use crate::support::{Host, HostBuilder, text, until};
use serde_json::{Value, json};

/// A task with one execution that ended, one that runs and one that waits.
struct Busy {
    task: i64,
    ended: String,
    running: String,
    waiting: String,
}

fn busy(host: &Host) -> Busy {
    let task = host.create("--name Busy --type sleep --set milliseconds=4000 --max-retries 5");
    let short = json!({"parameters": {"milliseconds": 1}});
    let reply = host.post(&format!("/v1/tasks/{task}/trigger"), &short);
    let ended = text(&reply.is(202).json(), "task_id").to_owned();
    host.ended(&ended);
    let running = host.trigger(task);
    host.reaches(&running, "running");
    // There is one slot.
    let waiting = host.trigger(task);
    assert_eq!(host.execution(&waiting)["state"], "available");
    Busy {
        task,
        ended,
        running,
        waiting,
    }
}

fn host() -> Host {
    let host = HostBuilder::default().flag("--slots", "1").start();
    host.register("hostile/sleep", "");
    host
}

#[test]
fn by_default_the_history_stays_without_its_task() {
    let host = host();
    let Busy {
        task,
        ended,
        running,
        waiting,
    } = busy(&host);
    let deleted = host.run(&format!("task delete {task}"));
    assert_eq!(deleted, json!({"cancelled": 1, "running": 1}));

    // At once, before anything is rewritten.
    for id in [&ended, &running, &waiting] {
        assert_eq!(host.execution(id)["config_id"], Value::Null, "{id}");
    }
    let cancelled = host.execution(&waiting);
    assert_eq!(
        (text(&cancelled, "state"), text(&cancelled, "error_kind")),
        ("cancelled", "cancelled")
    );
    assert_eq!(cancelled["is_success"], false);
    assert!(
        text(&cancelled, "error_message").starts_with("config_deleted"),
        "{cancelled:#}"
    );
    let finished = host.ended(&running);
    assert_eq!(
        (text(&finished, "state"), &finished["config_id"]),
        ("succeeded", &Value::Null)
    );
    assert_eq!(finished["result"], json!({"slept_milliseconds": 4000}));

    host.cli(&format!("task show {task} --json"))
        .exits(2)
        .complains(&["404", "task"]);
    host.cli(&format!("task trigger {task}")).exits(2);
    assert_eq!(host.run("task list")["items"], json!([]));
    assert_eq!(host.executions("").len(), 3);
    assert_eq!(host.execution(&ended)["state"], "succeeded");
}

#[test]
fn with_history_delete_nothing_stays() {
    let mut host = host();
    let Busy {
        task,
        ended,
        running,
        waiting,
    } = busy(&host);
    let other = host.run_once("--type sleep --set milliseconds=1");
    host.run(&format!("task delete {task} --history delete"));
    for id in [&ended, &waiting] {
        host.get(&format!("/v1/executions/{id}")).is(404);
        host.cli(&format!("execution show {id}")).exits(2);
    }
    // What runs may finish, then it is gone too.
    until("end of the running one", || {
        (host.get(&format!("/v1/executions/{running}")).status == 404).then_some(())
    });
    assert_eq!(host.stop(), Some(0));
    host.start_again();
    let left = host.executions("");
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0]["task_id"], other["task_id"]);
}
