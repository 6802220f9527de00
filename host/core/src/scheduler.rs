//! Fires schedules: looks at what is due, decides by the rules of [`horarium_model::firing`], and has the store
//! carry it out under compare-and-set (rule S1), so that any number of schedulers may run at once.

use crate::clock::Clock;
use crate::config_cache::{CompiledConfig, ConfigCache, Overrides, freeze};
use crate::observe::Observer;
use crate::registry::Registry;
use crate::store::{DueSchedule, FireOrder, FireReceipt, Store, StoreResult};
use crate::wake::Wakes;
use horarium_model::config::ScheduleState;
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
/// So long before the next due instant, what fires then is read and compiled, so that it is not late by that.
const AHEAD: Duration = Duration::from_secs(1);
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
    /// When old answers were last looked for, in seconds since 1970; 0 at first.
    pub forgot_at: AtomicI64,
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

    /// Waits until something is due, and shortly before it prepares what fires then.
    async fn wait(&self, due: Option<Timestamp>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        self.clock.sleep_until(due - AHEAD).await;
        if let Err(error) = self.look_ahead(due).await {
            // Only the speed of the next round depends on it.
            tracing::debug!(%error, "the scheduler could not look ahead");
        }
        self.clock.sleep_until(due).await;
    }

    /// Brings the configs that fire at `until` or before into the cache, compiled and their parameters frozen.
    async fn look_ahead(&self, until: Timestamp) -> StoreResult<()> {
        let soon = self.store.due_schedules(until, BATCH).await?;
        let wanted: Vec<_> = soon.iter().map(|d| (d.config_id, d.version)).collect();
        for compiled in self.configs.get_many(&wanted).await?.values() {
            compiled.warm(&self.registry).await;
        }
        Ok(())
    }

    /// One look at everything that time brings: fires due schedules, moves due executions, and cleans up
    /// after deletions.
    ///
    /// # Errors
    /// When the store fails; nothing is half done.
    pub async fn round(&self) -> StoreResult<Round> {
        let now = self.clock.now();
        // One question where nothing is due: many hosts ask it of one database.
        let mut next = self.store.next_due().await?;
        let mut more = false;
        if next.is_some_and(|next| next <= now) {
            more = self.work(now).await?;
            next = self.store.next_due().await?;
        }
        let purging = self.store.purge_deleted(BATCH).await?;
        let forgetting = self.forget_answers(now).await?;
        if more || purging || forgetting {
            return Ok(Round::More);
        }
        Ok(Round::Until(next))
    }

    /// Does what is due. Returns whether there may be more.
    async fn work(&self, now: Timestamp) -> StoreResult<bool> {
        let due = self.store.due_schedules(now, BATCH).await?;
        let full = due.len() == BATCH as usize;
        if !due.is_empty() {
            self.fire(due, now).await?;
        }
        let swept = self.store.sweep_due(now, BATCH).await?;
        if swept.available + swept.expired > 0 {
            self.wakes.enqueued();
        }
        Ok(full || swept.available.max(swept.expired) >= u64::from(BATCH))
    }

    /// Answers to requests older than a day go, looked for now and then. Returns whether there are more.
    async fn forget_answers(&self, now: Timestamp) -> StoreResult<bool> {
        let last = self.forgot_at.load(Ordering::Relaxed);
        if now.timestamp().saturating_sub(last) < FORGET_EVERY_SECONDS {
            return Ok(false);
        }
        let gone = self.store.purge_answers(now, BATCH).await?;
        let more = gone >= u64::from(BATCH);
        if !more {
            self.forgot_at.store(now.timestamp(), Ordering::Relaxed);
        }
        Ok(more)
    }

    async fn fire(&self, due: Vec<DueSchedule>, now: Timestamp) -> StoreResult<()> {
        let wanted: Vec<_> = due.iter().map(|d| (d.config_id, d.version)).collect();
        let configs = self.configs.get_many(&wanted).await?;
        let mut orders = Vec::with_capacity(due.len());
        for seen in due {
            // A config that vanished or changed since is looked at again in the next round.
            if let Some(compiled) = configs
                .get(&seen.config_id)
                .filter(|c| c.config.version == seen.version)
            {
                orders.push(self.order(seen, compiled, now).await);
            }
        }
        let lateness: Vec<Vec<Fire>> = orders.iter().map(|o| o.plan.fires.clone()).collect();
        let receipts = self.store.fire_due(now, orders).await?;
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
        if receipt.skipped > 0 {
            self.observer.skipped(receipt.skipped);
        }
        if !receipt.enqueued.is_empty() {
            for fire in fires {
                self.observer
                    .fired((done - fire.fires_at).to_std().unwrap_or_default());
            }
            self.wakes.enqueued();
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
