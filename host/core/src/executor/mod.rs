//! Claims executions, runs their attempts, and records how they ended (rules E1, E4 to E7).
//!
//! Four loops over shared state: [`claims`] takes what it has slots for, [`attempt`] runs one claim,
//! [`recorder`] writes ends in batches, [`watch`] proves the host alive and carries cancels and progress.

mod admission;
mod attempt;
mod claims;
mod given;
mod lease;
mod recorder;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;

use crate::clock::Clock;
use crate::config_cache::ConfigCache;
use crate::control::{RunControl, StopReason};
use crate::memory::MemoryBudget;
use crate::observe::Observer;
use crate::registry::Registry;
use crate::secrets::Keyring;
use crate::store::{AlertRules, Claimed, Store, StoreResult};
use crate::wake::Wakes;
use horarium_model::limits::LimitOverrides;
use horarium_model::{ConfigId, ExecutionId, TaskId, TenantId, Timestamp};
use lease::Lease;
pub use lease::{HEARTBEAT, LEASE, TRUST};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// How a host executes.
#[derive(Debug, Clone)]
pub struct ExecutorSettings {
    /// Executions that run at once.
    pub slots: u32,
    /// Name of the host, as recorded with each attempt.
    pub host_name: String,
    /// Version of the binary, for people.
    pub version: String,
    /// What guests may hold together; runs reserve their share before they are claimed.
    pub memory: Arc<MemoryBudget>,
    /// How long running executions may finish after a shutdown was asked for.
    pub grace: Duration,
    /// The host's own maximum of each limit.
    pub limits: LimitOverrides,
    /// The share of executions, from 0 to 1, whose trace this host records where no trigger brought one; none = it
    /// records none.
    pub trace_sample: Option<f64>,
    /// What the store keeps as alerts, if this host sends them.
    pub alerts: Option<AlertRules>,
    /// Where guests run: a runtime of their own, so that they never starve the control plane.
    pub guests: Handle,
}

/// What an executor works with.
#[derive(Clone)]
pub struct Parts {
    /// Durable truth.
    pub store: Arc<dyn Store>,
    /// What the types are.
    pub registry: Arc<Registry>,
    /// Compiled configs.
    pub configs: Arc<ConfigCache>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hints.
    pub wakes: Arc<Wakes>,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// Opens secrets.
    pub keyring: Arc<Keyring>,
}

/// The executor of one host.
pub struct Executor {
    parts: Parts,
    settings: ExecutorSettings,
    lease: Lease,
    permits: Arc<Semaphore>,
    running: Mutex<HashMap<TaskId, Arc<Running>>>,
    /// Claims that are this host's until their end is recorded.
    owned: Mutex<HashSet<(ExecutionId, u32)>>,
    /// Cancels that came for executions whose claim is still on its way to us.
    early_cancels: Mutex<VecDeque<TaskId>>,
    ended: mpsc::Sender<recorder::Ended>,
    ends: Mutex<Option<mpsc::Receiver<recorder::Ended>>>,
}

/// One attempt in progress.
pub(crate) struct Running {
    claimed: Arc<Claimed>,
    /// The incarnation it was claimed for.
    incarnation: i64,
    control: Arc<RunControl>,
    started_at: Timestamp,
    seen_progress: std::sync::atomic::AtomicU64,
}

/// What runs here, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunningInfo {
    /// Row id.
    pub id: ExecutionId,
    /// Public id.
    pub task_id: TaskId,
    /// Owner.
    pub tenant_id: TenantId,
    /// Its config.
    pub config_id: Option<ConfigId>,
    /// The plugin.
    pub task_type: String,
    /// The attempt.
    pub attempt: u32,
    /// Since when.
    #[serde(with = "horarium_model::schedule::wire_time")]
    pub started_at: Timestamp,
}

/// Ends waiting to be recorded before runs have to wait: enough for several batches.
const ENDED_QUEUE: usize = 4096;

impl Executor {
    /// Registers the host with the store and takes over what a dead predecessor was running.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(parts: Parts, settings: ExecutorSettings) -> StoreResult<Arc<Self>> {
        let sent = parts.clock.monotonic();
        let now = parts.clock.now();
        let incarnation = parts.store.start_host(now, &settings.host_name).await?;
        let lease = Lease::new(parts.store.gives_leases(), incarnation, sent);
        let facts = watch::facts(&parts, &settings);
        parts.store.describe_host(incarnation, facts).await?;
        watch::take_over(&parts, incarnation).await?;
        let (ended, ends) = mpsc::channel(ENDED_QUEUE);
        Ok(Arc::new(Self {
            permits: Arc::new(Semaphore::new(settings.slots as usize)),
            parts,
            settings,
            lease,
            running: Mutex::default(),
            owned: Mutex::default(),
            early_cancels: Mutex::default(),
            ended,
            ends: Mutex::new(Some(ends)),
        }))
    }

    /// Executes until `shutdown`, then drains: what runs may finish within the grace period, the rest is
    /// handed back, everything is recorded, and the host is signed off. Runs once.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(ends) = lock(&self.ends).take() else {
            return;
        };
        let all_recorded = CancellationToken::new();
        let recorder = tokio::spawn(recorder::run(self.clone(), ends, all_recorded.clone()));
        let watch = tokio::spawn(watch::run(self.clone(), all_recorded.clone()));
        claims::run(&self, &shutdown).await;
        self.drain().await;
        all_recorded.cancel();
        let _ = tokio::join!(recorder, watch);
        if let Err(error) = self
            .parts
            .store
            .stop_host(self.parts.clock.now(), self.lease.incarnation())
            .await
        {
            tracing::warn!(%error, "could not sign the host off; its successor will take over");
        }
    }

    /// Waits for all slots, first patiently, then by handing back what still runs.
    async fn drain(&self) {
        let everything = self.permits.acquire_many(self.settings.slots);
        tokio::pin!(everything);
        for running in lock(&self.running).values() {
            running.control.request_stop();
        }
        tokio::select! {
            _ = &mut everything => return,
            () = self.parts.clock.sleep(self.settings.grace) => {}
        }
        self.stop_all(StopReason::Shutdown);
        let _ = everything.await;
    }

    /// Stops everything that runs.
    pub fn stop_all(&self, reason: StopReason) {
        for running in lock(&self.running).values() {
            running.control.stop(reason);
        }
    }

    /// The incarnation this host is known by.
    pub fn incarnation(&self) -> i64 {
        self.lease.incarnation()
    }

    /// How long ago the store last heard from this host and answered.
    pub fn heartbeat_age(&self) -> Duration {
        self.lease.age(self.parts.clock.monotonic())
    }

    /// Executions that may run at once.
    pub fn slots(&self) -> u32 {
        self.settings.slots
    }

    /// What runs here now, oldest first.
    pub fn running(&self) -> Vec<RunningInfo> {
        let mut list: Vec<RunningInfo> = lock(&self.running)
            .values()
            .map(|running| RunningInfo {
                id: running.claimed.id,
                task_id: running.claimed.task_id,
                tenant_id: running.claimed.tenant_id,
                config_id: running.claimed.config_id,
                task_type: running.claimed.task_type.clone(),
                attempt: running.claimed.attempt,
                started_at: running.started_at,
            })
            .collect();
        list.sort_by_key(|info| info.started_at);
        list
    }

    /// The live side of an execution that runs here: its log and progress.
    pub fn control_of(&self, task_id: TaskId) -> Option<Arc<RunControl>> {
        lock(&self.running)
            .get(&task_id)
            .map(|running| running.control.clone())
    }
}

/// The guarded maps are plain data; a panicking run must not take the host with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
