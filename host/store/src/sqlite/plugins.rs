//! Registered names and the versions of their plugins.

use super::tx::Tx;
use super::{db, rows, sql};
use crate::columns::{cut_counted, micros, seen, text};
use horarium_core::store::{
    FinishVersion, Listing, Page, StoreError, StoreResult, TenantBounds, rules,
};
use horarium_model::grant::Grant;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange, VersionState};
use horarium_model::{HOST_TENANT_ID, TenantId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

/// A version with its row id.
async fn version(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> StoreResult<Option<(i64, PluginVersion)>> {
    let row = sqlx::query(sql::VERSION)
        .bind(tenant)
        .bind(task_type)
        .bind(digest)
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.as_ref().map(rows::version).transpose()
}

/// Of a type: whether it is held, and whether the pinned or else the active version keeps state.
pub(super) async fn in_force(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_type: &str,
    pin: Option<&str>,
) -> StoreResult<(bool, bool)> {
    let Some(of_type) = one_type(connection, tenant, task_type).await? else {
        return Ok((false, false));
    };
    let uses_state = match pin.or(of_type.active_digest.as_deref()) {
        Some(digest) => version(connection, of_type.tenant_id, task_type, digest)
            .await?
            .is_some_and(|(_, version)| version.uses_state()),
        None => false,
    };
    Ok((of_type.disabled, uses_state))
}

/// A version that must exist, in the state that the wish needs.
pub(super) async fn version_in(
    tx: &mut Tx,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
    wanted: VersionState,
) -> StoreResult<i64> {
    let (id, found) = version(tx.read(), tenant, task_type, digest)
        .await?
        .ok_or_else(|| StoreError::NotFound(rules::no_version(task_type, digest)))?;
    if found.state == wanted {
        return Ok(id);
    }
    let (found, wanted) = (found.state.as_str(), wanted.as_str());
    let message = rules::version_not(task_type, digest, found, wanted);
    Err(StoreError::Conflict(message))
}

/// A version that was just written.
async fn written(
    tx: &mut Tx,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> StoreResult<PluginVersion> {
    version(tx.read(), tenant, task_type, digest)
        .await?
        .map(|(_, version)| version)
        .ok_or_else(|| StoreError::Internal(rules::no_version(task_type, digest)))
}

pub(super) async fn add_version(
    tx: &mut Tx,
    now: Timestamp,
    new: &PluginVersion,
    bytes: &[u8],
) -> StoreResult<PluginVersion> {
    let (tenant, task_type, digest) = (new.tenant_id, new.task_type.as_str(), new.digest.as_str());
    refuse_name(tx, tenant, task_type).await?;
    super::care::refuse_type(tx, tenant, task_type).await?;
    sqlx::query(sql::INSERT_TYPE)
        .bind(tenant)
        .bind(task_type)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    match version(tx.read(), tenant, task_type, digest).await? {
        Some((id, known)) if known.state != VersionState::Failed => {
            sqlx::query(sql::SET_WISHES)
                .bind(id)
                .bind(text(&new.grants)?)
                .bind(text(&new.input)?)
                .bind(text(&new.limits)?)
                .bind(text(&new.descriptor)?)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
        Some(_) => {
            sqlx::query(sql::DELETE_VERSION)
                .bind(tenant)
                .bind(task_type)
                .bind(digest)
                .execute(tx.write())
                .await
                .map_err(db)?;
            insert_version(tx, now, new, bytes).await?;
        }
        None => insert_version(tx, now, new, bytes).await?,
    }
    tx.bump_epoch().await?;
    written(tx, tenant, task_type, digest).await
}

/// A name is a tenant's or shared, never both.
async fn refuse_name(tx: &mut Tx, owner: TenantId, task_type: &str) -> StoreResult<()> {
    if owner == HOST_TENANT_ID {
        let finding = sqlx::query_scalar(sql::HOLDERS).bind(task_type);
        let tenants: Vec<String> = finding.fetch_all(tx.read()).await.map_err(db)?;
        return rules::refuse_taken_name(task_type, &tenants);
    }
    let asking = sqlx::query(sql::HAS_TYPE).bind(HOST_TENANT_ID);
    let asking = asking.bind(task_type).fetch_optional(tx.read());
    match asking.await.map_err(db)? {
        Some(_) => Err(StoreError::Conflict(rules::name_is_shared(task_type))),
        None => Ok(()),
    }
}

async fn insert_version(
    tx: &mut Tx,
    now: Timestamp,
    new: &PluginVersion,
    bytes: &[u8],
) -> StoreResult<()> {
    sqlx::query(sql::INSERT_VERSION)
        .bind(new.tenant_id)
        .bind(new.task_type.as_str())
        .bind(new.digest.as_str())
        .bind(i64::try_from(new.size_bytes).unwrap_or(i64::MAX))
        .bind(text(&new.descriptor)?)
        .bind(text(&new.grants)?)
        .bind(text(&new.limits)?)
        .bind(text(&new.input)?)
        .bind(new.activate)
        .bind(new.grant_asked)
        .bind(text(&new.warnings)?)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    sqlx::query(sql::INSERT_BYTES)
        .bind(new.digest.as_str())
        .bind(bytes)
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

pub(super) async fn set_grants(
    tx: &mut Tx,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
    grants: &[Grant],
) -> StoreResult<PluginVersion> {
    let changed = sqlx::query(sql::SET_GRANTS)
        .bind(tenant)
        .bind(task_type)
        .bind(digest)
        .bind(text(&grants)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    if changed.rows_affected() == 0 {
        return Err(StoreError::NotFound(rules::no_version(task_type, digest)));
    }
    tx.bump_epoch().await?;
    written(tx, tenant, task_type, digest).await
}

pub(super) async fn finish_version(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
    finish: &FinishVersion,
) -> StoreResult<PluginVersion> {
    let id = version_in(tx, tenant, task_type, digest, VersionState::Compiling).await?;
    match finish {
        FinishVersion::Ready {
            descriptor,
            warnings,
            activate,
        } => {
            sqlx::query(sql::VERSION_READY)
                .bind(id)
                .bind(text(descriptor)?)
                .bind(text(warnings)?)
                .execute(tx.write())
                .await
                .map_err(db)?;
            if *activate {
                make_active(tx, now, tenant, task_type, digest).await?;
            }
        }
        FinishVersion::Failed { error } => {
            sqlx::query(sql::VERSION_FAILED)
                .bind(id)
                .bind(error.as_str())
                .execute(tx.write())
                .await
                .map_err(db)?;
            sqlx::query(sql::DROP_BYTES)
                .bind(digest)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
    }
    tx.bump_epoch().await?;
    written(tx, tenant, task_type, digest).await
}

pub(super) async fn make_active(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> StoreResult<()> {
    sqlx::query(sql::ACTIVATE)
        .bind(tenant)
        .bind(task_type)
        .bind(digest)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

pub(super) async fn activate(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> StoreResult<TaskType> {
    version_in(tx, tenant, task_type, digest, VersionState::Ready).await?;
    existing_type(tx, tenant, task_type).await?;
    make_active(tx, now, tenant, task_type, digest).await?;
    tx.bump_epoch().await?;
    existing_type(tx, tenant, task_type).await
}

pub(super) async fn remove(tx: &mut Tx, tenant: TenantId, task_type: &str) -> StoreResult<()> {
    existing_type(tx, tenant, task_type).await?;
    let counting = match tenant {
        HOST_TENANT_ID => sqlx::query(sql::SHARED_TYPE_USE).bind(task_type),
        _ => sqlx::query(sql::TYPE_USE).bind(tenant).bind(task_type),
    };
    let row = counting.fetch_one(tx.read()).await.map_err(db)?;
    let count = |column: &str| row.try_get::<u64, _>(column).map_err(db);
    let (tasks, waiting, running) = (count("tasks")?, count("waiting")?, count("running")?);
    rules::refuse_used_type(task_type, tasks, waiting, running)?;
    let versions = versions(tx.read(), tenant, task_type).await?;
    for statement in [
        sql::DROP_TYPE,
        sql::DROP_VERSIONS,
        sql::DROP_TYPE_CONFIG,
        sql::DROP_BREAKER,
    ] {
        sqlx::query(statement)
            .bind(tenant)
            .bind(task_type)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    if tenant == HOST_TENANT_ID {
        let dropping = sqlx::query(sql::DROP_SHARED_BREAKERS).bind(task_type);
        dropping.execute(tx.write()).await.map_err(db)?;
    }
    for version in versions {
        sqlx::query(sql::DROP_BYTES)
            .bind(version.digest)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    tx.bump_epoch().await
}

pub(super) async fn set_disabled(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    disabled: bool,
) -> StoreResult<TaskType> {
    existing_type(tx, tenant, task_type).await?;
    sqlx::query(sql::DISABLE)
        .bind(tenant)
        .bind(task_type)
        .bind(disabled)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    tx.bump_epoch().await?;
    existing_type(tx, tenant, task_type).await
}

pub(super) async fn set_concurrency(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    change: TypeConcurrencyChange,
) -> StoreResult<TaskType> {
    existing_type(tx, tenant, task_type).await?;
    sqlx::query(sql::SET_TYPE_BOUNDS)
        .bind(tenant)
        .bind(task_type)
        .bind(change.max.is_some())
        .bind(change.max.flatten())
        .bind(change.backlog.is_some())
        .bind(change.backlog.flatten())
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    tx.bump_epoch().await?;
    existing_type(tx, tenant, task_type).await
}

pub(super) async fn set_tenant_bounds(
    tx: &mut Tx,
    tenant: TenantId,
    bounds: TenantBounds,
) -> StoreResult<()> {
    let changed = sqlx::query(sql::SET_TENANT_BOUNDS)
        .bind(tenant)
        .bind(bounds.weight.max(1))
        .bind(bounds.max)
        .bind(bounds.backlog)
        .execute(tx.write())
        .await
        .map_err(db)?
        .rows_affected();
    match changed {
        0 => Err(StoreError::NotFound(rules::no_tenant(tenant))),
        _ => Ok(()),
    }
}

/// A type that must exist, by its owner.
pub(super) async fn existing_type(
    tx: &mut Tx,
    owner: TenantId,
    task_type: &str,
) -> StoreResult<TaskType> {
    find_type(tx.read(), sql::OWN_TYPE, owner, task_type)
        .await?
        .ok_or_else(|| StoreError::NotFound(rules::no_type(task_type)))
}

/// A type that a tenant may use: its own, or one that the host shares.
pub(super) async fn one_type(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_type: &str,
) -> StoreResult<Option<TaskType>> {
    find_type(connection, sql::TYPE, tenant, task_type).await
}

async fn find_type(
    connection: &mut SqliteConnection,
    statement: &'static str,
    tenant: TenantId,
    task_type: &str,
) -> StoreResult<Option<TaskType>> {
    let row = sqlx::query(statement)
        .bind(tenant)
        .bind(task_type)
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.as_ref().map(rows::task_type).transpose()
}

pub(super) async fn types(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    page: &Page,
) -> StoreResult<Listing<TaskType>> {
    let found = sqlx::query(sql::TYPES)
        .bind(tenant)
        .bind(i64::from(page.limit) + 1)
        .bind(seen(page))
        .fetch_all(connection)
        .await
        .map_err(db)?;
    let items = found
        .iter()
        .map(rows::task_type)
        .collect::<StoreResult<Vec<_>>>()?;
    Ok(cut_counted(items, page))
}

pub(super) async fn all_types(connection: &mut SqliteConnection) -> StoreResult<Vec<TaskType>> {
    let found = sqlx::query(sql::ALL_TYPES)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    found.iter().map(rows::task_type).collect()
}

pub(super) async fn versions(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    task_type: &str,
) -> StoreResult<Vec<PluginVersion>> {
    let found = sqlx::query(sql::VERSIONS)
        .bind(tenant)
        .bind(task_type)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    found.iter().map(|row| Ok(rows::version(row)?.1)).collect()
}

pub(super) async fn all_versions(
    connection: &mut SqliteConnection,
) -> StoreResult<Vec<PluginVersion>> {
    let found = sqlx::query(sql::ALL_VERSIONS)
        .fetch_all(connection)
        .await
        .map_err(db)?;
    found.iter().map(|row| Ok(rows::version(row)?.1)).collect()
}

pub(super) async fn bytes(
    connection: &mut SqliteConnection,
    digest: &str,
) -> StoreResult<Option<Vec<u8>>> {
    let row = sqlx::query(sql::BYTES)
        .bind(digest)
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.map(|row| row.try_get(0)).transpose().map_err(db)
}
