//! Which plugin versions may run here: the host's own view of the registered task types, reread when
//! the catalog changes, with every version that could run prepared.

use crate::runner::{ComponentSource, Runner};
use crate::store::{Store, StoreResult};
use arc_swap::ArcSwap;
use horarium_model::TenantId;
use horarium_model::task_type::{PluginVersion, TaskType, VersionState};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The registry of one host. Cheap to read on every claim.
pub struct Registry {
    store: Arc<dyn Store>,
    runner: Arc<dyn Runner>,
    view: ArcSwap<View>,
    prepared: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct View {
    types: HashMap<TypeKey, TypeView>,
    versions: HashMap<(TypeKey, String), Arc<PluginVersion>>,
    claimable: Arc<[TypeKey]>,
}

type TypeKey = (TenantId, String);

struct TypeView {
    row: TaskType,
    active: Option<Arc<PluginVersion>>,
}

impl Registry {
    /// An empty registry; [`Registry::refresh`] fills it.
    pub fn new(store: Arc<dyn Store>, runner: Arc<dyn Runner>) -> Self {
        Self {
            store,
            runner,
            view: ArcSwap::default(),
            prepared: Mutex::default(),
        }
    }

    /// Rereads types and versions and prepares the versions that could run. A version that cannot be
    /// loaded is reported and its type is not claimed here.
    ///
    /// # Errors
    /// When the store cannot be read; the old view stays.
    pub async fn refresh(&self) -> StoreResult<()> {
        let types = self.store.all_task_types().await?;
        let versions = self.store.all_versions().await?;
        let mut view = View::default();
        for version in versions
            .into_iter()
            .filter(|v| v.state == VersionState::Ready)
        {
            let key = (version.tenant_id, version.task_type.clone());
            view.versions
                .insert((key, version.digest.clone()), Arc::new(version));
        }
        let mut claimable = Vec::new();
        for row in types {
            let key = (row.tenant_id, row.task_type.clone());
            let active = row
                .active_digest
                .as_ref()
                .and_then(|digest| view.versions.get(&(key.clone(), digest.clone())).cloned());
            if let Some(version) = &active
                && !row.disabled
                && self.prepare(version).await
            {
                claimable.push(key.clone());
            }
            view.types.insert(key, TypeView { row, active });
        }
        view.claimable = claimable.into();
        self.view.store(Arc::new(view));
        Ok(())
    }

    /// Makes a version runnable here; false (and a log line) when it cannot be.
    async fn prepare(&self, version: &PluginVersion) -> bool {
        let known = self
            .prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&version.digest);
        if known {
            return true;
        }
        match self
            .runner
            .prepare(version, self.source(&version.digest))
            .await
        {
            Ok(()) => {
                let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
                prepared.insert(version.digest.clone());
                true
            }
            Err(error) => {
                tracing::error!(
                    task_type = version.task_type,
                    digest = version.digest,
                    error,
                    "cannot load a plugin; its executions wait"
                );
                false
            }
        }
    }

    /// Where the bytes of a component come from.
    pub fn source(&self, digest: &str) -> ComponentSource {
        let (store, digest) = (self.store.clone(), digest.to_owned());
        Arc::new(move || {
            let (store, digest) = (store.clone(), digest.clone());
            Box::pin(async move {
                match store.component_bytes(&digest).await {
                    Ok(Some(bytes)) => Ok(bytes),
                    Ok(None) => Err(format!("the bytes of {digest} are gone")),
                    Err(error) => Err(error.to_string()),
                }
            })
        })
    }

    /// A registered type.
    pub fn task_type(&self, tenant: TenantId, name: &str) -> Option<TaskType> {
        self.view
            .load()
            .types
            .get(&(tenant, name.to_owned()))
            .map(|t| t.row.clone())
    }

    /// The names registered for a tenant, for hints.
    pub fn names(&self, tenant: TenantId) -> Vec<String> {
        self.view
            .load()
            .types
            .keys()
            .filter(|(t, _)| *t == tenant)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The version of a type that runs now.
    pub fn active(&self, tenant: TenantId, name: &str) -> Option<Arc<PluginVersion>> {
        self.view
            .load()
            .types
            .get(&(tenant, name.to_owned()))?
            .active
            .clone()
    }

    /// A ready version by its digest.
    pub fn version(
        &self,
        tenant: TenantId,
        name: &str,
        digest: &str,
    ) -> Option<Arc<PluginVersion>> {
        self.view
            .load()
            .versions
            .get(&((tenant, name.to_owned()), digest.to_owned()))
            .cloned()
    }

    /// The version a config would run: its pin, else the active one.
    pub fn chosen(
        &self,
        tenant: TenantId,
        name: &str,
        pin: Option<&str>,
    ) -> Option<Arc<PluginVersion>> {
        match pin {
            Some(digest) => self.version(tenant, name, digest),
            None => self.active(tenant, name),
        }
    }

    /// Whether a type is held.
    pub fn is_disabled(&self, tenant: TenantId, name: &str) -> bool {
        self.view
            .load()
            .types
            .get(&(tenant, name.to_owned()))
            .is_some_and(|t| t.row.disabled)
    }

    /// The types this host may claim: enabled, with an active version that could be loaded.
    pub fn claimable(&self) -> Arc<[TypeKey]> {
        self.view.load().claimable.clone()
    }

    /// The runner that was given.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }
}
