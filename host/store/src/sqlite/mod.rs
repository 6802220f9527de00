//! SQLite: one file, one server. One thread owns the only writing connection and groups what waits into
//! one transaction ([`writer`]); readers have connections of their own.

mod access;
mod answers;
mod backlog;
mod backup;
mod bound;
mod breakers;
mod care;
mod catalog;
mod chain;
mod claim;
mod complete;
mod configs;
pub(crate) mod copy;
mod declare;
mod deletions;
mod end;
mod enqueue;
mod file;
mod fire;
mod gather;
mod history;
mod hosts;
mod import;
mod outbox;
mod packed;
mod parts;
mod plugins;
mod queue;
mod rates;
mod rows;
#[macro_use]
mod phrases;
mod sql;
mod task_state;
#[cfg(test)]
mod tests;
mod tx;
mod vault;
mod writer;

pub use backup::{Restored, backup, restore};
pub(crate) use copy::same_file;
pub use file::{DbStatus, migrate, quick_check, status};

use futures_util::future::BoxFuture;
use horarium_core::store::{StoreError, StoreResult};
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqlitePoolOptions};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use tx::Tx;
use writer::Writer;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The loss of power: each commit reaches the disk before it is answered.
    #[default]
    Full,
    /// The death of the process; the last commits may be lost with the power, the file stays sound.
    Normal,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Connections that read at once.
    pub readers: u32,
    /// Operations that may wait for the writer before callers wait too.
    pub queue: usize,
    /// Bring the schema up to date; else a database that is behind is refused.
    pub migrate: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            readers: 4,
            queue: 1024,
            migrate: true,
        }
    }
}

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    /// Where reads run, whoever asks: their connections' threads are made there, with its priority.
    runtime: Handle,
    // Let go when the last user is gone; the writer holds it too.
    _lock: Arc<file::Lock>,
}

impl SqliteStore {
    /// Opens, creates or migrates a database, which belongs to this process until it is closed.
    ///
    /// # Errors
    /// `Unavailable` when another process has it or the file cannot be used; `Invalid` when the file is
    /// not Horarium's or is newer than this binary.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> StoreResult<Self> {
        let path = path.as_ref();
        let lock = Arc::new(file::Lock::take(path)?);
        let mut connection = file::open_writer(path, &options).await?;
        copy::refuse_half_copied(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .min_connections(0)
            // A file does not hang up, and asking takes the way between two threads.
            .test_before_acquire(false)
            .connect_lazy_with(file::reader_options(path));
        let writer = Writer::start(connection, options.queue.max(1), lock.clone()).await?;
        Ok(Self {
            writer,
            readers,
            runtime: Handle::current(),
            _lock: lock,
        })
    }

    /// Finishes what waits, moves the write-ahead log into the file and closes it. Operations that come
    /// later are refused.
    ///
    /// # Errors
    /// `Unavailable` when the last checkpoint failed; nothing is lost by that.
    pub async fn close(&self) -> StoreResult<()> {
        self.readers.close().await;
        self.writer.close().await
    }

    /// The connections that read.
    pub fn connections(&self) -> crate::Connections {
        crate::Connections::of(&self.readers)
    }

    /// Runs an operation in the writer's next transaction, to its end whatever the caller does.
    async fn write<T, F>(&self, operation: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, StoreResult<T>> + Send + 'static,
    {
        self.writer.run(operation).await
    }

    /// Runs a read on a connection of its own, to its end whatever the caller does.
    async fn read<T, F>(&self, operation: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut SqliteConnection) -> BoxFuture<'a, StoreResult<T>>
            + Send
            + 'static,
    {
        let readers = self.readers.clone();
        let task = self.runtime.spawn(async move {
            let mut connection = readers.acquire().await.map_err(db)?;
            operation(&mut connection).await
        });
        task.await
            .map_err(|error| StoreError::Internal(format!("a read broke off: {error}")))?
    }
}

/// What SQLite's refusal means to callers.
pub(crate) fn db(error: sqlx::Error) -> StoreError {
    let primary = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .and_then(|code| code.parse::<i32>().ok())
        .map(|code| code & 0xff);
    match (primary, &error) {
        // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN.
        (Some(5 | 6 | 8 | 10 | 13 | 14), _)
        | (_, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_)) => {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Internal(error.to_string()),
    }
}
