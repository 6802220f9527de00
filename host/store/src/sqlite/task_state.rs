//! The state of tasks, as operators read and write it.

use super::configs::found;
use super::tx::Tx;
use super::{care, db, sql};
use crate::columns::micros;
use horarium_core::runner::StateEntry;
use horarium_core::store::{StoreError, StoreResult, rules};
use horarium_model::{ConfigId, TenantId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;

pub(super) async fn state(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: ConfigId,
) -> StoreResult<BTreeMap<String, StateEntry>> {
    found(connection, tenant, id).await?;
    let found = sqlx::query(sql::STATE)
        .bind(id)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    let mut entries = BTreeMap::new();
    for row in &found {
        let key = row.try_get(0).map_err(db)?;
        let value = row.try_get(1).map_err(db)?;
        let version = row.try_get(2).map_err(db)?;
        entries.insert(key, StateEntry { value, version });
    }
    Ok(entries)
}

/// Writes a key, or deletes it with no value.
pub(super) async fn set_state(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    id: ConfigId,
    key: &str,
    value: Option<&[u8]>,
) -> StoreResult<()> {
    found(tx.read(), tenant, id).await?;
    let Some(value) = value else {
        sqlx::query(sql::DELETE_STATE)
            .bind(id)
            .bind(key)
            .execute(tx.write())
            .await
            .map_err(db)?;
        return Ok(());
    };
    let known = care::quotas(tx.read(), tenant).await?;
    if let Some(limit) = known.and_then(|known| known.quotas.state_bytes) {
        let mut room = care::state_room(tx, tenant, limit).await?;
        let asking = sqlx::query(sql::STATE_SIZE).bind(id).bind(key);
        let row = asking.fetch_optional(tx.read()).await.map_err(db)?;
        let old: Option<i64> = row.map(|row| row.try_get(0)).transpose().map_err(db)?;
        room.grow(rules::state_size(key, value) - old.unwrap_or(0))
            .map_err(StoreError::Quota)?;
    }
    let row = sqlx::query(sql::STATE_VERSION)
        .bind(id)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let version: i64 = row.try_get::<i64, _>(0).map_err(db)?.saturating_add(1);
    // Kept beside the keys: a key that was deleted and comes again must not repeat a version.
    sqlx::query(sql::KEEP_STATE_VERSION)
        .bind(id)
        .bind(version)
        .execute(tx.write())
        .await
        .map_err(db)?;
    sqlx::query(sql::SET_STATE)
        .bind(id)
        .bind(key)
        .bind(version)
        .bind(micros(now))
        .bind(value)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// Forgets all keys; returns how many there were.
pub(super) async fn reset_state(tx: &mut Tx, tenant: TenantId, id: ConfigId) -> StoreResult<u64> {
    found(tx.read(), tenant, id).await?;
    let done = sqlx::query(sql::RESET_STATE)
        .bind(id)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(done.rows_affected())
}
