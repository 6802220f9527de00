//! Configs as scheduler, executor and triggers need them: compiled, and cached by version. The store is asked
//! only when the version it just named is not the cached one, so a cache is never stale; and what is made from one
//! that it did not just name says from which version, for the store to compare.

use crate::registry::Registry;
use crate::store::{NewExecution, RateBound, Store, StoreResult};
use horarium_model::chain;
use horarium_model::firing::Timetable;
use horarium_model::task_type::PluginVersion;
use horarium_model::{ConfigId, TaskConfig, TaskId, TenantId, Timestamp, Trigger};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries kept before the cache starts anew; a host touches far fewer configs between two changes.
const CAPACITY: usize = 200_000;

/// A config with what follows from it.
#[derive(Debug)]
pub struct CompiledConfig {
    /// The config.
    pub config: TaskConfig,
    /// Its schedule, ready to be asked; none when its expression no longer compiles.
    pub timetable: Option<Timetable>,
    frozen: Mutex<Option<Frozen>>,
}

impl CompiledConfig {
    /// Compiles a config.
    pub fn new(config: TaskConfig) -> Self {
        let timetable = match Timetable::new(&config.spec.schedule, config.id) {
            Ok(timetable) => Some(timetable),
            Err(error) => {
                tracing::error!(config_id = config.id, %error, "a saved schedule no longer compiles; it does not fire");
                None
            }
        };
        Self {
            config,
            timetable,
            frozen: Mutex::new(None),
        }
    }

    /// Prepares what firing needs, ahead of time.
    pub async fn warm(&self, registry: &Registry) {
        let version = self.version(registry);
        self.frozen_parameters(registry, version.as_deref()).await;
    }

    /// Whether its parameters are frozen for the version that would run, so that firing waits for no schema.
    pub fn is_frozen(&self, registry: &Registry) -> bool {
        let version = self.version(registry);
        let digest = version.as_ref().map(|version| &version.digest);
        let frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        frozen
            .as_ref()
            .is_some_and(|frozen| frozen.digest.as_ref() == digest)
    }

    /// The version that would run.
    fn version(&self, registry: &Registry) -> Option<Arc<PluginVersion>> {
        let (tenant, spec) = (self.config.tenant_id, &self.config.spec);
        registry.chosen(tenant, &spec.task_type, spec.plugin_version.as_deref())
    }

    /// The config's parameters as an execution freezes them: with the defaults of the version's schema.
    /// Parameters that no longer fit are frozen as they are; the attempt then ends `invalid_parameters`.
    /// Returns them and whether they fit.
    pub(crate) async fn frozen_parameters(
        &self,
        registry: &Registry,
        version: Option<&PluginVersion>,
    ) -> (Arc<str>, bool) {
        let digest = version.map(|v| v.digest.clone());
        if let Some(frozen) = &*self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
            && frozen.digest == digest
        {
            return (frozen.text.clone(), frozen.fits);
        }
        let raw = Value::Object(self.config.spec.parameters.clone());
        let checked = match version {
            Some(version) => {
                registry
                    .runner()
                    .check_parameters(version, raw.clone())
                    .await
            }
            None => Ok(raw.clone()),
        };
        let fits = checked.is_ok();
        let text: Arc<str> = checked.unwrap_or(raw).to_string().into();
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        *frozen = Some(Frozen {
            digest,
            text: text.clone(),
            fits,
        });
        (text, fits)
    }
}

/// Parameters with the defaults of one version's schema.
#[derive(Debug)]
struct Frozen {
    digest: Option<String>,
    text: Arc<str>,
    /// Whether they fit the schema; if not they are frozen as they are.
    fits: bool,
}

/// What a trigger may replace of a config.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Other parameters, already checked and with defaults.
    pub parameters: Option<Arc<str>>,
    /// Another priority.
    pub priority: Option<i32>,
    /// Due then instead of now.
    pub due_at: Option<Timestamp>,
    /// Refuse when an execution of the config lives (rule S8).
    pub refuse_if_live: bool,
}

/// Freezes a config into an execution due at `now` (rule E1).
pub async fn freeze(
    compiled: &CompiledConfig,
    registry: &Registry,
    task_id: TaskId,
    trigger: Trigger,
    now: Timestamp,
    overrides: Overrides,
) -> NewExecution {
    let config = &compiled.config;
    let version = compiled.version(registry);
    let parameters = match &overrides.parameters {
        Some(parameters) => parameters.clone(),
        None => {
            compiled
                .frozen_parameters(registry, version.as_deref())
                .await
                .0
        }
    };
    let uses_state = version.is_some_and(|version| version.uses_state());
    let overrides = Overrides {
        parameters: Some(parameters),
        ..overrides
    };
    new_execution(config, uses_state, task_id, trigger, now, overrides)
}

/// An execution of a config, with parameters as they are: nobody looked at the plugin's schema.
pub fn new_execution(
    config: &TaskConfig,
    uses_state: bool,
    task_id: TaskId,
    trigger: Trigger,
    now: Timestamp,
    overrides: Overrides,
) -> NewExecution {
    let spec = &config.spec;
    let parameters = overrides
        .parameters
        .unwrap_or_else(|| Value::Object(spec.parameters.clone()).to_string().into());
    let bounds = Bounds::new(config, uses_state, &parameters);
    let due_at = overrides.due_at.unwrap_or(now);
    NewExecution {
        config_id: Some(config.id),
        trigger,
        priority: overrides.priority.unwrap_or(spec.priority),
        max_attempts: spec.max_retries + 1,
        parameters,
        expires_at: spec
            .expires_after_seconds
            .and_then(|s| i64::try_from(s).ok())
            .map(|s| due_at + chrono::Duration::seconds(s)),
        run_key: bounds.run_key,
        run_max: bounds.run_max,
        rate: bounds.rate,
        backlog: spec.concurrency.as_ref().and_then(|c| c.backlog),
        refuse_if_live: overrides.refuse_if_live,
        chain: chain::to_text(&spec.chain).map(Arc::from),
        trace: crate::trace::current(),
        ..NewExecution::plain(task_id, config.tenant_id, &spec.task_type, due_at)
    }
}

/// What bounds the executions of a config (rule E3).
struct Bounds {
    run_key: Option<String>,
    run_max: u32,
    rate: Option<RateBound>,
}

impl Bounds {
    /// One at a time where the overlap rule or the plugin's state demands it (S6, design section 4), else
    /// `concurrency`; the rate in any case.
    fn new(config: &TaskConfig, uses_state: bool, parameters: &str) -> Self {
        let spec = &config.spec;
        let whole = || format!("config:{}", config.id);
        let concurrency = spec.concurrency.as_ref();
        let key = || match concurrency.and_then(|c| c.key.as_deref()) {
            None | Some("") => whole(),
            Some(pointer) => {
                let document: Value = serde_json::from_str(parameters).unwrap_or_default();
                let value = document.pointer(pointer).cloned().unwrap_or_default();
                // Hashed: a key has a fixed size whatever the value.
                let hash = blake3::hash(value.to_string().as_bytes()).to_hex();
                format!("key:{}:{hash}", config.id)
            }
        };
        let alone = spec.runs_alone(uses_state);
        let (run_key, run_max) = match concurrency.and_then(|c| c.max) {
            _ if alone => (Some(whole()), 1),
            Some(max) => (Some(key()), max),
            None => (None, 0),
        };
        let rate = concurrency.and_then(|c| c.rate);
        Self {
            run_key,
            run_max,
            rate: rate.map(|rate| RateBound::of(&key(), rate)),
        }
    }
}

/// The cache of one host.
pub struct ConfigCache {
    store: Arc<dyn Store>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<ConfigId, Arc<CompiledConfig>>,
    by_key: HashMap<(TenantId, String), ConfigId>,
}

impl Entries {
    fn clear(&mut self) {
        self.by_id.clear();
        self.by_key.clear();
    }

    fn insert(&mut self, config: TaskConfig) -> Arc<CompiledConfig> {
        if self.by_id.len().max(self.by_key.len()) >= CAPACITY {
            self.clear();
        }
        if let Some(key) = &config.spec.key {
            self.by_key
                .insert((config.tenant_id, key.clone()), config.id);
        }
        let entry = Arc::new(CompiledConfig::new(config));
        self.by_id.insert(entry.config.id, entry.clone());
        entry
    }
}

impl ConfigCache {
    /// An empty cache.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            entries: Mutex::default(),
        }
    }

    /// Reads everything anew from now on.
    pub fn forget(&self) {
        self.entries().clear();
    }

    /// The config with this id, as it was when it was last seen.
    pub fn remembered(&self, tenant: TenantId, id: ConfigId) -> Option<Arc<CompiledConfig>> {
        let entry = self.entries().by_id.get(&id)?.clone();
        (entry.config.tenant_id == tenant).then_some(entry)
    }

    /// The config with this key, as it was when it was last seen.
    pub fn remembered_by_key(&self, tenant: TenantId, key: &str) -> Option<Arc<CompiledConfig>> {
        let id = *self.entries().by_key.get(&(tenant, key.to_owned()))?;
        let entry = self.remembered(tenant, id)?;
        (entry.config.spec.key.as_deref() == Some(key)).then_some(entry)
    }

    /// Keeps a config that was just read; what is prepared of it stays.
    pub fn keep(&self, config: TaskConfig) -> Arc<CompiledConfig> {
        let mut entries = self.entries();
        match entries.by_id.get(&config.id) {
            Some(entry)
                if (entry.config.version, entry.config.updated_at)
                    == (config.version, config.updated_at) =>
            {
                entry.clone()
            }
            _ => entries.insert(config),
        }
    }

    /// Forgets a config that is no more as it was.
    pub fn drop_entry(&self, id: ConfigId) {
        self.entries().by_id.remove(&id);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the configs that exist, in the version named or a newer one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get_many(
        &self,
        wanted: &[(ConfigId, i64)],
    ) -> StoreResult<HashMap<ConfigId, Arc<CompiledConfig>>> {
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing = Vec::new();
        {
            let entries = self.entries();
            for (id, version) in wanted {
                match entries.by_id.get(id) {
                    Some(entry) if entry.config.version >= *version => {
                        found.insert(*id, entry.clone());
                    }
                    _ => missing.push(*id),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        missing.sort_unstable();
        missing.dedup();
        let read = self.store.configs_by_ids(&missing).await?;
        let mut entries = self.entries();
        for config in read {
            let entry = entries.insert(config);
            found.insert(entry.config.id, entry);
        }
        Ok(found)
    }

    /// One config, in the version named or a newer one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(
        &self,
        id: ConfigId,
        version: i64,
    ) -> StoreResult<Option<Arc<CompiledConfig>>> {
        Ok(self.get_many(&[(id, version)]).await?.remove(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Catalog, ConfigUpdate, HistoryOnDelete};
    use horarium_model::{DEFAULT_TENANT_ID, TaskSpec};
    use serde_json::json;

    fn spec(name: &str) -> TaskSpec {
        let body = json!({"name": name, "task_type": "t", "scheduler_type": "manual"});
        TaskSpec::from_json(&body, Timestamp::UNIX_EPOCH, None).expect("a spec")
    }

    /// The freshness rule: whoever asks names the version it saw, and never gets an older one.
    #[tokio::test]
    async fn the_cache_never_answers_with_less_than_was_asked_for() {
        let (now, tenant) = (Timestamp::UNIX_EPOCH, DEFAULT_TENANT_ID);
        let store = Arc::new(MemoryStore::new());
        let cache = ConfigCache::new(store.clone());
        let created = store.create_config(now, tenant, spec("one")).await;
        let id = created.expect("created").id;
        let name = async |version: i64| {
            let found = cache.get(id, version).await.expect("the store answers");
            found.map(|entry| entry.config.spec.name.clone())
        };
        assert_eq!(name(1).await.as_deref(), Some("one"));
        let update = ConfigUpdate {
            expected_version: 1,
            spec: spec("two"),
            reanchor: None,
        };
        let updated = store.update_config(now, tenant, id, update).await;
        assert_eq!(updated.expect("updated").version, 2);
        // Who saw version 1 may still have it; who saw 2 gets it, and from then on everybody.
        assert_eq!(name(1).await.as_deref(), Some("one"));
        assert_eq!(name(2).await.as_deref(), Some("two"));
        assert_eq!(name(1).await.as_deref(), Some("two"));
        let deleted = store.delete_config(now, tenant, id, HistoryOnDelete::Keep);
        deleted.await.expect("deleted");
        assert_eq!(name(3).await, None);
        assert!(
            cache
                .get(4711, 1)
                .await
                .expect("the store answers")
                .is_none()
        );
    }
}
