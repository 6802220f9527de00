//! What is to be told to whoever watches: alerts are kept, beside what they tell of, until they were delivered or
//! are too old.

use super::StoreResult;
use horarium_model::alert::AlertEvent;
use horarium_model::{ConfigId, TaskId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a living host wants kept of what the store itself sees, in the transaction in which it happens. A store
/// without a host that wants alerts keeps none. Where hosts differ, each gets what it wants, and the shortest
/// streak counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRules {
    /// [`AlertEvent::ExecutionFailed`].
    #[serde(default)]
    pub failed: bool,
    /// [`AlertEvent::MissedRuns`], once for each row of missed slots.
    #[serde(default)]
    pub missed: bool,
    /// [`AlertEvent::FailureStreak`] when so many failed in a row; again after the next success.
    #[serde(default)]
    pub streak: Option<u32>,
}

/// An alert to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert {
    /// What it tells.
    pub event: AlertEvent,
    /// Whose; none = the host's.
    pub tenant_id: Option<TenantId>,
    /// Of which task.
    pub config_id: Option<ConfigId>,
    /// Of which execution.
    pub task_id: Option<TaskId>,
    /// What else there is to tell.
    pub detail: Value,
    /// Kept once, whichever host sees it first.
    pub subject: String,
}

/// An alert that was not delivered yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Names it: the same at every delivery, and never another's.
    pub alert_id: String,
    /// What it tells.
    pub event: AlertEvent,
    /// Whose; none = the host's.
    pub tenant_id: Option<TenantId>,
    /// Of which task.
    pub config_id: Option<ConfigId>,
    /// Of which execution.
    pub task_id: Option<TaskId>,
    /// What else there is to tell. Of missed runs `first` and `last` slot in microseconds since 1970, and `count`; of
    /// a streak `failures`.
    pub detail: Value,
    /// When it was kept.
    pub created_at: Timestamp,
    /// Deliveries begun, this one among them.
    pub tries: u32,
}

/// The alerts of a store.
#[async_trait::async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Keeps alerts whose subject is new. Returns how many were.
    async fn post_alerts(&self, now: Timestamp, alerts: Vec<NewAlert>) -> StoreResult<u64>;

    /// Takes up to `limit` alerts that are due, for delivery until `until`: then they are due again, whatever
    /// became of whoever took them.
    async fn take_alerts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Alert>>;

    /// After the delivery that made it `tries`: it is due again at `again`, or done. Nothing happens when another
    /// took it meanwhile.
    async fn settle_alert(
        &self,
        alert_id: &str,
        tries: u32,
        again: Option<Timestamp>,
    ) -> StoreResult<()>;

    /// Forgets up to `limit` alerts kept before an instant, delivered or not. Returns how many went.
    async fn purge_alerts(&self, before: Timestamp, limit: u32) -> StoreResult<u64>;
}
