//! Care of what ended.

use super::{Inner, MemoryStore};
use crate::store::{
    Care, PruneRow, PruneScope, PruneStep, Pruned, StoreError, StoreResult, Tally, TenantQuotas,
    UsageRow, rules,
};
use horarium_model::execution::{Execution, State};
use horarium_model::quota::{QuotaHit, QuotaUse, Quotas, day_of};
use horarium_model::retention::Retention;
use horarium_model::{ConfigId, ExecutionId, TenantId, Timestamp};
use std::ops::Range;
use std::time::Duration;

#[async_trait::async_trait]
impl Care for MemoryStore {
    async fn begin_care(&self, now: Timestamp, every: Duration) -> StoreResult<bool> {
        let mut inner = self.lock();
        let every = chrono::Duration::from_std(every).unwrap_or(chrono::Duration::MAX);
        let due = inner.cared_at.is_none_or(|at| now - at >= every);
        if due {
            inner.cared_at = Some(now);
        }
        Ok(due)
    }

    async fn prune(&self, step: &PruneStep) -> StoreResult<Pruned> {
        let mut inner = self.lock();
        let rows = inner.prunable(step);
        let (due, pruned) = step.decide(&rows);
        if !step.dry_run {
            for row in due {
                if let Some(shown) = inner.history.remove(&row.id) {
                    inner.forget(&shown);
                }
            }
        }
        Ok(pruned)
    }

    async fn history_count(&self, tenant: TenantId) -> StoreResult<u64> {
        let inner = self.lock();
        let ended = inner.history.values().filter(|e| e.tenant_id == tenant);
        Ok(ended.count() as u64)
    }

    async fn beyond_newest(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
        keep: u64,
    ) -> StoreResult<Vec<(ConfigId, Option<ExecutionId>)>> {
        let inner = self.lock();
        let configs = inner.living_configs(tenant, after, limit);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let beyond = |config: ConfigId| {
            let newest = inner.history.values().rev();
            let mut ended = newest.filter(|e| e.config_id == Some(config));
            (config, ended.nth(keep).map(|e| e.id))
        };
        Ok(configs.into_iter().map(beyond).collect())
    }

    async fn retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
    ) -> StoreResult<Option<Retention>> {
        let key = (tenant, config.unwrap_or(0));
        Ok(self.lock().retentions.get(&key).copied())
    }

    async fn set_retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
        retention: Retention,
    ) -> StoreResult<()> {
        let mut inner = self.lock();
        inner.living_tenant(tenant)?;
        if let Some(id) = config
            && inner.config(tenant, id).is_none()
        {
            return Err(StoreError::NotFound(rules::no_config(id)));
        }
        let key = (tenant, config.unwrap_or(0));
        if retention.is_empty() {
            inner.retentions.remove(&key);
        } else {
            inner.retentions.insert(key, retention);
        }
        Ok(())
    }

    async fn config_retentions(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<(ConfigId, Retention)>> {
        let inner = self.lock();
        let of_configs = (tenant, after.max(0) + 1)..=(tenant, ConfigId::MAX);
        let found = inner.retentions.range(of_configs);
        let living = found.filter(|((_, id), _)| inner.config(tenant, *id).is_some());
        let each = living.map(|((_, id), retention)| (*id, *retention));
        Ok(each.take(limit as usize).collect())
    }

    async fn quotas(&self, tenant: TenantId) -> StoreResult<Option<TenantQuotas>> {
        let inner = self.lock();
        let found = inner.living_tenant(tenant).ok();
        Ok(found.map(|name| TenantQuotas {
            tenant: name,
            quotas: inner.quotas_of(tenant),
        }))
    }

    async fn set_quotas(&self, tenant: TenantId, quotas: Quotas) -> StoreResult<()> {
        let mut inner = self.lock();
        inner.living_tenant(tenant)?;
        let bounds = inner.bounds.entry(tenant).or_default();
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        bounds.max = quotas.concurrency.map(small);
        bounds.backlog = quotas.backlog.map(small);
        inner.quotas.insert(tenant, quotas);
        Ok(())
    }

    async fn quota_use(&self, now: Timestamp, tenant: TenantId) -> StoreResult<QuotaUse> {
        let inner = self.lock();
        let live = |wanted: fn(State) -> bool| {
            let rows = inner.live.values().map(|row| &row.shown);
            rows.filter(|e| e.tenant_id == tenant && wanted(e.state))
                .count() as u64
        };
        Ok(QuotaUse {
            running: live(|state| state == State::Running),
            waiting: live(State::is_waiting),
            spent: inner.spent(now, tenant),
            plugins: inner.count_types(tenant),
            configs: inner.count_configs(tenant),
            history: inner
                .history
                .values()
                .filter(|e| e.tenant_id == tenant)
                .count() as u64,
            state_bytes: inner.state_bytes(tenant),
        })
    }

    async fn usage(
        &self,
        tenant: Option<TenantId>,
        days: Range<i64>,
    ) -> StoreResult<Vec<UsageRow>> {
        let inner = self.lock();
        let wanted = inner.usage.iter().filter(|((of, day, _), _)| {
            tenant.is_none_or(|tenant| tenant == *of) && days.contains(day)
        });
        let row =
            |((tenant_id, day, task_type), tally): (&(TenantId, i64, String), &Tally)| UsageRow {
                tenant_id: *tenant_id,
                day: *day,
                task_type: task_type.clone(),
                tally: *tally,
            };
        Ok(wanted.map(row).collect())
    }

    async fn fold_usage(&self, _day: i64) -> StoreResult<bool> {
        Ok(false)
    }
}

impl Inner {
    /// What a tenant may use.
    fn quotas_of(&self, tenant: TenantId) -> Quotas {
        let bounds = self.bounds.get(&tenant).copied().unwrap_or_default();
        Quotas {
            concurrency: bounds.max.map(u64::from),
            backlog: bounds.backlog.map(u64::from),
            ..self.quotas.get(&tenant).copied().unwrap_or_default()
        }
    }

    fn count_types(&self, tenant: TenantId) -> u64 {
        self.types.keys().filter(|(of, _)| *of == tenant).count() as u64
    }

    fn count_configs(&self, tenant: TenantId) -> u64 {
        self.living_configs(tenant, 0, u32::MAX).len() as u64
    }

    fn state_bytes(&self, tenant: TenantId) -> u64 {
        let rows = self
            .configs
            .values()
            .filter(|row| row.config.tenant_id == tenant && row.config.deleted_at.is_none());
        let entries = rows.flat_map(|row| &row.state);
        let bytes = entries.map(|(key, entry)| rules::state_size(key, &entry.value));
        bytes.sum::<i64>().unsigned_abs()
    }

    /// Refuses a config that would be one too many.
    pub(super) fn refuse_config(&self, tenant: TenantId) -> StoreResult<()> {
        let limit = self.quotas_of(tenant).configs;
        rules::refuse_beyond("configs", limit, self.count_configs(tenant))
    }

    /// Refuses a task type that would be one too many.
    pub(super) fn refuse_type(&self, tenant: TenantId, name: &str) -> StoreResult<()> {
        if self.types.contains_key(&(tenant, name.to_owned())) {
            return Ok(());
        }
        let limit = self.quotas_of(tenant).plugins;
        rules::refuse_beyond("plugins", limit, self.count_types(tenant))
    }

    /// Refuses state that would be too much.
    pub(super) fn refuse_state(&self, tenant: TenantId, grows: i64) -> Result<(), QuotaHit> {
        let limit = self.quotas_of(tenant).state_bytes;
        rules::refuse_state(limit, self.state_bytes(tenant), grows)
    }

    /// Adds to what a tenant used today.
    pub(super) fn use_up(&mut self, now: Timestamp, shown: &(TenantId, String), tally: Tally) {
        if tally != Tally::default() {
            let key = (shown.0, day_of(now), shown.1.clone());
            self.usage.entry(key).or_default().add(&tally);
        }
    }

    /// Ids of a tenant's configs.
    fn living_configs(&self, tenant: TenantId, after: ConfigId, limit: u32) -> Vec<ConfigId> {
        let later = self.configs.range(after.saturating_add(1)..);
        let living = later
            .filter(|(_, row)| row.config.tenant_id == tenant && row.config.deleted_at.is_none());
        living.map(|(id, _)| *id).take(limit as usize).collect()
    }

    /// What a step of pruning looks at.
    fn prunable(&self, step: &PruneStep) -> Vec<PruneRow> {
        let tenant = step.tenant();
        let row = |e: &Execution| PruneRow {
            id: e.id,
            state: e.state,
            completed_at: e.completed_at.map_or(0, |at| at.timestamp_micros()),
            created_at: e.created_at.timestamp_micros(),
        };
        let ended = self.history.values().filter(|e| e.tenant_id == tenant);
        let mut rows: Vec<PruneRow> = match &step.scope {
            PruneScope::Config { config, .. } => ended
                .filter(|e| e.config_id == Some(*config))
                .map(row)
                .filter(|row| step.after.is_none_or(|(_, id)| row.id > id))
                .collect(),
            PruneScope::Ages { .. } | PruneScope::Oldest { .. } => ended
                .map(row)
                .filter(|row| {
                    let mark = (row.completed_at, row.id);
                    step.after.is_none_or(|after| mark > after) && row.completed_at < step.horizon()
                })
                .collect(),
        };
        if !matches!(step.scope, PruneScope::Config { .. }) {
            rows.sort_unstable_by_key(|row| (row.completed_at, row.id));
        }
        rows.truncate(step.look() as usize);
        rows
    }
}
