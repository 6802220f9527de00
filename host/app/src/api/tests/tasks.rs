//! Task configs, their parameters and state, pause and resume, triggers.

use super::harness::task;
use super::*;
use axum::body::Body;
use horarium_core::store::Catalog;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn id(value: &Value) -> i64 {
    value["id"].as_i64().expect("an id")
}

impl Harness {
    async fn patch(&self, path: &str, etag: Option<&str>, body: &Value) -> Answer {
        let mut headers = vec![("content-type", "application/merge-patch+json")];
        headers.extend(etag.map(|etag| ("if-match", etag)));
        self.with_headers("PATCH", path, &headers, body.to_string())
            .await
    }
}

#[tokio::test]
async fn a_task_lives_from_create_to_delete() {
    let server = Harness::with_plugin().await;
    let created = server
        .post(
            "/v1/tasks",
            &task(&json!({"key": "k", "scheduler_type": "CRON",
            "schedule_config": {"cron_expression": "* * * * *"}})),
        )
        .await
        .expect(201);
    assert_eq!(created.headers["etag"], "\"1\"");
    let id = id(&created.body);
    assert_eq!(
        created.headers["location"],
        format!("/v1/tasks/{id}").as_str()
    );
    assert_eq!(created.body["scheduler_type"], "cron");
    assert_eq!(created.body["next_fire_at"], "2026-01-01T00:01:00Z");
    assert_eq!(
        server.get("/v1/tasks/k").await.expect(200).body,
        created.body
    );
    server
        .post("/v1/tasks", &task(&json!({"key": "k"})))
        .await
        .problem(409);

    let changed = server
        .patch(
            "/v1/tasks/k",
            Some("\"1\""),
            &json!({"priority": 5, "name": "new"}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&changed.body["priority"], &changed.headers["etag"]),
        (&json!(5), &"\"2\"".parse().expect("etag"))
    );
    server
        .patch("/v1/tasks/k", Some("\"1\""), &json!({"priority": 6}))
        .await
        .problem(412);
    let kind = json!({"scheduler_type": "manual"});
    let manual = server.patch("/v1/tasks/k", None, &kind).await.expect(200);
    assert_eq!(manual.body["schedule_config"], json!({}));
    assert_eq!(manual.body["next_fire_at"], Value::Null);

    let path = format!("/v1/tasks/{id}?history=keep");
    let deleted = server
        .with_headers("DELETE", &path, &[], Body::empty())
        .await;
    assert_eq!(
        deleted.expect(200).body,
        json!({"cancelled": 0, "running": 0})
    );
    server.get("/v1/tasks/k").await.problem(404);
    server
        .with_headers("DELETE", "/v1/tasks/k?history=perhaps", &[], Body::empty())
        .await
        .problem(400);
}

#[tokio::test]
async fn a_patch_that_changes_nothing_keeps_the_version() {
    let server = Harness::with_plugin().await;
    let task = server.task(&json!({})).await;
    let path = format!("/v1/tasks/{}", id(&task));
    let same = server.patch(&path, None, &json!({"name": "a task"})).await;
    assert_eq!(same.expect(200).body["version"], 1);
}

#[tokio::test]
async fn parameters_are_read_by_pointer_and_changed_in_three_ways() {
    let server = Harness::with_plugin().await;
    let task = server
        .task(&json!({"parameters": {"n": 1, "a": {"b": [10, 20]}}}))
        .await;
    let path = format!("/v1/tasks/{}/parameters", id(&task));
    assert_eq!(
        server
            .get(&format!("{path}?pointer=/a/b/1"))
            .await
            .expect(200)
            .body,
        20
    );
    assert_eq!(
        server
            .get(&format!("{path}?pointer=/x&default=%7B%7D"))
            .await
            .expect(200)
            .body,
        json!({})
    );
    server.get(&format!("{path}?pointer=/x")).await.problem(404);
    server.get(&format!("{path}?pointer=x")).await.problem(422);

    let merged = server
        .patch(&path, None, &json!({"a": null, "c": 1}))
        .await
        .expect(200);
    assert_eq!(merged.body, json!({"n": 1, "c": 1}));
    let kind = [("content-type", "application/json-patch+json")];
    let patch = json!([{"op": "test", "path": "/c", "value": 1}, {"op": "replace", "path": "/c", "value": 2}]);
    let patched = server
        .with_headers("PATCH", &path, &kind, patch.to_string())
        .await;
    assert_eq!(patched.expect(200).body["c"], 2);
    let again = server
        .with_headers("PATCH", &path, &kind, patch.to_string())
        .await;
    again.problem(422);
    let replaced = server
        .json("PUT", &path, &json!({"n": 9}))
        .await
        .expect(200);
    assert_eq!(
        (&replaced.body, &replaced.headers["etag"]),
        (&json!({"n": 9}), &"\"4\"".parse().expect("etag"))
    );
    let refused = server
        .patch(&path, None, &json!({"n": "x"}))
        .await
        .problem(422);
    assert!(refused[0].starts_with("/parameters/n"), "{refused:?}");
    server.json("PUT", &path, &json!([])).await.problem(422);
    // What can be no parameters at all is told before what is stale.
    let stale = [("content-type", "application/json"), ("if-match", "\"1\"")];
    let refused = server.with_headers("PUT", &path, &stale, "[]".to_owned());
    refused.await.problem(422);
    assert_eq!(server.get(&path).await.body, json!({"n": 9}));
}

#[tokio::test]
async fn concurrent_changes_of_parameters_are_all_kept() {
    let server = Arc::new(Harness::with_plugin().await);
    let task = server.task(&json!({})).await;
    let path = format!("/v1/tasks/{}/parameters", id(&task));
    let writers: Vec<_> = (0..50)
        .map(|i| {
            let (server, path) = (server.clone(), path.clone());
            tokio::spawn(async move {
                let change = json!({format!("k{i}"): i});
                server.patch(&path, None, &change).await.status
            })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.expect("no panic"), 200);
    }
    let kept = server.get(&path).await.body;
    assert_eq!(kept.as_object().map(|m| m.len()), Some(51));
}

#[tokio::test]
async fn a_pause_becomes_one_skipped_row_and_makes_nothing_up() {
    let server = Harness::with_plugin().await;
    let task = server
        .task(
            &json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": "* * * * *"}}),
        )
        .await;
    let path = format!("/v1/tasks/{}", id(&task));
    let paused = server
        .post(&format!("{path}/pause"), &json!({"reason": "lunch"}))
        .await
        .expect(200);
    assert_eq!(
        (&paused.body["paused"], &paused.body["pause_reason"]),
        (&json!(true), &json!("lunch"))
    );
    assert_eq!(paused.body["next_fire_at"], Value::Null);
    let next = server
        .get(&format!("{path}/next?count=2"))
        .await
        .expect(200)
        .body;
    assert!(
        next["preview"][0]["note"]
            .as_str()
            .is_some_and(|n| n.contains("lunch")),
        "{next}"
    );

    server.set_now("2026-01-01T00:10:30Z");
    let resumed = server
        .post(&format!("{path}/resume"), &json!({}))
        .await
        .expect(200);
    assert_eq!(resumed.body["next_fire_at"], "2026-01-01T00:11:00Z");
    let rows = server
        .get(&format!("/v1/executions?task={}", id(&task)))
        .await
        .body["items"]
        .clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    let row = &rows[0];
    assert_eq!(
        (&row["state"], &row["skip_reason"], &row["slot_count"]),
        (&json!("skipped"), &json!("paused"), &json!(10))
    );
    assert_eq!(
        (&row["slot"], &row["slot_last"]),
        (
            &json!("2026-01-01T00:01:00Z"),
            &json!("2026-01-01T00:10:00Z")
        )
    );
    let retry = format!(
        "/v1/executions/{}/retry",
        row["task_id"].as_str().expect("an id")
    );
    server.post(&retry, &json!({})).await.problem(409);
}

#[tokio::test]
async fn changing_the_schedule_starts_it_anew_and_other_changes_do_not() {
    let server = Harness::with_plugin().await;
    let task = server
        .task(&json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": "*/10 * * * *"}}))
        .await;
    let path = format!("/v1/tasks/{}", id(&task));
    server.set_now("2026-01-01T00:30:30Z");
    let renamed = server
        .patch(&path, None, &json!({"name": "x"}))
        .await
        .expect(200)
        .body;
    assert_eq!(renamed["next_fire_at"], "2026-01-01T00:10:00Z");
    let jitter = json!({"schedule_config": {"catch_up": "all"}});
    let same = server.patch(&path, None, &jitter).await.expect(200).body;
    assert_eq!(same["next_fire_at"], "2026-01-01T00:10:00Z");
    let expression = json!({"schedule_config": {"cron_expression": "*/20 * * * *"}});
    let anew = server
        .patch(&path, None, &expression)
        .await
        .expect(200)
        .body;
    assert_eq!(anew["next_fire_at"], "2026-01-01T00:40:00Z");
    assert_eq!(anew["anchor_at"], "2026-01-01T00:30:30Z");
}

#[tokio::test]
async fn a_trigger_freezes_parameters_works_while_paused_and_can_refuse() {
    let server = Harness::with_plugin().await;
    let task = server
        .task(&json!({"paused": true, "priority": 3, "overlap": "skip"}))
        .await;
    let path = format!("/v1/tasks/{}/trigger", id(&task));
    let first = server.post(&path, &json!({})).await.expect(202).body;
    assert_eq!(first["parameters"], json!({"n": 1, "m": 7}));
    assert_eq!(
        (&first["trigger"], &first["state"], &first["priority"]),
        (&json!("manual"), &json!("available"), &json!(3))
    );
    let second = server
        .post(&path, &json!({"parameters": {"n": 2}, "priority": -3}))
        .await
        .expect(202)
        .body;
    assert_eq!(
        (&second["parameters"]["n"], &second["priority"]),
        (&json!(2), &json!(-3))
    );
    server
        .post(&path, &json!({"if_running": "refuse"}))
        .await
        .problem(409);
    let wrong = server
        .post(&path, &json!({"parameters": {"n": "x"}}))
        .await
        .problem(422);
    assert!(wrong[0].starts_with("/parameters/n"));
    server
        .post(&path, &json!({"if_runing": "queue"}))
        .await
        .problem(422);
    server
        .post("/v1/tasks/77/trigger", &json!({}))
        .await
        .problem(404);
    let listed = server.get("/v1/executions").await.body["items"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn state_is_shown_set_and_forgotten() {
    let server = Harness::with_plugin().await;
    let task = server.task(&json!({"limits": {"state_bytes": 100}})).await;
    let path = format!("/v1/tasks/{}/state", id(&task));
    let set = server
        .json("PUT", &format!("{path}/a%2Fb"), &json!({"value": "text"}))
        .await;
    assert_eq!(
        set.expect(200).body,
        json!({"key": "a/b", "size_bytes": 4, "version": 1, "value": "text"})
    );
    let bytes = json!({"value": {"base64": "AAE="}});
    server
        .json("PUT", &format!("{path}/bin"), &bytes)
        .await
        .expect(200);
    let listed = server.get(&path).await.expect(200).body;
    assert_eq!(listed["items"][1]["value"], json!({"base64": "AAE="}));
    assert!(
        listed["items"][1]["version"]
            .as_i64()
            .is_some_and(|v| v > 0)
    );
    let large = json!({"value": "x".repeat(101)});
    server
        .json("PUT", &format!("{path}/c"), &large)
        .await
        .problem(422);
    server
        .json("PUT", &format!("{path}/c"), &json!({"value": 1}))
        .await
        .problem(422);
    server
        .json("DELETE", &format!("{path}/bin"), &json!({}))
        .await
        .expect(204);
    server
        .json("DELETE", &format!("{path}/bin"), &json!({}))
        .await
        .problem(404);
    let reset = server.json("DELETE", &path, &json!({})).await.expect(200);
    assert_eq!(reset.body, json!({"deleted": 1}));
    assert!(
        server
            .store
            .task_state(1, id(&task))
            .await
            .expect("read")
            .is_empty()
    );
}
