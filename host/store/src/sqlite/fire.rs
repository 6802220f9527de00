//! Carrying out what the scheduler decided (rules S1, S5, S6, S7).

use super::backlog;
use super::end;
use super::enqueue;
use super::rows::{Cells as _, Reader};
use super::tx::Tx;
use super::{chain, db, sql};
use crate::columns::{micros, opt_micros, text};
use crate::firing::{FirePlan, Position, Skip, all_waiting, looked_at, overlaps};
use horarium_core::store::chain::Parent;
use horarium_core::store::rules;
use horarium_core::store::{FireOrder, FireReceipt, StoreResult, Waiter};
use horarium_model::cron::ZONE_DATA;
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, TaskId, Timestamp};
use serde::Serialize;
use std::collections::HashMap;

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
    advance(tx, &positions).await?;
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
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let read = |row| Position::read(&mut Reader::new(row, "task_schedules")?, &live);
    found.iter().map(read).collect()
}

/// See `ADVANCE_SCHEDULES`.
#[derive(Serialize)]
struct Advance(
    i64,
    Option<i64>,
    Option<i64>,
    Option<&'static str>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

async fn advance(tx: &mut Tx, positions: &HashMap<ConfigId, Position>) -> StoreResult<()> {
    let moved: Vec<Advance> = positions
        .iter()
        .filter(|(_, position)| position.moved)
        .map(|(id, position)| {
            let skip = position.state.open_skip.as_ref();
            Advance(
                *id,
                opt_micros(position.state.next_fire_at),
                opt_micros(position.state.last_slot),
                skip.map(|s| s.reason.as_str()),
                skip.map(|s| micros(s.first)),
                skip.map(|s| micros(s.last)),
                skip.map(|s| s.count),
            )
        })
        .collect();
    if !moved.is_empty() {
        sqlx::query(sql::ADVANCE_SCHEDULES)
            .bind(text(&moved)?)
            .bind(ZONE_DATA)
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}
