//! Settings an operator gives a task type. Not secret; every run reads them as they are when it is claimed.

use super::{Plugins, ServiceError, ServiceResult};
use horarium_model::text::{nearest, one_line};
use horarium_model::{Invalid, TenantId};
use std::collections::BTreeMap;

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Most bytes of all keys and values of a type.
const MAX_TOTAL_BYTES: usize = 1 << 20;

impl Plugins {
    /// All settings of a type.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn config(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> ServiceResult<BTreeMap<String, String>> {
        self.show(tenant, name).await?;
        Ok(self.cx.store.plugin_config(tenant, name).await?)
    }

    /// Sets a key. Runs that are claimed from now on see it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when key, value or all together are too large, or hold control characters.
    pub async fn set_config(
        &self,
        tenant: TenantId,
        name: &str,
        key: &str,
        value: String,
    ) -> ServiceResult<()> {
        let known = self.config(tenant, name).await?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
            let detail = format!("a key has 1 to {MAX_KEY_BYTES} bytes and no control characters");
            return Err(Invalid::one("/key", detail).into());
        }
        if value.len() > MAX_VALUE_BYTES || value.contains('\0') {
            let detail = format!(
                "has {} bytes; a value has at most {MAX_VALUE_BYTES}, and no NUL",
                value.len()
            );
            return Err(Invalid::one("/value", detail).into());
        }
        let others = known.iter().filter(|(other, _)| *other != key);
        let others: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        let total = others + key.len() + value.len();
        if total > MAX_TOTAL_BYTES {
            let detail = format!(
                "the settings of `{name}` would have {total} bytes; {MAX_TOTAL_BYTES} are allowed"
            );
            return Err(Invalid::one("/value", detail).into());
        }
        self.write_config(tenant, name, key, Some(value)).await
    }

    /// Unsets a key.
    ///
    /// # Errors
    /// `NotFound` when the type or the key does not exist, with the nearest key.
    pub async fn unset_config(&self, tenant: TenantId, name: &str, key: &str) -> ServiceResult<()> {
        let known = self.config(tenant, name).await?;
        if !known.contains_key(key) {
            let hint = nearest(key, known.keys().map(String::as_str))
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Err(ServiceError::NotFound(format!(
                "`{name}` has no setting `{}`{hint}",
                one_line(key, 100)
            )));
        }
        self.write_config(tenant, name, key, None).await
    }

    async fn write_config(
        &self,
        tenant: TenantId,
        name: &str,
        key: &str,
        value: Option<String>,
    ) -> ServiceResult<()> {
        let now = self.cx.clock.now();
        let store = &self.cx.store;
        store
            .set_plugin_config(now, tenant, name, key, value)
            .await?;
        self.catalog_changed().await
    }
}
