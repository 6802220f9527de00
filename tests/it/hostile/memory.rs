//! The memory of all guests together: admitted before a claim, drawn from one budget, handed back when empty.

use super::ends::nothing_is_held;
use super::{failed_with, figure};
use crate::support::{HostBuilder, text, until};
use serde_json::json;

#[test]
fn an_empty_budget_hands_runs_back_and_uses_no_attempt() {
    let host = HostBuilder::default()
        .setting("engine.memory", "96 MiB")
        .flag("--slots", "8")
        .start();
    host.register("hostile/hog", "");
    let refused = host.cli("task create --name x --type hog --limit memory_bytes=97MiB");
    refused
        .exits(2)
        .complains(&["/limits/memory_bytes", "engine.memory"]);

    // Six that want 48 MiB each, where there is room for one or two at a time.
    let task = host.create("--name Hogs --type hog --set bytes=50331648 --max-retries 0");
    let ids: Vec<String> = (0..6).map(|_| host.trigger(task)).collect();
    let mut handed_back = 0;
    for id in &ids {
        let ended = host.ended(id);
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        assert_eq!(ended["attempt"], 1, "no attempt is used: {ended:#}");
        for attempt in host.attempts(id) {
            if attempt["outcome"] == "handed_back" {
                handed_back += 1;
                assert_eq!(attempt["error_kind"], "host_memory", "{attempt:#}");
                assert!(
                    text(&attempt, "error_message").contains("memory"),
                    "{attempt:#}"
                );
            }
        }
    }
    assert!(handed_back > 0, "the first six knew nothing of each other");

    // By now what one needs is known: that much is reserved before it is claimed.
    let ids: Vec<String> = (0..6).map(|_| host.trigger(task)).collect();
    for id in &ids {
        host.ended(id);
        let outcomes: Vec<_> = host
            .attempts(id)
            .iter()
            .map(|attempt| attempt["outcome"].clone())
            .collect();
        assert_eq!(outcomes, [json!("succeeded")], "{id}");
    }
    nothing_is_held(&host);
}

#[test]
fn a_run_that_needs_more_than_is_free_waits_and_small_ones_pass() {
    let host = HostBuilder::default()
        .setting("engine.memory", "80 MiB")
        .flag("--slots", "4")
        .start();
    host.register("hostile/hog", "");
    host.register("hostile/sleep", "");
    host.register("hello", "");
    // One run tells what the type needs: 40 MiB and a quarter.
    let known = host.run_once("--type hog --set bytes=41943040 --max-retries 0");
    assert_eq!(known["state"], "succeeded", "{known:#}");
    let big = host.create("--name Big --type hog --set bytes=41943040 --max-retries 0");
    let (first, second) = (host.trigger(big), host.trigger(big));
    let small = host.run_once("--type hello");
    assert_eq!(small["state"], "succeeded", "{small:#}");
    for id in [&first, &second] {
        let ended = host.ended(id);
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        assert_eq!(host.attempts(id).len(), 1, "never handed back");
    }
    assert!(figure(&host, "horarium_guest_memory_limit_bytes") == f64::from(80 << 20));
    nothing_is_held(&host);
}

#[test]
fn cpu_time_is_apart_from_wall_time() {
    let host = HostBuilder::default().flag("--slots", "2").start();
    host.register("hostile/sleep", "");
    host.register("hostile/spin", "");
    let slept = host.run_once("--type sleep --set milliseconds=700 --max-retries 0");
    let seconds = |execution: &serde_json::Value, key: &str| {
        execution["usage"][key].as_f64().expect("a number")
    };
    assert!(seconds(&slept, "duration_seconds") >= 0.7, "{slept:#}");
    assert!(seconds(&slept, "cpu_seconds") < 0.5, "{slept:#}");
    let spun = host.run_once("--type spin --timeout 1 --max-retries 0");
    failed_with(&spun, "timeout", "1 s");
    assert!(seconds(&spun, "cpu_seconds") > 0.0, "{spun:#}");
    assert!(
        seconds(&spun, "cpu_seconds") <= seconds(&spun, "duration_seconds") + 0.1,
        "{spun:#}"
    );
    until("nothing to run", || {
        host.executions("state=running").is_empty().then_some(())
    });
}
