//! A transaction of the writer, and what it remembers between transactions.

use super::{db, sql};
use horarium_core::store::StoreResult;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::collections::HashSet;
use std::sync::Arc;

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
    /// Nothing is begun yet; `last_execution` is the highest id given out.
    pub(super) fn new(connection: SqliteConnection, last_execution: i64) -> Self {
        Self {
            connection,
            dirty: false,
            last_execution,
            alive: None,
            freed: HashSet::new(),
            unblock_all: false,
            claimed_types: Arc::default(),
        }
    }

    /// Another operation comes, which has written nothing yet.
    pub(super) fn next_operation(&mut self) {
        self.dirty = false;
    }

    /// Whether the current operation has written.
    pub(super) fn has_written(&self) -> bool {
        self.dirty
    }

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

    pub(super) async fn statement(&mut self, sql: &'static str) -> StoreResult<()> {
        sqlx::query(sql)
            .execute(&mut self.connection)
            .await
            .map_err(db)?;
        Ok(())
    }

    /// Undoes the transaction, and what was remembered from it.
    pub(super) async fn roll_back(&mut self) {
        self.alive = None;
        // What was unblocked is blocked again, and `freed` no longer names it.
        self.unblock_all = true;
        if let Err(error) = self.statement("ROLLBACK").await {
            // SQLite has rolled back by itself after some errors; BEGIN will tell.
            tracing::debug!(%error, "rollback");
        }
    }

    /// Closes the connection.
    pub(super) async fn close(self) -> StoreResult<()> {
        self.connection.close().await.map_err(db)
    }
}
