//! Registration to its end, and what decides which version runs.

use super::*;
use horarium_core::clock::Clock;
use horarium_core::store::Catalog;
use horarium_model::DEFAULT_TENANT_ID;
use horarium_model::descriptor::Descriptor;
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::{PluginVersion, VersionState};
use serde_json::{Value, json};

fn warnings(version: &Value) -> String {
    version["warnings"].to_string()
}

#[tokio::test]
async fn a_registration_answers_compiling_and_ends_ready_and_active() {
    let server = Harness::new();
    let asked = json!({"summary": "s", "capabilities": ["state", "http GET https://a.example"]});
    let answer = server
        .upload("hello", &asked, &json!({"grants": ["state"]}))
        .await;
    assert_eq!(answer.expect(202).body["state"], "compiling");
    let version = server
        .register("hello", &asked, &json!({"grants": ["state"]}))
        .await;
    assert_eq!(
        (&version["state"], &version["is_active"]),
        (&json!("ready"), &json!(true))
    );
    assert!(
        warnings(&version).contains("--grant 'http GET https://a.example'"),
        "{version}"
    );
    let shown = server.get("/v1/task-types/hello").await.expect(200).body;
    assert_eq!(shown["active_digest"], version["digest"]);
    assert_eq!(shown["active"]["descriptor"]["summary"], "s");
}

#[tokio::test]
async fn grant_asked_grants_all_and_grants_can_be_replaced() {
    let server = Harness::new();
    let asked = json!({"capabilities": ["state"]});
    let version = server
        .register("hello", &asked, &json!({"grant_asked": true}))
        .await;
    assert_eq!(version["grants"], json!(["state"]));
    assert_eq!(version["warnings"], json!([]));
    let path = "/v1/task-types/hello/grants";
    server
        .json("PUT", path, &json!({"grants": []}))
        .await
        .expect(200);
    assert_eq!(server.get(path).await.body, json!({"grants": []}));
    server.json("PUT", path, &json!({})).await.problem(422);
}

#[tokio::test]
async fn a_compile_that_fails_is_told_and_can_be_tried_again() {
    let server = Harness::new();
    let version = server
        .register("hello", &json!("out of memory"), &json!({}))
        .await;
    assert_eq!(
        (&version["state"], &version["error"]),
        (&json!("failed"), &json!("out of memory"))
    );
    let refused = server
        .register("hello", &json!({"sumary": "x"}), &json!({}))
        .await;
    assert_eq!(refused["state"], "failed");
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|e| e.contains("sumary"))
    );
}

#[tokio::test]
async fn the_operators_description_wins_field_by_field() {
    let server = Harness::new();
    let version = server
        .register(
            "hello",
            &json!({"summary": "theirs", "version": "1.0.0"}),
            &json!({"descriptor": {"summary": "ours"}}),
        )
        .await;
    assert_eq!(version["descriptor"]["summary"], "ours");
    assert_eq!(version["descriptor"]["version"], "1.0.0");
}

#[tokio::test]
async fn known_bytes_take_the_wishes_of_now() {
    let server = Harness::new();
    let bytes = json!({"summary": "theirs"});
    let wish = json!({"limits": {"fuel": 500}, "descriptor": {"version": "1"}});
    server.register("hello", &bytes, &wish).await;
    let kept = server.register("hello", &bytes, &json!({})).await;
    assert_eq!(kept["limits"], json!({"fuel": 500}), "not wished anew");
    assert_eq!(kept["descriptor"]["version"], "1");
    let wish = json!({"limits": {"fuel": 600}, "descriptor": {"summary": "ours"}});
    let changed = server.register("hello", &bytes, &wish).await;
    assert_eq!(changed["limits"], json!({"fuel": 600}));
    let descriptor = &changed["descriptor"];
    assert_eq!(
        (&descriptor["summary"], &descriptor["version"]),
        (&json!("ours"), &json!("1"))
    );
    // A description that a task of the running version does not fit changes nothing.
    let task = json!({"name": "n", "task_type": "hello", "scheduler_type": "manual"});
    server.json("POST", "/v1/tasks", &task).await.expect(201);
    let strict = json!({"limits": {"fuel": 700}, "descriptor": {"parameters_schema": {"required": ["other"]}}});
    let refused = server.upload("hello", &bytes, &strict).await;
    refused.problem(409);
    assert!(
        refused.text.contains("it would break task 1"),
        "{}",
        refused.text
    );
    let digest = changed["digest"].as_str().expect("a digest");
    let same = server.finished("hello", digest).await;
    assert_eq!(
        (&same["limits"], &same["descriptor"]),
        (&changed["limits"], descriptor)
    );
}

#[tokio::test]
async fn a_version_that_would_break_a_task_stays_beside_until_a_person_says_so() {
    let server = Harness::with_plugin().await;
    let task = server.task(&json!({})).await;
    let first = server.get("/v1/task-types/hello").await.body["active_digest"].clone();
    let strict = json!({"parameters_schema": {"required": ["other"]}});
    let version = server.register("hello", &strict, &json!({})).await;
    assert_eq!(
        (&version["state"], &version["is_active"]),
        (&json!("ready"), &json!(false))
    );
    let said = warnings(&version);
    assert!(
        said.contains("not made active") && said.contains(&format!("task {}", task["id"])),
        "{said}"
    );
    let body = json!({"digest": version["digest"]});
    let path = "/v1/task-types/hello/activate";
    let active = server.post(path, &body).await.expect(200).body;
    assert_eq!(active["active_digest"], version["digest"]);
    server
        .post(path, &json!({"digest": first}))
        .await
        .expect(200);
    server
        .post(path, &json!({"digest": "x"}))
        .await
        .problem(404);
}

#[tokio::test]
async fn a_version_that_asks_for_more_than_the_active_one_has_stays_beside() {
    let server = Harness::new();
    server
        .register("hello", &json!({"summary": "1"}), &json!({}))
        .await;
    let more = json!({"summary": "2", "capabilities": ["state"]});
    let version = server
        .register("hello", &more, &json!({"grant_asked": true}))
        .await;
    assert_eq!(version["is_active"], false);
    let same = json!({"summary": "3"});
    let version = server.register("hello", &same, &json!({})).await;
    assert_eq!(version["is_active"], true);
    let beside = server
        .register(
            "hello",
            &json!({"summary": "4"}),
            &json!({"activate": false}),
        )
        .await;
    assert_eq!(
        (&beside["state"], &beside["is_active"]),
        (&json!("ready"), &json!(false))
    );
    let versions = server
        .get("/v1/task-types/hello/versions")
        .await
        .expect(200);
    assert_eq!(versions.body["items"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn a_disabled_type_says_so_and_bare_bytes_register_too() {
    let server = Harness::new();
    let wasm = [("content-type", "application/wasm")];
    let path = "/v1/task-types/bare/versions";
    server
        .with_headers("POST", path, &wasm, "\0asm")
        .await
        .expect(202);
    let path = "/v1/task-types/bare/disable";
    let disabled = server
        .post(path, &json!({"disabled": true}))
        .await
        .expect(200);
    assert_eq!(disabled.body["disabled"], true);
    let freed = server
        .post(path, &json!({"disabled": false}))
        .await
        .expect(200);
    assert_eq!(freed.body["disabled"], false);
    let near = server.get("/v1/task-types/bar").await;
    near.problem(404);
}

#[tokio::test]
async fn a_registration_that_a_crash_broke_off_is_finished_as_it_was_wished() {
    let server = Harness::new();
    let bytes = b"\0asm{\"capabilities\": [\"state\"]}".to_vec();
    let digest = horarium_model::task_type::digest(&bytes);
    let version = PluginVersion {
        tenant_id: DEFAULT_TENANT_ID,
        task_type: "hello".into(),
        digest: digest.clone(),
        state: VersionState::Compiling,
        error: None,
        size_bytes: bytes.len() as u64,
        descriptor: Descriptor::default(),
        grants: Vec::new(),
        limits: LimitOverrides::default(),
        input: Default::default(),
        activate: true,
        grant_asked: true,
        warnings: Vec::new(),
        created_at: server.clock.now(),
    };
    let now = server.clock.now();
    let kept = server.store.add_version(now, version, bytes).await;
    kept.expect("kept");
    server
        .plugins
        .resume_registrations()
        .await
        .expect("resumed");
    let finished = server.finished("hello", &digest).await;
    assert_eq!(
        (
            &finished["state"],
            &finished["grants"],
            &finished["is_active"]
        ),
        (&json!("ready"), &json!(["state"]), &json!(true))
    );
}

#[tokio::test]
async fn a_types_bounds_are_changed_and_its_breaker_reset() {
    let server = Harness::new();
    server.register("hello", &json!({}), &json!({})).await;
    let path = "/v1/task-types/hello";
    let shown = server.get(path).await.expect(200).body;
    assert_eq!(shown["concurrency"], json!({"max": null, "backlog": null}));
    assert_eq!(shown["breaker"], Value::Null);
    let change = json!({"concurrency": {"max": 3, "backlog": 1}});
    let changed = server.json("PATCH", path, &change).await.expect(200).body;
    assert_eq!(changed["concurrency"], json!({"max": 3, "backlog": 1}));
    // What is not named stays; null takes a bound away.
    let change = json!({"concurrency": {"max": null}});
    let changed = server.json("PATCH", path, &change).await.expect(200).body;
    assert_eq!(changed["concurrency"], json!({"max": null, "backlog": 1}));
    for bad in [
        json!({}),
        json!({"concurrency": {"max": 0}}),
        json!({"concurrency": {"most": 1}}),
        json!({"disabled": true}),
    ] {
        server.json("PATCH", path, &bad).await.problem(422);
    }
    let task = json!({"name": "n", "task_type": "hello", "scheduler_type": "manual", "key": "n"});
    server.json("POST", "/v1/tasks", &task).await.expect(201);
    let trigger = "/v1/tasks/n/trigger";
    server.json("POST", trigger, &json!({})).await.expect(202);
    let refused = server.json("POST", trigger, &json!({})).await;
    refused.problem(429);
    assert_eq!(refused.headers["retry-after"], "10");
    assert!(
        refused
            .text
            .contains("its plugin's backlog is full, 1 executions wait")
    );
    let reset = "/v1/task-types/hello/breaker/reset";
    let reset = server
        .json("POST", reset, &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(reset["breaker"], Value::Null);
}

#[tokio::test]
async fn versions_are_compared_and_gone_back_to() {
    let server = Harness::new();
    let path = |rest: &str| format!("/v1/task-types/hello{rest}");
    server.get(&path("/diff")).await.problem(404);
    let first = json!({"version": "1", "summary": "s"});
    let first = server.register("hello", &first, &json!({})).await;
    server.get(&path("/diff")).await.problem(409);
    server
        .post(&path("/rollback"), &json!({}))
        .await
        .problem(409);
    let wish = json!({"activate": false, "limits": {"fuel": 5}});
    let strict = json!({"version": "2", "summary": "s", "parameters_schema": {"required": ["x"]}});
    let second = server.register("hello", &strict, &wish).await;
    server.task(&json!({"key": "nightly"})).await;
    let diff = server.get(&path("/diff")).await.expect(200).body;
    assert_eq!(
        (&diff["from_digest"], &diff["to_digest"]),
        (&first["digest"], &second["digest"]),
        "the newest against the one that runs"
    );
    let changes = diff["changes"].as_array().expect("changes");
    let told: Vec<&Value> = changes.iter().map(|change| &change["pointer"]).collect();
    for field in [
        "/descriptor/version",
        "/descriptor/parameters_schema",
        "/limits/fuel",
    ] {
        assert!(told.contains(&&json!(field)), "{field} not in {told:?}");
    }
    assert!(!told.contains(&&json!("/descriptor/summary")) && !told.contains(&&json!("/digest")));
    let obstacle = diff["obstacle"].as_str().expect("an obstacle");
    assert!(obstacle.contains("it would break task"), "{obstacle}");

    let activate = json!({"digest": second["digest"]});
    server.post(&path("/activate"), &activate).await.expect(200);
    let diff = server.get(&path("/diff")).await.expect(200).body;
    assert_eq!(
        (&diff["from_digest"], &diff["to_digest"], &diff["obstacle"]),
        (&first["digest"], &second["digest"], &Value::Null),
        "what runs against what ran before"
    );
    let digest = |version: &Value| version["digest"].as_str().expect("a digest").to_owned();
    let named = format!(
        "/diff?from_digest={}&to_digest={}",
        digest(&second),
        digest(&first)
    );
    let named = server.get(&path(&named)).await.expect(200).body;
    assert_eq!(named["to_digest"], first["digest"]);
    server
        .get(&path("/diff?to_digest=blake3:0"))
        .await
        .problem(404);
    server.get(&path("/diff?from=x")).await.problem(400);

    for (now, before) in [(&first, &second), (&second, &first)] {
        let back = server
            .post(&path("/rollback"), &json!({}))
            .await
            .expect(200)
            .body;
        assert_eq!(
            (&back["active_digest"], &back["previous_digest"]),
            (&now["digest"], &before["digest"])
        );
    }
    server
        .post(&path("/rollback"), &json!({"to": 1}))
        .await
        .problem(422);
}

#[tokio::test]
async fn a_plugin_that_nothing_uses_is_removed() {
    let server = Harness::with_plugin().await;
    server.register("other", &json!({}), &json!({})).await;
    let task = server.task(&json!({"key": "nightly"})).await;
    let path = "/v1/task-types/hello";
    let refused = server.json("DELETE", path, &json!({})).await;
    refused.problem(409);
    assert!(refused.text.contains("1 tasks name it"), "{}", refused.text);
    let waiting = "/v1/task-types/hello?cancel_waiting=true";
    let triggered = server.post("/v1/tasks/nightly/trigger", &json!({})).await;
    let execution = triggered.expect(202).body["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    server
        .json("DELETE", waiting, &json!({}))
        .await
        .problem(409);
    let shown = format!("/v1/executions/{execution}");
    let shown = || server.get(&shown);
    assert_eq!(
        shown().await.body["state"],
        "available",
        "a refusal cancels nothing"
    );

    let moved = json!({"task_type": "other"});
    let task = format!("/v1/tasks/{}", task["id"]);
    server.json("PATCH", &task, &moved).await.expect(200);
    let refused = server.json("DELETE", path, &json!({})).await;
    refused.problem(409);
    assert!(
        refused.text.contains("--cancel-waiting"),
        "{}",
        refused.text
    );
    let removed = server
        .json("DELETE", waiting, &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(removed, json!({"task_type": "hello", "cancelled": 1}));
    assert_eq!(shown().await.expect(200).body["state"], "cancelled");
    server.get(path).await.problem(404);
    server.json("DELETE", path, &json!({})).await.problem(404);
    // The name is free again.
    let again = server
        .register("hello", &json!({"summary": "new"}), &json!({}))
        .await;
    assert_eq!(again["is_active"], true);
}
