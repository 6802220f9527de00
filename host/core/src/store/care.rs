//! Care of what ended: how long it is kept, and what it cost.

use super::{PruneStep, Pruned, StoreResult, UsageRow};
use horarium_model::quota::{QuotaUse, Quotas};
use horarium_model::retention::Retention;
use horarium_model::{ConfigId, ExecutionId, TenantId, Timestamp};
use std::ops::Range;
use std::time::Duration;

/// Pruning in small steps, the rules it goes by, and sums that outlive what is pruned.
#[async_trait::async_trait]
pub trait Care: Send + Sync + 'static {
    /// Takes the next round of pruning for the caller, once every `every` over all hosts: false while somebody's
    /// round is younger.
    async fn begin_care(&self, now: Timestamp, every: Duration) -> StoreResult<bool>;

    /// One step: looks at some ended executions and removes those that are due, with their attempts, logs and
    /// requests. What is live is never looked at.
    async fn prune(&self, step: &PruneStep) -> StoreResult<Pruned>;

    /// How many ended executions a tenant has.
    async fn history_count(&self, tenant: TenantId) -> StoreResult<u64>;

    /// Configs of a tenant by rising id, those after `after`, each with the newest of its ended executions that is
    /// not among its `keep` newest; none where it has no more than those.
    async fn beyond_newest(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
        keep: u64,
    ) -> StoreResult<Vec<(ConfigId, Option<ExecutionId>)>>;

    /// What a tenant, or one of its configs, wants kept; none when nothing is said.
    async fn retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
    ) -> StoreResult<Option<Retention>>;

    /// Replaces that; an empty one says nothing any more.
    ///
    /// # Errors
    /// `NotFound` when the tenant or the config does not exist.
    async fn set_retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
        retention: Retention,
    ) -> StoreResult<()>;

    /// What a tenant's configs want kept, by rising config id, those after `after`.
    async fn config_retentions(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<(ConfigId, Retention)>>;

    /// What a tenant may use; none when it does not exist (any more).
    async fn quotas(&self, tenant: TenantId) -> StoreResult<Option<TenantQuotas>>;

    /// Replaces that, its share of the turns aside. It holds for what begins later: what runs, waits or is there
    /// already stays.
    ///
    /// # Errors
    /// `NotFound`.
    async fn set_quotas(&self, tenant: TenantId, quotas: Quotas) -> StoreResult<()>;

    /// What a tenant uses of it.
    async fn quota_use(&self, now: Timestamp, tenant: TenantId) -> StoreResult<QuotaUse>;

    /// What was used on the days of a range, by tenant, day and task type; of one tenant or of all.
    async fn usage(&self, tenant: Option<TenantId>, days: Range<i64>)
    -> StoreResult<Vec<UsageRow>>;

    /// Adds up what different hosts wrote on days before `day`, a bounded number of rows at a time. Sums stay the
    /// same. Returns whether there is more.
    async fn fold_usage(&self, day: i64) -> StoreResult<bool>;
}

/// A tenant's quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantQuotas {
    /// Name of the tenant.
    pub tenant: String,
    /// What it may use.
    pub quotas: Quotas,
}

/// Rows of usage that are added up in one transaction.
pub const FOLD_ROWS: u32 = 2000;
