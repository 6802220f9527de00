//! Writes the ends of attempts, as many in one store call as there are waiting. While a call is under way
//! the next batch gathers, so the busier the host, the larger its batches. (Two calls at once halve the batches, and
//! what a transaction costs by itself weighs more than what is gained.) What was written is announced by a task of its
//! own, since the store waits for the next batch meanwhile.

use super::Executor;
use crate::observe::{Recorded, RecordedRun};
use crate::store::{Claimed, Completion, CompletionReceipt, End, Release, StoreError, chunks};
use crate::trace::RunTrace;
use horarium_model::execution::AttemptOutcome;
use horarium_model::text::one_line;
use horarium_model::{ErrorKind, ExecutionId, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Most ends in one call.
const BATCH: usize = 1024;
/// Bytes of what they bring along in one call: results of a megabyte each would make statements of a gigabyte.
const BATCH_BYTES: usize = 32 << 20;
/// Pause after the store failed.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// How often the store may refuse ends as it never should before they are recorded apart.
const REFUSALS: u32 = 3;
/// How the message of an end begins that could not be recorded as it was.
const UNRECORDABLE: &str = "its end could not be recorded: ";

/// An attempt that ended.
pub(super) enum Ended {
    Complete {
        completion: Box<Completion>,
        /// What to record when the state it wants committed has changed meanwhile; none without state.
        on_conflict: Option<Box<Completion>>,
        claimed: Arc<Claimed>,
    },
    Release(Box<Release>),
}

/// Records until `all_done` and nothing is left.
pub(super) async fn run(
    executor: Arc<Executor>,
    mut ends: mpsc::Receiver<Ended>,
    all_done: CancellationToken,
) {
    let (written, announcing) = mpsc::channel(1);
    let announcing = tokio::spawn(settle_all(executor.clone(), announcing));
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            received = ends.recv_many(&mut batch, BATCH) => if received == 0 { break },
            () = all_done.cancelled() => {
                ends.close();
                if ends.recv_many(&mut batch, BATCH).await == 0 {
                    break;
                }
            }
        }
        record(&executor, std::mem::take(&mut batch), &written).await;
    }
    drop(written);
    if let Err(error) = announcing.await {
        tracing::error!(%error, "what had ended was not announced");
    }
}

async fn record(executor: &Executor, batch: Vec<Ended>, written: &mpsc::Sender<Written>) {
    let mut completes: Vec<Pending> = Vec::with_capacity(batch.len());
    let mut releases = Vec::new();
    for ended in batch {
        match ended {
            Ended::Complete {
                completion,
                on_conflict,
                claimed,
            } => completes.push((completion, on_conflict, claimed)),
            Ended::Release(release) => releases.push(*release),
        }
    }
    if !releases.is_empty() {
        release(executor, releases).await;
    }
    for part in chunks(completes, BATCH_BYTES, |(completion, ..)| size(completion)) {
        for whole in complete(executor, part).await {
            // Only a panic ends who receives it before us.
            if let Err(mpsc::error::SendError(whole)) = written.send(whole).await {
                settle_whole(executor, whole).await;
            }
        }
    }
}

async fn settle_all(executor: Arc<Executor>, mut written: mpsc::Receiver<Written>) {
    while let Some(whole) = written.recv().await {
        settle_whole(&executor, whole).await;
    }
}

/// Announces what was written. A conflict turns a success into a failure, which is recorded in a second round, beside
/// the next batch; that one cannot conflict.
async fn settle_whole(executor: &Executor, whole: Written) {
    let mut conflicts = settle(executor, whole);
    while !conflicts.is_empty() {
        let again = complete(executor, conflicts).await.into_iter();
        conflicts = again.flat_map(|whole| settle(executor, whole)).collect();
    }
}

/// Bytes of what can be large of an end, roughly.
fn size(completion: &Completion) -> usize {
    /// Of what is about a line, a request, a key.
    const FRAME: usize = 256;
    let result = match &completion.end {
        End::Succeeded(result) => result.len(),
        _ => 0,
    };
    let lines = completion
        .logs
        .iter()
        .map(|line| line.message.len() + FRAME);
    let calls = completion.calls.iter().map(|call| call.url.len() + FRAME);
    let trace = completion
        .record
        .error_traceback
        .as_ref()
        .map_or(0, String::len);
    let state = completion
        .state
        .iter()
        .flat_map(|state| state.writes.values());
    let state = state.map(|value| FRAME + value.as_ref().map_or(0, Vec::len));
    FRAME + result + trace + lines.chain(calls).chain(state).sum::<usize>()
}

type Pending = (Box<Completion>, Option<Box<Completion>>, Arc<Claimed>);

/// What one store call wrote, or refused.
struct Written {
    items: Arc<[Completion]>,
    others: Vec<(Option<Box<Completion>>, Arc<Claimed>)>,
    receipts: Vec<CompletionReceipt>,
}

/// Has completions written.
async fn complete(executor: &Executor, completes: Vec<Pending>) -> Vec<Written> {
    let mut items = Vec::with_capacity(completes.len());
    let mut others = Vec::with_capacity(completes.len());
    for (completion, on_conflict, claimed) in completes {
        items.push(*completion);
        others.push((on_conflict, claimed));
    }
    let items: Arc<[Completion]> = items.into();
    match written(executor, &items).await {
        Ok(receipts) => vec![Written {
            items,
            others,
            receipts,
        }],
        Err(message) => {
            let whole = items.iter().cloned().map(Box::new).zip(others);
            let whole = whole.map(|(completion, (other, claimed))| (completion, other, claimed));
            apart(executor, whole.collect(), &message).await
        }
    }
}

/// Announces what was written; returns what is to be recorded differently because of a state conflict.
fn settle(executor: &Executor, written: Written) -> Vec<Pending> {
    let parts = &executor.parts;
    let Written {
        items,
        others,
        receipts,
    } = written;
    let mut conflicts = Vec::new();
    let (mut retries, mut failed) = (false, false);
    // What is to be recorded differently stays ours meanwhile.
    let settled = items.iter().zip(&others).zip(&receipts);
    let settled = settled.filter(|((_, (on_conflict, _)), receipt)| {
        on_conflict.is_none()
            || !matches!(
                receipt,
                CompletionReceipt::StateConflict(_) | CompletionReceipt::StateQuota(_)
            )
    });
    disown(
        executor,
        settled.map(|((completion, _), _)| (completion.id, completion.claim)),
    );
    for ((completion, (on_conflict, claimed)), receipt) in items.iter().zip(others).zip(receipts) {
        match receipt {
            CompletionReceipt::Recorded(state) => {
                retries |= state == State::Retryable;
                failed |= state == State::Failed;
                announce(executor, completion, &claimed, state);
            }
            CompletionReceipt::Stale => {
                tracing::warn!(task_id = %claimed.task_id, claim = claimed.claim, "the end of an attempt came too late and was refused");
                parts.observer.stale();
            }
            CompletionReceipt::StateConflict(message) => {
                if let Some(mut failed) = on_conflict {
                    failed.record.error_message = Some(message);
                    conflicts.push((failed, None, claimed));
                }
            }
            CompletionReceipt::StateQuota(hit) => {
                if let Some(mut failed) = on_conflict {
                    failed.end = End::Failed;
                    failed.record.error_kind = Some(ErrorKind::Quota);
                    failed.record.error_message = Some(hit.to_string());
                    conflicts.push((failed, None, claimed));
                }
            }
        }
    }
    // Ends free slots of a run key, and may let the next of a config start.
    parts.wakes.enqueued();
    if retries {
        parts.wakes.rescheduled();
    }
    if failed {
        // Perhaps an alert, of which the next heartbeat tells at the latest.
        parts.wakes.alerts.notify_one();
    }
    conflicts
}

/// Has ends written, however long the store is away.
///
/// # Errors
/// What the store says when it cannot write these, now or later.
async fn written(
    executor: &Executor,
    items: &Arc<[Completion]>,
) -> Result<Vec<CompletionReceipt>, String> {
    let parts = &executor.parts;
    let mut refusals = 0;
    loop {
        let now = parts.clock.now();
        let error = match parts.store.complete_many(now, items.clone()).await {
            Ok(receipts) => return Ok(receipts),
            Err(error) => error,
        };
        if let StoreError::Internal(message) = &error {
            refusals += 1;
            if refusals == REFUSALS {
                return Err(message.clone());
            }
        }
        patience(executor, &error).await;
    }
}

/// Writes ends of which one, at least, cannot be written: each by itself, and that one as a failure of the host,
/// so that it holds up no other.
async fn apart(executor: &Executor, mut completes: Vec<Pending>, message: &str) -> Vec<Written> {
    if completes.len() > 1 {
        let mut all = Vec::new();
        for pending in completes {
            all.extend(Box::pin(complete(executor, vec![pending])).await);
        }
        return all;
    }
    let Some((completion, _, claimed)) = completes.pop() else {
        return Vec::new();
    };
    tracing::error!(task_id = %claimed.task_id, message, "the end of an attempt cannot be recorded");
    let told = completion.record.error_message.as_deref();
    if told.is_some_and(|told| told.starts_with(UNRECORDABLE)) {
        // Not even so: the next heartbeat finds that it is nobody's and hands it back.
        disown(executor, std::iter::once((completion.id, completion.claim)));
        executor.lease.doubt();
        return Vec::new();
    }
    let failed = (Box::new(unrecordable(*completion, message)), None, claimed);
    Box::pin(complete(executor, vec![failed])).await
}

/// The end that is recorded instead of one the store refuses.
fn unrecordable(completion: Completion, message: &str) -> Completion {
    let mut record = completion.record;
    record.outcome = AttemptOutcome::Failed;
    record.error_kind = Some(ErrorKind::HostError);
    record.error_message = Some(format!("{UNRECORDABLE}{}", one_line(message, 500)));
    record.error_traceback = None;
    record.error_code = None;
    record.error_details = None;
    Completion {
        end: End::Failed,
        record,
        logs: Vec::new(),
        calls: Vec::new(),
        state: None,
        progress: None,
        ..completion
    }
}

fn announce(executor: &Executor, completion: &Completion, claimed: &Claimed, state: State) {
    let usage = completion.record.usage.clone().unwrap_or_default();
    tracing::debug!(
        target: "horarium::runs",
        task_id = %claimed.task_id,
        tenant_id = claimed.tenant_id,
        config_id = claimed.config_id,
        task_type = claimed.task_type,
        attempt = claimed.attempt,
        state = %state,
        error_kind = completion.record.error_kind.map(ErrorKind::as_str),
        duration_seconds = usage.duration_seconds,
        "attempt recorded"
    );
    executor.parts.observer.recorded(&Recorded {
        task_type: &claimed.task_type,
        trigger: claimed.trigger,
        state,
        error_kind: completion.record.error_kind,
        usage: &usage,
        run: Some(RecordedRun {
            claimed,
            record: &completion.record,
            calls: &completion.calls,
            logs: &completion.logs,
            trace: RunTrace::of(claimed, executor.settings.trace_sample),
        }),
    });
}

async fn release(executor: &Executor, releases: Vec<Release>) {
    let parts = &executor.parts;
    let count = releases.len();
    while let Err(error) = parts
        .store
        .release(parts.clock.now(), releases.clone())
        .await
    {
        patience(executor, &error).await;
    }
    disown(
        executor,
        releases.iter().map(|release| (release.id, release.claim)),
    );
    for _ in 0..count {
        parts.observer.handed_back();
    }
    // Not at once: what could not run for want of memory would be claimed in a loop.
    parts.wakes.rescheduled();
}

/// The store has answered: these claims are no longer ours.
fn disown(executor: &Executor, claims: impl Iterator<Item = (ExecutionId, u32)>) {
    let mut owned = super::lock(&executor.owned);
    for claim in claims {
        owned.remove(&claim);
    }
}

async fn patience(executor: &Executor, error: &StoreError) {
    tracing::warn!(%error, "the ends of attempts cannot be recorded yet; trying again");
    executor.parts.clock.sleep(AFTER_ERROR).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::verdict::tests::claimed;
    use crate::store::conformance::completion;
    use horarium_model::Timestamp;

    #[test]
    fn ends_that_bring_much_along_are_written_apart() {
        let end = |bytes: usize| {
            let end = End::Succeeded("x".repeat(bytes).into());
            completion(1, Timestamp::UNIX_EPOCH, &claimed(1), end)
        };
        let ends = vec![end(20 << 20), end(1), end(20 << 20), end(4)];
        let parts = chunks(ends, BATCH_BYTES, size);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let few: Vec<Completion> = (0..BATCH).map(|_| end(2)).collect();
        assert_eq!(chunks(few, BATCH_BYTES, size).len(), 1);
    }
}
