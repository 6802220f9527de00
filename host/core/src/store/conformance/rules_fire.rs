//! Firing schedules (rules S1, S5, S6, S7).

use super::lab::{Lab, TENANT, at, ok};
use crate::store::{CompletionReceipt, End, FireReceipt, NewExecution, Store};
use horarium_model::ErrorKind;
use horarium_model::config::SkipStreak;
use horarium_model::execution::{SkipReason, State, Trigger};
use horarium_model::schedule::Overlap;
use serde_json::json;
use std::sync::Arc;

fn streak(reason: SkipReason, first: i64, last: i64, count: i64) -> SkipStreak {
    SkipStreak {
        reason,
        first: at(first),
        last: at(last),
        count,
    }
}

/// Rule S1: the same order twice fires once; a changed, paused or deleted config voids it.
pub async fn firing_is_compare_and_set(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let order = lab.order(config.id, &[600], Overlap::Skip).await;
    let receipt = lab.fire(at(601), order.clone()).await;
    assert!(receipt.applied);
    assert_eq!(receipt.enqueued, order.task_ids);
    let shown = lab.show(order.task_ids[0]).await;
    assert_eq!((shown.slot, shown.due_at), (Some(at(600)), Some(at(600))));
    assert_eq!(
        (shown.trigger, shown.state),
        (Trigger::Schedule, State::Available)
    );
    assert_eq!(shown.config_id, Some(config.id));
    let state = lab.read(config.id).await.schedule_state;
    assert_eq!(
        (state.last_slot, state.next_fire_at),
        (Some(at(600)), Some(at(1200)))
    );
    let mut again = order;
    again.task_ids = vec![lab.task_id()];
    assert_eq!(lab.fire(at(601), again).await, FireReceipt::default());
    // Seen before an update.
    let stale = lab.order(config.id, &[1200], Overlap::Allow).await;
    let update = |version, spec| crate::store::ConfigUpdate {
        expected_version: version,
        spec,
        reanchor: None,
    };
    let spec = config.spec.clone();
    let config = lab
        .store
        .update_config(at(700), TENANT, config.id, update(1, spec.clone()))
        .await
        .expect("updates");
    assert!(!lab.fire(at(1200), stale).await.applied);
    // Paused: no slot fires even if the order was made with the right version.
    let mut paused = spec;
    paused.paused = true;
    let config = lab
        .store
        .update_config(at(800), TENANT, config.id, update(2, paused))
        .await
        .expect("updates");
    assert_eq!(config.schedule_state.next_fire_at, None);
    let order = lab.order(config.id, &[1200], Overlap::Allow).await;
    assert!(!lab.fire(at(1200), order.clone()).await.applied);
    let mut foreign = order.clone();
    foreign.tenant_id = TENANT + 1;
    assert!(!lab.fire(at(1200), foreign).await.applied);
    lab.store
        .delete_config(at(900), TENANT, config.id, Default::default())
        .await
        .expect("deletes");
    assert!(!lab.fire(at(1200), order).await.applied);
}

/// One receipt per order, in order; a void one harms no other.
pub async fn a_batch_of_orders_is_answered_one_by_one(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        let config = lab.cron().await;
        orders.push(lab.order(config.id, &[600], Overlap::Skip).await);
    }
    orders[2].seen.version += 1;
    let mut twice = orders[0].clone();
    twice.task_ids = vec![lab.task_id()];
    orders.push(twice);
    let receipts = lab
        .store
        .fire_due(at(600), orders.clone())
        .await
        .expect("answers");
    let applied: Vec<bool> = receipts.iter().map(|r| r.applied).collect();
    assert_eq!(applied, [true, true, false, true, true, false]);
    let enqueued: Vec<_> = receipts.into_iter().flat_map(|r| r.enqueued).collect();
    let expected: Vec<_> = [0, 1, 3, 4]
        .iter()
        .map(|i| orders[*i].task_ids[0])
        .collect();
    assert_eq!(enqueued, expected);
    orders[0].task_ids.clear();
    let refused = lab.store.fire_due(at(600), orders).await;
    assert!(refused.is_err(), "an order without ids is refused whole");
}

/// A fire inserted ahead of its instant waits for it.
pub async fn fires_later_than_now_are_scheduled(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let mut order = lab.order(config.id, &[600], Overlap::Skip).await;
    order.plan.fires[0].fires_at = at(605);
    order.plan.fires[0].trigger = Trigger::CatchUp;
    let task_id = order.task_ids[0];
    lab.fire(at(601), order).await;
    let shown = lab.show(task_id).await;
    assert_eq!(
        (shown.state, shown.due_at),
        (State::Scheduled, Some(at(605)))
    );
    assert_eq!(
        (shown.slot, shown.trigger),
        (Some(at(600)), Trigger::CatchUp)
    );
}

/// Rule S5: one row per streak, written when it ends, shown with the config while it is open.
pub async fn a_skip_streak_grows_and_is_written_when_a_slot_fires(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab
        .config(
            json!({"scheduler_type": "cron", "priority": 7, "max_retries": 4,
        "schedule_config": {"cron_expression": "*/10 * * * *"}}),
        )
        .await;
    let blocker = lab.running(Some(config.id), at(0)).await;
    for slot in [600, 1200, 1800] {
        let order = lab.order(config.id, &[slot], Overlap::Skip).await;
        let receipt = lab.fire(at(slot), order).await;
        assert_eq!((receipt.applied, receipt.skipped()), (true, 1));
        assert!(receipt.enqueued.is_empty());
    }
    let open = lab.read(config.id).await.schedule_state.open_skip;
    assert_eq!(open, Some(streak(SkipReason::Overlap, 600, 1800, 3)));
    assert!(lab.skipped(config.id).await.is_empty());
    lab.finish(at(1900), &blocker, ok()).await;
    let order = lab.order(config.id, &[2400], Overlap::Skip).await;
    let fired = order.task_ids[0];
    lab.fire(at(2400), order).await;
    assert_eq!(lab.read(config.id).await.schedule_state.open_skip, None);
    let rows = lab.skipped(config.id).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.state, row.is_success), (State::Skipped, None));
    assert_eq!(row.skip_reason, Some(SkipReason::Overlap));
    assert_eq!((row.slot, row.slot_last), (Some(at(600)), Some(at(1800))));
    assert_eq!(row.slot_count, Some(3));
    assert_eq!((row.priority, row.max_attempts, row.attempt), (7, 5, 0));
    assert_eq!(
        (row.created_at, row.completed_at),
        (at(2400), Some(at(2400)))
    );
    assert_eq!(row.task_type, config.spec.task_type);
    assert!(row.id < lab.show(fired).await.id, "the streak comes first");
    assert_eq!(lab.find(row.task_id).await.map(|e| e.id), Some(row.id));
}

/// Another reason closes the streak; missed slots come before the fires of the same look.
pub async fn another_reason_closes_the_streak(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let mut order = lab.order(config.id, &[1800], Overlap::Skip).await;
    order.plan.skipped = Some(streak(SkipReason::Missed, 600, 1200, 2));
    order.skip_all = Some(SkipReason::TypeDisabled);
    let receipt = lab.fire(at(1800), order).await;
    assert_eq!(receipt.skipped(), 3);
    let rows = lab.skipped(config.id).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].skip_reason, Some(SkipReason::Missed));
    assert_eq!(rows[0].slot_count, Some(2));
    let open = lab.read(config.id).await.schedule_state.open_skip;
    assert_eq!(open, Some(streak(SkipReason::TypeDisabled, 1800, 1800, 1)));
    // Missed slots of a later look close it in turn, and its fire closes them.
    let mut order = lab.order(config.id, &[4200], Overlap::Skip).await;
    order.plan.skipped = Some(streak(SkipReason::Missed, 2400, 3600, 3));
    let receipt = lab.fire(at(4200), order).await;
    assert_eq!((receipt.skipped(), receipt.enqueued.len()), (3, 1));
    let rows = lab.skipped(config.id).await;
    let counts: Vec<_> = rows.iter().map(|r| r.slot_count).collect();
    assert_eq!(counts, [Some(2), Some(1), Some(3)]);
    assert_eq!(lab.read(config.id).await.schedule_state.open_skip, None);
}

/// `skip_all` skips each slot that would fire, whatever lives.
pub async fn an_order_may_skip_everything(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let mut order = lab.order(config.id, &[600, 1200], Overlap::Allow).await;
    order.plan.made_up_all = true;
    order.skip_all = Some(SkipReason::BacklogCap);
    let receipt = lab.fire(at(1200), order).await;
    assert_eq!((receipt.skipped(), receipt.enqueued.len()), (2, 0));
    let state = lab.read(config.id).await.schedule_state;
    assert_eq!(
        state.open_skip,
        Some(streak(SkipReason::BacklogCap, 600, 1200, 2))
    );
    assert_eq!(state.last_slot, Some(at(1200)));
    assert_eq!(
        lab.store.queue_counts().await.expect("answers"),
        Default::default()
    );
}

/// Rule S6, each rule against something running and something waiting.
pub async fn overlap_skip_queue_one_and_allow(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for (overlap, over_running, over_waiting) in [
        (Overlap::Allow, 1, 1),
        (Overlap::Skip, 0, 0),
        (Overlap::QueueOne, 1, 0),
    ] {
        let config = lab.cron().await;
        let claimed = lab.running(Some(config.id), at(0)).await;
        let order = lab.order(config.id, &[600], overlap).await;
        let receipt = lab.fire(at(600), order).await;
        assert_eq!(receipt.enqueued.len(), over_running, "{overlap:?}");
        for task_id in receipt.enqueued {
            lab.cancel(at(600), task_id).await;
        }
        lab.finish(at(601), &claimed, End::Retry(at(9999))).await;
        let order = lab.order(config.id, &[1200], overlap).await;
        let receipt = lab.fire(at(1200), order).await;
        assert_eq!(receipt.enqueued.len(), over_waiting, "{overlap:?}");
        // Two slots at once: the second meets the first.
        lab.cancel(at(1201), claimed.task_id).await;
        for task_id in receipt.enqueued {
            lab.cancel(at(1201), task_id).await;
        }
        let order = lab.order(config.id, &[1800, 2400], overlap).await;
        let receipt = lab.fire(at(2400), order).await;
        let both = if overlap == Overlap::Allow { 2 } else { 1 };
        assert_eq!(receipt.enqueued.len(), both, "{overlap:?}");
        for task_id in receipt.enqueued {
            lab.cancel(at(2401), task_id).await;
        }
    }
}

/// Rule S6, `cancel_running`: waiting end, running are asked, the new one is in the queue.
pub async fn overlap_cancel_running_ends_and_asks(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let other = lab.cron().await;
    let bystander = lab.put_due(Some(other.id), at(50)).await;
    let running = lab.running(Some(config.id), at(0)).await;
    let waiting = lab.put(at(0), lab.new_execution(Some(config.id), at(5000)));
    let waiting = waiting.await.1;
    let mut order = lab.order(config.id, &[600], Overlap::CancelRunning).await;
    let template = NewExecution {
        run_key: Some(format!("config {}", config.id)),
        run_max: 1,
        ..(*order.template).clone()
    };
    order.template = Arc::new(template);
    let receipt = lab.fire(at(600), order.clone()).await;
    assert_eq!(receipt.enqueued, order.task_ids);
    assert_eq!(receipt.cancel_requested, [running.task_id]);
    assert_eq!(lab.state(running.task_id).await, State::Running);
    let ended = lab.show(waiting).await;
    assert_eq!(ended.state, State::Cancelled);
    assert_eq!(ended.error_kind, Some(ErrorKind::Cancelled));
    assert_eq!(lab.state(bystander).await, State::Available);
    let beat = lab
        .store
        .heartbeat(at(601), lab.host)
        .await
        .expect("answers");
    assert_eq!(beat.cancels, [running.task_id]);
    // The next slot ends the one that waits, and need not ask again.
    let next = lab.order(config.id, &[1200], Overlap::CancelRunning).await;
    let receipt = lab.fire(at(1200), next.clone()).await;
    assert!(receipt.cancel_requested.is_empty());
    assert_eq!(lab.state(order.task_ids[0]).await, State::Cancelled);
    assert_eq!(lab.state(next.task_ids[0]).await, State::Available);
}

/// Rule S7: slots made up by `all` all queue under `skip` and `queue_one`.
pub async fn made_up_slots_queue_one_behind_another(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for overlap in [Overlap::Skip, Overlap::QueueOne] {
        let config = lab.cron().await;
        let claimed = lab.running(Some(config.id), at(0)).await;
        let mut order = lab.order(config.id, &[600, 1200, 1800], overlap).await;
        order.plan.made_up_all = true;
        let receipt = lab.fire(at(1800), order.clone()).await;
        assert_eq!(receipt.enqueued, order.task_ids, "{overlap:?}");
        assert_eq!(receipt.skipped(), 0);
        lab.finish(at(1801), &claimed, ok()).await;
        for task_id in order.task_ids {
            lab.cancel(at(1801), task_id).await;
        }
    }
}

/// Due schedules, the most overdue first, no more than asked for, nothing paused or deleted.
pub async fn due_schedules_come_most_overdue_first(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let minutes = |n: i64| json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": format!("*/{n} * * * *")}});
    let twenty = lab.config(minutes(20)).await.id;
    let five = lab.config(minutes(5)).await;
    let ten = lab.config(minutes(10)).await.id;
    let mut paused = minutes(1);
    paused["paused"] = json!(true);
    lab.config(paused).await;
    let deleted = lab.config(minutes(1)).await.id;
    lab.store
        .delete_config(at(1), TENANT, deleted, Default::default())
        .await
        .expect("deletes");
    let due = |now, limit| {
        let store = lab.store.clone();
        async move {
            let due = store.due_schedules(at(now), limit).await.expect("answers");
            due.into_iter().map(|d| d.config_id).collect::<Vec<_>>()
        }
    };
    assert!(due(299, 9).await.is_empty());
    assert_eq!(due(300, 9).await, [five.id]);
    assert_eq!(due(1200, 9).await, [five.id, ten, twenty]);
    assert_eq!(due(1200, 2).await, [five.id, ten]);
    let whole = lab.store.due_schedules(at(300), 1).await.expect("answers");
    assert_eq!(whole[0].version, five.version);
    assert_eq!(whole[0].state, five.schedule_state);
}

/// `pause_after_failures`: failures in a row pause the config, a success forgets them.
pub async fn failures_in_a_row_pause_a_config(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let end = |end: End| {
        let lab = &lab;
        async move {
            let claimed = lab.running(Some(config.id), at(1)).await;
            let mut item = lab.completion(at(2), &claimed, end);
            item.pause_after_failures = Some(2);
            let receipt = lab.complete(at(2), item).await;
            assert!(matches!(receipt, CompletionReceipt::Recorded(_)));
            lab.read(config.id).await
        }
    };
    let now = end(End::Failed).await;
    assert_eq!(
        (now.schedule_state.failures_in_a_row, now.spec.paused),
        (1, false)
    );
    assert_eq!(now.version, 1, "counting is no change of the config");
    let now = end(ok()).await;
    assert_eq!(now.schedule_state.failures_in_a_row, 0);
    end(End::Failed).await;
    let now = end(End::Cancelled).await;
    assert_eq!(
        now.schedule_state.failures_in_a_row, 1,
        "a cancel says nothing"
    );
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let now = end(End::Failed).await;
    assert!(now.spec.paused);
    assert_eq!((now.version, now.updated_at), (2, at(2)));
    assert_eq!(now.schedule_state.next_fire_at, None);
    assert!(now.spec.pause_reason.is_some_and(|r| r.contains('2')));
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    let mut spec = config.spec.clone();
    spec.paused = false;
    let update = crate::store::ConfigUpdate {
        expected_version: 2,
        spec,
        reanchor: None,
    };
    let resumed = lab
        .store
        .update_config(at(3), TENANT, config.id, update)
        .await
        .expect("resumes");
    assert_eq!(resumed.schedule_state.failures_in_a_row, 0);
}
