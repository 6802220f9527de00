//! Each limit ends what goes beyond it, with its own kind, and is shown in the usage.

use crate::support::{Host, HostBuilder, text};
use serde_json::{Value, json};

/// State and kind of an execution.
fn end(execution: &Value) -> (&str, &str) {
    (
        text(execution, "state"),
        execution["error_kind"].as_str().unwrap_or(""),
    )
}

#[test]
fn fuel_memory_and_result_are_limited() {
    let host = Host::start();
    for name in ["hostile/burn", "hostile/hog", "hostile/bigresult"] {
        host.register(name, "");
    }
    let burnt = host.run_once("--type burn --limit fuel=50000000");
    assert_eq!(end(&burnt), ("failed", "out_of_fuel"), "{burnt:#}");
    assert_eq!(burnt["attempt"], 1, "not tried again: {burnt:#}");
    assert!(
        text(&burnt, "error_message").contains("50000000"),
        "{burnt:#}"
    );
    assert_eq!(burnt["usage"]["fuel"], 50_000_000);
    let enough = host.run_once("--type burn --limit fuel=50000000 --set iterations=1000");
    assert_eq!(end(&enough), ("succeeded", ""), "{enough:#}");

    let hogged = host.run_once("--type hog --limit memory_bytes=16MiB");
    assert_eq!(end(&hogged), ("failed", "memory_limit"), "{hogged:#}");
    assert_eq!(hogged["attempt"], 1);
    let peak = hogged["usage"]["memory_peak_bytes"]
        .as_u64()
        .expect("a number");
    assert!((8 << 20..=16 << 20).contains(&peak), "{peak}");
    let fits = host.run_once("--type hog --limit memory_bytes=16MiB --set bytes=8388608");
    assert_eq!(end(&fits), ("succeeded", ""), "{fits:#}");

    let big = host.run_once("--type bigresult --limit result_bytes=64KiB --set bytes=70000");
    assert_eq!(end(&big), ("failed", "output_limit"), "{big:#}");
    assert_eq!(big["result"], Value::Null);
    let small = host.run_once("--type bigresult --limit result_bytes=64KiB --set bytes=60000");
    assert_eq!(end(&small), ("succeeded", ""));
    let default = host.run_once("--type bigresult");
    assert_eq!(
        end(&default),
        ("failed", "output_limit"),
        "1 MiB unless told"
    );
}

#[test]
fn waits_handles_and_copies_are_limited() {
    let host = Host::start();
    host.register("hostile/sleep", "");
    // One number stops loops and waits in the host alike.
    let waited = host.run_once("--type sleep --timeout 1 --max-retries 0");
    assert_eq!(end(&waited), ("failed", "timeout"), "{waited:#}");
    for (limit, name) in [
        ("handles=1", "handles"),
        ("hostcall_bytes=1", "hostcall_bytes"),
    ] {
        let line = format!("--type sleep --set milliseconds=1 --limit {limit} --max-retries 5");
        let stopped = host.run_once(&line);
        assert_eq!(end(&stopped), ("failed", "host_limit"), "{stopped:#}");
        assert!(
            text(&stopped, "error_message").contains(name),
            "{stopped:#}"
        );
        assert_eq!(stopped["attempt"], 1, "not tried again: {stopped:#}");
    }
    let fits = host.run_once("--type sleep --set milliseconds=1");
    assert_eq!(end(&fits), ("succeeded", ""), "{fits:#}");
}

#[test]
fn a_level_above_cannot_be_exceeded() {
    let host = HostBuilder::default()
        .setting("limits.fuel", "1000000")
        .start();
    let file = crate::support::plugin("hello");
    let refused = host.cli(&format!(
        "plugin register hello '{}' --limit fuel=2000000",
        file.display()
    ));
    refused
        .exits(2)
        .complains(&["/limits/fuel", "host", "1000000"]);
    host.register("hello", "--limit fuel=500000");
    let refused = host.cli("task create --name x --type hello --limit fuel=500001");
    refused
        .exits(2)
        .complains(&["/limits/fuel", "plugin", "500000"]);
    assert_eq!(host.run("task list")["items"], json!([]));
    // The tightest holds: what the task leaves open, the plugin says.
    let ran = host.run_once("--type hello --set n=90");
    assert_eq!(end(&ran), ("succeeded", ""), "{ran:#}");
    let shown = host.execution(text(&ran, "task_id"));
    assert_eq!(shown["limits"]["fuel"], 500_000, "{shown:#}");
}

#[test]
fn state_is_kept_with_success_and_only_then() {
    let host = Host::start();
    host.register("hostile/stateful", "--grant-asked");
    let task = host.create("--name Counter --type stateful --max-retries 0");
    let count = |flags: &str| {
        host.cli(&format!("task trigger {task} --wait --json {flags}"))
            .json()
    };
    assert_eq!(count("")["result"]["count"], 1);
    let failed = count("--set fail=true");
    assert_eq!(end(&failed), ("failed", "permanent"));
    assert_eq!(
        count("")["result"]["count"],
        2,
        "the failed count was not kept"
    );

    let state = host.run(&format!("task state show {task}"));
    assert_eq!(
        (&state["items"][0]["key"], &state["items"][0]["value"]),
        (&json!("count"), &json!("2"))
    );
    // An operator's write while it runs: the run saw another value, so nothing of it is kept.
    let slow = json!({"parameters": {"sleep_milliseconds": 2000}});
    let reply = host.post(&format!("/v1/tasks/{task}/trigger"), &slow);
    let id = text(&reply.is(202).json(), "task_id").to_owned();
    host.reaches(&id, "running");
    let path = format!("/v1/tasks/{task}/state/count");
    let headers = [("content-type", "application/json")];
    host.send("PUT", &path, &headers, br#"{"value": "40"}"#)
        .is(200);
    let conflict = host.ended(&id);
    assert_eq!(end(&conflict), ("failed", "state_conflict"), "{conflict:#}");
    assert_eq!(count("")["result"]["count"], 41);

    // More than there is room for is refused to the guest, and nothing of that run is kept either.
    let big = count("--set value_bytes=2000000");
    assert_eq!(big["state"], "failed", "{big:#}");
    assert!(
        text(&big, "error_message").contains("state_bytes"),
        "{big:#}"
    );
    assert_eq!(count("")["result"], json!({"count": 42, "keys": ["count"]}));

    host.run(&format!("task state reset {task} --all"));
    assert_eq!(count("")["result"], json!({"count": 1, "keys": ["count"]}));
}

#[test]
fn without_the_grant_there_is_no_state() {
    let host = Host::start();
    host.register("hostile/stateful", "");
    let refused = host.run_once("--type stateful");
    assert_eq!(end(&refused), ("failed", "permanent"), "{refused:#}");
    assert!(
        text(&refused, "error_message").contains("grant"),
        "{refused:#}"
    );
}
