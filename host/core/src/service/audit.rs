//! Who did what: written before the answer is sent, what comes together in one go.

use super::{Context, ServiceResult};
use crate::store::{AuditEntry, AuditFilter, AuditRow, Listing, Page, Store};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Most entries in one go.
const BATCH: usize = 500;

/// The audit log of one host's store.
#[derive(Clone)]
pub struct Audit {
    context: Context,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<(AuditEntry, oneshot::Sender<()>)>,
    /// Somebody writes, and looks again when done.
    busy: bool,
}

impl Audit {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            waiting: Arc::default(),
        }
    }

    /// Adds an entry and waits until it is kept. What was done is done: a store that fails now is told to the host's
    /// log, with the entry.
    pub async fn record(&self, entry: AuditEntry) {
        let (kept, done) = oneshot::channel();
        let begin = {
            let mut waiting = lock(&self.waiting);
            waiting.entries.push((entry, kept));
            !std::mem::replace(&mut waiting.busy, true)
        };
        if begin {
            // In a task of its own: who waits may go away.
            tokio::spawn(write(self.context.store.clone(), self.waiting.clone()));
        }
        let _ = done.await;
    }

    /// Entries, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> ServiceResult<Listing<AuditRow>> {
        Ok(self.context.store.audit(filter, page).await?)
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(store: Arc<dyn Store>, waiting: Arc<Mutex<Waiting>>) {
    loop {
        let batch = {
            let mut waiting = lock(&waiting);
            if waiting.entries.is_empty() {
                waiting.busy = false;
                return;
            }
            let count = waiting.entries.len().min(BATCH);
            waiting.entries.drain(..count).collect::<Vec<_>>()
        };
        let (entries, kept): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let entries: Arc<[AuditEntry]> = entries.into();
        if let Err(error) = store.record_audit(entries.clone()).await {
            for entry in entries.iter() {
                tracing::error!(%error, ?entry, "an entry of the audit log could not be kept");
            }
        }
        for kept in kept {
            let _ = kept.send(());
        }
    }
}
