//! What operators give plugins.

use super::MemoryStore;
use super::history::counted;
use crate::store::{
    Listing, Page, SealedSecret, SecretInfo, StoreError, StoreResult, Vault, rules,
};
use horarium_model::{TenantId, Timestamp};
use std::collections::BTreeMap;

/// A secret with its dates.
#[derive(Debug, Clone)]
pub(super) struct SecretRow {
    secret: SealedSecret,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl SecretRow {
    fn info(&self) -> SecretInfo {
        SecretInfo {
            name: self.secret.name.clone(),
            version: self.secret.version,
            key_id: self.secret.key_id.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

#[async_trait::async_trait]
impl Vault for MemoryStore {
    async fn plugin_config(
        &self,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<BTreeMap<String, String>> {
        let inner = self.lock();
        let owner = inner.type_of(tenant, task_type).map(|row| row.tenant_id);
        let key = (owner.unwrap_or(tenant), task_type.to_owned());
        let config = inner.plugin_config.get(&key);
        Ok(config.cloned().unwrap_or_default())
    }

    async fn set_plugin_config(
        &self,
        _now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        key: &str,
        value: Option<String>,
    ) -> StoreResult<()> {
        let mut inner = self.lock();
        let name = (tenant, task_type.to_owned());
        if !inner.types.contains_key(&name) {
            return Err(StoreError::NotFound(rules::no_type(task_type)));
        }
        let config = inner.plugin_config.entry(name.clone()).or_default();
        match value {
            Some(value) => config.insert(key.to_owned(), value),
            None => config.remove(key),
        };
        if config.is_empty() {
            inner.plugin_config.remove(&name);
        }
        inner.epoch += 1;
        Ok(())
    }

    async fn configured_types(&self) -> StoreResult<Vec<(TenantId, String)>> {
        Ok(self.lock().plugin_config.keys().cloned().collect())
    }

    async fn secrets(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<SecretInfo>> {
        let inner = self.lock();
        let rows = inner.secrets.iter().filter(|((t, _), _)| *t == tenant);
        Ok(counted(rows.map(|(_, row)| row.info()), page))
    }

    async fn secret(&self, tenant: TenantId, name: &str) -> StoreResult<Option<SecretInfo>> {
        let inner = self.lock();
        let row = inner.secrets.get(&(tenant, name.to_owned()));
        Ok(row.map(SecretRow::info))
    }

    async fn sealed_secrets(
        &self,
        tenant: TenantId,
        names: &[String],
    ) -> StoreResult<Vec<SealedSecret>> {
        let inner = self.lock();
        let rows = inner.secrets.iter();
        let wanted = rows.filter(|((t, name), _)| *t == tenant && names.contains(name));
        Ok(wanted.map(|(_, row)| row.secret.clone()).collect())
    }

    async fn put_secret(&self, now: Timestamp, secret: SealedSecret) -> StoreResult<SecretInfo> {
        let mut inner = self.lock();
        let key = (secret.tenant_id, secret.name.clone());
        let old = inner.secrets.get(&key);
        let row = SecretRow {
            created_at: old.map_or(now, |row| row.created_at),
            updated_at: now,
            secret: SealedSecret {
                version: old.map_or(0, |row| row.secret.version) + 1,
                ..secret
            },
        };
        let info = row.info();
        inner.secrets.insert(key, row);
        Ok(info)
    }

    async fn delete_secret(&self, tenant: TenantId, name: &str) -> StoreResult<bool> {
        let mut inner = self.lock();
        Ok(inner.secrets.remove(&(tenant, name.to_owned())).is_some())
    }

    async fn secret_keys(&self) -> StoreResult<Vec<String>> {
        let inner = self.lock();
        let keys = inner.secrets.values().map(|row| row.secret.key_id.clone());
        let mut keys: Vec<String> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    async fn secrets_under_other_keys(
        &self,
        key_id: &str,
        after: Option<(TenantId, String)>,
        limit: u32,
    ) -> StoreResult<Vec<SealedSecret>> {
        let inner = self.lock();
        let rows = inner.secrets.iter();
        Ok(rows
            .filter(|(key, row)| {
                after.as_ref().is_none_or(|after| *key > after) && row.secret.key_id != key_id
            })
            .map(|(_, row)| row.secret.clone())
            .take(limit as usize)
            .collect())
    }

    async fn reseal_secret(&self, secret: SealedSecret) -> StoreResult<bool> {
        let mut inner = self.lock();
        let key = (secret.tenant_id, secret.name.clone());
        match inner.secrets.get_mut(&key) {
            Some(row) if row.secret.version == secret.version => {
                row.secret = secret;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
