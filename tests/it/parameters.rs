//! `get_parameter` and `update_parameters`.

use crate::support::Host;
use serde_json::{Value, json};

const WRITERS: usize = 8;
const CHANGES: usize = 6;

/// A task whose parameter `input` takes anything.
fn task(host: &Host) -> i64 {
    let task = json!({"name": "Open", "task_type": "open", "scheduler_type": "manual",
        "parameters": {"input": {"kept": {"here": [1, 2]}}}});
    // The plugin's own schema knows no such parameters; the operator's description wins.
    let descriptor = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        descriptor.path(),
        r#"{"parameters_schema": {"type": "object", "properties": {"input": {"type": "object"}}}}"#,
    )
    .expect("written");
    let file = crate::support::plugin("hello");
    host.run(&format!(
        "plugin register open '{}' --descriptor '{}'",
        file.display(),
        descriptor.path().display()
    ));
    host.post("/v1/tasks", &task).is(201).json()["id"]
        .as_i64()
        .expect("an id")
}

#[test]
fn concurrent_writers_lose_nothing() {
    let host = Host::start();
    let task = task(&host);
    let path = format!("/v1/tasks/{task}/parameters");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (host, path) = (&host, &path);
            scope.spawn(move || {
                for change in 0..CHANGES {
                    let key = format!("w{writer}_{change}");
                    let (kind, body) = if writer % 2 == 0 {
                        (
                            "application/merge-patch+json",
                            json!({"input": {key: writer}}),
                        )
                    } else {
                        let path = format!("/input/{key}");
                        (
                            "application/json-patch+json",
                            json!([{"op": "add", "path": path, "value": writer}]),
                        )
                    };
                    let body = body.to_string();
                    host.send("PATCH", path, &[("content-type", kind)], body.as_bytes())
                        .is(200);
                }
            });
        }
    });
    let parameters = host.run(&format!("task parameters show {task}"));
    let input = parameters["input"].as_object().expect("an object");
    assert_eq!(input.len(), 1 + WRITERS * CHANGES, "{parameters:#}");
    for writer in 0..WRITERS {
        for change in 0..CHANGES {
            assert_eq!(input[&format!("w{writer}_{change}")], writer);
        }
    }
    let version = host.run(&format!("task show {task}"))["version"]
        .as_u64()
        .expect("a number");
    assert_eq!(
        version,
        1 + (WRITERS * CHANGES) as u64,
        "a change is a version"
    );
}

#[test]
fn parameters_are_read_and_changed_as_the_standards_say() {
    let host = Host::start();
    let task = task(&host);
    let show = |flags: &str| host.cli(&format!("task parameters show {task} --json {flags}"));
    assert_eq!(show("--pointer /input/kept/here/1").exits(0).json(), 2);
    assert_eq!(
        show("--pointer /input/none --default '[\"x\"]'")
            .exits(0)
            .json(),
        json!(["x"])
    );
    show("--pointer /input/none")
        .exits(2)
        .complains(&["/input/none"]);

    host.run(&format!(
        r#"task parameters set {task} --merge '{{"input": {{"kept": null, "b": {{"c": 1}}}}}}'"#
    ));
    host.run(&format!(r#"task parameters set {task} --patch '[{{"op": "test", "path": "/input/b/c", "value": 1}}, {{"op": "move", "from": "/input/b", "path": "/input/d"}}]'"#));
    let now = json!({"input": {"d": {"c": 1}}});
    assert_eq!(show("").json(), now);

    // Refused whole: a test that fails, a type that is wrong, a version that is past.
    let wrong =
        r#"'[{"op": "remove", "path": "/input/d"}, {"op": "test", "path": "/input", "value": 5}]'"#;
    host.cli(&format!("task parameters set {task} --patch {wrong}"))
        .exits(2);
    let schema = host.cli(&format!(
        "task parameters set {task} --merge '{{\"input\": 5}}'"
    ));
    schema.exits(2).complains(&["/parameters/input"]);
    let reply = host.get(&format!("/v1/tasks/{task}/parameters")).is(200);
    let etag = reply.etag.clone().expect("an ETag");
    host.run(&format!(
        "task parameters set {task} --merge '{{\"e\": 1}}'"
    ));
    let headers = [
        ("content-type", "application/merge-patch+json"),
        ("if-match", etag.as_str()),
    ];
    let stale = host.send(
        "PATCH",
        &format!("/v1/tasks/{task}/parameters"),
        &headers,
        b"{\"e\": 2}",
    );
    assert_eq!(stale.is(412).problem()["status"], 412);
    let mut now = now;
    now["e"] = Value::from(1);
    assert_eq!(show("").json(), now);
}
