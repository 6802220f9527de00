//! Executions that many callers bring one by one: those that stand next to each other in the writer's queue are one
//! operation, instead of one each. Nothing overtakes anything, and a batch judges its items one after the other, so nobody
//! notices.

use super::enqueue::place;
use super::tx::Tx;
use super::writer::{Job, outcome};
use futures_util::future::BoxFuture;
use horarium_core::store::{EnqueueReceipt, NewExecution, StoreResult};
use horarium_model::Timestamp;
use tokio::sync::oneshot;

/// Items that one caller may bring; larger batches are operations of their own.
pub(super) const FEW: usize = 16;

type Receipts = StoreResult<Vec<EnqueueReceipt>>;

/// What one caller brought, each item taken or refused by itself.
pub(super) struct Few {
    pub(super) now: Timestamp,
    pub(super) items: Vec<NewExecution>,
    pub(super) reply: oneshot::Sender<Receipts>,
}

/// What several callers brought.
#[derive(Default)]
pub(super) struct Gathered {
    /// When each item came.
    came: Vec<Timestamp>,
    items: Vec<NewExecution>,
    /// How many of the items are whose, in order.
    callers: Vec<(usize, oneshot::Sender<Receipts>)>,
    result: Option<Receipts>,
}

impl Gathered {
    pub(super) fn add(&mut self, few: Few) {
        self.came.extend(few.items.iter().map(|_| few.now));
        self.callers.push((few.items.len(), few.reply));
        self.items.extend(few.items);
    }
}

impl Job for Gathered {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let done = place(tx, &self.came, &self.items).await;
            self.result.insert(done).is_ok()
        })
    }

    fn apart(self: Box<Self>) -> Vec<Box<dyn Job>> {
        if self.callers.len() == 1 {
            return vec![self];
        }
        let (mut came, mut items) = (self.came.into_iter(), self.items.into_iter());
        let alone = |(count, reply)| {
            let one = Self {
                came: came.by_ref().take(count).collect(),
                items: items.by_ref().take(count).collect(),
                callers: vec![(count, reply)],
                result: None,
            };
            Box::new(one) as Box<dyn Job>
        };
        self.callers.into_iter().map(alone).collect()
    }

    fn answer(self: Box<Self>, failed: Option<String>) {
        let mut done = outcome(failed, self.result).map(Vec::into_iter);
        for (count, reply) in self.callers {
            let own = done.as_mut().map_err(|error| error.clone());
            // The caller may be gone; what it enqueued stands all the same.
            let _ = reply.send(own.map(|receipts| receipts.take(count).collect()));
        }
    }
}
