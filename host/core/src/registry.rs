//! Which plugin versions may run here: the host's own view of the registered task types, reread when
//! the catalog changes, with every version that could run prepared.

use crate::clock::Clock;
use crate::runner::{ComponentSource, Runner};
use crate::store::{Store, StoreResult};
use crate::wake::Wakes;
use arc_swap::ArcSwap;
use futures_util::StreamExt;
use horarium_model::TenantId;
use horarium_model::task_type::{PluginVersion, TaskType, VersionState};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Versions prepared at once; the runner has bounds of its own on what it compiles.
const PREPARED_AT_ONCE: usize = 8;
/// Until a version that could not be loaded is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// The registry of one host. Cheap to read on every claim.
pub struct Registry {
    store: Arc<dyn Store>,
    runner: Arc<dyn Runner>,
    view: ArcSwap<View>,
    /// Digests that could be loaded here. Held while a view is published, so that none gets lost.
    prepared: Mutex<HashSet<String>>,
    /// One reader of the catalog at a time, so that an older answer never replaces a newer one.
    reading: tokio::sync::Mutex<()>,
    /// The catalog's epoch when it was last read.
    epoch: AtomicI64,
    changed: Notify,
}

#[derive(Default)]
struct View {
    types: Arc<HashMap<TypeKey, TypeView>>,
    versions: Arc<HashMap<(TypeKey, String), Arc<PluginVersion>>>,
    claimable: Arc<[TypeKey]>,
    /// The versions behind `claimable`, in the same order.
    claimable_versions: Arc<[Arc<PluginVersion>]>,
}

type TypeKey = (TenantId, String);

struct TypeView {
    row: TaskType,
    active: Option<Arc<PluginVersion>>,
    /// Whether an operator set anything for it.
    is_configured: bool,
}

impl Registry {
    /// An empty registry; [`Registry::refresh`] fills it.
    pub fn new(store: Arc<dyn Store>, runner: Arc<dyn Runner>) -> Self {
        Self {
            store,
            runner,
            view: ArcSwap::default(),
            prepared: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            epoch: AtomicI64::new(-1),
            changed: Notify::new(),
        }
    }

    /// Rereads types and versions. Versions not loaded here yet are left to [`Registry::run`]; their types
    /// are not claimed until then.
    ///
    /// # Errors
    /// When the store cannot be read; the old view stays.
    pub async fn refresh(&self) -> StoreResult<()> {
        let _one_at_a_time = self.reading.lock().await;
        // Before the rest: what changes meanwhile is read again.
        let epoch = self.store.catalog_epoch().await?;
        let rows = self.store.all_task_types().await?;
        let mut versions = HashMap::new();
        for version in self.store.all_versions().await? {
            if version.state == VersionState::Ready {
                let key = (version.tenant_id, version.task_type.clone());
                versions.insert((key, version.digest.clone()), Arc::new(version));
            }
        }
        let configured = self.store.configured_types().await?;
        let configured: HashSet<TypeKey> = configured.into_iter().collect();
        let mut types = HashMap::with_capacity(rows.len());
        for row in rows {
            let key = (row.tenant_id, row.task_type.clone());
            let active = row.active_digest.as_ref();
            let active =
                active.and_then(|digest| versions.get(&(key.clone(), digest.clone())).cloned());
            let is_configured = configured.contains(&key);
            let view = TypeView {
                row,
                active,
                is_configured,
            };
            types.insert(key, view);
        }
        let prepared = self.prepared();
        self.publish(Arc::new(types), Arc::new(versions), &prepared);
        drop(prepared);
        self.epoch.store(epoch, Ordering::Relaxed);
        self.changed.notify_one();
        Ok(())
    }

    /// Rereads types and versions if the catalog changed since they were read: cheap when it did not.
    ///
    /// # Errors
    /// As [`Registry::refresh`].
    pub async fn catch_up(&self) -> StoreResult<()> {
        if self.store.catalog_epoch().await? == self.epoch.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.refresh().await
    }

    /// Shows a catalog with what of it may be claimed here.
    fn publish(
        &self,
        types: Arc<HashMap<TypeKey, TypeView>>,
        versions: Arc<HashMap<(TypeKey, String), Arc<PluginVersion>>>,
        prepared: &HashSet<String>,
    ) {
        let loaded = |view: &TypeView| {
            let active = view.active.as_ref();
            !view.row.disabled && active.is_some_and(|v| prepared.contains(&v.digest))
        };
        let mut claimable: Vec<TypeKey> = types
            .iter()
            .filter(|(_, view)| loaded(view))
            .map(|(key, _)| key.clone())
            .collect();
        claimable.sort_unstable();
        let active = claimable
            .iter()
            .filter_map(|key| types.get(key)?.active.clone());
        let claimable_versions = active.collect();
        self.view.store(Arc::new(View {
            types,
            versions,
            claimable: claimable.into(),
            claimable_versions,
        }));
    }

    fn prepared(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads what the catalog names and is not loaded yet, as it changes, until `shutdown`.
    pub async fn run(&self, wakes: &Wakes, clock: &dyn Clock, shutdown: CancellationToken) {
        loop {
            let all_there = tokio::select! {
                () = shutdown.cancelled() => return,
                all_there = self.prepare_missing(wakes) => all_there,
            };
            let again = if all_there { Duration::MAX } else { TRY_AGAIN };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
                () = clock.sleep(again) => {}
            }
        }
    }

    /// Loads the active versions that are not loaded yet; false when one could not be. A type is claimed as
    /// soon as its version is there.
    pub async fn prepare_missing(&self, wakes: &Wakes) -> bool {
        let missing: Vec<Arc<PluginVersion>> = {
            let (view, prepared) = (self.view.load(), self.prepared());
            let active = view.types.values().filter(|t| !t.row.disabled);
            let active = active.filter_map(|t| t.active.clone());
            active.filter(|v| !prepared.contains(&v.digest)).collect()
        };
        let loads = missing.into_iter().map(|version| async move {
            let loaded = self.prepare(&version).await;
            if loaded {
                wakes.enqueued();
            }
            loaded
        });
        let loads = futures_util::stream::iter(loads).buffer_unordered(PREPARED_AT_ONCE);
        let fold = |all: bool, one: bool| std::future::ready(all && one);
        loads.fold(true, fold).await
    }

    /// Makes a version runnable here; false (and a log line) when it cannot be.
    async fn prepare(&self, version: &PluginVersion) -> bool {
        let source = self.source(&version.digest);
        if let Err(error) = self.runner.prepare(version, source).await {
            tracing::error!(
                task_type = version.task_type,
                digest = version.digest,
                error,
                "cannot load a plugin; its executions wait for another host, or for the next try"
            );
            return false;
        }
        let mut prepared = self.prepared();
        prepared.insert(version.digest.clone());
        let view = self.view.load_full();
        self.publish(view.types.clone(), view.versions.clone(), &prepared);
        true
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

    /// Whether an operator set anything for a type: what it is stands in the store alone.
    pub fn is_configured(&self, tenant: TenantId, name: &str) -> bool {
        self.view
            .load()
            .types
            .get(&(tenant, name.to_owned()))
            .is_some_and(|t| t.is_configured)
    }

    /// The types whose active version was granted a secret.
    pub fn granted_secret(&self, tenant: TenantId, secret: &str) -> Vec<String> {
        let view = self.view.load();
        let uses =
            |version: &PluginVersion| version.grants.iter().any(|g| g.secret() == Some(secret));
        let mut names: Vec<String> = view
            .types
            .iter()
            .filter(|((t, _), view)| *t == tenant && view.active.as_deref().is_some_and(uses))
            .map(|((_, name), _)| name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// The types this host may claim: enabled, with an active version that could be loaded.
    pub fn claimable(&self) -> Arc<[TypeKey]> {
        self.view.load().claimable.clone()
    }

    /// The types that some host may claim: enabled, with an active version.
    pub fn enabled(&self) -> Vec<TypeKey> {
        let view = self.view.load();
        let enabled = |view: &TypeView| !view.row.disabled && view.active.is_some();
        let types = view.types.iter().filter(|(_, view)| enabled(view));
        types.map(|(key, _)| key.clone()).collect()
    }

    /// The versions that run of the types this host may claim.
    pub fn claimable_versions(&self) -> Arc<[Arc<PluginVersion>]> {
        self.view.load().claimable_versions.clone()
    }

    /// The runner that was given.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }
}
