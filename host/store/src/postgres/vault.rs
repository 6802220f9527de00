//! Settings and secrets of plugins.

use super::configs::bump_epoch;
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{PostgresStore, sql};
use crate::columns::{Place, cut_counted, micros, seen};
use horarium_core::store::{
    Listing, Page, SealedSecret, SecretInfo, StoreError, StoreResult, Vault, rules,
};
use horarium_model::{TenantId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row of [`SecretInfo`].
type InfoRow = (String, i64, String, i64, i64);
/// A row of [`SealedSecret`].
type SealedRow = (i64, String, i64, String, Vec<u8>);

#[async_trait::async_trait]
impl Vault for PostgresStore {
    async fn plugin_config(
        &self,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<BTreeMap<String, String>> {
        let name: Arc<str> = task_type.into();
        self.read(move |connection| {
            let name = name.clone();
            Box::pin(async move {
                let rows: Vec<(String, String)> = query_as(sql::PLUGIN_CONFIG)
                    .bind(tenant)
                    .bind(&*name)
                    .fetch_all(connection)
                    .await?;
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
                Ok(query_as(sql::CONFIGURED_TYPES)
                    .fetch_all(connection)
                    .await?)
            })
        })
        .await
    }

    async fn secrets(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<SecretInfo>> {
        let page = page.clone();
        self.read(move |connection| {
            let page = page.clone();
            Box::pin(async move {
                let found: Vec<InfoRow> = query_as(sql::SECRETS)
                    .bind(tenant)
                    .bind(i64::from(page.limit) + 1)
                    .bind(seen(&page))
                    .fetch_all(connection)
                    .await?;
                let items = found
                    .into_iter()
                    .map(info)
                    .collect::<StoreResult<Vec<_>>>()?;
                Ok(cut_counted(items, &page))
            })
        })
        .await
    }

    async fn secret(&self, tenant: TenantId, name: &str) -> StoreResult<Option<SecretInfo>> {
        let name: Arc<str> = name.into();
        self.read(move |connection| {
            let name = name.clone();
            Box::pin(async move {
                let found: Option<InfoRow> = query_as(sql::SECRET)
                    .bind(tenant)
                    .bind(&*name)
                    .fetch_optional(connection)
                    .await?;
                Ok(found.map(info).transpose()?)
            })
        })
        .await
    }

    async fn sealed_secrets(
        &self,
        tenant: TenantId,
        names: &[String],
    ) -> StoreResult<Vec<SealedSecret>> {
        let names: Arc<[String]> = names.into();
        self.read(move |connection| {
            let names = names.clone();
            Box::pin(async move {
                let rows: Vec<SealedRow> = query_as(sql::SEALED)
                    .bind(tenant)
                    .bind(&names[..])
                    .fetch_all(connection)
                    .await?;
                Ok(rows.into_iter().map(sealed).collect())
            })
        })
        .await
    }

    async fn put_secret(&self, now: Timestamp, secret: SealedSecret) -> StoreResult<SecretInfo> {
        let secret = Arc::new(secret);
        self.write(move |tx| {
            let secret = secret.clone();
            Box::pin(async move {
                let row: InfoRow = query_as(sql::PUT_SECRET)
                    .bind(secret.tenant_id)
                    .bind(secret.name.as_str())
                    .bind(secret.key_id.as_str())
                    .bind(&secret.sealed[..])
                    .bind(micros(now))
                    .fetch_one(tx.connection())
                    .await?;
                Ok(info(row)?)
            })
        })
        .await
    }

    async fn delete_secret(&self, tenant: TenantId, name: &str) -> StoreResult<bool> {
        let name: Arc<str> = name.into();
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move {
                let done = query(sql::DELETE_SECRET)
                    .bind(tenant)
                    .bind(&*name)
                    .execute(tx.connection())
                    .await?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }

    async fn secret_keys(&self) -> StoreResult<Vec<String>> {
        self.read(|connection| {
            Box::pin(async move { Ok(query_scalar(sql::SECRET_KEYS).fetch_all(connection).await?) })
        })
        .await
    }

    async fn secrets_under_other_keys(
        &self,
        key_id: &str,
        after: Option<(TenantId, String)>,
        limit: u32,
    ) -> StoreResult<Vec<SealedSecret>> {
        let (tenant, name) = after.unwrap_or((TenantId::MIN, String::new()));
        let (key_id, name): (Arc<str>, Arc<str>) = (key_id.into(), name.into());
        self.read(move |connection| {
            let (key_id, name) = (key_id.clone(), name.clone());
            Box::pin(async move {
                let rows: Vec<SealedRow> = query_as(sql::UNDER_OTHER_KEYS)
                    .bind(&*key_id)
                    .bind(tenant)
                    .bind(&*name)
                    .bind(i64::from(limit))
                    .fetch_all(connection)
                    .await?;
                Ok(rows.into_iter().map(sealed).collect())
            })
        })
        .await
    }

    async fn reseal_secret(&self, secret: SealedSecret) -> StoreResult<bool> {
        let secret = Arc::new(secret);
        self.write(move |tx| {
            let secret = secret.clone();
            Box::pin(async move {
                let done = query(sql::RESEAL)
                    .bind(secret.tenant_id)
                    .bind(secret.name.as_str())
                    .bind(secret.version)
                    .bind(secret.key_id.as_str())
                    .bind(&secret.sealed[..])
                    .execute(tx.connection())
                    .await?;
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
) -> PgResult<()> {
    let known: Option<i32> = query_scalar(sql::LOCK_TYPE)
        .bind(tenant)
        .bind(task_type)
        .fetch_optional(tx.connection())
        .await?;
    if known.is_none() {
        return Err(StoreError::NotFound(rules::no_type(task_type)).into());
    }
    let query = match value {
        Some(value) => query(sql::SET_PLUGIN_CONFIG)
            .bind(tenant)
            .bind(task_type)
            .bind(key)
            .bind(value)
            .bind(micros(now)),
        None => query(sql::UNSET_PLUGIN_CONFIG)
            .bind(tenant)
            .bind(task_type)
            .bind(key),
    };
    query.execute(tx.connection()).await?;
    bump_epoch(tx).await
}

fn info((name, version, key_id, created_at, updated_at): InfoRow) -> StoreResult<SecretInfo> {
    let place = Place {
        table: "secrets",
        id: version,
    };
    Ok(SecretInfo {
        name,
        version,
        key_id,
        created_at: place.instant("created_at", created_at)?,
        updated_at: place.instant("updated_at", updated_at)?,
    })
}

fn sealed((tenant_id, name, version, key_id, sealed): SealedRow) -> SealedSecret {
    SealedSecret {
        tenant_id,
        name,
        version,
        key_id,
        sealed,
    }
}
