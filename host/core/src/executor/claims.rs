//! The claim loop: permits first, then a claim for just as many (so nothing is claimed that cannot run).

use super::admission::{self, Seat};
use super::{Executor, Running, attempt, lock};
use crate::control::{RunControl, StopReason};
use crate::store::{ClaimRequest, Claimed, Claims, Release, StoreError};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Most executions taken by one claim.
const CLAIM_BATCH: u32 = 1024;
/// The longest wait between two claims of an idle host. The heartbeat, which asks whether anything is available,
/// makes up for lost hints.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Pause after the store failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Claims until `shutdown`.
pub(super) async fn run(executor: &Arc<Executor>, shutdown: &CancellationToken) {
    let parts = &executor.parts;
    loop {
        if !executor.lease.is_trusted(parts.clock.monotonic()) {
            // What would be claimed now could not be kept.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = parts.clock.sleep(AFTER_ERROR) => continue,
            }
        }
        if executor.lease.take_doubt() && give_back_unknown(executor).await.is_err() {
            executor.lease.doubt();
        }
        let Some(permits) = some_permits(executor, shutdown).await else {
            return;
        };
        let Some(room) = admission::room(executor, permits) else {
            // Nothing of what could be claimed fits into the memory that is left.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = executor.settings.memory.freed() => {}
                () = parts.clock.sleep(AFTER_ERROR) => {}
            }
            continue;
        };
        let wanted = room.runs();
        let partial = room.is_partial();
        let incarnation = executor.lease.incarnation();
        let request = ClaimRequest {
            now: parts.clock.now(),
            incarnation,
            types: room.types(),
            limit: u32::try_from(wanted).unwrap_or(CLAIM_BATCH),
        };
        let idle = match parts.store.claim(request).await {
            // Whoever was given up meanwhile, or stopped believing, must not begin.
            Ok(_)
                if executor.lease.incarnation() != incarnation
                    || !executor.lease.is_trusted(parts.clock.monotonic()) =>
            {
                executor.lease.doubt();
                continue;
            }
            Ok(Claims { claimed, rates }) => {
                if rates {
                    // The scheduler looks when there are tokens again.
                    parts.wakes.rescheduled();
                }
                let short = claimed.len() < wanted;
                let mut room = room;
                for claimed in claimed {
                    match room.seat(executor, &claimed) {
                        Some(seat) => start(executor, claimed, incarnation, seat),
                        None => executor.lease.doubt(),
                    }
                }
                if !short {
                    continue;
                }
                LOOK_AT_LEAST_EVERY
            }
            Err(error) => {
                // The claim may have happened although its answer was lost.
                executor.lease.doubt();
                tracing::warn!(%error, "the executor cannot reach its store; trying again");
                AFTER_ERROR
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = parts.wakes.queue.notified() => {}
            () = executor.settings.memory.freed(), if partial => {}
            () = parts.clock.sleep(idle) => {}
        }
    }
}

/// Hands back what the store says we hold and we know nothing of.
async fn give_back_unknown(executor: &Executor) -> Result<(), StoreError> {
    let parts = &executor.parts;
    let incarnation = executor.lease.incarnation();
    // Before the store is asked: what ends meanwhile is known no more, but was. Nothing comes meanwhile, since only
    // the caller claims.
    let owned = lock(&executor.owned).clone();
    let held = parts.store.held(incarnation).await?;
    let unknown: Vec<Release> = {
        let unknown = held
            .into_iter()
            .filter(|held| !owned.contains(&(held.id, held.claim)));
        unknown
            .map(|held| Release {
                id: held.id,
                claim: held.claim,
                incarnation,
                record: None,
                due_at: None,
            })
            .collect()
    };
    if !unknown.is_empty() {
        tracing::warn!(
            count = unknown.len(),
            "handing back executions whose claim was not answered"
        );
        parts.store.release(parts.clock.now(), unknown).await?;
    }
    Ok(())
}

/// Waits for one free slot and takes what else is free; none after a shutdown.
async fn some_permits(
    executor: &Executor,
    shutdown: &CancellationToken,
) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        biased;
        () = shutdown.cancelled() => return None,
        permit = executor.permits.clone().acquire_owned() => permit.ok()?,
    };
    let mut permits = vec![first];
    while permits.len() < CLAIM_BATCH as usize {
        match executor.permits.clone().try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    Some(permits)
}

fn start(executor: &Arc<Executor>, claimed: Claimed, incarnation: i64, seat: Seat) {
    let Seat { permit, memory } = seat;
    let parts = &executor.parts;
    // Narrowed once the limits of its plugin and its config are read.
    let log_bytes = executor.settings.limits.complete().log_bytes;
    let control = Arc::new(RunControl::new(log_bytes, claimed.claim).with_memory(memory));
    let started_at = parts.clock.now();
    let running = Arc::new(Running {
        control: control.clone(),
        started_at,
        seen_progress: AtomicU64::new(0),
        incarnation,
        claimed: Arc::new(claimed),
    });
    let task_id = running.claimed.task_id;
    lock(&executor.owned).insert((running.claimed.id, running.claimed.claim));
    lock(&executor.running).insert(task_id, running.clone());
    let mut early = lock(&executor.early_cancels);
    if let Some(at) = early.iter().position(|id| *id == task_id) {
        early.remove(at);
        control.stop(StopReason::Cancel);
    }
    drop(early);
    let queued = (started_at - running.claimed.due_at)
        .to_std()
        .unwrap_or_default();
    parts.observer.started(&running.claimed.task_type, queued);
    let executor = executor.clone();
    let guests = executor.settings.guests.clone();
    guests.spawn(async move {
        attempt::run(&executor, &running).await;
        let mut all = lock(&executor.running);
        // It may have been claimed anew already.
        if all
            .get(&task_id)
            .is_some_and(|other| Arc::ptr_eq(other, &running))
        {
            all.remove(&task_id);
        }
        drop(all);
        drop(permit);
    });
}
