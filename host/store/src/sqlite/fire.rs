//! Carrying out what the scheduler decided (rules S1, S5, S6, S7).

use super::backlog;
use super::bound::Values;
use super::end;
use super::enqueue;
use super::parts::Parts;
use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{chain, db, packed, sql};
use crate::columns::{micros, opt_micros, text};
use crate::firing::{FirePlan, Position, Skip, all_waiting, looked_at, overlaps};
use horarium_core::store::chain::Parent;
use horarium_core::store::rules;
use horarium_core::store::{FireOrder, FireReceipt, StoreResult, Waiter};
use horarium_model::config::ScheduleState;
use horarium_model::cron::ZONE_DATA;
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, TaskId, Timestamp};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// See `INSERT_SKIPPED`.
#[derive(Serialize)]
struct SkippedRow<'a>(
    i64,
    i64,
    String,
    i64,
    &'a str,
    &'static str,
    i64,
    i64,
    i64,
    &'static str,
    i32,
    u32,
);

/// Writes streaks as `skipped` rows.
pub(super) async fn write_skips(tx: &mut Tx, now: Timestamp, skips: &[Skip]) -> StoreResult<()> {
    if skips.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(skips.len());
    for Skip { id, of, streak } in skips {
        let id = *id;
        debug_assert!(State::may_become(None, State::Skipped));
        rows.push(SkippedRow(
            id,
            of.config_id,
            rules::skip_task_id(now, id, of.config_id, streak).to_string(),
            of.tenant_id,
            &of.task_type,
            rules::skip_trigger(streak.reason).as_str(),
            micros(streak.first),
            micros(streak.last),
            streak.count,
            streak.reason.as_str(),
            of.priority,
            of.max_attempts,
        ));
    }
    sqlx::query(sql::INSERT_SKIPPED)
        .bind(text(&rows)?)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// `Queue::fire_due`.
pub(super) async fn fire_due(
    tx: &mut Tx,
    now: Timestamp,
    orders: &[FireOrder],
) -> StoreResult<Vec<FireReceipt>> {
    let mut positions = positions(tx, orders).await?;
    let waiters = orders.iter().map(|order| Waiter::from(&*order.template));
    let waiting = all_waiting(positions.values().map(|position| &position.live));
    let mut backlogs = backlog::read(tx, waiters, waiting).await?;
    let skipping = positions
        .iter()
        .filter(|(_, p)| p.state.open_skip.is_some());
    let streaks: HashSet<ConfigId> = skipping.map(|(id, _)| *id).collect();
    let mut plan = FirePlan::decide(orders, &mut positions, &mut backlogs)?;
    let ids: Vec<i64> = (0..plan.ids).map(|_| tx.next_execution()).collect();
    plan.number(&ids);
    let mut receipts = plan.receipts;
    let mut parents = Vec::new();
    for segment in plan.segments {
        write_skips(tx, now, &segment.skips).await?;
        enqueue::insert(tx, now, &segment.fresh).await?;
        if let Some((order, config)) = segment.then_cancel {
            let (asked, ended) = cancel_live(tx, now, config).await?;
            parents.extend(ended);
            if let Some(receipt) = receipts.get_mut(order) {
                receipt.cancel_requested.extend(asked);
            }
        }
    }
    advance(tx, &positions, &streaks).await?;
    chain::run(tx, now, parents).await?;
    Ok(receipts)
}

/// `cancel_running`: ends what waits of a config, asks what runs to stop. Returns what was asked, and what
/// ended and has a chain, which is still to be run.
pub(super) async fn cancel_live(
    tx: &mut Tx,
    now: Timestamp,
    config: ConfigId,
) -> StoreResult<(Vec<TaskId>, Vec<Parent>)> {
    let waiting = end::waiting_of(tx, config).await?;
    let parents = end::end_bare(
        tx,
        now,
        &waiting,
        State::Cancelled,
        ErrorKind::Cancelled,
        rules::CANCELLED_OVERLAP,
    )
    .await?;
    let asked = sqlx::query(sql::FLAG_RUNNING)
        .bind(config)
        .bind(micros(now))
        .fetch_all(tx.write())
        .await
        .map_err(db)?;
    let mut found = Vec::with_capacity(asked.len());
    for row in &asked {
        let mut r = Reader::new(row, "live_executions")?;
        found.push((r.place.id, r.word::<TaskId>("task_id")?));
    }
    found.sort_unstable();
    let asked = found.into_iter().map(|(_, task_id)| task_id).collect();
    Ok((asked, parents))
}

async fn positions(tx: &mut Tx, orders: &[FireOrder]) -> StoreResult<HashMap<ConfigId, Position>> {
    let mut ids: Vec<ConfigId> = orders.iter().map(|o| o.seen.config_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let live = enqueue::live_counts(tx, &looked_at(overlaps(orders))).await?;
    let found = sqlx::query(sql::SCHEDULES)
        .bind(text(&ids)?)
        .fetch_one(tx.read())
        .await
        .map_err(db)?;
    let read = |row: StoreResult<packed::Cells<'_>>| {
        Position::read(&mut packed::Reader::new(&row?, "task_schedules")?, &live)
    };
    packed::rows(&found, "task_schedules")?.map(read).collect()
}

/// `streaks` had open skips.
async fn advance(
    tx: &mut Tx,
    positions: &HashMap<ConfigId, Position>,
    streaks: &HashSet<ConfigId>,
) -> StoreResult<()> {
    let moved = positions.iter().filter(|(_, position)| position.moved);
    let (skipping, mut plain): (Vec<_>, Vec<_>) = moved
        .partition(|(id, position)| position.state.open_skip.is_some() || streaks.contains(id));
    // In the order of the table, and mostly of the index by what is due: neighbours are found and written together.
    plain.sort_unstable_by_key(|(id, _)| **id);
    let mut parts = Parts::default();
    parts.add_bound(sql::ADVANCE_SCHEDULES, &plain, |(id, position), row| {
        moved_row(**id, &position.state, row)
    });
    parts.add_bound(sql::ADVANCE_SKIPPING, &skipping, |(id, position), row| {
        moved_row(**id, &position.state, row)?;
        let skip = position.state.open_skip.as_ref();
        row.add(skip.map(|s| s.reason.as_str()))?;
        row.add(skip.map(|s| micros(s.first)))?;
        row.add(skip.map(|s| micros(s.last)))?;
        row.add(skip.map(|s| s.count))
    });
    parts.write(tx).await
}

fn moved_row(id: ConfigId, state: &ScheduleState, row: &mut Values) -> StoreResult<()> {
    row.add(id)?;
    row.add(opt_micros(state.next_fire_at))?;
    row.add(opt_micros(state.last_slot))?;
    row.add(ZONE_DATA)
}
