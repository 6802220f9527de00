//! Fires schedules: looks at what is due, decides by the rules of [`horarium_model::firing`], and has the store
//! carry it out under compare-and-set (rule S1), so that any number of schedulers may run at once.

mod ahead;

use crate::clock::Clock;
use crate::config_cache::{CompiledConfig, ConfigCache, Overrides, freeze};
use crate::executor::Parts;
use crate::observe::Observer;
use crate::registry::Registry;
use crate::store::{
    DueSchedule, FireOrder, FireReceipt, NewExecution, Store, StoreError, StoreResult, chunks,
};
use crate::wake::Wakes;
use ahead::Ahead;
use futures_util::StreamExt;
use horarium_model::config::ScheduleState;
use horarium_model::cron::ZONE_DATA;
use horarium_model::execution::SkipReason;
use horarium_model::firing::{Fire, Plan};
use horarium_model::{TaskId, Timestamp, Trigger};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Schedules and due executions handled in one round.
const BATCH: u32 = 1000;
/// The longest wait between two looks. The heartbeat, which asks what is due next, makes up for lost hints.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Between two looks for answers that nobody needs any more.
const FORGET_EVERY_SECONDS: i64 = 600;
/// Between two looks for instants computed with other zone data: a host of another release may still write them.
const ZONES_EVERY_SECONDS: i64 = 86_400;
/// Text of one call to the store. What is more goes in several, so that no statement outgrows a database.
const CALL_BYTES: usize = 64 << 20;
/// What an execution has besides its parameters and chain, roughly.
const ROW_BYTES: usize = 512;
/// Configs whose parameters are checked at the same time.
const FREEZE_AT_ONCE: usize = 8;
/// So long a round begins to check parameters that nobody checked before; the rest is due in the next one. A
/// schema may ask for 200 ms of CPU, and what is due beside it must not wait for a thousand of those.
const FREEZE_FOR: Duration = Duration::from_millis(250);
/// Up to so many fires of one call the claim of what they enqueue may come right behind them, in their transaction.
/// Behind more it would hold up all of them by as much again.
const FEW: usize = 64;
/// Pause after the store failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// The scheduler of one host.
pub struct Scheduler {
    /// Durable truth.
    pub store: Arc<dyn Store>,
    /// What the types are.
    pub registry: Arc<Registry>,
    /// Compiled configs.
    pub configs: Arc<ConfigCache>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hints.
    pub wakes: Arc<Wakes>,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// What it does now and then.
    pub chores: Chores,
}

impl From<Parts> for Scheduler {
    fn from(parts: Parts) -> Self {
        Self {
            store: parts.store,
            registry: parts.registry,
            configs: parts.configs,
            clock: parts.clock,
            wakes: parts.wakes,
            observer: parts.observer,
            chores: Chores::default(),
        }
    }
}

/// When a scheduler last did what is done now and then; in a new one never.
#[derive(Debug, Default)]
pub struct Chores {
    /// Old answers were looked for, in seconds since 1970.
    forgot_at: AtomicI64,
    /// Every schedule was found to be of our zone data, in seconds since 1970.
    zones_at: AtomicI64,
    /// Schedules up to this id were found to be of it.
    zones_after: AtomicI64,
    /// What was prepared last.
    ahead: Ahead,
}

impl Scheduler {
    /// Fires until `shutdown`. Store failures are logged and tried again.
    pub async fn run(&self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let wait = match self.round().await {
                Ok(Round::More) => continue,
                Ok(Round::Until(next)) => next,
                Err(error) => {
                    tracing::warn!(%error, "the scheduler cannot reach its store; trying again");
                    Some(self.clock.now() + AFTER_ERROR)
                }
            };
            let far = self.clock.now() + LOOK_AT_LEAST_EVERY;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wakes.schedule.notified() => {}
                () = self.wait(wait.filter(|instant| *instant < far)) => {}
                () = self.clock.sleep_until(far) => {}
            }
        }
    }

    /// One look at everything that time brings: fires due schedules, moves due executions, and cleans up
    /// after deletions.
    ///
    /// # Errors
    /// When the store fails; nothing is half done.
    pub async fn round(&self) -> StoreResult<Round> {
        let now = self.clock.now();
        // What was read ahead fires without being read again. Whatever became of it: the rest is no part of it.
        let prepared = self
            .fire_prepared(self.chores.ahead.take_due(now), now)
            .await;
        // One question where nothing is due: many hosts ask it of one database.
        let mut next = self.store.next_due().await?;
        let mut more = false;
        if next.is_some_and(|next| next <= now) {
            more = self.work(now).await?;
            next = self.store.next_due().await?;
        }
        let purging = self.store.purge_deleted(BATCH).await?;
        let forgetting = self.forget_answers(now).await?;
        let moving = self.follow_zone_data(now).await?;
        prepared?;
        if more || purging || forgetting || moving {
            return Ok(Round::More);
        }
        Ok(Round::Until(next))
    }

    /// Does what is due. Returns whether there may be more.
    async fn work(&self, now: Timestamp) -> StoreResult<bool> {
        let due = self.store.due_schedules(now, BATCH).await?;
        let full = due.len() == BATCH as usize;
        let fired = match due.is_empty() {
            true => Ok(true),
            false => self.fire(due, now).await,
        };
        // Whatever became of the schedules: what waits for time is no part of them.
        let swept = self.store.sweep_due(now, BATCH).await?;
        if swept.available + swept.expired + swept.refilled > 0 {
            self.wakes.enqueued();
        }
        let swept = swept.available.max(swept.expired).max(swept.refilled);
        Ok(full || !fired? || swept >= u64::from(BATCH))
    }

    /// Answers to requests older than a day go, looked for now and then. Returns whether there are more.
    async fn forget_answers(&self, now: Timestamp) -> StoreResult<bool> {
        let last = self.chores.forgot_at.load(Ordering::Relaxed);
        if now.timestamp().saturating_sub(last) < FORGET_EVERY_SECONDS {
            return Ok(false);
        }
        let gone = self.store.purge_answers(now, BATCH).await?;
        let more = gone >= u64::from(BATCH);
        if !more {
            self.chores
                .forgot_at
                .store(now.timestamp(), Ordering::Relaxed);
        }
        Ok(more)
    }

    /// Rule S13: instants to come that were computed with other zone data are computed anew, once after an
    /// upgrade; slots that were decided stay as they are. Returns whether there are more.
    async fn follow_zone_data(&self, now: Timestamp) -> StoreResult<bool> {
        let last = self.chores.zones_at.load(Ordering::Relaxed);
        if now.timestamp().saturating_sub(last) < ZONES_EVERY_SECONDS {
            return Ok(false);
        }
        let more = self.recompute(ZONE_DATA, now).await?;
        if !more {
            self.chores
                .zones_at
                .store(now.timestamp(), Ordering::Relaxed);
        }
        Ok(more)
    }

    /// Decides anew a batch of the schedules that were written under other zone data than `zone_data`. Returns
    /// whether there are more.
    pub(crate) async fn recompute(&self, zone_data: &str, now: Timestamp) -> StoreResult<bool> {
        let after = &self.chores.zones_after;
        let old = self
            .store
            .schedules_by_other_zone_data(zone_data, after.load(Ordering::Relaxed), BATCH)
            .await?;
        let (Some(last), count) = (old.last().map(|one| one.config_id), old.len()) else {
            after.store(0, Ordering::Relaxed);
            return Ok(false);
        };
        // A look as any other, only before its time: what is not due gets a new instant and nothing else.
        if self.fire(old, now).await? {
            tracing::info!(
                schedules = count,
                zone_data,
                "computed anew for other zone data"
            );
            after.store(last, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Schedules with their configs. One that vanished or changed since is looked at again in the next round.
    async fn with_configs(
        &self,
        due: Vec<DueSchedule>,
    ) -> StoreResult<Vec<(DueSchedule, Arc<CompiledConfig>)>> {
        let wanted: Vec<_> = due.iter().map(|d| (d.config_id, d.version)).collect();
        let configs = self.configs.get_many(&wanted).await?;
        let found = due.into_iter().filter_map(|seen| {
            let compiled = configs.get(&seen.config_id)?.clone();
            (compiled.config.version == seen.version).then_some((seen, compiled))
        });
        Ok(found.collect())
    }

    /// Decides schedules and has it carried out. What is ready goes first. Returns whether all were decided.
    async fn fire(&self, due: Vec<DueSchedule>, now: Timestamp) -> StoreResult<bool> {
        let found = self.with_configs(due).await?.into_iter();
        let (ready, fresh): (Vec<_>, Vec<_>) =
            found.partition(|(_, compiled)| compiled.is_frozen(&self.registry));
        let mut orders = Vec::with_capacity(ready.len());
        for (seen, compiled) in ready {
            orders.push(self.order(seen, &compiled, now).await);
        }
        let ready = self.carry_out(now, orders).await;
        let (count, begun) = (fresh.len(), self.clock.monotonic());
        let early = || self.clock.monotonic().saturating_sub(begun) < FREEZE_FOR;
        let orders: Vec<FireOrder> = futures_util::stream::iter(fresh)
            .take_while(|_| std::future::ready(early()))
            .map(|(seen, compiled)| async move { self.order(seen, &compiled, now).await })
            .buffered(FREEZE_AT_ONCE)
            .collect()
            .await;
        let all = orders.len() == count;
        self.carry_out(now, orders).await.and(ready)?;
        Ok(all)
    }

    /// Hands orders to the store, in calls that no database finds too long.
    ///
    /// # Errors
    /// When the store cannot be reached; or when it cannot take some order, once all others were carried out.
    async fn carry_out(&self, now: Timestamp, orders: Vec<FireOrder>) -> StoreResult<()> {
        let mut outcome = Ok(());
        for group in groups(orders) {
            match self.hand_over(now, group.clone()).await {
                Ok(()) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                // One that no database takes must not keep the others.
                Err(_) if group.len() > 1 => {
                    for order in group {
                        let config_id = order.seen.config_id;
                        if let Err(error) = self.hand_over(now, vec![order]).await {
                            tracing::error!(config_id, %error, "the store cannot take what this schedule fires");
                            outcome = Err(error);
                        }
                    }
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    async fn hand_over(&self, now: Timestamp, orders: Vec<FireOrder>) -> StoreResult<()> {
        let lateness: Vec<Vec<Fire>> = orders.iter().map(|o| o.plan.fires.clone()).collect();
        let fires: usize = lateness.iter().map(Vec::len).sum();
        let write = self.store.fire_due(now, orders);
        let receipts = match fires {
            0 => write.await?,
            _ => {
                let at_once = self.store.is_in_order() && fires <= FEW;
                self.wakes.enqueued_by(at_once, write).await?
            }
        };
        // Late is what others can see late: the executions are there from now on.
        let done = self.clock.now();
        for (receipt, fires) in receipts.iter().zip(lateness) {
            self.announce(receipt, &fires, done);
        }
        Ok(())
    }

    async fn order(
        &self,
        seen: DueSchedule,
        compiled: &CompiledConfig,
        now: Timestamp,
    ) -> FireOrder {
        let config = &compiled.config;
        let overlap = config.spec.effective_overlap();
        let plan = match &compiled.timetable {
            Some(timetable) => timetable.plan(&seen.state, now, overlap),
            None => dormant(&seen.state),
        };
        let template = freeze(
            compiled,
            &self.registry,
            Uuid::nil(),
            Trigger::Schedule,
            now,
            Overrides::default(),
        )
        .await;
        let plan = plan.at_most((CALL_BYTES / size_of(&template)).max(2));
        let held = self
            .registry
            .is_disabled(config.tenant_id, &config.spec.task_type);
        FireOrder {
            tenant_id: config.tenant_id,
            task_ids: plan.fires.iter().map(|_| new_task_id(now)).collect(),
            plan,
            skip_all: held.then_some(SkipReason::TypeDisabled),
            overlap,
            template: Arc::new(template),
            seen,
        }
    }

    fn announce(&self, receipt: &FireReceipt, fires: &[Fire], done: Timestamp) {
        if !receipt.applied {
            return;
        }
        for (reason, count) in &receipt.skips {
            self.observer.skipped(*reason, *count);
        }
        if !receipt.enqueued.is_empty() {
            for fire in fires {
                self.observer
                    .fired((done - fire.fires_at).to_std().unwrap_or_default());
            }
        }
        for task_id in &receipt.cancel_requested {
            self.wakes.cancelled(*task_id);
        }
    }
}

/// What follows a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// There is more to do at once.
    More,
    /// Nothing before this instant; none when nothing waits for time.
    Until(Option<Timestamp>),
}

/// What an execution takes in a statement, in bytes, roughly.
fn size_of(new: &NewExecution) -> usize {
    ROW_BYTES + new.parameters.len() + new.chain.as_ref().map_or(0, |chain| chain.len())
}

/// Cuts orders into groups of at most [`CALL_BYTES`], each of at least one.
fn groups(orders: Vec<FireOrder>) -> Vec<Vec<FireOrder>> {
    let size = |order: &FireOrder| ROW_BYTES + order.plan.fires.len() * size_of(&order.template);
    chunks(orders, CALL_BYTES, size)
}

/// A schedule that cannot be asked: nothing fires, nothing is looked at again until it is changed.
fn dormant(state: &ScheduleState) -> Plan {
    Plan {
        last_slot: state.last_slot,
        ..Plan::default()
    }
}

/// A fresh public id whose time part is `now`, so that ids sort as instants do.
pub fn new_task_id(now: Timestamp) -> TaskId {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}
