//! Settings and secrets of plugins.

use super::tx::Tx;
use super::{SqliteStore, db, plugins, sql};
use crate::columns::{Place, cut_counted, micros, seen, text};
use horarium_core::store::{Listing, Page, SealedSecret, SecretInfo, StoreResult, Vault};
use horarium_model::{TenantId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::BTreeMap;
use std::sync::Arc;

#[async_trait::async_trait]
impl Vault for SqliteStore {
    async fn plugin_config(
        &self,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<BTreeMap<String, String>> {
        let name = task_type.to_owned();
        self.read(move |connection| {
            Box::pin(async move {
                let rows = sqlx::query_as(sql::PLUGIN_CONFIG)
                    .bind(tenant)
                    .bind(name)
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                Ok(rows.into_iter().collect())
            })
        })
        .await
    }

    async fn set_plugin_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        key: &str,
        value: Option<String>,
    ) -> StoreResult<()> {
        let setting = Arc::new((task_type.to_owned(), key.to_owned(), value));
        self.write(move |tx| {
            let setting = setting.clone();
            Box::pin(async move {
                let (name, key, value) = &*setting;
                set_config(tx, now, tenant, name, key, value.as_deref()).await
            })
        })
        .await
    }

    async fn configured_types(&self) -> StoreResult<Vec<(TenantId, String)>> {
        self.read(|connection| {
            Box::pin(async move {
                sqlx::query_as(sql::CONFIGURED_TYPES)
                    .fetch_all(connection)
                    .await
                    .map_err(db)
            })
        })
        .await
    }

    async fn secrets(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<SecretInfo>> {
        let page = page.clone();
        self.read(move |connection| {
            Box::pin(async move {
                let found = sqlx::query(sql::SECRETS)
                    .bind(tenant)
                    .bind(i64::from(page.limit) + 1)
                    .bind(seen(&page))
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                let items = found.iter().map(info).collect::<StoreResult<Vec<_>>>()?;
                Ok(cut_counted(items, &page))
            })
        })
        .await
    }

    async fn secret(&self, tenant: TenantId, name: &str) -> StoreResult<Option<SecretInfo>> {
        let name = name.to_owned();
        self.read(move |connection| {
            Box::pin(async move {
                let found = sqlx::query(sql::SECRET)
                    .bind(tenant)
                    .bind(name)
                    .fetch_optional(connection)
                    .await
                    .map_err(db)?;
                found.as_ref().map(info).transpose()
            })
        })
        .await
    }

    async fn sealed_secrets(
        &self,
        tenant: TenantId,
        names: &[String],
    ) -> StoreResult<Vec<SealedSecret>> {
        let names = text(&names)?;
        self.read(move |connection| {
            Box::pin(async move {
                sealed(
                    connection,
                    sqlx::query(sql::SEALED).bind(tenant).bind(names),
                )
                .await
            })
        })
        .await
    }

    async fn put_secret(&self, now: Timestamp, secret: SealedSecret) -> StoreResult<SecretInfo> {
        let secret = Arc::new(secret);
        self.write(move |tx| {
            let secret = secret.clone();
            Box::pin(async move {
                let row = sqlx::query(sql::PUT_SECRET)
                    .bind(secret.tenant_id)
                    .bind(secret.name.as_str())
                    .bind(secret.key_id.as_str())
                    .bind(&secret.sealed[..])
                    .bind(micros(now))
                    .fetch_one(tx.write())
                    .await
                    .map_err(db)?;
                info(&row)
            })
        })
        .await
    }

    async fn delete_secret(&self, tenant: TenantId, name: &str) -> StoreResult<bool> {
        let name: Arc<str> = name.into();
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move {
                let done = sqlx::query(sql::DELETE_SECRET)
                    .bind(tenant)
                    .bind(&*name)
                    .execute(tx.write())
                    .await
                    .map_err(db)?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }

    async fn secret_keys(&self) -> StoreResult<Vec<String>> {
        self.read(|connection| {
            Box::pin(async move {
                let rows: Vec<(String,)> = sqlx::query_as(sql::SECRET_KEYS)
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                Ok(rows.into_iter().map(|(id,)| id).collect())
            })
        })
        .await
    }

    async fn secrets_under_other_keys(
        &self,
        key_id: &str,
        after: Option<(TenantId, String)>,
        limit: u32,
    ) -> StoreResult<Vec<SealedSecret>> {
        let key_id = key_id.to_owned();
        let (tenant, name) = after.unwrap_or((TenantId::MIN, String::new()));
        self.read(move |connection| {
            Box::pin(async move {
                let query = sqlx::query(sql::UNDER_OTHER_KEYS)
                    .bind(key_id)
                    .bind(tenant)
                    .bind(name)
                    .bind(i64::from(limit));
                sealed(connection, query).await
            })
        })
        .await
    }

    async fn reseal_secret(&self, secret: SealedSecret) -> StoreResult<bool> {
        let secret = Arc::new(secret);
        self.write(move |tx| {
            let secret = secret.clone();
            Box::pin(async move {
                let done = sqlx::query(sql::RESEAL)
                    .bind(secret.tenant_id)
                    .bind(secret.name.as_str())
                    .bind(secret.version)
                    .bind(secret.key_id.as_str())
                    .bind(&secret.sealed[..])
                    .execute(tx.write())
                    .await
                    .map_err(db)?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }
}

async fn set_config(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    key: &str,
    value: Option<&str>,
) -> StoreResult<()> {
    plugins::existing_type(tx, tenant, task_type).await?;
    let query = match value {
        Some(value) => sqlx::query(sql::SET_PLUGIN_CONFIG)
            .bind(tenant)
            .bind(task_type)
            .bind(key)
            .bind(value)
            .bind(micros(now)),
        None => sqlx::query(sql::UNSET_PLUGIN_CONFIG)
            .bind(tenant)
            .bind(task_type)
            .bind(key),
    };
    query.execute(tx.write()).await.map_err(db)?;
    tx.bump_epoch().await
}

fn info(row: &SqliteRow) -> StoreResult<SecretInfo> {
    let version = row.try_get(1).map_err(db)?;
    let place = Place {
        table: "secrets",
        id: version,
    };
    Ok(SecretInfo {
        name: row.try_get(0).map_err(db)?,
        version,
        key_id: row.try_get(2).map_err(db)?,
        created_at: place.instant("created_at", row.try_get(3).map_err(db)?)?,
        updated_at: place.instant("updated_at", row.try_get(4).map_err(db)?)?,
    })
}

async fn sealed(
    connection: &mut SqliteConnection,
    query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> StoreResult<Vec<SealedSecret>> {
    let rows = query.fetch_all(connection).await.map_err(db)?;
    let read = |row: &SqliteRow| {
        Ok(SealedSecret {
            tenant_id: row.try_get(0)?,
            name: row.try_get(1)?,
            version: row.try_get(2)?,
            key_id: row.try_get(3)?,
            sealed: row.try_get(4)?,
        })
    };
    rows.iter().map(|row| read(row).map_err(db)).collect()
}
