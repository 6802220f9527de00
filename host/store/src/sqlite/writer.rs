//! The one writer. Operations that wait together share a transaction, so that one flush of the disk
//! serves them all; each is answered after the commit. If one fails, the transaction is rolled back and
//! each is run again alone, so that a failure harms no other.

use super::file::Lock;
use super::{db, sql};
use futures_util::future::BoxFuture;
use horarium_core::store::{StoreError, StoreResult};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Most operations in one transaction.
const GROUP: usize = 256;

/// A running transaction, with what the writer remembers between transactions.
pub(super) struct Tx {
    connection: SqliteConnection,
    /// Whether the current operation has written.
    dirty: bool,
    /// Highest execution id given out. Ids of a rolled-back transaction are not given again.
    last_execution: i64,
    /// Incarnations that are alive; none = not read since something changed them.
    pub(super) alive: Option<HashSet<i64>>,
    /// Run keys of which one went away since the last claim, by tenant: what they block is looked at again.
    pub(super) freed: HashSet<(i64, String)>,
    /// Which keys were freed is no longer known: everything blocked is looked at again.
    pub(super) unblock_all: bool,
    /// What the last claim asked for. Blocked executions of other types were not looked at by it.
    pub(super) claimed_types: Arc<[(i64, String)]>,
}

impl Tx {
    /// The connection, for statements that only read.
    pub(super) fn read(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// The connection, for statements that write.
    pub(super) fn write(&mut self) -> &mut SqliteConnection {
        self.dirty = true;
        &mut self.connection
    }

    /// The next execution id.
    pub(super) fn next_execution(&mut self) -> i64 {
        self.last_execution += 1;
        self.last_execution
    }

    /// Remembers the highest id, because rows that prove it are about to be removed.
    pub(super) async fn keep_last_execution(&mut self) -> StoreResult<()> {
        let last = self.last_execution;
        sqlx::query(sql::KEEP_LAST_EXECUTION)
            .bind(last)
            .execute(self.write())
            .await
            .map_err(db)?;
        Ok(())
    }

    /// Tells caches that configs, plugins or grants changed.
    pub(super) async fn bump_epoch(&mut self) -> StoreResult<()> {
        sqlx::query(sql::BUMP_EPOCH)
            .execute(self.write())
            .await
            .map_err(db)?;
        Ok(())
    }

    async fn statement(&mut self, sql: &'static str) -> StoreResult<()> {
        sqlx::query(sql)
            .execute(&mut self.connection)
            .await
            .map_err(db)?;
        Ok(())
    }

    async fn roll_back(&mut self) {
        self.alive = None;
        // What was unblocked is blocked again, and `freed` no longer names it.
        self.unblock_all = true;
        if let Err(error) = self.statement("ROLLBACK").await {
            // SQLite has rolled back by itself after some errors; BEGIN will tell.
            tracing::debug!(%error, "rollback");
        }
    }
}

/// Something to be done in a transaction, perhaps more than once.
trait Job: Send {
    /// Runs it and keeps the answer. Returns whether the transaction may be committed.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool>;
    /// Sends the answer; with an error, that instead.
    fn answer(self: Box<Self>, failed: Option<String>);
}

struct Pending<T, F> {
    operation: F,
    result: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<T, F> Job for Pending<T, F>
where
    T: Send + 'static,
    F: for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, StoreResult<T>> + Send + 'static,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            tx.dirty = false;
            let done = (self.operation)(&mut *tx).await;
            // A refusal before anything was written needs no rollback.
            let refused = matches!(
                done,
                Err(StoreError::NotFound(_)
                    | StoreError::Conflict(_)
                    | StoreError::Invalid(_)
                    | StoreError::Quota(_))
            );
            let good = done.is_ok() || (refused && !tx.dirty);
            self.result = Some(done);
            good
        })
    }

    fn answer(self: Box<Self>, failed: Option<String>) {
        let result = match (failed, self.result) {
            (Some(error), _) => Err(StoreError::Unavailable(error)),
            (None, Some(result)) => result,
            (None, None) => Err(StoreError::Internal("the operation did not run".into())),
        };
        // The caller may be gone; the operation stands all the same.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Run(Box<dyn Job>),
    Close(oneshot::Sender<StoreResult<()>>),
}

/// The way to the writing task.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    sender: mpsc::Sender<Message>,
}

impl Writer {
    /// Starts the task, which ends when the last `Writer` is gone or closed.
    pub(super) async fn start(
        mut connection: SqliteConnection,
        queue: usize,
        lock: Arc<Lock>,
    ) -> StoreResult<Self> {
        let row = sqlx::query(sql::LAST_EXECUTION)
            .fetch_one(&mut connection)
            .await
            .map_err(db)?;
        let last_execution = row.try_get(0).map_err(db)?;
        sqlx::query(sql::UNBLOCK_ALL)
            .execute(&mut connection)
            .await
            .map_err(db)?;
        let tx = Tx {
            connection,
            dirty: false,
            last_execution,
            alive: None,
            freed: HashSet::new(),
            unblock_all: false,
            claimed_types: Arc::default(),
        };
        let (sender, receiver) = mpsc::channel(queue);
        tokio::spawn(work(tx, receiver, lock));
        Ok(Self { sender })
    }

    pub(super) async fn run<T, F>(&self, operation: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, StoreResult<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Pending {
            operation,
            result: None,
            reply,
        });
        let gone = || StoreError::Unavailable("it is closed".into());
        self.sender
            .send(Message::Run(job))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(super) async fn close(&self) -> StoreResult<()> {
        let (reply, answer) = oneshot::channel();
        if self.sender.send(Message::Close(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }
}

async fn work(mut tx: Tx, mut receiver: mpsc::Receiver<Message>, lock: Arc<Lock>) {
    let mut closing = None;
    while closing.is_none() {
        let Some(first) = receiver.recv().await else {
            break;
        };
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Run(job) => jobs.push(job),
                Message::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
            }
            next = if jobs.len() < GROUP {
                receiver.try_recv().ok()
            } else {
                None
            };
        }
        run_group(&mut tx, jobs).await;
    }
    receiver.close();
    drop(receiver);
    let done = finish(tx).await;
    drop(lock);
    if let Some(reply) = closing {
        let _ = reply.send(done);
    }
}

async fn run_group(tx: &mut Tx, mut jobs: Vec<Box<dyn Job>>) {
    match transact(tx, &mut jobs).await {
        Ok(()) => jobs.into_iter().for_each(|job| job.answer(None)),
        Err(error) if jobs.len() == 1 => {
            for job in jobs {
                job.answer(error.clone());
            }
        }
        Err(_) => {
            for job in jobs {
                let mut alone = vec![job];
                let failed = transact(tx, &mut alone).await.err().flatten();
                for job in alone {
                    job.answer(failed.clone());
                }
            }
        }
    }
}

/// Runs all jobs in one transaction. On an error nothing of them is written: with a text when the
/// transaction itself failed, without one when a job did and holds its own error.
async fn transact(tx: &mut Tx, jobs: &mut [Box<dyn Job>]) -> Result<(), Option<String>> {
    if jobs.is_empty() {
        return Ok(());
    }
    tx.statement("BEGIN IMMEDIATE")
        .await
        .map_err(|error| Some(detail(error)))?;
    for job in jobs {
        let good = job.run(tx).await;
        if !good {
            tx.roll_back().await;
            return Err(None);
        }
    }
    if let Err(error) = tx.statement("COMMIT").await {
        tx.roll_back().await;
        return Err(Some(detail(error)));
    }
    Ok(())
}

/// What happened, without the words that whoever hears of it puts before.
fn detail(error: StoreError) -> String {
    match error {
        StoreError::Unavailable(detail) => detail,
        other => other.to_string(),
    }
}

async fn finish(mut tx: Tx) -> StoreResult<()> {
    tx.statement("PRAGMA optimize").await?;
    tx.statement("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    tx.connection.close().await.map_err(db)
}
