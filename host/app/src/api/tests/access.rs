//! Who may do what: the whole table, and tenants that do not see each other.

use super::harness::Answer;
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

    /// Uploads a fake component, bare, with a token.
    pub(super) async fn upload_by(
        &self,
        token: &str,
        name: &str,
        query: &str,
        describe: &Value,
    ) -> Answer {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/v1/task-types/{name}/versions{query}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/wasm");
        let body = Body::from(format!("\0asm{describe}"));
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
pub(super) struct Operation {
    method: String,
    path: String,
    pub(super) needs: Option<Permission>,
}

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
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
        let chained =
            super::harness::task(&json!({"task_type": "hello", "chain": [{"task": task}]}));
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
