//! Ends and moves that are not an attempt's: cancels, expiry, sweeps, hand-backs.

use super::lab::{Lab, TENANT, at, ok, record};
use crate::store::{CancelReceipt, CompletionReceipt, End, NewExecution, Store, Swept};
use horarium_model::execution::{AttemptOutcome, State};
use horarium_model::{ErrorKind, TaskId, TenantId, Timestamp};
use serde_json::json;
use std::sync::Arc;

/// Rule E7: waiting ends at once, running gets the flag, ended stays.
pub async fn cancel_in_each_state(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let scheduled = lab.put(at(0), lab.new_execution(None, at(99))).await.1;
    let retryable = lab.running(None, at(0)).await;
    lab.finish(at(1), &retryable, End::Retry(at(99))).await;
    let running = lab.running(None, at(1)).await;
    let available = lab.put_due(None, at(1)).await;
    for waiting in [scheduled, retryable.task_id, available] {
        assert_eq!(lab.cancel(at(2), waiting).await, CancelReceipt::Ended);
        let shown = lab.show(waiting).await;
        assert_eq!(
            (shown.state, shown.is_success),
            (State::Cancelled, Some(false))
        );
        assert_eq!(shown.error_kind, Some(ErrorKind::Cancelled));
        assert_eq!(shown.completed_at, Some(at(2)));
        assert_eq!(shown.cancel_requested_at, Some(at(2)));
        assert_eq!(
            lab.cancel(at(3), waiting).await,
            CancelReceipt::AlreadyEnded(State::Cancelled)
        );
    }
    assert_eq!(
        lab.cancel(at(2), running.task_id).await,
        CancelReceipt::Requested
    );
    assert_eq!(
        lab.cancel(at(3), running.task_id).await,
        CancelReceipt::Requested
    );
    let shown = lab.show(running.task_id).await;
    assert_eq!(
        (shown.state, shown.cancel_requested_at),
        (State::Running, Some(at(2)))
    );
    lab.finish(at(4), &running, End::Cancelled).await;
    assert_eq!(
        lab.cancel(at(5), running.task_id).await,
        CancelReceipt::AlreadyEnded(State::Cancelled)
    );
    assert_eq!(
        lab.cancel(at(5), lab.task_id()).await,
        CancelReceipt::NotFound
    );
    assert!(lab.claim(at(100), 9).await.is_empty());
}

/// Whichever end is recorded first stands.
pub async fn a_success_beats_a_cancel(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    lab.cancel(at(1), claimed.task_id).await;
    assert_eq!(lab.finish(at(2), &claimed, ok()).await, State::Succeeded);
    let claimed = lab.running(None, at(3)).await;
    lab.cancel(at(3), claimed.task_id).await;
    assert_eq!(
        lab.finish(at(4), &claimed, End::Failed).await,
        State::Failed
    );
}

/// Another tenant's executions do not exist.
pub async fn cancel_of_a_foreign_tenant_finds_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let task_id = lab.put_due(None, at(0)).await;
    let receipt = lab.store.cancel(at(1), TENANT + 1, task_id).await;
    assert_eq!(receipt.expect("answers"), CancelReceipt::NotFound);
    assert_eq!(lab.state(task_id).await, State::Available);
}

/// Whatever waits, in any state, ends `failed`/`expired`; what runs does not.
pub async fn waiting_executions_expire(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let expiring = |due| NewExecution {
        expires_at: Some(at(50)),
        ..lab.new_execution(None, due)
    };
    let retryable = lab.put(at(0), expiring(at(0))).await.1;
    let first = lab.claim_one(at(0)).await;
    lab.finish(at(1), &first, End::Retry(at(60))).await;
    let running = lab.put(at(1), expiring(at(1))).await.1;
    lab.claim_one(at(1)).await;
    let available = lab.put(at(2), expiring(at(2))).await.1;
    let scheduled = lab.put(at(2), expiring(at(70))).await.1;
    let early = lab.store.sweep_due(at(49), 10).await.expect("sweeps");
    assert_eq!(early, Swept::default());
    let swept = lab.store.sweep_due(at(50), 10).await.expect("sweeps");
    assert_eq!((swept.available, swept.expired), (0, 3));
    for ended in [retryable, available, scheduled] {
        let shown = lab.show(ended).await;
        assert_eq!(
            (shown.state, shown.is_success),
            (State::Failed, Some(false))
        );
        assert_eq!(shown.error_kind, Some(ErrorKind::Expired));
        assert!(shown.error_message.is_some());
        assert_eq!(shown.completed_at, Some(at(50)));
    }
    assert_eq!(lab.attempts(retryable).await.len(), 1);
    assert_eq!(lab.state(running).await, State::Running);
}

/// A sweep moves the most overdue first, and no more than it was told.
pub async fn sweeping_moves_at_most_the_limit(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for due in [30, 10, 20, 40] {
        lab.put(at(0), lab.new_execution(None, at(due))).await;
    }
    let swept = lab.store.sweep_due(at(100), 3).await.expect("sweeps");
    assert_eq!(swept.available, 3);
    let due: Vec<_> = lab
        .claim(at(100), 9)
        .await
        .into_iter()
        .map(|c| c.due_at)
        .collect();
    assert_eq!(due, [at(10), at(20), at(30)]);
    let swept = lab.store.sweep_due(at(100), 3).await.expect("sweeps");
    assert_eq!(swept.available, 1);
}

/// The earliest of: a schedule, a wait that ends, an expiry.
pub async fn next_due_names_the_earliest(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let next = || async { lab.store.next_due().await.expect("answers") };
    assert_eq!(next().await, None);
    lab.put_due(None, at(0)).await;
    assert_eq!(next().await, None, "an available one waits for no instant");
    lab.cron().await;
    assert_eq!(next().await, Some(at(600)));
    let item = NewExecution {
        expires_at: Some(at(500)),
        ..lab.new_execution(None, at(0))
    };
    lab.put(at(0), item).await;
    assert_eq!(next().await, Some(at(500)));
    let scheduled = lab.put(at(0), lab.new_execution(None, at(400))).await.1;
    assert_eq!(next().await, Some(at(400)));
    lab.cancel(at(1), scheduled).await;
    assert_eq!(next().await, Some(at(500)));
    lab.claim(at(1), 9).await;
    assert_eq!(next().await, Some(at(600)), "what runs does not expire");
}

/// Rule E6: a handed-back run is available again and has used no attempt.
pub async fn releases_use_no_attempt(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = lab.running(None, at(0)).await;
    let handed = record(at(1), &first, AttemptOutcome::HandedBack);
    assert_eq!(
        lab.release(at(1), &first, Some(handed.clone()), None).await,
        1
    );
    assert_eq!(lab.release(at(1), &first, None, None).await, 0, "once");
    let shown = lab.show(first.task_id).await;
    assert_eq!((shown.state, shown.attempt), (State::Available, 0));
    let second = lab.claim_one(at(2)).await;
    assert_eq!((second.attempt, second.claim), (1, 2));
    assert_eq!(lab.release(at(3), &second, None, None).await, 1);
    let shown = lab.show(first.task_id).await;
    assert_eq!(shown.started_at, None, "it never started");
    let third = lab.claim_one(at(4)).await;
    assert_eq!((third.attempt, third.claim), (1, 3));
    let late = lab.completion(at(5), &second, ok());
    assert_eq!(lab.complete(at(5), late).await, CompletionReceipt::Stale);
    lab.finish(at(5), &third, ok()).await;
    let attempts = lab.attempts(first.task_id).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0], handed);
    assert_eq!(attempts[1].claim, 3);
}

/// With an instant, it is not claimed before it.
pub async fn a_release_may_wait(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    assert_eq!(lab.release(at(1), &claimed, None, Some(at(9))).await, 1);
    assert!(lab.claim(at(2), 1).await.is_empty());
    assert_eq!(lab.store.next_due().await.expect("answers"), Some(at(9)));
    lab.store.sweep_due(at(9), 1).await.expect("sweeps");
    let again = lab.claim_one(at(9)).await;
    assert_eq!((again.task_id, again.due_at), (claimed.task_id, at(9)));
    assert_eq!(lab.release(at(10), &again, None, Some(at(10))).await, 1);
    assert_eq!(lab.claim_one(at(10)).await.attempt, 1);
}

/// What must not run again ends when it is handed back.
pub async fn releases_of_cancelled_and_orphaned_end(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let cancelled = lab.running(None, at(0)).await;
    lab.cancel(at(1), cancelled.task_id).await;
    assert_eq!(lab.release(at(2), &cancelled, None, None).await, 1);
    let shown = lab.show(cancelled.task_id).await;
    assert_eq!(
        (shown.state, shown.attempt),
        (State::Cancelled, 0),
        "ended without running"
    );
    let config = lab.config(json!({})).await;
    let orphan = lab.running(Some(config.id), at(3)).await;
    let deleted = lab
        .store
        .delete_config(at(4), TENANT, config.id, Default::default())
        .await
        .expect("deletes");
    assert_eq!((deleted.cancelled, deleted.running), (0, 1));
    let handed = record(at(5), &orphan, AttemptOutcome::HandedBack);
    assert_eq!(lab.release(at(5), &orphan, Some(handed), None).await, 1);
    let shown = lab.show(orphan.task_id).await;
    assert_eq!((shown.state, shown.config_id), (State::Cancelled, None));
    assert!(
        shown
            .error_message
            .is_some_and(|m| m.starts_with("config_deleted"))
    );
}

/// The longest wait of each type is that of what could start; what a run key holds up is passed over.
pub async fn each_type_has_a_head_that_nothing_holds_up(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let of = |task_type: &str, due| NewExecution {
        task_type: task_type.to_owned(),
        ..lab.new_execution(None, at(due))
    };
    let types = ["one", "two", "none"].map(|name| (TENANT, name.to_owned()));
    assert!(heads(&lab, &types).await.is_empty());
    let keyed = |due| NewExecution {
        run_key: Some("k".to_owned()),
        ..of("one", due)
    };
    lab.put(at(0), keyed(0)).await;
    assert_eq!(lab.claim_types(at(0), 1, &["one"]).await.len(), 1);
    lab.put(at(9), keyed(1)).await;
    // What is held up is known once a claim looked at it.
    assert!(lab.claim_types(at(9), 1, &["one"]).await.is_empty());
    let (_, later) = lab.put(at(9), of("one", 7)).await;
    let urgent = NewExecution {
        priority: 1,
        ..of("two", 8)
    };
    lab.put(at(9), of("two", 5)).await;
    let (_, urgent) = lab.put(at(9), urgent).await;
    lab.put(at(9), of("two", 99)).await;
    lab.put(at(9), of("unasked", 3)).await;
    let found = heads(&lab, &types).await;
    assert_eq!(found, [(later, at(7)), (urgent, at(8))]);
}

async fn heads(lab: &Lab, types: &[(TenantId, String)]) -> Vec<(TaskId, Timestamp)> {
    let heads = lab.store.waiting_heads(types).await.expect("answers");
    let mut heads: Vec<_> = heads
        .into_iter()
        .map(|h| (h.task_type, h.task_id, h.due_at))
        .collect();
    heads.sort();
    heads.into_iter().map(|(_, id, due)| (id, due)).collect()
}
