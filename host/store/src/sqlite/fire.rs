//! Carrying out what the scheduler decided.

use super::db;
use super::end::{self, Bare};
use super::enqueue::{Batch, Fresh, live_counts};
use super::rows::{Reader, schedule_state};
use super::sql;
use super::writer::Tx;
use crate::columns::{micros, opt_micros, text};
use horarium_core::store::rules::{self, FireStep, Firing};
use horarium_core::store::{FireOrder, FireReceipt, StoreError, StoreResult};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::firing::LiveCount;
use horarium_model::schedule::Overlap;
use horarium_model::{ConfigId, Invalid, TaskId, TenantId, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A config as the orders find it.
struct Found {
    tenant_id: TenantId,
    version: i64,
    paused: bool,
    state: ScheduleState,
}

/// A row of `INSERT_SKIPPED`.
pub(super) struct SkipRow {
    id: i64,
    config: ConfigId,
    task_id: TaskId,
    tenant: TenantId,
    task_type: String,
    streak: SkipStreak,
    priority: i32,
    max_attempts: u32,
}

impl SkipRow {
    /// A streak as a row under a new id.
    pub(super) fn new(
        tx: &mut Tx,
        now: Timestamp,
        config: ConfigId,
        tenant: TenantId,
        frozen: (&str, i32, u32),
        streak: SkipStreak,
    ) -> Self {
        let id = tx.next_execution();
        Self {
            id,
            config,
            task_id: rules::skip_task_id(now, id, config, &streak),
            tenant,
            task_type: frozen.0.to_owned(),
            streak,
            priority: frozen.1,
            max_attempts: frozen.2,
        }
    }
}

/// Writes streaks as `skipped` rows.
pub(super) async fn write_skipped(
    tx: &mut Tx,
    now: Timestamp,
    rows: &[SkipRow],
) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|r| {
            (
                r.id,
                r.config,
                r.task_id,
                r.tenant,
                &r.task_type,
                rules::skip_trigger(r.streak.reason).as_str(),
                micros(r.streak.first),
                micros(r.streak.last),
                r.streak.count,
                r.streak.reason.as_str(),
                r.priority,
                r.max_attempts,
            )
        })
        .collect();
    sqlx::query(sql::INSERT_SKIPPED)
        .bind(text(&rows)?)
        .bind(micros(now))
        .execute(tx.write())
        .await
        .map_err(db)?;
    Ok(())
}

/// `Queue::fire_due`.
pub(super) async fn run(
    tx: &mut Tx,
    now: Timestamp,
    orders: &[FireOrder],
) -> StoreResult<Vec<FireReceipt>> {
    if let Some(order) = orders.iter().find(|o| o.task_ids.len() < o.plan.fires.len()) {
        let message = rules::too_few_ids(order.seen.config_id);
        return Err(StoreError::Invalid(Invalid::one("", message)));
    }
    let mut found = find(tx, orders).await?;
    let judged: HashSet<ConfigId> = orders
        .iter()
        .filter(|o| o.overlap != Overlap::Allow)
        .map(|o| o.seen.config_id)
        .collect();
    let mut round = Round {
        now,
        live: live_counts(tx, &judged).await?,
        inserts: Batch::default(),
        skips: Vec::new(),
        advanced: BTreeMap::new(),
    };
    let mut receipts = Vec::with_capacity(orders.len());
    for order in orders {
        let receipt = match found.get_mut(&order.seen.config_id) {
            Some(config) if stands(config, order) => round.apply(tx, config, order).await?,
            _ => FireReceipt::default(),
        };
        receipts.push(receipt);
    }
    round.finish(tx).await?;
    Ok(receipts)
}

fn stands(config: &Found, order: &FireOrder) -> bool {
    !config.paused
        && config.tenant_id == order.tenant_id
        && config.version == order.seen.version
        && rules::same_position(&config.state, &order.seen.state)
}

async fn find(tx: &mut Tx, orders: &[FireOrder]) -> StoreResult<HashMap<ConfigId, Found>> {
    let ids: HashSet<ConfigId> = orders.iter().map(|o| o.seen.config_id).collect();
    let rows = sqlx::query(sql::SCHEDULES)
        .bind(text(&ids)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)?;
    rows.iter()
        .map(|row| {
            let mut r = Reader::new(row, "task_schedules")?;
            let found = Found {
                tenant_id: r.get("tenant_id")?,
                version: r.get("version")?,
                paused: r.get("paused")?,
                state: schedule_state(&mut r)?,
            };
            Ok((r.place.id, found))
        })
        .collect()
}

/// A row of `ADVANCE_SCHEDULES`.
#[derive(Serialize)]
struct Advance(
    ConfigId,
    Option<i64>,
    Option<i64>,
    Option<&'static str>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

impl Advance {
    fn new(config: ConfigId, state: &ScheduleState) -> Self {
        let open = state.open_skip.as_ref();
        Self(
            config,
            opt_micros(state.next_fire_at),
            opt_micros(state.last_slot),
            open.map(|s| s.reason.as_str()),
            open.map(|s| micros(s.first)),
            open.map(|s| micros(s.last)),
            open.map(|s| s.count),
        )
    }
}

/// What one call gathers, so that it is written in few statements.
struct Round<'a> {
    now: Timestamp,
    live: HashMap<ConfigId, LiveCount>,
    inserts: Batch<'a>,
    skips: Vec<SkipRow>,
    advanced: BTreeMap<ConfigId, Advance>,
}

impl<'a> Round<'a> {
    async fn apply(
        &mut self,
        tx: &mut Tx,
        config: &mut Found,
        order: &'a FireOrder,
    ) -> StoreResult<FireReceipt> {
        let id = order.seen.config_id;
        let live = self.live.get(&id).copied().unwrap_or_default();
        let firing = Firing::decide(order, config.state.open_skip.take(), live);
        let mut receipt = FireReceipt {
            applied: true,
            skipped: firing.skipped,
            ..FireReceipt::default()
        };
        for step in firing.steps {
            match step {
                FireStep::CloseStreak(streak) => {
                    let new = &order.template;
                    let frozen = (&*new.task_type, new.priority, new.max_attempts);
                    let row =
                        SkipRow::new(tx, self.now, id, config.tenant_id, frozen, streak);
                    self.skips.push(row);
                }
                FireStep::CancelLive => {
                    receipt.cancel_requested.extend(self.cancel(tx, id).await?);
                }
                FireStep::Enqueue(index) => {
                    let (fire, task_id) = (&order.plan.fires[index], order.task_ids[index]);
                    let fresh = Fresh {
                        task_id,
                        trigger: fire.trigger,
                        slot: Some(fire.slot),
                        due_at: fire.fires_at,
                    };
                    self.inserts.add(tx, self.now, &order.template, &fresh)?;
                    self.live.entry(id).or_default().waiting += 1;
                    receipt.enqueued.push(task_id);
                }
            }
        }
        config.state.open_skip = firing.open_skip;
        config.state.last_slot = order.plan.last_slot;
        config.state.next_fire_at = order.plan.next_fire_at;
        self.advanced.insert(id, Advance::new(id, &config.state));
        Ok(receipt)
    }

    /// `cancel_running`: ends what waits of a config, asks what runs to stop.
    async fn cancel(&mut self, tx: &mut Tx, config: ConfigId) -> StoreResult<Vec<TaskId>> {
        self.inserts.flush(tx, self.now).await?;
        let waiting = end::waiting_of(tx, config).await?;
        end::bare(tx, self.now, &waiting, Bare::cancelled(rules::CANCELLED_OVERLAP)).await?;
        self.live.entry(config).or_default().waiting = 0;
        let rows = sqlx::query(sql::FLAG_RUNNING)
            .bind(config)
            .bind(micros(self.now))
            .fetch_all(tx.write())
            .await
            .map_err(db)?;
        let mut asked = rows
            .iter()
            .map(|row| {
                let mut r = Reader::new(row, "live_executions")?;
                Ok((r.place.id, r.word("task_id")?))
            })
            .collect::<StoreResult<Vec<(i64, TaskId)>>>()?;
        asked.sort_unstable();
        Ok(asked.into_iter().map(|(_, task_id)| task_id).collect())
    }

    async fn finish(mut self, tx: &mut Tx) -> StoreResult<()> {
        self.inserts.flush(tx, self.now).await?;
        write_skipped(tx, self.now, &self.skips).await?;
        if !self.advanced.is_empty() {
            let rows: Vec<&Advance> = self.advanced.values().collect();
            sqlx::query(sql::ADVANCE_SCHEDULES)
                .bind(text(&rows)?)
                .execute(tx.write())
                .await
                .map_err(db)?;
        }
        Ok(())
    }
}
