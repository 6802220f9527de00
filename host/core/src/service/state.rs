//! The state a plugin keeps per task, seen and mended by an operator.

use super::{ServiceError, ServiceResult, TaskRef, Tasks};
use crate::runner::StateEntry;
use horarium_model::text::one_line;
use horarium_model::{Invalid, TenantId};
use std::collections::BTreeMap;

/// Longest key of a task's state, in bytes.
const MAX_KEY_BYTES: usize = 512;

impl Tasks {
    /// All keys with values and versions.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn state(
        &self,
        tenant: TenantId,
        task: &TaskRef,
    ) -> ServiceResult<BTreeMap<String, StateEntry>> {
        let config = self.show(tenant, task).await?;
        Ok(self.0.store.task_state(tenant, config.id).await?)
    }

    /// Sets a key; a run in progress that saw another value then ends `state_conflict`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the key or the whole state would be too large.
    pub async fn set_state(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        key: &str,
        value: Vec<u8>,
    ) -> ServiceResult<()> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            let detail = format!("a state key has 1 to {MAX_KEY_BYTES} bytes");
            return Err(Invalid::one("/key", detail).into());
        }
        if key.chars().any(char::is_control) {
            let detail = "a state key has no control characters";
            return Err(Invalid::one("/key", detail).into());
        }
        let config = self.show(tenant, task).await?;
        let version = self.0.registry.chosen(
            tenant,
            &config.spec.task_type,
            config.spec.plugin_version.as_deref(),
        );
        let max = self
            .0
            .policy
            .effective(version.as_deref(), Some(&config))
            .state_bytes;
        let others: usize = self
            .0
            .store
            .task_state(tenant, config.id)
            .await?
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(other, entry)| other.len() + entry.value.len())
            .sum();
        let size = (others + key.len() + value.len()) as u64;
        if size > max {
            let detail = format!("the state would have {size} bytes; `state_bytes` allows {max}");
            return Err(Invalid::one("/value", detail).into());
        }
        let now = self.0.clock.now();
        Ok(self
            .0
            .store
            .set_task_state(now, tenant, config.id, key, Some(value))
            .await?)
    }

    /// Forgets one key.
    ///
    /// # Errors
    /// `NotFound` when the task or the key does not exist.
    pub async fn delete_state(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        key: &str,
    ) -> ServiceResult<()> {
        let config = self.show(tenant, task).await?;
        let known = self.0.store.task_state(tenant, config.id).await?;
        if !known.contains_key(key) {
            return Err(ServiceError::NotFound(format!(
                "the state of task {} has no key `{}`",
                config.id,
                one_line(key, 100)
            )));
        }
        let now = self.0.clock.now();
        Ok(self
            .0
            .store
            .set_task_state(now, tenant, config.id, key, None)
            .await?)
    }

    /// Forgets everything; returns how many keys there were.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn reset_state(&self, tenant: TenantId, task: &TaskRef) -> ServiceResult<u64> {
        let config = self.show(tenant, task).await?;
        Ok(self.0.store.reset_task_state(tenant, config.id).await?)
    }
}
