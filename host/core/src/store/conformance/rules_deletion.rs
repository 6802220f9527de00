//! Deletion: of a config, with or without its history, and what is left behind.

use super::lab::{Lab, TENANT, at, ok};
use crate::store::{End, ExecutionFilter, HistoryOnDelete, Page, Store, StoreError};
use horarium_model::ConfigId;
use horarium_model::execution::{SkipReason, State};
use horarium_model::schedule::Overlap;
use serde_json::json;
use std::sync::Arc;

async fn all_executions(lab: &Lab, config: Option<ConfigId>) -> Vec<horarium_model::Execution> {
    let filter = ExecutionFilter {
        config_id: config,
        ..Default::default()
    };
    lab.store
        .executions(TENANT, &filter, &Page::first(1000))
        .await
        .expect("lists")
        .items
}

/// The default: the config is gone at once, its history stays with `config_id` null.
pub async fn deleting_keeps_the_history(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let ended = lab.running(Some(config.id), at(0)).await;
    lab.finish(at(1), &ended, ok()).await;
    let running = lab.running(Some(config.id), at(1)).await;
    let waiting = lab.put_due(Some(config.id), at(2)).await;
    let mut order = lab.order(config.id, &[600], Overlap::Allow).await;
    order.skip_all = Some(SkipReason::Quota);
    lab.fire(at(600), order).await;
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let deleted = lab
        .store
        .delete_config(at(700), TENANT, config.id, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    assert_eq!((deleted.cancelled, deleted.running), (1, 1));
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    for purged in [false, true] {
        let gone = lab.store.config(TENANT, config.id).await.expect("answers");
        assert!(gone.is_none());
        assert!(all_executions(&lab, Some(config.id)).await.is_empty());
        let kept = all_executions(&lab, None).await;
        assert_eq!(kept.len(), 4, "purged {purged}: the skipped streak too");
        assert!(kept.iter().all(|e| e.config_id.is_none()));
        assert_eq!(lab.show(ended.task_id).await.config_id, None);
        while lab.store.purge_deleted(1).await.expect("purges") {}
    }
    let shown = lab.show(waiting).await;
    assert_eq!(
        (shown.state, shown.is_success),
        (State::Cancelled, Some(false))
    );
    assert_eq!(shown.error_kind, Some(horarium_model::ErrorKind::Cancelled));
    assert!(
        shown
            .error_message
            .is_some_and(|m| m.starts_with("config_deleted"))
    );
    assert_eq!(lab.finish(at(701), &running, ok()).await, State::Succeeded);
    assert_eq!(lab.show(running.task_id).await.config_id, None);
    while lab.store.purge_deleted(1).await.expect("purges") {}
    assert_eq!(lab.show(running.task_id).await.config_id, None);
    let again = lab
        .store
        .delete_config(at(702), TENANT, config.id, HistoryOnDelete::Keep)
        .await;
    assert!(matches!(again, Err(StoreError::NotFound(_))));
    let refused = lab
        .enqueue(at(703), vec![lab.new_execution(Some(config.id), at(703))])
        .await;
    assert_eq!(refused, [crate::store::EnqueueReceipt::NoConfig]);
}

/// The cascade: its history is gone at once, and what runs when it ends.
pub async fn deleting_may_take_the_history(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let other = lab.cron().await;
    let ended = lab.running(Some(config.id), at(0)).await;
    let mut item = lab.completion(at(1), &ended, ok());
    item.logs = vec![super::lab::line(&ended, 0, "hello")];
    item.calls = vec![super::lab::call(&ended, 0, "https://a.example/")];
    lab.complete(at(1), item).await;
    let kept = lab.running(Some(other.id), at(1)).await;
    lab.finish(at(1), &kept, ok()).await;
    let retried = lab.running(Some(config.id), at(1)).await;
    lab.finish(at(1), &retried, End::Retry(at(2))).await;
    lab.store.sweep_due(at(2), 9).await.expect("sweeps");
    let running = lab.claim_one(at(2)).await;
    let waiting = lab.put_due(Some(config.id), at(2)).await;
    let deleted = lab
        .store
        .delete_config(at(3), TENANT, config.id, HistoryOnDelete::Delete)
        .await
        .expect("deletes");
    assert_eq!((deleted.cancelled, deleted.running), (1, 1));
    for gone in [ended.task_id, waiting] {
        assert_eq!(lab.find(gone).await, None);
        assert!(lab.attempts(gone).await.is_empty());
        let logs = lab.store.logs(TENANT, gone, &Page::first(9)).await;
        assert!(logs.expect("answers").items.is_empty());
        let calls = lab.store.http_calls(TENANT, gone, &Page::first(9)).await;
        assert!(calls.expect("answers").items.is_empty());
        assert_eq!(
            lab.cancel(at(4), gone).await,
            crate::store::CancelReceipt::NotFound
        );
    }
    let left = lab.show(running.task_id).await;
    assert_eq!((left.state, left.config_id), (State::Running, None));
    assert_eq!(all_executions(&lab, None).await.len(), 2);
    while lab.store.purge_deleted(1).await.expect("purges") {}
    assert_eq!(
        lab.finish(at(5), &running, End::Failed).await,
        State::Failed
    );
    assert_eq!(lab.find(running.task_id).await, None);
    while lab.store.purge_deleted(1).await.expect("purges") {}
    let left = all_executions(&lab, None).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].config_id, Some(other.id));
    // Ids go on rising after the newest rows are gone.
    let (id, _) = lab.put(at(6), lab.new_execution(None, at(6))).await;
    assert!(id > running.id);
}

/// Running ones finish, are recorded, and retry no more.
pub async fn a_deleted_config_retries_no_more(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let running = lab.running(Some(config.id), at(0)).await;
    lab.store
        .delete_config(at(1), TENANT, config.id, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    while lab.store.purge_deleted(10).await.expect("purges") {}
    assert_eq!(
        lab.finish(at(2), &running, End::Retry(at(12))).await,
        State::Failed
    );
    let shown = lab.show(running.task_id).await;
    assert_eq!(shown.error_kind, Some(horarium_model::ErrorKind::Trap));
    assert_eq!(lab.attempts(running.task_id).await.len(), 1);
}

/// A batch at a time until nothing is left.
pub async fn purging_goes_in_batches(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for history in [HistoryOnDelete::Keep, HistoryOnDelete::Delete] {
        let config = lab.config(json!({})).await;
        for _ in 0..5 {
            let claimed = lab.running(Some(config.id), at(0)).await;
            lab.finish(at(1), &claimed, ok()).await;
        }
        lab.store
            .delete_config(at(2), TENANT, config.id, history)
            .await
            .expect("deletes");
    }
    let mut batches = 0;
    while lab.store.purge_deleted(2).await.expect("purges") {
        batches += 1;
        assert!(batches < 20, "it must come to an end");
    }
    assert!(batches >= 4, "{batches} batches for ten rows by two");
    assert_eq!(all_executions(&lab, None).await.len(), 5);
    assert!(!lab.store.purge_deleted(2).await.expect("purges"));
}
