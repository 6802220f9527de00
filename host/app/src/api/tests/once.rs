//! Requests that may be repeated.

use super::harness::task;
use super::*;
use axum::body::Body;
use serde_json::json;

#[tokio::test]
async fn a_keyed_request_is_carried_out_once() {
    let host = Harness::with_plugin().await;
    let first = host
        .keyed("/v1/tasks", "create", &task(&json!({"key": "k"})))
        .await
        .expect(201);
    let again = host
        .keyed("/v1/tasks", "create", &task(&json!({"key": "k"})))
        .await
        .expect(201);
    assert_eq!(
        (&first.body, &first.headers["etag"]),
        (&again.body, &again.headers["etag"])
    );
    assert_eq!(first.headers["location"], again.headers["location"]);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));

    let body = json!({"parameters": {"n": 3}});
    let one = host
        .keyed("/v1/tasks/k/trigger", "a key", &body)
        .await
        .expect(202);
    let two = host
        .keyed("/v1/tasks/k/trigger", "a key", &body)
        .await
        .expect(202);
    assert_eq!(one.body, two.body);
    assert_eq!(host.executions("task=k").await.len(), 1);
    // The same key for another body, another place.
    let other = json!({"parameters": {"n": 4}});
    let problems = host
        .keyed("/v1/tasks/k/trigger", "a key", &other)
        .await
        .problem(422);
    assert!(problems[0].contains("another request"), "{problems:?}");
    host.keyed("/v1/executions/batch", "a key", &json!({"items": []}))
        .await
        .problem(422);
    // What was refused may be tried again with the same key.
    host.keyed(
        "/v1/tasks/k/trigger",
        "bad",
        &json!({"parameters": {"n": "x"}}),
    )
    .await
    .problem(422);
    host.keyed("/v1/tasks/k/trigger", "bad", &body)
        .await
        .expect(202);
    // The answer is kept for a day, even when the task is gone meanwhile.
    host.set_now("2026-01-01T23:00:00Z");
    host.with_headers("DELETE", "/v1/tasks/k", &[], Body::empty())
        .await
        .expect(200);
    let three = host
        .keyed("/v1/tasks/k/trigger", "a key", &body)
        .await
        .expect(202);
    assert_eq!(three.body, one.body);
    host.set_now("2026-01-02T01:00:00Z");
    host.keyed("/v1/tasks/k/trigger", "a key", &body)
        .await
        .problem(404);
    host.keyed("/v1/tasks/k/trigger", "", &body)
        .await
        .problem(400);
    host.keyed("/v1/tasks/k/trigger", &"x".repeat(256), &body)
        .await
        .problem(400);
}

#[tokio::test]
async fn of_two_at_once_with_one_key_one_is_carried_out() {
    let host = Harness::with_plugin().await;
    host.task(&json!({"key": "k"})).await;
    let body = json!({});
    let (one, two) = tokio::join!(
        host.keyed("/v1/tasks/k/trigger", "x", &body),
        host.keyed("/v1/tasks/k/trigger", "x", &body)
    );
    for answer in [&one, &two] {
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text);
    }
    assert_eq!(host.executions("task=k").await.len(), 1);
}
