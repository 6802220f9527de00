//! Circuit breakers of types.

use super::configs::bump_epoch;
use super::jsonb;
use super::plugins::one_type;
use super::rows::Reader;
use super::sql;
use super::tx::{PgResult, Tx, query};
use crate::columns::opt_micros;
use crate::rows::breaker_row;
use crate::settle::Breakers;
use horarium_core::store::{StoreError, rules};
use horarium_model::task_type::TaskType;
use horarium_model::{TenantId, Timestamp};

/// What is kept of the failures of types, locked until the transaction ends; they come in order.
pub(super) async fn lock(tx: &mut Tx, types: &[(i64, String)]) -> PgResult<Breakers> {
    let mut breakers = Breakers::default();
    if types.is_empty() {
        return Ok(breakers);
    }
    let (tenants, names): (Vec<i64>, Vec<&str>) = types
        .iter()
        .map(|(tenant, name)| (*tenant, name.as_str()))
        .unzip();
    // What is not there cannot be locked.
    query(sql::ADD_BREAKERS)
        .bind(&tenants)
        .bind(&names)
        .execute(tx.connection())
        .await?;
    let rows = query(sql::BREAKERS)
        .bind(&tenants)
        .bind(&names)
        .fetch_all(tx.connection())
        .await?;
    types
        .iter()
        .for_each(|key| breakers.know(key.clone(), None));
    for row in &rows {
        let (key, row) = breaker_row(&mut Reader::plain(row, "type_breakers"))?;
        breakers.know(key, Some(row));
    }
    Ok(breakers)
}

/// Writes what changed.
pub(super) async fn write(tx: &mut Tx, breakers: &Breakers) -> PgResult<()> {
    for ((tenant, task_type), row) in breakers.changes() {
        let query = match row {
            None => query(sql::DROP_BREAKER).bind(tenant).bind(task_type),
            Some(row) => query(sql::SET_BREAKER)
                .bind(tenant)
                .bind(task_type)
                .bind(i64::from(row.failures))
                .bind(opt_micros(row.opened_at))
                .bind(opt_micros(row.probe_at))
                .bind(i64::from(row.pause_seconds))
                .bind(row.probe_id)
                .bind(row.error_kind.map(|kind| kind.as_str()))
                .bind(row.error_message.as_deref().map(jsonb::plain)),
        };
        query.execute(tx.connection()).await?;
    }
    // What waited for it may start.
    tx.tidings.enqueued |= breakers.turned;
    Ok(())
}

/// `Catalog::reset_breaker`.
pub(super) async fn reset(
    tx: &mut Tx,
    _now: Timestamp,
    tenant: TenantId,
    task_type: &str,
) -> PgResult<TaskType> {
    let reset = one_type(tx.connection(), tenant, task_type).await?;
    let reset = reset.ok_or_else(|| StoreError::NotFound(rules::no_type(task_type)))?;
    query(sql::DROP_BREAKER)
        .bind(tenant)
        .bind(task_type)
        .execute(tx.connection())
        .await?;
    bump_epoch(tx).await?;
    tx.tidings.enqueued = true;
    Ok(TaskType {
        breaker: None,
        ..reset
    })
}
