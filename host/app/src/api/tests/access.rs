//! Who may do what: the whole table, tenants that do not see each other, and what a token goes through.

use super::harness::{Answer, task};
use super::*;
use crate::api::openapi::document;
use axum::body::Body;
use axum::http::Request;
use horarium_model::access::{Permission, Role};
use serde_json::{Value, json};

/// A body that a route takes.
fn sample(method: &str, path: &str) -> Value {
    match (method, path) {
        ("PATCH", "/v1/tasks/{task}") => json!({"name": "another"}),
        (_, "/v1/tasks/{task}/parameters") => json!({"n": 2}),
        ("PUT", "/v1/tasks/{task}/state/{key}") => json!({"value": "x"}),
        (_, "/v1/task-types/{type}/activate") => json!({"digest": "0".repeat(64)}),
        ("PATCH", "/v1/task-types/{type}") => json!({"concurrency": {"max": 1}}),
        ("PUT", "/v1/task-types/{type}/grants") => json!({"grants": []}),
        ("PATCH", "/v1/task-types/{type}/grants") => json!({"add": ["state"]}),
        ("PUT", "/v1/task-types/{type}/config/{key}" | "/v1/secrets/{name}") => {
            json!({"value": "x"})
        }
        ("PATCH", "/v1/tenants/{tenant}") => json!({"weight": 2}),
        (_, "/v1/quotas") => json!({"configs": 100}),
        ("PUT", "/v1/retention" | "/v1/tasks/{task}/retention") => json!({"keep": 9}),
        _ => json!({}),
    }
}

impl Harness {
    /// Sends JSON with a token.
    pub(super) async fn by(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.by_with(token, method, path, &[], body).await
    }

    async fn by_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        let bare = method == "GET" || method == "DELETE";
        if !bare {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if bare {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.send(request.body(body).expect("a request")).await
    }

    /// Creates a token in a tenant; its id and its text.
    pub(super) async fn token(&self, tenant: &str, role: Role, differs: &Value) -> (i64, String) {
        let mut body = json!({"name": "a token", "role": role});
        for (key, value) in differs.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let headers = [("horarium-tenant", tenant)];
        let answer = self
            .by_with(harness::TOKEN, "POST", "/v1/tokens", &headers, &body)
            .await;
        let answer = answer.expect(201);
        assert_eq!(answer.headers["cache-control"], "no-store");
        let text = answer.body["token"].as_str().expect("its text").to_owned();
        (answer.body["id"].as_i64().expect("an id"), text)
    }

    pub(super) async fn tenant(&self, name: &str) {
        self.post("/v1/tenants", &json!({"name": name}))
            .await
            .expect(201);
    }
}

/// An operation of the document that needs a token.
struct Operation {
    method: String,
    path: String,
    needs: Option<Permission>,
}

/// All of them.
fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, methods) in document()["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["security"] == json!([]) {
                continue;
            }
            let needs = operation.get("x-permission").map(|word| {
                let word = word.as_str().expect("a word");
                word.parse().expect("a permission")
            });
            all.push(Operation {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                needs,
            });
        }
    }
    assert!(all.len() > 60, "{}", all.len());
    all
}

/// Fills the parameters of a route.
fn filled(path: &str, ids: &[(&str, String)]) -> String {
    ids.iter().fold(path.to_owned(), |path, (name, id)| {
        path.replace(&format!("{{{name}}}"), id)
    })
}

/// Ids that nothing has.
fn nothing() -> Vec<(&'static str, String)> {
    vec![
        ("task", "987654".into()),
        ("task_id", "01980000-0000-7000-8000-00000000ffff".into()),
        ("type", "no_type".into()),
        ("digest", "f".repeat(64)),
        ("key", "no_key".into()),
        ("token", "9876543".into()),
        ("name", "no_name".into()),
        ("tenant", "nobody".into()),
    ]
}

#[tokio::test]
async fn every_operation_is_a_route_and_every_role_keeps_to_it() {
    let server = Harness::with_plugin().await;
    for role in Role::ALL {
        let (_, token) = server.token("default", *role, &json!({})).await;
        for rule in operations() {
            let path = filled(&rule.path, &nothing());
            let (method, body) = (&rule.method, sample(&rule.method, &rule.path));
            let answer = server.by(&token, method, &path, &body).await;
            let may = rule.needs.is_none_or(|needs| role.may(needs));
            let case = format!("{role}: {method} {path}: {}", answer.text);
            assert!(!answer.text.contains("there is no path"), "{case}");
            assert_ne!(answer.status, 405, "{case}");
            assert_ne!(answer.status, 401, "{case}");
            assert!(answer.status < 500, "{case}");
            // Of another's tenant not even that it may not be changed is told.
            let hidden = rule.path.contains("{tenant}") && *role != Role::HostAdmin;
            match may || hidden {
                true => assert_ne!(answer.status, 403, "{case}"),
                false => assert!(answer.problem(403).is_empty(), "{case}"),
            }
        }
    }
}

#[tokio::test]
async fn another_tenants_id_answers_404_on_every_route() {
    let server = Harness::with_plugin().await;
    let created = server.task(&json!({"key": "nightly"})).await;
    let id = created["id"].to_string();
    let path = format!("/v1/tasks/{id}");
    let triggered = server
        .post(&format!("{path}/trigger"), &json!({}))
        .await
        .expect(202);
    let task_id = triggered.body["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let put = json!({"value": "v"});
    server
        .json("PUT", &format!("{path}/state/k"), &put)
        .await
        .expect(200);
    for path in ["/v1/secrets/password", "/v1/task-types/hello/config/k"] {
        let set = server.json("PUT", path, &put).await;
        assert!(set.status < 300, "{}", set.text);
    }
    let types = server.get("/v1/task-types/hello").await.expect(200).body;
    let digest = types["active_digest"].as_str().expect("active").to_owned();
    let (token_id, _) = server.token("default", Role::Viewer, &json!({})).await;
    server.tenant("other").await;
    let (_, foreign) = server.token("other", Role::Admin, &json!({})).await;
    let ids = |task: &str| -> Vec<(&'static str, String)> {
        vec![
            ("task", task.to_owned()),
            ("task_id", task_id.clone()),
            ("type", "hello".into()),
            ("digest", digest.clone()),
            ("key", "k".into()),
            ("token", token_id.to_string()),
            ("name", "password".into()),
            ("tenant", "default".into()),
        ]
    };
    let mut walked = 0;
    for rule in operations().iter().filter(|rule| rule.path.contains('{')) {
        // A name that is free in one's own tenant is taken, whoever else has it.
        if [
            ("POST", "/v1/task-types/{type}/versions"),
            ("PUT", "/v1/secrets/{name}"),
        ]
        .contains(&(rule.method.as_str(), rule.path.as_str()))
        {
            continue;
        }
        for named in [id.as_str(), "nightly"] {
            let body = sample(&rule.method, &rule.path);
            let real = filled(&rule.path, &ids(named));
            let answer = server.by(&foreign, &rule.method, &real, &body).await;
            answer.problem(404);
            // And it says no more than of what does not exist.
            let mut free_ids = nothing();
            if named == "nightly" {
                free_ids[0].1 = "no_task".into();
            }
            let free = filled(&rule.path, &free_ids);
            let nobodys = server.by(&foreign, &rule.method, &free, &body).await;
            nobodys.problem(404);
            let same = |answer: &Answer, ids: &[(&str, String)]| {
                let mut detail = answer.body["detail"].as_str().expect("a text").to_owned();
                // The longest first: a short one may be a part of it.
                let mut ids = ids.to_vec();
                ids.sort_by_key(|(_, id)| std::cmp::Reverse(id.len()));
                for (name, id) in ids {
                    detail = detail
                        .replace(&format!("`{id}`"), name)
                        .replace(&format!(" {id}"), name);
                }
                detail
            };
            assert_eq!(
                same(&answer, &ids(named)),
                same(&nobodys, &free_ids),
                "{real}"
            );
            // Its own token names another tenant: the same.
            let header = [("horarium-tenant", "default")];
            let answer = server
                .by_with(&foreign, &rule.method, &real, &header, &body)
                .await;
            answer.problem(404);
            walked += 1;
        }
    }
    assert!(walked > 50, "{walked}");
    for rule in operations()
        .iter()
        .filter(|rule| !rule.path.contains('{') && rule.path != "/v1/me")
    {
        let header = [("horarium-tenant", "default")];
        let body = sample(&rule.method, &rule.path);
        let answer = server
            .by_with(&foreign, &rule.method, &rule.path, &header, &body)
            .await;
        answer.problem(404);
    }
    // Nothing was done, and everything is still there for its owner.
    assert_eq!(
        server.get(&path).await.expect(200).body["version"],
        created["version"]
    );
    server
        .get(&format!("/v1/executions/{task_id}"))
        .await
        .expect(200);
    server.get("/v1/secrets/password").await.expect(200);
}

#[tokio::test]
async fn lists_cursors_filters_and_batches_stay_within_a_tenant() {
    let server = Harness::with_plugin().await;
    let id = server.task(&json!({"key": "nightly"})).await["id"].clone();
    server.task(&json!({})).await;
    for _ in 0..2 {
        let path = format!("/v1/tasks/{id}/trigger");
        server.post(&path, &json!({})).await.expect(202);
    }
    server.tenant("other").await;
    let (_, foreign) = server.token("other", Role::Admin, &json!({})).await;
    for list in ["/v1/tasks", "/v1/executions", "/v1/task-types", "/v1/audit"] {
        let own = server
            .get(&format!("{list}?limit=1"))
            .await
            .expect(200)
            .body;
        assert_eq!(own["items"].as_array().map(Vec::len), Some(1), "{list}");
        let mut paths = vec![list.to_owned()];
        if let Some(cursor) = own["next_cursor"].as_str() {
            paths.push(format!("{list}?cursor={cursor}"));
        }
        for path in paths {
            let seen = server
                .by(&foreign, "GET", &path, &json!({}))
                .await
                .expect(200)
                .body;
            let seen = seen["items"].as_array().expect("a list");
            // Of the audit log only that somebody made its token.
            let foreign = seen.iter().filter(|item| item["target"] != "/v1/tokens");
            assert_eq!(foreign.count(), 0, "{path}: {seen:?}");
        }
    }
    let tokens = server
        .by(&foreign, "GET", "/v1/tokens", &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(
        tokens["items"].as_array().map(Vec::len),
        Some(1),
        "its own: {tokens}"
    );
    let tenants = server
        .by(&foreign, "GET", "/v1/tenants", &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(tenants["items"][0]["name"], "other");
    assert_eq!(tenants["items"].as_array().map(Vec::len), Some(1));
    for (real, nobodys) in [
        (
            format!("/v1/executions?task={id}"),
            "/v1/executions?task=987654",
        ),
        (
            "/v1/executions?task=nightly".into(),
            "/v1/executions?task=nothing",
        ),
    ] {
        let real = server.by(&foreign, "GET", &real, &json!({})).await;
        let nobodys = server.by(&foreign, "GET", nobodys, &json!({})).await;
        assert_eq!(
            real.status, nobodys.status,
            "{} {}",
            real.text, nobodys.text
        );
        assert_eq!(real.body["items"], nobodys.body["items"]);
    }
    for task in [id.clone(), json!("nightly")] {
        let batch = json!({"items": [{"task": task}], "atomic": true});
        server
            .by(&foreign, "POST", "/v1/executions/batch", &batch)
            .await
            .problem(422);
        let filter = json!({"filter": {"task": task}});
        for bulk in ["/v1/executions/cancel", "/v1/executions/retry"] {
            let answer = server.by(&foreign, "POST", bulk, &filter).await;
            assert!(
                answer.status == 404 || answer.body["matched"] == 0,
                "{}",
                answer.text
            );
        }
        let chained = task_of(&json!({"task_type": "hello", "chain": [{"task": task}]}));
        server
            .by(&foreign, "POST", "/v1/tasks", &chained)
            .await
            .problem(422);
    }
    let live = server
        .get("/v1/executions?state=available")
        .await
        .expect(200)
        .body;
    assert_eq!(
        live["items"].as_array().map(Vec::len),
        Some(2),
        "nothing was cancelled"
    );
}

fn task_of(differs: &Value) -> Value {
    task(differs)
}

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
