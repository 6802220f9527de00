//! Who is let in, and how everything that goes wrong looks.

use super::harness::{TOKEN, task};
use super::*;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn no_token_no_word() {
    let server = Harness::with_plugin().await;
    for (method, path) in [
        ("GET", "/v1/tasks"),
        ("GET", "/v1/nothing/here"),
        ("PUT", "/v1/tasks"),
        ("POST", "/v1/tasks"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("DELETE", "/healthz/x"),
    ] {
        for authorization in [None, Some("Bearer wrong"), Some("Basic abc"), Some(TOKEN)] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = server
                .send(request.body(Body::from("{not json")).expect("a request"))
                .await;
            assert!(answer.problem(401).is_empty(), "{method} {path}");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
}

#[tokio::test]
async fn health_needs_no_token_and_readiness_tells() {
    let server = Harness::new();
    let plain = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
    server.send(plain("/healthz")).await.expect(200);
    server.send(plain("/readyz")).await.expect(200);
    server.ready.store(false, Ordering::SeqCst);
    let stopping = server.send(plain("/readyz")).await;
    stopping.problem(503);
    assert_eq!(stopping.headers["retry-after"], "5");
    server.ready.store(true, Ordering::SeqCst);
    *server.compiled.lock().expect("not poisoned") = Err("no space left".to_owned());
    let problem = server.send(plain("/readyz")).await;
    problem.problem(503);
    assert!(problem.text.contains("no space left"));
    server.send(plain("/healthz")).await.expect(200);
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let server = Harness::with_plugin().await;
    server.get("/v2").await.problem(404);
    server.get("/v1/tasks/7").await.problem(404);
    server.get("/v1/executions/not-a-uuid").await.problem(404);
    server.get("/v1/tasks?limit=0").await.problem(400);
    server.get("/v1/tasks?cursor=nonsense").await.problem(400);
    server.get("/v1/tasks?limit=1&limit=2").await.problem(400);
    server.get("/healthz?x=1").await.problem(400);
    let unknown = server.get("/v1/tasks?task_typ=x").await.problem(400);
    assert!(
        unknown[0].contains("did you mean `task_type`"),
        "{unknown:?}"
    );

    let method = server.post("/v1/tasks/7/next", &json!({})).await;
    method.problem(405);
    assert!(method.headers.contains_key("allow"));

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let kind = server.with_headers("POST", "/v1/tasks", &form, "a=b").await;
    kind.problem(415);

    let large = vec![b' '; (17 << 20) + 1];
    server
        .with_headers("POST", "/v1/tasks", &[], large)
        .await
        .problem(413);

    let tenant = [("horarium-tenant", "strangers")];
    let stranger = server
        .with_headers("GET", "/v1/tasks", &tenant, Body::empty())
        .await;
    stranger.problem(404);
    assert!(stranger.text.contains("strangers"));

    let match_ = [("if-match", "three")];
    let id = server.task(&json!({})).await["id"].clone();
    server
        .with_headers("PATCH", &format!("/v1/tasks/{id}"), &match_, "{}")
        .await
        .problem(400);
}

#[tokio::test]
async fn json_comes_through_one_door() {
    let server = Harness::with_plugin().await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (body, part) in [
        ("{\"name\":", "not valid JSON"),
        (
            &format!("{{\"parameters\":{deep}}}"),
            "nested deeper than 100",
        ),
        (
            "{\"name\":\"a\",\"name\":\"b\"}",
            "/name: the key stands twice",
        ),
        ("{\"name\":\"a\\u0000b\"}", "/name: \\u0000"),
        ("\u{feff}{}", "JSON"),
    ] {
        let answer = server
            .with_headers("POST", "/v1/tasks", &[], body.to_owned())
            .await;
        let errors = answer.problem(400);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains(part), "{part}: {errors:?}");
    }
    assert_eq!(server.get("/v1/tasks").await.body["items"], json!([]));
}

/// Bad task configs: what differs from a good one, the pointer, and a part of the message.
fn bad_tasks() -> Vec<(Value, &'static str, &'static str)> {
    let cron = |expression: &str| json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": expression}});
    let date =
        |instant: &str| json!({"scheduler_type": "date", "schedule_config": {"run_at": instant}});
    vec![
        (
            json!({"parameters": {"n": "one"}}),
            "/parameters/n",
            "integer",
        ),
        (json!({"parameters": {}}), "/parameters", "required"),
        (json!({"parameters": [1]}), "/parameters", "object"),
        (json!({"parameters": "x"}), "/parameters", "object"),
        (cron("* * *"), "/schedule_config/cron_expression", "field"),
        (cron("61 * * * *"), "/schedule_config/cron_expression", "61"),
        (cron("0 0 31 2 *"), "/schedule_config/cron_expression", ""),
        (
            json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": "* * * * *", "timezone": "Mars/Olympus"}}),
            "/schedule_config/timezone",
            "Mars",
        ),
        (
            date("2030-01-01T00:00:00"),
            "/schedule_config/run_at",
            "offset",
        ),
        (
            date("2020-01-01T00:00:00Z"),
            "/schedule_config/run_at",
            "past",
        ),
        (json!({"timeout_seconds": 0}), "/timeout_seconds", "1"),
        (json!({"max_retries": -1}), "/max_retries", "0"),
        (
            json!({"task_type": "helo"}),
            "/task_type",
            "did you mean `hello`",
        ),
        (
            json!({"timeout_second": 1}),
            "/timeout_second",
            "did you mean `timeout_seconds`",
        ),
        (
            json!({"retry_policy": {"fctor": 1}}),
            "/retry_policy/fctor",
            "factor",
        ),
        (json!({"name": "x".repeat(10_000)}), "/name", "200"),
        (json!({"name": ""}), "/name", "1"),
        (
            json!({"limits": {"fuel": 1001}}),
            "/limits/fuel",
            "the host",
        ),
        (
            json!({"limits": {"memory_bytes": 65 << 20}}),
            "/limits/memory_bytes",
            "engine.memory",
        ),
        (
            json!({"limits": {"parameters_bytes": 3}}),
            "/parameters",
            "parameters_bytes",
        ),
        (
            json!({"plugin_version": format!("blake3:{}", "0".repeat(64))}),
            "/plugin_version",
            "no version",
        ),
    ]
}

#[tokio::test]
async fn bad_input_names_the_field_and_writes_nothing() {
    let server = Harness::with_plugin().await;
    let good = server.task(&json!({"key": "good"})).await;
    for (differs, pointer, part) in bad_tasks() {
        let created = server.post("/v1/tasks", &task(&differs)).await;
        let updated = server.json("PATCH", "/v1/tasks/good", &differs).await;
        for answer in [created, updated] {
            // A merge patch with no parameters changes none.
            if answer.status == 200 && differs == json!({"parameters": {}}) {
                continue;
            }
            let errors = answer.problem(422);
            assert!(
                errors
                    .iter()
                    .any(|e| e.starts_with(&format!("{pointer}: ")) && e.contains(part)),
                "{differs}: {errors:?}"
            );
        }
    }
    let items = server.get("/v1/tasks").await.body["items"].clone();
    assert_eq!(items, json!([good]));
}

#[tokio::test]
async fn a_component_that_is_refused_is_not_kept() {
    let server = Harness::new();
    let wasm = [("content-type", "application/wasm")];
    for (name, bytes) in [
        ("text", b"hello".to_vec()),
        ("gzip", vec![0x1f, 0x8b, 8, 0]),
        ("elf", b"\x7fELF".to_vec()),
        ("empty", Vec::new()),
    ] {
        let path = format!("/v1/task-types/{name}/versions");
        let answer = server.with_headers("POST", &path, &wasm, bytes).await;
        assert!(answer.problem(422)[0].starts_with("/component: "));
    }
    let path = "/v1/task-types/huge/versions";
    let huge = vec![0; 100 << 20];
    server
        .with_headers("POST", path, &wasm, huge)
        .await
        .problem(413);
    let name = server.upload("Not_A_Name", &json!({}), &json!({})).await;
    assert!(name.problem(422)[0].starts_with("/task_type: "));
    for (options, pointer) in [
        (json!({"grant": []}), "/grant"),
        (json!({"grants": ["everything"]}), "/grants/0"),
        (json!({"limits": {"fuel": 1001}}), "/limits/fuel"),
        (json!({"descriptor": {"sumary": "x"}}), "/descriptor/sumary"),
    ] {
        let errors = server.upload("x", &json!({}), &options).await.problem(422);
        assert!(errors[0].starts_with(pointer), "{errors:?}");
    }
    assert_eq!(server.get("/v1/task-types").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_panic_ends_its_own_request_only() {
    async fn boom() -> &'static str {
        panic!("inner words")
    }
    let router = axum::Router::new()
        .route("/boom", axum::routing::get(boom))
        .layer(axum::middleware::from_fn(crate::api::error::envelope));
    let server = Harness {
        router,
        ..Harness::new()
    };
    for _ in 0..2 {
        let answer = server.get("/boom").await;
        assert!(answer.problem(500).is_empty());
        assert!(!answer.text.contains("inner words"), "{}", answer.text);
    }
}
