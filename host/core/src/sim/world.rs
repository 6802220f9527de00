//! What survives a crash, and hosts that do not.

use super::clock::SimClock;
use super::faults::FaultPlan;
use super::host::{Birth, Host};
use super::ledger::Ledger;
use super::mutants::{MutantStore, Mutation};
use super::rules::Rules;
use super::runner::Diary;
use super::witness::{Testimony, WitnessStore};
use crate::clock::Clock;
use crate::config_cache::{ConfigCache, Overrides, freeze};
use crate::registry::Registry;
use crate::scheduler::new_task_id;
use crate::service::{Context, Due, NoRuns, Once, Services, TaskRef, TriggerRequest};
use crate::store::conformance::{NoGuests, register};
use crate::store::memory::MemoryStore;
use crate::store::{
    CancelReceipt, Catalog, EnqueueReceipt, Queue, Store, StoreError, TenantBounds,
};
use horarium_model::task_type::TypeConcurrency;
use horarium_model::{
    ConfigId, DEFAULT_TENANT_ID, HOST_TENANT_ID, TaskConfig, TaskId, TaskSpec, TenantId, Timestamp,
    Trigger,
};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What one history is made of.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Makes everything repeatable.
    pub seed: u64,
    /// Host processes that may live at once. With several the store gives leases.
    pub hosts: usize,
    /// Slots of each host.
    pub slots: u32,
    /// The longest a guest takes.
    pub longest: Duration,
    /// How long a look at parameters takes, as with a schema that is judged in a child process.
    pub checking: Duration,
    /// Whether the host shares the plugin that all have, or each registered it.
    pub shared: bool,
    /// How the store fails.
    pub faults: FaultPlan,
    /// The rule that the store breaks, to see whether that is noticed.
    pub mutation: Option<Mutation>,
}

/// A store, a clock, what guests really did, and the hosts.
pub struct World {
    /// The truth, without faults.
    pub store: Arc<MemoryStore>,
    /// Simulated time.
    pub clock: Arc<SimClock>,
    /// What guests did.
    pub diary: Arc<Mutex<Diary>>,
    /// When it began.
    pub begun: Timestamp,
    /// Which schedules were in force when.
    pub ledger: Ledger,
    /// The bounds that were laid down.
    pub rules: Arc<Mutex<Rules>>,
    /// What was seen of the store.
    pub testimony: Arc<Mutex<Testimony>>,
    /// The store as hosts have it: a rule may be broken, and it is watched.
    way: Arc<dyn Store>,
    /// What an operator does, through no host in particular.
    services: Services,
    /// Executions that a failover lost.
    pub lost: HashSet<TaskId>,
    /// Whether there was a failover: then what ran may run again, beside itself.
    pub failed_over: bool,
    scenario: Scenario,
    lives: u64,
    hosts: Vec<Option<Host>>,
}

/// How many that wait are asked why.
const ASKED: usize = 30;

/// The task type of all that do not care.
pub const TYPE: &str = "sim";
/// A type that fails for a while, again and again.
pub(super) const SHAKY: &str = "shaky";

impl World {
    /// A world with one registered plugin and no host. Must be called in a runtime with paused time.
    ///
    /// # Errors
    /// The store's.
    pub async fn new(scenario: Scenario, begun: Timestamp) -> Result<Self, StoreError> {
        let clock = Arc::new(SimClock::new(begun));
        let store = Arc::new(match scenario.hosts {
            0 | 1 => MemoryStore::new(),
            _ => MemoryStore::shared(clock.clone()),
        });
        let (rules, testimony) = (Arc::default(), Arc::default());
        let spoilt: Arc<dyn Store> = Arc::new(MutantStore::new(store.clone(), scenario.mutation));
        let way: Arc<dyn Store> = Arc::new(WitnessStore::new(
            spoilt,
            store.clone(),
            Arc::clone(&rules),
            Arc::clone(&testimony),
        ));
        let owner = match scenario.shared {
            true => HOST_TENANT_ID,
            false => DEFAULT_TENANT_ID,
        };
        register(&*store, begun, owner, TYPE).await?;
        let services = operator(way.clone(), clock.clone()).await?;
        Ok(Self {
            store,
            clock,
            ledger: Ledger::default(),
            rules,
            testimony,
            way,
            services,
            diary: Arc::default(),
            begun,
            lost: HashSet::new(),
            failed_over: false,
            hosts: (0..scenario.hosts).map(|_| None).collect(),
            scenario,
            lives: 0,
        })
    }

    /// Registers a type for a tenant, unless it is the shared one, with bounds for both.
    ///
    /// # Errors
    /// The store's.
    pub async fn admit(
        &mut self,
        tenant: TenantId,
        bounds: TenantBounds,
        task_type: &str,
        concurrency: TypeConcurrency,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.store.admit(tenant);
        if !(self.scenario.shared && task_type == TYPE) {
            register(&*self.store, now, tenant, task_type).await?;
        }
        self.way.set_tenant_bounds(tenant, bounds).await?;
        self.lay_down(|rules| rules.set_tenant(tenant, bounds));
        if concurrency == TypeConcurrency::default() {
            return Ok(());
        }
        self.lay_down(|rules| rules.set_type(tenant, task_type, concurrency));
        let set = self
            .way
            .set_type_concurrency(now, tenant, task_type, concurrency.into());
        set.await.map(|_| ())
    }

    /// Creates a config from its JSON form (its `task_type` is filled in, where it has none). No host is told.
    ///
    /// # Errors
    /// What the config or the store refuses.
    pub async fn create(
        &mut self,
        tenant: TenantId,
        mut spec: Value,
    ) -> Result<TaskConfig, StoreError> {
        if spec["task_type"].is_null() {
            spec["task_type"] = TYPE.into();
        }
        let now = self.clock.now();
        let spec = TaskSpec::from_json(&spec, now, None)?;
        let config = self.store.create_config(now, tenant, spec).await?;
        self.ledger.opened(&config);
        self.lay_down(|rules| rules.set_config(&config));
        Ok(config)
    }

    fn lay_down(&self, rule: impl FnOnce(&mut Rules)) {
        rule(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An operator's merge patch of a config. No host is told. A patch that is refused changes nothing.
    pub async fn update(&mut self, tenant: TenantId, config: ConfigId, patch: Value) {
        let (now, task) = (self.clock.now(), TaskRef::Id(config));
        let tasks = &self.services.tasks;
        let Ok(before) = tasks.show(tenant, &task).await else {
            return;
        };
        let updated = tasks.update(tenant, &task, &patch, None);
        if let Ok(after) = updated.await {
            self.ledger.changed(now, &before, &after);
        }
    }

    /// Starts host `at` unless it lives; its wall clock is `ahead` of the world's.
    ///
    /// # Errors
    /// The store's, injected ones left out: a real process would be started again.
    pub async fn start(&mut self, at: usize, ahead: chrono::Duration) -> Result<(), StoreError> {
        if self.hosts[at].is_some() {
            return Ok(());
        }
        self.lives += 1;
        let birth = Birth {
            store: self.way.clone(),
            clock: self.clock.clone(),
            diary: self.diary.clone(),
            rules: self.rules.clone(),
            number: self.lives,
            seed: self.scenario.seed,
            slots: self.scenario.slots,
            longest: self.scenario.longest,
            checking: self.scenario.checking,
            faults: self.scenario.faults,
            ahead,
        };
        self.hosts[at] = Some(Host::start(birth).await?);
        Ok(())
    }

    /// Kills host `at` between two instructions.
    pub async fn kill(&mut self, at: usize) {
        if let Some(host) = self.hosts[at].take() {
            host.kill().await;
        }
    }

    /// Stops host `at` as SIGTERM does, and waits for it.
    pub async fn stop(&mut self, at: usize) {
        if let Some(host) = self.hosts[at].take() {
            host.stop().await;
        }
    }

    /// Stops every host.
    pub async fn stop_all(&mut self) {
        for at in 0..self.hosts.len() {
            self.stop(at).await;
        }
    }

    /// Stops the process of host `at` where it stands (SIGSTOP), or lets it go on.
    pub fn freeze(&self, at: usize, frozen: bool) {
        let Some(host) = &self.hosts[at] else { return };
        host.gate.freeze(frozen);
        if frozen {
            let mut diary = self.diary.lock().unwrap_or_else(PoisonError::into_inner);
            diary.write_off(host.number);
        }
    }

    /// Cuts host `at` off from the database, or mends that.
    pub fn cut(&self, at: usize, cut: bool) {
        if let Some(host) = &self.hosts[at] {
            host.gate.cut(cut);
        }
    }

    /// The store's server dies after `span`, and its replica, which had heard nothing since now, takes over.
    pub async fn fail_over(&mut self, span: Duration) {
        let replica = self.store.snapshot();
        self.pass(span).await;
        self.lost.extend(self.store.go_back(replica));
        self.failed_over = true;
        let mut testimony = self
            .testimony
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        testimony.forget();
    }

    /// Lets simulated time pass.
    pub async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// A person's trigger, through host `at`; of the others those are told whose bit is set in `told`. None when
    /// there is no such host, or it was refused.
    pub async fn trigger(
        &self,
        at: usize,
        (tenant, config): (TenantId, ConfigId),
        parameters: Option<Value>,
        told: u8,
    ) -> Option<TaskId> {
        let host = self.hosts[at].as_ref()?;
        let found = self.store.config(tenant, config).await.ok()??;
        let compiled = host.configs.get(config, found.version).await.ok()??;
        let now = self.clock.now();
        let overrides = Overrides {
            parameters: parameters.map(|parameters| parameters.to_string().into()),
            ..Overrides::default()
        };
        let id = new_task_id(now);
        let manual = Trigger::Manual;
        let new = freeze(&compiled, &host.registry, id, manual, now, overrides).await;
        let task_id = new.task_id;
        let receipts = self.way.enqueue_many(now, vec![new]).await.ok()?;
        host.wakes.enqueued();
        for (number, other) in self.hosts.iter().enumerate() {
            if let Some(other) = other.as_ref().filter(|_| told & (1 << number) != 0) {
                other.wakes.enqueued();
                other.wakes.rescheduled();
            }
        }
        matches!(receipts.first(), Some(EnqueueReceipt::Enqueued { .. })).then_some(task_id)
    }

    /// An operator's trigger of what may start only after so many seconds. No host is told.
    pub async fn put_off(&self, (tenant, config): (TenantId, ConfigId), seconds: u32) -> TaskId {
        let request = TriggerRequest {
            due: Some(Due::In(seconds)),
            ..TriggerRequest::default()
        };
        let (tasks, task) = (&self.services.tasks, TaskRef::Id(config));
        match tasks.trigger(tenant, &task, request, None).await {
            Ok(Once::Done(execution)) => execution.task_id,
            other => panic!("a trigger without a key is carried out once: {other:?}"),
        }
    }

    /// Cancels an execution; only host `at` is told at once.
    pub async fn cancel(&self, at: usize, tenant: TenantId, task_id: TaskId) {
        let now = self.clock.now();
        let receipt = self.store.cancel(now, tenant, task_id).await;
        if let (Ok(CancelReceipt::Requested), Some(host)) = (receipt, &self.hosts[at]) {
            host.wakes.cancelled(task_id);
        }
    }

    /// Everybody who has something here, in order.
    pub fn tenants(&self) -> Vec<TenantId> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tenants: Vec<TenantId> = rules.tenants().map(|(tenant, _)| tenant).collect();
        tenants.push(DEFAULT_TENANT_ID);
        tenants.sort_unstable();
        tenants.dedup();
        tenants
    }

    /// Slots of each host.
    pub fn slots(&self) -> u32 {
        self.scenario.slots
    }

    /// What waits, each with the reason that `execution why` gives.
    ///
    /// # Errors
    /// The service's, as text: what waits must have a reason.
    pub async fn reasons(&self) -> Result<Vec<(TaskId, &'static str)>, String> {
        let mut waiting = Vec::new();
        self.store.each_live(|shown| {
            if shown.state.is_waiting() {
                waiting.push((shown.tenant_id, shown.task_id));
            }
        });
        let mut reasons = Vec::with_capacity(waiting.len());
        // Each is compared with all that lives.
        for (tenant, task_id) in waiting.into_iter().take(ASKED) {
            let why = self.services.executions.why(tenant, task_id).await;
            let why =
                why.map_err(|error| format!("{task_id} waits and nobody knows why: {error}"))?;
            reasons.push((task_id, why.reason));
        }
        Ok(reasons)
    }
}

/// The services over the store itself.
async fn operator(store: Arc<dyn Store>, clock: Arc<SimClock>) -> Result<Services, StoreError> {
    let registry = Arc::new(Registry::new(store.clone(), Arc::new(NoGuests)));
    registry.refresh().await?;
    let services = Services::new(Context {
        configs: Arc::new(ConfigCache::new(store.clone())),
        store,
        registry,
        intake: Arc::new(NoGuests),
        clock,
        wakes: Arc::default(),
        policy: Arc::default(),
        live: Arc::new(NoRuns),
        keyring: Arc::default(),
        requests: Arc::default(),
    });
    Ok(services)
}
