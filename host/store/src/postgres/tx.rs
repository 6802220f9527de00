//! Transactions: begun, run to their end, repeated where the database says so.

use super::ahead::Ahead;
use super::{PostgresStore, Shared, growth};
use crate::columns::micros;
use futures_util::future::BoxFuture;
use horarium_core::store::{NewExecution, StoreError, StoreResult};
use horarium_model::execution::State;
use horarium_model::{TaskId, Timestamp};
use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{AssertSqlSafe, FromRow};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How often a transaction is run anew before the caller hears of it.
const TRIES: u32 = 6;

/// Why an operation did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// What the caller is told.
    Store(StoreError),
    /// What the database or the way to it said.
    Db(sqlx::Error),
    /// The transaction must be run anew: something else than expected was found under the locks.
    Again,
}

pub(super) type PgResult<T> = Result<T, Fault>;

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error)
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Db(error.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::Db(error) => db(&error),
            Fault::Again => Self::Unavailable("too many hosts changed the same at once".into()),
        }
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error().and_then(DatabaseError::code)?;
    Some(code.into_owned())
}

impl Fault {
    /// Whether the same transaction is likely to succeed now.
    fn is_passing(&self) -> bool {
        match self {
            Self::Again => true,
            // Serialization failure, deadlock.
            Self::Db(error) => matches!(code(error).as_deref(), Some("40001" | "40P01")),
            Self::Store(_) => false,
        }
    }

    /// Whether no answer came in time.
    fn is_late(&self) -> bool {
        matches!(self, Self::Db(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut)
    }

    /// Whether the connection was gone, found out by using it.
    fn is_lost_connection(&self) -> bool {
        match self {
            Self::Db(sqlx::Error::Io(_) | sqlx::Error::BeginFailed) => true,
            Self::Db(error) => code(error).is_some_and(|code| is_connection(&code)),
            _ => false,
        }
    }
}

/// Connection exceptions, shutdown and crash of the server, a session that idled too long.
fn is_connection(code: &str) -> bool {
    code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03")
}

/// What PostgreSQL's refusal means to callers.
pub(super) fn db(error: &sqlx::Error) -> StoreError {
    use sqlx::Error as E;
    let text = error.to_string();
    match error {
        E::PoolTimedOut => {
            StoreError::Unavailable("no connection to PostgreSQL became free in time".into())
        }
        E::Io(_)
        | E::PoolClosed
        | E::Tls(_)
        | E::WorkerCrashed
        | E::BeginFailed
        | E::Protocol(_) => StoreError::Unavailable(text),
        _ => match code(error).as_deref() {
            // Out of resources; locks, statements and deadlocks that took too long; a standby that cannot
            // write (yet); a login that was good when the host started.
            Some(code)
                if is_connection(code)
                    || code.starts_with("53")
                    || code.starts_with("58")
                    || matches!(
                        code,
                        "55P03"
                            | "57014"
                            | "40001"
                            | "40P01"
                            | "25006"
                            | "28000"
                            | "28P01"
                            | "3D000"
                    ) =>
            {
                StoreError::Unavailable(text)
            }
            _ => StoreError::Internal(text),
        },
    }
}

/// What the operation wants other hosts to know once it is committed.
#[derive(Debug, Default, Clone)]
pub(super) struct Tidings {
    pub(super) enqueued: bool,
    pub(super) schedule: bool,
    pub(super) catalog: bool,
    pub(super) access: bool,
    pub(super) cancels: Vec<TaskId>,
    /// Executions that came into being: this host alone wants to know.
    pub(super) came: u32,
}

impl Tidings {
    /// An execution came into being.
    pub(super) fn comes(&mut self, new: &NewExecution, state: State) {
        debug_assert!(State::may_become(None, state));
        self.came = self.came.saturating_add(1);
        self.enqueued |= state == State::Available;
        self.schedule |= state == State::Scheduled || new.expires_at.is_some();
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.enqueued && !self.schedule && !self.catalog && !self.access && self.cancels.is_empty()
    }
}

/// What became of a statement that is a transaction by itself.
pub(super) enum AtOnce<T> {
    /// It is done.
    Done(T),
    /// Nothing was done: it needs a transaction of several.
    Not,
    /// The connection was lost, and nobody knows whether it was done.
    Lost(StoreError),
}

/// When something last could not be done [at once](AtOnce): for a while nobody tries then.
#[derive(Debug)]
pub(super) struct Bounded(AtomicI64);

impl Bounded {
    /// Microseconds.
    const FOR: i64 = 1_000_000;

    pub(super) fn lately(&self, now: Timestamp) -> bool {
        let since = micros(now).saturating_sub(self.0.load(Ordering::Relaxed));
        (0..Self::FOR).contains(&since)
    }

    pub(super) fn met(&self, now: Timestamp) {
        self.0.store(micros(now), Ordering::Relaxed);
    }
}

impl Default for Bounded {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

/// A running transaction.
pub(super) struct Tx {
    inner: PoolConnection<Postgres>,
    /// Begun and not ended: nobody else may have the connection.
    is_open: bool,
    pub(super) tidings: Tidings,
    /// What the last try found locked by others too late to wait for it.
    pub(super) ahead: Ahead,
    /// More changes of the catalog come: its epoch is moved after the last.
    pub(super) holds_epoch: bool,
}

impl Drop for Tx {
    fn drop(&mut self) {
        if self.is_open {
            self.inner.close_on_drop();
        }
    }
}

impl Tx {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    async fn statement(&mut self, sql: &str) -> PgResult<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut *self.inner).await?;
        Ok(())
    }
}

/// Waits no longer than the server would: of one that vanished without a word (a machine that lost its power, a
/// route that is gone) the operating system tells only after a quarter of an hour.
pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = PgResult<T>>,
) -> PgResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => {
            let text = format!("no answer within {} s", limit.as_secs_f32());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text).into())
        }
    }
}

/// What one operation may take in all: the server ends each statement long before.
pub(super) fn operation_limit(shared: &Shared) -> Duration {
    shared.options.statement_timeout * 2 + shared.options.connect_timeout
}

async fn begin(shared: &Shared) -> PgResult<Tx> {
    let mut tries = 0;
    loop {
        let mut tx = Tx {
            inner: shared.pool.acquire().await?,
            is_open: true,
            tidings: Tidings::default(),
            ahead: Ahead::default(),
            holds_epoch: false,
        };
        match in_time(shared.options.connect_timeout, tx.statement(&shared.begin)).await {
            Ok(()) => return Ok(tx),
            // Nothing was done yet: after a restart of the server each idle connection is found dead once.
            Err(fault) if fault.is_lost_connection() && tries <= shared.options.connections => {
                tries += 1;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Of what is committed.
fn tell(shared: &Arc<Shared>, tidings: Tidings) {
    growth::note(shared, &tidings);
    shared.notifier.tell(tidings);
}

async fn run<T, F>(shared: &Arc<Shared>, operation: &F, ahead: &mut Ahead) -> PgResult<T>
where
    F: for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, PgResult<T>>,
{
    let mut tx = begin(shared).await?;
    tx.ahead = std::mem::take(ahead);
    let done = in_time(operation_limit(shared), async {
        let answer = operation(&mut tx).await?;
        tx.statement("COMMIT").await?;
        Ok(answer)
    })
    .await;
    match done {
        Ok(answer) => {
            tx.is_open = false;
            tell(shared, std::mem::take(&mut tx.tidings));
            Ok(answer)
        }
        Err(fault) => {
            *ahead = std::mem::take(&mut tx.ahead);
            // Of a lost connection nothing can be rolled back; the server does it.
            if !fault.is_lost_connection() {
                match in_time(shared.options.connect_timeout, tx.statement("ROLLBACK")).await {
                    Ok(()) => tx.is_open = false,
                    Err(fault) => tracing::debug!(?fault, "rollback"),
                }
            }
            Err(fault)
        }
    }
}

impl PostgresStore {
    /// Runs an operation in a transaction, to its end whatever the caller does: a future that is dropped
    /// while it begins would hand a connection in an unknown state to the next one.
    pub(super) async fn write<T, F>(&self, operation: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, PgResult<T>> + Send + Sync + 'static,
    {
        let shared = self.shared.clone();
        detached(&self.shared, async move {
            let (mut tried, mut ahead) = (1, Ahead::default());
            loop {
                match run(&shared, &operation, &mut ahead).await {
                    Err(fault) if fault.is_passing() && tried < TRIES => {
                        tracing::debug!(?fault, tried, "a transaction is run anew");
                        // Whom we met is done after a moment; each waits for a different one.
                        let own = u64::from(std::process::id() % 7);
                        tokio::time::sleep(Duration::from_millis(u64::from(tried) * 3 + own)).await;
                        tried += 1;
                    }
                    done => return done.map_err(StoreError::from),
                }
            }
        })
        .await
    }

    /// Runs one statement that is a transaction by itself, without a BEGIN and a COMMIT to wait for, to its end whatever
    /// the caller does. The operation answers what was done and what other hosts want to know of it, or nothing.
    pub(super) async fn at_once<T, F>(&self, operation: F) -> StoreResult<AtOnce<T>>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, PgResult<Option<(T, Tidings)>>>
            + Send
            + Sync
            + 'static,
    {
        // A pooler takes the settings with the BEGIN.
        if self.shared.options.pooler_transaction {
            return Ok(AtOnce::Not);
        }
        let shared = self.shared.clone();
        detached(&self.shared, async move {
            let mut connection = shared.pool.acquire().await.map_err(|error| db(&error))?;
            match in_time(operation_limit(&shared), operation(&mut connection)).await {
                Ok(Some((done, tidings))) => {
                    tell(&shared, tidings);
                    Ok(AtOnce::Done(done))
                }
                Ok(None) => Ok(AtOnce::Not),
                Err(fault) if fault.is_passing() => Ok(AtOnce::Not),
                Err(fault) if fault.is_lost_connection() => {
                    connection.close_on_drop();
                    match fault.is_late() {
                        // It took its time already.
                        true => Err(fault.into()),
                        false => Ok(AtOnce::Lost(fault.into())),
                    }
                }
                Err(fault) => Err(fault.into()),
            }
        })
        .await
    }

    /// Runs a read on a connection of its own, to its end whatever the caller does.
    pub(super) async fn read<T, F>(&self, operation: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, PgResult<T>> + Send + Sync + 'static,
    {
        if self.shared.options.pooler_transaction {
            let operation = Arc::new(operation);
            return self
                .write(move |tx| {
                    let operation = operation.clone();
                    Box::pin(async move { operation(tx.connection()).await })
                })
                .await;
        }
        let shared = self.shared.clone();
        detached(&self.shared, async move {
            let mut tries = 0;
            loop {
                let mut connection = shared.pool.acquire().await.map_err(|error| db(&error))?;
                let done = in_time(operation_limit(&shared), operation(&mut connection)).await;
                if done.as_ref().is_err_and(Fault::is_lost_connection) {
                    connection.close_on_drop();
                }
                match done {
                    // It took its time already.
                    Err(fault) if fault.is_late() => return Err(fault.into()),
                    Err(fault)
                        if fault.is_lost_connection() && tries <= shared.options.connections =>
                    {
                        tries += 1;
                    }
                    done => return done.map_err(StoreError::from),
                }
            }
        })
        .await
    }
}

tokio::task_local! {
    /// Whether the statements of the running operation are kept prepared on the connection.
    static KEPT: bool;
}

/// Whether statements are kept: behind a transaction pooler a statement with a name would meet one of
/// another client with the same name.
pub(super) fn kept() -> bool {
    KEPT.try_with(|kept| *kept).unwrap_or(false)
}

/// A statement of `sql.rs`.
pub(super) fn query<'q>(sql: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(kept())
}

/// A statement of `sql.rs` whose rows are tuples.
pub(super) fn query_as<'q, O>(sql: &'static str) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(kept())
}

/// A statement of `sql.rs` whose rows are single values.
pub(super) fn query_scalar<'q, O>(sql: &'static str) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(kept())
}

async fn detached<T: Send + 'static>(
    shared: &Shared,
    work: impl Future<Output = StoreResult<T>> + Send + 'static,
) -> StoreResult<T> {
    tokio::spawn(KEPT.scope(!shared.options.pooler_transaction, work))
        .await
        .map_err(|error| StoreError::Internal(format!("a database call broke off: {error}")))?
}
