//! The deletion of configs: the tombstone at once, the history in batches.

use super::configs::{found, write_streaks};
use super::end::end_bare;
use super::tx::Tx;
use super::{db, sql};
use crate::columns::{micros, text};
use horarium_core::store::{Deleted, HistoryOnDelete, StoreResult, rules};
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, TenantId, Timestamp};
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};

pub(super) async fn delete(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    id: ConfigId,
    history: HistoryOnDelete,
) -> StoreResult<Deleted> {
    let config = found(tx.read(), tenant, id).await?;
    let removes = history == HistoryOnDelete::Delete;
    // The tombstone comes first: the end of an execution looks at it.
    sqlx::query(sql::DELETE_CONFIG)
        .bind(id)
        .bind(micros(now))
        .bind(removes)
        .execute(tx.write())
        .await
        .map_err(db)?;
    for statement in [sql::PARK_SCHEDULE, sql::RESET_STATE] {
        sqlx::query(statement)
            .bind(id)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    tx.bump_epoch().await?;
    if removes {
        tx.keep_last_execution().await?;
    } else {
        let open = config.schedule_state.open_skip.clone();
        write_streaks(tx, now, &config, open.into_iter().collect()).await?;
    }
    let waiting = ids(tx.read(), sqlx::query(sql::WAITING_OF_CONFIG).bind(id)).await?;
    if !waiting.is_empty() {
        let (to, kind) = (State::Cancelled, ErrorKind::Cancelled);
        end_bare(tx, now, &waiting, to, kind, rules::CONFIG_DELETED).await?;
    }
    let row = sqlx::query(sql::RUNNING_OF_CONFIG)
        .bind(id)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let running: i64 = row.try_get(0).map_err(db)?;
    Ok(Deleted {
        cancelled: waiting.len() as u64,
        running: u64::try_from(running).unwrap_or(0),
    })
}

/// The first column of every row.
pub(super) async fn ids(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
) -> StoreResult<Vec<i64>> {
    let found = query.fetch_all(connection).await.map_err(db)?;
    found.iter().map(|row| row.try_get(0).map_err(db)).collect()
}

/// Whether deletions left anything behind.
pub(super) async fn any(connection: &mut SqliteConnection) -> StoreResult<bool> {
    let row = sqlx::query(sql::ANY_DELETED)
        .fetch_one(connection)
        .await
        .map_err(db)?;
    row.try_get(0).map_err(db)
}

/// One batch of what deletions left behind. Returns whether there is more.
pub(super) async fn purge(tx: &mut Tx, limit: u32) -> StoreResult<bool> {
    let tombstones = sqlx::query(sql::TOMBSTONES)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut left = u64::from(limit);
    for row in &tombstones {
        let id: ConfigId = row.try_get(0).map_err(db)?;
        let removes: bool = row.try_get(1).map_err(db)?;
        let done = if removes {
            remove_history(tx, id, left).await?
        } else {
            orphan_history(tx, id, left).await?
        };
        left = left.saturating_sub(done);
        if left == 0 {
            return Ok(true);
        }
        drop_tombstone(tx, id).await?;
    }
    Ok(false)
}

async fn orphan_history(tx: &mut Tx, id: ConfigId, limit: u64) -> StoreResult<u64> {
    let done = sqlx::query(sql::ORPHAN_HISTORY)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(done.rows_affected())
}

async fn remove_history(tx: &mut Tx, id: ConfigId, limit: u64) -> StoreResult<u64> {
    let query = sqlx::query(sql::HISTORY_OF_CONFIG)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let batch = ids(tx.read(), query).await?;
    remove(tx, &batch).await?;
    Ok(batch.len() as u64)
}

/// Removes ended executions with all that is kept beside them.
pub(super) async fn remove(tx: &mut Tx, batch: &[i64]) -> StoreResult<()> {
    if batch.is_empty() {
        return Ok(());
    }
    tx.keep_last_execution().await?;
    let list = text(&batch)?;
    for statement in [
        sql::DELETE_ATTEMPTS,
        sql::DELETE_LOGS,
        sql::DELETE_HTTP,
        sql::DELETE_HISTORY,
    ] {
        sqlx::query(statement)
            .bind(list.as_str())
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

/// Removes a tombstone nothing refers to any more. What still runs must find that its config is gone,
/// not that it never had one.
async fn drop_tombstone(tx: &mut Tx, id: ConfigId) -> StoreResult<()> {
    let row = sqlx::query(sql::HAS_LIVE)
        .bind(id)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    if row.try_get(0).map_err(db)? {
        return Ok(());
    }
    for statement in [
        sql::RESET_STATE,
        sql::DROP_SCHEDULE,
        sql::DROP_RETENTION,
        sql::DROP_TOMBSTONE,
    ] {
        sqlx::query(statement)
            .bind(id)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}
