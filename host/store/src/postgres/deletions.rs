//! The deletion of configs: the tombstone at once, the history in batches.

use super::configs::{bump_epoch, found, write_streaks};
use super::end::{end_bare, forget, lock_live_of};
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{ahead, sql};
use crate::columns::micros;
use horarium_core::store::{Deleted, HistoryOnDelete, rules};
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, TaskConfig, TenantId, Timestamp};
use sqlx::postgres::PgConnection;

pub(super) async fn delete(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    id: ConfigId,
    history: HistoryOnDelete,
) -> PgResult<Deleted> {
    ahead::lock(tx, &[id]).await?;
    let config = found(tx.connection(), tenant, id).await?;
    // Waits for whoever is enqueueing for it.
    query(sql::LOCK_CONFIG)
        .bind(id)
        .execute(tx.connection())
        .await?;
    bury(tx, now, &config, history).await?;
    end_live(tx, now, id).await
}

/// The tombstone of a config whose schedule and row are locked.
pub(super) async fn bury(
    tx: &mut Tx,
    now: Timestamp,
    config: &TaskConfig,
    history: HistoryOnDelete,
) -> PgResult<()> {
    let id = config.id;
    let removes = history == HistoryOnDelete::Delete;
    // The tombstone comes first: the end of an execution looks at it.
    query(sql::DELETE_CONFIG)
        .bind(id)
        .bind(micros(now))
        .bind(removes)
        .execute(tx.connection())
        .await?;
    for statement in [sql::PARK_SCHEDULE, sql::RESET_STATE] {
        query(statement).bind(id).execute(tx.connection()).await?;
    }
    if !removes {
        let open = config.schedule_state.open_skip.clone();
        write_streaks(tx, now, config, open.into_iter().collect()).await?;
    }
    Ok(())
}

/// Ends what waits of a config that was buried.
pub(super) async fn end_live(tx: &mut Tx, now: Timestamp, id: ConfigId) -> PgResult<Deleted> {
    let live = lock_live_of(tx, id).await?;
    let (to, kind) = (State::Cancelled, ErrorKind::Cancelled);
    end_bare(tx, now, &live.waiting, to, kind, rules::CONFIG_DELETED).await?;
    bump_epoch(tx).await?;
    Ok(Deleted {
        cancelled: live.waiting.len() as u64,
        running: live.running,
    })
}

/// Whether deletions left anything behind.
pub(super) async fn any(connection: &mut PgConnection) -> PgResult<bool> {
    Ok(query_scalar(sql::ANY_TOMBSTONE)
        .fetch_one(connection)
        .await?)
}

/// One batch of what deletions left behind. Returns whether there is more.
pub(super) async fn purge(tx: &mut Tx, limit: u32) -> PgResult<bool> {
    let tombstones: Vec<(i64, bool)> = query_as(sql::TOMBSTONES).fetch_all(tx.connection()).await?;
    let mut left = u64::from(limit);
    for (id, removes) in tombstones {
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

async fn orphan_history(tx: &mut Tx, id: ConfigId, limit: u64) -> PgResult<u64> {
    let done = query(sql::ORPHAN_HISTORY)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}

async fn remove_history(tx: &mut Tx, id: ConfigId, limit: u64) -> PgResult<u64> {
    let removed: Vec<(i64, i64)> = query_as(sql::REMOVE_HISTORY)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(tx.connection())
        .await?;
    forget(tx, &removed).await?;
    Ok(removed.len() as u64)
}

/// Removes a tombstone nothing refers to any more. What still runs must find that its config is gone,
/// not that it never had one.
async fn drop_tombstone(tx: &mut Tx, id: ConfigId) -> PgResult<()> {
    let lives: bool = query_scalar(sql::HAS_LIVE)
        .bind(id)
        .fetch_one(tx.connection())
        .await?;
    if lives {
        return Ok(());
    }
    for statement in [
        sql::RESET_STATE,
        sql::DROP_SCHEDULE,
        sql::DROP_RETENTION,
        sql::DROP_TOMBSTONE,
    ] {
        query(statement).bind(id).execute(tx.connection()).await?;
    }
    Ok(())
}
