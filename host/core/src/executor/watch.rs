//! Proves the host alive, carries cancels to what runs here, and keeps progress reports.

use super::{Executor, lock};
use crate::control::StopReason;
use crate::store::ProgressReport;
use horarium_model::TaskId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Between two heartbeats (rule E5).
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two looks at the progress of what runs.
const PROGRESS: Duration = Duration::from_secs(1);
/// Cancels remembered for executions whose claim is on its way.
const EARLY_CANCELS: usize = 1024;

/// Watches until `done`.
pub(super) async fn run(executor: Arc<Executor>, done: CancellationToken) {
    tokio::join!(
        heartbeats(&executor, &done),
        cancels(&executor, &done),
        progress(&executor, &done)
    );
}

async fn heartbeats(executor: &Executor, done: &CancellationToken) {
    let parts = &executor.parts;
    let mut epoch = None;
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            () = parts.clock.sleep(HEARTBEAT) => {}
        }
        match parts
            .store
            .heartbeat(parts.clock.now(), executor.incarnation)
            .await
        {
            Ok(beat) if !beat.alive => {
                tracing::error!("this host was given up by the others; stopping what runs");
                executor.stop_all(StopReason::LeaseLost);
            }
            Ok(beat) => {
                beat.cancels
                    .into_iter()
                    .for_each(|task_id| cancel(executor, task_id));
                if epoch
                    .replace(beat.catalog_epoch)
                    .is_some_and(|old| old != beat.catalog_epoch)
                    && let Err(error) = parts.registry.refresh().await
                {
                    tracing::warn!(%error, "cannot reread the registered plugins; trying again with the next change");
                    epoch = None;
                }
            }
            Err(error) => tracing::warn!(%error, "the heartbeat failed"),
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
