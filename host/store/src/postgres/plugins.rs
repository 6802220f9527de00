//! Registered names and the versions of their plugins.

use super::configs::{bump_epoch, json};
use super::tx::{PgResult, Tx, query, query_as, query_scalar};
use super::{rows, sql};
use crate::columns::{cut_counted, micros, seen};
use horarium_core::store::{
    FinishVersion, Listing, Page, StoreError, StoreResult, TenantBounds, rules,
};
use horarium_model::grant::Grant;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange, VersionState};
use horarium_model::{HOST_TENANT_ID, TenantId, Timestamp};
use sqlx::postgres::PgConnection;

/// A version with its row id.
async fn version(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> PgResult<Option<(i64, PluginVersion)>> {
    let row = query(sql::VERSION)
        .bind(tenant)
        .bind(task_type)
        .bind(digest)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(rows::version).transpose()?)
}

/// Of a type: whether it is held, and whether the pinned or else the active version keeps state.
pub(super) async fn in_force(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_type: &str,
    pin: Option<&str>,
) -> PgResult<(bool, bool)> {
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
) -> PgResult<i64> {
    let (id, found) = version(tx.connection(), tenant, task_type, digest)
        .await?
        .ok_or_else(|| StoreError::NotFound(rules::no_version(task_type, digest)))?;
    if found.state == wanted {
        return Ok(id);
    }
    let (found, wanted) = (found.state.as_str(), wanted.as_str());
    let message = rules::version_not(task_type, digest, found, wanted);
    Err(StoreError::Conflict(message).into())
}

/// A version that was just written.
async fn written(
    tx: &mut Tx,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> PgResult<PluginVersion> {
    version(tx.connection(), tenant, task_type, digest)
        .await?
        .map(|(_, version)| version)
        .ok_or_else(|| StoreError::Internal(rules::no_version(task_type, digest)).into())
}

/// Locks a type, and the bytes of a digest, which types may share.
pub(super) async fn lock(
    tx: &mut Tx,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> PgResult<()> {
    query(sql::LOCK_TYPE)
        .bind(tenant)
        .bind(task_type)
        .execute(tx.connection())
        .await?;
    query(sql::LOCK_BYTES)
        .bind(digest)
        .execute(tx.connection())
        .await?;
    Ok(())
}

pub(super) async fn add_version(
    tx: &mut Tx,
    now: Timestamp,
    new: &PluginVersion,
    bytes: &[u8],
) -> PgResult<PluginVersion> {
    let (tenant, task_type, digest) = (new.tenant_id, new.task_type.as_str(), new.digest.as_str());
    lock_name(tx, tenant, task_type).await?;
    let limit = super::care::lock_tenant(tx, tenant, |quotas| quotas.plugins).await?;
    let made = query(sql::INSERT_TYPE)
        .bind(tenant)
        .bind(task_type)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    if made.rows_affected() > 0 {
        super::care::refuse_type(tx, tenant, limit).await?;
    }
    lock(tx, tenant, task_type, digest).await?;
    match version(tx.connection(), tenant, task_type, digest).await? {
        Some((id, known)) if known.state != VersionState::Failed => {
            query(sql::SET_WISHES)
                .bind(id)
                .bind(json(&new.grants)?)
                .bind(json(&new.input)?)
                .bind(json(&new.limits)?)
                .bind(json(&new.descriptor)?)
                .execute(tx.connection())
                .await?;
        }
        Some(_) => {
            query(sql::DELETE_VERSION)
                .bind(tenant)
                .bind(task_type)
                .bind(digest)
                .execute(tx.connection())
                .await?;
            insert_version(tx, now, new, bytes).await?;
        }
        None => insert_version(tx, now, new, bytes).await?,
    }
    bump_epoch(tx).await?;
    written(tx, tenant, task_type, digest).await
}

/// A name is a tenant's or shared, never both: nobody makes it the other until the transaction ends.
async fn lock_name(tx: &mut Tx, owner: TenantId, task_type: &str) -> PgResult<()> {
    let statement = match owner {
        HOST_TENANT_ID => sql::LOCK_NAME,
        _ => sql::SHARE_NAME,
    };
    let locking = query(statement).bind(task_type);
    locking.execute(tx.connection()).await?;
    if owner == HOST_TENANT_ID {
        let finding = query_scalar(sql::HOLDERS).bind(task_type);
        let tenants: Vec<String> = finding.fetch_all(tx.connection()).await?;
        return Ok(rules::refuse_taken_name(task_type, &tenants)?);
    }
    let asking = query(sql::HAS_TYPE).bind(HOST_TENANT_ID).bind(task_type);
    match asking.fetch_optional(tx.connection()).await? {
        Some(_) => Err(StoreError::Conflict(rules::name_is_shared(task_type)).into()),
        None => Ok(()),
    }
}

async fn insert_version(
    tx: &mut Tx,
    now: Timestamp,
    new: &PluginVersion,
    bytes: &[u8],
) -> PgResult<()> {
    query(sql::INSERT_VERSION)
        .bind(new.tenant_id)
        .bind(new.task_type.as_str())
        .bind(new.digest.as_str())
        .bind(i64::try_from(new.size_bytes).unwrap_or(i64::MAX))
        .bind(json(&new.descriptor)?)
        .bind(json(&new.grants)?)
        .bind(json(&new.limits)?)
        .bind(json(&new.input)?)
        .bind(new.activate)
        .bind(new.grant_asked)
        .bind(json(&new.warnings)?)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    query(sql::INSERT_BYTES)
        .bind(new.digest.as_str())
        .bind(bytes)
        .execute(tx.connection())
        .await?;
    Ok(())
}

pub(super) async fn set_grants(
    tx: &mut Tx,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
    grants: &[Grant],
) -> PgResult<PluginVersion> {
    let changed = query(sql::SET_GRANTS)
        .bind(tenant)
        .bind(task_type)
        .bind(digest)
        .bind(json(&grants)?)
        .execute(tx.connection())
        .await?;
    if changed.rows_affected() == 0 {
        return Err(StoreError::NotFound(rules::no_version(task_type, digest)).into());
    }
    bump_epoch(tx).await?;
    written(tx, tenant, task_type, digest).await
}

pub(super) async fn finish_version(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
    finish: &FinishVersion,
) -> PgResult<PluginVersion> {
    lock(tx, tenant, task_type, digest).await?;
    let id = version_in(tx, tenant, task_type, digest, VersionState::Compiling).await?;
    match finish {
        FinishVersion::Ready {
            descriptor,
            warnings,
            activate,
        } => {
            query(sql::VERSION_READY)
                .bind(id)
                .bind(json(descriptor)?)
                .bind(json(warnings)?)
                .execute(tx.connection())
                .await?;
            if *activate {
                make_active(tx, now, tenant, task_type, digest).await?;
            }
        }
        FinishVersion::Failed { error } => {
            query(sql::VERSION_FAILED)
                .bind(id)
                .bind(super::jsonb::plain(error))
                .execute(tx.connection())
                .await?;
            query(sql::DROP_BYTES)
                .bind(digest)
                .execute(tx.connection())
                .await?;
        }
    }
    bump_epoch(tx).await?;
    written(tx, tenant, task_type, digest).await
}

pub(super) async fn make_active(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> PgResult<()> {
    query(sql::ACTIVATE)
        .bind(tenant)
        .bind(task_type)
        .bind(digest)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    Ok(())
}

pub(super) async fn activate(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    digest: &str,
) -> PgResult<TaskType> {
    lock(tx, tenant, task_type, digest).await?;
    version_in(tx, tenant, task_type, digest, VersionState::Ready).await?;
    existing_type(tx, tenant, task_type).await?;
    make_active(tx, now, tenant, task_type, digest).await?;
    bump_epoch(tx).await?;
    existing_type(tx, tenant, task_type).await
}

pub(super) async fn remove(tx: &mut Tx, tenant: TenantId, task_type: &str) -> PgResult<()> {
    // Whoever registers a version of it waits, and then finds no type rather than one that goes.
    query(sql::LOCK_NAME)
        .bind(task_type)
        .execute(tx.connection())
        .await?;
    query(sql::LOCK_TYPE)
        .bind(tenant)
        .bind(task_type)
        .execute(tx.connection())
        .await?;
    existing_type(tx, tenant, task_type).await?;
    let counting = match tenant {
        HOST_TENANT_ID => query_as(sql::SHARED_TYPE_USE).bind(task_type),
        _ => query_as(sql::TYPE_USE).bind(tenant).bind(task_type),
    };
    let (tasks, waiting, running): (i64, i64, i64) = counting.fetch_one(tx.connection()).await?;
    let [tasks, waiting, running] = [tasks, waiting, running].map(i64::unsigned_abs);
    rules::refuse_used_type(task_type, tasks, waiting, running)?;
    let versions = versions(tx.connection(), tenant, task_type).await?;
    let mut digests: Vec<String> = versions.into_iter().map(|v| v.digest).collect();
    // In one order, whoever locks several.
    digests.sort();
    for digest in &digests {
        query(sql::LOCK_BYTES)
            .bind(digest.as_str())
            .execute(tx.connection())
            .await?;
    }
    for statement in [
        sql::DROP_TYPE,
        sql::DROP_VERSIONS,
        sql::DROP_TYPE_CONFIG,
        sql::DROP_BREAKER,
    ] {
        query(statement)
            .bind(tenant)
            .bind(task_type)
            .execute(tx.connection())
            .await?;
    }
    if tenant == HOST_TENANT_ID {
        let dropping = query(sql::DROP_SHARED_BREAKERS).bind(task_type);
        dropping.execute(tx.connection()).await?;
    }
    for digest in &digests {
        query(sql::DROP_BYTES)
            .bind(digest.as_str())
            .execute(tx.connection())
            .await?;
    }
    bump_epoch(tx).await
}

pub(super) async fn set_disabled(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    disabled: bool,
) -> PgResult<TaskType> {
    existing_type(tx, tenant, task_type).await?;
    query(sql::DISABLE)
        .bind(tenant)
        .bind(task_type)
        .bind(disabled)
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    bump_epoch(tx).await?;
    existing_type(tx, tenant, task_type).await
}

pub(super) async fn set_concurrency(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    task_type: &str,
    change: TypeConcurrencyChange,
) -> PgResult<TaskType> {
    existing_type(tx, tenant, task_type).await?;
    query(sql::SET_TYPE_BOUNDS)
        .bind(tenant)
        .bind(task_type)
        .bind(change.max.is_some())
        .bind(change.max.flatten().map(i64::from))
        .bind(change.backlog.is_some())
        .bind(change.backlog.flatten().map(i64::from))
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    bump_epoch(tx).await?;
    // What waited for a lower bound may start.
    tx.tidings.enqueued = true;
    existing_type(tx, tenant, task_type).await
}

pub(super) async fn set_tenant_bounds(
    tx: &mut Tx,
    tenant: TenantId,
    bounds: TenantBounds,
) -> PgResult<()> {
    let changed = query(sql::SET_TENANT_BOUNDS)
        .bind(tenant)
        .bind(i64::from(bounds.weight.max(1)))
        .bind(bounds.max.map(i64::from))
        .bind(bounds.backlog.map(i64::from))
        .execute(tx.connection())
        .await?
        .rows_affected();
    tx.tidings.enqueued = true;
    match changed {
        0 => Err(StoreError::NotFound(rules::no_tenant(tenant)).into()),
        _ => Ok(()),
    }
}

/// A type that must exist, by its owner.
pub(super) async fn existing_type(
    tx: &mut Tx,
    owner: TenantId,
    task_type: &str,
) -> PgResult<TaskType> {
    find_type(tx.connection(), sql::OWN_TYPE, owner, task_type)
        .await?
        .ok_or_else(|| StoreError::NotFound(rules::no_type(task_type)).into())
}

/// A type that a tenant may use: its own, or one that the host shares.
pub(super) async fn one_type(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_type: &str,
) -> PgResult<Option<TaskType>> {
    find_type(connection, sql::TYPE, tenant, task_type).await
}

async fn find_type(
    connection: &mut PgConnection,
    statement: &'static str,
    tenant: TenantId,
    task_type: &str,
) -> PgResult<Option<TaskType>> {
    let row = query(statement)
        .bind(tenant)
        .bind(task_type)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(rows::task_type).transpose()?)
}

pub(super) async fn types(
    connection: &mut PgConnection,
    tenant: TenantId,
    page: &Page,
) -> PgResult<Listing<TaskType>> {
    let found = query(sql::TYPES)
        .bind(tenant)
        .bind(i64::from(page.limit) + 1)
        .bind(seen(page))
        .fetch_all(connection)
        .await?;
    let items = found
        .iter()
        .map(rows::task_type)
        .collect::<StoreResult<Vec<_>>>()?;
    Ok(cut_counted(items, page))
}

pub(super) async fn all_types(connection: &mut PgConnection) -> PgResult<Vec<TaskType>> {
    let found = query(sql::ALL_TYPES).fetch_all(connection).await?;
    Ok(found
        .iter()
        .map(rows::task_type)
        .collect::<StoreResult<_>>()?)
}

pub(super) async fn versions(
    connection: &mut PgConnection,
    tenant: TenantId,
    task_type: &str,
) -> PgResult<Vec<PluginVersion>> {
    let found = query(sql::VERSIONS)
        .bind(tenant)
        .bind(task_type)
        .fetch_all(connection)
        .await?;
    let version = |row| Ok(rows::version(row)?.1);
    Ok(found.iter().map(version).collect::<StoreResult<_>>()?)
}

pub(super) async fn all_versions(connection: &mut PgConnection) -> PgResult<Vec<PluginVersion>> {
    let found = query(sql::ALL_VERSIONS).fetch_all(connection).await?;
    let version = |row| Ok(rows::version(row)?.1);
    Ok(found.iter().map(version).collect::<StoreResult<_>>()?)
}

pub(super) async fn bytes(
    connection: &mut PgConnection,
    digest: &str,
) -> PgResult<Option<Vec<u8>>> {
    Ok(query_scalar(sql::BYTES)
        .bind(digest)
        .fetch_optional(connection)
        .await?)
}
