//! What the end of an attempt means: recorded as it is, tried again, or handed back. Pure.

use crate::control::StopReason;
use crate::runner::{AttemptEnd, Failure, Outcome};
use crate::store::{Claimed, Completion, End, Release};
use horarium_model::execution::{AttemptOutcome, AttemptRecord, HttpCall, LogLine, Progress};
use horarium_model::limits::Allowed;
use horarium_model::retry::RetryPolicy;
use horarium_model::trace::TraceContext;
use horarium_model::{ErrorKind, Timestamp, text};

/// Longest `error_message`, in characters.
const MAX_MESSAGE: usize = 1000;

/// What is known about an attempt beside its outcome.
pub(super) struct Facts<'a> {
    pub(super) claimed: &'a Claimed,
    pub(super) incarnation: i64,
    pub(super) host: &'a str,
    pub(super) digest: Option<String>,
    /// What it was allowed; none when it was not read.
    pub(super) allowed: Option<Allowed>,
    pub(super) started_at: Timestamp,
    pub(super) completed_at: Timestamp,
    pub(super) policy: &'a RetryPolicy,
    pub(super) pause_after_failures: Option<u32>,
    /// A random number in [0, 1) that spreads the retry.
    pub(super) unit: f64,
    /// The attempt's place in a trace.
    pub(super) trace: Option<TraceContext>,
}

/// What a run told of itself while it ran.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) logs: Vec<LogLine>,
    pub(super) calls: Vec<HttpCall>,
    pub(super) progress: Option<Progress>,
}

/// What to do with an attempt.
pub(super) enum Verdict {
    Complete(Box<Completion>),
    Release(Box<Release>),
}

/// Judges an outcome.
pub(super) fn judge(facts: &Facts<'_>, outcome: Outcome, kept: Kept) -> Verdict {
    let mut record = blank_record(facts);
    record.usage = Some(outcome.usage);
    let end = match outcome.end {
        AttemptEnd::Succeeded(result) => {
            record.outcome = AttemptOutcome::Succeeded;
            End::Succeeded(result)
        }
        AttemptEnd::Failed(failure) => fail(facts, &mut record, failure),
        AttemptEnd::Stopped(StopReason::Cancel) => {
            record.outcome = AttemptOutcome::Cancelled;
            record.error_kind = Some(ErrorKind::Cancelled);
            record.error_message = Some("cancelled while it ran".into());
            End::Cancelled
        }
        AttemptEnd::Stopped(StopReason::Timeout) => {
            let failure = Failure::new(ErrorKind::Timeout, "stopped by timeout_seconds");
            fail(facts, &mut record, failure)
        }
        AttemptEnd::Stopped(StopReason::Shutdown | StopReason::LeaseLost) => {
            return release(facts, record, "the host shut down".into());
        }
        AttemptEnd::HandedBack(reason) => return release(facts, record, reason),
        AttemptEnd::NoMemory(reason) => {
            record.error_kind = Some(ErrorKind::HostMemory);
            return release(facts, record, reason);
        }
    };
    Verdict::Complete(Box::new(Completion {
        id: facts.claimed.id,
        task_id: facts.claimed.task_id,
        tenant_id: facts.claimed.tenant_id,
        task_type: facts.claimed.task_type.clone(),
        claim: facts.claimed.claim,
        incarnation: facts.incarnation,
        end,
        record,
        logs: kept.logs,
        calls: kept.calls,
        state: outcome.state,
        progress: kept.progress,
        pause_after_failures: facts.pause_after_failures,
        chained: facts.claimed.chained,
        trace: facts.trace.clone(),
    }))
}

/// What a success becomes when its state cannot be committed.
pub(super) fn state_conflict(facts: &Facts<'_>, completion: &Completion) -> Completion {
    let mut changed = completion.clone();
    changed.state = None;
    if matches!(completion.end, End::Succeeded(_)) {
        let failure = Failure::new(
            ErrorKind::StateConflict,
            "a state key it used changed meanwhile",
        );
        changed.end = fail(facts, &mut changed.record, failure);
    }
    changed
}

fn blank_record(facts: &Facts<'_>) -> AttemptRecord {
    let (attempt, claim) = (facts.claimed.attempt, facts.claimed.claim);
    let (begun, ended) = (facts.started_at, facts.completed_at);
    AttemptRecord {
        limits: facts.allowed.map(|allowed| allowed.limits),
        timeout_seconds: facts.allowed.map(|allowed| allowed.timeout_seconds),
        plugin_digest: facts.digest.clone(),
        host: Some(facts.host.to_owned()),
        ..AttemptRecord::new(attempt, claim, AttemptOutcome::Failed, begun, ended)
    }
}

/// Records a failure and decides whether it is tried again (rule E4).
fn fail(facts: &Facts<'_>, record: &mut AttemptRecord, failure: Failure) -> End {
    record.outcome = AttemptOutcome::Failed;
    record.error_kind = Some(failure.kind);
    record.error_message = Some(text::one_line(&failure.message, MAX_MESSAGE));
    record.error_traceback = failure.traceback;
    record.error_code = failure.code.map(|code| text::one_line(&code, 100));
    record.error_details = failure.details;
    let left = facts.claimed.attempt < facts.claimed.max_attempts;
    if !left || !facts.policy.retries(failure.kind) {
        return End::Failed;
    }
    let delay = facts
        .policy
        .delay(facts.claimed.attempt, facts.unit, failure.not_before);
    let delay = chrono::Duration::from_std(delay).unwrap_or(chrono::Duration::MAX);
    End::Retry(crate::clock::whole_micros(facts.completed_at + delay))
}

fn release(facts: &Facts<'_>, mut record: AttemptRecord, reason: String) -> Verdict {
    record.outcome = AttemptOutcome::HandedBack;
    record.error_message = Some(text::one_line(&reason, MAX_MESSAGE));
    Verdict::Release(Box::new(Release {
        id: facts.claimed.id,
        claim: facts.claimed.claim,
        incarnation: facts.incarnation,
        record: Some(record),
        due_at: None,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use horarium_model::{Trigger, Usage};
    use std::time::Duration;

    pub(in crate::executor) fn claimed(attempt: u32) -> Claimed {
        Claimed {
            id: 1,
            task_id: uuid::Uuid::nil(),
            claim: attempt,
            attempt,
            tenant_id: 1,
            config_id: Some(1),
            config_version: Some(1),
            task_type: "t".into(),
            trigger: Trigger::Manual,
            slot: None,
            due_at: at(),
            max_attempts: 3,
            parameters: "{}".into(),
            parent_task_id: None,
            retry_of: None,
            chained: false,
            trace: None,
            allowance: Default::default(),
        }
    }

    fn at() -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000, 0).expect("in range")
    }

    fn end_of(attempt: u32, end: AttemptEnd) -> Result<Completion, Box<Release>> {
        let policy = RetryPolicy::default();
        let claimed = claimed(attempt);
        let facts = Facts {
            claimed: &claimed,
            incarnation: 7,
            host: "h",
            digest: None,
            allowed: None,
            started_at: at(),
            completed_at: at(),
            policy: &policy,
            pause_after_failures: None,
            unit: 0.0,
            trace: None,
        };
        match judge(
            &facts,
            Outcome {
                end,
                usage: Usage::default(),
                state: None,
            },
            Kept::default(),
        ) {
            Verdict::Complete(completion) => Ok(*completion),
            Verdict::Release(release) => Err(release),
        }
    }

    #[test]
    fn failures_are_tried_again_while_attempts_are_left() {
        let trap = || AttemptEnd::Failed(Failure::new(ErrorKind::Trap, "boom\nsecond line"));
        let first = end_of(1, trap()).expect("recorded");
        assert_eq!(first.end, End::Retry(at() + chrono::Duration::seconds(1)));
        assert_eq!(first.record.error_message.as_deref(), Some("boom"));
        assert_eq!(end_of(3, trap()).expect("recorded").end, End::Failed);
        let fuel = AttemptEnd::Failed(Failure::new(ErrorKind::OutOfFuel, "x"));
        assert_eq!(end_of(1, fuel).expect("recorded").end, End::Failed);
    }

    #[test]
    fn a_guests_wish_delays_the_retry() {
        let mut failure = Failure::new(ErrorKind::Retryable, "later");
        failure.not_before = Some(Duration::from_secs(90));
        let end = end_of(1, AttemptEnd::Failed(failure))
            .expect("recorded")
            .end;
        assert_eq!(end, End::Retry(at() + chrono::Duration::seconds(90)));
    }

    #[test]
    fn shutdown_and_memory_hand_back_and_use_no_attempt() {
        for end in [
            AttemptEnd::Stopped(StopReason::Shutdown),
            AttemptEnd::HandedBack("the store".into()),
        ] {
            let release = end_of(2, end).expect_err("handed back");
            let record = release.record.expect("kept");
            assert_eq!(record.outcome, AttemptOutcome::HandedBack);
            assert_eq!(record.error_kind, None);
        }
        let release = end_of(2, AttemptEnd::NoMemory("full".into())).expect_err("handed back");
        let record = release.record.expect("kept");
        assert_eq!(record.outcome, AttemptOutcome::HandedBack);
        assert_eq!(record.error_kind, Some(ErrorKind::HostMemory));
        assert_eq!(
            end_of(1, AttemptEnd::Stopped(StopReason::Cancel))
                .expect("recorded")
                .end,
            End::Cancelled
        );
    }
}
