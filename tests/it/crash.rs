//! `kill -9` while everything runs.

use crate::support::{HostBuilder, items, text, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::HashSet;

#[test]
fn after_kill_9_during_200_runs_every_one_ends_once_and_no_slot_fires_twice() {
    let mut host = HostBuilder::default().flag("--slots", "200").start();
    host.register("hostile/sleep", "");
    host.register("hello", "");
    let clock = host
        .create("--name Clock --type hello --cron '* * * * * *' --overlap allow --priority -100");
    let long = host
        .create("--name Long --type sleep --overlap allow --set milliseconds=8000 --max-retries 0");

    // Held until all are there, so that all start together.
    host.run("plugin disable sleep");
    let triggered: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..25).map(|_| host.trigger(long)).collect::<Vec<_>>()))
            .collect();
        clients
            .into_iter()
            .flat_map(|c| c.join().expect("triggered"))
            .collect()
    });
    host.run("plugin disable sleep --undo");
    until("200 running at once", || {
        let running = host.executions(&format!("task={long}&state=running"));
        (running.len() == 200).then_some(())
    });
    host.signal(Signal::SIGSTOP);
    host.kill();

    host.start_again();
    until("end of all", || {
        let left = host.executions(&format!(
            "task={long}&state=scheduled,available,running,retryable"
        ));
        left.is_empty().then_some(())
    });
    let all = host.executions(&format!("task={long}"));
    assert_eq!(all.len(), 200);
    let ids: HashSet<&str> = all.iter().map(|e| text(e, "task_id")).collect();
    assert_eq!(ids, triggered.iter().map(String::as_str).collect());
    let mut lost = 0;
    for execution in &all {
        assert_eq!(execution["state"], "succeeded", "{execution:#}");
        // The loss used no attempt: with max_retries 0 there was only one.
        assert_eq!(execution["attempt"], 1, "{execution:#}");
        lost += execution["lost"].as_u64().expect("a count");
        ended_once(&host.attempts(text(execution, "task_id")), execution);
    }
    assert!(lost >= 190, "only {lost} were lost");

    until("two slots after the restart", || {
        let after = host.executions(&format!("task={clock}&state=succeeded"));
        (after.len() >= 4).then_some(())
    });
    let mut slots = HashSet::new();
    for fired in host.executions(&format!("task={clock}")) {
        if fired["state"] != "skipped" {
            assert!(
                slots.insert(text(&fired, "slot").to_owned()),
                "fired twice: {fired:#}"
            );
        }
    }
    assert_eq!(items(&host.run("execution list --state running")).len(), 0);
}

fn ended_once(attempts: &[Value], execution: &Value) {
    let count = |outcome: &str| attempts.iter().filter(|a| a["outcome"] == outcome).count();
    assert_eq!(count("succeeded"), 1, "{attempts:#?}");
    assert_eq!(
        count("lost") as u64,
        execution["lost"].as_u64().expect("a count"),
        "{attempts:#?}"
    );
    assert_eq!(count("failed"), 0, "{attempts:#?}");
}
