//! Tenants, tokens, and who did what.

use super::configs::bump_epoch;
use super::end::forget;
use super::jsonb::plain;
use super::rows::Reader;
use super::tx::{Fault, PgResult, Tx, query, query_as, query_scalar};
use super::{PostgresStore, sql};
use crate::columns::{audit_rows, cut, micros, opt_micros, text};
use crate::rows;
use horarium_core::store::{
    Access, AuditEntry, AuditFilter, AuditRow, Listing, NewToken, Page, StoreError, StoreResult,
    Tenant, Token, TokenId, rules,
};
use horarium_model::{TenantId, Timestamp};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgQueryResult};
use std::sync::Arc;

#[async_trait::async_trait]
impl Access for PostgresStore {
    async fn create_tenant(&self, now: Timestamp, name: &str, weight: u32) -> StoreResult<Tenant> {
        let name: Arc<str> = name.into();
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move { create_tenant(tx, now, &name, weight).await })
        })
        .await
    }

    async fn tenant_named(&self, name: &str) -> StoreResult<Option<Tenant>> {
        let name: Arc<str> = name.into();
        self.read(move |connection| {
            let name = name.clone();
            Box::pin(async move { tenant_named(connection, &name).await })
        })
        .await
    }

    async fn tenants(&self, page: &Page) -> StoreResult<Listing<Tenant>> {
        let page = page.clone();
        self.read(move |connection| {
            let page = page.clone();
            Box::pin(async move {
                let found = query(sql::TENANTS)
                    .bind(page.after.unwrap_or(0))
                    .bind(i64::from(page.limit) + 1)
                    .fetch_all(connection)
                    .await?;
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
            let page = page.clone();
            Box::pin(async move {
                let found = query(sql::TOKENS)
                    .bind(tenant)
                    .bind(with_host)
                    .bind(page.after.unwrap_or(0))
                    .bind(i64::from(page.limit) + 1)
                    .fetch_all(connection)
                    .await?;
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
        let hash: Arc<str> = hash.into();
        self.write(move |tx| {
            let hash = hash.clone();
            Box::pin(async move {
                let rotating = query(sql::ROTATE_TOKEN)
                    .bind(id)
                    .bind(&*hash)
                    .bind(opt_micros(previous_until))
                    .bind(micros(now));
                changed(&rotating.execute(tx.connection()).await?, id)?;
                bump(tx).await?;
                existing_token(tx, id).await
            })
        })
        .await
    }

    async fn delete_token(&self, id: TokenId) -> StoreResult<()> {
        self.write(move |tx| {
            Box::pin(async move {
                let deleting = query(sql::DELETE_TOKEN).bind(id);
                changed(&deleting.execute(tx.connection()).await?, id)?;
                bump(tx).await
            })
        })
        .await
    }

    async fn touch_token(&self, id: TokenId, at: Timestamp) -> StoreResult<()> {
        self.write(move |tx| {
            Box::pin(async move {
                let touching = query(sql::TOUCH_TOKEN).bind(id).bind(micros(at));
                touching.execute(tx.connection()).await?;
                Ok(())
            })
        })
        .await
    }

    async fn record_audit(&self, entries: Arc<[AuditEntry]>) -> StoreResult<()> {
        self.write(move |tx| {
            let entries = entries.clone();
            Box::pin(async move {
                query(sql::LOCK_AUDIT).execute(tx.connection()).await?;
                let (rows, first) = audit_rows(&entries)?;
                let recording = query(sql::RECORD_AUDIT).bind(rows).bind(first);
                recording.execute(tx.connection()).await?;
                Ok(())
            })
        })
        .await
    }

    async fn audit(&self, filter: &AuditFilter, page: &Page) -> StoreResult<Listing<AuditRow>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| {
            let (filter, page) = (filter.clone(), page.clone());
            Box::pin(async move {
                let found = query(sql::AUDIT)
                    .bind(filter.tenant_id)
                    .bind(filter.with_host)
                    .bind(page.after.unwrap_or(i64::MAX))
                    .bind(filter.action.map(|action| action.as_str()))
                    .bind(filter.token_id)
                    .bind(opt_micros(filter.since))
                    .bind(opt_micros(filter.until))
                    .bind(i64::from(page.limit) + 1)
                    .fetch_all(connection)
                    .await?;
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
                let purging = query(sql::PURGE_AUDIT)
                    .bind(micros(before))
                    .bind(i64::from(limit));
                let done = purging.execute(tx.connection()).await?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

/// Tells every host that tokens or tenants changed. The last lock a transaction takes, after the catalog's.
async fn bump(tx: &mut Tx) -> PgResult<()> {
    tx.tidings.access = true;
    query(sql::BUMP_ACCESS).execute(tx.connection()).await?;
    Ok(())
}

/// A change of a token that must have found it.
fn changed(done: &PgQueryResult, id: TokenId) -> PgResult<()> {
    match done.rows_affected() {
        0 => Err(StoreError::NotFound(rules::no_token(id)).into()),
        _ => Ok(()),
    }
}

async fn tenant_named(connection: &mut PgConnection, name: &str) -> PgResult<Option<Tenant>> {
    let finding = query(sql::TENANT_NAMED).bind(plain(name));
    let row = finding.fetch_optional(connection).await?;
    let read = |row| rows::tenant(&mut Reader::plain(row, "tenants"));
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn tenant_by_id(connection: &mut PgConnection, id: TenantId) -> PgResult<Tenant> {
    let finding = query(sql::TENANT_BY_ID).bind(id);
    let row = finding.fetch_optional(connection).await?;
    let read = |row| rows::tenant(&mut Reader::plain(row, "tenants"));
    let tenant = row.as_ref().map(read).transpose()?;
    tenant.ok_or_else(|| StoreError::NotFound(rules::no_tenant(id)).into())
}

async fn create_tenant(tx: &mut Tx, now: Timestamp, name: &str, weight: u32) -> PgResult<Tenant> {
    let taken = || StoreError::Conflict(rules::tenant_taken(name)).into();
    if tenant_named(tx.connection(), name).await?.is_some() {
        return Err(taken());
    }
    let inserting = query_scalar(sql::INSERT_TENANT)
        .bind(name)
        .bind(i64::from(weight.max(1)))
        .bind(micros(now));
    let id: Option<TenantId> = match inserting.fetch_optional(tx.connection()).await {
        // Another host was faster with the name.
        Err(error) if constraint(&error) == Some("tenants_name") => return Err(taken()),
        other => other?,
    };
    // Or with the id.
    let id = id.ok_or(Fault::Again)?;
    bump_epoch(tx).await?;
    bump(tx).await?;
    tenant_by_id(tx.connection(), id).await
}

fn constraint(error: &sqlx::Error) -> Option<&str> {
    error
        .as_database_error()
        .and_then(DatabaseError::constraint)
}

async fn delete_tenant(tx: &mut Tx, now: Timestamp, tenant: TenantId) -> PgResult<()> {
    let locking = query(sql::LOCK_TENANT).bind(tenant);
    if locking.fetch_optional(tx.connection()).await?.is_none() {
        return Err(StoreError::NotFound(rules::no_tenant(tenant)).into());
    }
    let counting = query_as(sql::TENANT_USE).bind(tenant);
    let (tasks, live): (i64, i64) = counting.fetch_one(tx.connection()).await?;
    rules::refuse_busy_tenant(tasks.unsigned_abs(), live.unsigned_abs())?;
    query(sql::DELETE_TENANT)
        .bind(tenant)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    let forgetting = query(sql::DELETE_TOKENS).bind(tenant);
    forgetting.execute(tx.connection()).await?;
    bump_epoch(tx).await?;
    bump(tx).await
}

/// Nothing new comes into a deleted tenant.
pub(super) async fn refuse_deleted(tx: &mut Tx, tenant: TenantId) -> PgResult<()> {
    let asking = query_scalar(sql::SHARE_TENANT).bind(tenant);
    match asking.fetch_optional(tx.connection()).await? {
        Some(true) => Err(StoreError::NotFound(rules::no_tenant(tenant)).into()),
        _ => Ok(()),
    }
}

async fn token(connection: &mut PgConnection, id: TokenId) -> PgResult<Option<Token>> {
    let row = query(sql::TOKEN)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    let read = |row| rows::token(&mut Reader::plain(row, "tokens"));
    Ok(row.as_ref().map(read).transpose()?)
}

async fn existing_token(tx: &mut Tx, id: TokenId) -> PgResult<Token> {
    let found = token(tx.connection(), id).await?;
    found.ok_or_else(|| StoreError::NotFound(rules::no_token(id)).into())
}

async fn create_token(tx: &mut Tx, now: Timestamp, new: &NewToken) -> PgResult<Token> {
    if let Some(tenant) = new.tenant_id {
        refuse_deleted(tx, tenant).await?;
        tenant_by_id(tx.connection(), tenant).await?;
    }
    let scope = new.scope.as_ref().map(text).transpose()?;
    let inserting = query_scalar(sql::INSERT_TOKEN)
        .bind(micros(now))
        .bind(new.tenant_id)
        .bind(plain(&new.name))
        .bind(new.role.as_str())
        .bind(scope)
        .bind(&new.hash)
        .bind(plain(&new.created_by))
        .bind(opt_micros(new.expires_at));
    let id: Option<TokenId> = inserting.fetch_optional(tx.connection()).await?;
    // Another host took the id.
    let id = id.ok_or(Fault::Again)?;
    bump(tx).await?;
    existing_token(tx, id).await
}

/// One batch of what deleted tenants left behind. Returns whether there is more.
pub(super) async fn purge_tenants(tx: &mut Tx, limit: u32) -> PgResult<bool> {
    let finding = query_scalar(sql::DELETED_TENANTS);
    let deleted: Vec<TenantId> = finding.fetch_all(tx.connection()).await?;
    let mut left = u64::from(limit);
    for tenant in deleted {
        let removed: Vec<(i64, i64)> = query_as(sql::REMOVE_TENANT_HISTORY)
            .bind(tenant)
            .bind(i64::try_from(left).unwrap_or(i64::MAX))
            .fetch_all(tx.connection())
            .await?;
        forget(tx, &removed).await?;
        left = left.saturating_sub(removed.len() as u64);
        if left == 0 {
            return Ok(true);
        }
        drop_tenant(tx, tenant).await?;
    }
    Ok(false)
}

/// Removes what a tenant without history still has, and the tenant.
async fn drop_tenant(tx: &mut Tx, tenant: TenantId) -> PgResult<()> {
    let finding = query_scalar(sql::TENANT_DIGESTS).bind(tenant);
    let digests: Vec<String> = finding.fetch_all(tx.connection()).await?;
    for statement in [
        sql::TENANT_TYPES,
        sql::TENANT_VERSIONS,
        sql::TENANT_BREAKERS,
        sql::TENANT_RATES,
        sql::TENANT_RETENTIONS,
        sql::TENANT_USAGE,
        sql::TENANT_ANSWERS,
        sql::TENANT_AUDIT,
        sql::TENANT_ALERTS,
        sql::TENANT_CONFIG,
        sql::TENANT_SECRETS,
        sql::DROP_TENANT,
    ] {
        let dropping = query(statement).bind(tenant);
        dropping.execute(tx.connection()).await?;
    }
    for digest in digests {
        for statement in [sql::LOCK_BYTES, sql::DROP_BYTES] {
            let dropping = query(statement).bind(&digest);
            dropping.execute(tx.connection()).await?;
        }
    }
    bump_epoch(tx).await
}
