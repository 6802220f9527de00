//! Circuit breakers of types.

use super::plugins::one_type;
use super::rows::Reader;
use super::tx::Tx;
use super::{db, sql};
use crate::columns::{opt_micros, text};
use crate::rows::breaker_row;
use crate::settle::Breakers;
use horarium_core::store::{StoreError, StoreResult, rules};
use horarium_model::task_type::TaskType;
use horarium_model::{TenantId, Timestamp};

/// What is kept of the failures of types.
pub(super) async fn read(tx: &mut Tx, types: &[(i64, String)]) -> StoreResult<Breakers> {
    let mut breakers = Breakers::default();
    if types.is_empty() {
        return Ok(breakers);
    }
    types
        .iter()
        .for_each(|key| breakers.know(key.clone(), None));
    let rows = sqlx::query(sql::BREAKERS)
        .bind(text(&types)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    for row in &rows {
        let (key, row) = breaker_row(&mut Reader::plain(row, "type_breakers"))?;
        breakers.know(key, Some(row));
    }
    Ok(breakers)
}

/// Writes what changed.
pub(super) async fn write(tx: &mut Tx, breakers: &Breakers) -> StoreResult<()> {
    for ((tenant, task_type), row) in breakers.changes() {
        let query = match row {
            None => sqlx::query(sql::DROP_BREAKER).bind(tenant).bind(task_type),
            Some(row) => sqlx::query(sql::SET_BREAKER)
                .bind(tenant)
                .bind(task_type)
                .bind(row.failures)
                .bind(opt_micros(row.opened_at))
                .bind(opt_micros(row.probe_at))
                .bind(row.pause_seconds)
                .bind(row.probe_id)
                .bind(row.error_kind.map(|kind| kind.as_str()))
                .bind(row.error_message.as_deref()),
        };
        query.execute(tx.write()).await.map_err(db)?;
    }
    if breakers.turned {
        tx.bump_epoch().await?;
    }
    Ok(())
}

/// `Catalog::reset_breaker`.
pub(super) async fn reset(
    tx: &mut Tx,
    _now: Timestamp,
    tenant: TenantId,
    task_type: &str,
) -> StoreResult<TaskType> {
    let reset = one_type(tx.read(), tenant, task_type).await?;
    let reset = reset.ok_or_else(|| StoreError::NotFound(rules::no_type(task_type)))?;
    sqlx::query(sql::DROP_BREAKER)
        .bind(tenant)
        .bind(task_type)
        .execute(tx.write())
        .await
        .map_err(db)?;
    tx.bump_epoch().await?;
    Ok(TaskType {
        breaker: None,
        ..reset
    })
}
