//! What the scheduler and executor tell whoever counts: metrics in the binary, assertions in tests.

use crate::store::{BacklogOf, Claimed, TakenOver};
use crate::trace::RunTrace;
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine, SkipReason};
use horarium_model::{ErrorKind, State, Trigger, Usage};
use std::time::Duration;

/// Listener to the events of one host. Calls are made on hot paths and must return at once.
pub trait Observer: Send + Sync + 'static {
    /// A slot was enqueued this long after it was due.
    fn fired(&self, _lateness: Duration) {}
    /// Slots were skipped for a reason.
    fn skipped(&self, _reason: SkipReason, _count: u64) {}
    /// Executions were not taken in because a backlog was full.
    fn refused(&self, _of: BacklogOf) {}
    /// A claim brought so many executions.
    fn claimed(&self, _count: usize) {}
    /// An attempt starts, this long after it was due.
    fn started(&self, _task_type: &str, _queued: Duration) {}
    /// An attempt's end was recorded; the execution now stands at `state`.
    fn recorded(&self, _event: &Recorded<'_>) {}
    /// The end of an attempt came too late and was refused.
    fn stale(&self) {}
    /// A claimed execution was handed back.
    fn handed_back(&self) {}
    /// This host may no longer believe that what it runs is its own; so many runs were stopped.
    fn lease_lost(&self, _stopped: usize) {}
    /// What dead hosts were running was taken over.
    fn taken_over(&self, _taken: &TakenOver) {}
    /// An operation of the store was answered after `took`.
    fn stored(&self, _operation: &'static str, _took: Duration, _succeeded: bool) {}
    /// A component was compiled, or failed to be.
    fn compiled(&self, _took: Duration, _succeeded: bool) {}
    /// A run's instance was made.
    fn instantiated(&self, _took: Duration) {}
}

/// A recorded end of an attempt.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// The plugin.
    pub task_type: &'a str,
    /// What brought the execution about.
    pub trigger: Trigger,
    /// Where the execution stands now.
    pub state: State,
    /// Class of the failure, if it failed.
    pub error_kind: Option<ErrorKind>,
    /// What the attempt used.
    pub usage: &'a Usage,
    /// The attempt itself.
    pub run: Option<RecordedRun<'a>>,
}

/// A recorded attempt, whole.
#[derive(Debug)]
pub struct RecordedRun<'a> {
    /// What was claimed.
    pub claimed: &'a Claimed,
    /// How it ended.
    pub record: &'a AttemptRecord,
    /// The requests it made.
    pub calls: &'a [HttpCall],
    /// Its log.
    pub logs: &'a [LogLine],
    /// The trace it belongs to.
    pub trace: Option<RunTrace>,
}

/// Listens to nothing.
#[derive(Debug, Default)]
pub struct Silent;
impl Observer for Silent {}
