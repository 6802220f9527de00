//! Tenants, tokens, and who did what.

use super::{Inner, MemoryStore, TenantRow};
use crate::store::{
    Access, AuditEntry, AuditFilter, AuditRow, Listing, NewToken, Page, StoreError, StoreResult,
    Tenant, Token, TokenId, rules,
};
use horarium_model::{TenantId, Timestamp};
use std::sync::Arc;

#[async_trait::async_trait]
impl Access for MemoryStore {
    async fn create_tenant(&self, now: Timestamp, name: &str, weight: u32) -> StoreResult<Tenant> {
        let mut inner = self.lock();
        if inner.tenant_id(name).is_some() {
            return Err(StoreError::Conflict(rules::tenant_taken(name)));
        }
        inner.access_epoch += 1;
        inner.epoch += 1;
        let id = inner.tenants.last_key_value().map_or(1, |(id, _)| id + 1);
        let row = TenantRow {
            name: name.to_owned(),
            created_at: Some(now),
            deleted: false,
        };
        inner.tenants.insert(id, row);
        let mut bounds = inner.bounds.remove(&id).unwrap_or_default();
        bounds.weight = weight.max(1);
        inner.bounds.insert(id, bounds);
        inner.shown_tenant(id)
    }

    async fn tenant_named(&self, name: &str) -> StoreResult<Option<Tenant>> {
        let inner = self.lock();
        let id = inner.tenant_id(name);
        id.map(|id| inner.shown_tenant(id)).transpose()
    }

    async fn tenants(&self, page: &Page) -> StoreResult<Listing<Tenant>> {
        let inner = self.lock();
        let after = page.after.unwrap_or(0);
        let ids = inner.tenants.range(after + 1..);
        let items = ids
            .filter(|(_, row)| !row.deleted)
            .take(page.limit as usize + 1)
            .map(|(id, _)| inner.shown_tenant(*id))
            .collect::<StoreResult<Vec<_>>>()?;
        Ok(cut(items, page, |tenant| tenant.id))
    }

    async fn delete_tenant(&self, _now: Timestamp, tenant: TenantId) -> StoreResult<()> {
        let mut inner = self.lock();
        inner.living_tenant(tenant)?;
        let tasks = inner
            .configs
            .values()
            .filter(|row| row.config.tenant_id == tenant && row.config.deleted_at.is_none());
        let tasks = tasks.count() as u64;
        let live = inner
            .live
            .values()
            .filter(|row| row.shown.tenant_id == tenant);
        rules::refuse_busy_tenant(tasks, live.count() as u64)?;
        inner.access_epoch += 1;
        inner.epoch += 1;
        inner
            .tokens
            .retain(|_, token| token.tenant_id != Some(tenant));
        if let Some(row) = inner.tenants.get_mut(&tenant) {
            row.deleted = true;
        }
        Ok(())
    }

    async fn create_token(&self, now: Timestamp, token: NewToken) -> StoreResult<Token> {
        let mut inner = self.lock();
        let tenant = token.tenant_id;
        let tenant = tenant.map(|id| inner.living_tenant(id)).transpose()?;
        let last = inner.tokens.last_key_value().map_or(0, |(id, _)| *id);
        let id = now.timestamp_micros().max(last + 1);
        let token = Token {
            id,
            tenant_id: token.tenant_id,
            tenant,
            name: token.name,
            role: token.role,
            scope: token.scope,
            hash: token.hash,
            previous_hash: None,
            previous_until: None,
            created_at: now,
            created_by: token.created_by,
            expires_at: token.expires_at,
            last_used_at: None,
            rotated_at: None,
        };
        inner.access_epoch += 1;
        inner.tokens.insert(id, token.clone());
        Ok(token)
    }

    async fn token(&self, id: TokenId) -> StoreResult<Option<Token>> {
        Ok(self.lock().tokens.get(&id).cloned())
    }

    async fn tokens(
        &self,
        tenant: TenantId,
        with_host: bool,
        page: &Page,
    ) -> StoreResult<Listing<Token>> {
        let inner = self.lock();
        let after = page.after.unwrap_or(0);
        let items = inner.tokens.range(after + 1..).map(|(_, token)| token);
        let items = items
            .filter(|token| token.tenant_id.map_or(with_host, |of| of == tenant))
            .take(page.limit as usize + 1)
            .cloned()
            .collect();
        Ok(cut(items, page, |token| token.id))
    }

    async fn rotate_token(
        &self,
        now: Timestamp,
        id: TokenId,
        hash: &str,
        previous_until: Option<Timestamp>,
    ) -> StoreResult<Token> {
        let mut inner = self.lock();
        let token = inner.tokens.get_mut(&id);
        let token = token.ok_or_else(|| StoreError::NotFound(rules::no_token(id)))?;
        let old = std::mem::replace(&mut token.hash, hash.to_owned());
        token.previous_hash = previous_until.is_some().then_some(old);
        token.previous_until = previous_until;
        token.rotated_at = Some(now);
        let token = token.clone();
        inner.access_epoch += 1;
        Ok(token)
    }

    async fn delete_token(&self, id: TokenId) -> StoreResult<()> {
        let mut inner = self.lock();
        if inner.tokens.remove(&id).is_none() {
            return Err(StoreError::NotFound(rules::no_token(id)));
        }
        inner.access_epoch += 1;
        Ok(())
    }

    async fn touch_token(&self, id: TokenId, at: Timestamp) -> StoreResult<()> {
        if let Some(token) = self.lock().tokens.get_mut(&id) {
            token.last_used_at = token.last_used_at.max(Some(at));
        }
        Ok(())
    }

    async fn record_audit(&self, entries: Arc<[AuditEntry]>) -> StoreResult<()> {
        let mut inner = self.lock();
        for entry in entries.iter() {
            let last = inner.audit.last_key_value().map_or(0, |(id, _)| *id);
            let id = entry.at.timestamp_micros().max(last + 1);
            inner.audit.insert(id, entry.clone());
        }
        Ok(())
    }

    async fn audit(&self, filter: &AuditFilter, page: &Page) -> StoreResult<Listing<AuditRow>> {
        let inner = self.lock();
        let before = page.after.unwrap_or(i64::MAX);
        let items = inner.audit.range(..before).rev();
        let items = items
            .filter(|(_, entry)| fits(filter, entry))
            .take(page.limit as usize + 1)
            .map(|(id, entry)| AuditRow {
                id: *id,
                entry: entry.clone(),
            })
            .collect();
        Ok(cut(items, page, |row| row.id))
    }

    async fn purge_audit(&self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        let mut inner = self.lock();
        let old = inner.audit.iter().filter(|(_, entry)| entry.at < before);
        let old: Vec<i64> = old.map(|(id, _)| *id).take(limit as usize).collect();
        for id in &old {
            inner.audit.remove(id);
        }
        Ok(old.len() as u64)
    }
}

fn fits(filter: &AuditFilter, entry: &AuditEntry) -> bool {
    entry
        .tenant_id
        .map_or(filter.with_host, |of| of == filter.tenant_id)
        && filter.action.is_none_or(|action| entry.action == action)
        && filter.token_id.is_none_or(|id| entry.token_id == Some(id))
        && filter.since.is_none_or(|since| entry.at >= since)
        && filter.until.is_none_or(|until| entry.at < until)
}

fn cut<T>(mut items: Vec<T>, page: &Page, id: impl Fn(&T) -> i64) -> Listing<T> {
    let limit = page.limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().map(id).filter(|_| more);
    Listing { items, next }
}

impl Inner {
    /// The id of a tenant that is not deleted.
    pub(super) fn tenant_id(&self, name: &str) -> Option<TenantId> {
        let mut living = self.tenants.iter().filter(|(_, row)| !row.deleted);
        living.find(|(_, row)| row.name == name).map(|(id, _)| *id)
    }

    /// The name of a tenant that must exist.
    pub(super) fn living_tenant(&self, id: TenantId) -> StoreResult<String> {
        let row = self.tenants.get(&id).filter(|row| !row.deleted);
        row.map(|row| row.name.clone())
            .ok_or_else(|| StoreError::NotFound(rules::no_tenant(id)))
    }

    /// Nothing new comes into a deleted tenant.
    pub(super) fn refuse_deleted(&self, id: TenantId) -> StoreResult<()> {
        match self.tenants.get(&id) {
            Some(row) if row.deleted => Err(StoreError::NotFound(rules::no_tenant(id))),
            _ => Ok(()),
        }
    }

    fn shown_tenant(&self, id: TenantId) -> StoreResult<Tenant> {
        Ok(Tenant {
            id,
            name: self.living_tenant(id)?,
            bounds: self.bounds.get(&id).copied().unwrap_or_default(),
            created_at: self.tenants.get(&id).and_then(|row| row.created_at),
        })
    }

    /// One batch of what deleted tenants left behind. Returns whether there is more.
    pub(super) fn purge_tenants(&mut self, limit: usize) -> bool {
        let deleted = self.tenants.iter().filter(|(_, row)| row.deleted);
        let deleted: Vec<TenantId> = deleted.map(|(id, _)| *id).collect();
        let mut left = limit;
        for tenant in deleted {
            let history = self.history.values().filter(|e| e.tenant_id == tenant);
            let batch: Vec<_> = history.map(|e| e.id).take(left).collect();
            left -= batch.len();
            for id in batch {
                if let Some(shown) = self.history.remove(&id) {
                    self.forget(&shown);
                }
            }
            if left == 0 {
                return true;
            }
            self.audit
                .retain(|_, entry| entry.tenant_id != Some(tenant));
            self.alerts.retain(|row| !row.is_of(tenant));
            self.retentions.retain(|(of, _), _| *of != tenant);
            self.usage.retain(|(of, _, _), _| *of != tenant);
            self.quotas.remove(&tenant);
            self.starts.remove(&tenant);
            self.rates.retain(|(of, _), _| *of != tenant);
            self.plugin_config.retain(|(of, _), _| *of != tenant);
            self.secrets.retain(|(of, _), _| *of != tenant);
            self.breakers.retain(|(of, _), _| *of != tenant);
            self.answers.retain(|(of, _), _| *of != tenant);
            self.types.retain(|(of, _), _| *of != tenant);
            self.versions.retain(|(of, _, _), _| *of != tenant);
            let versions = &self.versions;
            self.bytes
                .retain(|digest, _| versions.keys().any(|(_, _, of)| of == digest));
            self.bounds.remove(&tenant);
            self.tenants.remove(&tenant);
            self.epoch += 1;
        }
        false
    }
}
