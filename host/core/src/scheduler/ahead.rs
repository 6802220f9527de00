//! What fires next is read and decided in the second before it is due, so that it is not late by that. It is carried
//! out then only if it would be decided the same way; whether the schedule itself changed, compare-and-set (rule S1)
//! finds out.

use super::{BATCH, FREEZE_AT_ONCE, Scheduler};
use crate::config_cache::CompiledConfig;
use crate::store::{FireOrder, StoreResult};
use futures_util::StreamExt;
use horarium_model::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So long before the next due instant, what fires then is read and compiled.
const AHEAD: Duration = Duration::from_secs(1);

/// What was prepared last.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Prepared>);

/// What is to be done at an instant.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// The instant; none before the first.
    of: Option<Timestamp>,
    /// Of the registry that the orders are made from.
    revision: u64,
    orders: Vec<(FireOrder, Arc<CompiledConfig>)>,
}

impl Ahead {
    /// Whether `instant` is to be prepared still; from now on it is not.
    fn prepares(&self, instant: Timestamp) -> bool {
        let mut prepared = self.lock();
        let fresh = prepared.of != Some(instant);
        if fresh {
            *prepared = Prepared {
                of: Some(instant),
                ..Prepared::default()
            };
        }
        fresh
    }

    /// Keeps what was prepared, unless something else is prepared by now.
    fn keep(&self, new: Prepared) {
        let mut prepared = self.lock();
        if prepared.of == new.of {
            *prepared = new;
        }
    }

    /// What was prepared and is due, once.
    pub(super) fn take_due(&self, now: Timestamp) -> Prepared {
        let mut prepared = self.lock();
        match prepared.of.is_some_and(|of| of <= now) {
            true => Prepared {
                orders: std::mem::take(&mut prepared.orders),
                ..*prepared
            },
            false => Prepared::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Prepared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler {
    /// Waits until something is due, and shortly before it prepares what fires then.
    pub(super) async fn wait(&self, due: Option<Timestamp>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        self.clock.sleep_until(due - AHEAD).await;
        let prepare = async {
            if let Err(error) = self.look_ahead(due).await {
                // Only the speed of the next round depends on it.
                tracing::debug!(%error, "the scheduler could not look ahead");
            }
            std::future::pending().await
        };
        tokio::select! {
            () = prepare => {}
            () = self.clock.sleep_until(due) => {}
        }
    }

    /// Reads what fires at `until` or before, brings its configs into the cache, compiled and their parameters frozen,
    /// and decides what is to be done at that instant. Once for each, however often the scheduler is woken before it.
    pub(crate) async fn look_ahead(&self, until: Timestamp) -> StoreResult<()> {
        let ahead = &self.chores.ahead;
        if !ahead.prepares(until) {
            return Ok(());
        }
        let revision = self.registry.revision();
        let soon = self.store.due_schedules(until, BATCH).await?;
        let found = self.with_configs(soon).await?;
        let compiled = found.iter().map(|(_, compiled)| compiled);
        futures_util::stream::iter(compiled)
            .for_each_concurrent(FREEZE_AT_ONCE, |compiled| async move {
                compiled.warm(&self.registry).await;
            })
            .await;
        let mut orders = Vec::with_capacity(found.len());
        for (seen, compiled) in found {
            orders.push((self.order(seen, &compiled, until).await, compiled));
        }
        ahead.keep(Prepared {
            of: Some(until),
            revision,
            orders,
        });
        Ok(())
    }

    /// Has carried out what was decided before it was due, and decides anew what would be decided otherwise by now:
    /// other slots are due too, it has become late, or the plugins are not the same.
    pub(super) async fn fire_prepared(
        &self,
        prepared: Prepared,
        now: Timestamp,
    ) -> StoreResult<()> {
        let known = prepared.revision == self.registry.revision();
        let (good, other): (Vec<_>, Vec<_>) =
            prepared.orders.into_iter().partition(|(order, compiled)| {
                let timetable = compiled.timetable.as_ref();
                known && timetable.is_some_and(|timetable| timetable.still(&order.plan, now))
            });
        let good = good.into_iter().map(|(order, _)| order).collect();
        let carried_out = self.carry_out(now, good).await;
        let other = other.into_iter().map(|(order, _)| order.seen).collect();
        self.fire(other, now).await?;
        carried_out
    }
}
