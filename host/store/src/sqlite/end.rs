//! Ends without an attempt that would account for them, and what every end removes.

use super::rows::Reader;
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{micros, text};
use horarium_core::store::StoreResult;
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, ExecutionId, Timestamp};
use sqlx::Row;

/// How an execution ends that nobody ran to its end.
#[derive(Clone, Copy)]
pub(super) struct Bare {
    state: State,
    kind: ErrorKind,
    message: &'static str,
}

impl Bare {
    pub(super) fn cancelled(message: &'static str) -> Self {
        Self {
            state: State::Cancelled,
            kind: ErrorKind::Cancelled,
            message,
        }
    }

    pub(super) fn failed(kind: ErrorKind, message: &'static str) -> Self {
        Self {
            state: State::Failed,
            kind,
            message,
        }
    }
}

/// Ends live executions that wait, or run for a host that is gone.
pub(super) async fn bare(
    tx: &mut Tx,
    now: Timestamp,
    ids: &[ExecutionId],
    end: Bare,
) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = text(&ids)?;
    let kept = sqlx::query(sql::END_BARE)
        .bind(&ids)
        .bind(micros(now))
        .bind(end.state.as_str())
        .bind(end.kind.as_str())
        .bind(end.message)
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected();
    let rows = sqlx::query(sql::DELETE_LIVE_KEYS)
        .bind(&ids)
        .fetch_all(tx.write())
        .await
        .map_err(db)?;
    sqlx::query(sql::DELETE_PARAMETERS)
        .bind(&ids)
        .execute(tx.write())
        .await
        .map_err(db)?;
    for row in &rows {
        let mut r = Reader::new(row, "live_executions")?;
        let tenant = r.get("tenant_id")?;
        if let Some(key) = r.get("run_key")? {
            tx.freed.insert((tenant, key));
        }
    }
    if kept < rows.len() as u64 {
        forget_unkept(tx, &ids).await?;
    }
    Ok(())
}

/// Removes what is kept beside executions that left no history, because it goes with their config.
pub(super) async fn forget(tx: &mut Tx, ids: &[ExecutionId]) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    forget_unkept(tx, &text(&ids)?).await
}

/// As [`forget`], sparing those of the ids that stand in the history.
async fn forget_unkept(tx: &mut Tx, ids: &str) -> StoreResult<()> {
    tx.keep_last_execution().await?;
    for statement in [sql::DELETE_ATTEMPTS, sql::DELETE_LOGS] {
        sqlx::query(statement)
            .bind(ids)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}

/// Ids of what waits of a config.
pub(super) async fn waiting_of(tx: &mut Tx, config: ConfigId) -> StoreResult<Vec<ExecutionId>> {
    ids(tx, sqlx::query(sql::WAITING_OF_CONFIG).bind(config)).await
}

/// Runs a statement that selects ids.
pub(super) async fn ids(
    tx: &mut Tx,
    query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> StoreResult<Vec<i64>> {
    let rows = query.fetch_all(tx.read()).await.map_err(db)?;
    rows.iter()
        .map(|row| row.try_get(0).map_err(db))
        .collect()
}
