//! The one writer. Operations that wait together share a transaction, so that one flush of the disk
//! serves them all, and so do those that come before its commit; each is answered after it. If one fails, the
//! transaction is rolled back and each is run again alone, so that a failure harms no other.

use super::file::Lock;
use super::gather::{Few, Gathered};
use super::{db, sql};
use futures_util::future::BoxFuture;
use horarium_core::store::{EnqueueReceipt, NewExecution, StoreError, StoreResult};
use horarium_model::Timestamp;
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
pub(super) trait Job: Send {
    /// Runs it and keeps the answer. Returns whether the transaction may be committed.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool>;
    /// What it consists of, to be run one by one where all at once failed.
    fn apart(self: Box<Self>) -> Vec<Box<dyn Job>>;
    /// Sends the answer; with an error, that instead.
    fn answer(self: Box<Self>, failed: Option<String>);
}

/// What a job's caller hears: its result, or what became of the transaction.
pub(super) fn outcome<T>(failed: Option<String>, result: Option<StoreResult<T>>) -> StoreResult<T> {
    let did_not_run = || Err(StoreError::Internal("the operation did not run".into()));
    match failed {
        Some(error) => Err(StoreError::Unavailable(error)),
        None => result.unwrap_or_else(did_not_run),
    }
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

    fn apart(self: Box<Self>) -> Vec<Box<dyn Job>> {
        vec![self]
    }

    fn answer(self: Box<Self>, failed: Option<String>) {
        // The caller may be gone; the operation stands all the same.
        let _ = self.reply.send(outcome(failed, self.result));
    }
}

enum Message {
    Run(Box<dyn Job>),
    Enqueue(Few),
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
        self.send(Message::Run(job), answer).await
    }

    /// Enqueues a few executions, each taken or refused by itself.
    pub(super) async fn enqueue(
        &self,
        now: Timestamp,
        items: Vec<NewExecution>,
    ) -> StoreResult<Vec<EnqueueReceipt>> {
        let (reply, answer) = oneshot::channel();
        let few = Few { now, items, reply };
        self.send(Message::Enqueue(few), answer).await
    }

    async fn send<T>(
        &self,
        message: Message,
        answer: oneshot::Receiver<StoreResult<T>>,
    ) -> StoreResult<T> {
        let gone = || StoreError::Unavailable("it is closed".into());
        self.sender.send(message).await.map_err(|_| gone())?;
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
    let mut coming = Coming {
        receiver: &mut receiver,
        next: None,
        left: 0,
        closing: None,
    };
    while coming.closing.is_none() {
        let message = match coming.next.take() {
            Some(message) => message,
            None => match coming.receiver.recv().await {
                Some(message) => message,
                None => break,
            },
        };
        coming.left = GROUP;
        if let Some(first) = coming.job(message) {
            run_group(&mut tx, first, &mut coming).await;
        }
    }
    let closing = coming.closing.take();
    receiver.close();
    drop(receiver);
    let done = finish(tx).await;
    drop(lock);
    if let Some(reply) = closing {
        let _ = reply.send(done);
    }
}

/// What waits for the writer and may still join its transaction.
struct Coming<'a> {
    receiver: &'a mut mpsc::Receiver<Message>,
    /// What was looked at and not taken yet.
    next: Option<Message>,
    /// Jobs that the transaction still takes.
    left: usize,
    closing: Option<oneshot::Sender<StoreResult<()>>>,
}

impl Coming<'_> {
    fn job(&mut self, message: Message) -> Option<Box<dyn Job>> {
        match message {
            Message::Run(job) => {
                self.left -= 1;
                Some(job)
            }
            Message::Enqueue(few) => {
                self.left -= 1;
                Some(Box::new(self.gather(few)))
            }
            Message::Close(reply) => {
                self.closing = Some(reply);
                None
            }
        }
    }

    /// Takes what follows it as far as it is of the same kind.
    fn gather(&mut self, first: Few) -> Gathered {
        let mut gathered = Gathered::of(first);
        while gathered.has_room() {
            match self.message() {
                Some(Message::Enqueue(few)) => gathered.add(few),
                other => {
                    self.next = other;
                    break;
                }
            }
        }
        gathered
    }

    fn message(&mut self) -> Option<Message> {
        self.next.take().or_else(|| self.receiver.try_recv().ok())
    }
}

impl Iterator for Coming<'_> {
    type Item = Box<dyn Job>;

    fn next(&mut self) -> Option<Box<dyn Job>> {
        if self.left == 0 || self.closing.is_some() {
            return None;
        }
        let message = self.message()?;
        self.job(message)
    }
}

async fn run_group(tx: &mut Tx, first: Box<dyn Job>, coming: &mut Coming<'_>) {
    let mut jobs = vec![first];
    let Err(error) = transact(tx, &mut jobs, coming).await else {
        jobs.into_iter().for_each(|job| job.answer(None));
        return;
    };
    let jobs: Vec<_> = jobs.into_iter().flat_map(Job::apart).collect();
    if jobs.len() == 1 {
        jobs.into_iter().for_each(|job| job.answer(error.clone()));
        return;
    }
    for job in jobs {
        let mut alone = vec![job];
        let failed = transact(tx, &mut alone, &mut std::iter::empty()).await;
        let failed = failed.err().flatten();
        alone.into_iter().for_each(|job| job.answer(failed.clone()));
    }
}

/// Runs all jobs, and after them those that came meanwhile, in one transaction. On an error nothing of them is written:
/// with a text when the transaction itself failed, without one when a job did and holds its own error.
async fn transact(
    tx: &mut Tx,
    jobs: &mut Vec<Box<dyn Job>>,
    more: &mut (dyn Iterator<Item = Box<dyn Job>> + Send),
) -> Result<(), Option<String>> {
    tx.statement("BEGIN IMMEDIATE")
        .await
        .map_err(|error| Some(detail(error)))?;
    let mut at = 0;
    while at < jobs.len() {
        let good = jobs[at].run(tx).await;
        if !good {
            tx.roll_back().await;
            return Err(None);
        }
        at += 1;
        if at == jobs.len() {
            jobs.extend(more.next());
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
