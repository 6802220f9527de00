//! Declarations: compared, applied all together, and refused whole.

use super::harness::task;
use super::*;
use serde_json::{Value, json};

fn declaration(tasks: &[Value]) -> Value {
    json!({"set": "team/tasks", "tasks": tasks})
}

fn nightly(differs: &Value) -> Value {
    let mut nightly = task(&json!({"key": "nightly", "scheduler_type": "cron",
        "schedule_config": {"cron_expression": "0 3 * * *"}}));
    json_patch::merge(&mut nightly, differs);
    nightly
}

/// (action, key or type) of each item.
fn actions(body: &Value) -> Vec<(String, String)> {
    let items = body["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| {
            let name = item["key"].as_str().or(item["task_type"].as_str());
            let action = item["action"].as_str().expect("an action");
            (action.to_owned(), name.unwrap_or_default().to_owned())
        })
        .collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    let wanted = wanted.iter();
    wanted
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_declaration_is_shown_applied_and_then_there() {
    let server = Harness::with_plugin().await;
    let mut body = declaration(&[nightly(&json!({})), task(&json!({"key": "b"}))]);
    body["dry_run"] = true.into();
    let plan = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(
        actions(&plan),
        pairs(&[("create", "nightly"), ("create", "b")])
    );
    assert_eq!(
        (&plan["dry_run"], &plan["created"]),
        (&json!(true), &json!(2))
    );
    let said = plan["items"][0]["changes"].as_array().expect("changes");
    let cron =
        json!({"pointer": "/schedule_config/cron_expression", "old": null, "new": "0 3 * * *"});
    assert!(said.contains(&json!({"pointer": "/name", "old": null, "new": "a task"})));
    assert!(
        said.contains(&cron) || said.iter().any(|c| c["pointer"] == "/schedule_config"),
        "{said:?}"
    );
    server.get("/v1/tasks/nightly").await.expect(404);
    // What was looked at is what is applied.
    body["dry_run"] = false.into();
    body["plan"] = "another".into();
    server.post("/v1/apply", &body).await.problem(412);
    body["plan"] = plan["plan"].clone();
    let done = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(
        (&done["created"], &done["dry_run"]),
        (&json!(2), &json!(false))
    );
    let made = server.get("/v1/tasks/nightly").await.expect(200).body;
    assert_eq!(made["declared_by"], "team/tasks");
    assert_eq!(made["next_fire_at"], "2026-01-01T03:00:00Z");
    let listed = server
        .get("/v1/tasks?declared_by=team/tasks")
        .await
        .expect(200)
        .body;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    // The same again: nothing to do.
    body["plan"] = Value::Null;
    let again = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(
        actions(&again),
        pairs(&[("unchanged", "nightly"), ("unchanged", "b")])
    );
    let after = server.get("/v1/tasks/nightly").await.expect(200).body;
    assert_eq!(after, made, "not even its version");
}

#[tokio::test]
async fn differences_are_told_field_by_field() {
    let server = Harness::with_plugin().await;
    let first = declaration(&[nightly(
        &json!({"max_retries": 1, "parameters": {"n": 1, "deep": {"a": [1]}}}),
    )]);
    server.post("/v1/apply", &first).await.expect(200);
    server.set_now("2026-01-01T12:00:00Z");
    let changed = json!({"parameters": {"n": 1, "deep": {"a": [1, 2]}}, "max_retries": null,
        "schedule_config": {"cron_expression": "0 4 * * *"}});
    let second = declaration(&[nightly(&changed)]);
    let done = server.post("/v1/apply", &second).await.expect(200).body;
    assert_eq!(actions(&done), pairs(&[("update", "nightly")]));
    let mut told: Vec<String> = done["items"][0]["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|c| format!("{} {} {}", c["pointer"], c["old"], c["new"]))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "\"/max_retries\" 1 3",
            "\"/parameters/deep/a\" [1] [1,2]",
            "\"/schedule_config/cron_expression\" \"0 3 * * *\" \"0 4 * * *\"",
        ]
    );
    let shown = server.get("/v1/tasks/nightly").await.expect(200).body;
    assert_eq!(
        (&shown["version"], &shown["max_retries"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(shown["next_fire_at"], "2026-01-02T04:00:00Z");
    // Somebody paused it: a file that says nothing of it leaves it so.
    server
        .post(
            "/v1/tasks/nightly/pause",
            &json!({"reason": "the site is down"}),
        )
        .await
        .expect(200);
    let again = server.post("/v1/apply", &second).await.expect(200).body;
    assert_eq!(actions(&again), pairs(&[("unchanged", "nightly")]));
    let mut resumed = second.clone();
    resumed["tasks"][0]["paused"] = false.into();
    server.post("/v1/apply", &resumed).await.expect(200);
    let shown = server.get("/v1/tasks/nightly").await.expect(200).body;
    assert_eq!(
        (&shown["paused"], &shown["pause_reason"]),
        (&json!(false), &Value::Null)
    );
}

#[tokio::test]
async fn one_bad_item_and_nothing_is_done() {
    let server = Harness::with_plugin().await;
    let mut body = declaration(&[
        task(&json!({"key": "good"})),
        task(&json!({"key": "bad", "task_type": "hallo"})),
        task(&json!({"key": "worse", "parameters": {}, "timeout_seconds": 0})),
        task(&json!({"key": "good"})),
        task(&json!({"key": "chained", "chain": [{"task": "good"}, {"task": "nowhere"}]})),
        task(&json!({"key": "corn", "corn": 1})),
    ]);
    body["plugins"] = json!([{"task_type": "hello", "digest": format!("blake3:{}", "0".repeat(64)),
        "limits": {"fuel": 2000}}]);
    let problems = server.post("/v1/apply", &body).await.problem(422);
    for wanted in [
        "/plugins/0/limits/fuel: ",
        "/tasks/1/task_type: no plugin is registered as `hallo`; did you mean `hello`?",
        "/tasks/2/timeout_seconds: is 0",
        "/tasks/3/key: is the key of /tasks/0 too",
        "/tasks/4/chain/1/task: there is no task",
        "/tasks/5/corn: ",
    ] {
        assert!(
            problems.iter().any(|p| p.starts_with(wanted)),
            "{wanted} in {problems:?}"
        );
    }
    server.get("/v1/tasks/good").await.expect(404);
}

#[tokio::test]
async fn pruning_takes_what_the_set_declared_and_nothing_else() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "by-hand"})).await;
    let other = json!({"set": "other", "tasks": [task(&json!({"key": "theirs"}))]});
    server.post("/v1/apply", &other).await.expect(200);
    let both = declaration(&[task(&json!({"key": "a"})), task(&json!({"key": "b"}))]);
    server.post("/v1/apply", &both).await.expect(200);
    server
        .post("/v1/tasks/b/trigger", &json!({}))
        .await
        .expect(202);
    let mut one = declaration(&[task(&json!({"key": "a"}))]);
    let left = server.post("/v1/apply", &one).await.expect(200).body;
    assert_eq!(
        actions(&left),
        pairs(&[("unchanged", "a"), ("undeclared", "b")])
    );
    server.get("/v1/tasks/b").await.expect(200);
    one["prune"] = true.into();
    let mut chained = one.clone();
    chained["tasks"][0]["chain"] = json!([{"task": "b"}]);
    let problems = server.post("/v1/apply", &chained).await.problem(422);
    assert!(problems[0].contains("would be deleted"), "{problems:?}");
    let pruned = server.post("/v1/apply", &one).await.expect(200).body;
    assert_eq!(
        actions(&pruned),
        pairs(&[("unchanged", "a"), ("delete", "b")])
    );
    assert_eq!(pruned["cancelled"], 1);
    server.get("/v1/tasks/b").await.expect(404);
    for kept in ["by-hand", "theirs", "a"] {
        server.get(&format!("/v1/tasks/{kept}")).await.expect(200);
    }
    let nothing = server.post("/v1/apply", &one).await.expect(200).body;
    assert_eq!(nothing["deleted"], 0);
    // A task of another set is not taken by accident; one that nobody declares is taken.
    let take = |key: &str| declaration(&[task(&json!({"key": key}))]);
    let problems = server.post("/v1/apply", &take("theirs")).await.problem(422);
    assert!(
        problems[0].starts_with("/tasks/0/key: is declared by the set `other`"),
        "{problems:?}"
    );
    let mut taken = take("theirs");
    taken["take_over"] = true.into();
    for body in [taken, take("by-hand")] {
        let done = server.post("/v1/apply", &body).await.expect(200).body;
        assert_eq!(done["items"][0]["changes"][0]["pointer"], "/declared_by");
    }
}

#[tokio::test]
async fn what_changes_after_the_plan_is_not_overwritten() {
    let server = Harness::with_plugin().await;
    let body = declaration(&[nightly(&json!({}))]);
    server.post("/v1/apply", &body).await.expect(200);
    let mut next = declaration(&[nightly(&json!({"priority": 5}))]);
    next["dry_run"] = true.into();
    let plan = server.post("/v1/apply", &next).await.expect(200).body;
    server
        .json("PATCH", "/v1/tasks/nightly", &json!({"priority": 9}))
        .await
        .expect(200);
    next["dry_run"] = false.into();
    next["plan"] = plan["plan"].clone();
    server.post("/v1/apply", &next).await.problem(412);
    assert_eq!(
        server.get("/v1/tasks/nightly").await.expect(200).body["priority"],
        9
    );
}

#[tokio::test]
async fn a_plugin_is_made_active_with_the_tasks_that_need_it() {
    let server = Harness::with_plugin().await;
    let old = server.get("/v1/task-types/hello").await.expect(200).body["active_digest"].clone();
    let stray = server.task(&json!({"key": "stray"})).await;
    // Uploaded beside the version that runs.
    let wants = json!({"parameters_schema": {"required": ["n", "city"]}});
    let version = server
        .register("hello", &wants, &json!({"activate": false, "grants": []}))
        .await;
    let digest = version["digest"].clone();
    let plugin = json!({"task_type": "hello", "digest": digest, "grants": ["state"], "limits": {"fuel": 900}});
    let mut body = declaration(&[task(
        &json!({"key": "fits", "parameters": {"n": 1, "city": "Ulm"}}),
    )]);
    body["plugins"] = json!([plugin]);
    // A task that is not declared would break.
    let problems = server.post("/v1/apply", &body).await.problem(422);
    assert!(
        problems[0].starts_with("/plugins/0/digest: it would break task"),
        "{problems:?}"
    );
    let stray = format!("/v1/tasks/{}", stray["id"]);
    server
        .with_headers("DELETE", &stray, &[], axum::body::Body::empty())
        .await
        .expect(200);
    let mut unfit = body.clone();
    unfit["tasks"][0]["parameters"] = json!({"n": 1});
    server.post("/v1/apply", &unfit).await.problem(422);
    let shown = server.get("/v1/task-types/hello").await.expect(200).body;
    assert_eq!(shown["active_digest"], old, "nothing was done");
    let done = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(
        actions(&done),
        pairs(&[("update", "hello"), ("create", "fits")])
    );
    let shown = server.get("/v1/task-types/hello").await.expect(200).body;
    assert_eq!(shown["active_digest"], digest);
    assert_eq!(shown["active"]["grants"], json!(["state"]));
    assert_eq!(shown["active"]["limits"], json!({"fuel": 900}));
    let again = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(
        actions(&again),
        pairs(&[("unchanged", "hello"), ("unchanged", "fits")])
    );
    // Grants that somebody widened by hand are put back.
    server
        .json(
            "PATCH",
            "/v1/task-types/hello/grants",
            &json!({"add": ["http GET https://a.example"]}),
        )
        .await
        .expect(200);
    let back = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(back["items"][0]["changes"][0]["pointer"], "/grants");
    let grants = server
        .get("/v1/task-types/hello/grants")
        .await
        .expect(200)
        .body;
    assert_eq!(grants["grants"], json!(["state"]));
    // A version nobody uploaded.
    body["plugins"][0]["digest"] = format!("blake3:{}", "7".repeat(64)).into();
    let mut dry = body.clone();
    dry["dry_run"] = true.into();
    let plan = server.post("/v1/apply", &dry).await.expect(200).body;
    assert_eq!(plan["items"][0]["registered"], false);
    let problems = server.post("/v1/apply", &body).await.problem(422);
    assert!(
        problems[0].contains("is not registered yet"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn imports_keep_what_is_there_and_pause_what_does_not_fit() {
    let server = Harness::with_plugin().await;
    let mut body = declaration(&[
        nightly(&json!({})),
        nightly(&json!({"key": "unknown", "task_type": "no_such"})),
        nightly(&json!({"key": "unfit", "parameters": {"n": "one"}})),
    ]);
    body["existing"] = "keep".into();
    body["unfit"] = "pause".into();
    server.post("/v1/apply", &body).await.expect(200);
    for (key, reason) in [
        ("unknown", "no plugin is registered as `no_such`"),
        ("unfit", "/parameters/n"),
    ] {
        let made = server
            .get(&format!("/v1/tasks/{key}"))
            .await
            .expect(200)
            .body;
        assert_eq!(made["paused"], true);
        let told = made["pause_reason"].as_str().expect("a reason");
        assert!(told.contains(reason), "{told}");
        assert_eq!(made["next_fire_at"], Value::Null);
    }
    server
        .json("PATCH", "/v1/tasks/nightly", &json!({"name": "mine"}))
        .await
        .expect(200);
    let again = server.post("/v1/apply", &body).await.expect(200).body;
    assert_eq!(
        (&again["created"], &again["updated"], &again["unchanged"]),
        (&json!(0), &json!(0), &json!(3))
    );
    assert_eq!(
        server.get("/v1/tasks/nightly").await.expect(200).body["name"],
        "mine"
    );
}

#[tokio::test]
async fn plugins_are_declared_by_whoever_may_grant() {
    use horarium_model::access::Role;
    let server = Harness::with_plugin().await;
    let digest = server.get("/v1/task-types/hello").await.expect(200).body["active_digest"].clone();
    let mut body = declaration(&[]);
    let (_, token) = server
        .token(
            "default",
            Role::Operator,
            &json!({"scope": ["tasks:write"]}),
        )
        .await;
    server
        .by(&token, "POST", "/v1/apply", &body)
        .await
        .expect(200);
    body["plugins"] = json!([{"task_type": "hello", "digest": digest, "grants": ["state"]}]);
    let refused = server.by(&token, "POST", "/v1/apply", &body).await;
    refused.problem(403);
}
