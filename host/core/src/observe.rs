//! What the scheduler and executor tell whoever counts: metrics in the binary, assertions in tests.

use horarium_model::{ErrorKind, State, Trigger, Usage};
use std::time::Duration;

/// Listener to the events of one host. Calls are made on hot paths and must return at once.
pub trait Observer: Send + Sync + 'static {
    /// A slot was enqueued this long after it was due.
    fn fired(&self, _lateness: Duration) {}
    /// Slots were skipped.
    fn skipped(&self, _count: u64) {}
    /// An attempt starts, this long after it was due.
    fn started(&self, _task_type: &str, _queued: Duration) {}
    /// An attempt's end was recorded; the execution now stands at `state`.
    fn recorded(&self, _event: &Recorded<'_>) {}
    /// The end of an attempt came too late and was refused.
    fn stale(&self) {}
    /// A claimed execution was handed back.
    fn handed_back(&self) {}
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
}

/// Listens to nothing.
#[derive(Debug, Default)]
pub struct Silent;
impl Observer for Silent {}
