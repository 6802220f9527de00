//! A store that fails by a seeded plan: before an operation (nothing happened) or after it (it happened, but
//! the caller is told it failed), as a database does when its connection breaks at the wrong moment.

use super::gate::Gate;
use crate::runner::{StateEntry, StateSnapshot};
use crate::store::*;
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine};
use horarium_model::task_type::{PluginVersion, TaskType};
use horarium_model::{ConfigId, Execution, TaskConfig, TaskId, TaskSpec, TenantId, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How often a store fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultPlan {
    /// Probability that an operation fails with nothing done.
    pub before: f64,
    /// Probability that an operation is done and reported as failed.
    pub after: f64,
}

impl FaultPlan {
    /// A store that never fails.
    pub const NONE: Self = Self {
        before: 0.0,
        after: 0.0,
    };
}

/// A store as one host process reaches it: with faults in its queue operations, and not at all while the
/// process is stopped or cut off.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: FaultPlan,
    gate: Arc<Gate>,
    rng: Mutex<SmallRng>,
}

impl FaultyStore {
    /// Wraps `inner` for the host process behind `gate`.
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan, gate: Arc<Gate>, seed: u64) -> Self {
        Self {
            inner,
            plan,
            gate,
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Whether the database can be reached: asked before and after, since either may be lost.
    async fn reach(&self) -> StoreResult<()> {
        self.gate.pass().await;
        if self.gate.is_cut() {
            return Err(StoreError::Unavailable("cut off".into()));
        }
        Ok(())
    }

    fn hits(&self, probability: f64) -> bool {
        probability > 0.0
            && self
                .rng
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .random_bool(probability)
    }

    async fn before(&self) -> StoreResult<()> {
        self.reach().await?;
        if self.hits(self.plan.before) {
            Err(StoreError::Unavailable("injected, before".into()))
        } else {
            Ok(())
        }
    }

    async fn after<T>(&self, value: StoreResult<T>) -> StoreResult<T> {
        self.reach().await?;
        if self.hits(self.plan.after) {
            Err(StoreError::Unavailable("injected, after".into()))
        } else {
            value
        }
    }
}

macro_rules! faulty {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Queue for FaultyStore {
            fn gives_leases(&self) -> bool {
                self.inner.gives_leases()
            }

            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.before().await?;
                self.after(self.inner.$name($($arg),*).await).await
            })*
        }
    };
}

faulty! {
    due_schedules(now: Timestamp, limit: u32) -> Vec<DueSchedule>;
    next_due() -> Option<Timestamp>;
    fire_due(now: Timestamp, orders: Vec<FireOrder>) -> Vec<FireReceipt>;
    enqueue_many(now: Timestamp, items: Vec<NewExecution>) -> Vec<EnqueueReceipt>;
    sweep_due(now: Timestamp, limit: u32) -> Swept;
    claim(request: ClaimRequest) -> Vec<Claimed>;
    held(incarnation: i64) -> Vec<Held>;
    complete_many(now: Timestamp, items: Vec<Completion>) -> Vec<CompletionReceipt>;
    release(now: Timestamp, items: Vec<Release>) -> u64;
    cancel(now: Timestamp, tenant: TenantId, task_id: TaskId) -> CancelReceipt;
    report_progress(items: Vec<ProgressReport>) -> ();
    start_host(now: Timestamp, name: &str) -> i64;
    describe_host(incarnation: i64, facts: HostFacts) -> ();
    hosts() -> Vec<HostRow>;
    stop_host(now: Timestamp, incarnation: i64) -> ();
    heartbeat(now: Timestamp, incarnation: i64) -> Heartbeat;
    take_over(now: Timestamp, mine: i64) -> TakenOver;
    state_snapshot(config_id: ConfigId) -> StateSnapshot;
    queue_counts() -> QueueCounts;
}

macro_rules! delegate {
    ($trait:ident: $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl $trait for FaultyStore {
            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.reach().await?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

delegate! { Catalog:
    tenant(name: &str) -> Option<TenantId>;
    catalog_epoch() -> i64;
    create_config(now: Timestamp, tenant: TenantId, spec: TaskSpec) -> TaskConfig;
    config(tenant: TenantId, id: ConfigId) -> Option<TaskConfig>;
    config_by_key(tenant: TenantId, key: &str) -> Option<TaskConfig>;
    configs_by_ids(ids: &[ConfigId]) -> Vec<TaskConfig>;
    configs(tenant: TenantId, filter: &ConfigFilter, page: &Page) -> Listing<TaskConfig>;
    update_config(now: Timestamp, tenant: TenantId, id: ConfigId, update: ConfigUpdate) -> TaskConfig;
    delete_config(now: Timestamp, tenant: TenantId, id: ConfigId, history: HistoryOnDelete) -> Deleted;
    purge_deleted(limit: u32) -> bool;
    add_version(now: Timestamp, version: PluginVersion, bytes: Vec<u8>) -> PluginVersion;
    finish_version(now: Timestamp, tenant: TenantId, task_type: &str, digest: &str, finish: FinishVersion) -> PluginVersion;
    activate_version(now: Timestamp, tenant: TenantId, task_type: &str, digest: &str) -> TaskType;
    set_disabled(now: Timestamp, tenant: TenantId, task_type: &str, disabled: bool) -> TaskType;
    task_type(tenant: TenantId, task_type: &str) -> Option<TaskType>;
    task_types(tenant: TenantId, page: &Page) -> Listing<TaskType>;
    all_task_types() -> Vec<TaskType>;
    versions(tenant: TenantId, task_type: &str) -> Vec<PluginVersion>;
    all_versions() -> Vec<PluginVersion>;
    component_bytes(digest: &str) -> Option<Vec<u8>>;
    task_state(tenant: TenantId, config: ConfigId) -> BTreeMap<String, StateEntry>;
    set_task_state(now: Timestamp, tenant: TenantId, config: ConfigId, key: &str, value: Option<Vec<u8>>) -> ();
    reset_task_state(tenant: TenantId, config: ConfigId) -> u64;
}

delegate! { History:
    execution(tenant: TenantId, task_id: TaskId) -> Option<Execution>;
    executions(tenant: TenantId, filter: &ExecutionFilter, page: &Page) -> Listing<Execution>;
    attempts(tenant: TenantId, task_id: TaskId) -> Vec<AttemptRecord>;
    logs(tenant: TenantId, task_id: TaskId, page: &Page) -> Listing<LogLine>;
    http_calls(tenant: TenantId, task_id: TaskId, page: &Page) -> Listing<HttpCall>;
}

delegate! { Vault:
    plugin_config(tenant: TenantId, task_type: &str) -> BTreeMap<String, String>;
    set_plugin_config(now: Timestamp, tenant: TenantId, task_type: &str, key: &str, value: Option<String>) -> ();
    configured_types() -> Vec<(TenantId, String)>;
    secrets(tenant: TenantId, page: &Page) -> Listing<SecretInfo>;
    secret(tenant: TenantId, name: &str) -> Option<SecretInfo>;
    sealed_secrets(tenant: TenantId, names: &[String]) -> Vec<SealedSecret>;
    put_secret(now: Timestamp, secret: SealedSecret) -> SecretInfo;
    delete_secret(tenant: TenantId, name: &str) -> bool;
    secret_keys() -> Vec<String>;
    secrets_under_other_keys(key_id: &str, after: Option<(TenantId, String)>, limit: u32) -> Vec<SealedSecret>;
    reseal_secret(secret: SealedSecret) -> bool;
}
