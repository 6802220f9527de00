//! [`Catalog`] over the functions that do the work.

use super::{
    SqliteStore, access, breakers, configs, db, declare, deletions, plugins, sql, task_state,
};
use horarium_core::runner::StateEntry;
use horarium_core::store::{
    Catalog, ConfigFilter, ConfigUpdate, Created, Declaration, Declared, Deleted, FinishVersion,
    HistoryOnDelete, KeyedRequest, Listing, Page, StoreResult, TenantBounds,
};
use horarium_model::grant::Grant;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange};
use horarium_model::{ConfigId, TaskConfig, TaskSpec, TenantId, Timestamp};
use sqlx::Row;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs an operation in the writer's transaction. What it needs is captured as `Arc` or copied: each of
/// `$shared` is cloned per run, because an operation may be run again alone.
macro_rules! write {
    ($store:expr, [$($shared:ident),*], |$tx:ident| $operation:expr) => {
        $store
            .write(move |$tx| {
                $(let $shared = $shared.clone();)*
                Box::pin(async move { $operation.await })
            })
            .await
    };
}

/// Runs a read on a connection of its own.
macro_rules! read {
    ($store:expr, |$connection:ident| $operation:expr) => {
        $store
            .read(move |$connection| Box::pin(async move { $operation.await }))
            .await
    };
}

#[async_trait::async_trait]
impl Catalog for SqliteStore {
    async fn tenant(&self, name: &str) -> StoreResult<Option<TenantId>> {
        let name = name.to_owned();
        read!(self, |connection| async {
            let row = sqlx::query(sql::TENANT)
                .bind(name)
                .fetch_optional(connection)
                .await
                .map_err(db)?;
            row.map(|row| row.try_get(0)).transpose().map_err(db)
        })
    }

    async fn catalog_epoch(&self) -> StoreResult<i64> {
        read!(self, |connection| async {
            let row = sqlx::query(sql::EPOCH)
                .fetch_one(connection)
                .await
                .map_err(db)?;
            row.try_get(0).map_err(db)
        })
    }

    async fn create_config_once(
        &self,
        now: Timestamp,
        tenant: TenantId,
        spec: TaskSpec,
        request: Option<KeyedRequest<TaskConfig>>,
    ) -> StoreResult<Created> {
        let (spec, request) = (Arc::new(spec), Arc::new(request));
        write!(self, [spec, request], |tx| configs::create_once(
            tx,
            now,
            tenant,
            &spec,
            request.as_ref().as_ref()
        ))
    }

    async fn config(&self, tenant: TenantId, id: ConfigId) -> StoreResult<Option<TaskConfig>> {
        read!(self, |connection| configs::config(connection, tenant, id))
    }

    async fn config_by_key(&self, tenant: TenantId, key: &str) -> StoreResult<Option<TaskConfig>> {
        let key = key.to_owned();
        read!(self, |connection| configs::by_key(connection, tenant, &key))
    }

    async fn configs_by_ids(&self, ids: &[ConfigId]) -> StoreResult<Vec<TaskConfig>> {
        let ids = ids.to_vec();
        read!(self, |connection| configs::by_ids(connection, &ids))
    }

    async fn changed_configs(
        &self,
        tenant: TenantId,
        since: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<TaskConfig>> {
        read!(self, |connection| configs::changed(
            connection, tenant, since, limit
        ))
    }

    async fn configs(
        &self,
        tenant: TenantId,
        filter: &ConfigFilter,
        page: &Page,
    ) -> StoreResult<Listing<TaskConfig>> {
        let (filter, page) = (filter.clone(), page.clone());
        read!(self, |connection| configs::list(
            connection, tenant, &filter, &page
        ))
    }

    async fn update_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        update: ConfigUpdate,
    ) -> StoreResult<TaskConfig> {
        let update = Arc::new(update);
        write!(self, [update], |tx| configs::update(
            tx, now, tenant, id, &update
        ))
    }

    async fn delete_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        history: HistoryOnDelete,
    ) -> StoreResult<Deleted> {
        write!(self, [], |tx| deletions::delete(
            tx, now, tenant, id, history
        ))
    }

    async fn declare(
        &self,
        now: Timestamp,
        tenant: TenantId,
        declaration: Declaration,
    ) -> StoreResult<Declared> {
        let declaration = Arc::new(declaration);
        write!(self, [declaration], |tx| declare::declare(
            tx,
            now,
            tenant,
            &declaration
        ))
    }

    async fn purge_deleted(&self, limit: u32) -> StoreResult<bool> {
        // Asked after whatever fires, and seldom with anything to do: a reader finds that out, and holds up no write.
        if !read!(self, |connection| deletions::any(connection))? {
            return Ok(false);
        }
        write!(self, [], |tx| async {
            Ok(deletions::purge(tx, limit).await? || access::purge_tenants(tx, limit).await?)
        })
    }

    async fn add_version(
        &self,
        now: Timestamp,
        version: PluginVersion,
        bytes: Vec<u8>,
    ) -> StoreResult<PluginVersion> {
        let (version, bytes) = (Arc::new(version), Arc::new(bytes));
        write!(self, [version, bytes], |tx| plugins::add_version(
            tx, now, &version, &bytes
        ))
    }

    async fn set_grants(
        &self,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
        grants: Vec<Grant>,
    ) -> StoreResult<PluginVersion> {
        let (name, digest) = (task_type.to_owned(), digest.to_owned());
        let grants = Arc::new(grants);
        write!(self, [name, digest, grants], |tx| plugins::set_grants(
            tx, tenant, &name, &digest, &grants
        ))
    }

    async fn finish_version(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
        finish: FinishVersion,
    ) -> StoreResult<PluginVersion> {
        let (name, digest) = (task_type.to_owned(), digest.to_owned());
        let finish = Arc::new(finish);
        write!(self, [name, digest, finish], |tx| plugins::finish_version(
            tx, now, tenant, &name, &digest, &finish
        ))
    }

    async fn activate_version(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
    ) -> StoreResult<TaskType> {
        let (name, digest) = (task_type.to_owned(), digest.to_owned());
        write!(self, [name, digest], |tx| plugins::activate(
            tx, now, tenant, &name, &digest
        ))
    }

    async fn remove_type(&self, tenant: TenantId, task_type: &str) -> StoreResult<()> {
        let name = task_type.to_owned();
        write!(self, [name], |tx| plugins::remove(tx, tenant, &name))
    }

    async fn set_disabled(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        disabled: bool,
    ) -> StoreResult<TaskType> {
        let name = task_type.to_owned();
        write!(self, [name], |tx| plugins::set_disabled(
            tx, now, tenant, &name, disabled
        ))
    }

    async fn set_type_concurrency(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        change: TypeConcurrencyChange,
    ) -> StoreResult<TaskType> {
        let name = task_type.to_owned();
        write!(self, [name], |tx| plugins::set_concurrency(
            tx, now, tenant, &name, change
        ))
    }

    async fn reset_breaker(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<TaskType> {
        let name = task_type.to_owned();
        write!(self, [name], |tx| breakers::reset(tx, now, tenant, &name))
    }

    async fn set_tenant_bounds(&self, tenant: TenantId, bounds: TenantBounds) -> StoreResult<()> {
        write!(self, [], |tx| plugins::set_tenant_bounds(
            tx, tenant, bounds
        ))
    }

    async fn task_type(&self, tenant: TenantId, task_type: &str) -> StoreResult<Option<TaskType>> {
        let name = task_type.to_owned();
        read!(self, |connection| plugins::one_type(
            connection, tenant, &name
        ))
    }

    async fn task_types(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<TaskType>> {
        let page = page.clone();
        read!(self, |connection| plugins::types(connection, tenant, &page))
    }

    async fn all_task_types(&self) -> StoreResult<Vec<TaskType>> {
        read!(self, |connection| plugins::all_types(connection))
    }

    async fn versions(&self, tenant: TenantId, task_type: &str) -> StoreResult<Vec<PluginVersion>> {
        let name = task_type.to_owned();
        read!(self, |connection| plugins::versions(
            connection, tenant, &name
        ))
    }

    async fn all_versions(&self) -> StoreResult<Vec<PluginVersion>> {
        read!(self, |connection| plugins::all_versions(connection))
    }

    async fn component_bytes(&self, digest: &str) -> StoreResult<Option<Vec<u8>>> {
        let digest = digest.to_owned();
        read!(self, |connection| plugins::bytes(connection, &digest))
    }

    async fn task_state(
        &self,
        tenant: TenantId,
        config: ConfigId,
    ) -> StoreResult<BTreeMap<String, StateEntry>> {
        read!(self, |connection| task_state::state(
            connection, tenant, config
        ))
    }

    async fn set_task_state(
        &self,
        now: Timestamp,
        tenant: TenantId,
        config: ConfigId,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> StoreResult<()> {
        let (key, value) = (key.to_owned(), Arc::new(value));
        write!(self, [key, value], |tx| task_state::set_state(
            tx,
            now,
            tenant,
            config,
            &key,
            value.as_deref()
        ))
    }

    async fn reset_task_state(&self, tenant: TenantId, config: ConfigId) -> StoreResult<u64> {
        write!(self, [], |tx| task_state::reset_state(tx, tenant, config))
    }
}
