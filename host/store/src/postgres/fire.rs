//! Carrying out what the scheduler decided (rules S1, S5, S6, S7). The schedules are locked first, so that
//! of several hosts that saw the same slot one moves it and the others find it moved.

use super::chain::Ends;
use super::rows::{Cells as _, Reader};
use super::tx::{PgResult, Tx, query};
use super::{ahead, backlog, end, enqueue, sql};
use crate::columns::{micros, opt_micros};
use crate::firing::{FirePlan, Position, Skip, all_waiting, looked_at, overlaps};
use horarium_core::store::{FireOrder, FireReceipt, StoreResult, Waiter, rules};
use horarium_model::cron::ZONE_DATA;
use horarium_model::execution::State;
use horarium_model::{ConfigId, ErrorKind, TaskId, Timestamp};
use std::collections::HashMap;

/// Writes streaks as `skipped` rows.
pub(super) async fn write_skips(tx: &mut Tx, now: Timestamp, skips: &[Skip]) -> PgResult<()> {
    if skips.is_empty() {
        return Ok(());
    }
    debug_assert!(State::may_become(None, State::Skipped));
    let task_id = |skip: &Skip| {
        rules::skip_task_id(now, skip.id, skip.of.config_id, &skip.streak).to_string()
    };
    fn column<T>(skips: &[Skip], value: impl Fn(&Skip) -> T) -> Vec<T> {
        skips.iter().map(value).collect()
    }
    let task_types: Vec<&str> = skips.iter().map(|s| s.of.task_type.as_str()).collect();
    query(sql::INSERT_SKIPPED)
        .bind(column(skips, |s| s.id))
        .bind(column(skips, |s| s.of.config_id))
        .bind(column(skips, task_id))
        .bind(column(skips, |s| s.of.tenant_id))
        .bind(task_types)
        .bind(column(skips, |s| {
            rules::skip_trigger(s.streak.reason).as_str()
        }))
        .bind(column(skips, |s| micros(s.streak.first)))
        .bind(column(skips, |s| micros(s.streak.last)))
        .bind(column(skips, |s| s.streak.count))
        .bind(column(skips, |s| s.streak.reason.as_str()))
        .bind(column(skips, |s| s.of.priority))
        .bind(column(skips, |s| i64::from(s.of.max_attempts)))
        .bind(micros(now))
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// `Queue::fire_due`.
pub(super) async fn fire_due(
    tx: &mut Tx,
    now: Timestamp,
    orders: &[FireOrder],
) -> PgResult<Vec<FireReceipt>> {
    let mut positions = positions(tx, orders).await?;
    let waiters = orders.iter().map(|order| Waiter::from(&*order.template));
    let caps = backlog::caps(tx, waiters).await?;
    caps.capped().lock(tx).await?;
    let waiting = all_waiting(positions.values().map(|position| &position.live));
    let mut backlogs = caps.count(tx, waiting).await?;
    let mut plan = FirePlan::decide(orders, &mut positions, &mut backlogs)?;
    let ids = enqueue::execution_ids(tx, plan.ids).await?;
    plan.number(&ids);
    let mut receipts = plan.receipts;
    let mut ends = Ends::default();
    for segment in plan.segments {
        write_skips(tx, now, &segment.skips).await?;
        let placed = enqueue::insert(tx, now, &segment.fresh, None).await?;
        if let Some(place) = placed.iter().position(Option::is_none) {
            let task_id = segment.fresh[place].task_id;
            let error = format!("the task id {task_id} of a fired slot exists already");
            return Err(horarium_core::store::StoreError::Internal(error).into());
        }
        if let Some((order, config)) = segment.then_cancel {
            let asked = cancel_live(tx, now, config, &mut ends).await?;
            tx.tidings.cancels.extend(&asked);
            if let Some(receipt) = receipts.get_mut(order) {
                receipt.cancel_requested.extend(asked);
            }
        }
    }
    advance(tx, &positions).await?;
    ends.finish(tx, now).await?;
    Ok(receipts)
}

/// `cancel_running`: ends what waits of a config, asks what runs to stop.
pub(super) async fn cancel_live(
    tx: &mut Tx,
    now: Timestamp,
    config: ConfigId,
    ends: &mut Ends,
) -> PgResult<Vec<TaskId>> {
    let waiting = end::lock_live_of(tx, config).await?.waiting;
    let (to, kind) = (State::Cancelled, ErrorKind::Cancelled);
    ends.extend(end::end_rows(tx, now, &waiting, to, kind, rules::CANCELLED_OVERLAP).await?);
    let asked = query(sql::FLAG_RUNNING)
        .bind(config)
        .bind(micros(now))
        .fetch_all(tx.connection())
        .await?;
    let mut found = Vec::with_capacity(asked.len());
    for row in &asked {
        let mut r = Reader::new(row, "live_executions")?;
        found.push((r.id(), r.word::<TaskId>("task_id")?));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, task_id)| task_id).collect())
}

/// Where the schedules stand; they are locked until the transaction ends.
async fn positions(tx: &mut Tx, orders: &[FireOrder]) -> PgResult<HashMap<ConfigId, Position>> {
    let mut ids: Vec<ConfigId> = orders.iter().map(|o| o.seen.config_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ahead::lock(tx, &ids).await?;
    let live = enqueue::live_counts(tx, &looked_at(overlaps(orders))).await?;
    let found = query(sql::SCHEDULES)
        .bind(&ids)
        .fetch_all(tx.connection())
        .await?;
    let read = |row| Position::read(&mut Reader::new(row, "task_schedules")?, &live);
    Ok(found.iter().map(read).collect::<StoreResult<_>>()?)
}

async fn advance(tx: &mut Tx, positions: &HashMap<ConfigId, Position>) -> PgResult<()> {
    let moved: Vec<(i64, &Position)> = positions
        .iter()
        .filter(|(_, position)| position.moved)
        .map(|(id, position)| (*id, position))
        .collect();
    if moved.is_empty() {
        return Ok(());
    }
    let skip = |p: &Position, value: fn(&horarium_model::config::SkipStreak) -> i64| {
        p.state.open_skip.as_ref().map(value)
    };
    let ids: Vec<i64> = moved.iter().map(|(id, _)| *id).collect();
    let next: Vec<Option<i64>> = moved
        .iter()
        .map(|(_, p)| opt_micros(p.state.next_fire_at))
        .collect();
    let last: Vec<Option<i64>> = moved
        .iter()
        .map(|(_, p)| opt_micros(p.state.last_slot))
        .collect();
    let reasons: Vec<Option<&str>> = moved
        .iter()
        .map(|(_, p)| p.state.open_skip.as_ref().map(|s| s.reason.as_str()))
        .collect();
    let firsts: Vec<Option<i64>> = moved
        .iter()
        .map(|(_, p)| skip(p, |s| micros(s.first)))
        .collect();
    let lasts: Vec<Option<i64>> = moved
        .iter()
        .map(|(_, p)| skip(p, |s| micros(s.last)))
        .collect();
    let counts: Vec<Option<i64>> = moved.iter().map(|(_, p)| skip(p, |s| s.count)).collect();
    query(sql::ADVANCE_SCHEDULES)
        .bind(ids)
        .bind(next)
        .bind(last)
        .bind(reasons)
        .bind(firsts)
        .bind(lasts)
        .bind(counts)
        .bind(ZONE_DATA)
        .execute(tx.connection())
        .await?;
    Ok(())
}
