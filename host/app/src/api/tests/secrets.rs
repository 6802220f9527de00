//! Secrets, settings and grants of plugins.

use super::*;
use serde_json::json;

const CANARY: &str = "canary-5e8d1b";

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let server = Harness::with_plugin().await;
    let none = server.get("/v1/secrets").await.expect(200).body;
    assert_eq!(none, json!({"items": [], "next_cursor": null}));
    let body = json!({"value": CANARY});
    let made = server
        .json("PUT", "/v1/secrets/api-key", &body)
        .await
        .expect(201);
    assert_eq!(
        (&made.body["name"], &made.body["version"]),
        (&json!("api-key"), &json!(1))
    );
    let again = server
        .json("PUT", "/v1/secrets/api-key", &body)
        .await
        .expect(200);
    assert_eq!(again.body["version"], 2);
    let grants = json!({"grants": ["secret api-key reveal"]});
    server
        .json("PUT", "/v1/task-types/hello/grants", &grants)
        .await
        .expect(200);
    let shown = server.get("/v1/secrets/api-key").await.expect(200);
    assert_eq!(shown.body["granted_to"], json!(["hello"]));
    let listed = server.get("/v1/secrets").await.expect(200);
    assert_eq!(listed.body["items"][0], shown.body);
    for answer in [&made, &again, &shown, &listed] {
        assert!(!answer.text.contains(CANARY), "{}", answer.text);
    }
    server.get("/readyz").await.expect(200);
    let rekeyed = server
        .json("POST", "/v1/secrets/rekey", &json!({"new_key": true}))
        .await;
    let rekeyed = rekeyed.expect(200).body;
    assert_eq!(
        (&rekeyed["rekeyed"], &rekeyed["new_key"]),
        (&json!(1), &json!(true))
    );
    assert_ne!(rekeyed["key_id"], shown.body["key_id"]);
    let nothing_left = server.json("POST", "/v1/secrets/rekey", &json!({})).await;
    assert_eq!(nothing_left.expect(200).body["rekeyed"], 0);
    server
        .json("DELETE", "/v1/secrets/api-key", &json!({}))
        .await
        .expect(204);
    server.get("/v1/secrets/api-key").await.expect(404);
    server
        .json("DELETE", "/v1/secrets/api-key", &json!({}))
        .await
        .expect(404);
}

#[tokio::test]
async fn a_refused_secret_is_not_repeated() {
    let server = Harness::new();
    let rekeyed = server.json("POST", "/v1/secrets/rekey", &json!({})).await;
    rekeyed.expect(409);
    for (path, body, pointer) in [
        ("/v1/secrets/k", json!({"value": [CANARY]}), "/value"),
        (
            "/v1/secrets/k",
            json!({"value": CANARY, "vlaue": CANARY}),
            "/vlaue",
        ),
        ("/v1/secrets/k", json!({"value": ""}), "/value"),
        ("/v1/secrets/k", json!({}), "/value"),
        ("/v1/secrets/no%20name", json!({"value": CANARY}), "/name"),
        (
            "/v1/secrets/k",
            json!({"value": CANARY.repeat(9000)}),
            "/value",
        ),
    ] {
        let refused = server.json("PUT", path, &body).await.expect(422);
        assert_eq!(
            refused.body["errors"][0]["pointer"], pointer,
            "{}",
            refused.text
        );
        assert!(!refused.text.contains(CANARY), "{}", refused.text);
    }
    assert_eq!(
        server.get("/v1/secrets").await.expect(200).body["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_host_without_the_key_is_not_ready_and_sets_nothing() {
    use horarium_core::clock::Clock;
    use horarium_core::store::{SealedSecret, Vault};
    let server = Harness::new();
    let foreign = SealedSecret {
        tenant_id: 1,
        name: "k".into(),
        version: 1,
        key_id: "feedfeedfeedfeed".into(),
        sealed: vec![1, 2, 3],
    };
    server
        .store
        .put_secret(server.clock.now(), foreign)
        .await
        .expect("kept");
    let told = server.get("/readyz").await.expect(503);
    assert!(told.text.contains("feedfeedfeedfeed") && told.text.contains("secrets.key"));
    let refused = server
        .json("PUT", "/v1/secrets/other", &json!({"value": "v"}))
        .await;
    assert!(refused.expect(409).text.contains("feedfeedfeedfeed"));
}

#[tokio::test]
async fn settings_of_a_type_are_set_listed_and_unset() {
    let server = Harness::with_plugin().await;
    let path = "/v1/task-types/hello/config";
    let set = server
        .json("PUT", &format!("{path}/base%20url"), &json!({"value": "x"}))
        .await;
    assert_eq!(
        set.expect(200).body,
        json!({"key": "base url", "value": "x"})
    );
    server
        .json("PUT", &format!("{path}/a"), &json!({"value": ""}))
        .await
        .expect(200);
    let listed = server.get(path).await.expect(200).body;
    let items = json!([{"key": "a", "value": ""}, {"key": "base url", "value": "x"}]);
    assert_eq!(listed["items"], items);
    server
        .json("DELETE", &format!("{path}/a"), &json!({}))
        .await
        .expect(204);
    let gone = server
        .json("DELETE", &format!("{path}/base-url"), &json!({}))
        .await
        .expect(404);
    assert!(
        gone.text.contains("did you mean `base url`"),
        "{}",
        gone.text
    );
    server.get("/v1/task-types/hullo/config").await.expect(404);
    for body in [
        json!({}),
        json!({"value": 1}),
        json!({"value": "x".repeat(70_000)}),
    ] {
        let refused = server
            .json("PUT", &format!("{path}/a"), &body)
            .await
            .expect(422);
        assert_eq!(refused.body["errors"][0]["pointer"], "/value");
    }
}

#[tokio::test]
async fn grants_are_added_and_taken_away() {
    let server = Harness::with_plugin().await;
    let path = "/v1/task-types/hello/grants";
    let body = json!({"add": ["state", "http GET https://a.example"]});
    let changed = server.json("PATCH", path, &body).await.expect(200).body;
    assert_eq!(
        changed["grants"],
        json!(["state", "http GET https://a.example"])
    );
    let body =
        json!({"remove": ["state"], "add": ["http get HTTPS://A.example:443/", "secret k reveal"]});
    let changed = server.json("PATCH", path, &body).await.expect(200).body;
    assert_eq!(
        changed["grants"],
        json!(["http GET https://a.example", "secret k reveal"])
    );
    assert_eq!(server.get(path).await.expect(200).body, changed);
    for (body, pointer, part) in [
        (
            json!({"remove": ["http GET https://b.example"]}),
            "/remove/0",
            "did you mean",
        ),
        (json!({"add": ["everything"]}), "/add/0", "not a grant"),
        (json!({"adds": []}), "/adds", "did you mean"),
    ] {
        let refused = server.json("PATCH", path, &body).await.expect(422);
        assert_eq!(
            refused.body["errors"][0]["pointer"], pointer,
            "{}",
            refused.text
        );
        assert!(refused.text.contains(part), "{}", refused.text);
    }
    assert_eq!(server.get(path).await.expect(200).body, changed);
}
