//! Backlogs: how many executions of a task, a type or a tenant may wait.

use super::lab::{Lab, TENANT, at};
use super::rules_limits::{OTHER, claim, of_type, register};
use crate::config_cache::{Overrides, new_execution};
use crate::store::{
    BacklogOf, End, Enqueue, EnqueueReceipt, Enqueued, ExecutionFilter, FullBacklog, NewExecution,
    Page, Store, TenantBounds,
};
use horarium_model::ConfigId;
use horarium_model::execution::{SkipReason, State, Trigger};
use horarium_model::schedule::Overlap;
use horarium_model::task_type::TypeConcurrency;
use serde_json::json;
use std::sync::Arc;

fn full(of: BacklogOf, backlog: u32) -> EnqueueReceipt {
    EnqueueReceipt::Full(FullBacklog { of, backlog })
}

/// A full backlog refuses, item by item; what starts or ends makes room.
pub async fn a_full_backlog_refuses(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let item = |due| NewExecution {
        backlog: Some(2),
        ..lab.new_execution(Some(config.id), at(due))
    };
    let receipts = lab.enqueue(at(0), vec![item(0), item(50), item(0)]).await;
    assert!(matches!(receipts[0], EnqueueReceipt::Enqueued { .. }));
    assert!(matches!(receipts[1], EnqueueReceipt::Enqueued { .. }));
    assert_eq!(receipts[2], full(BacklogOf::Config, 2));
    let running = lab.claim_one(at(0)).await;
    lab.put(at(1), item(1)).await;
    assert_eq!(
        lab.enqueue(at(1), vec![item(1)]).await,
        [full(BacklogOf::Config, 2)]
    );
    // A retry comes back whatever the backlog is.
    assert_eq!(
        lab.finish(at(2), &running, End::Retry(at(9))).await,
        State::Retryable
    );

    register(&lab, "few").await;
    let concurrency = TypeConcurrency {
        max: None,
        backlog: Some(3),
    };
    let set = lab
        .store
        .set_type_concurrency(at(0), TENANT, "few", concurrency.into());
    assert_eq!(set.await.expect("set").concurrency, concurrency);
    let items = (0..5).map(|n| of_type(&lab, "few", n)).collect();
    let receipts = lab.enqueue(at(9), items).await;
    assert_eq!(
        receipts[3..],
        [full(BacklogOf::Type, 3), full(BacklogOf::Type, 3)]
    );
    let other = NewExecution {
        tenant_id: OTHER,
        ..of_type(&lab, "few", 0)
    };
    lab.put(at(9), other).await;
    assert_eq!(claim(&lab, at(9), 1, &[(TENANT, "few")]).await.len(), 1);
    lab.put(at(9), of_type(&lab, "few", 0)).await;

    // Three of the type, three of the config.
    let bounds = TenantBounds {
        backlog: Some(7),
        ..TenantBounds::default()
    };
    lab.store
        .set_tenant_bounds(TENANT, bounds)
        .await
        .expect("set");
    lab.put_due(None, at(9)).await;
    let receipts = lab
        .enqueue(at(9), vec![lab.new_execution(None, at(9))])
        .await;
    assert_eq!(receipts, [full(BacklogOf::Tenant, 7)]);
}

/// One that finds no place voids an atomic batch, and nothing of it waits.
pub async fn a_full_backlog_voids_an_atomic_batch(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let item = || NewExecution {
        backlog: Some(2),
        ..lab.new_execution(Some(config.id), at(0))
    };
    let batch = |count| Enqueue {
        atomic: true,
        ..Enqueue::each((0..count).map(|_| item()).collect())
    };
    let void = EnqueueReceipt::Void;
    let expected = vec![void.clone(), void, full(BacklogOf::Config, 2)];
    let done = lab.store.enqueue(at(0), batch(3)).await;
    assert_eq!(done.expect("answers"), Enqueued::Done(expected));
    assert!(lab.claim(at(0), 5).await.is_empty());
    let done = lab.store.enqueue(at(0), batch(2)).await;
    assert!(matches!(done, Ok(Enqueued::Done(_))));
    assert_eq!(lab.claim(at(0), 5).await.len(), 2);
}

/// A slot that meets a full backlog is skipped, and that is told.
pub async fn a_slot_that_meets_a_full_backlog_is_skipped(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let mut order = lab
        .order(config.id, &[600, 1200, 1800], Overlap::Allow)
        .await;
    let mut template = (*order.template).clone();
    template.backlog = Some(1);
    order.template = Arc::new(template);
    let receipts = lab.store.fire_due(at(1800), vec![order]).await;
    let receipt = &receipts.expect("fires")[0];
    assert_eq!((receipt.enqueued.len(), receipt.skipped()), (1, 2));
    let open = lab.read(config.id).await.schedule_state.open_skip;
    let open = open.expect("a streak");
    assert_eq!((open.reason, open.count), (SkipReason::BacklogCap, 2));
}

/// A slot that finds no place cancels nothing to make room for itself.
pub async fn a_slot_without_a_place_cancels_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let running = lab.running(Some(config.id), at(0)).await;
    lab.put_due(None, at(50)).await;
    let bounds = TenantBounds {
        backlog: Some(1),
        ..TenantBounds::default()
    };
    let set = lab.store.set_tenant_bounds(TENANT, bounds).await;
    set.expect("set");
    let order = lab.order(config.id, &[600], Overlap::CancelRunning).await;
    let receipt = lab.fire(at(600), order).await;
    assert_eq!((receipt.enqueued.len(), receipt.skipped()), (0, 1));
    assert!(receipt.cancel_requested.is_empty(), "{receipt:?}");
    let beat = lab.store.heartbeat(at(601), lab.host).await;
    assert!(beat.expect("answers").cancels.is_empty());
    assert_eq!(lab.show(running.task_id).await.state, State::Running);
}

async fn waiting(lab: &Lab, config: ConfigId) -> usize {
    let filter = ExecutionFilter {
        config_id: Some(config),
        states: vec![State::Available],
        ..ExecutionFilter::default()
    };
    let page = Page::first(10);
    let listed = lab.store.executions(TENANT, &filter, &page).await;
    listed.expect("executions answers").items.len()
}

/// What is cancelled to make room makes none where more waits than may: the cap was lowered since.
pub async fn a_cancel_below_a_lowered_cap_makes_no_room(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let changes = json!({"key": "then", "overlap": "cancel_running"});
    let config = lab.config(changes).await;
    let cron = lab.cron().await;
    for due in [&config, &cron].map(|config| Some(config.id)) {
        lab.put_due(due, at(50)).await;
    }
    for _ in 0..3 {
        lab.put_due(None, at(50)).await;
    }
    let bounds = TenantBounds {
        backlog: Some(2),
        ..TenantBounds::default()
    };
    let set = lab.store.set_tenant_bounds(TENANT, bounds).await;
    set.expect("set");
    // Five wait where two may; one less is still too many.
    let order = lab.order(cron.id, &[600], Overlap::CancelRunning).await;
    let receipt = lab.fire(at(600), order).await;
    assert_eq!((receipt.enqueued.len(), receipt.skipped()), (0, 1));
    assert_eq!(waiting(&lab, cron.id).await, 1);
    // The same for what a chain sets off.
    let first = lab.config(json!({"chain": [{"task": "then"}]})).await;
    let (id, by) = (lab.task_id(), Trigger::Manual);
    let parent = new_execution(&first, false, id, by, at(0), Overrides::default());
    let none = TenantBounds::default();
    let set = lab.store.set_tenant_bounds(TENANT, none).await;
    set.expect("set");
    lab.put(at(0), parent).await;
    let claimed = lab.claim_one(at(0)).await;
    let set = lab.store.set_tenant_bounds(TENANT, bounds).await;
    set.expect("set");
    lab.finish(at(700), &claimed, End::Succeeded(Arc::from("1")))
        .await;
    assert_eq!(waiting(&lab, config.id).await, 1);
    let skipped = lab.skipped(config.id).await;
    assert_eq!(skipped[0].skip_reason, Some(SkipReason::BacklogCap));
}
