//! Which plugin versions may run here: the host's own view of the registered task types, reread when
//! the catalog changes, with every version that could run prepared.

use crate::clock::Clock;
use crate::runner::{ComponentSource, Runner};
use crate::store::{Store, StoreResult, every_tenant};
use crate::wake::Wakes;
use arc_swap::ArcSwap;
use futures_util::StreamExt;
use horarium_model::task_type::{PluginVersion, TaskType, VersionState};
use horarium_model::{HOST_TENANT_ID, TenantId};
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
    /// Of how many views this is the last.
    revision: u64,
    catalog: Arc<Known>,
    claimable: Claimable,
}

/// What the catalog holds.
#[derive(Default)]
struct Known {
    /// By owner and name.
    types: HashMap<TypeKey, TypeView>,
    versions: HashMap<(TypeKey, String), Arc<PluginVersion>>,
    /// Whose executions may be of a shared type.
    tenants: Vec<TenantId>,
}

/// A tenant and a name.
type TypeKey = (TenantId, String);

/// What a host may claim: enabled types with an active version that could be loaded. A shared type is there once for
/// each tenant.
#[derive(Clone, Default)]
pub struct Claimable {
    /// Tenants and types.
    pub types: Arc<[(TenantId, String)]>,
    /// The versions that run of them, in the same order.
    pub versions: Arc<[Arc<PluginVersion>]>,
}

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
        let tenants = match types.keys().any(|(owner, _)| *owner == HOST_TENANT_ID) {
            true => every_tenant(&*self.store).await?,
            false => Vec::new(),
        };
        let catalog = Known {
            types,
            versions,
            tenants: tenants.into_iter().map(|tenant| tenant.id).collect(),
        };
        let prepared = self.prepared();
        self.publish(Arc::new(catalog), &prepared);
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
    fn publish(&self, catalog: Arc<Known>, prepared: &HashSet<String>) {
        let loaded = |version: &PluginVersion| prepared.contains(&version.digest);
        let mut claimable: Vec<(TypeKey, Arc<PluginVersion>)> = catalog.running(loaded).collect();
        claimable.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let (types, versions): (Vec<_>, Vec<_>) = claimable.into_iter().unzip();
        self.view.store(Arc::new(View {
            // Only who holds what is prepared publishes.
            revision: self.revision() + 1,
            catalog,
            claimable: Claimable {
                types: types.into(),
                versions: versions.into(),
            },
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
            let active = view.catalog.types.values().filter(|t| !t.row.disabled);
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
        self.publish(view.catalog.clone(), &prepared);
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

    /// A registered type: the tenant's own, or one that the host shares.
    pub fn task_type(&self, tenant: TenantId, name: &str) -> Option<TaskType> {
        let view = self.view.load();
        view.catalog.of(tenant, name).map(|t| t.row.clone())
    }

    /// The names that a tenant may use, for hints.
    pub fn names(&self, tenant: TenantId) -> Vec<String> {
        let view = self.view.load();
        let seen = view.catalog.seen_by(tenant);
        seen.map(|(name, _)| name.to_owned()).collect()
    }

    /// The version of a type that runs now.
    pub fn active(&self, tenant: TenantId, name: &str) -> Option<Arc<PluginVersion>> {
        self.view.load().catalog.of(tenant, name)?.active.clone()
    }

    /// A ready version by its digest.
    pub fn version(
        &self,
        tenant: TenantId,
        name: &str,
        digest: &str,
    ) -> Option<Arc<PluginVersion>> {
        let view = self.view.load();
        let owner = view.catalog.of(tenant, name)?.row.tenant_id;
        let key = ((owner, name.to_owned()), digest.to_owned());
        view.catalog.versions.get(&key).cloned()
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

    /// Which view this is: while it stays the same, so does every other answer.
    pub fn revision(&self) -> u64 {
        self.view.load().revision
    }

    /// Whether a type is held.
    pub fn is_disabled(&self, tenant: TenantId, name: &str) -> bool {
        let view = self.view.load();
        view.catalog
            .of(tenant, name)
            .is_some_and(|t| t.row.disabled)
    }

    /// Whether an operator set anything for a type: what it is stands in the store alone.
    pub fn is_configured(&self, tenant: TenantId, name: &str) -> bool {
        let view = self.view.load();
        view.catalog
            .of(tenant, name)
            .is_some_and(|t| t.is_configured)
    }

    /// The types whose active version was granted a secret.
    pub fn granted_secret(&self, tenant: TenantId, secret: &str) -> Vec<String> {
        let view = self.view.load();
        let uses =
            |version: &PluginVersion| version.grants.iter().any(|g| g.secret() == Some(secret));
        let seen = view.catalog.seen_by(tenant);
        let mut names: Vec<String> = seen
            .filter(|(_, view)| view.active.as_deref().is_some_and(uses))
            .map(|(name, _)| name.to_owned())
            .collect();
        names.sort_unstable();
        names
    }

    /// What this host may claim.
    pub fn claimable(&self) -> Claimable {
        self.view.load().claimable.clone()
    }

    /// Whose executions of which types some host may claim: enabled, with an active version.
    pub fn enabled(&self) -> Vec<TypeKey> {
        let view = self.view.load();
        view.catalog.running(|_| true).map(|(key, _)| key).collect()
    }

    /// The runner that was given.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }
}

impl Known {
    /// A type by its name, which is the tenant's own or one of the host's, never both.
    fn of(&self, tenant: TenantId, name: &str) -> Option<&TypeView> {
        let own = self.types.get(&(tenant, name.to_owned()));
        own.or_else(|| self.types.get(&(HOST_TENANT_ID, name.to_owned())))
    }

    /// The types that a tenant may use, in no order.
    fn seen_by(&self, tenant: TenantId) -> impl Iterator<Item = (&str, &TypeView)> {
        let types = self.types.iter();
        types
            .filter(move |((owner, _), _)| [tenant, HOST_TENANT_ID].contains(owner))
            .map(|((_, name), view)| (name.as_str(), view))
    }

    /// The enabled types with the versions that run of them, in no order: a shared type once for each tenant.
    fn running(
        &self,
        wanted: impl Fn(&PluginVersion) -> bool,
    ) -> impl Iterator<Item = (TypeKey, Arc<PluginVersion>)> {
        let enabled = self.types.iter().filter(|(_, view)| !view.row.disabled);
        let active = enabled.filter_map(|(key, view)| Some((key, view.active.as_ref()?)));
        let wanted = active.filter(move |(_, version)| wanted(version));
        wanted.flat_map(|((owner, name), version)| {
            let whose = match *owner {
                HOST_TENANT_ID => &self.tenants[..],
                _ => std::slice::from_ref(owner),
            };
            let lane = |tenant: &TenantId| ((*tenant, name.clone()), version.clone());
            whose.iter().map(lane)
        })
    }
}
