//! Configs: creating, reading and changing them.

use super::fire::write_skips;
use super::tx::{Fault, PgResult, Tx, query, query_scalar};
use super::{answers, enqueue, jsonb, rows, sql};
use crate::columns::{cut, micros, opt_micros, text};
use crate::firing::{Skip, SkippedOf};
use crate::rows::overlap_word;
use horarium_core::store::{
    ConfigFilter, ConfigUpdate, Created, KeyedRequest, Listing, Page, StoreError, StoreResult,
    rules,
};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::cron::ZONE_DATA;
use horarium_model::{ConfigId, TaskConfig, TaskSpec, TenantId, Timestamp};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::Query;

/// A config that is not deleted.
pub(super) async fn config(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: ConfigId,
) -> PgResult<Option<TaskConfig>> {
    let row = query(sql::CONFIG)
        .bind(tenant)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(rows::config).transpose()?)
}

/// A config that must exist.
pub(super) async fn found(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: ConfigId,
) -> PgResult<TaskConfig> {
    config(connection, tenant, id)
        .await?
        .ok_or_else(|| StoreError::NotFound(rules::no_config(id)).into())
}

pub(super) async fn by_key(
    connection: &mut PgConnection,
    tenant: TenantId,
    key: &str,
) -> PgResult<Option<TaskConfig>> {
    let row = query(sql::CONFIG_BY_KEY)
        .bind(tenant)
        .bind(key)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(rows::config).transpose()?)
}

pub(super) async fn by_ids(
    connection: &mut PgConnection,
    ids: &[ConfigId],
) -> PgResult<Vec<TaskConfig>> {
    let found = query(sql::CONFIGS_BY_IDS)
        .bind(ids)
        .fetch_all(connection)
        .await?;
    Ok(found.iter().map(rows::config).collect::<StoreResult<_>>()?)
}

pub(super) async fn changed(
    connection: &mut PgConnection,
    tenant: TenantId,
    since: Timestamp,
    limit: u32,
) -> PgResult<Vec<TaskConfig>> {
    let found = query(sql::CHANGED_CONFIGS)
        .bind(tenant)
        .bind(micros(since))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    Ok(found.iter().map(rows::config).collect::<StoreResult<_>>()?)
}

pub(super) async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &ConfigFilter,
    page: &Page,
) -> PgResult<Listing<TaskConfig>> {
    let found = query(sql::LIST_CONFIGS)
        .bind(tenant)
        .bind(page.after.unwrap_or(ConfigId::MAX))
        .bind(filter.task_type.as_deref())
        .bind(filter.scheduler_type.map(|kind| kind.as_str()))
        .bind(filter.paused)
        .bind(filter.name.as_ref().map(|name| name.to_lowercase()))
        .bind(i64::from(page.limit) + 1)
        .bind(filter.declared_by.as_deref())
        .fetch_all(connection)
        .await?;
    let items = found
        .iter()
        .map(rows::config)
        .collect::<StoreResult<Vec<_>>>()?;
    Ok(cut(items, page, |config| config.id))
}

/// JSON text of a value, as `jsonb` keeps it.
pub(super) fn json<T: serde::Serialize>(value: &T) -> StoreResult<String> {
    Ok(jsonb::text(&text(value)?).into_owned())
}

/// Binds a spec's columns; `INSERT_CONFIG` and `UPDATE_CONFIG` differ in `$2` alone.
fn spec_query(
    statement: &'static str,
    now: Timestamp,
    second: i64,
    spec: &TaskSpec,
) -> PgResult<Query<'static, Postgres, PgArguments>> {
    let concurrency = spec.concurrency.as_ref().map(json).transpose()?;
    let expires = spec
        .expires_after_seconds
        .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(query(statement)
        .bind(micros(now))
        .bind(second)
        .bind(spec.key.clone())
        .bind(spec.name.clone())
        .bind(spec.name.to_lowercase())
        .bind(spec.task_type.clone())
        .bind(spec.schedule.kind().as_str())
        .bind(json(&spec.parameters)?)
        .bind(json(&spec.schedule.to_json())?)
        .bind(i64::from(spec.max_retries))
        .bind(i64::from(spec.timeout_seconds))
        .bind(spec.priority)
        .bind(json(&spec.limits)?)
        .bind(json(&spec.retry_policy)?)
        .bind(spec.overlap.map(overlap_word))
        .bind(concurrency)
        .bind(json(&spec.chain)?)
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
) -> PgResult<()> {
    let Some(key) = key else { return Ok(()) };
    let owner: Option<i64> = query_scalar(sql::KEY_OWNER)
        .bind(tenant)
        .bind(key)
        .fetch_optional(tx.connection())
        .await?;
    match owner {
        Some(owner) if Some(owner) != own => {
            Err(StoreError::Conflict(rules::key_taken(key)).into())
        }
        _ => Ok(()),
    }
}

/// The refusal of a key that another host gave away since it was checked.
fn taken(error: sqlx::Error, spec: &TaskSpec) -> Fault {
    let constraint = error
        .as_database_error()
        .and_then(DatabaseError::constraint);
    match (&spec.key, constraint) {
        (Some(key), Some("task_configs_key")) => StoreError::Conflict(rules::key_taken(key)).into(),
        _ => error.into(),
    }
}

/// Tells caches that configs, plugins or grants changed. The last lock a transaction takes: one that makes several
/// changes holds it back until then.
pub(super) async fn bump_epoch(tx: &mut Tx) -> PgResult<()> {
    tx.tidings.catalog = true;
    if tx.holds_epoch {
        return Ok(());
    }
    query(sql::BUMP_EPOCH).execute(tx.connection()).await?;
    Ok(())
}

/// Locks the schedule of a config: whoever changes a config holds it.
pub(super) async fn lock_schedule(tx: &mut Tx, id: ConfigId) -> PgResult<()> {
    query(sql::LOCK_SCHEDULES)
        .bind(vec![id])
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// `Catalog::create_config_once`.
pub(super) async fn create_once(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    spec: &TaskSpec,
    request: Option<&KeyedRequest<TaskConfig>>,
) -> PgResult<Created> {
    if let Some(request) = request {
        let (owner, key) = (request.tenant_id, &request.key);
        if let Some(kept) = answers::find(tx.connection(), now, owner, key).await? {
            return Ok(Created::Repeated(kept));
        }
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
) -> PgResult<TaskConfig> {
    check_key(tx, tenant, None, spec.key.as_deref()).await?;
    let inserting = spec_query(sql::INSERT_CONFIG, now, tenant, spec)?;
    let row = inserting.fetch_one(tx.connection()).await;
    let row = row.map_err(|error| taken(error, spec))?;
    let id: ConfigId = sqlx::Row::try_get(&row, 0)?;
    // The jitter depends on the id, so the first fire is known only now.
    let next_fire_at = rules::first_fire(spec, id, now)?;
    query(sql::INSERT_SCHEDULE)
        .bind(id)
        .bind(opt_micros(next_fire_at))
        .bind(micros(now))
        .bind(ZONE_DATA)
        .execute(tx.connection())
        .await?;
    // After the config, as locks are ordered.
    super::access::refuse_deleted(tx, tenant).await?;
    super::care::refuse_config(tx, tenant).await?;
    tx.tidings.schedule |= next_fire_at.is_some();
    bump_epoch(tx).await?;
    found(tx.connection(), tenant, id).await
}

/// Writes streaks of a config as skipped rows, in their order.
pub(super) async fn write_streaks(
    tx: &mut Tx,
    now: Timestamp,
    config: &TaskConfig,
    streaks: Vec<SkipStreak>,
) -> PgResult<()> {
    let of = SkippedOf::new(config);
    let ids = enqueue::execution_ids(tx, streaks.len()).await?;
    let skips: Vec<Skip> = streaks
        .into_iter()
        .zip(ids)
        .map(|(streak, id)| Skip {
            id,
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
) -> PgResult<TaskConfig> {
    lock_schedule(tx, id).await?;
    let old = found(tx.connection(), tenant, id).await?;
    if old.version != update.expected_version {
        let message = rules::version_conflict(id, old.version, update.expected_version);
        return Err(StoreError::Conflict(message).into());
    }
    check_key(tx, tenant, Some(id), update.spec.key.as_deref()).await?;
    let (state, streaks) = rules::reposition(&old, update);
    write_streaks(tx, now, &old, streaks).await?;
    let updating = spec_query(sql::UPDATE_CONFIG, now, id, &update.spec)?;
    let updated = updating.execute(tx.connection()).await;
    updated.map_err(|error| taken(error, &update.spec))?;
    write_schedule(tx, id, &state).await?;
    tx.tidings.schedule |= state.next_fire_at.is_some();
    bump_epoch(tx).await?;
    found(tx.connection(), tenant, id).await
}

async fn write_schedule(tx: &mut Tx, id: ConfigId, state: &ScheduleState) -> PgResult<()> {
    let skip = state.open_skip.as_ref();
    query(sql::UPDATE_SCHEDULE)
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
        .execute(tx.connection())
        .await?;
    Ok(())
}
