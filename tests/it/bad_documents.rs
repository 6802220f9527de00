//! JSON has one door: what does not pass it is refused with its place, wherever it comes in.

use crate::support::{Host, text};
use serde_json::json;

fn documents() -> Vec<(&'static str, String, &'static str)> {
    let config = |parameters: &str| {
        format!(
            r#"{{"name": "X", "task_type": "hello", "scheduler_type": "manual", "parameters": {parameters}}}"#
        )
    };
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    vec![
        ("200 levels deep", config(&deep), "deep"),
        ("duplicate keys", config(r#"{"n": 1, "n": 2}"#), "twice"),
        ("a NUL", config("{\"name\": \"a\\u0000b\"}"), "u0000"),
        ("a NUL in a key", config("{\"a\\u0000b\": 1}"), "u0000"),
        (
            "too large an integer",
            config(r#"{"n": 99999999999999999999}"#),
            "64",
        ),
        ("a lone surrogate", config(r#"{"name": "\ud800"}"#), ""),
        ("a number like no other", config(r#"{"n": 1e999}"#), ""),
        ("text behind it", config("{}") + " x", ""),
        ("half of it", config("{")[..60].to_owned(), ""),
        ("no object", "[]".to_owned(), "object"),
        ("no JSON", "name=x".to_owned(), ""),
    ]
}

#[test]
fn what_does_not_pass_the_door_is_refused_everywhere() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Good --type hello");
    let before = host.run(&format!("task show {task}"));
    for (what, document, word) in documents() {
        for (method, path, kind) in [
            ("POST", "/v1/tasks".to_owned(), "application/json"),
            (
                "PATCH",
                format!("/v1/tasks/{task}"),
                "application/merge-patch+json",
            ),
            (
                "PUT",
                format!("/v1/tasks/{task}/parameters"),
                "application/json",
            ),
            (
                "POST",
                format!("/v1/tasks/{task}/trigger"),
                "application/json",
            ),
        ] {
            let reply = host.send(
                method,
                &path,
                &[("content-type", kind)],
                document.as_bytes(),
            );
            assert!(
                [400, 422].contains(&reply.status),
                "{what} at {method} {path}: {reply:#?}"
            );
            let problem = reply.problem();
            if path == "/v1/tasks" {
                assert!(
                    text(&problem, "detail").contains(word),
                    "no `{word}` for {what}: {problem:#}"
                );
            }
        }
    }
    assert_eq!(host.run(&format!("task show {task}")), before);
    assert_eq!(
        host.run("task list")["items"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(host.executions("").len(), 0, "nothing was triggered");
}

#[test]
fn the_place_is_told() {
    let host = Host::start();
    host.register("hello", "");
    for (parameters, pointer) in [
        (
            r#"{"a": {"b": [1, {"c": 1, "c": 2}]}}"#,
            "/parameters/a/b/1/c",
        ),
        ("{\"name\": \"a\\u0000b\"}", "/parameters/name"),
    ] {
        let body = format!(
            r#"{{"name": "X", "task_type": "hello", "scheduler_type": "manual", "parameters": {parameters}}}"#
        );
        let reply = host.send(
            "POST",
            "/v1/tasks",
            &[("content-type", "application/json")],
            body.as_bytes(),
        );
        let problem = reply.problem();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem:#}");
    }
    // Values that just fit come back as they went in.
    let exact = json!({"name": "\u{1F600} \u{7f}", "n": 90});
    let task = host.post("/v1/tasks", &json!({"name": "Größe ☃", "task_type": "hello", "scheduler_type": "Manual", "parameters": exact}));
    let task = task.is(201).json();
    assert_eq!(
        (&task["parameters"], text(&task, "scheduler_type")),
        (&exact, "manual")
    );
}

#[test]
fn unknown_keys_are_refused_in_every_body() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Good --type hello");
    let before = host.run(&format!("task show {task}"));
    let grants = host.run("plugin show hello")["active"]["grants"].clone();
    for (method, path, key, nearest) in [
        (
            "PATCH",
            format!("/v1/tasks/{task}"),
            "prioritty",
            "priority",
        ),
        (
            "POST",
            format!("/v1/tasks/{task}/trigger"),
            "if_runing",
            "if_running",
        ),
        (
            "POST",
            format!("/v1/tasks/{task}/pause"),
            "raeson",
            "reason",
        ),
        ("POST", format!("/v1/tasks/{task}/resume"), "reason", ""),
        ("PUT", format!("/v1/tasks/{task}/state/k"), "valeu", "value"),
        (
            "PUT",
            "/v1/task-types/hello/grants".to_owned(),
            "grant",
            "grants",
        ),
        (
            "POST",
            "/v1/task-types/hello/disable".to_owned(),
            "disable",
            "disabled",
        ),
        (
            "POST",
            "/v1/task-types/hello/activate".to_owned(),
            "digst",
            "digest",
        ),
    ] {
        let body = json!({ key: "x" }).to_string();
        let kind = [("content-type", "application/json")];
        let problem = host
            .send(method, &path, &kind, body.as_bytes())
            .is(422)
            .problem();
        let errors = problem["errors"].as_array().expect("a list");
        let named = errors
            .iter()
            .find(|e| text(e, "pointer") == format!("/{key}"));
        let named = named.unwrap_or_else(|| panic!("/{key} is not named: {problem:#}"));
        assert!(text(named, "detail").contains(nearest), "{problem:#}");
    }
    assert_eq!(host.run(&format!("task show {task}")), before);
    let shown = host.run("plugin show hello");
    assert_eq!(
        (&shown["active"]["grants"], &shown["disabled"]),
        (&grants, &json!(false))
    );
    assert_eq!(host.executions("").len(), 0, "nothing was triggered");
}

#[test]
fn unknown_paths_methods_queries_and_types_are_refused() {
    let host = Host::start();
    assert_eq!(host.get("/v1/taks").is(404).problem()["status"], 404);
    host.send("DELETE", "/v1/tasks", &[], b"").is(405).problem();
    let unknown = host.get("/v1/tasks?limt=5").is(400).problem();
    assert!(text(&unknown, "detail").contains("limit"), "{unknown:#}");
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=nonsense",
        "limit=1&limit=2",
    ] {
        host.get(&format!("/v1/tasks?{query}")).is(400).problem();
    }
    host.get("/v1/executions?state=walking").is(400).problem();
    let xml = host.send(
        "POST",
        "/v1/tasks",
        &[("content-type", "text/xml")],
        b"<a/>",
    );
    assert!([415, 400].contains(&xml.status), "{xml:#?}");
    for id in [
        "0",
        "-1",
        "999999",
        "9223372036854775808",
        "no-such-key",
        "%00",
    ] {
        let reply = host.get(&format!("/v1/tasks/{id}"));
        assert_eq!(reply.status, 404, "{id}: {reply:#?}");
    }
    host.get("/v1/executions/nonsense").is(404).problem();
}
