//! Lists and their cursors.

use super::*;
use horarium_core::clock::Clock;
use horarium_core::store::{HostFacts, Queue};
use serde_json::{Value, json};

#[tokio::test]
async fn pages_cover_everything_once_newest_first() {
    let server = Harness::with_plugin().await;
    for i in 0..7 {
        server.task(&json!({"name": format!("task {i}")})).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/tasks?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let page = server.get(&path).await.expect(200).body;
        pages += 1;
        names.extend(
            page["items"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|t| t["name"].clone()),
        );
        match &page["next_cursor"] {
            Value::Null => break,
            cursor => {
                path = format!(
                    "/v1/tasks?limit=3&cursor={}",
                    cursor.as_str().expect("a text")
                )
            }
        }
    }
    let expected: Vec<Value> = (0..7).rev().map(|i| json!(format!("task {i}"))).collect();
    assert_eq!((names, pages), (expected, 3));
    let named = server.get("/v1/tasks?name=TASK%203").await.expect(200).body;
    assert_eq!(named["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn executions_are_filtered_by_what_they_are() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "one"})).await;
    server.task(&json!({"key": "two"})).await;
    for key in ["one", "one", "two"] {
        server
            .post(&format!("/v1/tasks/{key}/trigger"), &json!({}))
            .await
            .expect(202);
    }
    let count = async |query: &str| {
        let body = server
            .get(&format!("/v1/executions?{query}"))
            .await
            .expect(200)
            .body;
        body["items"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(count("task=one").await, 2);
    assert_eq!(count("config=two&state=available,running").await, 1);
    assert_eq!(count("state=failed&state=cancelled").await, 0);
    assert_eq!(count("trigger=manual&task_type=hello").await, 3);
    assert_eq!(count("since=2026-01-01T00:00:31Z").await, 0);
    assert_eq!(count("task=999").await, 0);
    assert_eq!(count("task=one&config=one").await, 2);
    assert_eq!(count("task=one&config=two").await, 0);
    for query in [
        "state=done",
        "trigger=x",
        "since=yesterday",
        "error_kind=oops",
    ] {
        server
            .get(&format!("/v1/executions?{query}"))
            .await
            .problem(400);
    }
    server.get("/v1/executions?task=nobody").await.problem(404);
}

#[tokio::test]
async fn next_previews_slots_with_what_becomes_of_them() {
    let server = Harness::with_plugin().await;
    let cron = json!({"key": "c", "scheduler_type": "cron", "schedule_config": {"cron_expression": "0 * * * *"}});
    server.task(&cron).await;
    server
        .post("/v1/tasks/c/trigger", &json!({}))
        .await
        .expect(202);
    let next = server
        .get("/v1/tasks/c/next?count=2")
        .await
        .expect(200)
        .body;
    assert_eq!(
        next["slots"],
        json!(["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"])
    );
    let note = next["preview"][0]["note"]
        .as_str()
        .expect("an execution lives");
    assert!(note.contains("overlap"), "{note}");
    assert_eq!(
        next["preview"][1],
        json!({"slot": "2026-01-01T02:00:00Z", "fires_at": "2026-01-01T02:00:00Z", "note": null})
    );
    let later = server
        .get("/v1/tasks/c/next?count=1&after=2026-01-01T02:00:00Z")
        .await
        .expect(200);
    assert_eq!(later.body["slots"], json!(["2026-01-01T03:00:00Z"]));
    server.get("/v1/tasks/c/next?count=0").await.problem(400);
}

#[tokio::test]
async fn why_says_the_rule() {
    let server = Harness::with_plugin().await;
    let hourly = json!({"key": "c", "scheduler_type": "cron", "schedule_config": {"cron_expression": "0 * * * *"}});
    let id = server.task(&hourly).await["id"].clone();
    let why = server.get("/v1/tasks/c/why").await.expect(200).body;
    assert_eq!((&why["id"], &why["state"]), (&id, &json!("waiting")));
    assert_eq!(why["reason"], "not_due");
    assert_eq!(why["next_fire_at"], "2026-01-01T01:00:00Z");
    assert_eq!(why["slot"], Value::Null);
    let reason = json!({"reason": "holiday"});
    server.post("/v1/tasks/c/pause", &reason).await.expect(200);
    let slot = "/v1/tasks/c/why?slot=2026-01-01T01:30:00Z";
    let why = server.get(slot).await.expect(200).body;
    assert_eq!(
        (&why["state"], &why["reason"]),
        (&json!("held"), &json!("paused"))
    );
    let message = why["message"].as_str().expect("a sentence");
    assert!(message.contains("holiday"), "{message}");
    assert_eq!(why["slot"]["reason"], "not_a_slot");
    server.get("/v1/tasks/c/why?slot=soon").await.problem(400);
    server.get("/v1/tasks/99/why").await.problem(404);
}

#[tokio::test]
async fn the_host_and_the_metrics_are_told() {
    let server = Harness::with_plugin().await;
    let now = server.clock.now();
    let incarnation = server.store.start_host(now, "here").await;
    let incarnation = incarnation.expect("started");
    let facts = HostFacts {
        version: "1.2.3".into(),
        slots: 16,
        memory_bytes: 1 << 30,
        loaded: vec!["hello".into()],
        secret_keys: Vec::new(),
        alerts: None,
    };
    let told = server.store.describe_host(incarnation, facts).await;
    told.expect("described");
    let hosts = server.get("/v1/hosts").await.expect(200).body;
    assert_eq!(
        hosts["items"],
        json!([{"name": "here", "incarnation": incarnation, "is_answering": false, "version": "1.2.3",
            "slots": 16, "memory_bytes": 1 << 30, "running": 0, "executions": [], "loaded": ["hello"],
            "started_at": "2026-01-01T00:00:30Z", "seen_at": "2026-01-01T00:00:30Z"}])
    );
    let second = server.store.start_host(now, "there").await;
    let second = second.expect("started");
    let page = server.get("/v1/hosts?limit=1").await.expect(200).body;
    assert_eq!(page["items"][0]["name"], "here");
    let cursor = page["next_cursor"].as_str().expect("there is another");
    let path = format!("/v1/hosts?limit=1&cursor={cursor}");
    let page = server.get(&path).await.expect(200).body;
    assert_eq!(page["items"][0]["incarnation"], second);
    assert_eq!(page["next_cursor"], Value::Null);
    assert_eq!(
        server.get("/v1/me").await.expect(200).body["role"],
        "host-admin"
    );
    let metrics = server.get("/metrics").await.expect(200).text;
    assert!(
        metrics.contains("horarium_queue_depth{state=\"available\"} 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains(
            "horarium_http_requests_total{method=\"GET\",route=\"/v1/hosts\",status=\"200\"} 3"
        ),
        "{metrics}"
    );
}
