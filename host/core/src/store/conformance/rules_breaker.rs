//! The circuit breaker of a task type that keeps failing.

use super::lab::{Lab, TENANT, TYPE, at, ok};
use super::rules_limits::{claim, of_type, register};
use crate::store::{Claimed, CompletionReceipt, End, Store};
use horarium_model::execution::{AttemptOutcome, State};
use horarium_model::task_type::Breaker;
use horarium_model::{ErrorKind, TenantId, Timestamp};
use std::sync::Arc;

/// Ends a claimed execution as a failure of this kind.
pub(super) async fn fail(lab: &Lab, now: Timestamp, claimed: &Claimed, kind: ErrorKind) {
    let mut item = lab.completion(now, claimed, End::Failed);
    item.record.outcome = AttemptOutcome::Failed;
    item.record.error_kind = Some(kind);
    item.record.error_message = Some("boom".to_owned());
    let recorded = CompletionReceipt::Recorded(State::Failed);
    assert_eq!(lab.complete(now, item).await, recorded);
}

async fn breaker(lab: &Lab) -> Option<Breaker> {
    let shown = lab.store.task_type(TENANT, "sick").await.expect("answers");
    let all = lab.store.all_task_types().await.expect("answers");
    let shown = shown.expect("registered");
    assert!(all.contains(&shown));
    shown.breaker
}

const SICK: &[(TenantId, &str)] = &[(TENANT, "sick")];

/// Lets this many of the sick type fail.
async fn sicken(lab: &Lab, now: Timestamp, count: u32) {
    for _ in 0..count {
        let claimed = claim(lab, now, 1, SICK).await;
        fail(lab, now, &claimed[0], ErrorKind::Trap).await;
    }
}

async fn sick_lab(store: Arc<dyn Store>) -> Lab {
    let lab = Lab::new(store).await;
    register(&lab, "sick").await;
    let items = (0..100).map(|n| of_type(&lab, "sick", n - 200)).collect();
    lab.enqueue(at(0), items).await;
    lab
}

/// A type whose attempts break in a row starts no more; one is let through after a pause, which doubles each time
/// that fails. One that works closes it.
pub async fn a_breaker_opens_probes_and_closes(store: Arc<dyn Store>) {
    let lab = sick_lab(store).await;
    sicken(&lab, at(1), Breaker::OPENS_AFTER - 1).await;
    assert_eq!(breaker(&lab).await, None);
    let straggler = claim(&lab, at(1), 1, SICK).await;
    let before = lab.store.catalog_epoch().await.expect("answers");
    sicken(&lab, at(2), 1).await;
    assert!(lab.store.catalog_epoch().await.expect("answers") > before);
    let open = breaker(&lab).await.expect("open");
    assert_eq!(
        (open.failures, open.pause_seconds),
        (Breaker::OPENS_AFTER, 30)
    );
    assert_eq!((open.opened_at, open.probe_at), (at(2), at(32)));
    assert_eq!(open.error_kind, Some(ErrorKind::Trap));
    assert_eq!(open.error_message.as_deref(), Some("boom"));
    // What ran already counts, and moves nothing.
    fail(&lab, at(3), &straggler[0], ErrorKind::Timeout).await;
    let still = breaker(&lab).await.expect("open");
    assert_eq!(
        (still.failures, still.probe_at),
        (Breaker::OPENS_AFTER + 1, at(32))
    );
    // Others go on.
    let free = lab.put_due(None, at(3)).await;
    let claimed = claim(&lab, at(31), 9, &[(TENANT, "sick"), (TENANT, TYPE)]).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].task_id, free);
    let probe = claim(&lab, at(32), 9, SICK).await;
    assert_eq!(probe.len(), 1);
    assert!(
        claim(&lab, at(99), 9, SICK).await.is_empty(),
        "one at a time"
    );
    fail(&lab, at(100), &probe[0], ErrorKind::Trap).await;
    let open = breaker(&lab).await.expect("open");
    assert_eq!((open.pause_seconds, open.probe_at), (60, at(160)));
    assert!(claim(&lab, at(159), 9, SICK).await.is_empty());
    // One that is handed back says nothing: another may try at once.
    let probe = claim(&lab, at(160), 9, SICK).await;
    assert_eq!(lab.release(at(161), &probe[0], None, None).await, 1);
    let probe = claim(&lab, at(161), 9, SICK).await;
    assert_eq!(probe.len(), 1);
    lab.finish(at(162), &probe[0], ok()).await;
    assert_eq!(breaker(&lab).await, None);
    assert_eq!(claim(&lab, at(162), 9, SICK).await.len(), 9);
}

/// Only what breaks counts, and only in a row: a success, or a failure that the guest reported itself, begins
/// anew. A person closes it too.
pub async fn a_breaker_counts_what_breaks_in_a_row(store: Arc<dyn Store>) {
    let lab = sick_lab(store).await;
    for works in [None, Some(ErrorKind::Permanent)] {
        sicken(&lab, at(1), Breaker::OPENS_AFTER - 1).await;
        let claimed = claim(&lab, at(1), 1, SICK).await;
        match works {
            None => drop(lab.finish(at(1), &claimed[0], ok()).await),
            Some(kind) => fail(&lab, at(1), &claimed[0], kind).await,
        }
    }
    sicken(&lab, at(2), Breaker::OPENS_AFTER - 1).await;
    // Neither for nor against it.
    let claimed = claim(&lab, at(2), 1, SICK).await;
    fail(&lab, at(2), &claimed[0], ErrorKind::SecretMissing).await;
    assert_eq!(breaker(&lab).await, None);
    sicken(&lab, at(2), 1).await;
    assert!(breaker(&lab).await.is_some());
    assert!(claim(&lab, at(3), 9, SICK).await.is_empty());
    let reset = lab.store.reset_breaker(at(3), TENANT, "sick").await;
    assert_eq!(reset.expect("reset").breaker, None);
    assert_eq!(claim(&lab, at(3), 9, SICK).await.len(), 9);
    assert!(
        lab.store
            .reset_breaker(at(3), TENANT, "none")
            .await
            .is_err()
    );
}
