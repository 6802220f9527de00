//! Configs, plugins and state.

use super::{ConfigRow, Inner, MemoryStore};
use crate::runner::StateEntry;
use crate::store::{
    Catalog, ConfigFilter, ConfigUpdate, Created, Declaration, Declared, Deleted, FinishVersion,
    HistoryOnDelete, KeyedRequest, Listing, Page, StoreError, StoreResult, TenantBounds, rules,
};
use horarium_model::execution::State;
use horarium_model::grant::Grant;
use horarium_model::task_type::{
    PluginVersion, TaskType, TypeConcurrency, TypeConcurrencyChange, VersionState,
};
use horarium_model::{ConfigId, HOST_TENANT_ID, TaskConfig, TaskSpec, TenantId, Timestamp};
use std::collections::BTreeMap;

#[async_trait::async_trait]
impl Catalog for MemoryStore {
    async fn tenant(&self, name: &str) -> StoreResult<Option<TenantId>> {
        Ok(self.lock().tenant_id(name))
    }

    async fn catalog_epoch(&self) -> StoreResult<i64> {
        Ok(self.lock().epoch)
    }

    async fn create_config_once(
        &self,
        now: Timestamp,
        tenant: TenantId,
        spec: TaskSpec,
        request: Option<KeyedRequest<TaskConfig>>,
    ) -> StoreResult<Created> {
        let mut inner = self.lock();
        if let Some(request) = &request
            && let Some(kept) = inner.answer(now, request.tenant_id, &request.key)
        {
            return Ok(Created::Repeated(kept));
        }
        let config = inner.create(now, tenant, spec, None)?;
        if let Some(request) = &request {
            inner.keep_answer(now, request, &config);
        }
        Ok(Created::Done(Box::new(config)))
    }

    async fn config(&self, tenant: TenantId, id: ConfigId) -> StoreResult<Option<TaskConfig>> {
        Ok(self.lock().config(tenant, id).map(|row| row.config.clone()))
    }

    async fn config_by_key(&self, tenant: TenantId, key: &str) -> StoreResult<Option<TaskConfig>> {
        let inner = self.lock();
        Ok(inner.by_key(tenant, key).map(|row| row.config.clone()))
    }

    async fn configs_by_ids(&self, ids: &[ConfigId]) -> StoreResult<Vec<TaskConfig>> {
        let inner = self.lock();
        let rows = inner.configs.values().map(|row| &row.config);
        Ok(rows
            .filter(|config| config.deleted_at.is_none() && ids.contains(&config.id))
            .cloned()
            .collect())
    }

    async fn changed_configs(
        &self,
        tenant: TenantId,
        since: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<TaskConfig>> {
        let inner = self.lock();
        let rows = inner.configs.values().map(|row| &row.config);
        let changed = |config: &&TaskConfig| {
            config.tenant_id == tenant && config.deleted_at.is_none() && config.updated_at >= since
        };
        let mut found: Vec<TaskConfig> = rows.filter(changed).cloned().collect();
        found.sort_by_key(|config| (config.updated_at, config.id));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn configs(
        &self,
        tenant: TenantId,
        filter: &ConfigFilter,
        page: &Page,
    ) -> StoreResult<Listing<TaskConfig>> {
        let inner = self.lock();
        let name = filter.name.as_ref().map(|n| n.to_lowercase());
        let limit = page.limit as usize;
        let mut items: Vec<TaskConfig> = inner
            .configs
            .range(..page.after.unwrap_or(ConfigId::MAX))
            .rev()
            .map(|(_, row)| &row.config)
            .filter(|c| c.tenant_id == tenant && c.deleted_at.is_none())
            .filter(|c| {
                let spec = &c.spec;
                filter
                    .task_type
                    .as_ref()
                    .is_none_or(|t| spec.task_type == *t)
                    && filter
                        .scheduler_type
                        .is_none_or(|kind| spec.schedule.kind() == kind)
                    && filter.paused.is_none_or(|paused| spec.paused == paused)
                    && name
                        .as_ref()
                        .is_none_or(|n| spec.name.to_lowercase().contains(n.as_str()))
                    && filter
                        .declared_by
                        .as_ref()
                        .is_none_or(|set| c.declared_by.as_ref() == Some(set))
            })
            .take(limit + 1)
            .cloned()
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().map(|c| c.id).filter(|_| more);
        Ok(Listing { items, next })
    }

    async fn update_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        update: ConfigUpdate,
    ) -> StoreResult<TaskConfig> {
        self.lock().update(now, tenant, id, update)
    }

    async fn delete_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        history: HistoryOnDelete,
    ) -> StoreResult<Deleted> {
        self.lock().delete(now, tenant, id, history)
    }

    async fn declare(
        &self,
        now: Timestamp,
        tenant: TenantId,
        declaration: Declaration,
    ) -> StoreResult<Declared> {
        let mut inner = self.lock();
        let mut draft = inner.clone();
        let declared = draft.declare(now, tenant, declaration)?;
        *inner = draft;
        Ok(declared)
    }

    async fn purge_deleted(&self, limit: u32) -> StoreResult<bool> {
        let mut inner = self.lock();
        Ok(inner.purge(limit as usize) || inner.purge_tenants(limit as usize))
    }

    async fn add_version(
        &self,
        now: Timestamp,
        version: PluginVersion,
        bytes: Vec<u8>,
    ) -> StoreResult<PluginVersion> {
        let mut inner = self.lock();
        let (tenant, name) = (version.tenant_id, version.task_type.clone());
        inner.refuse_name(tenant, &name)?;
        inner.refuse_type(tenant, &name)?;
        inner.epoch += 1;
        inner
            .types
            .entry((tenant, name.clone()))
            .or_insert_with(|| TaskType {
                tenant_id: tenant,
                task_type: name.clone(),
                active_digest: None,
                previous_digest: None,
                disabled: false,
                concurrency: TypeConcurrency::default(),
                breaker: None,
                created_at: now,
                updated_at: now,
            });
        let key = (tenant, name, version.digest.clone());
        if let Some((_, known)) = inner.versions.get_mut(&key)
            && known.state != VersionState::Failed
        {
            known.grants = version.grants;
            known.input = version.input;
            known.limits = version.limits;
            if known.state == VersionState::Ready {
                known.descriptor = version.descriptor;
            }
            return Ok(known.clone());
        }
        let version = PluginVersion {
            state: VersionState::Compiling,
            error: None,
            created_at: now,
            ..version
        };
        inner.last_version += 1;
        let order = inner.last_version;
        inner.bytes.insert(version.digest.clone(), bytes);
        inner.versions.insert(key, (order, version.clone()));
        Ok(version)
    }

    async fn set_grants(
        &self,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
        grants: Vec<Grant>,
    ) -> StoreResult<PluginVersion> {
        let mut inner = self.lock();
        let version = inner.version_mut(tenant, task_type, digest)?;
        version.grants = grants;
        let version = version.clone();
        inner.epoch += 1;
        Ok(version)
    }

    async fn finish_version(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
        finish: FinishVersion,
    ) -> StoreResult<PluginVersion> {
        let mut inner = self.lock();
        let version = inner.version_mut(tenant, task_type, digest)?;
        if version.state != VersionState::Compiling {
            let found = version.state.as_str();
            let message = rules::version_not(task_type, digest, found, "compiling");
            return Err(StoreError::Conflict(message));
        }
        let mut activates = false;
        match finish {
            FinishVersion::Ready {
                descriptor,
                warnings,
                activate,
            } => {
                version.state = VersionState::Ready;
                version.descriptor = *descriptor;
                version.warnings = warnings;
                activates = activate;
            }
            FinishVersion::Failed { error } => {
                version.state = VersionState::Failed;
                version.error = Some(error);
            }
        }
        let version = version.clone();
        inner.epoch += 1;
        inner.drop_unused_bytes(digest);
        if activates && let Some(row) = inner.types.get_mut(&(tenant, task_type.to_owned())) {
            row.activate(digest);
            row.updated_at = now;
        }
        Ok(version)
    }

    async fn activate_version(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
    ) -> StoreResult<TaskType> {
        let mut inner = self.lock();
        let state = inner.version_mut(tenant, task_type, digest)?.state;
        if state != VersionState::Ready {
            let message = rules::version_not(task_type, digest, state.as_str(), "ready");
            return Err(StoreError::Conflict(message));
        }
        inner.change_type(now, tenant, task_type, |row| row.activate(digest))
    }

    async fn remove_type(&self, tenant: TenantId, task_type: &str) -> StoreResult<()> {
        let mut inner = self.lock();
        let key = (tenant, task_type.to_owned());
        if !inner.types.contains_key(&key) {
            return Err(StoreError::NotFound(rules::no_type(task_type)));
        }
        // A shared type is any tenant's to use.
        let uses = |of: TenantId| tenant == HOST_TENANT_ID || of == tenant;
        let configs = inner.configs.values().map(|row| &row.config);
        let tasks = configs.filter(|config| {
            let names = config.spec.task_type == task_type;
            names && uses(config.tenant_id) && config.deleted_at.is_none()
        });
        let tasks = tasks.count() as u64;
        let live = inner.live.values().map(|row| &row.shown);
        let live = live.filter(|shown| uses(shown.tenant_id) && shown.task_type == task_type);
        let (running, waiting): (Vec<_>, Vec<_>) =
            live.partition(|shown| shown.state == State::Running);
        let (waiting, running) = (waiting.len() as u64, running.len() as u64);
        rules::refuse_used_type(task_type, tasks, waiting, running)?;
        inner.types.remove(&key);
        inner
            .breakers
            .retain(|(of, name), _| !uses(*of) || name != task_type);
        inner.plugin_config.remove(&key);
        let versions = inner.versions.keys();
        let digests: Vec<String> = versions
            .filter(|(of, name, _)| *of == tenant && name == task_type)
            .map(|(_, _, digest)| digest.clone())
            .collect();
        inner
            .versions
            .retain(|(of, name, _), _| *of != tenant || name != task_type);
        for digest in digests {
            inner.drop_unused_bytes(&digest);
        }
        inner.epoch += 1;
        Ok(())
    }

    async fn set_type_concurrency(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        change: TypeConcurrencyChange,
    ) -> StoreResult<TaskType> {
        self.lock().change_type(now, tenant, task_type, |row| {
            row.concurrency = change.of(row.concurrency);
        })
    }

    async fn reset_breaker(
        &self,
        _now: Timestamp,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<TaskType> {
        let mut inner = self.lock();
        let Some(row) = inner.type_of(tenant, task_type) else {
            return Err(StoreError::NotFound(rules::no_type(task_type)));
        };
        let reset = inner.shown_type(tenant, row);
        inner.breakers.remove(&(tenant, task_type.to_owned()));
        inner.epoch += 1;
        Ok(TaskType {
            breaker: None,
            ..reset
        })
    }

    async fn set_tenant_bounds(&self, tenant: TenantId, bounds: TenantBounds) -> StoreResult<()> {
        let mut inner = self.lock();
        inner.living_tenant(tenant)?;
        inner.bounds.insert(tenant, bounds);
        Ok(())
    }

    async fn set_disabled(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        disabled: bool,
    ) -> StoreResult<TaskType> {
        self.lock()
            .change_type(now, tenant, task_type, |row| row.disabled = disabled)
    }

    async fn task_type(&self, tenant: TenantId, task_type: &str) -> StoreResult<Option<TaskType>> {
        let inner = self.lock();
        let row = inner.type_of(tenant, task_type);
        Ok(row.map(|row| inner.shown_type(tenant, row)))
    }

    async fn task_types(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<TaskType>> {
        let inner = self.lock();
        let mut all: Vec<&TaskType> = inner
            .types
            .values()
            .filter(|row| [tenant, HOST_TENANT_ID].contains(&row.tenant_id))
            .collect();
        all.sort_by(|one, other| one.task_type.cmp(&other.task_type));
        let seen = usize::try_from(page.after.unwrap_or(0)).unwrap_or(0);
        let items: Vec<TaskType> = all
            .iter()
            .skip(seen)
            .take(page.limit as usize)
            .map(|row| inner.shown_type(tenant, row))
            .collect();
        let end = seen + items.len();
        let next = (end < all.len()).then(|| i64::try_from(end).unwrap_or(i64::MAX));
        Ok(Listing { items, next })
    }

    async fn all_task_types(&self) -> StoreResult<Vec<TaskType>> {
        let inner = self.lock();
        let rows = inner.types.values();
        Ok(rows
            .map(|row| inner.shown_type(row.tenant_id, row))
            .collect())
    }

    async fn versions(&self, tenant: TenantId, task_type: &str) -> StoreResult<Vec<PluginVersion>> {
        let inner = self.lock();
        let mut rows: Vec<_> = inner
            .versions
            .values()
            .filter(|(_, v)| [tenant, HOST_TENANT_ID].contains(&v.tenant_id))
            .filter(|(_, v)| v.task_type == task_type)
            .collect();
        rows.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        Ok(rows.into_iter().map(|(_, v)| v.clone()).collect())
    }

    async fn all_versions(&self) -> StoreResult<Vec<PluginVersion>> {
        let inner = self.lock();
        let mut rows: Vec<_> = inner
            .versions
            .values()
            .filter(|(_, v)| v.state != VersionState::Failed)
            .collect();
        rows.sort_by_key(|(order, _)| *order);
        Ok(rows.into_iter().map(|(_, v)| v.clone()).collect())
    }

    async fn component_bytes(&self, digest: &str) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.lock().bytes.get(digest).cloned())
    }

    async fn task_state(
        &self,
        tenant: TenantId,
        config: ConfigId,
    ) -> StoreResult<BTreeMap<String, StateEntry>> {
        let mut inner = self.lock();
        Ok(inner.config_mut(tenant, config)?.state.clone())
    }

    async fn set_task_state(
        &self,
        _now: Timestamp,
        tenant: TenantId,
        config: ConfigId,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> StoreResult<()> {
        let mut inner = self.lock();
        let row = inner.config_mut(tenant, config)?;
        let old = row.state.get(key);
        let old = old.map_or(0, |entry| rules::state_size(key, &entry.value));
        let new = value
            .as_ref()
            .map_or(0, |value| rules::state_size(key, value));
        inner
            .refuse_state(tenant, new - old)
            .map_err(StoreError::Quota)?;
        inner.config_mut(tenant, config)?.write(key, value);
        Ok(())
    }

    async fn reset_task_state(&self, tenant: TenantId, config: ConfigId) -> StoreResult<u64> {
        let mut inner = self.lock();
        let state = std::mem::take(&mut inner.config_mut(tenant, config)?.state);
        Ok(state.len() as u64)
    }
}

impl ConfigRow {
    /// Writes or deletes one key of the state.
    pub(super) fn write(&mut self, key: &str, value: Option<Vec<u8>>) {
        match value {
            Some(value) => {
                self.state_version += 1;
                let version = self.state_version;
                self.state
                    .insert(key.to_owned(), StateEntry { value, version });
            }
            None => {
                self.state.remove(key);
            }
        }
    }
}

impl Inner {
    pub(super) fn by_key(&self, tenant: TenantId, key: &str) -> Option<&ConfigRow> {
        self.configs.values().find(|row| {
            let config = &row.config;
            config.tenant_id == tenant
                && config.deleted_at.is_none()
                && config.spec.key.as_deref() == Some(key)
        })
    }

    pub(super) fn check_key(
        &self,
        tenant: TenantId,
        own: Option<ConfigId>,
        key: Option<&str>,
    ) -> StoreResult<()> {
        let Some(key) = key else { return Ok(()) };
        match self.by_key(tenant, key) {
            Some(row) if Some(row.config.id) != own => {
                Err(StoreError::Conflict(rules::key_taken(key)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn version_mut(
        &mut self,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
    ) -> StoreResult<&mut PluginVersion> {
        let key = (tenant, task_type.to_owned(), digest.to_owned());
        match self.versions.get_mut(&key) {
            Some((_, version)) => Ok(version),
            None => Err(StoreError::NotFound(rules::no_version(task_type, digest))),
        }
    }

    pub(super) fn change_type(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        change: impl FnOnce(&mut TaskType),
    ) -> StoreResult<TaskType> {
        let row = self
            .types
            .get_mut(&(tenant, task_type.to_owned()))
            .ok_or_else(|| StoreError::NotFound(rules::no_type(task_type)))?;
        change(row);
        row.updated_at = now;
        let row = row.clone();
        self.epoch += 1;
        Ok(self.shown_type(tenant, &row))
    }

    /// Bytes live as long as a version that did not fail has them.
    fn drop_unused_bytes(&mut self, digest: &str) {
        let used = self
            .versions
            .values()
            .any(|(_, v)| v.digest == digest && v.state != VersionState::Failed);
        if !used {
            self.bytes.remove(digest);
        }
    }

    /// One batch of what deletions left behind.
    fn purge(&mut self, limit: usize) -> bool {
        let deleted: Vec<(ConfigId, bool)> = self
            .configs
            .values()
            .filter(|row| row.config.deleted_at.is_some())
            .map(|row| (row.config.id, row.delete_history))
            .collect();
        let mut left = limit;
        for (config, delete_history) in deleted {
            let batch: Vec<_> = self
                .history
                .values()
                .filter(|e| e.config_id == Some(config))
                .map(|e| e.id)
                .take(left)
                .collect();
            left -= batch.len();
            for id in batch {
                if delete_history {
                    if let Some(shown) = self.history.remove(&id) {
                        self.forget(&shown);
                    }
                } else if let Some(shown) = self.history.get_mut(&id) {
                    shown.config_id = None;
                }
            }
            if left == 0 {
                return true;
            }
            // What still runs must find that its config is gone, not that it never had one.
            if self.live_of(config, |_| true).is_empty() {
                self.configs.remove(&config);
                self.retentions.retain(|(_, of), _| *of != config);
            }
        }
        false
    }
}
