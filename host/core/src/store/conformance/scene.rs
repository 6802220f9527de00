//! A scheduler and the services over a store, on a clock that a test sets: what operators and time do to tasks.

use super::lab::{TENANT, TYPE, at};
use crate::clock::Clock;
use crate::config_cache::ConfigCache;
use crate::control::RunControl;
use crate::observe::Silent;
use crate::registry::Registry;
use crate::runner::{
    Attempt, ComponentSource, Inspection, Intake, Outcome, PendingCompile, Runner,
};
use crate::scheduler::{Round, Scheduler};
use crate::service::{Context, HostPolicy, NoRuns, Once, ServiceResult, Services, TaskRef, Tasks};
use crate::store::{ExecutionFilter, FinishVersion, Page, Store, StoreResult};
use crate::wake::Wakes;
use horarium_model::descriptor::Descriptor;
use horarium_model::execution::{State, Trigger};
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::{PluginVersion, VersionState, digest};
use horarium_model::{ConfigId, Execution, Invalid, TaskConfig, TenantId, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock that stands until it is set.
pub(crate) struct SetClock(AtomicI64);

impl SetClock {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.timestamp_micros()))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.timestamp_micros(), Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(self.0.load(Ordering::Relaxed)).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _span: Duration) {
        std::future::pending().await
    }
}

/// No guest ever runs, no component is taken in; parameters always fit.
pub(crate) struct NoGuests;

#[async_trait::async_trait]
impl Runner for NoGuests {
    async fn prepare(&self, _: &PluginVersion, _: ComponentSource) -> Result<(), String> {
        Ok(())
    }

    async fn check_parameters(&self, _: &PluginVersion, given: Value) -> Result<Value, Invalid> {
        Ok(given)
    }

    async fn run(&self, _: Attempt, _: Arc<RunControl>) -> Outcome {
        std::future::pending().await
    }
}

#[async_trait::async_trait]
impl Intake for NoGuests {
    async fn inspect(&self, _: Vec<u8>) -> Result<(Inspection, PendingCompile), Invalid> {
        Err(Invalid::one("", "no component is taken in here"))
    }

    async fn check_descriptor(&self, _: &Descriptor) -> Result<(), Invalid> {
        Ok(())
    }
}

/// A host without an executor.
pub(super) struct Scene {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<SetClock>,
    pub(super) tasks: Tasks,
    pub(super) registry: Arc<Registry>,
    pub(super) wakes: Arc<Wakes>,
}

impl Scene {
    /// Its clock shows `at(0)`; the type of the lab is registered and active.
    pub(super) async fn new(store: Arc<dyn Store>) -> Self {
        let registered = register(&*store, at(0), TENANT, TYPE).await;
        registered.expect("is ready");
        let clock = Arc::new(SetClock::at(at(0)));
        let registry = Arc::new(Registry::new(store.clone(), Arc::new(NoGuests)));
        registry.refresh().await.expect("the catalog is read");
        let wakes = Arc::new(Wakes::default());
        let services = Services::new(Context {
            store: store.clone(),
            registry: registry.clone(),
            configs: Arc::new(ConfigCache::new(store.clone())),
            intake: Arc::new(NoGuests),
            clock: clock.clone(),
            wakes: wakes.clone(),
            policy: Arc::new(HostPolicy::default()),
            live: Arc::new(NoRuns),
            keyring: Arc::default(),
            requests: Arc::default(),
        });
        Self {
            tasks: services.tasks,
            store,
            clock,
            registry,
            wakes,
        }
    }

    /// Another scheduler on the same store, with a cache of its own.
    pub(super) fn scheduler(&self) -> Scheduler {
        Scheduler {
            store: self.store.clone(),
            registry: self.registry.clone(),
            configs: Arc::new(ConfigCache::new(self.store.clone())),
            clock: self.clock.clone(),
            wakes: self.wakes.clone(),
            observer: Arc::new(Silent),
            chores: Default::default(),
        }
    }

    /// The clock shows this many seconds, and a scheduler looks until there is no more to do.
    pub(super) async fn look(&self, seconds: i64) {
        self.clock.set(at(seconds));
        let scheduler = self.scheduler();
        while scheduler.round().await.expect("a round") == Round::More {}
    }

    /// Writes a task: `changes` over a manual one.
    pub(super) async fn write(&self, changes: Value) -> ServiceResult<TaskConfig> {
        let mut whole =
            serde_json::json!({"name": "a task", "task_type": TYPE, "scheduler_type": "manual"});
        if let (Value::Object(whole), Value::Object(changes)) = (&mut whole, changes) {
            whole.extend(changes);
        }
        match self.tasks.create(TENANT, &whole, None).await? {
            Once::Done(config) => Ok(config),
            Once::Repeated(_) => panic!("a request without a key was answered before"),
        }
    }

    /// A task that fires every ten minutes, with `schedule` beside its expression and `more` beside that.
    pub(super) async fn cron(&self, schedule: Value, more: Value) -> ConfigId {
        let mut config = serde_json::json!({"cron_expression": "*/10 * * * *"});
        let mut whole = serde_json::json!({"scheduler_type": "cron"});
        if let (Value::Object(config), Value::Object(schedule)) = (&mut config, schedule) {
            config.extend(schedule);
        }
        if let (Value::Object(whole), Value::Object(more)) = (&mut whole, more) {
            whole.extend(more);
        }
        whole["schedule_config"] = config;
        self.write(whole).await.expect("a good task").id
    }

    pub(super) async fn update(&self, id: ConfigId, patch: Value) -> TaskConfig {
        let task = TaskRef::Id(id);
        let updated = self.tasks.update(TENANT, &task, &patch, None).await;
        updated.expect("a good change")
    }

    pub(super) async fn pause(&self, id: ConfigId) {
        let task = TaskRef::Id(id);
        let paused = self.tasks.pause(TENANT, &task, None, None).await;
        paused.expect("pauses");
    }

    pub(super) async fn resume(&self, id: ConfigId) {
        let task = TaskRef::Id(id);
        let resumed = self.tasks.resume(TENANT, &task, None).await;
        resumed.expect("resumes");
    }

    /// The reason of `task why`, and that of the slot.
    pub(super) async fn why(
        &self,
        id: ConfigId,
        slot: Option<i64>,
    ) -> (&'static str, &'static str) {
        let task = TaskRef::Id(id);
        let why = self.tasks.why(TENANT, &task, slot.map(at)).await;
        let why = why.expect("answers");
        assert!(!why.message.is_empty());
        (why.reason, why.slot.map_or("", |slot| slot.reason))
    }

    /// Every row of a task, oldest first.
    pub(super) async fn rows(&self, id: ConfigId) -> Vec<Execution> {
        let filter = ExecutionFilter {
            config_id: Some(id),
            ..ExecutionFilter::default()
        };
        let page = Page::first(Page::MAX);
        let listing = self.store.executions(TENANT, &filter, &page).await;
        let mut rows = listing.expect("executions").items;
        rows.reverse();
        rows
    }

    /// Slots (seconds) that fired, in order of firing, with what brought them about.
    pub(super) async fn fired(&self, id: ConfigId) -> Vec<(i64, Trigger)> {
        let rows = self.rows(id).await;
        let fired = rows.iter().filter(|row| row.state != State::Skipped);
        fired
            .filter_map(|row| Some((seconds(row.slot?), row.trigger)))
            .collect()
    }

    /// Skipped rows: reason, first and last slot, count.
    pub(super) async fn skipped(&self, id: ConfigId) -> Vec<(&'static str, i64, i64, i64)> {
        let rows = self.rows(id).await;
        let streaks = rows.iter().filter_map(|row| {
            let (reason, first) = (row.skip_reason?, row.slot?);
            Some((
                reason.as_str(),
                seconds(first),
                seconds(row.slot_last?),
                row.slot_count?,
            ))
        });
        streaks.collect()
    }

    /// The streak that is still open.
    pub(super) async fn open(&self, id: ConfigId) -> Option<(&'static str, i64, i64, i64)> {
        let config = self.tasks.show(TENANT, &TaskRef::Id(id)).await;
        let open = config.expect("exists").schedule_state.open_skip?;
        Some((
            open.reason.as_str(),
            seconds(open.first),
            seconds(open.last),
            open.count,
        ))
    }
}

/// Seconds since the start of every test.
pub(super) fn seconds(instant: Timestamp) -> i64 {
    (instant - at(0)).num_seconds()
}

/// Registers a plugin, active and as plain as can be.
pub(crate) async fn register(
    store: &dyn Store,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
) -> StoreResult<()> {
    let bytes = b"plain";
    let version = PluginVersion {
        tenant_id: tenant,
        task_type: task_type.to_owned(),
        digest: digest(bytes),
        state: VersionState::Compiling,
        error: None,
        size_bytes: bytes.len() as u64,
        descriptor: Descriptor::default(),
        grants: Vec::new(),
        limits: LimitOverrides::default(),
        input: Default::default(),
        activate: true,
        grant_asked: false,
        warnings: Vec::new(),
        created_at: now,
    };
    let added = store.add_version(now, version, bytes.to_vec()).await?;
    let ready = FinishVersion::Ready {
        descriptor: Box::default(),
        warnings: Vec::new(),
        activate: true,
    };
    store
        .finish_version(now, tenant, task_type, &added.digest, ready)
        .await?;
    Ok(())
}
