//! Keeps the history, the audit log and the sums of usage within what is wanted of them: in small steps with pauses
//! between, so that claims never wait for it, and on one host at a time.

use crate::clock::Clock;
use crate::store::{Page, PruneScope, PruneStep, Store, StoreResult, Tenant};
use horarium_model::quota::day_of;
use horarium_model::retention::{PerEnd, Retention};
use horarium_model::{ConfigId, ExecutionId, TenantId, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two rounds, over all hosts.
const EVERY: Duration = Duration::from_secs(3600);
/// Between two looks of a host whether a round is due: the one that began it may be gone.
const LOOK: Duration = Duration::from_secs(600);
/// After the start of a host, which has better things to do.
const FIRST: Duration = Duration::from_secs(300);
/// Executions removed in one transaction.
const STEP: u32 = 250;
/// Entries of the audit log removed in one transaction.
const AUDIT_STEP: u32 = 1000;
/// Configs looked at in one statement.
const CONFIGS: u32 = 200;
/// Tenants read at once.
const TENANTS: u32 = 200;
/// The shortest and the longest pause between two steps.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// What is due.
#[derive(Debug, Clone)]
pub struct PrunePlan {
    /// What is kept of every tenant.
    pub retention: Retention,
    /// How what is beyond `keep` must have ended.
    pub states: PerEnd<bool>,
    /// Whether what tenants and tasks want kept holds too.
    pub stored: bool,
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// Only counts.
    pub dry_run: bool,
    /// A pause after each step as many times as long as the step; 0 for none.
    pub pace: u32,
}

impl PrunePlan {
    /// What a host does by itself.
    pub fn of_host(retention: Retention) -> Self {
        Self {
            retention,
            states: PerEnd::all(true),
            stored: true,
            tenant: None,
            dry_run: false,
            pace: 4,
        }
    }
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Executions in all.
    pub executions: u64,
    /// By the names of their tenants; those of which nothing goes are left out.
    pub tenants: BTreeMap<String, u64>,
}

/// What a host keeps, as its settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Of the history of every tenant.
    pub retention: Retention,
    /// For how long entries of the audit log.
    pub audit: chrono::Duration,
}

/// Takes care of a store.
pub struct Caretaker {
    /// Durable truth.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A round under way.
struct Round<'a> {
    care: &'a Caretaker,
    plan: &'a PrunePlan,
    now: Timestamp,
    progress: &'a (dyn Fn(u64) + Sync),
    removed: u64,
}

impl Caretaker {
    /// Takes care until `shutdown`, of each round as `kept` says when it begins; when that changes, at once.
    pub async fn run(&self, mut kept: watch::Receiver<Kept>, shutdown: CancellationToken) {
        let mut wait = FIRST;
        loop {
            let at_once = tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.clock.sleep(wait) => false,
                Ok(()) = kept.changed() => true,
            };
            wait = LOOK;
            let kept = *kept.borrow_and_update();
            let round = self.look(kept, at_once);
            tokio::select! {
                () = shutdown.cancelled() => return,
                done = round => if let Err(error) = done {
                    tracing::warn!(%error, "the history could not be pruned; it is tried again");
                }
            }
        }
    }

    /// A round, if one is due and no other host has begun it; or `at_once`.
    async fn look(&self, Kept { retention, audit }: Kept, at_once: bool) -> StoreResult<()> {
        let now = self.clock.now();
        if !self.store.begin_care(now, EVERY).await? && !at_once {
            return Ok(());
        }
        let report = self.prune(&PrunePlan::of_host(retention), &|_| {}).await?;
        if report.executions > 0 {
            let executions = report.executions;
            tracing::info!(executions, "old executions were removed");
        }
        self.prune_audit(now - audit).await?;
        // Yesterday's may still be written by a host whose clock is behind.
        let day = day_of(now) - 1;
        while self.store.fold_usage(day).await? {
            self.pause(PAUSES.0, 4).await;
        }
        Ok(())
    }

    async fn prune_audit(&self, before: Timestamp) -> StoreResult<()> {
        loop {
            let begun = self.clock.monotonic();
            if self.store.purge_audit(before, AUDIT_STEP).await? < u64::from(AUDIT_STEP) {
                return Ok(());
            }
            self.pause(self.clock.monotonic().saturating_sub(begun), 4)
                .await;
        }
    }

    /// Removes what is due; `progress` is told after each step how many executions that were so far. Stopping half-way
    /// is harmless.
    ///
    /// # Errors
    /// When the store fails; what was removed stays removed.
    pub async fn prune(
        &self,
        plan: &PrunePlan,
        progress: &(dyn Fn(u64) + Sync),
    ) -> StoreResult<PruneReport> {
        let mut round = Round {
            care: self,
            plan,
            now: self.clock.now(),
            progress,
            removed: 0,
        };
        let mut report = PruneReport::default();
        let mut page = Page::first(TENANTS);
        loop {
            let tenants = self.store.tenants(&page).await?;
            for tenant in tenants.items {
                if plan.tenant.is_some_and(|only| only != tenant.id) {
                    continue;
                }
                let before = round.removed;
                round.of_tenant(&tenant).await?;
                let removed = round.removed - before;
                if removed > 0 {
                    report.tenants.insert(tenant.name, removed);
                }
            }
            match tenants.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        report.executions = round.removed;
        Ok(report)
    }

    async fn pause(&self, took: Duration, pace: u32) {
        if pace > 0 {
            let (least, most) = PAUSES;
            self.clock.sleep((took * pace).clamp(least, most)).await;
        }
    }
}

impl Round<'_> {
    /// By age first, then what is beyond the tenant's quota, and beyond the newest of each task.
    async fn of_tenant(&mut self, tenant: &Tenant) -> StoreResult<()> {
        let removed_before = self.removed;
        let (store, id) = (self.care.store.clone(), tenant.id);
        let mut wanted = self.plan.retention;
        let mut of_configs = BTreeMap::new();
        if self.plan.stored {
            let own = store.retention(id, None).await?.unwrap_or_default();
            wanted = wanted.tightest(&own);
            of_configs = self.of_configs(id).await?;
        }
        let mut before = self.instants(&wanted);
        if wanted.has_ages() {
            let scope = PruneScope::Ages { tenant: id, before };
            self.walk(scope).await?;
        }
        if self.plan.stored {
            let counted = match self.plan.dry_run {
                true => self.removed - removed_before,
                false => 0,
            };
            let until = self.beyond_quota(id, counted, before).await?;
            before = before.map(|at| at.max(until));
        }
        if let Some(keep) = wanted.keep {
            let mut after = 0;
            loop {
                let found = store.beyond_newest(id, after, CONFIGS, keep).await?;
                let Some((last, _)) = found.last() else { break };
                after = *last;
                for (config, beyond) in found {
                    if !of_configs.contains_key(&config)
                        && let Some(beyond) = beyond
                    {
                        self.of_config(id, config, PerEnd::default(), Some(beyond), before)
                            .await?;
                    }
                }
            }
        }
        for (config, own) in of_configs {
            let beyond = match wanted.tightest(&own).keep {
                Some(keep) => {
                    let found = store.beyond_newest(id, config - 1, 1, keep).await?;
                    let mine = found.into_iter().find(|(found, _)| *found == config);
                    mine.and_then(|(_, beyond)| beyond)
                }
                None => None,
            };
            if beyond.is_some() || own.has_ages() {
                let ages = self.instants(&own);
                self.of_config(id, config, ages, beyond, before).await?;
            }
        }
        Ok(())
    }

    /// The oldest beyond the tenant's quota `history`; `except` are those that went already, or were `counted` only.
    /// Returns the instant before which all went.
    async fn beyond_quota(
        &mut self,
        tenant: TenantId,
        counted: u64,
        except: PerEnd<Option<Timestamp>>,
    ) -> StoreResult<Option<Timestamp>> {
        let store = self.care.store.clone();
        let known = store.quotas(tenant).await?;
        let Some(limit) = known.and_then(|known| known.quotas.history) else {
            return Ok(None);
        };
        let there = store.history_count(tenant).await?.saturating_sub(counted);
        let (mut left, mut until) = (there.saturating_sub(limit), None);
        let scope = |count| PruneScope::Oldest {
            tenant,
            count,
            except,
        };
        let mut step = self.first_step(scope(0));
        while left > 0 {
            step.scope = scope(u32::try_from(left).unwrap_or(u32::MAX));
            let (removed, more) = self.step(&mut step).await?;
            if !more {
                return Ok(Some(self.now));
            }
            left = left.saturating_sub(removed);
            let reached = step.after.map(|(micros, _)| micros.saturating_add(1));
            until = reached.and_then(Timestamp::from_timestamp_micros);
        }
        Ok(until)
    }

    /// What a tenant's tasks want kept.
    async fn of_configs(&self, tenant: TenantId) -> StoreResult<BTreeMap<ConfigId, Retention>> {
        let mut all = BTreeMap::new();
        loop {
            let after = all.last_key_value().map_or(0, |(config, _)| *config);
            let store = &self.care.store;
            let page = store.config_retentions(tenant, after, CONFIGS).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    async fn of_config(
        &mut self,
        tenant: TenantId,
        config: ConfigId,
        before: PerEnd<Option<Timestamp>>,
        beyond: Option<ExecutionId>,
        except: PerEnd<Option<Timestamp>>,
    ) -> StoreResult<()> {
        let states = self.plan.states;
        self.walk(PruneScope::Config {
            tenant,
            config,
            before,
            beyond: beyond.map(|id| (id, states)),
            except,
        })
        .await
    }

    /// The instants before which an end is too old.
    fn instants(&self, retention: &Retention) -> PerEnd<Option<Timestamp>> {
        retention.ages().map(|seconds| {
            let seconds = i64::try_from(seconds?).ok()?;
            let age = chrono::Duration::try_seconds(seconds)?;
            self.now.checked_sub_signed(age)
        })
    }

    fn first_step(&self, scope: PruneScope) -> PruneStep {
        PruneStep {
            scope,
            after: None,
            limit: STEP,
            dry_run: self.plan.dry_run,
        }
    }

    /// Looks through a scope, step after step.
    async fn walk(&mut self, scope: PruneScope) -> StoreResult<()> {
        let mut step = self.first_step(scope);
        while self.step(&mut step).await?.1 {}
        Ok(())
    }

    /// One step, and the pause after it: how many it removed, and whether there is another one.
    async fn step(&mut self, step: &mut PruneStep) -> StoreResult<(u64, bool)> {
        let begun = self.care.clock.monotonic();
        let pruned = self.care.store.prune(step).await?;
        self.removed += pruned.removed;
        (self.progress)(self.removed);
        step.after = pruned.next;
        if pruned.next.is_some() {
            let took = self.care.clock.monotonic().saturating_sub(begun);
            self.care.pause(took, self.plan.pace).await;
        }
        Ok((pruned.removed, pruned.next.is_some()))
    }
}
