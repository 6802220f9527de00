//! Retries and cancels: of one execution, and of all that fit a filter.

use super::*;
use axum::body::Body;
use serde_json::{Value, json};

#[tokio::test]
async fn many_are_cancelled_and_retried_by_filter() {
    let host = Harness::with_plugin().await;
    host.task(&json!({"key": "a"})).await;
    host.task(&json!({"key": "b"})).await;
    let items = json!([{"task": "a"}, {"task": "a"}, {"task": "b"}]);
    host.post("/v1/executions/batch", &json!({"items": items}))
        .await
        .expect(202);
    for (path, body, pointer) in [
        ("cancel", json!({}), "/filter"),
        ("cancel", json!({"filter": {}}), "/filter"),
        (
            "cancel",
            json!({"filter": {"state": "failed"}}),
            "/filter/state",
        ),
        (
            "retry",
            json!({"filter": {"state": ["running"]}}),
            "/filter/state",
        ),
        (
            "retry",
            json!({"filter": {"error_kind": "nothing"}}),
            "/filter/error_kind",
        ),
        (
            "retry",
            json!({"filter": {"task": "a"}, "limit": 0}),
            "/limit",
        ),
        (
            "retry",
            json!({"filter": {"task": "a"}, "cursor": "x"}),
            "/cursor",
        ),
        ("retry", json!({"filter": {"tsk": "a"}}), "/filter/tsk"),
    ] {
        let problems = host
            .post(&format!("/v1/executions/{path}"), &body)
            .await
            .problem(422);
        assert!(
            problems.iter().any(|problem| problem.starts_with(pointer)),
            "{body}: {problems:?}"
        );
    }
    let filter = json!({"task": "a"});
    let dry = json!({"filter": filter, "dry_run": true});
    let answer = host
        .post("/v1/executions/cancel", &dry)
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&answer["matched"], &answer["cancelled"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(host.executions("state=available").await.len(), 3);
    let one = json!({"filter": filter, "limit": 1});
    let answer = host
        .post("/v1/executions/cancel", &one)
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&answer["cancelled"], answer["next_cursor"].is_string()),
        (&json!(1), true)
    );
    let rest = json!({"filter": filter, "cursor": answer["next_cursor"]});
    let answer = host
        .post("/v1/executions/cancel", &rest)
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&answer["cancelled"], &answer["next_cursor"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(host.executions("state=cancelled").await.len(), 2);

    let body = json!({"filter": {"state": "cancelled", "task": "a", "error_kind": "cancelled"}});
    let answer = host
        .keyed("/v1/executions/retry", "r", &body)
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&answer["matched"], &answer["retried"], &answer["refused"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let again = host
        .keyed("/v1/executions/retry", "r", &body)
        .await
        .expect(200);
    assert_eq!(again.body, answer);
    let retried = host.executions("trigger=retry").await;
    assert_eq!(retried.len(), 2);
    let pairs: Vec<_> = answer["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| (&item["task_id"], &item["retry_of"]))
        .collect();
    for execution in &retried {
        assert!(
            pairs.contains(&(&execution["task_id"], &execution["retry_of"])),
            "{execution}"
        );
    }
    // One whose task is gone is left alone, and the others run.
    host.with_headers("DELETE", "/v1/tasks/a", &[], Body::empty())
        .await
        .expect(200);
    let body = json!({"filter": {"state": "cancelled", "task_type": "hello"}});
    let answer = host
        .post("/v1/executions/retry", &body)
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&answer["retried"], &answer["refused"]),
        (&json!(0), &json!(4))
    );
    assert!(
        answer["items"][0]["error"]
            .as_str()
            .expect("why")
            .contains("deleted")
    );
}

#[tokio::test]
async fn a_single_retry_may_be_keyed() {
    let host = Harness::with_plugin().await;
    host.task(&json!({"key": "k"})).await;
    let ran = host
        .post("/v1/tasks/k/trigger", &json!({}))
        .await
        .expect(202)
        .body;
    let path = format!("/v1/executions/{}", ran["task_id"].as_str().expect("an id"));
    host.post(&format!("{path}/cancel"), &json!({}))
        .await
        .expect(200);
    let one = host
        .keyed(&format!("{path}/retry"), "k", &json!({}))
        .await
        .expect(202);
    let two = host
        .keyed(&format!("{path}/retry"), "k", &json!({}))
        .await
        .expect(202);
    assert_eq!(
        (&one.body, &one.body["retry_of"]),
        (&two.body, &ran["task_id"])
    );
}
