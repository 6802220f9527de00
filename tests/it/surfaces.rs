//! The surfaces every operator and every script stands on.

use crate::support::{Host, has_keys, horarium, horarium_as, items, keys, text};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

#[test]
fn without_a_token_nothing_is_told() {
    let host = Host::start();
    // 401 before anything else: what is there and what is not look the same.
    for (method, path) in [
        ("GET", "/v1/tasks"),
        ("GET", "/v1/nothing-like-it"),
        ("GET", "/v1/tasks/999"),
        ("POST", "/v1/tasks"),
        ("DELETE", "/v1/executions"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ] {
        for headers in [
            &[][..],
            &[("authorization", "Bearer wrong")],
            &[("authorization", "Basic x")],
        ] {
            let reply = host.send_bare(method, path, headers, b"{not json");
            assert_eq!(reply.status, 401, "{method} {path}: {reply:#?}");
            reply.problem();
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(host.send_bare("GET", path, &[], b"").status, 200, "{path}");
    }
    let metrics = host.get("/metrics").is(200);
    assert!(metrics.body.contains("horarium_"), "{}", metrics.body);
    assert!(
        metrics.body.trim_end().ends_with("# EOF"),
        "OpenMetrics ends so"
    );
    let token = std::fs::metadata(host.data_dir().join("admin-token")).expect("there");
    assert_eq!(token.permissions().mode() & 0o777, 0o600);
    let unknown_tenant = host.send("GET", "/v1/tasks", &[("horarium-tenant", "acme")], b"");
    assert_eq!(unknown_tenant.is(404).problem()["status"], 404);
}

#[test]
fn exit_codes_tell_servers_that_are_not_there_or_do_not_let_us() {
    let empty = tempfile::tempdir().expect("a directory");
    let nowhere = format!("--data-dir '{}'", empty.path().display());
    for verb in ["task list", "plugin list", "execution list", "task show 1"] {
        horarium(&format!("{verb} {nowhere}"))
            .exits(3)
            .complains(&["server"]);
        horarium(&format!("{verb} {nowhere} --url http://127.0.0.1:1"))
            .exits(3)
            .complains(&["127.0.0.1:1"]);
    }
    let host = Host::start();
    // The address without the token.
    horarium(&format!("task list {nowhere} --url {}", host.url()))
        .exits(3)
        .complains(&["HORARIUM_TOKEN"]);
    let line = format!("task list {nowhere} --url {}", host.url());
    horarium_as("wrong", &line).exits(3).complains(&["token"]);
    horarium("task lst").exits(2);
    horarium("task show").exits(2);
    horarium("task list --limit x").exits(2);
    host.cli("task list --limit 0")
        .exits(2)
        .complains(&["limit"]);
    host.cli("task list --limit 1001")
        .exits(2)
        .complains(&["limit"]);
    horarium("--version").exits(0);
    assert!(horarium("--help").exits(0).stdout.contains("Exit codes"));
}

#[test]
fn lists_come_in_pages() {
    let host = Host::start();
    for list in ["task list", "plugin list", "execution list"] {
        assert_eq!(host.run(list), json!({"items": [], "next_cursor": null}));
    }
    host.register("hello", "");
    let created: Vec<i64> = (0..7)
        .map(|n| host.create(&format!("--name T{n} --type hello")))
        .collect();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = host.run(&format!("task list --limit 3 {cursor}"));
        let found = items(&page);
        assert!(found.len() <= 3);
        seen.extend(found.iter().map(|task| task["id"].as_i64().expect("an id")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("--cursor {next}"),
            None => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, created);
    // The newest first, and each once.
    let ran: Vec<String> = created.iter().map(|task| host.trigger(*task)).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.run(&format!("execution list --limit 3 {cursor}"));
        seen.extend(items(&page).iter().map(|e| text(e, "task_id").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("--cursor {next}"),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, ran);
    assert_eq!(items(&host.run("task list --name t3")).len(), 1, "any case");
    // A table for people, the same facts.
    let human = host.cli("task list").exits(0);
    assert!(
        human.stdout.contains("T3") && human.stdout.lines().count() >= 8,
        "{human:#?}"
    );
    assert!(
        !human.stdout.contains('\u{1b}'),
        "no colours in a pipe: {human:#?}"
    );
}

#[test]
fn a_resource_is_an_object_with_a_version() {
    let host = Host::start();
    let version = host.register("hello", "");
    has_keys(&version, "digest state descriptor grants limits size_bytes");
    assert_eq!(version["state"], "ready");
    let shown = host.run("plugin show hello");
    assert_eq!(shown["active_digest"], version["digest"]);
    assert_eq!(
        shown["active"]["descriptor"]["parameters_schema"]["type"],
        "object"
    );

    let task = host.create("--name One --type hello --key one --set name=Ada");
    assert_eq!(host.run("task show one")["id"], task, "by key");
    let reply = host.get(&format!("/v1/tasks/{task}")).is(200);
    let etag = reply.etag.clone().expect("an ETag");
    host.run("task update one --priority 5 --cron '0 9 * * *' --timezone Europe/Berlin");
    let stale = [
        ("content-type", "application/merge-patch+json"),
        ("if-match", etag.as_str()),
    ];
    host.send("PATCH", "/v1/tasks/one", &stale, br#"{"priority": 6}"#)
        .is(412);
    let updated = host.run("task show one");
    assert_eq!(
        (&updated["priority"], &updated["version"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(updated["schedule_config"]["timezone"], "Europe/Berlin");
    assert_eq!(updated["parameters"], json!({"name": "Ada"}));
    let next = host.run("task next one --count 3");
    assert_eq!(keys(&next), ["preview", "slots"]);
    assert_eq!(next["slots"][0], updated["next_fire_at"]);
    host.run("task update one --manual");
    let manual = host.run("task show one");
    assert_eq!(
        (text(&manual, "scheduler_type"), &manual["next_fire_at"]),
        ("manual", &Value::Null)
    );
    let taken = host.cli("task create --name Two --type hello --key one");
    taken.exits(2).complains(&["one"]);
}

#[test]
fn metrics_count_what_ran() {
    let host = Host::start();
    host.register("hello", "");
    host.register("hostile/exit", "");
    host.run_once("--type hello");
    host.run_once("--type exit --max-retries 0");
    let count = |metrics: &str, name: &str, labels: &[&str]| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let fits = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        fits.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let metrics = host.get("/metrics").is(200).body;
    for (labels, wanted) in [
        (&["hello", "succeeded"][..], 1.0),
        (&["exit", "failed"], 1.0),
        (&["hello", "failed"], 0.0),
    ] {
        let found = count(&metrics, "horarium_executions_total{", labels);
        assert_eq!(found, wanted, "{labels:?} in\n{metrics}");
    }
}

#[test]
fn task_next_needs_no_server() {
    let next = |arguments: &str| horarium(&format!("task next --json --cron {arguments}"));
    // 02:30 does not exist that night in Berlin: the first instant after the gap, 03:00 there.
    let gap = next("'30 2 * * *' --timezone Europe/Berlin --after 2026-03-28T12:00:00Z --count 2");
    let gap = gap.exits(0).json();
    assert_eq!(keys(&gap), ["preview", "slots"]);
    assert_eq!(
        gap["slots"],
        json!(["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"])
    );
    assert_eq!(keys(&gap["preview"][0]), ["fires_at", "note", "slot"]);
    // 02:30 comes twice that night: once, at the first.
    let fold =
        next("'30 2 * * *' --timezone Europe/Berlin --after 2026-10-24T12:00:00Z --count 2").json();
    assert_eq!(
        fold["slots"],
        json!(["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"])
    );
    // With a star real time is followed through both.
    let star =
        next("'*/30 2 * * *' --timezone Europe/Berlin --after 2026-10-24T22:00:00Z --count 4")
            .json();
    assert_eq!(
        star["slots"],
        json!([
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z"
        ])
    );
    let exclusive = next("'0 0 * * *' --after 2026-01-01T00:00:00Z --count 1").json();
    assert_eq!(exclusive["slots"], json!(["2026-01-02T00:00:00Z"]));
    for bad in [
        "'* * *'",
        "'61 * * * *'",
        "'0 0 31 2 *'",
        "'0 0 * * *' --timezone Nowhere",
        "'0 0 * * *' --count 0",
        "'0 0 * * *' --after soon",
    ] {
        next(bad).exits(2).complains(&[]);
    }
}

#[test]
fn doctor_and_db_status_look_at_the_machine() {
    let mut host = Host::start();
    host.register("hello", "");
    host.run_once("--type hello");
    let findings = items(&host.run("doctor"));
    assert!(findings.len() >= 5, "{findings:#?}");
    for finding in &findings {
        has_keys(finding, "check status detail advice");
        assert_ne!(finding["status"], "fail", "{finding:#}");
    }
    let status = host.run("db status");
    has_keys(
        &status,
        "schema_version latest pending size_bytes executions",
    );
    assert_eq!(
        (
            &status["configs"],
            &status["executions"],
            &status["pending"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(host.stop(), Some(0));
    assert_eq!(
        host.run("db status")["executions"],
        1,
        "without a server too"
    );
    assert_eq!(host.run("db migrate")["pending"], 0);
    let dir = tempfile::tempdir().expect("a directory");
    let made = horarium(&format!(
        "db migrate --json --data-dir '{}'",
        dir.path().join("new").display()
    ));
    assert_eq!(made.exits(0).json()["pending"], 0);
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            !horarium(&format!("completions {shell}"))
                .exits(0)
                .stdout
                .is_empty()
        );
    }
}
