//! Carrying out what the scheduler decided (rules S1, S5, S6, S7).

use super::end;
use super::enqueue::{self, Fresh};
use super::rows::{self, Reader};
use super::writer::Tx;
use super::{db, sql};
use crate::columns::{micros, opt_micros, text};
use horarium_core::store::rules::{self, FireStep, Firing};
use horarium_core::store::{FireOrder, FireReceipt, StoreResult};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::execution::State;
use horarium_model::firing::LiveCount;
use horarium_model::{ConfigId, ErrorKind, Invalid, TaskId, Timestamp};
use serde::Serialize;
use std::collections::HashMap;

/// Whose slots were skipped.
#[derive(Debug, Clone)]
pub(super) struct SkippedOf {
    pub(super) config_id: i64,
    pub(super) tenant_id: i64,
    pub(super) task_type: String,
    pub(super) priority: i32,
    pub(super) max_attempts: u32,
}

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

/// Writes streaks as `skipped` rows, each under the id that was taken for it.
pub(super) async fn write_skips(
    tx: &mut Tx,
    now: Timestamp,
    skips: &[(i64, SkippedOf, SkipStreak)],
) -> StoreResult<()> {
    if skips.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(skips.len());
    for (id, of, streak) in skips {
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

/// Where a schedule stands inside this operation.
struct Position {
    version: i64,
    paused: bool,
    state: ScheduleState,
    of: SkippedOf,
    live: LiveCount,
    moved: bool,
}

/// `Queue::fire_due`.
pub(super) async fn fire_due(
    tx: &mut Tx,
    now: Timestamp,
    orders: &[FireOrder],
) -> StoreResult<Vec<FireReceipt>> {
    if let Some(order) = orders
        .iter()
        .find(|o| o.task_ids.len() < o.plan.fires.len())
    {
        return Err(Invalid::one("", rules::too_few_ids(order.seen.config_id)).into());
    }
    let mut positions = positions(tx, orders).await?;
    let mut receipts = Vec::with_capacity(orders.len());
    let mut batch = Batch::default();
    for order in orders {
        let receipt = match positions.get_mut(&order.seen.config_id) {
            Some(position) if stands(position, order) => {
                carry_out(tx, now, order, position, &mut batch).await?
            }
            _ => FireReceipt::default(),
        };
        receipts.push(receipt);
    }
    batch.flush(tx, now).await?;
    advance(tx, &positions).await?;
    Ok(receipts)
}

fn stands(position: &Position, order: &FireOrder) -> bool {
    position.of.tenant_id == order.tenant_id
        && !position.paused
        && position.version == order.seen.version
        && rules::same_position(&position.state, &order.seen.state)
}

/// Rows gathered over many orders, written together. Each has its id from the moment it is decided, so
/// that ids follow the orders however the rows are grouped.
#[derive(Default)]
struct Batch<'a> {
    fresh: Vec<Fresh<'a>>,
    skips: Vec<(i64, SkippedOf, SkipStreak)>,
}

impl Batch<'_> {
    async fn flush(&mut self, tx: &mut Tx, now: Timestamp) -> StoreResult<()> {
        write_skips(tx, now, &self.skips).await?;
        self.skips.clear();
        enqueue::insert(tx, now, &self.fresh).await?;
        self.fresh.clear();
        Ok(())
    }
}

async fn carry_out<'a>(
    tx: &mut Tx,
    now: Timestamp,
    order: &'a FireOrder,
    position: &mut Position,
    batch: &mut Batch<'a>,
) -> StoreResult<FireReceipt> {
    let firing = Firing::decide(order, position.state.open_skip.clone(), position.live);
    let mut receipt = FireReceipt {
        applied: true,
        skipped: firing.skipped,
        ..FireReceipt::default()
    };
    for step in firing.steps {
        match step {
            FireStep::CloseStreak(streak) => {
                let id = tx.next_execution();
                batch.skips.push((id, position.of.clone(), streak));
            }
            FireStep::CancelLive => {
                batch.flush(tx, now).await?;
                receipt
                    .cancel_requested
                    .extend(cancel_live(tx, now, order.seen.config_id).await?);
                position.live.waiting = 0;
            }
            FireStep::Enqueue(index) => {
                let (fire, task_id) = (order.plan.fires[index], order.task_ids[index]);
                batch.fresh.push(Fresh {
                    id: tx.next_execution(),
                    template: &order.template,
                    task_id,
                    trigger: fire.trigger,
                    slot: Some(fire.slot),
                    due_at: fire.fires_at,
                });
                position.live.waiting += 1;
                receipt.enqueued.push(task_id);
            }
        }
    }
    position.state.last_slot = order.plan.last_slot;
    position.state.next_fire_at = order.plan.next_fire_at;
    position.state.open_skip = firing.open_skip;
    position.moved = true;
    Ok(receipt)
}

/// `cancel_running`: ends what waits of a config, asks what runs to stop.
async fn cancel_live(tx: &mut Tx, now: Timestamp, config: ConfigId) -> StoreResult<Vec<TaskId>> {
    let waiting = end::waiting_of(tx, config).await?;
    end::end_bare(
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
    Ok(found.into_iter().map(|(_, task_id)| task_id).collect())
}

async fn positions(tx: &mut Tx, orders: &[FireOrder]) -> StoreResult<HashMap<ConfigId, Position>> {
    let mut ids: Vec<ConfigId> = orders.iter().map(|o| o.seen.config_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let live = enqueue::live_counts(tx, &ids).await?;
    let found = sqlx::query(sql::SCHEDULES)
        .bind(text(&ids)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    let mut positions = HashMap::with_capacity(found.len());
    for row in &found {
        let mut r = Reader::new(row, "task_schedules")?;
        let (waiting, running) = live.get(&r.place.id).copied().unwrap_or_default();
        let tenant_id = r.get("tenant_id")?;
        let position = Position {
            version: r.get("version")?,
            paused: r.get("paused")?,
            state: rows::schedule_state(&mut r)?,
            of: SkippedOf {
                config_id: r.place.id,
                tenant_id,
                task_type: r.get("task_type")?,
                priority: r.number("priority")?,
                max_attempts: r.number("max_attempts")?,
            },
            live: LiveCount { waiting, running },
            moved: false,
        };
        positions.insert(r.place.id, position);
    }
    Ok(positions)
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
            .execute(tx.write())
            .await
            .map_err(db)?;
    }
    Ok(())
}
