//! What tokens and tenants go through, what wrong tokens are told, and the audit log.

use super::access::operations;
use super::harness::task;
use super::*;
use axum::body::Body;
use axum::http::Request;
use horarium_model::access::{Permission, Role};
use serde_json::{Value, json};

#[tokio::test]
async fn a_token_lives_its_life() {
    let server = Harness::with_plugin().await;
    let (id, text) = server
        .token(
            "default",
            Role::Operator,
            &json!({
        "name": "ci", "expires_at": "2026-01-01T01:00:00Z"}),
        )
        .await;
    let me = server
        .by(&text, "GET", "/v1/me", &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(me["role"], "operator");
    assert_eq!(me["tenant"], "default");
    assert_eq!(
        me["token"],
        json!({"id": id, "name": "ci", "expires_at": "2026-01-01T01:00:00Z"})
    );
    let path = format!("/v1/tokens/{id}");
    let shown = server.get(&path).await.expect(200);
    assert!(
        !shown.text.contains(&text[text.len() - 64..]),
        "never shown again"
    );
    assert!(!shown.text.contains("hash"), "{}", shown.text);
    assert_eq!(shown.body["created_by"], "admin-token");
    // Rotated with an overlap, then without.
    let rotate = format!("{path}/rotate");
    let rotated = server
        .post(&rotate, &json!({"keep_seconds": 60}))
        .await
        .expect(200)
        .body;
    let second = rotated["token"].as_str().expect("a text").to_owned();
    assert_eq!(rotated["previous_until"], "2026-01-01T00:01:30Z");
    for text in [&text, &second] {
        server
            .by(text, "GET", "/v1/tasks", &json!({}))
            .await
            .expect(200);
    }
    server.set_now("2026-01-01T00:01:30Z");
    server
        .by(&text, "GET", "/v1/tasks", &json!({}))
        .await
        .problem(401);
    server
        .by(&second, "GET", "/v1/tasks", &json!({}))
        .await
        .expect(200);
    let third = server.post(&rotate, &json!({})).await.expect(200).body;
    let third = third["token"].as_str().expect("a text").to_owned();
    server
        .by(&second, "GET", "/v1/tasks", &json!({}))
        .await
        .problem(401);
    // Expired.
    server.set_now("2026-01-01T01:00:00Z");
    let answer = server.by(&third, "GET", "/v1/tasks", &json!({})).await;
    answer.problem(401);
    assert_eq!(
        answer.body["detail"],
        "this token expired at 2026-01-01T01:00:00Z"
    );
    assert_eq!(server.get(&path).await.body["state"], "expired");
    // Revoked.
    let (id, text) = server.token("default", Role::Viewer, &json!({})).await;
    server
        .by(&text, "GET", "/v1/tasks", &json!({}))
        .await
        .expect(200);
    let path = format!("/v1/tokens/{id}");
    server.json("DELETE", &path, &json!({})).await.expect(204);
    server
        .by(&text, "GET", "/v1/tasks", &json!({}))
        .await
        .problem(401);
    server.get(&path).await.problem(404);
    server.json("DELETE", &path, &json!({})).await.problem(404);
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let server = Harness::new();
    let (_, admin) = server.token("default", Role::Admin, &json!({})).await;
    let create = |body: Value| (String::from("/v1/tokens"), body);
    let scoped = json!({"scope": ["tokens:write", "tasks:read"]});
    let (_, scoped) = server.token("default", Role::Admin, &scoped).await;
    let (path, body) = create(json!({"name": "x", "role": "host-admin"}));
    assert_eq!(
        server.by(&admin, "POST", &path, &body).await.problem(422),
        ["/role: only a host-admin gives out tokens of the role host-admin"]
    );
    let (path, body) = create(json!({"name": "x", "role": "viewer"}));
    assert_eq!(
        server.by(&scoped, "POST", &path, &body).await.problem(422),
        [
            "/role: the token would have executions:read, which yours does not; name a `scope` without it"
        ]
    );
    let (path, body) = create(json!({"name": "x", "role": "viewer", "scope": ["tasks:read"]}));
    let given = server
        .by(&scoped, "POST", &path, &body)
        .await
        .expect(201)
        .body;
    let given = given["token"].as_str().expect("a text");
    let refused = server.by(given, "GET", "/v1/executions", &json!({})).await;
    refused.problem(403);
    assert_eq!(
        refused.body["detail"],
        "this token's scope does not have executions:read"
    );
    // Nor by rotating somebody else's.
    let (id, _) = server.token("default", Role::Admin, &json!({})).await;
    let rotate = format!("/v1/tokens/{id}/rotate");
    server
        .by(&scoped, "POST", &rotate, &json!({}))
        .await
        .problem(422);
    let (id, _) = server.token("default", Role::HostAdmin, &json!({})).await;
    let rotate = format!("/v1/tokens/{id}/rotate");
    server
        .by(&admin, "POST", &rotate, &json!({}))
        .await
        .problem(404);
}

#[tokio::test]
async fn wrong_tokens_in_the_making_are_told_why() {
    let server = Harness::new();
    for (body, expected) in [
        (json!({}), "/name: is missing"),
        (json!({"name": "x"}), "/role: is missing"),
        (
            json!({"name": "x", "role": "oprator"}),
            "/role: `oprator` is not one of viewer, trigger, operator, admin, host-admin; did you mean `operator`?",
        ),
        (
            json!({"name": "x", "role": "viewer", "scope": ["tasks:raed"]}),
            "/scope/0: `tasks:raed` is no permission; did you mean `tasks:read`?",
        ),
        (
            json!({"name": "x", "role": "viewer", "scope": []}),
            "/scope: is empty: such a token could do nothing; leave it out for all of the role",
        ),
        (
            json!({"name": "x", "role": "viewer", "scope": ["tasks:write"]}),
            "/scope/0: the role viewer does not have tasks:write",
        ),
        (
            json!({"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}),
            "/expires_at: is in the past",
        ),
        (
            json!({"name": "x", "role": "viewer", "expires": 1}),
            "/expires: ",
        ),
    ] {
        let problems = server.post("/v1/tokens", &body).await.problem(422);
        assert!(problems[0].starts_with(expected), "{problems:?}");
    }
    let tokens = server.get("/v1/tokens").await.expect(200).body;
    assert_eq!(tokens, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn wrong_tokens_are_bounded_and_right_ones_kept_in_memory_pass() {
    let server = Harness::new();
    let (_, text) = server.token("default", Role::Viewer, &json!({})).await;
    let mut last = 0;
    for n in 0..100 {
        let answer = server
            .by(&format!("guess-{n}"), "GET", "/v1/tasks", &json!({}))
            .await;
        last = answer.status;
        if last == 429 {
            assert!(answer.problem(429).is_empty());
            assert_eq!(answer.headers["retry-after"], "1");
            break;
        }
        answer.problem(401);
    }
    assert_eq!(last, 429, "guessing ends");
    server.get("/v1/tasks").await.expect(200);
    // Without a token nothing is guessed.
    let bare = Request::get("/v1/tasks")
        .body(Body::empty())
        .expect("a request");
    server.send(bare).await.problem(401);
    // Not known by heart here: no heartbeat vouches for what is kept, so it would have to be looked up.
    server
        .by(&text, "GET", "/v1/tasks", &json!({}))
        .await
        .problem(429);
}

#[tokio::test]
async fn tenants_live_their_life() {
    let server = Harness::new();
    let created = server
        .post("/v1/tenants", &json!({"name": "acme", "weight": 3}))
        .await
        .expect(201);
    assert_eq!(created.headers["location"], "/v1/tenants/acme");
    assert_eq!(created.body["weight"], 3);
    server
        .post("/v1/tenants", &json!({"name": "acme"}))
        .await
        .problem(409);
    for (body, pointer) in [
        (json!({}), "/name: is missing"),
        (
            json!({"name": "Acme"}),
            "/name: `Acme` cannot be a tenant's name",
        ),
        (json!({"name": "a", "weight": 0}), "/weight: "),
        (json!({"name": "a", "wieght": 1}), "/wieght: "),
    ] {
        let problems = server.post("/v1/tenants", &body).await.problem(422);
        assert!(problems[0].starts_with(pointer), "{problems:?}");
    }
    let changed = server
        .json("PATCH", "/v1/tenants/acme", &json!({"weight": 5}))
        .await;
    assert_eq!(changed.expect(200).body["weight"], 5);
    let (_, token) = server.token("acme", Role::Admin, &json!({})).await;
    let own = server
        .by(&token, "GET", "/v1/tenants/acme", &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(own["name"], "acme");
    server
        .by(&token, "DELETE", "/v1/tenants/acme", &json!({}))
        .await
        .problem(403);
    server
        .json("DELETE", "/v1/tenants/default", &json!({}))
        .await
        .problem(409);
    server
        .json("DELETE", "/v1/tenants/acme", &json!({}))
        .await
        .expect(204);
    server
        .by(&token, "GET", "/v1/tasks", &json!({}))
        .await
        .problem(401);
    server
        .json("DELETE", "/v1/tenants/acme", &json!({}))
        .await
        .problem(404);
    let header = [("horarium-tenant", "acme")];
    let answer = server
        .with_headers("GET", "/v1/tasks", &header, Body::empty())
        .await;
    answer.problem(404);
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_never_with_what() {
    let server = Harness::with_plugin().await;
    let (id, token) = server
        .token("default", Role::Operator, &json!({"name": "ci"}))
        .await;
    let secret = json!({"n": 1, "password": "hunter2"});
    let body = task(&json!({"parameters": secret}));
    let created = server
        .by(&token, "POST", "/v1/tasks", &body)
        .await
        .expect(201);
    let path = format!("/v1/tasks/{}", created.body["id"]);
    server
        .by(&token, "GET", &path, &json!({}))
        .await
        .expect(200);
    server
        .by(&token, "POST", "/v1/tasks", &json!({}))
        .await
        .problem(422);
    server
        .by(&token, "POST", "/v1/tokens", &json!({}))
        .await
        .problem(403);
    let deleting = format!("{path}?history=keep");
    server
        .by(&token, "DELETE", &deleting, &json!({}))
        .await
        .expect(200);
    let all = server.get("/v1/audit").await.expect(200);
    assert!(
        !all.text.contains("hunter2") && !all.text.contains("history="),
        "{}",
        all.text
    );
    let query = format!("/v1/audit?token={id}");
    let entries = server.get(&query).await.expect(200).body;
    let entries: Vec<Value> = entries["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            assert_eq!(entry["actor"], "ci");
            assert_eq!(entry["host"], "here");
            json!([
                entry["action"],
                entry["method"],
                entry["target"],
                entry["status"]
            ])
        })
        .collect();
    assert_eq!(
        entries,
        [
            json!(["tasks:write", "DELETE", path, 200]),
            json!(["tokens:write", "POST", "/v1/tokens", 403]),
            json!(["tasks:write", "POST", "/v1/tasks", 201]),
        ]
    );
    let found = server
        .get("/v1/audit?action=tokens:write&limit=1")
        .await
        .expect(200)
        .body;
    let entry = &found["items"][0];
    assert_eq!(entry["status"], 403);
    let created = server
        .post("/v1/tokens", &json!({"name": "x", "role": "viewer"}))
        .await
        .expect(201);
    let entry = &server.get("/v1/audit?limit=1").await.expect(200).body["items"][0];
    assert_eq!(
        entry["request_id"],
        created.headers["x-request-id"].to_str().expect("text")
    );
    assert_eq!(
        (&entry["token_id"], &entry["role"]),
        (&Value::Null, &json!("host-admin"))
    );
    // What is done to the host as a whole is in nobody's log but the host's.
    server.tenant("other").await;
    let (_, admin) = server.token("default", Role::Admin, &json!({})).await;
    let seen = server
        .by(&admin, "GET", "/v1/audit?action=tenants:write", &json!({}))
        .await;
    assert_eq!(seen.expect(200).body["items"], json!([]));
    let seen = server
        .get("/v1/audit?action=tenants:write")
        .await
        .expect(200)
        .body;
    assert_eq!(seen["items"][0]["target"], "/v1/tenants");
    server.get("/v1/audit?action=nothing").await.problem(400);
    assert!(
        operations()
            .iter()
            .any(|rule| rule.needs == Some(Permission::AuditRead))
    );
}

#[tokio::test]
async fn what_changed_nothing_is_not_in_the_audit_log() {
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "k"})).await;
    let count = async |query: &str| {
        let found = server.get(&format!("/v1/audit?{query}")).await.expect(200);
        found.body["items"].as_array().map_or(0, Vec::len)
    };
    let before = count("").await;
    let declared = json!({"set": "s", "tasks": [{"key": "d", "name": "D", "task_type": "hello",
        "scheduler_type": "manual", "parameters": {"n": 1}}]});
    let filter = json!({"filter": {"task": "k"}});
    for (path, body) in [
        ("/v1/apply", &declared),
        ("/v1/executions/retry", &filter),
        ("/v1/executions/cancel", &filter),
    ] {
        let mut dry = body.clone();
        dry["dry_run"] = true.into();
        server.post(path, &dry).await.expect(200);
        assert_eq!(count("").await, before, "{path}: nothing was done");
    }
    for (done, (path, body)) in [
        ("/v1/apply", &declared),
        ("/v1/executions/retry", &filter),
        ("/v1/executions/cancel", &filter),
    ]
    .into_iter()
    .enumerate()
    {
        server.post(path, body).await.expect(200);
        assert_eq!(count("").await, before + done + 1, "{path}");
    }
    // A request that is sent again was carried out once.
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "once"),
    ];
    for _ in 0..2 {
        let sent = server.with_headers("POST", "/v1/tasks/k/trigger", &headers, "{}".to_owned());
        sent.await.expect(202);
    }
    assert_eq!(count("action=tasks:trigger").await, 1);
    // Who may not is told and noted, dry or not, also where the body says what leave is needed.
    let narrow = json!({"scope": ["tasks:write"]});
    let (_, narrow) = server.token("default", Role::Admin, &narrow).await;
    let before = count("").await;
    let digest = server.get("/v1/task-types/hello").await.expect(200).body["active_digest"].clone();
    let mut wanted = declared;
    wanted["plugins"] = json!([{"task_type": "hello", "digest": digest}]);
    wanted["dry_run"] = true.into();
    let refused = server.by(&narrow, "POST", "/v1/apply", &wanted).await;
    refused.problem(403);
    assert_eq!(count("").await, before + 1);
}
