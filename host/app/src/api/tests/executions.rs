//! Executions that are cancelled, run again and watched.

use super::tasks::id;
use super::*;
use horarium_core::control::RunControl;
use horarium_core::store::{ClaimRequest, Claimed, Completion, CompletionReceipt, End, Queue};
use horarium_model::State;
use horarium_model::execution::{AttemptOutcome, AttemptRecord, LogLevel, LogSource};
use serde_json::{Value, json};
use std::sync::Arc;

impl Harness {
    /// Claims everything, as a host would.
    pub(super) async fn claim_all(&self) -> (i64, Vec<Claimed>) {
        let now = at("2026-01-01T00:00:31Z");
        let incarnation = self.store.start_host(now, "here").await.expect("started");
        let request = ClaimRequest {
            now,
            incarnation,
            types: Arc::from([(1, "hello".to_owned())]),
            limit: 100,
        };
        let claimed = self.store.claim(request).await.expect("claimed").claimed;
        (incarnation, claimed)
    }

    /// Ends a claimed execution well, with what it logged.
    pub(super) async fn complete(&self, incarnation: i64, claimed: &Claimed, control: &RunControl) {
        let now = at("2026-01-01T00:00:32Z");
        let completion = Completion {
            id: claimed.id,
            task_id: claimed.task_id,
            tenant_id: claimed.tenant_id,
            task_type: claimed.task_type.clone(),
            claim: claimed.claim,
            incarnation,
            end: End::Succeeded("null".into()),
            record: AttemptRecord::new(1, claimed.claim, AttemptOutcome::Succeeded, now, now),
            logs: control.log.lines_from(0),
            calls: control.calls(),
            state: None,
            progress: None,
            pause_after_failures: None,
            chained: claimed.chained,
            trace: None,
        };
        let receipts = self.store.complete_many(now, vec![completion].into()).await;
        let recorded = CompletionReceipt::Recorded(State::Succeeded);
        assert_eq!(receipts.expect("recorded"), [recorded]);
        self.runs.0.lock().expect("not poisoned").clear();
    }
}

#[tokio::test]
async fn cancel_ends_what_waits_asks_what_runs_and_retry_runs_again() {
    let server = Harness::with_plugin().await;
    let task = server.task(&json!({})).await;
    let trigger = format!("/v1/tasks/{}/trigger", id(&task));
    let fire = async || {
        let fired = server.post(&trigger, &json!({})).await.expect(202).body;
        fired["task_id"].as_str().expect("an id").to_owned()
    };
    let waiting = fire().await;
    let path = format!("/v1/executions/{waiting}");
    server
        .post(&format!("{path}/retry"), &json!({}))
        .await
        .problem(409);
    let ended = server
        .post(&format!("{path}/cancel"), &json!({}))
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&ended["state"], &ended["error_kind"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    server
        .post(&format!("{path}/cancel"), &json!({}))
        .await
        .problem(409);
    let again = server
        .post(&format!("{path}/retry"), &json!({}))
        .await
        .expect(202)
        .body;
    assert_eq!(
        (&again["retry_of"], &again["trigger"]),
        (&json!(waiting), &json!("retry"))
    );
    assert_ne!(again["task_id"], json!(waiting));

    let running = fire().await;
    assert_eq!(server.claim_all().await.1.len(), 2);
    let asked = server
        .post(&format!("/v1/executions/{running}/cancel"), &json!({}))
        .await
        .expect(202)
        .body;
    assert_eq!(asked["state"], "running");
    assert!(asked["cancel_requested_at"].is_string());
    let shown = server
        .get(&format!("/v1/executions/{running}"))
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&shown["limits"]["fuel"], &shown["timeout_seconds"]),
        (&json!(1000), &json!(60))
    );
    let nobody = "/v1/executions/01890000-0000-7000-8000-000000000000/cancel";
    server.post(nobody, &json!({})).await.problem(404);
}

#[tokio::test]
async fn live_log_lines_and_progress_are_seen_once_each() {
    let server = Harness::with_plugin().await;
    let task = server.task(&json!({})).await;
    let trigger = format!("/v1/tasks/{}/trigger", id(&task));
    let fired = server.post(&trigger, &json!({})).await.expect(202).body;
    let task_id = fired["task_id"].as_str().expect("an id").to_owned();
    let (incarnation, claimed) = server.claim_all().await;
    let control = Arc::new(RunControl::new(1 << 20, claimed[0].claim));
    let write = |text: &str| {
        let now = at("2026-01-01T00:00:31Z");
        control
            .log
            .write(now, LogLevel::Info, LogSource::Stdout, text, None);
    };
    write("one");
    write("two");
    control.report_progress(Some(0.5), "half");
    let runs = &server.runs.0;
    runs.lock()
        .expect("not poisoned")
        .insert(task_id.parse().expect("a uuid"), control.clone());
    let path = format!("/v1/executions/{task_id}");
    assert_eq!(server.get(&path).await.body["progress"]["fraction"], 0.5);
    let texts = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().expect("a list");
        items
            .iter()
            .map(|l| l["message"].as_str().expect("a text").to_owned())
            .collect()
    };
    let first = server
        .get(&format!("{path}/logs?limit=1"))
        .await
        .expect(200)
        .body;
    assert_eq!(texts(&first), ["one"]);
    let cursor = first["next_cursor"]
        .as_str()
        .expect("there is more")
        .to_owned();
    write("three");
    let rest = server
        .get(&format!("{path}/logs?cursor={cursor}"))
        .await
        .body;
    assert_eq!(texts(&rest), ["two", "three"]);
    let cursor = rest["next_cursor"].as_str().expect("it runs").to_owned();
    let nothing = server
        .get(&format!("{path}/logs?cursor={cursor}"))
        .await
        .body;
    assert!(texts(&nothing).is_empty() && nothing["next_cursor"].is_string());

    // The lines move from the run into the store; a reader sees the new one only, and then the end.
    write("four");
    server.complete(incarnation, &claimed[0], &control).await;
    let last = server
        .get(&format!("{path}/logs?cursor={cursor}"))
        .await
        .body;
    assert_eq!(
        (texts(&last), &last["next_cursor"]),
        (vec!["four".to_owned()], &Value::Null)
    );
    let whole = server.get(&format!("{path}/logs")).await.body;
    assert_eq!(texts(&whole), ["one", "two", "three", "four"]);
    let attempts = server
        .get(&format!("{path}/attempts"))
        .await
        .expect(200)
        .body;
    assert_eq!(attempts["items"][0]["outcome"], "succeeded");
}
