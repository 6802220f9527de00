//! Settings, grants, requests as they are kept, and clocks.

use crate::support::{Host, HostBuilder, World, horarium, items, plugin, text, until};
use serde_json::{Value, json};

#[test]
fn settings_reach_the_next_run_in_both_ways() {
    let host = Host::start();
    host.register("hostile/configured", "");
    let task = host.create("--name c --type configured");
    let run = || {
        let ran = host.ended(&host.trigger(task));
        assert_eq!(text(&ran, "state"), "succeeded", "{ran:#}");
        ran["result"].clone()
    };
    assert_eq!(run(), json!({"config": null, "store": null, "all": []}));
    host.run("plugin config set configured url https://a.example");
    host.cli("plugin config set configured zone --west")
        .exits(0);
    let all = json!([["url", "https://a.example"], ["zone", "--west"]]);
    let found = json!({"config": "https://a.example", "store": "https://a.example", "all": all});
    assert_eq!(run(), found);
    let listed = host.cli("plugin config list configured").exits(0).stdout;
    assert!(
        listed.contains("zone") && listed.contains("https://a.example"),
        "{listed}"
    );
    host.cli("plugin config unset configured urls")
        .exits(2)
        .complains(&["did you mean `url`"]);
    host.cli("plugin config unset configured url").exits(0);
    assert_eq!(run()["config"], Value::Null);
    host.cli("plugin config set nothing a b").exits(2);
}

#[test]
fn grants_are_shown_added_and_taken_away() {
    let host = Host::start();
    let version = host.register("hostile/stateful", "");
    let remark = version["warnings"].to_string();
    assert!(remark.contains("add --grant 'state'"), "{remark}");
    assert!(
        host.cli("plugin grant stateful")
            .exits(0)
            .stdout
            .contains("nothing")
    );
    let refused = host.run_once("--type stateful --max-retries 0");
    assert!(
        text(&refused, "error_message").contains("--grant state"),
        "{refused:#}"
    );
    let logs = host.logs(text(&refused, "task_id"));
    assert!(
        logs.iter()
            .any(|l| l["source"] == "host" && text(l, "message").contains("--grant state"))
    );
    let granted = host.run("plugin grant stateful --add state --add 'secret k reveal'");
    assert_eq!(granted, json!({"grants": ["state", "secret k reveal"]}));
    let granted = host.run("plugin grant stateful --remove 'secret k reveal'");
    assert_eq!(granted, json!({"grants": ["state"]}));
    let ran = host.run_once("--type stateful");
    assert_eq!(text(&ran, "state"), "succeeded", "{ran:#}");
    host.cli("plugin grant stateful --add nonsense")
        .exits(2)
        .complains(&["/add/0"]);
    host.cli("plugin grant stateful --remove 'secret k reveal'")
        .exits(2)
        .complains(&["/remove/0"]);
}

#[test]
fn each_request_is_kept_with_what_came_of_it() {
    let world = World::start();
    let host = HostBuilder::default()
        .setting("network.allow_private", "127.0.0.0/8")
        .start();
    let url = world.url();
    host.register(
        "http_request",
        &format!("--grant 'http GET {url} via 127.0.0.0/8'"),
    );
    let ran = host.run_once(&format!("--type http_request --set url={url}/page?a=1"));
    let id = text(&ran, "task_id");
    let calls = items(
        &host
            .get(&format!("/v1/executions/{id}/http"))
            .is(200)
            .json(),
    );
    assert_eq!(calls.len(), 1, "{calls:#?}");
    let call = &calls[0];
    assert_eq!(
        (text(call, "method"), &call["status"]),
        ("GET", &json!(200))
    );
    assert_eq!(text(call, "url"), format!("{url}/page?a=1"));
    assert_eq!(call["response_bytes"], ran["usage"]["http_response_bytes"]);
    assert!(
        call["duration_seconds"].is_f64() && call["error"].is_null(),
        "{call:#}"
    );
    let shown = host.cli(&format!("execution show {id}")).exits(0).stdout;
    assert!(
        shown.contains("/page?a=1") && shown.contains("200"),
        "{shown}"
    );
    assert_eq!(items(&host.run(&format!("execution http {id}"))), calls);
    // What was denied is there too.
    let denied =
        host.run_once("--type http_request --max-retries 0 --set url=http://other.example/x");
    let path = format!("/v1/executions/{}/http", text(&denied, "task_id"));
    let calls = items(&host.get(&path).is(200).json());
    assert_eq!((calls.len(), &calls[0]["status"]), (1, &Value::Null));
    assert!(
        text(&calls[0], "error").contains("--grant 'http GET http://other.example'"),
        "{calls:#?}"
    );
}

#[test]
fn progress_is_seen_while_it_runs() {
    let host = Host::start();
    host.register("hostile/sleep", "");
    let task = host.create("--name s --type sleep --set milliseconds=50000");
    let id = host.trigger(task);
    let seen = until("progress", || {
        let execution = host.execution(&id);
        execution["progress"]
            .is_object()
            .then(|| execution["progress"].clone())
    });
    assert_eq!(seen, json!({"fraction": 0.5, "message": "sleeping"}));
    host.cli(&format!("execution cancel {id}")).exits(0);
}

/// Runs the guest that tells clocks and randomness.
fn clocks(flags: &str) -> Value {
    let file = plugin("hostile/clocks");
    let ran = horarium(&format!("dev run '{}' --json {flags}", file.display()));
    ran.exits(0).json()["result"].clone()
}

#[test]
fn dev_run_repeats_itself_when_clocks_and_randomness_are_fixed() {
    let fixed = "--at 2030-01-31T09:00:00+01:00 --seed 7";
    let first = clocks(fixed);
    assert_eq!(first, clocks(fixed));
    let seconds = first["unix_microseconds"].as_u64().expect("a number") / 1_000_000;
    assert_eq!(seconds, 1_896_076_800);
    let other = clocks("--at 2030-01-31T09:00:00+01:00 --seed 8");
    assert_ne!(
        (&first["random"], &first["order"]),
        (&other["random"], &other["order"])
    );
    assert_ne!(clocks("")["random"], clocks("")["random"]);
}

#[test]
fn dev_run_takes_settings_and_secrets() {
    let file = plugin("hostile/configured");
    let line = format!(
        "dev run '{}' --json --config url=x=y --config b=",
        file.display()
    );
    let ran = horarium(&line).exits(0).json();
    assert_eq!(
        ran["result"],
        json!({"config": "x=y", "store": "x=y", "all": [["b", ""], ["url", "x=y"]]})
    );
    let dir = tempfile::tempdir().expect("a directory");
    let value = dir.path().join("value");
    std::fs::write(&value, "canary-31\n").expect("written");
    let secretive = plugin("hostile/secretive");
    let run = |flags: &str| horarium(&format!("dev run '{}' --json {flags}", secretive.display()));
    let secret = format!("--secret api-key={}", value.display());
    let ran = run(&format!(
        "--grant 'secret api-key reveal' {secret} --params '{{\"leak\": true}}'"
    ));
    assert!(!ran.stdout.contains("canary-31"), "{ran:#?}");
    assert_eq!(ran.exits(0).json()["result"]["got"], "[secret api-key]");
    run(&secret).exits(2).complains(&["no grant names it"]);
    run("--grant 'secret api-key reveal'")
        .exits(2)
        .complains(&["--secret api-key=FILE"]);
}
