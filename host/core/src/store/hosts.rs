//! Hosts, as the queue knows them: their leases, what each runs, and what is taken over (rules E5, E6).

use super::AlertRules;
use horarium_model::{ConfigId, ExecutionId, TaskId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// Lost this often, an execution runs as a suspect, one at a time (rule E6).
pub const SUSPECT_AFTER_LOST: u32 = 3;
/// Lost this often, it ends `failed`/`host_lost` (rule E6).
pub const FAILED_AFTER_LOST: u32 = 5;

/// What a host tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Version of its binary.
    pub version: String,
    /// Executions it runs at once.
    pub slots: u32,
    /// Bytes that its guests may hold together.
    pub memory_bytes: u64,
    /// The task types it could load, and so may claim.
    pub loaded: Vec<String>,
    /// The ids of its keys for secrets, the current one first.
    #[serde(default)]
    pub secret_keys: Vec<String>,
    /// What it wants kept as alerts; none when it sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertRules>,
}

/// A host that is alive.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// Number of this start of it.
    pub incarnation: i64,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last proved itself alive.
    pub seen_at: Timestamp,
    /// What it tells of itself.
    pub facts: HostFacts,
    /// What it runs, in order of row id.
    pub running: Vec<HostRun>,
}

/// An execution that runs on some host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRun {
    /// Row id.
    pub id: ExecutionId,
    /// Public id.
    pub task_id: TaskId,
    /// Owner.
    pub tenant_id: TenantId,
    /// Its config, none when that was deleted.
    pub config_id: Option<ConfigId>,
    /// The plugin.
    pub task_type: String,
    /// The attempt.
    pub attempt: u32,
    /// When it was claimed.
    pub started_at: Option<Timestamp>,
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heartbeat {
    /// False: this incarnation was given up; everything it runs must stop and write nothing.
    pub alive: bool,
    /// Running here, and asked to stop.
    pub cancels: Vec<TaskId>,
    /// The catalog's epoch, for caches.
    pub catalog_epoch: i64,
    /// Counts the changes of tokens and tenants, for caches.
    pub access_epoch: i64,
    /// The database's clock, on stores whose hosts may disagree about the time.
    pub database_now: Option<Timestamp>,
    /// After what time the lease of another host may be over; zero when something is to be taken over now.
    /// None without leases, and where there is no other host.
    pub next_take_over: Option<std::time::Duration>,
    /// How many executions the store believes this incarnation to run.
    pub running: u64,
    /// As [`Queue::next_due`] answers.
    pub next_due: Option<Timestamp>,
    /// Whether something is available. What is known to wait for a run key may be left out.
    pub available: bool,
    /// Whether an alert is to be delivered.
    pub alerts: bool,
}

/// What [`Queue::take_over`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Available again.
    pub requeued: u64,
    /// Ended `failed`/`host_lost`.
    pub failed: u64,
    /// Ended `cancelled`.
    pub cancelled: u64,
}
