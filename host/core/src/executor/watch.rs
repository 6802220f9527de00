//! Proves the host alive and takes over from hosts that are not, carries cancels to what runs here, and keeps
//! progress reports.

use super::{Executor, ExecutorSettings, HEARTBEAT, Parts, lock};
use crate::control::StopReason;
use crate::store::{HostFacts, ProgressReport, StoreError, StoreResult};
use horarium_model::{TaskId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Between the first tries after the store failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Between two looks at the trust that is left.
const LOOK: Duration = Duration::from_millis(500);
/// How long a heartbeat may take before the next is tried: a broken connection can be silent for long.
const PATIENCE: Duration = Duration::from_secs(4);
/// The least time between two looks at what dead hosts left.
const AFTER_TAKE_OVER: Duration = Duration::from_millis(200);
/// Between two looks at the progress of what runs.
const PROGRESS: Duration = Duration::from_secs(1);
/// Cancels remembered for executions whose claim is on its way.
const EARLY_CANCELS: usize = 1024;

/// Watches until `done`.
pub(super) async fn run(executor: Arc<Executor>, done: CancellationToken) {
    tokio::join!(
        heartbeats(&executor, &done),
        trust(&executor, &done),
        cancels(&executor, &done),
        progress(&executor, &done)
    );
}

/// What the heartbeat remembers between two beats.
#[derive(Default)]
struct Known {
    /// The catalog as the registry last read it.
    epoch: Option<i64>,
    /// What the store was told of this host.
    told: Option<(i64, HostFacts)>,
    /// When time next makes something happen.
    due: Option<Timestamp>,
}

async fn heartbeats(executor: &Executor, done: &CancellationToken) {
    let parts = &executor.parts;
    let mut known = Known::default();
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            () = parts.clock.sleep(wait) => {}
        }
        wait = match heartbeat(executor, &mut known).await {
            Ok(Some(next)) => next.clamp(AFTER_TAKE_OVER, HEARTBEAT),
            Ok(None) => HEARTBEAT,
            Err(error) => {
                tracing::warn!(%error, "the heartbeat failed; trying again");
                AFTER_ERROR
            }
        };
    }
}

/// Proves this host alive, obeys what others want of it, and takes over what dead hosts left. Returns after
/// what time another host's lease may be over.
async fn heartbeat(executor: &Executor, known: &mut Known) -> StoreResult<Option<Duration>> {
    let parts = &executor.parts;
    let incarnation = executor.lease.incarnation();
    let sent = parts.clock.monotonic();
    let beat = parts.store.heartbeat(parts.clock.now(), incarnation);
    let beat = patiently(parts, beat).await?;
    if let Some(database_now) = beat.database_now {
        parts.clock.meet(database_now, sent);
    }
    if !beat.alive {
        return rebirth(executor).await;
    }
    executor.lease.renew(sent);
    parts.wakes.access.confirm(beat.access_epoch, sent);
    for task_id in beat.cancels {
        cancel(executor, task_id);
    }
    if known.epoch.is_some_and(|known| known > beat.catalog_epoch) {
        // The store went back to an earlier state: a version may come to mean something else.
        parts.configs.forget();
    }
    if known.epoch.replace(beat.catalog_epoch) != Some(beat.catalog_epoch)
        && let Err(error) = patiently(parts, parts.registry.refresh()).await
    {
        tracing::warn!(%error, "cannot reread the registered plugins; trying again");
        known.epoch = None;
    }
    hint(parts, known, beat.next_due, beat.available);
    if beat.alerts {
        parts.wakes.alerts.notify_one();
    }
    if beat.running != lock(&executor.owned).len() as u64 {
        // Claims and ends on their way, most of the time; or the store lost some in a failover.
        executor.lease.doubt();
        parts.wakes.enqueued();
    }
    patiently(parts, describe(executor, incarnation, known)).await?;
    if beat.next_take_over == Some(Duration::ZERO) {
        patiently(parts, take_over(parts, incarnation)).await?;
        return Ok(Some(AFTER_TAKE_OVER));
    }
    Ok(beat.next_take_over)
}

/// Waits for the store no longer than the next heartbeat can: a connection may have fallen silent, and another one
/// would answer. What was begun goes on by itself.
async fn patiently<T>(
    parts: &Parts,
    operation: impl Future<Output = StoreResult<T>>,
) -> StoreResult<T> {
    tokio::select! {
        done = operation => done,
        () = parts.clock.sleep(PATIENCE) => {
            let seconds = PATIENCE.as_secs();
            Err(StoreError::Unavailable(format!("no answer within {seconds} s")))
        }
    }
}

/// Rings for what may have been missed, so that idle loops need not ask for themselves.
fn hint(parts: &Parts, known: &mut Known, due: Option<Timestamp>, available: bool) {
    if available {
        parts.wakes.enqueued();
    }
    let overdue = due.is_some_and(|due| due <= parts.clock.now());
    if std::mem::replace(&mut known.due, due) != due || overdue {
        parts.wakes.rescheduled();
    }
}

/// Tells the store what this host is, when that changed.
async fn describe(executor: &Executor, incarnation: i64, known: &mut Known) -> StoreResult<()> {
    // A key that an operator put beside the others is told of before secrets are sealed with it.
    if let Err(error) = executor.parts.keyring.reload() {
        tracing::warn!(%error, "the keys of secrets cannot be read again");
    }
    let facts = facts(&executor.parts, &executor.settings);
    let fresh = Some((incarnation, facts.clone()));
    if known.told != fresh {
        executor
            .parts
            .store
            .describe_host(incarnation, facts)
            .await?;
        known.told = fresh;
    }
    Ok(())
}

/// What a host tells of itself.
pub(super) fn facts(parts: &Parts, settings: &ExecutorSettings) -> HostFacts {
    let loaded = parts.registry.claimable().types;
    let mut loaded: Vec<String> = loaded.iter().map(|(_, name)| name.clone()).collect();
    loaded.sort_unstable();
    loaded.dedup();
    HostFacts {
        version: settings.version.clone(),
        slots: settings.slots,
        memory_bytes: settings.memory.total(),
        loaded,
        secret_keys: parts.keyring.ids(),
        alerts: settings.alerts.clone(),
    }
}

/// The others gave this incarnation up and run its executions: what runs here stops, and the host goes on as
/// another incarnation.
async fn rebirth(executor: &Executor) -> StoreResult<Option<Duration>> {
    let parts = &executor.parts;
    tracing::error!("this host was given up by the others; what it runs is stopped");
    lose_lease(executor);
    let sent = parts.clock.monotonic();
    let name = &executor.settings.host_name;
    let incarnation = parts.store.start_host(parts.clock.now(), name);
    let incarnation = patiently(parts, incarnation).await?;
    executor.lease.reborn(incarnation, sent);
    // At once: what fails from here on may be an alert that only this host wants.
    let facts = facts(parts, &executor.settings);
    patiently(parts, parts.store.describe_host(incarnation, facts)).await?;
    Ok(None)
}

/// What runs here is no longer this host's: it stops, and is counted.
fn lose_lease(executor: &Executor) {
    let stopped = lock(&executor.running).len();
    executor.parts.observer.lease_lost(stopped);
    executor.stop_all(StopReason::LeaseLost);
}

/// Takes over what dead hosts were running.
pub(super) async fn take_over(parts: &Parts, incarnation: i64) -> StoreResult<()> {
    let taken = parts
        .store
        .take_over(parts.clock.now(), incarnation)
        .await?;
    if taken.requeued + taken.failed + taken.cancelled > 0 {
        tracing::warn!(
            requeued = taken.requeued,
            failed = taken.failed,
            cancelled = taken.cancelled,
            "took over executions of a host that is gone"
        );
        parts.wakes.enqueued();
    }
    Ok(())
}

/// Stops what runs once the heartbeats have failed for so long that others may begin (rule E5).
async fn trust(executor: &Executor, done: &CancellationToken) {
    let clock = &executor.parts.clock;
    let mut told = false;
    while let Some(left) = executor.lease.trust_left(clock.monotonic()) {
        if left.is_zero() {
            if !told {
                tracing::error!(
                    "the database has not answered for too long; what runs here is stopped, because others may take it over"
                );
                lose_lease(executor);
            }
            // Each time: a claim may have been on its way.
            executor.stop_all(StopReason::LeaseLost);
        }
        told = left.is_zero();
        // Timers stand still while the machine sleeps, trust does not: it is looked at often.
        let wait = if told { LOOK } else { left.min(LOOK) };
        tokio::select! {
            () = done.cancelled() => return,
            () = clock.sleep(wait) => {}
        }
    }
}

async fn cancels(executor: &Executor, done: &CancellationToken) {
    let mut listener = executor.parts.wakes.listen_cancels();
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            received = listener.recv() => match received {
                Ok(task_id) => cancel(executor, task_id),
                // Overrun: the heartbeat brings what was missed.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

fn cancel(executor: &Executor, task_id: TaskId) {
    // Both locks, in this order, so that a claim arriving meanwhile finds the cancel in one place or the other.
    let running = lock(&executor.running);
    if let Some(running) = running.get(&task_id) {
        running.control.stop(StopReason::Cancel);
        return;
    }
    let mut early = lock(&executor.early_cancels);
    if early.len() == EARLY_CANCELS {
        early.pop_front();
    }
    if !early.contains(&task_id) {
        early.push_back(task_id);
    }
}

async fn progress(executor: &Executor, done: &CancellationToken) {
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            () = executor.parts.clock.sleep(PROGRESS) => {}
        }
        let reports = fresh_reports(executor);
        if reports.is_empty() {
            continue;
        }
        if let Err(error) = executor.parts.store.report_progress(reports).await {
            tracing::warn!(%error, "progress could not be kept");
        }
    }
}

fn fresh_reports(executor: &Executor) -> Vec<ProgressReport> {
    let running = lock(&executor.running);
    let fresh = running.values().filter_map(|running| {
        let changes = running.control.progress_changes();
        (running.seen_progress.swap(changes, Ordering::AcqRel) != changes).then_some(())?;
        let progress = running.control.progress()?;
        Some(ProgressReport {
            id: running.claimed.id,
            claim: running.claimed.claim,
            progress,
        })
    });
    fresh.collect()
}
