//! Chains (rule E7): the rows that the ends of this transaction set off.
//!
//! A target whose overlap rule or backlog cap looks at what lives is decided under the lock of its schedule, as its slots
//! are; none is deleted meanwhile, and who caps its backlog is locked too. Whoever records ends takes these locks
//! first ([`ahead`]); everybody else, who learns of a chain only when its parent is locked, takes them without
//! waiting and begins anew if they are held (`super::ahead`).

use super::ahead::{Ahead, late};
use super::keys::{self, Key};
use super::tx::{PgResult, Tx, query, query_as};
use super::{backlog, configs, end, enqueue, fire, plugins, sql};
use crate::chain::{Facts, Links, SkippedLink, keys as keys_of, kinds, number, plan};
use crate::columns::micros;
use crate::firing::{all_waiting, looked_at};
use horarium_core::store::Waiter;
use horarium_core::store::chain::Parent;
use horarium_model::execution::{State, Trigger};
use horarium_model::schedule::Overlap;
use horarium_model::{ConfigId, ErrorKind, TaskConfig, TaskId, TenantId, Timestamp};
use std::collections::HashMap;

/// What the end of executions still asks for.
#[derive(Default)]
pub(super) struct Ends {
    /// Run keys of which a place is free now.
    pub(super) freed: Vec<Key>,
    /// Ended with a chain.
    pub(super) parents: Vec<Parent>,
}

impl Ends {
    /// Adds others.
    pub(super) fn extend(&mut self, other: Self) {
        self.freed.extend(other.freed);
        self.parents.extend(other.parents);
    }

    /// Runs the chains, then frees the keys, whose locks come last.
    pub(super) async fn finish(mut self, tx: &mut Tx, now: Timestamp) -> PgResult<()> {
        while !self.parents.is_empty() {
            let parents = std::mem::take(&mut self.parents);
            let facts = facts(tx, &parents).await?;
            let (mut segments, count) = plan(now, &parents, facts);
            let ids = enqueue::execution_ids(tx, count).await?;
            number(&mut segments, &ids);
            for segment in segments {
                self.extend(write(tx, now, segment).await?);
            }
        }
        keys::free(tx, now, self.freed).await
    }
}

/// What the chains of these live executions will want locked, whatever their ends.
pub(super) async fn ahead(tx: &mut Tx, executions: &[i64]) -> PgResult<Ahead> {
    let rows: Vec<(TenantId, String)> = query_as(sql::CHAINS_OF)
        .bind(executions)
        .fetch_all(tx.connection())
        .await?;
    let mut parents = Vec::new();
    for (tenant, chain) in rows {
        // Whatever the end will be: each step may be taken.
        for end in [State::Succeeded, State::Failed, State::Cancelled] {
            let task = (TaskId::nil(), tenant);
            parents.push(Parent::read(
                task,
                (&chain, 0),
                (end, serde_json::Value::Null),
            )?);
        }
    }
    let (_, found) = targets(tx, &parents).await?;
    Ok(Ahead {
        capped: backlog::caps(tx, found.iter().map(Waiter::from))
            .await?
            .capped(),
        ..locks(&found)
    })
}

/// The locks of the targets themselves.
fn locks(targets: &[TaskConfig]) -> Ahead {
    let serial = targets.iter().filter(|config| is_serial(config));
    Ahead {
        schedules: serial.map(|config| config.id).collect(),
        configs: targets.iter().map(|config| config.id).collect(),
        ..Ahead::default()
    }
}

fn is_serial(config: &TaskConfig) -> bool {
    config.spec.effective_overlap() != Overlap::Allow || Waiter::from(config).capped.is_some()
}

/// The configs that the steps name, and the keys that name them.
async fn targets(tx: &mut Tx, parents: &[Parent]) -> PgResult<(Facts, Vec<TaskConfig>)> {
    let mut facts = Facts::default();
    for (tenant, key) in keys_of(parents) {
        if let Some(config) = configs::by_key(tx.connection(), tenant, &key).await? {
            facts.keys.insert((tenant, key), config.id);
        }
    }
    let ids = facts.ids(parents);
    if ids.is_empty() {
        return Ok((facts, Vec::new()));
    }
    let found = configs::by_ids(tx.connection(), &ids).await?;
    Ok((facts, found))
}

/// Everything the steps of the parents depend on.
async fn facts(tx: &mut Tx, parents: &[Parent]) -> PgResult<Facts> {
    let (mut facts, found) = targets(tx, parents).await?;
    if found.is_empty() {
        return Ok(facts);
    }
    late(tx, locks(&found)).await?;
    let ids: Vec<ConfigId> = found.iter().map(|config| config.id).collect();
    // As they are now that they are locked.
    let found = configs::by_ids(tx.connection(), &ids).await?;
    let mut of_kind = HashMap::new();
    for kind in kinds(&found) {
        let (tenant, task_type, pin) = &kind;
        let known = plugins::in_force(tx.connection(), *tenant, task_type, pin.as_deref()).await?;
        of_kind.insert(kind, known);
    }
    let overlaps = found
        .iter()
        .map(|config| (config.id, config.spec.effective_overlap()));
    facts.live = enqueue::live_counts(tx, &looked_at(overlaps)).await?;
    let waiting = all_waiting(facts.live.values());
    let caps = backlog::caps(tx, found.iter().map(Waiter::from)).await?;
    late(
        tx,
        Ahead {
            capped: caps.capped(),
            ..Ahead::default()
        },
    )
    .await?;
    facts.backlogs = caps.count(tx, waiting).await?;
    facts.add(found, &of_kind);
    Ok(facts)
}

/// Writes one segment; returns what ended by it.
async fn write(tx: &mut Tx, now: Timestamp, segment: Links) -> PgResult<Ends> {
    let mut ends = Ends::default();
    write_skips(tx, now, &segment.skips).await?;
    let placed = enqueue::insert(tx, now, &segment.fresh(), None).await?;
    if let Some(place) = placed.iter().position(Option::is_none) {
        let task_id = segment.new[place].1.task_id;
        let error = format!("the task id {task_id} of a chained execution exists already");
        return Err(horarium_core::store::StoreError::Internal(error).into());
    }
    for (id, message) in &segment.failed {
        let (to, kind) = (State::Failed, ErrorKind::InvalidParameters);
        ends.extend(end::end_rows(tx, now, &[*id], to, kind, message).await?);
    }
    if let Some(config) = segment.then_cancel {
        let asked = fire::cancel_live(tx, now, config, &mut ends).await?;
        tx.tidings.cancels.extend(asked);
    }
    Ok(ends)
}

async fn write_skips(tx: &mut Tx, now: Timestamp, skips: &[SkippedLink]) -> PgResult<()> {
    if skips.is_empty() {
        return Ok(());
    }
    debug_assert!(State::may_become(None, State::Skipped));
    fn column<T>(skips: &[SkippedLink], value: impl Fn(&SkippedLink) -> T) -> Vec<T> {
        skips.iter().map(value).collect()
    }
    let task_types: Vec<&str> = skips.iter().map(|s| s.of.task_type.as_str()).collect();
    query(sql::INSERT_SKIPPED_LINKS)
        .bind(column(skips, |s| s.id))
        .bind(column(skips, |s| s.of.config_id))
        .bind(column(skips, |s| s.task_id.to_string()))
        .bind(column(skips, |s| s.of.tenant_id))
        .bind(task_types)
        .bind(column(skips, |_| Trigger::Chain.as_str()))
        .bind(column(skips, |s| s.reason.as_str()))
        .bind(column(skips, |s| s.of.priority))
        .bind(column(skips, |s| i64::from(s.of.max_attempts)))
        .bind(column(skips, |s| s.parent.to_string()))
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    Ok(())
}
