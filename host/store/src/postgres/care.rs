//! Care of what ended.

use super::end::forget;
use super::rows::{Cells as _, Reader};
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{PostgresStore, access, configs, sql};
use crate::care::{
    Folding, QuotaColumns, StateRoom, Usages, config_retention, prune_row, tenant_quotas, usage_row,
};
use crate::choose::spent_of;
use crate::columns::{micros, text};
use horarium_core::store::{
    Care, FOLD_ROWS, PruneRow, PruneScope, PruneStep, Pruned, StoreError, StoreResult,
    TenantQuotas, UsageRow, rules,
};
use horarium_model::quota::{QuotaUse, Quotas, day_of};
use horarium_model::retention::Retention;
use horarium_model::{ConfigId, ExecutionId, TenantId, Timestamp};
use sqlx::postgres::PgConnection;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

#[async_trait::async_trait]
impl Care for PostgresStore {
    async fn begin_care(&self, now: Timestamp, every: Duration) -> StoreResult<bool> {
        let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
        self.write(move |tx| {
            Box::pin(async move {
                let beginning = query(sql::BEGIN_CARE).bind(micros(now)).bind(every);
                let done = beginning.execute(tx.connection()).await?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }

    /// What ended does not change, so the rows are not locked; somebody else may remove them meanwhile.
    async fn prune(&self, step: &PruneStep) -> StoreResult<Pruned> {
        let wanted = Arc::new(step.clone());
        let rows = self
            .read(move |connection| {
                let wanted = wanted.clone();
                Box::pin(async move { prunable(connection, &wanted).await })
            })
            .await?;
        let (due, pruned) = step.decide(&rows);
        if !due.is_empty() && !step.dry_run {
            let (due, tenant): (Arc<[PruneRow]>, _) = (due.into(), step.tenant());
            self.write(move |tx| {
                let due = due.clone();
                Box::pin(async move { remove(tx, tenant, &due).await })
            })
            .await?;
        }
        Ok(pruned)
    }

    async fn history_count(&self, tenant: TenantId) -> StoreResult<u64> {
        self.read(move |connection| {
            Box::pin(async move {
                let counting = query_scalar(sql::HISTORY_COUNT).bind(tenant);
                let count: i64 = counting.fetch_one(connection).await?;
                Ok(count.unsigned_abs())
            })
        })
        .await
    }

    async fn beyond_newest(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
        keep: u64,
    ) -> StoreResult<Vec<(ConfigId, Option<ExecutionId>)>> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        self.read(move |connection| {
            Box::pin(async move {
                let looking = query_as(sql::BEYOND_NEWEST)
                    .bind(tenant)
                    .bind(after)
                    .bind(i64::from(limit))
                    .bind(keep);
                Ok(looking.fetch_all(connection).await?)
            })
        })
        .await
    }

    async fn retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
    ) -> StoreResult<Option<Retention>> {
        self.read(move |connection| {
            Box::pin(async move {
                let reading = query(sql::RETENTION).bind(tenant).bind(config.unwrap_or(0));
                let row = reading.fetch_optional(connection).await?;
                let read = |row| Reader::plain(row, "retentions").json("retention");
                Ok(row.as_ref().map(read).transpose()?)
            })
        })
        .await
    }

    async fn set_retention(
        &self,
        tenant: TenantId,
        config: Option<ConfigId>,
        retention: Retention,
    ) -> StoreResult<()> {
        self.write(move |tx| Box::pin(set_retention(tx, tenant, config, retention)))
            .await
    }

    async fn config_retentions(
        &self,
        tenant: TenantId,
        after: ConfigId,
        limit: u32,
    ) -> StoreResult<Vec<(ConfigId, Retention)>> {
        self.read(move |connection| {
            Box::pin(async move {
                let reading = query(sql::CONFIG_RETENTIONS)
                    .bind(tenant)
                    .bind(after.max(0))
                    .bind(i64::from(limit));
                let rows = reading.fetch_all(connection).await?;
                let read = |row| config_retention(&mut Reader::plain(row, "retentions"));
                Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
            })
        })
        .await
    }

    async fn quotas(&self, tenant: TenantId) -> StoreResult<Option<TenantQuotas>> {
        self.read(move |connection| Box::pin(quotas(connection, tenant)))
            .await
    }

    async fn set_quotas(&self, tenant: TenantId, quotas: Quotas) -> StoreResult<()> {
        self.write(move |tx| Box::pin(set_quotas(tx, tenant, quotas)))
            .await
    }

    async fn quota_use(&self, now: Timestamp, tenant: TenantId) -> StoreResult<QuotaUse> {
        self.read(move |connection| Box::pin(quota_use(connection, now, tenant)))
            .await
    }

    async fn usage(
        &self,
        tenant: Option<TenantId>,
        days: Range<i64>,
    ) -> StoreResult<Vec<UsageRow>> {
        let (first, end) = (days.start, days.end);
        self.read(move |connection| {
            Box::pin(async move {
                let reading = query(sql::USAGE).bind(tenant).bind(first).bind(end);
                let rows = reading.fetch_all(connection).await?;
                let read = |row| usage_row(&mut Reader::plain(row, "usage_days"));
                Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
            })
        })
        .await
    }

    async fn fold_usage(&self, day: i64) -> StoreResult<bool> {
        self.write(move |tx| Box::pin(fold(tx, day))).await
    }
}

async fn prunable(connection: &mut PgConnection, step: &PruneStep) -> PgResult<Vec<PruneRow>> {
    let (first, second) = step.after.unwrap_or((i64::MIN, i64::MIN));
    let looking = match &step.scope {
        PruneScope::Config { config, .. } => query(sql::PRUNE_OF_CONFIG)
            .bind(*config)
            .bind(second)
            .bind(i64::from(step.look())),
        PruneScope::Ages { .. } | PruneScope::Oldest { .. } => query(sql::PRUNE_BY_AGE)
            .bind(step.tenant())
            .bind(first)
            .bind(second)
            .bind(step.horizon())
            .bind(i64::from(step.look())),
    };
    let rows = looking.fetch_all(connection).await?;
    let read = |row| prune_row(&mut Reader::plain(row, "task_executions"));
    Ok(rows.iter().map(read).collect::<StoreResult<_>>()?)
}

async fn remove(tx: &mut Tx, tenant: TenantId, due: &[PruneRow]) -> PgResult<()> {
    let ids: Vec<i64> = due.iter().map(|row| row.id).collect();
    let mut ends: Vec<i64> = due.iter().map(|row| row.completed_at).collect();
    ends.sort_unstable();
    ends.dedup();
    let removing = query(sql::PRUNE).bind(tenant).bind(&ids).bind(ends);
    removing.execute(tx.connection()).await?;
    let beside: Vec<(i64, i64)> = ids.into_iter().map(|id| (tenant, id)).collect();
    forget(tx, &beside).await
}

async fn set_retention(
    tx: &mut Tx,
    tenant: TenantId,
    config: Option<ConfigId>,
    retention: Retention,
) -> PgResult<()> {
    match config {
        Some(id) => {
            configs::found(tx.connection(), tenant, id).await?;
        }
        None => {
            access::refuse_deleted(tx, tenant).await?;
            access::tenant_by_id(tx.connection(), tenant).await?;
        }
    }
    let key = config.unwrap_or(0);
    let writing = match retention.is_empty() {
        true => query(sql::UNSET_RETENTION).bind(tenant).bind(key),
        false => query(sql::SET_RETENTION)
            .bind(tenant)
            .bind(key)
            .bind(text(&retention)?),
    };
    writing.execute(tx.connection()).await?;
    Ok(())
}

pub(super) async fn quotas(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> PgResult<Option<TenantQuotas>> {
    let row = query(sql::QUOTAS)
        .bind(tenant)
        .fetch_optional(connection)
        .await?;
    let read = |row| tenant_quotas(&mut Reader::plain(row, "tenants"));
    Ok(row.as_ref().map(read).transpose()?)
}

async fn set_quotas(tx: &mut Tx, tenant: TenantId, quotas: Quotas) -> PgResult<()> {
    let columns = QuotaColumns::of(&quotas)?;
    let setting = query(sql::SET_QUOTAS)
        .bind(tenant)
        .bind(columns.concurrency)
        .bind(columns.backlog)
        .bind(columns.others)
        .bind(columns.of_claims);
    let changed = setting.execute(tx.connection()).await?.rows_affected();
    // What waited for a lower quota may start.
    tx.tidings.enqueued = true;
    match changed {
        0 => Err(StoreError::NotFound(rules::no_tenant(tenant)).into()),
        _ => Ok(()),
    }
}

async fn count(
    connection: &mut PgConnection,
    statement: &'static str,
    tenant: TenantId,
) -> PgResult<u64> {
    let counting = query_scalar(statement).bind(tenant);
    let count: i64 = counting.fetch_one(connection).await?;
    Ok(count.unsigned_abs())
}

async fn quota_use(
    connection: &mut PgConnection,
    now: Timestamp,
    tenant: TenantId,
) -> PgResult<QuotaUse> {
    let row = query(sql::QUOTAS_SPENT)
        .bind(vec![tenant])
        .bind(day_of(now))
        .fetch_optional(&mut *connection)
        .await?;
    let spent = |row| spent_of(&mut Reader::plain(row, "tenants"), now);
    let waiting: i64 = query_scalar(sql::WAITING_OF_TENANT)
        .bind(tenant)
        .bind(i64::MAX)
        .fetch_one(&mut *connection)
        .await?;
    Ok(QuotaUse {
        running: count(connection, sql::COUNT_TENANT_RUNNING, tenant).await?,
        waiting: waiting.unsigned_abs(),
        spent: row.as_ref().map(spent).transpose()?.unwrap_or_default(),
        plugins: count(connection, sql::COUNT_TENANT_TYPES, tenant).await?,
        configs: count(connection, sql::COUNT_TENANT_CONFIGS, tenant).await?,
        history: count(connection, sql::HISTORY_COUNT, tenant).await?,
        state_bytes: count(connection, sql::STATE_BYTES, tenant).await?,
    })
}

/// The tenant's quota, if it has that one. Then its row is locked, so that nobody counts at the same time.
pub(super) async fn lock_tenant(
    tx: &mut Tx,
    tenant: TenantId,
    which: fn(&Quotas) -> Option<u64>,
) -> PgResult<Option<u64>> {
    let known = quotas(tx.connection(), tenant).await?;
    let limit = known.and_then(|known| which(&known.quotas));
    if limit.is_some() {
        let locking = query(sql::LOCK_TENANTS).bind(vec![tenant]);
        locking.execute(tx.connection()).await?;
    }
    Ok(limit)
}

/// Refuses a config, which was inserted, that is one too many.
pub(super) async fn refuse_config(tx: &mut Tx, tenant: TenantId) -> PgResult<()> {
    let Some(limit) = lock_tenant(tx, tenant, |quotas| quotas.configs).await? else {
        return Ok(());
    };
    let used = count(tx.connection(), sql::COUNT_TENANT_CONFIGS, tenant).await?;
    Ok(rules::refuse_beyond(
        "configs",
        Some(limit),
        used.saturating_sub(1),
    )?)
}

/// Refuses a task type, which was inserted under the tenant's lock, that is one too many.
pub(super) async fn refuse_type(tx: &mut Tx, tenant: TenantId, limit: Option<u64>) -> PgResult<()> {
    if limit.is_none() {
        return Ok(());
    }
    let used = count(tx.connection(), sql::COUNT_TENANT_TYPES, tenant).await?;
    Ok(rules::refuse_beyond(
        "plugins",
        limit,
        used.saturating_sub(1),
    )?)
}

/// How much of its state's quota a tenant has taken; nobody else writes any of it meanwhile.
pub(super) async fn state_room(tx: &mut Tx, tenant: TenantId, limit: u64) -> PgResult<StateRoom> {
    let locking = query(sql::LOCK_STATE).bind(tenant.to_string());
    locking.execute(tx.connection()).await?;
    let used = count(tx.connection(), sql::STATE_BYTES, tenant).await?;
    Ok(StateRoom::new(tenant, limit, used))
}

/// Adds what a batch used to the sums of the day. Each host has rows of its own, so that none waits for another.
pub(super) async fn use_up(tx: &mut Tx, now: Timestamp, usages: &Usages) -> PgResult<()> {
    if let Some(rows) = usages.rows(now)? {
        let adding = query(sql::ADD_USAGE).bind(rows);
        adding.execute(tx.connection()).await?;
    }
    Ok(())
}

async fn fold(tx: &mut Tx, day: i64) -> PgResult<bool> {
    let reading = query(sql::UNFOLDED).bind(day).bind(i64::from(FOLD_ROWS));
    let rows = reading.fetch_all(tx.connection()).await?;
    let folding = Folding::of(rows.iter().map(|row| Reader::plain(row, "usage_days")))?;
    if folding.count == 0 {
        return Ok(false);
    }
    for (statement, rows) in [
        (sql::DROP_USAGE, &folding.gone),
        (sql::ADD_USAGE, &folding.sums),
    ] {
        let writing = query(statement).bind(rows);
        writing.execute(tx.connection()).await?;
    }
    Ok(folding.count >= FOLD_ROWS as usize)
}
