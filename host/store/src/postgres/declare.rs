//! A whole declaration in one transaction. What it locks it locks in the order of the migration: the schedules and
//! configs that are there, then what is new, then types, then what lives.

use super::configs::{bump_epoch, json};
use super::tx::{PgResult, Tx, query};
use super::{ahead, configs, deletions, plugins, sql};
use horarium_core::store::{
    Declaration, Declared, DeclaredVersion, HistoryOnDelete, StoreError, rules,
};
use horarium_model::task_type::VersionState;
use horarium_model::{ConfigId, TaskConfig, TenantId, Timestamp};
use std::collections::BTreeSet;

/// `Catalog::declare`.
pub(super) async fn declare(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    declaration: &Declaration,
) -> PgResult<Declared> {
    let set = declaration.set.as_str();
    lock(tx, declaration).await?;
    tx.holds_epoch = true;
    let mut declared = Declared::default();
    for (id, expected) in &declaration.deletes {
        let found = configs::found(tx.connection(), tenant, *id).await?;
        if found.version != *expected {
            let message = rules::version_conflict(*id, found.version, *expected);
            return Err(StoreError::Conflict(message).into());
        }
        // First of all: what goes makes room for what comes.
        deletions::bury(tx, now, &found, HistoryOnDelete::Keep).await?;
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
    let mut versions: Vec<&DeclaredVersion> = declaration.plugins.iter().collect();
    versions.sort_by_key(|plugin| plugin.task_type.as_str());
    for plugin in versions {
        version(tx, now, tenant, plugin).await?;
    }
    let deletes: Vec<ConfigId> = declaration.deletes.iter().map(|(id, _)| *id).collect();
    if !deletes.is_empty() {
        // Of all of them before the first is ended, which locks what comes later.
        query(sql::LOCK_LIVE_OF_CONFIGS)
            .bind(&deletes)
            .execute(tx.connection())
            .await?;
    }
    for id in &deletes {
        declared.deleted += deletions::end_live(tx, now, *id).await?;
    }
    tx.holds_epoch = false;
    bump_epoch(tx).await?;
    Ok(declared)
}

/// The schedules and configs that are there.
async fn lock(tx: &mut Tx, declaration: &Declaration) -> PgResult<()> {
    let updates = declaration.updates.iter().map(|(id, _)| *id);
    let deletes = declaration.deletes.iter().map(|(id, _)| *id);
    let ids: BTreeSet<ConfigId> = updates.chain(deletes).collect();
    let ids: Vec<ConfigId> = ids.into_iter().collect();
    ahead::lock(tx, &ids).await?;
    for id in ids {
        query(sql::LOCK_CONFIG)
            .bind(id)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Notes the set a config belongs to.
async fn marked(tx: &mut Tx, tenant: TenantId, id: ConfigId, set: &str) -> PgResult<TaskConfig> {
    query(sql::DECLARED_BY)
        .bind(id)
        .bind(set.to_owned())
        .execute(tx.connection())
        .await?;
    configs::found(tx.connection(), tenant, id).await
}

async fn version(
    tx: &mut Tx,
    now: Timestamp,
    tenant: TenantId,
    plugin: &DeclaredVersion,
) -> PgResult<()> {
    let (name, digest) = (plugin.task_type.as_str(), plugin.digest.as_str());
    plugins::lock(tx, tenant, name, digest).await?;
    let id = plugins::version_in(tx, tenant, name, digest, VersionState::Ready).await?;
    let active = plugins::existing_type(tx, tenant, name)
        .await?
        .active_digest;
    if active != plugin.expected_active {
        return Err(StoreError::Conflict(rules::other_active(name)).into());
    }
    query(sql::SET_DECLARED)
        .bind(id)
        .bind(json(&plugin.grants)?)
        .bind(json(&plugin.limits)?)
        .bind(json(&plugin.input)?)
        .execute(tx.connection())
        .await?;
    plugins::make_active(tx, now, tenant, name, digest).await?;
    // What the version before held back may start.
    tx.tidings.enqueued = true;
    bump_epoch(tx).await
}
