//! Configs: creating, reading and changing them.

use super::fire::write_skips;
use super::tx::Tx;
use super::{answers, db, rows, sql};
use crate::columns::{cut, micros, opt_micros, text};
use crate::firing::{Skip, SkippedOf};
use horarium_core::store::{
    ConfigFilter, ConfigUpdate, Created, KeyedRequest, Listing, Page, StoreError, StoreResult,
    rules,
};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::cron::ZONE_DATA;
use horarium_model::{ConfigId, TaskConfig, TaskSpec, TenantId, Timestamp};
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};

/// A config that is not deleted.
pub(super) async fn config(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: ConfigId,
) -> StoreResult<Option<TaskConfig>> {
    let row = sqlx::query(sql::CONFIG)
        .bind(tenant)
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.as_ref().map(rows::config).transpose()
}

/// A config that must exist.
pub(super) async fn found(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: ConfigId,
) -> StoreResult<TaskConfig> {
    config(connection, tenant, id)
        .await?
        .ok_or_else(|| StoreError::NotFound(rules::no_config(id)))
}

pub(super) async fn by_key(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    key: &str,
) -> StoreResult<Option<TaskConfig>> {
    let row = sqlx::query(sql::CONFIG_BY_KEY)
        .bind(tenant)
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.as_ref().map(rows::config).transpose()
}

pub(super) async fn by_ids(
    connection: &mut SqliteConnection,
    ids: &[ConfigId],
) -> StoreResult<Vec<TaskConfig>> {
    let found = sqlx::query(sql::CONFIGS_BY_IDS)
        .bind(text(&ids)?)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    found.iter().map(rows::config).collect()
}

pub(super) async fn changed(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    since: Timestamp,
    limit: u32,
) -> StoreResult<Vec<TaskConfig>> {
    let found = sqlx::query(sql::CHANGED_CONFIGS)
        .bind(tenant)
        .bind(micros(since))
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    found.iter().map(rows::config).collect()
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    filter: &ConfigFilter,
    page: &Page,
) -> StoreResult<Listing<TaskConfig>> {
    let found = sqlx::query(sql::LIST_CONFIGS)
        .bind(tenant)
        .bind(page.after.unwrap_or(ConfigId::MAX))
        .bind(filter.task_type.as_deref())
        .bind(filter.scheduler_type.map(|kind| kind.as_str()))
        .bind(filter.paused)
        .bind(filter.name.as_ref().map(|name| name.to_lowercase()))
        .bind(i64::from(page.limit) + 1)
        .bind(filter.declared_by.as_deref())
        .fetch_all(connection)
        .await
        .map_err(db)?;
    let items = found
        .iter()
        .map(rows::config)
        .collect::<StoreResult<Vec<_>>>()?;
    Ok(cut(items, page, |config| config.id))
}

/// Binds a spec's columns; `INSERT_CONFIG` and `UPDATE_CONFIG` differ in `?2` alone.
fn spec_query(
    statement: &'static str,
    now: Timestamp,
    second: i64,
    spec: &TaskSpec,
) -> StoreResult<Query<'static, Sqlite, SqliteArguments>> {
    let concurrency = spec.concurrency.as_ref().map(text).transpose()?;
    let expires = spec
        .expires_after_seconds
        .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(sqlx::query(statement)
        .bind(micros(now))
        .bind(second)
        .bind(spec.key.clone())
        .bind(spec.name.clone())
        .bind(spec.name.to_lowercase())
        .bind(spec.task_type.clone())
        .bind(spec.schedule.kind().as_str())
        .bind(text(&spec.parameters)?)
        .bind(text(&spec.schedule.to_json())?)
        .bind(i64::from(spec.max_retries))
        .bind(i64::from(spec.timeout_seconds))
        .bind(spec.priority)
        .bind(text(&spec.limits)?)
        .bind(text(&spec.retry_policy)?)
        .bind(spec.overlap.map(rows::overlap_word))
        .bind(concurrency)
        .bind(text(&spec.chain)?)
        .bind(spec.plugin_version.clone())
        .bind(spec.paused)
        .bind(spec.pause_reason.clone())
        .bind(spec.pause_after_failures.map(i64::from))
        .bind(expires))
}

/// Refuses a key that another config has.
async fn check_key(
    tx: &mut Tx,
    tenant: TenantId,
    own: Option<ConfigId>,
    key: Option<&str>,
) -> StoreResult<()> {
    let Some(key) = key else { return Ok(()) };
    let row = sqlx::query(sql::KEY_OWNER)
        .bind(tenant)
        .bind(key)
        .fetch_optional(tx.read())
        .await
        .map_err(db)?;
    let owner: Option<i64> = row.map(|row| row.try_get(0)).transpose().map_err(db)?;
    match owner {
        Some(owner) if Some(owner) != own => Err(StoreError::Conflict(rules::key_taken(key))),
        _ => Ok(()),
    }
}

/// `Catalog::create_config_once`.
pub(super) async fn create_once(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    spec: &TaskSpec,
    request: Option<&KeyedRequest<TaskConfig>>,
) -> StoreResult<Created> {
    if let Some(request) = request
        && let Some(kept) = answers::find(tx.read(), now, request.tenant_id, &request.key).await?
    {
        return Ok(Created::Repeated(kept));
    }
    let config = create(tx, now, tenant, spec).await?;
    answers::keep(tx, now, request, &config).await?;
    Ok(Created::Done(Box::new(config)))
}

pub(super) async fn create(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    spec: &TaskSpec,
) -> StoreResult<TaskConfig> {
    super::access::refuse_deleted(tx, tenant).await?;
    super::care::refuse_config(tx, tenant).await?;
    check_key(tx, tenant, None, spec.key.as_deref()).await?;
    let row = spec_query(sql::INSERT_CONFIG, now, tenant, spec)?
        .fetch_one(tx.write())
        .await
        .map_err(db)?;
    let id: ConfigId = row.try_get(0).map_err(db)?;
    // The jitter depends on the id, so the first fire is known only now.
    let next_fire_at = rules::first_fire(spec, id, now)?;
    sqlx::query(sql::INSERT_SCHEDULE)
        .bind(id)
        .bind(opt_micros(next_fire_at))
        .bind(micros(now))
        .bind(ZONE_DATA)
        .execute(tx.write())
        .await
        .map_err(db)?;
    tx.bump_epoch().await?;
    found(tx.read(), tenant, id).await
}

/// Writes streaks of a config as skipped rows, in their order.
pub(super) async fn write_streaks(
    tx: &mut Tx,
    now: Timestamp,
    config: &TaskConfig,
    streaks: Vec<SkipStreak>,
) -> StoreResult<()> {
    if streaks.is_empty() {
        return Ok(());
    }
    let of = SkippedOf::new(config);
    let skips: Vec<_> = streaks
        .into_iter()
        .map(|streak| Skip {
            id: tx.next_execution(),
            of: of.clone(),
            streak,
        })
        .collect();
    write_skips(tx, now, &skips).await
}

pub(super) async fn update(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    id: ConfigId,
    update: &ConfigUpdate,
) -> StoreResult<TaskConfig> {
    let old = found(tx.read(), tenant, id).await?;
    if old.version != update.expected_version {
        let message = rules::version_conflict(id, old.version, update.expected_version);
        return Err(StoreError::Conflict(message));
    }
    check_key(tx, tenant, Some(id), update.spec.key.as_deref()).await?;
    let (state, streaks) = rules::reposition(&old, update);
    write_streaks(tx, now, &old, streaks).await?;
    spec_query(sql::UPDATE_CONFIG, now, id, &update.spec)?
        .execute(tx.write())
        .await
        .map_err(db)?;
    write_schedule(tx, id, &state).await?;
    tx.bump_epoch().await?;
    found(tx.read(), tenant, id).await
}

async fn write_schedule(tx: &mut Tx, id: ConfigId, state: &ScheduleState) -> StoreResult<()> {
    let skip = state.open_skip.as_ref();
    sqlx::query(sql::UPDATE_SCHEDULE)
        .bind(id)
        .bind(opt_micros(state.next_fire_at))
        .bind(opt_micros(state.last_slot))
        .bind(micros(state.anchor_at))
        .bind(skip.map(|skip| skip.reason.as_str()))
        .bind(skip.map(|skip| micros(skip.first)))
        .bind(skip.map(|skip| micros(skip.last)))
        .bind(skip.map(|skip| skip.count))
        .bind(i64::from(state.failures_in_a_row))
        .bind(ZONE_DATA)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}
