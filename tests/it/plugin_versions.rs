//! Versions of a plugin: which one is active, and what a disabled type holds.

use crate::support::{Host, plugin, text, until};
use serde_json::{Value, json};

#[test]
fn a_version_that_would_break_a_task_stays_beside() {
    let host = Host::start();
    let first = host.run(&format!(
        "plugin register some '{}'",
        plugin("hostile/flaky").display()
    ));
    host.create("--name Flaky --type some --set fail_times=0");
    // Its schema knows no `fail_times`.
    let hello = plugin("hello");
    let beside = host.run(&format!("plugin register some '{}'", hello.display()));
    assert_eq!(
        (text(&beside, "state"), &beside["is_active"]),
        ("ready", &json!(false))
    );
    assert!(
        beside["warnings"].to_string().contains("fail_times"),
        "{beside:#}"
    );
    assert_eq!(
        host.run("plugin show some")["active_digest"],
        first["digest"]
    );
    let told = host.run(&format!(
        "plugin register other '{}' --no-activate",
        hello.display()
    ));
    assert_eq!(told["is_active"], false);
    assert_eq!(host.run("plugin show other")["active_digest"], Value::Null);
}

#[test]
fn a_disabled_plugin_holds_what_waits() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name One --type hello");
    host.run("plugin disable hello");
    let held = host.trigger(task);
    let tick = host.create("--name Tick --type hello --cron '* * * * * *'");
    let skipped = until("a slot skipped", || {
        let shown = host.run(&format!("task show {tick}"));
        Some(shown["open_skip"].clone()).filter(|streak| !streak.is_null())
    });
    assert_eq!(skipped["reason"], "type_disabled", "{skipped:#}");
    assert_eq!(host.execution(&held)["state"], "available");
    host.run("plugin disable hello --undo");
    assert_eq!(host.ended(&held)["state"], "succeeded");
}

#[test]
fn a_version_is_compared_rolled_back_and_the_plugin_removed() {
    let host = Host::start();
    let first = host.register("hello", "");
    let refused = host.cli("plugin rollback hello").exits(2);
    assert!(
        refused.stderr.contains("no other version"),
        "{}",
        refused.stderr
    );
    let second = plugin("hello_rs");
    let second = host.run(&format!("plugin register hello '{}'", second.display()));
    let diff = host.run("plugin diff hello");
    assert_eq!(
        (&diff["from_digest"], &diff["to_digest"]),
        (&first["digest"], &second["digest"])
    );
    assert_ne!(diff["changes"], json!([]));
    let start = &text(&second, "digest")[..20];
    let told = host.cli(&format!("plugin diff hello {start}")).exits(0);
    assert!(told.stdout.contains("size_bytes: "), "{}", told.stdout);
    let back = host.run("plugin rollback hello");
    assert_eq!(back["active_digest"], first["digest"]);

    let task = host.create("--name One --type hello");
    let refused = host.cli("plugin remove hello").exits(2);
    assert!(
        refused.stderr.contains("1 tasks name it"),
        "{}",
        refused.stderr
    );
    host.ended(&host.trigger(task));
    host.run(&format!("task delete {task}"));
    assert_eq!(host.run("plugin remove hello")["cancelled"], 0);
    host.cli("plugin show hello").exits(2);
    let kept = host.executions("task_type=hello");
    assert_eq!(kept.len(), 1, "history stays");
    // The registry of the host forgot it too, and takes it anew.
    host.register("hello", "");
    let task = host.create("--name Two --type hello");
    assert_eq!(host.ended(&host.trigger(task))["state"], "succeeded");
}
