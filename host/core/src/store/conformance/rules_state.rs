//! State of plugins: committed with a recorded success, conflicts found, gone with its config.

use super::lab::{Lab, TENANT, at, ok};
use crate::runner::StateCommit;
use crate::store::{CompletionReceipt, End, HistoryOnDelete, Page, Store, StoreError};
use horarium_model::ConfigId;
use horarium_model::execution::State;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

fn commit(expected: &[(&str, i64)], writes: &[(&str, Option<&str>)]) -> StateCommit {
    StateCommit {
        expected: expected
            .iter()
            .map(|(k, v)| ((*k).to_owned(), *v))
            .collect(),
        writes: writes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.map(|v| v.as_bytes().to_vec())))
            .collect(),
    }
}

async fn snapshot(lab: &Lab, config: ConfigId) -> BTreeMap<String, (String, i64)> {
    let snapshot = lab.store.state_snapshot(config).await.expect("answers");
    snapshot
        .entries
        .into_iter()
        .map(|(k, e)| {
            (
                k,
                (String::from_utf8_lossy(&e.value).into_owned(), e.version),
            )
        })
        .collect()
}

/// Writes come with the recorded success and only then; versions rise, also over a deletion.
pub async fn state_is_committed_with_success_only(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let run = |end: End, state: StateCommit| {
        let lab = &lab;
        async move {
            let claimed = lab.running(Some(config), at(1)).await;
            let mut item = lab.completion(at(2), &claimed, end);
            item.state = Some(state);
            lab.complete(at(2), item).await
        }
    };
    for end in [End::Failed, End::Cancelled] {
        run(end, commit(&[("a", 0)], &[("a", Some("x"))])).await;
        assert!(snapshot(&lab, config).await.is_empty());
    }
    let state = commit(&[("a", 0), ("b", 0)], &[("a", Some("1")), ("b", Some("2"))]);
    let receipt = run(ok(), state).await;
    assert_eq!(receipt, CompletionReceipt::Recorded(State::Succeeded));
    let first = snapshot(&lab, config).await;
    assert_eq!(first["a"].0, "1");
    assert!(first["a"].1 > 0);
    let expected = [("a", first["a"].1), ("b", first["b"].1)];
    run(ok(), commit(&expected, &[("a", Some("3")), ("b", None)])).await;
    let second = snapshot(&lab, config).await;
    assert_eq!(second.len(), 1);
    assert_eq!(second["a"].0, "3");
    assert!(second["a"].1 > first["a"].1);
    run(ok(), commit(&[("b", 0)], &[("b", Some("back"))])).await;
    let third = snapshot(&lab, config).await;
    assert!(third["b"].1 > first["b"].1, "a version is never used again");
    let shown = lab.store.task_state(TENANT, config).await.expect("answers");
    assert_eq!(shown["b"].value, b"back");
}

/// A key read or written that changed meanwhile: nothing is written, not even the end.
pub async fn state_conflicts_write_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let claimed = lab.running(Some(config), at(0)).await;
    lab.store
        .set_task_state(at(1), TENANT, config, "k", Some(b"op".to_vec()))
        .await
        .expect("writes");
    let before = snapshot(&lab, config).await;
    let mut item = lab.completion(at(2), &claimed, ok());
    item.logs = vec![super::lab::line(&claimed, 0, "x")];
    item.state = Some(commit(&[("j", 0), ("k", 0)], &[("j", Some("1"))]));
    match lab.complete(at(2), item.clone()).await {
        CompletionReceipt::StateConflict(message) => assert!(message.contains("`k`"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(snapshot(&lab, config).await, before);
    assert_eq!(lab.state(claimed.task_id).await, State::Running);
    assert!(lab.attempts(claimed.task_id).await.is_empty());
    let logs = lab
        .store
        .logs(TENANT, claimed.task_id, &Page::first(9))
        .await;
    assert!(logs.expect("answers").items.is_empty());
    // Two ends of one batch that expect the same version: the second conflicts.
    let other = lab.running(Some(config), at(3)).await;
    let version = before["k"].1;
    item.state = Some(commit(&[("k", version)], &[("k", Some("first"))]));
    let mut second = lab.completion(at(3), &other, ok());
    second.state = Some(commit(&[("k", version)], &[("k", Some("second"))]));
    let receipts = lab
        .store
        .complete_many(at(3), vec![item, second].into())
        .await
        .expect("answers");
    assert_eq!(receipts[0], CompletionReceipt::Recorded(State::Succeeded));
    assert!(matches!(receipts[1], CompletionReceipt::StateConflict(_)));
    assert_eq!(snapshot(&lab, config).await["k"].0, "first");
    assert_eq!(lab.state(other.task_id).await, State::Running);
}

/// State dies with its config; a late success writes none.
pub async fn state_of_a_deleted_config_is_not_written(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    lab.store
        .set_task_state(at(0), TENANT, config, "k", Some(b"v".to_vec()))
        .await
        .expect("writes");
    let claimed = lab.running(Some(config), at(1)).await;
    lab.store
        .delete_config(at(2), TENANT, config, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    assert!(snapshot(&lab, config).await.is_empty());
    let gone = lab.store.task_state(TENANT, config).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))));
    let mut item = lab.completion(at(3), &claimed, ok());
    item.state = Some(commit(&[("k", 77)], &[("k", Some("late"))]));
    assert_eq!(
        lab.complete(at(3), item).await,
        CompletionReceipt::Recorded(State::Succeeded)
    );
    assert!(snapshot(&lab, config).await.is_empty());
}

/// Operators set, delete and reset; each write is a new version.
pub async fn operators_write_state(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let set = |key: &'static str, value: Option<Vec<u8>>| {
        let store = lab.store.clone();
        async move {
            store
                .set_task_state(at(1), TENANT, config, key, value)
                .await
        }
    };
    let binary = vec![0, 255, 128, 0];
    set("k", Some(binary.clone())).await.expect("writes");
    let first = lab.store.task_state(TENANT, config).await.expect("answers")["k"].clone();
    assert_eq!(first.value, binary);
    set("k", Some(Vec::new())).await.expect("writes");
    let second = lab.store.task_state(TENANT, config).await.expect("answers")["k"].clone();
    assert!(second.value.is_empty() && second.version > first.version);
    set("missing", None)
        .await
        .expect("deleting nothing is fine");
    set("l", Some(b"1".to_vec())).await.expect("writes");
    set("k", None).await.expect("deletes");
    let left = lab.store.task_state(TENANT, config).await.expect("answers");
    assert_eq!(left.keys().collect::<Vec<_>>(), ["l"]);
    let forgotten = lab.store.reset_task_state(TENANT, config).await;
    assert_eq!(forgotten.expect("answers"), 1);
    let foreign = lab.store.reset_task_state(TENANT + 1, config).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))));
    let missing = lab
        .store
        .set_task_state(at(1), TENANT, config + 99, "k", None)
        .await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
}
