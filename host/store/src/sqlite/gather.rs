//! Executions that come one by one, from many callers at once, go into the database together: what comes while the
//! writer is busy is one operation by the time it gets there, instead of one each. A batch judges its items one after
//! the other, so nobody notices.

use super::enqueue::place;
use super::writer::Writer;
use horarium_core::store::{EnqueueReceipt, NewExecution, StoreError, StoreResult};
use horarium_model::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Items that a caller may bring to be gathered; larger batches go by themselves.
pub(super) const FEW: usize = 16;

type Receipts = StoreResult<Vec<EnqueueReceipt>>;

/// What one caller brought.
#[derive(Debug)]
struct Part {
    now: Timestamp,
    items: Vec<NewExecution>,
    reply: oneshot::Sender<Receipts>,
}

/// What has come since the writer took the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Gather(Arc<Mutex<Vec<Part>>>);

impl Gather {
    /// Callers whose executions no operation has taken yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.0).len()
    }

    /// Enqueues a few executions, each taken or refused by itself, together with those of others.
    pub(super) async fn enqueue(
        &self,
        writer: &Writer,
        now: Timestamp,
        items: Vec<NewExecution>,
    ) -> Receipts {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut parts = lock(&self.0);
            parts.push(Part { now, items, reply });
            parts.len() == 1
        };
        if first {
            // A task of its own: the others are answered whatever becomes of the first caller.
            tokio::spawn(write(self.clone(), writer.clone()));
        }
        let gone = || StoreError::Unavailable("it is closed".into());
        answer.await.map_err(|_| gone())?
    }
}

/// What one operation writes, and who is told of how many of its items.
struct Taken {
    now: Timestamp,
    items: Arc<Vec<NewExecution>>,
    callers: Vec<(usize, oneshot::Sender<Receipts>)>,
}

impl Taken {
    fn of(parts: Vec<Part>) -> Self {
        let mut taken = Self {
            now: Timestamp::MIN_UTC,
            items: Arc::default(),
            callers: Vec::with_capacity(parts.len()),
        };
        let mut items = Vec::new();
        for part in parts {
            taken.now = taken.now.max(part.now);
            taken.callers.push((part.items.len(), part.reply));
            items.extend(part.items);
        }
        taken.items = Arc::new(items);
        taken
    }
}

/// Writes what has been gathered by the time the writer gets to it, and tells each caller.
async fn write(gather: Gather, writer: Writer) {
    let taken: Arc<Mutex<Option<Taken>>> = Arc::default();
    let (slot, parts) = (taken.clone(), gather.0.clone());
    let done = writer.run(move |tx| {
        // Taken once: what is run again, because the transaction failed, is the same.
        let mut slot = lock(&slot);
        let taken = slot.get_or_insert_with(|| Taken::of(std::mem::take(&mut *lock(&parts))));
        let (now, items) = (taken.now, taken.items.clone());
        Box::pin(async move { place(tx, now, &items).await })
    });
    let done = done.await;
    let taken = lock(&taken).take();
    // Where the writer is closed nothing was taken, and each hears so.
    let taken = taken.unwrap_or_else(|| Taken::of(std::mem::take(&mut *lock(&gather.0))));
    let mut receipts = match done {
        Ok(receipts) => receipts.into_iter(),
        Err(error) => return apart(&writer, taken, error).await,
    };
    for (count, reply) in taken.callers {
        // A caller may be gone; what it enqueued stands all the same.
        let _ = reply.send(Ok(receipts.by_ref().take(count).collect()));
    }
}

/// After a failure each caller's are written alone, so that it harms no other.
async fn apart(writer: &Writer, mut taken: Taken, error: StoreError) {
    if taken.callers.len() == 1
        && let Some((_, reply)) = taken.callers.pop()
    {
        let _ = reply.send(Err(error));
        return;
    }
    let mut from = 0;
    for (count, reply) in taken.callers {
        let (items, range) = (taken.items.clone(), from..from + count);
        from += count;
        let done = writer.run(move |tx| {
            let (items, range, now) = (items.clone(), range.clone(), taken.now);
            Box::pin(async move { place(tx, now, items.get(range).unwrap_or_default()).await })
        });
        let _ = reply.send(done.await);
    }
}

/// What is guarded is plain data, whole whenever the lock is let go.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
