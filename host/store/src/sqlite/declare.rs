//! A whole declaration in one transaction.

use super::tx::Tx;
use super::{configs, db, deletions, plugins, sql};
use crate::columns::text;
use horarium_core::store::{
    Declaration, Declared, DeclaredVersion, HistoryOnDelete, StoreError, StoreResult, rules,
};
use horarium_model::task_type::VersionState;
use horarium_model::{ConfigId, TaskConfig, TenantId, Timestamp};

/// `Catalog::declare`.
pub(super) async fn declare(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    declaration: &Declaration,
) -> StoreResult<Declared> {
    let set = declaration.set.as_str();
    let mut declared = Declared::default();
    // First of all: what goes makes room for what comes.
    for (id, expected) in &declaration.deletes {
        let found = configs::found(tx.read(), tenant, *id).await?.version;
        if found != *expected {
            let message = rules::version_conflict(*id, found, *expected);
            return Err(StoreError::Conflict(message));
        }
        declared.deleted += deletions::delete(tx, now, tenant, *id, HistoryOnDelete::Keep).await?;
    }
    for (id, update) in &declaration.updates {
        configs::update(tx, now, tenant, *id, update).await?;
        declared.updated.push(marked(tx, tenant, *id, set).await?);
    }
    for spec in &declaration.creates {
        let created = configs::create(tx, now, tenant, spec).await?;
        let marked = marked(tx, tenant, created.id, set).await?;
        declared.created.push(marked);
    }
    for plugin in &declaration.plugins {
        version(tx, now, tenant, plugin).await?;
    }
    Ok(declared)
}

/// Notes the set a config belongs to.
async fn marked(tx: &mut Tx, tenant: TenantId, id: ConfigId, set: &str) -> StoreResult<TaskConfig> {
    sqlx::query(sql::DECLARED_BY)
        .bind(id)
        .bind(set)
        .execute(tx.write())
        .await
        .map_err(db)?;
    configs::found(tx.read(), tenant, id).await
}

async fn version(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    plugin: &DeclaredVersion,
) -> StoreResult<()> {
    let (name, digest) = (plugin.task_type.as_str(), plugin.digest.as_str());
    let id = plugins::version_in(tx, tenant, name, digest, VersionState::Ready).await?;
    let active = plugins::existing_type(tx, tenant, name)
        .await?
        .active_digest;
    if active != plugin.expected_active {
        return Err(StoreError::Conflict(rules::other_active(name)));
    }
    sqlx::query(sql::SET_DECLARED)
        .bind(id)
        .bind(text(&plugin.grants)?)
        .bind(text(&plugin.limits)?)
        .bind(text(&plugin.input)?)
        .execute(tx.write())
        .await
        .map_err(db)?;
    plugins::make_active(tx, now, tenant, name, digest).await?;
    tx.bump_epoch().await
}
