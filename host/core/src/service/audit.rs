//! Who did what: what comes together is written in one go.

use super::{Context, ServiceResult};
use crate::store::{AuditEntry, AuditFilter, AuditRow, Listing, Page};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Most entries in one go.
const BATCH: usize = 500;
/// So long entries that nobody waits for are gathered: what they tell of is to start meanwhile, not to share the disk
/// with them.
const GATHER: Duration = Duration::from_millis(10);

/// The audit log of one host's store.
#[derive(Clone)]
pub struct Audit {
    context: Context,
    waiting: Arc<Mutex<Waiting>>,
    /// Somebody waits now.
    hurry: Arc<Notify>,
}

#[derive(Default)]
struct Waiting {
    /// Entries, and whoever waits until all before are kept.
    entries: Vec<(Option<AuditEntry>, Option<oneshot::Sender<()>>)>,
    /// Somebody writes, and looks again when done.
    busy: bool,
}

impl Audit {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            waiting: Arc::default(),
            hurry: Arc::default(),
        }
    }

    /// Adds an entry and waits until it is kept. What was done is done: a store that fails now is told to the host's
    /// log, with the entry.
    pub async fn record(&self, entry: AuditEntry) {
        let (kept, done) = oneshot::channel();
        self.add(Some(entry), Some(kept));
        let _ = done.await;
    }

    /// Adds an entry without waiting: for what is done thousands of times a second and leaves a trace of its own. A
    /// host that is killed in the next milliseconds has not kept it.
    pub fn record_soon(&self, entry: AuditEntry) {
        self.add(Some(entry), None);
    }

    fn add(&self, entry: Option<AuditEntry>, kept: Option<oneshot::Sender<()>>) {
        let awaited = kept.is_some();
        let begin = {
            let mut waiting = lock(&self.waiting);
            waiting.entries.push((entry, kept));
            !std::mem::replace(&mut waiting.busy, true)
        };
        if begin {
            // In a task of its own: who waits may go away.
            tokio::spawn(self.clone().write());
        } else if awaited {
            self.hurry.notify_one();
        }
    }

    /// Waits until all entries added so far are kept.
    pub async fn settle(&self) {
        if lock(&self.waiting).busy {
            let (kept, done) = oneshot::channel();
            self.add(None, Some(kept));
            let _ = done.await;
        }
    }

    /// Entries, newest first; those of this host up to now are among them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> ServiceResult<Listing<AuditRow>> {
        self.settle().await;
        Ok(self.context.store.audit(filter, page).await?)
    }

    /// Keeps what there is until there is nothing.
    async fn write(self) {
        loop {
            let awaited = |(_, kept): &(_, Option<_>)| kept.is_some();
            if !lock(&self.waiting).entries.iter().any(awaited) {
                tokio::select! {
                    () = self.hurry.notified() => {}
                    () = self.context.clock.sleep(GATHER) => {}
                }
            }
            let batch = {
                let mut waiting = lock(&self.waiting);
                if waiting.entries.is_empty() {
                    waiting.busy = false;
                    return;
                }
                let count = waiting.entries.len().min(BATCH);
                waiting.entries.drain(..count).collect::<Vec<_>>()
            };
            let (entries, kept): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let entries: Arc<[AuditEntry]> = entries.into_iter().flatten().collect();
            let store = &self.context.store;
            if !entries.is_empty()
                && let Err(error) = store.record_audit(entries.clone()).await
            {
                for entry in entries.iter() {
                    tracing::error!(%error, ?entry, "an entry of the audit log could not be kept");
                }
            }
            for kept in kept.into_iter().flatten() {
                let _ = kept.send(());
            }
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
