//! Hints between the parts of one host: who might have something to do. A lost hint costs latency,
//! never correctness: every listener looks at the store again by itself.

use crate::access::Freshness;
use horarium_model::TaskId;
use tokio::sync::{Notify, broadcast};

/// The bells of one host.
#[derive(Debug)]
pub struct Wakes {
    /// Something may be claimable.
    pub queue: Notify,
    /// A schedule or a due instant changed.
    pub schedule: Notify,
    cancels: broadcast::Sender<TaskId>,
    /// How fresh what is known of tokens and tenants is.
    pub access: Freshness,
}

impl Default for Wakes {
    fn default() -> Self {
        Self {
            queue: Notify::new(),
            schedule: Notify::new(),
            cancels: broadcast::channel(1024).0,
            access: Freshness::default(),
        }
    }
}

impl Wakes {
    /// Something was enqueued or became available.
    pub fn enqueued(&self) {
        self.queue.notify_one();
    }

    /// A config, a due time or a retry changed when the scheduler must look next.
    pub fn rescheduled(&self) {
        self.schedule.notify_one();
    }

    /// A running execution was asked to stop.
    pub fn cancelled(&self, task_id: TaskId) {
        // No listener means no executor here: nothing to tell.
        let _ = self.cancels.send(task_id);
    }

    /// Cancels asked for from now on.
    pub fn listen_cancels(&self) -> broadcast::Receiver<TaskId> {
        self.cancels.subscribe()
    }
}

/// What another host did that may concern this one, as a shared database tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Something may be claimable.
    Enqueued,
    /// A due instant changed.
    Schedule,
    /// Configs, plugins or grants changed.
    Catalog,
    /// Tokens or tenants changed.
    Access,
    /// An execution that may run here was asked to stop.
    Cancel(TaskId),
    /// Hints may have been lost: look at everything again.
    Missed,
}
