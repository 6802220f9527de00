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
