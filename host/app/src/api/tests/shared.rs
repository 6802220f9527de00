//! Task types that the host shares: every tenant uses them, a host-admin alone changes them, and no tenant learns of
//! another by them.

use super::*;
use horarium_core::store::Access as _;
use horarium_core::wake::Wakes;
use horarium_model::DEFAULT_TENANT_ID;
use horarium_model::access::Role;
use serde_json::{Value, json};

const WANTS_N: &str = r#"{"parameters_schema": {"required": ["n"]}}"#;

impl Harness {
    async fn upload_shared(&self, name: &str, describe: &Value) -> Answer {
        self.upload_by(harness::TOKEN, name, "?shared=true", describe)
            .await
    }

    /// A server with the ready shared plugin `report`, which wants `n`.
    async fn sharing() -> Self {
        let server = Self::new();
        server.share(WANTS_N).await;
        server
    }

    async fn share(&self, describe: &str) -> Value {
        let describe = serde_json::from_str(describe).expect("JSON");
        let answer = self.upload_shared("report", &describe).await.expect(202);
        let digest = answer.body["digest"].as_str().expect("a digest");
        self.finished("report", digest).await
    }

    /// A tenant and the token of its admin.
    async fn house(&self, name: &str) -> String {
        self.tenant(name).await;
        self.token(name, Role::Admin, &json!({})).await.1
    }
}

fn report(differs: &Value) -> Value {
    let mut task = harness::task(&json!({"task_type": "report"}));
    json_patch::merge(&mut task, differs);
    task
}

fn detail(answer: &Answer, status: u16) -> String {
    answer.problem(status);
    answer.body["detail"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn every_tenant_uses_what_the_host_shares_for_itself() {
    let server = Harness::sharing().await;
    let (acme, globex) = (server.house("acme").await, server.house("globex").await);
    for token in [harness::TOKEN, &acme, &globex] {
        let listed = server.by(token, "GET", "/v1/task-types", &json!({})).await;
        let items = &listed.expect(200).body["items"];
        assert_eq!(items.as_array().map(Vec::len), Some(1));
        assert_eq!(items[0]["task_type"], "report");
        assert_eq!(items[0]["tenant_id"], json!(null));
        for path in [
            "/v1/task-types/report",
            "/v1/task-types/report/versions",
            "/v1/task-types/report/grants",
            "/v1/task-types/report/config",
        ] {
            server.by(token, "GET", path, &json!({})).await.expect(200);
        }
        let wrong = report(&json!({"parameters": {"n": null}}));
        let refused = server.by(token, "POST", "/v1/tasks", &wrong).await;
        assert_eq!(
            refused.problem(422),
            ["/parameters: \"n\" is a required property"]
        );
        let named = report(&json!({"key": "mine"}));
        let created = server.by(token, "POST", "/v1/tasks", &named).await;
        created.expect(201);
        let triggered = server
            .by(token, "POST", "/v1/tasks/mine/trigger", &json!({}))
            .await;
        triggered.expect(202);
        let listed = server.by(token, "GET", "/v1/executions", &json!({})).await;
        assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1));
    }
    server.registry.prepare_missing(&Wakes::default()).await;
    // A host claims it for each of them, and for those that come later.
    server.tenant("late").await;
    let lanes = server.registry.claimable().types;
    let lane = |tenant| (tenant, "report".to_owned());
    assert_eq!(*lanes, [lane(1), lane(2), lane(3), lane(4)]);
    let late = server.store.tenant_named("late").await.expect("answers");
    let gone = server.json("DELETE", "/v1/tenants/late", &json!({})).await;
    gone.expect(204);
    assert!(late.is_some() && server.registry.claimable().types.len() == 3);
}

#[tokio::test]
async fn a_host_admin_alone_changes_what_is_shared() {
    let server = Harness::sharing().await;
    let acme = server.house("acme").await;
    let path = |rest: &str| format!("/v1/task-types/report{rest}");
    let shown = server.get(&path("")).await.expect(200).body;
    let digest = json!({"digest": shown["active_digest"]});
    let changes = [
        ("PATCH", path(""), json!({"concurrency": {"max": 2}})),
        ("POST", path("/activate"), digest),
        ("POST", path("/disable"), json!({})),
        ("PUT", path("/grants"), json!({"grants": ["state"]})),
        ("PATCH", path("/grants"), json!({"remove": ["state"]})),
        ("PUT", path("/config/k"), json!({"value": "v"})),
        ("DELETE", path("/config/k"), json!({})),
        ("POST", path("/rollback"), json!({})),
        ("DELETE", path(""), json!({})),
    ];
    for (method, path, body) in &changes {
        let refused = server.by(&acme, method, path, body).await;
        let told = detail(&refused, 403);
        assert!(told.contains("only a host-admin changes it"), "{told}");
    }
    assert_eq!(server.get(&path("")).await.body, shown, "all is as it was");
    // Its own breaker is the tenant's.
    let reset = server
        .by(&acme, "POST", &path("/breaker/reset"), &json!({}))
        .await;
    reset.expect(200);
    for (method, path, body) in &changes[..7] {
        let done = server.json(method, path, body).await;
        assert!(done.status < 300, "{method} {path}: {}", done.text);
        let seen = server
            .by(&acme, "GET", "/v1/task-types/report", &json!({}))
            .await;
        let seen = seen.expect(200).body;
        assert_eq!(seen["concurrency"]["max"], 2, "{seen}");
    }
    server
        .json("POST", &changes[7].1, &json!({}))
        .await
        .problem(409);
    let seen = server
        .by(&acme, "GET", "/v1/task-types/report", &json!({}))
        .await;
    assert_eq!(seen.expect(200).body["disabled"], true);
    // Who tried and did not may is told to the tenant, what the host did to itself to the host alone.
    let of_acme = server
        .by(&acme, "GET", "/v1/audit", &json!({}))
        .await
        .expect(200)
        .body;
    let entries = of_acme["items"].as_array().expect("a list");
    let of_types = entries.iter().filter(|entry| {
        let target = entry["target"].as_str();
        target.is_some_and(|target| target.contains("task-types"))
    });
    let statuses: Vec<&Value> = of_types.map(|entry| &entry["status"]).collect();
    assert_eq!(statuses.len(), changes.len() + 1, "{of_acme}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 9);
    let all = server.get("/v1/audit?limit=200").await.expect(200).body;
    let disabled = all["items"].as_array().into_iter().flatten();
    let mut disabled = disabled.filter(|entry| {
        entry["status"] == 200 && entry["target"] == "/v1/task-types/report/disable"
    });
    assert_eq!(
        disabled.next().map(|entry| &entry["tenant_id"]),
        Some(&json!(null))
    );
    // Removed, once nothing names it; what waits is cancelled whoever's it is.
    let task = server
        .by(&acme, "POST", "/v1/tasks", &report(&json!({"key": "k"})))
        .await;
    task.expect(201);
    let refused = server.json("DELETE", &path(""), &json!({})).await;
    assert!(detail(&refused, 409).contains("1 tasks name it"));
    let triggered = server
        .by(&acme, "POST", "/v1/tasks/k/trigger", &json!({}))
        .await;
    triggered.expect(202);
    let cancelling = path("?cancel_waiting=true");
    server
        .json("DELETE", &cancelling, &json!({}))
        .await
        .problem(409);
    let live = server
        .by(&acme, "GET", "/v1/executions?state=available", &json!({}))
        .await;
    let live = live.expect(200).body;
    assert_eq!(live["items"].as_array().map(Vec::len), Some(1), "{live}");
    server
        .by(&acme, "DELETE", "/v1/tasks/k", &json!({}))
        .await
        .expect(200);
    let removed = server.json("DELETE", &cancelling, &json!({})).await;
    removed.expect(200);
    server
        .by(&acme, "GET", &path(""), &json!({}))
        .await
        .problem(404);
}

#[tokio::test]
async fn a_name_is_shared_or_a_tenants_and_a_tenant_is_told_of_no_other() {
    let server = Harness::sharing().await;
    let (acme, globex) = (server.house("acme").await, server.house("globex").await);
    let plain = json!({});
    for token in [&acme, &globex] {
        let told = detail(&server.upload_by(token, "report", "", &plain).await, 409);
        assert_eq!(
            told,
            "`report` is a plugin that the host shares with every tenant; take another name"
        );
        let refused = server.upload_by(token, "report", "?shared=true", &plain);
        assert!(detail(&refused.await, 403).contains("only a host-admin shares"));
        let own = server.upload_by(token, "own", "", &plain).await;
        own.expect(202);
    }
    // Nor does a host-admin change by accident what all share.
    let told = detail(&server.upload("report", &plain, &json!({})).await, 409);
    assert!(told.contains("`--shared`"), "{told}");
    let told = detail(&server.upload_shared("own", &plain).await, 409);
    assert!(told.contains("`acme`, `globex`"), "{told}");
    let odd = server.upload_by(&acme, "x", "?shared=maybe", &plain).await;
    odd.problem(400);
    // Declarations name it, and cannot change it.
    let digest = server.get("/v1/task-types/report").await.body["active_digest"].clone();
    let mut body = json!({"set": "s", "tasks": [report(&json!({"key": "k"}))],
        "plugins": [{"task_type": "report", "digest": digest, "grants": ["state"]}]});
    let refused = server.by(&acme, "POST", "/v1/apply", &body).await;
    let told = refused.problem(422);
    assert!(
        told[0].starts_with("/plugins/0/task_type: `report`"),
        "{told:?}"
    );
    body["plugins"] = json!([]);
    body["prune"] = true.into();
    let applied = server.by(&acme, "POST", "/v1/apply", &body).await;
    assert_eq!(applied.expect(200).body["created"], 1);
    server.get("/v1/task-types/report").await.expect(200);
}

#[tokio::test]
async fn a_version_that_breaks_a_strangers_task_names_it_to_the_host_alone() {
    let server = Harness::sharing().await;
    let (acme, globex) = (server.house("acme").await, server.house("globex").await);
    let fits = report(&json!({"parameters": {"m": 1}}));
    let secret = report(&json!({"name": "Takeover of Initech"}));
    for (token, task) in [(&acme, &fits), (&globex, &secret)] {
        let created = server.by(token, "POST", "/v1/tasks", task).await;
        created.expect(201);
    }
    let strict = server
        .share(r#"{"parameters_schema": {"required": ["m"]}}"#)
        .await;
    assert_eq!(strict["is_active"], false, "{strict}");
    let said = strict["warnings"].to_string();
    assert!(said.contains("it would break a task"), "{said}");
    assert!(
        !said.contains("Initech") && !said.contains("globex"),
        "{said}"
    );
    let diff = "/v1/task-types/report/diff";
    let of_host = server.get(diff).await.expect(200).body["obstacle"].to_string();
    assert!(of_host.contains("tenant `globex`'s task"), "{of_host}");
    let of_acme = server.by(&acme, "GET", diff, &json!({})).await;
    assert_eq!(of_acme.expect(200).body["obstacle"], json!(null));
    let of_globex = server.by(&globex, "GET", diff, &json!({})).await.body;
    let of_globex = of_globex["obstacle"].to_string();
    assert!(of_globex.contains("Initech"), "{of_globex}");
    // The same bytes, described so that they would break it: told to the host-admin who asks for it.
    let body = json!({"digest": strict["digest"]});
    let active = server.post("/v1/task-types/report/activate", &body).await;
    assert_eq!(active.expect(200).body["active_digest"], strict["digest"]);
    let seen = server
        .by(&acme, "GET", "/v1/task-types/report", &json!({}))
        .await;
    assert_eq!(seen.body["active_digest"], strict["digest"]);
}

#[tokio::test]
async fn a_change_of_what_is_shared_reaches_every_tenants_stream() {
    let server = Harness::sharing().await;
    let (acme, _) = (server.house("acme").await, server.house("globex").await);
    server.set_now("2026-01-01T00:00:31Z");
    let mut streams = Vec::new();
    for tenant in 1..4 {
        streams.push(server.follow(DEFAULT_TENANT_ID - 1 + tenant, None).await);
    }
    server
        .by(&acme, "POST", "/v1/tasks", &report(&json!({"key": "k"})))
        .await
        .expect(201);
    server
        .post("/v1/task-types/report/disable", &json!({}))
        .await
        .expect(200);
    let mut told = Vec::new();
    for stream in &mut streams {
        let events = stream.next().await.expect("a look");
        let kinds: Vec<&str> = events.iter().map(|event| event.kind).collect();
        told.push(kinds);
    }
    let changed = "plugin.changed";
    assert_eq!(
        told,
        [vec![changed], vec!["task.created", changed], vec![changed]]
    );
}
