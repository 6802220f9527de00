//! Events: what is told, in which order, and where a stream goes on.

use super::*;
use axum::body::Body;
use axum::http::Request;
use horarium_core::control::RunControl;
use horarium_core::service::{Event, EventStream};
use horarium_core::store::{ExecutionFilter, Queue as _, Release};
use horarium_model::DEFAULT_TENANT_ID;
use horarium_model::execution::State;
use serde_json::json;

async fn kinds(stream: &mut EventStream) -> Vec<&'static str> {
    let events = stream.next().await.expect("a look");
    events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn what_happens_is_told_once_in_order_and_can_be_taken_up_again() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "k"})).await;
    server.tenant("other").await;
    server.set_now("2026-01-01T00:00:31Z");
    let mut stream = server.follow(DEFAULT_TENANT_ID, None).await;
    let mut others = server.follow(DEFAULT_TENANT_ID + 1, None).await;
    let left = stream.place();
    assert_eq!(kinds(&mut stream).await, [""; 0]);
    for _ in 0..2 {
        let triggered = server.post("/v1/tasks/k/trigger", &json!({})).await;
        triggered.expect(202);
    }
    let created = ["execution.created"; 2];
    assert_eq!(kinds(&mut stream).await, created);
    assert_eq!(kinds(&mut stream).await, [""; 0], "once");
    let (incarnation, claimed) = server.claim_all().await;
    assert_eq!(kinds(&mut stream).await, ["execution.started"; 2]);
    server.set_now("2026-01-01T00:00:33Z");
    let control = RunControl::new(1 << 20, claimed[0].claim);
    server.complete(incarnation, &claimed[0], &control).await;
    let events: Vec<Event> = stream.next().await.expect("a look");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].kind, "execution.finished");
    assert_eq!(events[0].data["task_id"], json!(claimed[0].task_id));
    assert_eq!(events[0].data["state"], "succeeded");
    // What starts and ends between two looks is told whole.
    let triggered = server.post("/v1/tasks/k/trigger", &json!({})).await;
    let late = triggered.expect(202).body["task_id"].clone();
    let cancel = format!("/v1/executions/{}/cancel", late.as_str().expect("an id"));
    server.post(&cancel, &json!({})).await.expect(200);
    let whole = ["execution.created", "execution.cancelled"];
    assert_eq!(kinds(&mut stream).await, whole);
    server
        .post("/v1/tasks/k/pause", &json!({}))
        .await
        .expect(200);
    assert_eq!(kinds(&mut stream).await, ["task.paused"]);
    server
        .post("/v1/tasks/k/resume", &json!({}))
        .await
        .expect(200);
    server.task(&json!({"key": "l"})).await;
    assert_eq!(kinds(&mut stream).await, ["task.changed", "task.created"]);
    server.register("other", &json!({}), &json!({})).await;
    let disable = "/v1/task-types/hello/disable";
    server.post(disable, &json!({})).await.expect(200);
    assert_eq!(
        kinds(&mut stream).await,
        ["plugin.changed", "plugin.activated"]
    );
    assert_eq!(kinds(&mut stream).await, [""; 0]);
    // Time passes, and nothing is told again.
    for minute in 1..4 {
        server.set_now(&format!("2026-01-01T00:0{minute}:00Z"));
        assert_eq!(kinds(&mut stream).await, [""; 0]);
    }
    // What stood for long ends: its end alone is news.
    server.complete(incarnation, &claimed[1], &control).await;
    assert_eq!(kinds(&mut stream).await, ["execution.finished"]);
    // From where it was left all is told to whoever comes, from where it is now nothing.
    let mut again = server.follow(DEFAULT_TENANT_ID, Some(left)).await;
    let told = kinds(&mut again).await;
    let count = |kind: &str| told.iter().filter(|told| **told == kind).count();
    assert_eq!(count("execution.created"), 3, "{told:?}");
    assert_eq!(count("execution.started"), 2, "{told:?}");
    assert_eq!(count("execution.finished"), 2, "{told:?}");
    assert_eq!(count("execution.cancelled"), 1, "{told:?}");
    assert_eq!(count("plugin.activated"), 1, "{told:?}");
    let mut now = server.follow(DEFAULT_TENANT_ID, Some(stream.place())).await;
    assert_eq!(kinds(&mut now).await, [""; 0]);
    // Nobody else heard of it.
    assert_eq!(kinds(&mut others).await, [""; 0]);
}

#[tokio::test]
async fn a_filter_lets_through_the_executions_that_fit_as_they_stand() {
    let server = Harness::with_plugin().await;
    let task = server.task(&json!({"key": "k"})).await;
    server.task(&json!({"key": "l"})).await;
    server.set_now("2026-01-01T00:00:31Z");
    let of_k = ExecutionFilter {
        config_id: task["id"].as_i64(),
        ..ExecutionFilter::default()
    };
    let cancelled = ExecutionFilter {
        states: vec![State::Cancelled],
        ..of_k.clone()
    };
    let mut of_k = server.follow_some(of_k).await;
    let mut ends = server.follow_some(cancelled).await;
    let mut ids = Vec::new();
    for key in ["k", "l"] {
        let path = format!("/v1/tasks/{key}/trigger");
        let triggered = server.post(&path, &json!({})).await.expect(202);
        ids.push(triggered.body["task_id"].clone());
    }
    // Neither the other task's execution nor a task is told of.
    server
        .post("/v1/tasks/k/pause", &json!({}))
        .await
        .expect(200);
    let told: Vec<Event> = of_k.next().await.expect("a look");
    let told: Vec<_> = told.iter().map(|event| &event.data["task_id"]).collect();
    assert_eq!(told, [&ids[0]]);
    assert_eq!(kinds(&mut ends).await, [""; 0]);
    for id in &ids {
        let cancel = format!("/v1/executions/{}/cancel", id.as_str().expect("an id"));
        server.post(&cancel, &json!({})).await.expect(200);
    }
    assert_eq!(kinds(&mut of_k).await, ["execution.cancelled"]);
    assert_eq!(kinds(&mut ends).await, ["execution.cancelled"]);
    // A filter is read as a list's is, and refused as one.
    for (query, pointer) in [
        ("state=done", "/state"),
        ("task=1&config=2", "/task"),
        ("text=", "/text"),
        ("limit=5", "/limit"),
    ] {
        let refused = server.get(&format!("/v1/events?{query}")).await.expect(400);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{query}");
    }
    server.get("/v1/events?task=nothing").await.expect(404);
}

#[tokio::test]
async fn more_than_one_look_reads_is_told_whole() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "k"})).await;
    let mut stream = server.follow(DEFAULT_TENANT_ID, None).await;
    let items: Vec<_> = (0..1200).map(|_| json!({"task": "k"})).collect();
    let batch = json!({ "items": items });
    let batch = server.post("/v1/executions/batch", &batch).await;
    batch.expect(202);
    let cancel = json!({"filter": {"task": "k"}});
    server
        .post("/v1/executions/cancel", &cancel)
        .await
        .expect(200);
    let (mut created, mut cancelled, mut looks) = (0, 0, 0);
    loop {
        let told = kinds(&mut stream).await;
        created += told
            .iter()
            .filter(|kind| **kind == "execution.created")
            .count();
        cancelled += told
            .iter()
            .filter(|kind| **kind == "execution.cancelled")
            .count();
        looks += 1;
        if !stream.is_behind() {
            break;
        }
    }
    assert!(looks < 10, "{looks}");
    assert_eq!(created, 1200);
    assert_eq!(cancelled, 1200, "all at one instant");
}

#[tokio::test]
async fn of_many_that_are_given_back_at_once_all_are_told() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "k"})).await;
    let mut stream = server.follow(DEFAULT_TENANT_ID, None).await;
    let items: Vec<_> = (0..300).map(|_| json!({"task": "k"})).collect();
    let batch = json!({ "items": items });
    let batch = server.post("/v1/executions/batch", &batch).await;
    batch.expect(202);
    let mut releases = Vec::new();
    for _ in 0..3 {
        let (incarnation, claimed) = server.claim_all().await;
        releases.extend(claimed.iter().map(|claimed| Release {
            id: claimed.id,
            claim: claimed.claim,
            incarnation,
            record: None,
            due_at: None,
        }));
    }
    assert_eq!(releases.len(), 300);
    kinds(&mut stream).await;
    let now = at("2026-01-01T00:00:33Z");
    let given_back = server.store.release(now, releases).await;
    assert_eq!(given_back.expect("released"), 300);
    let mut told = 0;
    for _ in 0..3 {
        let kinds = kinds(&mut stream).await;
        assert!(kinds.iter().all(|kind| *kind == "execution.requeued"));
        told += kinds.len();
    }
    assert_eq!(told, 300);
}

#[tokio::test]
async fn the_stream_of_events() {
    let server = Harness::with_plugin().await;
    let answer = server.get("/v1/events").await.expect(200);
    assert!(
        answer.text.starts_with("retry: 1000\nid: "),
        "{}",
        answer.text
    );
    let place = answer.text.trim_end().rsplit(' ').next().expect("an id");
    let header = [("last-event-id", place)];
    let resumed = server.with_headers("GET", "/v1/events", &header, Body::empty());
    let resumed = resumed.await.expect(200);
    assert_eq!(resumed.text, answer.text);
    let none = [("last-event-id", "")];
    let fresh = server.with_headers("GET", "/v1/events", &none, Body::empty());
    fresh.await.expect(200);
    server
        .get("/v1/events?kind=execution.finished,task.paused")
        .await
        .expect(200);
    let wrong = server.get("/v1/events?kind=execution.finishd").await;
    assert!(wrong.problem(400)[0].contains("did you mean `execution.finished`?"));
    for wrong in ["x", "1", "1-", "-1-2", "g-1", "1-2-3"] {
        let header = [("last-event-id", wrong)];
        let answer = server.with_headers("GET", "/v1/events", &header, Body::empty());
        answer.await.problem(400);
    }
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let server = Harness::new();
    let open = async || {
        let request = Request::get("/v1/events")
            .header("authorization", format!("Bearer {}", harness::TOKEN))
            .body(Body::empty())
            .expect("a request");
        let router = server.router.clone();
        tower::ServiceExt::oneshot(router, request)
            .await
            .expect("infallible")
    };
    let mut streams = Vec::new();
    for _ in 0..50 {
        let stream = open().await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let refused = server.get("/v1/events").await;
    refused.problem(429);
    assert_eq!(refused.headers["retry-after"], "10");
    streams.clear();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        if open().await.status() == 200 {
            return;
        }
    }
    panic!("no room was made");
}
