//! The one writer, on a thread of its own: each statement goes to SQLite's thread and back, and a runtime of several threads
//! wakes more than one for each answer. Operations that wait together share a transaction, so that one flush of the disk
//! serves them all, and so do those that come before its commit; each is answered after it. If one fails, the
//! transaction is rolled back and each is run again alone, so that a failure harms no other.

use super::file::Lock;
use super::gather::{Few, Gathered};
use super::tx::Tx;
use super::{db, sql};
use futures_util::future::BoxFuture;
use horarium_core::store::{EnqueueReceipt, NewExecution, StoreError, StoreResult};
use horarium_model::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

/// Most operations in one transaction.
const GROUP: usize = 256;

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
            tx.next_operation();
            let done = (self.operation)(&mut *tx).await;
            // A refusal before anything was written needs no rollback.
            let refused = matches!(
                done,
                Err(StoreError::NotFound(_)
                    | StoreError::Conflict(_)
                    | StoreError::Invalid(_)
                    | StoreError::Quota(_))
            );
            let good = done.is_ok() || (refused && !tx.has_written());
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

/// The way to the writing thread. Dropped without [`Writer::close`] it waits until what was asked for is written, which
/// holds up the thread that drops it.
#[derive(Debug)]
pub(super) struct Writer {
    // Dropped in this order: without senders the thread ends.
    sender: mpsc::Sender<Message>,
    _thread: Thread,
}

#[derive(Debug)]
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        // An operation may hold the last of the store.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = self.0.take().filter(other) {
            // It panicked, and has told.
            let _ = thread.join();
        }
    }
}

impl Writer {
    /// Starts the thread, which ends when the `Writer` is gone or closed.
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
        let tx = Tx::new(connection, last_execution);
        let (sender, receiver) = mpsc::channel(queue);
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new().name("writer".to_owned());
        let thread = thread.spawn(move || {
            // Made here: a runtime must not be dropped where another one works, not even in vain.
            let runtime = match Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let _ = ready.send(Ok(()));
            runtime.block_on(work(tx, receiver, lock));
        });
        let no_thread =
            |error| StoreError::Unavailable(format!("the writer cannot be started: {error}"));
        let thread = thread.map_err(no_thread)?;
        let gone = |_| std::io::Error::other("its thread ended");
        started.await.map_err(gone).flatten().map_err(no_thread)?;
        Ok(Self {
            sender,
            _thread: Thread(Some(thread)),
        })
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
    let Some(reply) = closing else {
        // Nobody waits: as after a crash, the next to open it finishes.
        return;
    };
    let done = finish(tx).await;
    drop(lock);
    let _ = reply.send(done);
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
            Message::Enqueue(few) => Some(Box::new(self.gather(few))),
            Message::Close(reply) => {
                self.closing = Some(reply);
                None
            }
        }
    }

    /// Takes what follows it as far as it is of the same kind.
    fn gather(&mut self, first: Few) -> Gathered {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(few) = next.take() {
            gathered.add(few);
            self.left -= 1;
            if self.left > 0 {
                match self.message() {
                    Some(Message::Enqueue(few)) => next = Some(few),
                    other => self.next = other,
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
    match jobs.len() {
        1 => failed(tx, jobs, error).await,
        _ => each_alone(tx, jobs).await,
    }
}

async fn each_alone(tx: &mut Tx, jobs: Vec<Box<dyn Job>>) {
    for job in jobs {
        let mut alone = vec![job];
        match transact(tx, &mut alone, &mut std::iter::empty()).await {
            Ok(()) => alone.into_iter().for_each(|job| job.answer(None)),
            Err(error) => Box::pin(failed(tx, alone, error)).await,
        }
    }
}

/// What a job that failed alone consists of is run one by one; if that is itself, it has failed.
async fn failed(tx: &mut Tx, job: Vec<Box<dyn Job>>, error: Option<String>) {
    let parts: Vec<_> = job.into_iter().flat_map(Job::apart).collect();
    match parts.len() {
        1 => parts.into_iter().for_each(|job| job.answer(error.clone())),
        _ => each_alone(tx, parts).await,
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
    tx.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enqueue() -> Message {
        let (reply, _) = oneshot::channel();
        Message::Enqueue(Few {
            now: Timestamp::UNIX_EPOCH,
            items: Vec::new(),
            reply,
        })
    }

    fn nothing(_: &mut Tx) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(async { Ok(()) })
    }

    fn other() -> Message {
        let (reply, _) = oneshot::channel();
        Message::Run(Box::new(Pending {
            operation: nothing,
            result: None,
            reply,
        }))
    }

    /// Callers of each job, in order; an operation has one.
    async fn gathered(messages: Vec<Message>, left: usize) -> Vec<usize> {
        let (sender, mut receiver) = mpsc::channel(16);
        for message in messages {
            sender.send(message).await.expect("there is room");
        }
        let coming = Coming {
            receiver: &mut receiver,
            next: None,
            left,
            closing: None,
        };
        coming.map(|job| job.apart().len()).collect()
    }

    #[tokio::test]
    async fn neighbours_are_one_operation_and_nothing_overtakes() {
        let messages = || {
            vec![
                enqueue(),
                enqueue(),
                other(),
                enqueue(),
                enqueue(),
                enqueue(),
            ]
        };
        assert_eq!(gathered(messages(), GROUP).await, [2, 1, 3]);
        // A transaction takes so many callers, however they come.
        assert_eq!(gathered(messages(), 5).await, [2, 1, 2]);
        assert_eq!(gathered(messages(), 1).await, [1]);
    }
}
