//! One host process of the simulator.

use super::clock::{HostClock, SimClock};
use super::faults::{FaultPlan, FaultyStore};
use super::gate::Gate;
use super::rules::Rules;
use super::runner::{Diary, SimRunner};
use crate::config_cache::ConfigCache;
use crate::executor::{Executor, ExecutorSettings, Parts};
use crate::memory::MemoryBudget;
use crate::observe::Silent;
use crate::registry::Registry;
use crate::scheduler::Scheduler;
use crate::store::{Store, StoreError};
use crate::wake::Wakes;
use horarium_model::limits::LimitOverrides;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a host process is made of.
pub(super) struct Birth {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<SimClock>,
    pub(super) diary: Arc<Mutex<Diary>>,
    pub(super) rules: Arc<Mutex<Rules>>,
    /// Number of this process, of all that ever were.
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) slots: u32,
    pub(super) longest: Duration,
    pub(super) checking: Duration,
    pub(super) faults: FaultPlan,
    /// How wrong its wall clock is.
    pub(super) ahead: chrono::Duration,
}

/// A host process.
pub(super) struct Host {
    pub(super) number: u64,
    pub(super) gate: Arc<Gate>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) registry: Arc<Registry>,
    pub(super) configs: Arc<ConfigCache>,
    dead: CancellationToken,
    shutdown: CancellationToken,
    loops: Vec<JoinHandle<()>>,
}

impl Host {
    /// Starts one. Injected failures of the store are tried again, as a supervisor would.
    pub(super) async fn start(birth: Birth) -> Result<Self, StoreError> {
        let gate = Arc::new(Gate::default());
        let seed = birth.seed.wrapping_mul(31).wrapping_add(birth.number);
        let store: Arc<dyn Store> = Arc::new(FaultyStore::new(
            birth.store,
            birth.faults,
            gate.clone(),
            seed,
        ));
        let (dead, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let runner = SimRunner {
            seed: birth.seed,
            longest: birth.longest,
            checking: birth.checking,
            dead: dead.clone(),
            host: birth.number,
            gate: gate.clone(),
            diary: birth.diary,
            rules: birth.rules,
            clock: birth.clock.clone(),
        };
        let registry = Arc::new(Registry::new(store.clone(), Arc::new(runner)));
        let wakes = Arc::new(Wakes::default());
        registry.refresh().await?;
        registry.prepare_missing(&wakes).await;
        let parts = Parts {
            store: store.clone(),
            registry: registry.clone(),
            configs: Arc::new(ConfigCache::new(store)),
            clock: Arc::new(HostClock::new(birth.clock, birth.ahead, gate.clone())),
            wakes,
            observer: Arc::new(Silent),
            keyring: Arc::default(),
        };
        let settings = ExecutorSettings {
            alerts: None,
            trace_sample: None,
            slots: birth.slots,
            host_name: format!("sim {}", birth.number),
            version: "0".into(),
            memory: MemoryBudget::new(u64::MAX),
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
        let scheduler = Scheduler::from(parts.clone());
        let token = shutdown.clone();
        let loops = vec![
            tokio::spawn(async move { scheduler.run(token).await }),
            tokio::spawn(executor.run(shutdown.clone())),
        ];
        Ok(Self {
            number: birth.number,
            gate,
            wakes: parts.wakes,
            registry,
            configs: parts.configs,
            dead,
            shutdown,
            loops,
        })
    }

    /// Kills it between two instructions: nothing it was doing goes on.
    pub(super) async fn kill(self) {
        // What it spawned and nobody awaits stands still for ever too.
        self.gate.freeze(true);
        self.dead.cancel();
        for handle in self.loops {
            handle.abort();
            let _ = handle.await;
        }
    }

    /// Stops it as SIGTERM does, and waits for it.
    pub(super) async fn stop(self) {
        self.gate.freeze(false);
        self.gate.cut(false);
        self.shutdown.cancel();
        for handle in self.loops {
            let _ = handle.await;
        }
        self.dead.cancel();
    }
}
