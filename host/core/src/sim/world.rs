//! What survives a crash, and hosts that do not.

use super::clock::SimClock;
use super::faults::{FaultPlan, FaultyStore};
use super::runner::{Diary, SimRunner};
use crate::clock::Clock;
use crate::config_cache::{ConfigCache, Overrides, freeze};
use crate::executor::{Executor, ExecutorSettings, Parts};
use crate::observe::Silent;
use crate::registry::Registry;
use crate::scheduler::{Scheduler, new_task_id};
use crate::store::memory::MemoryStore;
use crate::store::{CancelReceipt, EnqueueReceipt, FinishVersion, Store, StoreError};
use crate::wake::Wakes;
use horarium_model::descriptor::Descriptor;
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, TaskId, TaskSpec, Timestamp, Trigger};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What one history is made of.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Makes everything repeatable.
    pub seed: u64,
    /// Slots of the host.
    pub slots: u32,
    /// The longest a guest takes.
    pub longest: Duration,
    /// How the store fails.
    pub faults: FaultPlan,
}

/// A store, a clock, and what guests really did; at most one host at a time runs in it.
pub struct World {
    /// The truth, without faults.
    pub store: Arc<MemoryStore>,
    /// Simulated time.
    pub clock: Arc<SimClock>,
    /// What guests did.
    pub diary: Arc<Mutex<Diary>>,
    /// When it began.
    pub begun: Timestamp,
    scenario: Scenario,
    lives: u64,
    host: Option<Host>,
}

struct Host {
    dead: CancellationToken,
    shutdown: CancellationToken,
    wakes: Arc<Wakes>,
    registry: Arc<Registry>,
    configs: Arc<ConfigCache>,
    loops: Vec<JoinHandle<()>>,
}

/// The one task type of the simulator.
const TYPE: &str = "sim";

impl World {
    /// A world with one registered plugin and no host. Must be called in a runtime with paused time.
    ///
    /// # Errors
    /// The store's.
    pub async fn new(scenario: Scenario, begun: Timestamp) -> Result<Self, StoreError> {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(SimClock::new(begun));
        register(&store, begun).await?;
        Ok(Self {
            store,
            clock,
            diary: Arc::default(),
            begun,
            scenario,
            lives: 0,
            host: None,
        })
    }

    /// Creates a config from its JSON form (its `task_type` is filled in).
    ///
    /// # Errors
    /// What the config or the store refuses.
    pub async fn create(&self, mut spec: Value) -> Result<ConfigId, StoreError> {
        use crate::store::Catalog;
        spec["task_type"] = TYPE.into();
        let now = self.clock.now();
        let spec = TaskSpec::from_json(&spec, now, None)?;
        let config = self
            .store
            .create_config(now, DEFAULT_TENANT_ID, spec)
            .await?;
        if let Some(host) = &self.host {
            host.wakes.rescheduled();
        }
        Ok(config.id)
    }

    /// Starts a host process.
    ///
    /// # Errors
    /// The store's, injected ones left out: a real process would be started again.
    pub async fn start(&mut self) -> Result<(), StoreError> {
        self.lives += 1;
        let seed = self.scenario.seed.wrapping_mul(31).wrapping_add(self.lives);
        let store: Arc<dyn Store> = Arc::new(FaultyStore::new(
            self.store.clone(),
            self.scenario.faults,
            seed,
        ));
        let (dead, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let runner = SimRunner::new(
            self.scenario.seed,
            self.scenario.longest,
            dead.clone(),
            self.diary.clone(),
        );
        let registry = Arc::new(Registry::new(store.clone(), Arc::new(runner)));
        let wakes = Arc::new(Wakes::default());
        registry.refresh().await?;
        registry.prepare_missing(&wakes).await;
        let parts = Parts {
            store: store.clone(),
            registry: registry.clone(),
            configs: Arc::new(ConfigCache::new(store)),
            clock: self.clock.clone(),
            wakes,
            observer: Arc::new(Silent),
        };
        let settings = ExecutorSettings {
            slots: self.scenario.slots,
            host_name: "sim".into(),
            version: "0".into(),
            memory_bytes: 0,
            grace: Duration::from_secs(30),
            limits: LimitOverrides::default(),
            guests: tokio::runtime::Handle::current(),
        };
        let executor = loop {
            match Executor::start(parts.clone(), settings.clone()).await {
                Ok(executor) => break executor,
                Err(StoreError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
        };
        let scheduler = scheduler(&parts);
        let (token, wakes, configs) =
            (shutdown.clone(), parts.wakes.clone(), parts.configs.clone());
        let loops = vec![
            tokio::spawn(async move { scheduler.run(token).await }),
            tokio::spawn(executor.run(shutdown.clone())),
        ];
        self.host = Some(Host {
            dead,
            shutdown,
            wakes,
            registry,
            configs,
            loops,
        });
        Ok(())
    }

    /// Kills the host between two instructions: nothing it was doing goes on.
    pub async fn kill(&mut self) {
        if let Some(host) = self.host.take() {
            host.dead.cancel();
            for handle in host.loops {
                handle.abort();
                let _ = handle.await;
            }
        }
    }

    /// Stops the host as SIGTERM does, and waits for it.
    pub async fn stop(&mut self) {
        if let Some(host) = self.host.take() {
            host.shutdown.cancel();
            for handle in host.loops {
                let _ = handle.await;
            }
            host.dead.cancel();
        }
    }

    /// Lets simulated time pass.
    pub async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// A person's trigger, through the host. False when there is no host or the store failed.
    pub async fn trigger(&self, config: ConfigId) -> Option<TaskId> {
        use crate::store::{Catalog, Queue};
        let host = self.host.as_ref()?;
        let version = self
            .store
            .config(DEFAULT_TENANT_ID, config)
            .await
            .ok()??
            .version;
        let compiled = host.configs.get(config, version).await.ok()??;
        let now = self.clock.now();
        let task_id = new_task_id(now);
        let new = freeze(
            &compiled,
            &host.registry,
            task_id,
            Trigger::Manual,
            now,
            Overrides::default(),
        )
        .await;
        let receipts = self.store.enqueue_many(now, vec![new]).await.ok()?;
        host.wakes.enqueued();
        matches!(receipts.first(), Some(EnqueueReceipt::Enqueued { .. })).then_some(task_id)
    }

    /// Cancels an execution.
    pub async fn cancel(&self, task_id: TaskId) {
        use crate::store::Queue;
        let receipt = self
            .store
            .cancel(self.clock.now(), DEFAULT_TENANT_ID, task_id)
            .await;
        if let (Ok(CancelReceipt::Requested), Some(host)) = (receipt, &self.host) {
            host.wakes.cancelled(task_id);
        }
    }
}

fn scheduler(parts: &Parts) -> Scheduler {
    Scheduler {
        store: parts.store.clone(),
        registry: parts.registry.clone(),
        configs: parts.configs.clone(),
        clock: parts.clock.clone(),
        wakes: parts.wakes.clone(),
        observer: parts.observer.clone(),
    }
}

async fn register(store: &MemoryStore, now: Timestamp) -> Result<(), StoreError> {
    use crate::store::Catalog;
    let digest = horarium_model::task_type::digest(b"sim");
    let version = PluginVersion {
        tenant_id: DEFAULT_TENANT_ID,
        task_type: TYPE.into(),
        digest: digest.clone(),
        state: VersionState::Compiling,
        error: None,
        size_bytes: 3,
        descriptor: Descriptor::default(),
        grants: Vec::new(),
        limits: LimitOverrides::default(),
        activate: true,
        grant_asked: false,
        warnings: Vec::new(),
        created_at: now,
    };
    store.add_version(now, version, b"sim".to_vec()).await?;
    let ready = FinishVersion::Ready {
        descriptor: Box::default(),
        warnings: Vec::new(),
        activate: true,
    };
    store
        .finish_version(now, DEFAULT_TENANT_ID, TYPE, &digest, ready)
        .await?;
    Ok(())
}
