//! PostgreSQL: one database, many hosts. Every operation is one transaction (READ COMMITTED), run to its
//! end in a task of its own; what hosts decide together they decide under row locks, always taken in the
//! same order (see the migration).

mod access;
mod ahead;
mod answers;
mod backlog;
mod breakers;
mod care;
mod catalog;
mod chain;
mod checkup;
mod claim;
mod complete;
mod complete_plain;
mod configs;
mod connect;
pub(crate) mod copy;
mod declare;
mod deletions;
mod end;
mod enqueue;
mod fire;
mod foreign;
mod growth;
mod hints;
mod history;
mod hosts;
mod import;
pub(crate) mod jsonb;
mod keys;
mod lanes;
mod outbox;
mod partitions;
mod plugins;
mod queue;
mod rows;
mod schema;
#[macro_use]
mod phrases;
mod sql;
mod task_state;
#[cfg(test)]
mod tests;
mod tls;
mod tx;
mod vault;

pub use checkup::Checkup;
pub use foreign::{ForeignColumn, ForeignDatabase, ForeignRow, ForeignTable, without_driver};
pub use partitions::PartitionSpan;
pub use schema::PostgresStatus;

use hints::Notifier;
use horarium_core::store::{StoreError, StoreResult};
use horarium_core::wake::Hint;
use horarium_model::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::sync::broadcast;
use tx::Bounded;

/// How a PostgreSQL database is used.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Most connections at once, the one that listens aside.
    pub connections: u32,
    /// The schema everything is in; none = the first of the role's `search_path`, usually `public`. It is
    /// created when it is missing and `migrate` is set.
    pub schema: Option<String>,
    /// Bring the database's schema up to date; else one that is behind is refused.
    pub migrate: bool,
    /// How long a host counts as alive after its last heartbeat, by the database's clock. Zero makes every
    /// other host's work takeable at once.
    pub lease: Duration,
    /// How long a call waits for a connection.
    pub connect_timeout: Duration,
    /// The server ends a statement that takes longer.
    pub statement_timeout: Duration,
    /// The server ends a statement that waits longer for a lock.
    pub lock_timeout: Duration,
    /// The server ends a transaction that does nothing for longer: what a vanished host leaves behind.
    pub idle_in_transaction_timeout: Duration,
    /// The URL leads to a pooler in transaction mode (pgbouncer): nothing may outlive a transaction, so
    /// statements are not kept, settings are sent with each BEGIN, and hints come over `listen_url` alone.
    pub pooler_transaction: bool,
    /// Where to LISTEN, if not at the URL: the server itself, behind a pooler.
    pub listen_url: Option<String>,
    /// Tell other hosts of work and hear of theirs by NOTIFY. Without it they find it by polling.
    pub notify: bool,
    /// How much time each partition of the history covers.
    pub partition_span: PartitionSpan,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 16,
            schema: None,
            migrate: false,
            lease: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            // Shorter than the lease: what a vanished host has locked must be free when it is taken over.
            idle_in_transaction_timeout: Duration::from_secs(10),
            pooler_transaction: false,
            listen_url: None,
            notify: true,
            partition_span: PartitionSpan::default(),
        }
    }
}

/// The store in a PostgreSQL database that many hosts share.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

/// What every operation needs.
#[derive(Debug)]
struct Shared {
    pool: PgPool,
    /// What opens a transaction.
    begin: Arc<str>,
    options: PostgresOptions,
    notifier: Notifier,
    /// When this host last looked for what is stuck, in microseconds.
    unstuck_at: AtomicI64,
    /// Whether claims, and ends, of this host met something lately that they cannot do in one statement.
    claims: Bounded,
    ends: Bounded,
    growth: growth::Growth,
}

impl PostgresStore {
    /// Connects to `url` (`postgres://user:password@host:5432/name?sslmode=verify-full`, a socket's folder
    /// as `?host=/run/postgresql`), checks the schema's version, or brings it up to date when asked to.
    ///
    /// # Errors
    /// `Invalid` when the URL, the login or the database is wrong, rights are missing, or the schema does
    /// not fit this binary; `Unavailable` when no server answers.
    pub async fn connect(url: &str, options: PostgresOptions) -> StoreResult<Self> {
        let target = connect::Target::parse(url, &options)?.settled().await?;
        schema::prepare(&target, &options).await?;
        schema::refuse_half_copied(&target, &options).await?;
        let channel = schema::channel(&target, &options).await?;
        let pool = connect::pool(&target, &options);
        let notifier = Notifier::start(&target, &options, pool.clone(), channel)?;
        let store = Self {
            shared: Arc::new(Shared {
                pool,
                begin: connect::begin(&options).into(),
                options,
                notifier,
                unstuck_at: AtomicI64::new(i64::MIN),
                claims: Bounded::default(),
                ends: Bounded::default(),
                growth: growth::Growth::default(),
            }),
        };
        store.tidy().await?;
        Ok(store)
    }

    /// What other hosts did, from now on. A receiver that falls behind is told so by its channel; that, like
    /// [`Hint::Missed`], means: look at everything again.
    pub fn hints(&self) -> broadcast::Receiver<Hint> {
        self.shared.notifier.subscribe()
    }

    /// The database's clock as it is now. What the hosts compare with each other they measure by it.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached.
    pub async fn database_now(&self) -> StoreResult<Timestamp> {
        self.read(|connection| {
            Box::pin(async move {
                let (micros,): (i64,) = tx::query_as(sql::DATABASE_NOW)
                    .fetch_one(connection)
                    .await?;
                Timestamp::from_timestamp_micros(micros).ok_or_else(|| {
                    StoreError::Internal(format!("the database's clock says {micros}")).into()
                })
            })
        })
        .await
    }

    /// Makes the history's partitions for the time to come and removes what nothing refers to any more.
    /// Every host does so when it starts; a server that runs for long calls it once a day.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached.
    pub async fn tidy(&self) -> StoreResult<()> {
        partitions::ensure(self).await?;
        self.write(|tx| {
            Box::pin(async move {
                tx::query(sql::TIDY_KEYS).execute(tx.connection()).await?;
                Ok(())
            })
        })
        .await
    }

    /// Closes it and removes the schema that its options named, with everything in it. Without a named schema
    /// nothing is removed.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached.
    pub async fn remove(self) -> StoreResult<()> {
        self.shared.notifier.flush().await;
        if let Some(schema) = self.shared.options.schema.clone() {
            // The name was checked when the store was opened.
            let statement: Arc<str> = format!("DROP SCHEMA \"{schema}\" CASCADE").into();
            self.write(move |tx| {
                let statement = statement.clone();
                Box::pin(async move {
                    sqlx::query(AssertSqlSafe(statement.to_string()))
                        .execute(tx.connection())
                        .await?;
                    Ok(())
                })
            })
            .await?;
        }
        self.close().await;
        Ok(())
    }

    /// The connections that operations share.
    pub fn connections(&self) -> crate::Connections {
        crate::Connections::of(&self.shared.pool)
    }

    /// Sends the hints that wait and closes all connections. Operations that come later are refused.
    pub async fn close(&self) {
        self.shared.notifier.flush().await;
        self.shared.pool.close().await;
    }
}
