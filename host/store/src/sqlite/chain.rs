//! Chains (rule E7): the rows that the ends of this transaction set off.

use super::tx::Tx;
use super::{backlog, configs, db, end, enqueue, fire, plugins, sql};
use crate::chain::{Facts, Links, SkippedLink, keys, kinds, number, plan};
use crate::columns::{micros, text};
use crate::firing::{all_waiting, looked_at};
use horarium_core::store::chain::Parent;
use horarium_core::store::{StoreResult, Waiter};
use horarium_model::execution::{State, Trigger};
use horarium_model::{ErrorKind, Timestamp};
use serde::Serialize;
use std::collections::HashMap;

/// Enqueues what the ends set off, and what that sets off in turn.
pub(super) async fn run(tx: &mut Tx, now: Timestamp, parents: Vec<Parent>) -> StoreResult<()> {
    let mut parents = parents;
    while !parents.is_empty() {
        let facts = facts(tx, &parents).await?;
        let (mut segments, count) = plan(now, &parents, facts);
        let ids: Vec<i64> = (0..count).map(|_| tx.next_execution()).collect();
        number(&mut segments, &ids);
        parents = Vec::new();
        for segment in segments {
            parents.extend(write(tx, now, segment).await?);
        }
    }
    Ok(())
}

/// Writes one segment; returns what ended by it and has a chain.
async fn write(tx: &mut Tx, now: Timestamp, segment: Links) -> StoreResult<Vec<Parent>> {
    let mut ended = Vec::new();
    write_skips(tx, now, &segment.skips).await?;
    enqueue::insert(tx, now, &segment.fresh()).await?;
    for (id, message) in &segment.failed {
        let (to, kind) = (State::Failed, ErrorKind::InvalidParameters);
        ended.extend(end::end_bare(tx, now, &[*id], to, kind, message).await?);
    }
    if let Some(config) = segment.then_cancel {
        let (_, cancelled) = fire::cancel_live(tx, now, config).await?;
        ended.extend(cancelled);
    }
    Ok(ended)
}

/// See `INSERT_SKIPPED_LINKS`.
#[derive(Serialize)]
struct SkippedRow<'a>(
    i64,
    i64,
    String,
    i64,
    &'a str,
    &'static str,
    &'static str,
    i32,
    u32,
    String,
);

async fn write_skips(tx: &mut Tx, now: Timestamp, skips: &[SkippedLink]) -> StoreResult<()> {
    if skips.is_empty() {
        return Ok(());
    }
    debug_assert!(State::may_become(None, State::Skipped));
    fn row(skip: &SkippedLink) -> SkippedRow<'_> {
        let of = &skip.of;
        SkippedRow(
            skip.id,
            of.config_id,
            skip.task_id.to_string(),
            of.tenant_id,
            &of.task_type,
            Trigger::Chain.as_str(),
            skip.reason.as_str(),
            of.priority,
            of.max_attempts,
            skip.parent.to_string(),
        )
    }
    let rows: Vec<SkippedRow<'_>> = skips.iter().map(row).collect();
    sqlx::query(sql::INSERT_SKIPPED_LINKS)
        .bind(text(&rows)?)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// Everything the steps of the parents depend on.
async fn facts(tx: &mut Tx, parents: &[Parent]) -> StoreResult<Facts> {
    let mut facts = Facts::default();
    let mut found = Vec::new();
    for (tenant, key) in keys(parents) {
        if let Some(config) = configs::by_key(tx.read(), tenant, &key).await? {
            facts.keys.insert((tenant, key), config.id);
        }
    }
    let ids = facts.ids(parents);
    found.extend(configs::by_ids(tx.read(), &ids).await?);
    let mut of_kind = HashMap::new();
    for kind in kinds(&found) {
        let (tenant, task_type, pin) = &kind;
        let known = plugins::in_force(tx.read(), *tenant, task_type, pin.as_deref()).await?;
        of_kind.insert(kind, known);
    }
    let overlaps = found
        .iter()
        .map(|config| (config.id, config.spec.effective_overlap()));
    facts.live = enqueue::live_counts(tx, &looked_at(overlaps)).await?;
    let waiting = all_waiting(facts.live.values());
    facts.backlogs = backlog::read(tx, found.iter().map(Waiter::from), waiting).await?;
    facts.add(found, &of_kind);
    Ok(facts)
}
