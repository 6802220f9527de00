//! Triggers, batches, chains and traces of what they enqueue, and why it waits.

use super::harness::task;
use super::*;
use crate::api::routes::all_routes;
use serde_json::{Value, json};

impl Harness {
    pub(super) async fn keyed(&self, path: &str, key: &str, body: &Value) -> Answer {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        self.with_headers("POST", path, &headers, body.to_string())
            .await
    }

    pub(super) async fn executions(&self, query: &str) -> Vec<Value> {
        let listed = self
            .get(&format!("/v1/executions?{query}"))
            .await
            .expect(200);
        listed.body["items"].as_array().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_trigger_may_patch_and_put_off() {
    let host = Harness::with_plugin().await;
    host.task(&json!({"key": "k", "parameters": {"n": 1, "o": {"a": 1, "b": 2}}}))
        .await;
    host.set_now("2026-01-01T00:00:10Z");
    let patch = json!({"parameters_patch": {"n": 5, "o": {"a": null}}, "delay_seconds": 30});
    let ran = host
        .post("/v1/tasks/k/trigger", &patch)
        .await
        .expect(202)
        .body;
    assert_eq!(ran["parameters"], json!({"m": 7, "n": 5, "o": {"b": 2}}));
    assert_eq!(
        (&ran["state"], &ran["due_at"]),
        (&json!("scheduled"), &json!("2026-01-01T00:00:40Z"))
    );
    let shown = host
        .get(&format!(
            "/v1/executions/{}",
            ran["task_id"].as_str().expect("an id")
        ))
        .await;
    for (key, value) in ran.as_object().expect("an object") {
        // Until an attempt has had some, they are looked up when it is shown.
        let looked_up = ["limits", "timeout_seconds"].contains(&key.as_str());
        assert!(looked_up || shown.body[key] == *value, "{key}");
    }
    let past = json!({"due_at": "2020-01-01T00:00:00+01:00"});
    let ran = host
        .post("/v1/tasks/k/trigger", &past)
        .await
        .expect(202)
        .body;
    assert_eq!(
        (&ran["state"], &ran["due_at"]),
        (&json!("available"), &json!("2026-01-01T00:00:10Z"))
    );
    for (body, pointer) in [
        (
            json!({"parameters": {"n": 1}, "parameters_patch": {}}),
            "/parameters_patch",
        ),
        (
            json!({"due_at": "2026-02-01T00:00:00Z", "delay_seconds": 1}),
            "/delay_seconds",
        ),
        (json!({"due_at": "2030-02-01T00:00:00Z"}), "/due_at"),
        (json!({"parameters_patch": {"n": "x"}}), "/parameters/n"),
        (json!({"dely_seconds": 1}), "/dely_seconds"),
    ] {
        let problems = host.post("/v1/tasks/k/trigger", &body).await.problem(422);
        assert!(problems[0].starts_with(pointer), "{body}: {problems:?}");
    }
}

#[tokio::test]
async fn a_batch_takes_what_it_can_and_says_what_it_cannot() {
    let host = Harness::with_plugin().await;
    let id = host.task(&json!({"key": "k"})).await["id"].clone();
    let items = json!([
        {"task": "k"}, {"task": id, "parameters": {"n": 2}, "priority": 5}, {"task": "nobody"},
        {"task": "k", "parameters": {"n": "x"}}, {"task": "k", "colour": 1}, 7, {"config_id": id, "delay_seconds": 60},
    ]);
    let body = json!({"items": items});
    let answer = host
        .post("/v1/executions/batch", &body)
        .await
        .expect(202)
        .body;
    assert_eq!(
        (&answer["enqueued"], &answer["refused"]),
        (&json!(3), &json!(4))
    );
    let pointers: Vec<&str> = answer["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["errors"][0]["pointer"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(
        pointers,
        ["-", "-", "/task", "/parameters/n", "/colour", "", "-"]
    );
    assert_eq!(answer["items"][6]["state"], "scheduled");
    assert_eq!(answer["items"][2]["index"], 2);
    let listed = host.executions("task=k&trigger=batch").await;
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[1]["priority"], 5);
    assert_eq!(listed[1]["task_id"], answer["items"][1]["task_id"]);

    let body = json!({"items": items, "atomic": true});
    let problems = host.post("/v1/executions/batch", &body).await.problem(422);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(
        problems[1].starts_with("/items/3/parameters/n"),
        "{problems:?}"
    );
    let live =
        json!({"items": [{"task": "k"}, {"task": "k", "if_running": "refuse"}], "atomic": true});
    let problems = host.post("/v1/executions/batch", &live).await.problem(422);
    assert!(
        problems.len() == 1 && problems[0].starts_with("/items/1/if_running"),
        "{problems:?}"
    );
    assert_eq!(host.executions("task=k").await.len(), 3, "nothing of it");

    let many = json!({"items": vec![json!({"task": "k"}); 10_001]});
    host.post("/v1/executions/batch", &many).await.problem(422);
    host.post("/v1/executions/batch", &json!({}))
        .await
        .problem(422);
    let most = json!({"items": vec![json!({"task": "k"}); 10_000]});
    let answer = host
        .keyed("/v1/executions/batch", "most", &most)
        .await
        .expect(202);
    assert_eq!(answer.body["enqueued"], 10_000);
    let again = host
        .keyed("/v1/executions/batch", "most", &most)
        .await
        .expect(202);
    assert_eq!(again.body, answer.body);
}

#[tokio::test]
async fn chains_are_checked_at_save() {
    let host = Harness::with_plugin().await;
    let id = host.task(&json!({"key": "then"})).await["id"].clone();
    let chain = json!([{"task": "then", "parameters": {"/n": "/count"}}, {"task": id, "on": ["failed"]},
        {"task": "me", "on": ["cancelled"]}]);
    let made = host.task(&json!({"key": "me", "chain": chain})).await;
    assert_eq!(made["chain"][0]["on"], json!(["succeeded"]));
    assert_eq!(
        made["chain"][1],
        json!({"task": id, "on": ["failed"], "parameters": {}})
    );
    let bad = task(&json!({"chain": [{"task": "then"}, {"task": "nobody"}, {"task": 4711}]}));
    let problems = host.post("/v1/tasks", &bad).await.problem(422);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].starts_with("/chain/1/task: there is no task `nobody`"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn why_says_what_is_waited_for() {
    let host = Harness::with_plugin().await;
    host.task(&json!({"key": "k"})).await;
    let start = async |body: Value| {
        let ran = host
            .post("/v1/tasks/k/trigger", &body)
            .await
            .expect(202)
            .body;
        ran["task_id"].as_str().expect("an id").to_owned()
    };
    let why = async |id: &str| {
        host.get(&format!("/v1/executions/{id}/why"))
            .await
            .expect(200)
            .body
    };
    let later = start(json!({"delay_seconds": 60})).await;
    let told = why(&later).await;
    assert_eq!(
        (&told["state"], &told["reason"]),
        (&json!("scheduled"), &json!("not_due"))
    );
    assert!(told["until"].is_string() && told["message"].as_str().expect("text").contains("due"));
    let now = start(json!({})).await;
    assert_eq!(why(&now).await["reason"], "no_host");
    host.post("/v1/task-types/hello/disable", &json!({"disabled": true}))
        .await
        .expect(200);
    assert_eq!(why(&now).await["reason"], "type_disabled");
    host.post("/v1/task-types/hello/disable", &json!({"disabled": false}))
        .await
        .expect(200);
    host.alive("hello").await;
    let told = why(&now).await;
    assert_eq!(
        (&told["reason"], &told["position"]),
        (&json!("queue_position"), &json!(0))
    );
    let second = start(json!({})).await;
    assert_eq!(why(&second).await["position"], 1);
    host.post(&format!("/v1/executions/{now}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(why(&now).await["reason"], "ended");
    host.get("/v1/executions/00000000-0000-7000-8000-000000000000/why")
        .await
        .problem(404);
}

impl Harness {
    /// A host that could run a type.
    async fn alive(&self, name: &str) {
        use horarium_core::store::{HostFacts, Queue};
        let now = at("2026-01-01T00:00:00Z");
        let host = self.store.start_host(now, "h").await.expect("started");
        let facts = HostFacts {
            loaded: vec![name.to_owned()],
            ..HostFacts::default()
        };
        self.store
            .describe_host(host, facts)
            .await
            .expect("described");
    }
}

#[tokio::test]
async fn an_item_names_its_task_once() {
    let host = Harness::with_plugin().await;
    host.task(&json!({"key": "k", "parameters": {"n": 1}}))
        .await;
    let items = json!([{"task": "k", "config_id": 1}, {"config_id": 1}, {"task": "k"}]);
    let body = json!({"items": items});
    let answer = host.post("/v1/executions/batch", &body).await.expect(202);
    assert_eq!(
        (&answer.body["enqueued"], &answer.body["refused"]),
        (&json!(2), &json!(1))
    );
    let error = &answer.body["items"][0]["errors"][0];
    assert_eq!(error["pointer"], "/config_id");
    let detail = error["detail"].as_str().expect("text");
    assert!(detail.contains("give one"), "{detail}");
}

/// A small request can stand for a lot: each of its executions has the task's parameters.
#[tokio::test]
async fn a_batch_has_a_bounded_size_altogether() {
    let host = Harness::with_plugin().await;
    let large = json!({"key": "k", "parameters": {"n": 1, "text": "x".repeat(1_000_000)}});
    host.task(&large).await;
    let items: Vec<Value> = (0..300).map(|_| json!({"task": "k"})).collect();
    let body = json!({"items": items});
    let problems = host.post("/v1/executions/batch", &body).await.problem(422);
    assert!(problems[0].starts_with("/items/26"), "{problems:?}");
    assert!(problems[0].contains("256 MiB"), "{problems:?}");
    assert!(host.executions("task=k").await.is_empty());
    let items: Vec<Value> = (0..3).map(|_| json!({"task": "k"})).collect();
    let body = json!({"items": items});
    host.post("/v1/executions/batch", &body).await.expect(202);
}

/// The routes that enqueue, and no others, are told to take a trace, and do.
#[tokio::test]
async fn what_is_enqueued_belongs_to_the_trace_of_its_request() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = Harness::with_plugin().await;
    server.task(&json!({"key": "k"})).await;
    let triggered = server.post("/v1/tasks/k/trigger", &json!({})).await;
    let id = triggered.expect(202).body["task_id"].clone();
    let id = id.as_str().expect("an id").to_owned();
    let cancel = format!("/v1/executions/{id}/cancel");
    server.post(&cancel, &json!({})).await.expect(200);
    let all = json!({"filter": {"task": "k", "state": "cancelled"}});
    let bodies = [
        ("/v1/tasks/{task}/trigger", json!({})),
        ("/v1/executions/batch", json!({"items": [{"task": "k"}]})),
        ("/v1/executions/{task_id}/retry", json!({})),
        ("/v1/executions/retry", all),
    ];
    let traced = all_routes().filter(|route| route.traced);
    let mut traced: Vec<&str> = traced.map(|route| route.path).collect();
    let mut known = bodies.each_ref().map(|(path, _)| *path);
    traced.sort_unstable();
    known.sort_unstable();
    assert_eq!(traced, known);
    for (path, body) in &bodies {
        let path = path.replace("{task}", "k").replace("{task_id}", &id);
        let headers = [
            ("content-type", "application/json"),
            ("traceparent", PARENT),
            ("tracestate", "vendor=7"),
        ];
        let sent = server.with_headers("POST", &path, &headers, body.to_string());
        let answer = sent.await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
    }
    let (_, claimed) = server.claim_all().await;
    assert_eq!(claimed.len(), bodies.len());
    for claimed in claimed {
        let trace = claimed.trace.expect("a trace");
        assert_eq!(trace.traceparent(), PARENT);
        assert_eq!(trace.state.as_deref(), Some("vendor=7"));
    }
}
