//! Tenants, tokens, and who did what.

use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{SqliteStore, db, sql};
use crate::columns::{audit_rows, cut, micros, opt_micros, text};
use crate::rows;
use horarium_core::store::{
    Access, AuditEntry, AuditFilter, AuditRow, Listing, NewToken, Page, StoreError, StoreResult,
    Tenant, Token, TokenId, rules,
};
use horarium_model::{TenantId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;

#[async_trait::async_trait]
impl Access for SqliteStore {
    async fn create_tenant(&self, now: Timestamp, name: &str, weight: u32) -> StoreResult<Tenant> {
        let name = name.to_owned();
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move { create_tenant(tx, now, &name, weight).await })
        })
        .await
    }

    async fn tenant_named(&self, name: &str) -> StoreResult<Option<Tenant>> {
        let name = name.to_owned();
        self.read(move |connection| Box::pin(async move { tenant_named(connection, &name).await }))
            .await
    }

    async fn tenants(&self, page: &Page) -> StoreResult<Listing<Tenant>> {
        let page = page.clone();
        self.read(move |connection| {
            Box::pin(async move {
                let found = sqlx::query(sql::TENANTS)
                    .bind(page.after.unwrap_or(0))
                    .bind(i64::from(page.limit) + 1)
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                let read = |row| rows::tenant(&mut Reader::plain(row, "tenants"));
                let items = found.iter().map(read).collect::<StoreResult<_>>()?;
                Ok(cut(items, &page, |tenant: &Tenant| tenant.id))
            })
        })
        .await
    }

    async fn delete_tenant(&self, now: Timestamp, tenant: TenantId) -> StoreResult<()> {
        self.write(move |tx| Box::pin(delete_tenant(tx, now, tenant)))
            .await
    }

    async fn create_token(&self, now: Timestamp, token: NewToken) -> StoreResult<Token> {
        let token = Arc::new(token);
        self.write(move |tx| {
            let token = token.clone();
            Box::pin(async move { create_token(tx, now, &token).await })
        })
        .await
    }

    async fn token(&self, id: TokenId) -> StoreResult<Option<Token>> {
        self.read(move |connection| Box::pin(token(connection, id)))
            .await
    }

    async fn tokens(
        &self,
        tenant: TenantId,
        with_host: bool,
        page: &Page,
    ) -> StoreResult<Listing<Token>> {
        let page = page.clone();
        self.read(move |connection| {
            Box::pin(async move {
                let found = sqlx::query(sql::TOKENS)
                    .bind(tenant)
                    .bind(with_host)
                    .bind(page.after.unwrap_or(0))
                    .bind(i64::from(page.limit) + 1)
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                let read = |row| rows::token(&mut Reader::plain(row, "tokens"));
                let items = found.iter().map(read).collect::<StoreResult<_>>()?;
                Ok(cut(items, &page, |token: &Token| token.id))
            })
        })
        .await
    }

    async fn rotate_token(
        &self,
        now: Timestamp,
        id: TokenId,
        hash: &str,
        previous_until: Option<Timestamp>,
    ) -> StoreResult<Token> {
        let hash = hash.to_owned();
        self.write(move |tx| {
            let hash = hash.clone();
            Box::pin(async move {
                let rotating = sqlx::query(sql::ROTATE_TOKEN)
                    .bind(id)
                    .bind(hash)
                    .bind(opt_micros(previous_until))
                    .bind(micros(now));
                changed(rotating.execute(tx.write()).await, id)?;
                bump(tx).await?;
                existing_token(tx, id).await
            })
        })
        .await
    }

    async fn delete_token(&self, id: TokenId) -> StoreResult<()> {
        self.write(move |tx| {
            Box::pin(async move {
                let deleting = sqlx::query(sql::DELETE_TOKEN).bind(id);
                changed(deleting.execute(tx.write()).await, id)?;
                bump(tx).await
            })
        })
        .await
    }

    async fn touch_token(&self, id: TokenId, at: Timestamp) -> StoreResult<()> {
        self.write(move |tx| {
            Box::pin(async move {
                let touching = sqlx::query(sql::TOUCH_TOKEN).bind(id).bind(micros(at));
                touching.execute(tx.write()).await.map_err(db)?;
                Ok(())
            })
        })
        .await
    }

    async fn record_audit(&self, entries: Arc<[AuditEntry]>) -> StoreResult<()> {
        self.write(move |tx| {
            let entries = entries.clone();
            Box::pin(async move {
                let (rows, first) = audit_rows(&entries)?;
                let recording = sqlx::query(sql::RECORD_AUDIT).bind(rows).bind(first);
                recording.execute(tx.write()).await.map_err(db)?;
                Ok(())
            })
        })
        .await
    }

    async fn audit(&self, filter: &AuditFilter, page: &Page) -> StoreResult<Listing<AuditRow>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| {
            Box::pin(async move {
                let found = sqlx::query(sql::AUDIT)
                    .bind(filter.tenant_id)
                    .bind(filter.with_host)
                    .bind(page.after.unwrap_or(i64::MAX))
                    .bind(filter.action.map(|action| action.as_str()))
                    .bind(filter.token_id)
                    .bind(opt_micros(filter.since))
                    .bind(opt_micros(filter.until))
                    .bind(i64::from(page.limit) + 1)
                    .fetch_all(connection)
                    .await
                    .map_err(db)?;
                let read = |row| rows::audit(&mut Reader::plain(row, "audit_log"));
                let items = found.iter().map(read).collect::<StoreResult<_>>()?;
                Ok(cut(items, &page, |row: &AuditRow| row.id))
            })
        })
        .await
    }

    async fn purge_audit(&self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        self.write(move |tx| {
            Box::pin(async move {
                let purging = sqlx::query(sql::PURGE_AUDIT)
                    .bind(micros(before))
                    .bind(limit);
                let done = purging.execute(tx.write()).await.map_err(db)?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

/// Tells every host that tokens or tenants changed.
async fn bump(tx: &mut Tx) -> StoreResult<()> {
    let bumping = sqlx::query(sql::BUMP_ACCESS);
    bumping.execute(tx.write()).await.map_err(db)?;
    Ok(())
}

/// A change of a token that must have found it.
fn changed(
    done: Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error>,
    id: TokenId,
) -> StoreResult<()> {
    match done.map_err(db)?.rows_affected() {
        0 => Err(StoreError::NotFound(rules::no_token(id))),
        _ => Ok(()),
    }
}

async fn tenant_named(
    connection: &mut SqliteConnection,
    name: &str,
) -> StoreResult<Option<Tenant>> {
    let finding = sqlx::query(sql::TENANT_NAMED).bind(name);
    let row = finding.fetch_optional(connection).await.map_err(db)?;
    let read = |row| rows::tenant(&mut Reader::plain(row, "tenants"));
    row.as_ref().map(read).transpose()
}

async fn tenant_by_id(connection: &mut SqliteConnection, id: TenantId) -> StoreResult<Tenant> {
    let finding = sqlx::query(sql::TENANT_BY_ID).bind(id);
    let row = finding.fetch_optional(connection).await.map_err(db)?;
    let read = |row| rows::tenant(&mut Reader::plain(row, "tenants"));
    let tenant = row.as_ref().map(read).transpose()?;
    tenant.ok_or_else(|| StoreError::NotFound(rules::no_tenant(id)))
}

async fn create_tenant(
    tx: &mut Tx,
    now: Timestamp,
    name: &str,
    weight: u32,
) -> StoreResult<Tenant> {
    if tenant_named(tx.read(), name).await?.is_some() {
        return Err(StoreError::Conflict(rules::tenant_taken(name)));
    }
    let inserting = sqlx::query(sql::INSERT_TENANT)
        .bind(name)
        .bind(weight.max(1))
        .bind(micros(now));
    let row = inserting.fetch_one(tx.write()).await.map_err(db)?;
    let id: TenantId = row.try_get(0).map_err(db)?;
    tx.bump_epoch().await?;
    bump(tx).await?;
    tenant_by_id(tx.read(), id).await
}

async fn delete_tenant(tx: &mut Tx, now: Timestamp, tenant: TenantId) -> StoreResult<()> {
    tenant_by_id(tx.read(), tenant).await?;
    let counting = sqlx::query(sql::TENANT_USE).bind(tenant);
    let row = counting.fetch_one(tx.read()).await.map_err(db)?;
    let mut r = Reader::plain(&row, "tenants");
    rules::refuse_busy_tenant(r.number("tasks")?, r.number("live")?)?;
    sqlx::query(sql::DELETE_TENANT)
        .bind(tenant)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    let forgetting = sqlx::query(sql::DELETE_TOKENS).bind(tenant);
    forgetting.execute(tx.write()).await.map_err(db)?;
    tx.bump_epoch().await?;
    bump(tx).await
}

/// Nothing new comes into a deleted tenant.
pub(super) async fn refuse_deleted(tx: &mut Tx, tenant: TenantId) -> StoreResult<()> {
    let asking = sqlx::query(sql::TENANT_IS_DELETED).bind(tenant);
    let row = asking.fetch_optional(tx.read()).await.map_err(db)?;
    let deleted = row.map(|row| row.try_get::<bool, _>(0)).transpose();
    match deleted.map_err(db)? {
        Some(true) => Err(StoreError::NotFound(rules::no_tenant(tenant))),
        _ => Ok(()),
    }
}

async fn token(connection: &mut SqliteConnection, id: TokenId) -> StoreResult<Option<Token>> {
    let finding = sqlx::query(sql::TOKEN).bind(id);
    let row = finding.fetch_optional(connection).await.map_err(db)?;
    let read = |row| rows::token(&mut Reader::plain(row, "tokens"));
    row.as_ref().map(read).transpose()
}

async fn existing_token(tx: &mut Tx, id: TokenId) -> StoreResult<Token> {
    let found = token(tx.read(), id).await?;
    found.ok_or_else(|| StoreError::NotFound(rules::no_token(id)))
}

async fn create_token(tx: &mut Tx, now: Timestamp, new: &NewToken) -> StoreResult<Token> {
    if let Some(tenant) = new.tenant_id {
        tenant_by_id(tx.read(), tenant).await?;
    }
    let scope = new.scope.as_ref().map(text).transpose()?;
    let inserting = sqlx::query(sql::INSERT_TOKEN)
        .bind(micros(now))
        .bind(new.tenant_id)
        .bind(&new.name)
        .bind(new.role.as_str())
        .bind(scope)
        .bind(&new.hash)
        .bind(&new.created_by)
        .bind(opt_micros(new.expires_at));
    let row = inserting.fetch_one(tx.write()).await.map_err(db)?;
    let id: TokenId = row.try_get(0).map_err(db)?;
    bump(tx).await?;
    existing_token(tx, id).await
}

/// One batch of what deleted tenants left behind. Returns whether there is more.
pub(super) async fn purge_tenants(tx: &mut Tx, limit: u32) -> StoreResult<bool> {
    let deleted = super::deletions::ids(tx.read(), sqlx::query(sql::DELETED_TENANTS)).await?;
    let mut left = u64::from(limit);
    for tenant in deleted {
        let history = sqlx::query(sql::HISTORY_OF_TENANT)
            .bind(tenant)
            .bind(i64::try_from(left).unwrap_or(i64::MAX));
        let batch = super::deletions::ids(tx.read(), history).await?;
        super::deletions::remove(tx, &batch).await?;
        left = left.saturating_sub(batch.len() as u64);
        if left == 0 {
            return Ok(true);
        }
        drop_tenant(tx, tenant).await?;
    }
    Ok(false)
}

/// Removes what a tenant without history still has, and the tenant.
async fn drop_tenant(tx: &mut Tx, tenant: TenantId) -> StoreResult<()> {
    let finding = sqlx::query(sql::TENANT_DIGESTS).bind(tenant);
    let digests = finding.fetch_all(tx.read()).await.map_err(db)?;
    for statement in [
        sql::TENANT_VERSIONS,
        sql::TENANT_TYPES,
        sql::TENANT_BREAKERS,
        sql::TENANT_RETENTIONS,
        sql::TENANT_USAGE,
        sql::TENANT_RATES,
        sql::TENANT_ANSWERS,
        sql::TENANT_AUDIT,
        sql::TENANT_ALERTS,
        sql::TENANT_CONFIG,
        sql::TENANT_SECRETS,
        sql::DROP_TENANT,
    ] {
        let dropping = sqlx::query(statement).bind(tenant);
        dropping.execute(tx.write()).await.map_err(db)?;
    }
    for row in &digests {
        let digest: String = row.try_get(0).map_err(db)?;
        let dropping = sqlx::query(sql::DROP_BYTES).bind(digest);
        dropping.execute(tx.write()).await.map_err(db)?;
    }
    tx.bump_epoch().await
}
