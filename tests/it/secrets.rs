//! Secrets: used where they were granted, refused elsewhere, and found nowhere.

use crate::support::{Host, HostBuilder, World, horarium_fed, items, text};
use serde_json::{Value, json};
use std::path::Path;

const CANARY: &str = "canary-7f3b9e21c4d8";

fn host() -> Host {
    HostBuilder::default()
        .setting("network.allow_private", "127.0.0.0/8")
        .start()
}

fn set(host: &Host, name: &str, value: &str) {
    let line = format!("secret set {name}");
    horarium_fed(&host.data_dir(), &line, &format!("{value}\n")).exits(0);
}

/// Registers the guest that uses the secret in these places of requests to the world.
fn register(host: &Host, world: &World, places: &[&str]) {
    let url = world.url();
    let mut flags = format!("--grant 'http * {url} via 127.0.0.0/8' --grant state");
    for place in places {
        flags.push_str(&match *place {
            "reveal" => " --grant 'secret api-key reveal'".to_owned(),
            place => format!(" --grant 'secret api-key in {place} to {url}'"),
        });
    }
    host.register("hostile/secretive", &flags);
}

/// Runs it once with these parameters.
fn run(host: &Host, parameters: &Value) -> Value {
    host.run_once(&format!(
        "--type secretive --max-retries 0 --params '{parameters}'"
    ))
}

fn echo(ran: &Value) -> Value {
    assert_eq!(text(ran, "state"), "succeeded", "{ran:#}");
    serde_json::from_str(text(&ran["result"], "body")).expect("an echo")
}

#[test]
fn a_secret_goes_only_where_it_was_granted() {
    let (world, host) = (World::start(), host());
    set(&host, "api-key", CANARY);
    let places = ["header:authorization", "header:x-key", "query:key", "body"];
    register(&host, &world, &places);
    let url = format!("{}/echo", world.url());
    for (place, part) in [
        ("bearer", "authorization: Bearer [secret api-key]"),
        ("header:X-Key", "x-key: [secret api-key]"),
        ("query:key", "?key=[secret api-key]"),
        ("body", "{\"key\":\"[secret api-key]\"}"),
    ] {
        let ran = run(&host, &json!({"url": url, "place": place}));
        // The world echoes the value; what the plugin hands over of it is masked.
        let echo = echo(&ran);
        let all = format!(
            "{} {} {}",
            text(&echo, "request"),
            text(&echo, "head"),
            text(&echo, "body")
        );
        assert!(all.contains(part), "{place}: {all}");
        assert!(
            text(&ran["result"], "got").starts_with("horariumsecret"),
            "{ran:#}"
        );
        assert!(!ran.to_string().contains(CANARY), "{ran:#}");
    }
    let basic = run(&host, &json!({"url": url, "place": "basic"}));
    let head = text(&echo(&basic), "head").to_owned();
    assert!(
        head.contains("authorization: Basic ") && head.contains("[secret api-key]"),
        "{head}"
    );

    for (url, place, part) in [
        (
            url.as_str(),
            "header:x-other",
            "--grant 'secret api-key in header:x-other to http",
        ),
        (
            url.as_str(),
            "query:other",
            "--grant 'secret api-key in query:other to http",
        ),
        (url.as_str(), "path", "in the path of a request"),
    ] {
        let visits = world.visits("/echo");
        let refused = run(&host, &json!({"url": url, "place": place}));
        assert_eq!(text(&refused, "error_kind"), "permanent", "{refused:#}");
        assert!(
            text(&refused, "error_message").contains(part),
            "{refused:#}"
        );
        assert_eq!(world.visits("/echo"), visits, "{place}: it left");
        assert_eq!(refused["usage"]["http_calls"], 0, "{refused:#}");
    }
    // A host that may be asked but was not granted the secret.
    let other = World::start();
    let grants = json!({"add": [format!("http GET {} via 127.0.0.0/8", other.url())]});
    let path = "/v1/task-types/secretive/grants";
    let header = [("content-type", "application/json")];
    host.send("PATCH", path, &header, grants.to_string().as_bytes())
        .is(200);
    let url = format!("{}/echo", other.url());
    let refused = run(&host, &json!({"url": url, "place": "bearer"}));
    assert!(
        text(&refused, "error_message").contains("denied: the secret `api-key`"),
        "{refused:#}"
    );
    assert_eq!(other.visits("/echo"), 0);
}

#[test]
fn a_secret_without_value_or_grant_is_told() {
    let (world, host) = (World::start(), host());
    register(&host, &world, &["header:authorization"]);
    let missing = run(&host, &json!({}));
    assert_eq!(
        text(&missing, "error_kind"),
        "secret_missing",
        "{missing:#}"
    );
    let message = text(&missing, "error_message");
    assert!(message.contains("horarium secret set api-key"), "{message}");
    set(&host, "api-key", CANARY);
    let there = run(&host, &json!({}));
    assert_eq!(text(&there, "state"), "succeeded", "{there:#}");
    let other = run(&host, &json!({"name": "other"}));
    let message = text(&other, "error_message");
    assert!(
        message.contains("--grant 'secret other reveal'"),
        "{message}"
    );
    let logs = host.logs(text(&other, "task_id"));
    assert!(
        logs.iter().any(|line| line["source"] == "host"),
        "{logs:#?}"
    );
    host.cli("secret delete api-key").exits(0);
    assert_eq!(
        text(&run(&host, &json!({})), "error_kind"),
        "secret_missing"
    );
}

/// Every file below a directory, and how often the bytes stand in it.
fn search(directory: &Path, needle: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            search(&path, needle, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle)
        {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn the_canary_is_found_nowhere() {
    let (world, mut host) = (World::start(), host());
    set(&host, "api-key", CANARY);
    let url = format!("{}/echo", world.url());
    let mut answers = String::new();
    for places in [&["reveal"][..], &["header:x-key", "query:key", "body"][..]] {
        register(&host, &world, places);
        for (place, fail) in [
            ("header:x-key", false),
            ("query:key", false),
            ("query:key", true),
            ("body", true),
        ] {
            let asked = json!({"url": url, "place": place, "leak": true, "fail": fail});
            let ran = run(&host, &asked);
            assert_eq!(ran["usage"]["http_calls"], 1, "{ran:#}");
            let id = text(&ran, "task_id");
            let wanted = if fail { "failed" } else { "succeeded" };
            assert_eq!(text(&ran, "state"), wanted, "{ran:#}");
            if !fail {
                let state = text(&ran["result"], "state");
                assert!(state.contains("cannot be kept in the state"), "{state}");
            }
            let logs = host.get(&format!("/v1/executions/{id}/logs")).is(200).body;
            assert!(logs.contains("[secret api-key]"), "{logs}");
            for part in ["", "/attempts", "/http"] {
                let path = format!("/v1/executions/{id}{part}");
                answers.push_str(&host.get(&path).is(200).body);
            }
            answers.push_str(&logs);
            answers.push_str(&host.cli(&format!("execution show {id}")).exits(0).stdout);
        }
    }
    for path in [
        "/v1/secrets",
        "/v1/secrets/api-key",
        "/v1/task-types/secretive",
        "/v1/executions",
        "/metrics",
    ] {
        answers.push_str(&host.get(path).is(200).body);
    }
    answers.push_str(&host.cli("secret list").exits(0).stdout);
    assert!(!answers.contains(CANARY), "an answer holds it");
    host.stop();
    assert!(!host.last_words().contains(CANARY), "the log holds it");
    let mut found = Vec::new();
    search(&host.data_dir(), CANARY.as_bytes(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    // The search finds what is there.
    search(&host.data_dir(), b"api-key", &mut found);
    assert!(!found.is_empty());
}

#[test]
fn secrets_get_a_new_key_while_they_are_used() {
    let (world, mut host) = (World::start(), host());
    set(&host, "api-key", CANARY);
    set(&host, "other", "something");
    register(&host, &world, &["header:x-key"]);
    let key_file = host.data_dir().join("secrets.key");
    let old = std::fs::read_to_string(&key_file).expect("a key");
    let done = host.run("secret rekey --new-key");
    assert_eq!(
        (&done["rekeyed"], &done["new_key"]),
        (&json!(2), &json!(true))
    );
    let new = std::fs::read_to_string(&key_file).expect("a key");
    assert!(new != old && new.lines().count() == 1, "one new key");
    let asked = json!({"url": format!("{}/echo", world.url()), "place": "header:x-key"});
    echo(&run(&host, &asked));
    host.stop();
    host.start_again();
    echo(&run(&host, &asked));
}

#[test]
fn a_value_is_never_taken_from_the_command_line() {
    let host = Host::start();
    let refused = host.cli("secret set api-key hunter2").exits(2);
    assert!(
        !refused.stderr.contains("hunter2") && refused.stderr.contains("--from-file"),
        "{refused:#?}"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("value");
    std::fs::write(&file, "from a file\n").expect("written");
    let made = host.run(&format!(
        "secret set api-key --from-file {}",
        file.display()
    ));
    assert_eq!(
        (&made["name"], &made["version"]),
        (&json!("api-key"), &json!(1))
    );
    horarium_fed(&host.data_dir(), "secret set api-key", "").exits(2);
    host.cli("secret show nothing").exits(2);
    let listed = host.run("secret list");
    assert_eq!(items(&listed).len(), 1);
    assert!(
        host.cli("secret delete api-key")
            .exits(0)
            .stdout
            .contains("Forgot")
    );
    assert!(
        host.cli("secret list")
            .exits(0)
            .stdout
            .contains("no secret yet")
    );
}
