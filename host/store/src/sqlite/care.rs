//! Care of what ended.

use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{SqliteStore, configs, db, deletions, sql};
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
use sqlx::sqlite::SqliteConnection;
use std::ops::Range;
use std::time::Duration;

#[async_trait::async_trait]
impl Care for SqliteStore {
    async fn begin_care(&self, now: Timestamp, every: Duration) -> StoreResult<bool> {
        let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
        self.write(move |tx| {
            Box::pin(async move {
                let beginning = sqlx::query(sql::BEGIN_CARE).bind(micros(now)).bind(every);
                let done = beginning.execute(tx.write()).await.map_err(db)?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }

    /// The rows are read beside the writer, which only removes: what ended does not change.
    async fn prune(&self, step: &PruneStep) -> StoreResult<Pruned> {
        let wanted = step.clone();
        let rows = self
            .read(move |connection| Box::pin(async move { prunable(connection, &wanted).await }))
            .await?;
        let (due, pruned) = step.decide(&rows);
        if !due.is_empty() && !step.dry_run {
            let ids: Vec<i64> = due.iter().map(|row| row.id).collect();
            self.write(move |tx| {
                let ids = ids.clone();
                Box::pin(async move { deletions::remove(tx, &ids).await })
            })
            .await?;
        }
        Ok(pruned)
    }

    async fn history_count(&self, tenant: TenantId) -> StoreResult<u64> {
        self.read(move |connection| {
            Box::pin(async move {
                let counting = sqlx::query(sql::HISTORY_COUNT).bind(tenant);
                let row = counting.fetch_one(connection).await.map_err(db)?;
                Reader::plain(&row, "task_executions").number("count")
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
                let looking = sqlx::query(sql::BEYOND_NEWEST)
                    .bind(tenant)
                    .bind(after)
                    .bind(limit)
                    .bind(keep);
                let rows = looking.fetch_all(connection).await.map_err(db)?;
                rows.iter()
                    .map(|row| {
                        let mut r = Reader::plain(row, "task_configs");
                        Ok((r.int("id")?, r.opt_int("execution")?))
                    })
                    .collect()
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
                let reading = sqlx::query(sql::RETENTION)
                    .bind(tenant)
                    .bind(config.unwrap_or(0));
                let row = reading.fetch_optional(connection).await.map_err(db)?;
                let read = |row| Reader::plain(row, "retentions").json("retention");
                row.as_ref().map(read).transpose()
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
                let reading = sqlx::query(sql::CONFIG_RETENTIONS)
                    .bind(tenant)
                    .bind(after.max(0))
                    .bind(limit);
                let rows = reading.fetch_all(connection).await.map_err(db)?;
                let read = |row| config_retention(&mut Reader::plain(row, "retentions"));
                rows.iter().map(read).collect()
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
        self.read(move |connection| {
            Box::pin(async move {
                let reading = sqlx::query(sql::USAGE)
                    .bind(tenant)
                    .bind(days.start)
                    .bind(days.end);
                let rows = reading.fetch_all(connection).await.map_err(db)?;
                let read = |row| usage_row(&mut Reader::plain(row, "usage_days"));
                rows.iter().map(read).collect()
            })
        })
        .await
    }

    async fn fold_usage(&self, day: i64) -> StoreResult<bool> {
        self.write(move |tx| Box::pin(fold(tx, day))).await
    }
}

async fn prunable(
    connection: &mut SqliteConnection,
    step: &PruneStep,
) -> StoreResult<Vec<PruneRow>> {
    let (first, second) = step.after.unwrap_or((i64::MIN, i64::MIN));
    let looking = match &step.scope {
        PruneScope::Config { config, .. } => sqlx::query(sql::PRUNE_OF_CONFIG)
            .bind(*config)
            .bind(second)
            .bind(step.look()),
        PruneScope::Ages { .. } | PruneScope::Oldest { .. } => sqlx::query(sql::PRUNE_BY_AGE)
            .bind(step.tenant())
            .bind(first)
            .bind(second)
            .bind(step.horizon())
            .bind(step.look()),
    };
    let rows = looking.fetch_all(connection).await.map_err(db)?;
    let read = |row| prune_row(&mut Reader::plain(row, "task_executions"));
    rows.iter().map(read).collect()
}

async fn set_retention(
    tx: &mut Tx,
    tenant: TenantId,
    config: Option<ConfigId>,
    retention: Retention,
) -> StoreResult<()> {
    match config {
        Some(id) => {
            configs::found(tx.read(), tenant, id).await?;
        }
        None => {
            let finding = sqlx::query(sql::TENANT_BY_ID).bind(tenant);
            if finding
                .fetch_optional(tx.read())
                .await
                .map_err(db)?
                .is_none()
            {
                return Err(StoreError::NotFound(rules::no_tenant(tenant)));
            }
        }
    }
    let key = config.unwrap_or(0);
    let writing = match retention.is_empty() {
        true => sqlx::query(sql::UNSET_RETENTION).bind(tenant).bind(key),
        false => sqlx::query(sql::SET_RETENTION)
            .bind(tenant)
            .bind(key)
            .bind(text(&retention)?),
    };
    writing.execute(tx.write()).await.map_err(db)?;
    Ok(())
}

pub(super) async fn quotas(
    connection: &mut SqliteConnection,
    tenant: TenantId,
) -> StoreResult<Option<TenantQuotas>> {
    let reading = sqlx::query(sql::QUOTAS).bind(tenant);
    let row = reading.fetch_optional(connection).await.map_err(db)?;
    let read = |row| tenant_quotas(&mut Reader::plain(row, "tenants"));
    row.as_ref().map(read).transpose()
}

async fn set_quotas(tx: &mut Tx, tenant: TenantId, quotas: Quotas) -> StoreResult<()> {
    let columns = QuotaColumns::of(&quotas)?;
    let setting = sqlx::query(sql::SET_QUOTAS)
        .bind(tenant)
        .bind(columns.concurrency)
        .bind(columns.backlog)
        .bind(columns.others)
        .bind(columns.of_claims);
    match setting
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected()
    {
        0 => Err(StoreError::NotFound(rules::no_tenant(tenant))),
        _ => Ok(()),
    }
}

async fn count(
    connection: &mut SqliteConnection,
    statement: &'static str,
    tenant: TenantId,
) -> StoreResult<u64> {
    let counting = sqlx::query(statement).bind(tenant);
    let row = counting.fetch_one(connection).await.map_err(db)?;
    Reader::plain(&row, "tenants").number("count")
}

async fn quota_use(
    connection: &mut SqliteConnection,
    now: Timestamp,
    tenant: TenantId,
) -> StoreResult<QuotaUse> {
    let reading = sqlx::query(sql::QUOTAS_SPENT)
        .bind(text(&[tenant])?)
        .bind(day_of(now));
    let row = reading.fetch_optional(&mut *connection).await.map_err(db)?;
    let spent = |row| spent_of(&mut Reader::plain(row, "tenants"), now);
    let waiting = sqlx::query(sql::WAITING)
        .bind(tenant)
        .bind(None::<String>)
        .bind(i64::MAX);
    let waiting = waiting.fetch_one(&mut *connection).await.map_err(db)?;
    Ok(QuotaUse {
        running: count(connection, sql::COUNT_TENANT_RUNNING, tenant).await?,
        waiting: Reader::plain(&waiting, "live_executions").number("count")?,
        spent: row.as_ref().map(spent).transpose()?.unwrap_or_default(),
        plugins: count(connection, sql::COUNT_TENANT_TYPES, tenant).await?,
        configs: count(connection, sql::COUNT_TENANT_CONFIGS, tenant).await?,
        history: count(connection, sql::HISTORY_COUNT, tenant).await?,
        state_bytes: count(connection, sql::STATE_BYTES, tenant).await?,
    })
}

/// Refuses a config that would be one too many.
pub(super) async fn refuse_config(tx: &mut Tx, tenant: TenantId) -> StoreResult<()> {
    let known = quotas(tx.read(), tenant).await?;
    let Some(limit) = known.and_then(|known| known.quotas.configs) else {
        return Ok(());
    };
    let used = count(tx.read(), sql::COUNT_TENANT_CONFIGS, tenant).await?;
    rules::refuse_beyond("configs", Some(limit), used)
}

/// Refuses a task type that would be one too many.
pub(super) async fn refuse_type(tx: &mut Tx, tenant: TenantId, name: &str) -> StoreResult<()> {
    let known = quotas(tx.read(), tenant).await?;
    let Some(limit) = known.and_then(|known| known.quotas.plugins) else {
        return Ok(());
    };
    let asking = sqlx::query(sql::HAS_TYPE).bind(tenant).bind(name);
    if asking
        .fetch_optional(tx.read())
        .await
        .map_err(db)?
        .is_some()
    {
        return Ok(());
    }
    let used = count(tx.read(), sql::COUNT_TENANT_TYPES, tenant).await?;
    rules::refuse_beyond("plugins", Some(limit), used)
}

/// How much of its state's quota a tenant has taken.
pub(super) async fn state_room(
    tx: &mut Tx,
    tenant: TenantId,
    limit: u64,
) -> StoreResult<StateRoom> {
    let used = count(tx.read(), sql::STATE_BYTES, tenant).await?;
    Ok(StateRoom::new(tenant, limit, used))
}

/// Adds what a batch used to the sums of the day.
pub(super) async fn use_up(tx: &mut Tx, now: Timestamp, usages: &Usages) -> StoreResult<()> {
    if let Some(rows) = usages.rows(now)? {
        let adding = sqlx::query(sql::ADD_USAGE).bind(rows);
        adding.execute(tx.write()).await.map_err(db)?;
    }
    Ok(())
}

async fn fold(tx: &mut Tx, day: i64) -> StoreResult<bool> {
    let reading = sqlx::query(sql::UNFOLDED).bind(day).bind(FOLD_ROWS);
    let rows = reading.fetch_all(tx.read()).await.map_err(db)?;
    let folding = Folding::of(rows.iter().map(|row| Reader::plain(row, "usage_days")))?;
    if folding.count == 0 {
        return Ok(false);
    }
    for (statement, rows) in [
        (sql::DROP_USAGE, &folding.gone),
        (sql::ADD_USAGE, &folding.sums),
    ] {
        let writing = sqlx::query(statement).bind(rows);
        writing.execute(tx.write()).await.map_err(db)?;
    }
    Ok(folding.count >= FOLD_ROWS as usize)
}
