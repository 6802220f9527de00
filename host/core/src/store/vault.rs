//! What operators give plugins: settings of a task type, and secrets, which are sealed before they come here.

use super::{Listing, Page, StoreResult};
use horarium_model::schedule::wire_time;
use horarium_model::{TenantId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// What operators give plugins.
#[async_trait::async_trait]
pub trait Vault: Send + Sync + 'static {
    /// What an operator set for a task type, the tenant's own or a shared one, by key.
    async fn plugin_config(
        &self,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<BTreeMap<String, String>>;

    /// Sets a key of a task type of this owner, or unsets it with none.
    ///
    /// # Errors
    /// `NotFound` when no such type is registered.
    async fn set_plugin_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        key: &str,
        value: Option<String>,
    ) -> StoreResult<()>;

    /// The types for which anything is set, for the registry.
    async fn configured_types(&self) -> StoreResult<Vec<(TenantId, String)>>;

    /// Secrets of a tenant in the order of their names; `page.after` counts names already seen.
    async fn secrets(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<SecretInfo>>;

    /// One secret, without its value.
    async fn secret(&self, tenant: TenantId, name: &str) -> StoreResult<Option<SecretInfo>>;

    /// Those of the named secrets that exist, sealed, in the order of their names.
    async fn sealed_secrets(
        &self,
        tenant: TenantId,
        names: &[String],
    ) -> StoreResult<Vec<SealedSecret>>;

    /// Keeps a sealed value under a name, new or in place of another. Its version rises; the one given is
    /// not looked at.
    async fn put_secret(&self, now: Timestamp, secret: SealedSecret) -> StoreResult<SecretInfo>;

    /// Forgets a secret; false when there was none.
    async fn delete_secret(&self, tenant: TenantId, name: &str) -> StoreResult<bool>;

    /// The ids of all keys that secrets of any tenant are sealed with, in order.
    async fn secret_keys(&self) -> StoreResult<Vec<String>>;

    /// Secrets of all tenants that are sealed with another key than this, in the order of tenant and name,
    /// after the one named.
    async fn secrets_under_other_keys(
        &self,
        key_id: &str,
        after: Option<(TenantId, String)>,
        limit: u32,
    ) -> StoreResult<Vec<SealedSecret>>;

    /// Replaces the sealed form of a secret whose version is still the one given. False when it changed.
    async fn reseal_secret(&self, secret: SealedSecret) -> StoreResult<bool>;
}

/// A secret as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Rises each time it is set; 1 at first.
    pub version: i64,
    /// The key it is sealed with.
    pub key_id: String,
    /// When it was first set.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub created_at: Timestamp,
    /// When it was last set.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub updated_at: Timestamp,
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Owner.
    pub tenant_id: TenantId,
    /// Its name.
    pub name: String,
    /// Rises each time it is set.
    pub version: i64,
    /// The key it is sealed with.
    pub key_id: String,
    /// Nonce and ciphertext, bound to tenant and name.
    pub sealed: Vec<u8>,
}
