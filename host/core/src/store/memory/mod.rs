//! [`MemoryStore`]: the whole of the store's contract in plain maps under one lock. The simulator runs
//! on it, and the databases are compared with it.

mod access;
mod care;
mod catalog;
mod chain;
mod claim;
mod configs;
mod declare;
mod history;
mod live;
mod operations;
mod outbox;
mod queue;
mod types;
mod vault;

use super::chain::Parent;
use super::{
    AuditEntry, BreakerRow, Bucket, Head, HostFacts, KeptAnswer, KeyedRequest, RateBound,
    StoreError, StoreResult, Tally, TenantBounds, Token, TokenId, rules,
};
use crate::clock::Clock;
use crate::executor::LEASE;
use crate::runner::StateEntry;
use horarium_model::execution::{AttemptRecord, Execution, HttpCall, LogLine, State};
use horarium_model::quota::{Allowance, Quotas};
use horarium_model::retention::Retention;
use horarium_model::task_type::{PluginVersion, TaskType};
use horarium_model::trace::TraceContext;
use horarium_model::{
    ConfigId, DEFAULT_TENANT, DEFAULT_TENANT_ID, ExecutionId, TaskConfig, TaskId, TenantId,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A store that forgets everything when it is dropped. Each method is one critical section.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    /// The clock by which leases are given and judged; none = one host at a time, no leases.
    leases: Option<Arc<dyn Clock>>,
}

impl MemoryStore {
    /// An empty store that knows the tenant `default`.
    pub fn new() -> Self {
        let first = TenantRow {
            name: DEFAULT_TENANT.to_owned(),
            created_at: None,
            deleted: false,
        };
        let inner = Inner {
            tenants: BTreeMap::from([(DEFAULT_TENANT_ID, first)]),
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            leases: None,
        }
    }

    /// An empty store that several hosts share: each holds what it runs by a lease, judged by `clock` as a
    /// database judges it by its own.
    pub fn shared(clock: Arc<dyn Clock>) -> Self {
        Self {
            leases: Some(clock),
            ..Self::new()
        }
    }

    /// Makes a tenant with this id known.
    #[cfg(any(test, feature = "testing"))]
    pub fn admit(&self, tenant: TenantId) {
        let row = TenantRow {
            name: format!("tenant-{tenant}"),
            created_at: None,
            deleted: false,
        };
        let mut inner = self.lock();
        inner.tenants.insert(tenant, row);
        inner.epoch += 1;
    }

    /// Shows every live execution. The store must not be asked anything meanwhile.
    #[cfg(any(test, feature = "testing"))]
    pub fn each_live(&self, mut look: impl FnMut(&Execution)) {
        self.lock().live.values().for_each(|row| look(&row.shown));
    }

    /// Everything as it is now.
    #[cfg(any(test, feature = "testing"))]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lock().clone())
    }

    /// Goes back to an earlier state, as a database does when a replica that lags takes over. Returns the
    /// executions that are known no more.
    #[cfg(any(test, feature = "testing"))]
    pub fn go_back(&self, to: Snapshot) -> Vec<TaskId> {
        let mut inner = self.lock();
        let now = std::mem::replace(&mut *inner, to.0);
        let gone = now
            .by_task
            .into_keys()
            .filter(|key| !inner.by_task.contains_key(key));
        gone.map(|(_, task_id)| task_id).collect()
    }

    /// When a lease given now ends, by the store's monotonic clock.
    fn lease_end(&self) -> Duration {
        let clock = self.leases.as_ref();
        clock.map_or(Duration::MAX, |clock| clock.monotonic() + LEASE)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state of a [`MemoryStore`] to go back to.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct Snapshot(Inner);

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Everything there is.
#[derive(Debug, Clone, Default)]
struct Inner {
    tenants: BTreeMap<TenantId, TenantRow>,
    tokens: BTreeMap<TokenId, Token>,
    audit: BTreeMap<i64, AuditEntry>,
    /// What tenants want kept (config 0) and their configs.
    retentions: BTreeMap<(TenantId, ConfigId), Retention>,
    cared_at: Option<Timestamp>,
    /// Concurrency and backlog are among the bounds.
    quotas: BTreeMap<TenantId, Quotas>,
    /// The minute of a tenant's last start, and how many started in it.
    starts: BTreeMap<TenantId, (i64, u64)>,
    /// By tenant, day and task type.
    usage: BTreeMap<(TenantId, i64, String), Tally>,
    epoch: i64,
    access_epoch: i64,
    last_config: ConfigId,
    last_execution: ExecutionId,
    last_incarnation: i64,
    last_version: i64,
    configs: BTreeMap<ConfigId, ConfigRow>,
    live: BTreeMap<ExecutionId, Row>,
    /// Available executions by tenant and type, each in the order of rule E2: a view of `live`.
    available: BTreeMap<(TenantId, String), BTreeSet<Head>>,
    rates: BTreeMap<(TenantId, String), RateRow>,
    bounds: BTreeMap<TenantId, TenantBounds>,
    breakers: BTreeMap<(TenantId, String), BreakerRow>,
    history: BTreeMap<ExecutionId, Execution>,
    by_task: BTreeMap<(TenantId, TaskId), ExecutionId>,
    attempts: BTreeMap<ExecutionId, Vec<AttemptRecord>>,
    logs: BTreeMap<ExecutionId, Vec<LogLine>>,
    calls: BTreeMap<ExecutionId, Vec<HttpCall>>,
    hosts: BTreeMap<i64, Host>,
    types: BTreeMap<(TenantId, String), TaskType>,
    versions: BTreeMap<(TenantId, String, String), (i64, PluginVersion)>,
    bytes: BTreeMap<String, Vec<u8>>,
    plugin_config: BTreeMap<(TenantId, String), BTreeMap<String, String>>,
    secrets: BTreeMap<(TenantId, String), vault::SecretRow>,
    /// Answers by request key, with the instant they were given.
    answers: BTreeMap<(TenantId, String), (Timestamp, KeptAnswer)>,
    last_alert: u64,
    alerts: Vec<outbox::AlertRow>,
    /// Ended in the operation under way, with a chain.
    ended: Vec<Parent>,
}

/// A tenant. A deleted one stays until nothing of it is left.
#[derive(Debug, Clone)]
struct TenantRow {
    name: String,
    created_at: Option<Timestamp>,
    deleted: bool,
}

/// A config, its state, and what its deletion shall do.
#[derive(Debug, Clone)]
struct ConfigRow {
    config: TaskConfig,
    /// Highest version ever given to a key of the state: a key that is deleted and written again does
    /// not repeat one.
    state_version: i64,
    state: BTreeMap<String, StateEntry>,
    delete_history: bool,
}

/// A live execution.
#[derive(Debug, Clone)]
struct Row {
    shown: Execution,
    parameters: Arc<str>,
    claim: u32,
    incarnation: i64,
    /// What is reserved for its run.
    allowance: Allowance,
    run_key: Option<String>,
    run_max: u32,
    rate: Option<RateBound>,
    chain: Option<Arc<str>>,
    chain_depth: u32,
    trace: Option<TraceContext>,
}

/// A rate that was used.
#[derive(Debug, Clone)]
struct RateRow {
    bucket: Bucket,
    /// When what waits for it is looked at again.
    ready_at: Option<i64>,
}

#[derive(Debug, Clone)]
struct Host {
    name: String,
    alive: bool,
    started_at: Timestamp,
    seen_at: Timestamp,
    facts: HostFacts,
    /// By the store's monotonic clock.
    lease_end: Duration,
}

impl Inner {
    /// A config of the tenant that is not deleted.
    fn config(&self, tenant: TenantId, id: ConfigId) -> Option<&ConfigRow> {
        self.configs
            .get(&id)
            .filter(|row| row.config.tenant_id == tenant && row.config.deleted_at.is_none())
    }

    /// Configs that wait for an instant, by rising id.
    fn waiting_schedules(&self) -> impl Iterator<Item = (Timestamp, &TaskConfig)> {
        let configs = self.configs.values().map(|row| &row.config);
        configs
            .filter(|config| !config.spec.paused && config.deleted_at.is_none())
            .filter_map(|config| Some((config.schedule_state.next_fire_at?, config)))
    }

    fn config_mut(&mut self, tenant: TenantId, id: ConfigId) -> StoreResult<&mut ConfigRow> {
        self.configs
            .get_mut(&id)
            .filter(|row| row.config.tenant_id == tenant && row.config.deleted_at.is_none())
            .ok_or_else(|| StoreError::NotFound(super::rules::no_config(id)))
    }

    /// Whether the execution's config was deleted under it.
    fn is_orphan(&self, config_id: Option<ConfigId>) -> bool {
        config_id.is_some_and(|id| {
            self.configs
                .get(&id)
                .is_none_or(|row| row.config.deleted_at.is_some())
        })
    }

    /// What remains of a deleted config, for its executions.
    fn deletes_history(&self, config_id: Option<ConfigId>) -> bool {
        config_id
            .and_then(|id| self.configs.get(&id))
            .is_some_and(|row| row.delete_history)
    }

    fn is_alive(&self, incarnation: i64) -> bool {
        self.hosts.get(&incarnation).is_some_and(|host| host.alive)
    }

    /// The answer to a request key that is not older than a day.
    fn answer(&self, now: Timestamp, tenant: TenantId, key: &str) -> Option<KeptAnswer> {
        let (at, kept) = self.answers.get(&(tenant, key.to_owned()))?;
        (*at > rules::answers_from(now)).then(|| kept.clone())
    }

    /// Keeps the answer of a request, unless it was refused.
    fn keep_answer<T>(&mut self, now: Timestamp, request: &KeyedRequest<T>, done: &T) {
        if let Some(answer) = (request.answer)(done) {
            let hash = request.hash.clone();
            let kept = KeptAnswer { hash, answer };
            let key = (request.tenant_id, request.key.clone());
            self.answers.insert(key, (now, kept));
        }
    }
}

/// The one place through which a state changes.
fn move_state(execution: &mut Execution, to: State) {
    assert!(
        State::may_become(Some(execution.state), to),
        "execution {} cannot move from {} to {to}",
        execution.id,
        execution.state
    );
    execution.state = to;
    execution.is_success = to.is_success();
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::store::Store;
    use std::sync::Arc;

    async fn make() -> (Arc<dyn Store>, ()) {
        (Arc::new(MemoryStore::new()), ())
    }

    crate::conformance_tests!(make);
}
