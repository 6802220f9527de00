//! The state of tasks, as operators read and write it.

use super::configs::{found, lock_schedule};
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{care, sql};
use crate::columns::micros;
use horarium_core::runner::StateEntry;
use horarium_core::store::{StoreError, rules};
use horarium_model::{ConfigId, TenantId, Timestamp};
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;

/// State of a config that may be gone.
pub(super) async fn entries(
    connection: &mut PgConnection,
    id: ConfigId,
) -> PgResult<BTreeMap<String, StateEntry>> {
    let rows: Vec<(String, Vec<u8>, i64)> =
        query_as(sql::STATE).bind(id).fetch_all(connection).await?;
    let entry = |(key, value, version)| (key, StateEntry { value, version });
    Ok(rows.into_iter().map(entry).collect())
}

pub(super) async fn state(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: ConfigId,
) -> PgResult<BTreeMap<String, StateEntry>> {
    found(connection, tenant, id).await?;
    entries(connection, id).await
}

/// Writes a key, or deletes it with no value.
pub(super) async fn set_state(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    id: ConfigId,
    key: &str,
    value: Option<&[u8]>,
) -> PgResult<()> {
    lock_schedule(tx, id).await?;
    found(tx.connection(), tenant, id).await?;
    let Some(value) = value else {
        query(sql::DELETE_STATE)
            .bind(id)
            .bind(key)
            .execute(tx.connection())
            .await?;
        return Ok(());
    };
    let known = care::quotas(tx.connection(), tenant).await?;
    if let Some(limit) = known.and_then(|known| known.quotas.state_bytes) {
        let mut room = care::state_room(tx, tenant, limit).await?;
        let asking = query_scalar(sql::STATE_SIZE).bind(id).bind(key);
        let old: Option<i64> = asking.fetch_optional(tx.connection()).await?;
        room.grow(rules::state_size(key, value) - old.unwrap_or(0))
            .map_err(StoreError::Quota)?;
    }
    // Kept beside the keys: a key that was deleted and comes again must not repeat a version.
    let version: i64 = query_scalar(sql::RAISE_STATE_VERSION)
        .bind(id)
        .fetch_one(tx.connection())
        .await?;
    query(sql::SET_STATE)
        .bind(id)
        .bind(key)
        .bind(version)
        .bind(micros(now))
        .bind(value)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Forgets all keys; returns how many there were.
pub(super) async fn reset_state(tx: &mut Tx, tenant: TenantId, id: ConfigId) -> PgResult<u64> {
    lock_schedule(tx, id).await?;
    found(tx.connection(), tenant, id).await?;
    let done = query(sql::RESET_STATE)
        .bind(id)
        .execute(tx.connection())
        .await?;
    Ok(done.rows_affected())
}
