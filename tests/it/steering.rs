//! An operator at the wheel: cancel, priority, pause, trigger, overlap.

use crate::support::{Host, HostBuilder, items, text, until};
use serde_json::{Value, json};

fn one_slot() -> Host {
    let host = HostBuilder::default().flag("--slots", "1").start();
    host.register("hostile/sleep", "");
    host.register("hello", "");
    host
}

#[test]
fn cancel_ends_what_waits_at_once_and_what_runs_soon() {
    let host = one_slot();
    let long = host.create("--name Long --type sleep --timeout 600");
    let running = host.trigger(long);
    host.reaches(&running, "running");
    let waiting = host.trigger(long);
    let cancelled = host.run(&format!("execution cancel {waiting}"));
    assert_eq!(
        (text(&cancelled, "state"), text(&cancelled, "error_kind")),
        ("cancelled", "cancelled")
    );
    assert_eq!(
        (&cancelled["attempt"], &cancelled["started_at"]),
        (&json!(0), &Value::Null)
    );

    host.run(&format!("execution cancel {running}"));
    let ended = host.ended(&running);
    assert_eq!(
        (text(&ended, "state"), text(&ended, "error_kind")),
        ("cancelled", "cancelled")
    );
    assert_eq!(
        (&ended["attempt"], &ended["is_success"]),
        (&json!(1), &json!(false))
    );
    assert!(ended["cancel_requested_at"].is_string(), "{ended:#}");
    // Cancelled is not retried, and what has ended stays as it ended.
    let again = host.post(&format!("/v1/executions/{running}/cancel"), &json!({}));
    assert!([200, 409].contains(&again.status), "{again:#?}");
    assert_eq!(host.execution(&running), ended);
    host.cli("execution cancel 01900000-0000-7000-8000-000000000000")
        .exits(2);
    host.cli("execution cancel nonsense").exits(2);
}

#[test]
fn higher_priority_starts_first() {
    let host = one_slot();
    let blocker = host.create("--name Blocker --type sleep --timeout 600");
    let blocker = host.trigger(blocker);
    host.reaches(&blocker, "running");
    let at = |priority: i32| {
        let task = host.create(&format!(
            "--name P{priority} --type hello --priority {priority}"
        ));
        host.trigger(task)
    };
    // Enqueued within a second or so; a point of priority is worth a minute.
    let (low, normal, high, higher) = (at(-10), at(0), at(10), at(100));
    host.run(&format!("execution cancel {blocker}"));
    let started = |id: &String| text(&host.ended(id), "first_started_at").to_owned();
    let order = [
        started(&higher),
        started(&high),
        started(&normal),
        started(&low),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_paused_task_makes_no_slots_but_runs_by_hand() {
    let host = one_slot();
    let task = host.create("--name Tick --type hello --cron '* * * * * *'");
    until("a first run", || {
        host.executions(&format!("task={task}&state=succeeded"))
            .pop()
    });
    let paused = host.run(&format!("task pause {task} --reason 'the site is down'"));
    assert_eq!(
        (&paused["paused"], text(&paused, "pause_reason")),
        (&json!(true), "the site is down")
    );
    assert_eq!(paused["next_fire_at"], Value::Null, "{paused:#}");
    let by_hand = host.run(&format!("task trigger {task} --wait"));
    assert_eq!(
        (text(&by_hand, "state"), text(&by_hand, "trigger")),
        ("succeeded", "manual")
    );

    // Time must pass for there to be slots that were not made: a run of two seconds.
    host.run_once("--type sleep --set milliseconds=2200");
    let resumed = host.run(&format!("task resume {task}"));
    assert_eq!(resumed["paused"], false);
    assert!(resumed["next_fire_at"].is_string(), "{resumed:#}");
    until("a run after the pause", || {
        let newest = host.executions(&format!("task={task}&state=succeeded&trigger=schedule"));
        (text(&newest[0], "slot") > text(&paused, "updated_at")).then_some(())
    });
    let skipped = host.executions(&format!("task={task}&state=skipped"));
    let paused_rows: Vec<&Value> = skipped
        .iter()
        .filter(|row| row["skip_reason"] == "paused")
        .collect();
    assert_eq!(
        paused_rows.len(),
        1,
        "one row for the whole pause: {skipped:#?}"
    );
    let count = paused_rows[0]["slot_count"].as_i64().expect("a count");
    assert!(
        (2..100).contains(&count),
        "{count} slots in some two seconds"
    );
    // None of them was made up.
    let made_up = host.executions(&format!("task={task}&trigger=catch_up"));
    assert_eq!(made_up, Vec::<Value>::new());
}

#[test]
fn a_trigger_queues_or_refuses_as_it_was_told() {
    let host = one_slot();
    let task = host.create("--name One --type sleep --timeout 600 --overlap skip");
    let first = host.trigger(task);
    host.reaches(&first, "running");
    let refused = host
        .post(
            &format!("/v1/tasks/{task}/trigger"),
            &json!({"if_running": "refuse"}),
        )
        .is(409);
    assert!(text(&refused.problem(), "detail").contains("if_running"));
    host.cli(&format!("task trigger {task} --if-running refuse"))
        .exits(2);
    // A person's trigger is never skipped, only queued.
    let second = host.trigger(task);
    assert_eq!(host.executions(&format!("task={task}")).len(), 2);
    host.run(&format!("execution cancel {first}"));
    host.reaches(&second, "running");
    host.run(&format!("execution cancel {second}"));
    host.ended(&second);
    // The command says by its exit code how it went.
    let failed = host
        .cli(&format!("task trigger {task} --wait --set milliseconds=1"))
        .exits(0);
    assert!(failed.stdout.contains("succeeded"), "{failed:#?}");
}

#[test]
fn slots_do_not_overlap_unless_allowed() {
    let host = HostBuilder::default().flag("--slots", "4").start();
    host.register("hostile/sleep", "");
    let task = host.create("--name Slow --type sleep --cron '* * * * * *' --set milliseconds=1500");
    until("two runs", || {
        Some(()).filter(|()| {
            host.executions(&format!("task={task}&state=succeeded"))
                .len()
                >= 2
        })
    });
    let mut runs = host.executions(&format!("task={task}&state=succeeded,running"));
    runs.reverse();
    for pair in runs.windows(2) {
        assert!(
            pair[0]["completed_at"].as_str() <= pair[1]["started_at"].as_str(),
            "{pair:#?}"
        );
    }
    let skipped = host.executions(&format!("task={task}&state=skipped"));
    assert!(
        skipped.iter().any(|row| row["skip_reason"] == "overlap"),
        "{skipped:#?}"
    );
}

#[test]
fn a_slot_may_cancel_the_run_before_it() {
    let host = HostBuilder::default().flag("--slots", "4").start();
    host.register("hostile/sleep", "");
    let task = host.create(
        "--name Newest --type sleep --cron '* * * * * *' --overlap cancel_running --timeout 600",
    );
    let cancelled = until("two runs cancelled", || {
        let cancelled = host.executions(&format!("task={task}&state=cancelled"));
        (cancelled.iter().filter(|e| e["attempt"] == 1).count() >= 2).then_some(cancelled)
    });
    for execution in &cancelled {
        assert_eq!(execution["error_kind"], "cancelled", "{execution:#}");
    }
    let running = host.executions(&format!("task={task}&state=running"));
    assert!(running.len() <= 1, "at most one runs: {running:#?}");
}

#[test]
fn fifty_clients_at_once_make_fifty_executions() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Busy --type hello --overlap allow");
    let line = format!("task trigger {task} --wait");
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|n| {
                let (host, line) = (&host, &line);
                scope.spawn(move || match n % 5 {
                    0 => text(&host.run(line), "task_id").to_owned(),
                    _ => host.trigger(task),
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("triggered"))
            .collect()
    });
    for id in &ids {
        assert_eq!(host.ended(id)["state"], "succeeded");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    assert_eq!(items(&host.run("execution list --limit 1000")).len(), 50);
}
