//! Hints between the parts of one host: who might have something to do. A lost hint costs latency,
//! never correctness: every listener looks at the store again by itself.

use crate::access::Freshness;
use horarium_model::TaskId;
use std::pin::pin;
use std::task::Poll;
use tokio::sync::{Notify, broadcast};
use tokio::task::unconstrained;

/// The bells of one host.
#[derive(Debug)]
pub struct Wakes {
    /// Something may be claimable.
    pub queue: Notify,
    /// A schedule or a due instant changed.
    pub schedule: Notify,
    /// An alert is to be delivered.
    pub alerts: Notify,
    cancels: broadcast::Sender<TaskId>,
    /// How fresh what is known of tokens and tenants is.
    pub access: Freshness,
}

impl Default for Wakes {
    fn default() -> Self {
        Self {
            queue: Notify::new(),
            schedule: Notify::new(),
            alerts: Notify::new(),
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

    /// Has `write` make something claimable, and rings: once it is done, or, where operations are carried out in order
    /// ([`Queue::is_in_order`](crate::store::Queue::is_in_order)), once it has begun. The claim then comes right behind
    /// it, and one transaction and one flush of the disk serve both.
    pub async fn enqueued_by<T>(&self, in_order: bool, write: impl Future<Output = T>) -> T {
        // Were it made to pause before it is begun, the claim would come first.
        let mut write = pin!(unconstrained(write));
        let done = match in_order {
            true => match futures_util::poll!(write.as_mut()) {
                Poll::Ready(done) => done,
                Poll::Pending => {
                    self.enqueued();
                    return write.await;
                }
            },
            false => write.await,
        };
        self.enqueued();
        done
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::oneshot;

    async fn rings_before_the_end(in_order: bool) -> bool {
        let wakes = Wakes::default();
        let begun = AtomicBool::new(false);
        let (end, ended) = oneshot::channel::<()>();
        let mut write = pin!(wakes.enqueued_by(in_order, async {
            begun.store(true, Ordering::SeqCst);
            ended.await
        }));
        assert!(futures_util::poll!(write.as_mut()).is_pending());
        assert!(begun.load(Ordering::SeqCst));
        let early = futures_util::poll!(pin!(wakes.queue.notified())).is_ready();
        end.send(()).expect("waited for");
        write.await.expect("sent");
        let late = futures_util::poll!(pin!(wakes.queue.notified())).is_ready();
        assert_ne!(early, late, "it rings once");
        early
    }

    #[tokio::test]
    async fn it_rings_at_the_begin_only_where_the_claim_comes_behind() {
        assert!(rings_before_the_end(true).await);
        assert!(!rings_before_the_end(false).await);
    }

    #[tokio::test]
    async fn what_is_done_at_once_rings_too() {
        let wakes = Wakes::default();
        assert_eq!(wakes.enqueued_by(true, async { 7 }).await, 7);
        assert!(futures_util::poll!(pin!(wakes.queue.notified())).is_ready());
    }
}
