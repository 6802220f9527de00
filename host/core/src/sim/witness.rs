//! Who watches a store from outside: every claim, enqueue and end is held against the limits, turns and rates that
//! the world laid down, by counts of its own. What the store believes does not matter.

use super::rules::Rules;
use crate::runner::{StateEntry, StateSnapshot};
use crate::store::memory::MemoryStore;
use crate::store::operations::{
    access_operations, care_operations, catalog_operations, history_operations, outbox_operations,
    queue_operations, vault_operations,
};
use crate::store::*;
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine, State};
use horarium_model::grant::Grant;
use horarium_model::task_type::{Breaker, PluginVersion, TaskType, TypeConcurrencyChange};
use horarium_model::{
    ConfigId, ErrorKind, Execution, TaskConfig, TaskId, TaskSpec, TenantId, Timestamp,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Complaints kept; one is enough to fail a history.
const KEPT: usize = 20;

/// What was seen over all hosts.
#[derive(Debug, Default)]
pub struct Testimony {
    /// What is wrong.
    pub wrong: Vec<String>,
    /// Claims that gave something while somebody else waited too: how often turns were judged.
    pub turns: u64,
    /// Most text of parameters that one call had to write for schedules.
    pub largest_call: usize,
    /// Tokens left and the latest instant seen, by config and key.
    buckets: HashMap<(ConfigId, String), (f64, Timestamp)>,
    /// Attempts of a type that broke in a row; few types ever break.
    broke: Vec<((TenantId, String), Broke)>,
}

/// Attempts that broke in a row.
#[derive(Debug, Default, Clone, Copy)]
struct Broke {
    count: u32,
    /// Nothing of the type may start before.
    hold_until: Option<Timestamp>,
}

impl Testimony {
    fn complain(&mut self, what: String) {
        if self.wrong.len() < KEPT {
            self.wrong.push(what);
        }
    }

    /// A failover: what was counted before may have been forgotten with the last transactions.
    pub fn forget(&mut self) {
        self.buckets.clear();
        self.broke.clear();
    }

    fn broke(&mut self, tenant: TenantId, task_type: &str) -> &mut Broke {
        let same =
            |((of, name), _): &((TenantId, String), Broke)| *of == tenant && name == task_type;
        let place = self.broke.iter().position(same).unwrap_or_else(|| {
            let key = (tenant, task_type.to_owned());
            self.broke.push((key, Broke::default()));
            self.broke.len() - 1
        });
        &mut self.broke[place].1
    }

    fn broken(&self, tenant: TenantId, task_type: &str) -> bool {
        self.broke.iter().any(|((of, name), broke)| {
            broke.count >= Breaker::OPENS_AFTER && *of == tenant && name == task_type
        })
    }
}

/// A store that is watched.
pub struct WitnessStore {
    inner: Arc<dyn Store>,
    truth: Arc<MemoryStore>,
    rules: Arc<Mutex<Rules>>,
    testimony: Arc<Mutex<Testimony>>,
}

/// What waits and runs of a tenant, as far as turns are concerned.
#[derive(Debug, Default, Clone, Copy)]
struct Census {
    running: u32,
    /// Available, and nothing but the tenant's bound and turn is in its way.
    free: u32,
    /// Something available must be passed over.
    odd: bool,
}

impl WitnessStore {
    /// Watches `inner`, which changes `truth`.
    pub fn new(
        inner: Arc<dyn Store>,
        truth: Arc<MemoryStore>,
        rules: Arc<Mutex<Rules>>,
        testimony: Arc<Mutex<Testimony>>,
    ) -> Self {
        Self {
            inner,
            truth,
            rules,
            testimony,
        }
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn testimony(&self) -> MutexGuard<'_, Testimony> {
        self.testimony
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what lives, for who claims.
    fn census(&self, request: &ClaimRequest) -> BTreeMap<TenantId, Census> {
        let (rules, testimony) = (self.rules(), self.testimony());
        let mut tenants: BTreeMap<TenantId, Census> = BTreeMap::new();
        self.truth.each_live(|shown| {
            let tenant = shown.tenant_id;
            let census = tenants.entry(tenant).or_default();
            match shown.state {
                State::Running => census.running += 1,
                State::Available => {
                    let wanted =
                        |(of, name): &(TenantId, String)| *of == tenant && *name == shown.task_type;
                    if shown.lost >= SUSPECT_AFTER_LOST
                        || shown.expires_at.is_some_and(|at| at <= request.now)
                    {
                        census.odd = true;
                    } else if rules.is_free(shown)
                        && request.types.iter().any(wanted)
                        && !testimony.broken(tenant, &shown.task_type)
                    {
                        census.free += 1;
                    }
                }
                _ => {}
            }
        });
        tenants
    }

    /// How many live that are wanted.
    fn count(&self, wanted: impl Fn(&Execution) -> bool) -> u32 {
        let mut count = 0;
        self.truth
            .each_live(|shown| count += u32::from(wanted(shown)));
        count
    }

    /// What a claim must not do, and what it must.
    async fn judge_claim(&self, request: &ClaimRequest, claims: &Claims) {
        let after = self.census(request);
        if claims.claimed.is_empty() {
            // A host that was given up gets nothing.
            let alive = self.truth.hosts().await.unwrap_or_default();
            if !alive.iter().any(|h| h.incarnation == request.incarnation) {
                return;
            }
        }
        let (rules, mut testimony) = (self.rules(), self.testimony());
        let running = |tenant: TenantId| after.get(&tenant).map_or(0, |of| of.running);
        let waits = |(tenant, of): (&TenantId, &Census)| {
            let max = rules.tenant(*tenant).max;
            let could = of.free > 0 && !of.odd && max.is_none_or(|max| of.running < max);
            could.then_some(*tenant)
        };
        let passed: Vec<TenantId> = after.iter().filter_map(waits).collect();
        if claims.claimed.len() < request.limit as usize && !passed.is_empty() {
            testimony.complain(format!(
                "a host took {} with {} free slots, and tenants {passed:?} were left waiting",
                claims.claimed.len(),
                request.limit
            ));
        }
        let takers: HashSet<TenantId> = claims.claimed.iter().map(|c| c.tenant_id).collect();
        for waiter in passed
            .iter()
            .filter(|tenant| rules.has_plain_queue(**tenant))
        {
            testimony.turns += u64::from(takers.iter().any(|taker| taker != waiter));
            let next = rules.turn(*waiter, running(*waiter) + 1);
            let early = takers.iter().filter(|taker| *taker != waiter);
            for taker in early.filter(|taker| rules.turn(**taker, running(**taker)) > next + 1e-9) {
                testimony.complain(format!(
                    "tenant {taker} runs {} and took another, while tenant {waiter} waits and runs {}",
                    running(*taker),
                    running(*waiter)
                ));
            }
        }
        for taker in takers {
            let (runs, max) = (running(taker), rules.tenant(taker).max);
            if max.is_some_and(|max| runs > max) {
                testimony.complain(format!("{runs} of tenant {taker} run, {max:?} may"));
            }
        }
        for claimed in &claims.claimed {
            let (tenant, name) = (claimed.tenant_id, &claimed.task_type);
            if let Some(max) = rules.of_type(tenant, name).max {
                let runs = |e: &Execution| {
                    e.state == State::Running && e.tenant_id == tenant && e.task_type == *name
                };
                let runs = self.count(runs);
                if runs > max {
                    testimony.complain(format!("{runs} of {name} run, {max} may"));
                }
            }
            testimony.take_token(&rules, request.now, claimed);
        }
        testimony.mind_breakers(request.now, &claims.claimed);
    }

    fn note_size(&self, orders: &[FireOrder]) {
        let bytes = |order: &FireOrder| order.plan.fires.len() * order.template.parameters.len();
        let call: usize = orders.iter().map(bytes).sum();
        let largest = &mut self.testimony().largest_call;
        *largest = call.max(*largest);
    }

    /// Nothing was enqueued where as many waited as may.
    fn judge_backlogs<'a>(&self, enqueued: impl Iterator<Item = &'a NewExecution>) {
        let rules = self.rules();
        for new in enqueued {
            let (tenant, config) = (new.tenant_id, new.config_id);
            let over = |cap: Option<u32>, of: &dyn Fn(&Execution) -> bool| {
                let waiting = cap.map(|_| self.count(|e| e.state.is_waiting() && of(e)));
                if waiting > cap {
                    let what = format!("{config:?} got one more: {waiting:?} wait, {cap:?} may");
                    self.testimony().complain(what);
                }
            };
            over(config.and_then(|id| rules.backlog_of(id)), &|e| {
                e.config_id == config
            });
            over(rules.of_type(tenant, &new.task_type).backlog, &|e| {
                e.tenant_id == tenant && e.task_type == new.task_type
            });
            over(rules.tenant(tenant).backlog, &|e| e.tenant_id == tenant);
        }
    }
}

impl Testimony {
    /// A bucket is never overdrawn, by the latest instant that any host saw.
    fn take_token(&mut self, rules: &Rules, now: Timestamp, claimed: &Claimed) {
        let Some((config, key, rate)) = rules.rate_of(claimed) else {
            return;
        };
        let full = (f64::from(rate.count), now);
        let (tokens, seen) = self.buckets.entry((config, key)).or_insert(full);
        let passed = (now.max(*seen) - *seen).num_microseconds().unwrap_or(0) as f64 / 1e6;
        let filled = passed * f64::from(rate.count) / f64::from(rate.seconds);
        *tokens = (*tokens + filled).min(f64::from(rate.count)) - 1.0;
        *seen = now.max(*seen);
        if *tokens < -1e-3 {
            let what = format!("config {config} starts faster than {rate:?}: {tokens} tokens");
            self.complain(what);
        }
    }

    /// While a type keeps failing nothing of it starts, then one at a time.
    fn mind_breakers(&mut self, now: Timestamp, claimed: &[Claimed]) {
        let mut counts: HashMap<(TenantId, String), u32> = HashMap::new();
        for one in claimed {
            let key = (one.tenant_id, one.task_type.clone());
            *counts.entry(key).or_default() += 1;
        }
        for (key, count) in counts {
            if !self.broken(key.0, &key.1) {
                continue;
            }
            let held = self.broke(key.0, &key.1).hold_until.take();
            if held.is_some_and(|until| now < until) || count > 1 {
                self.complain(format!(
                    "{count} of {key:?} started at {now} although it kept failing; held until {held:?}"
                ));
            }
        }
    }

    /// What the ends of attempts say of their type.
    fn note_end(
        &mut self,
        now: Timestamp,
        (tenant, task_type): &(TenantId, String),
        item: &Completion,
    ) {
        let kind = match &item.end {
            End::Succeeded(_) => None,
            End::Cancelled => return,
            End::Failed | End::Retry(_) => item.record.error_kind,
        };
        let broke = self.broke(*tenant, task_type);
        match kind {
            None | Some(ErrorKind::Retryable | ErrorKind::Permanent) => *broke = Broke::default(),
            Some(kind) if kind.breaks() => {
                broke.count += 1;
                if broke.count == Breaker::OPENS_AFTER {
                    let pause = chrono::Duration::seconds(Breaker::FIRST_PAUSE_SECONDS.into());
                    broke.hold_until = Some(now + pause);
                }
            }
            Some(_) => {}
        }
    }
}

macro_rules! watched_queue {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Queue for WitnessStore {
            fn gives_leases(&self) -> bool {
                self.inner.gives_leases()
            }

            async fn fire_due(
                &self,
                now: Timestamp,
                orders: Vec<FireOrder>,
            ) -> StoreResult<Vec<FireReceipt>> {
                let templates: Vec<_> = orders.iter().map(|order| order.template.clone()).collect();
                self.note_size(&orders);
                let receipts = self.inner.fire_due(now, orders).await?;
                let fired = templates.iter().zip(&receipts);
                let fired = fired.filter(|(_, receipt)| !receipt.enqueued.is_empty());
                self.judge_backlogs(fired.map(|(template, _)| &**template));
                Ok(receipts)
            }

            async fn enqueue(&self, now: Timestamp, batch: Enqueue) -> StoreResult<Enqueued> {
                let items = batch.items.clone();
                let enqueued = self.inner.enqueue(now, batch).await?;
                if let Enqueued::Done(receipts) = &enqueued {
                    let taken = items.iter().zip(receipts);
                    let taken = taken.filter(|(_, r)| matches!(r, EnqueueReceipt::Enqueued { .. }));
                    self.judge_backlogs(taken.map(|(item, _)| item));
                }
                Ok(enqueued)
            }

            async fn claim(&self, request: ClaimRequest) -> StoreResult<Claims> {
                let claims = self.inner.claim(request.clone()).await?;
                self.judge_claim(&request, &claims).await;
                Ok(claims)
            }

            async fn complete_many(
                &self,
                now: Timestamp,
                items: Arc<[Completion]>,
            ) -> StoreResult<Vec<CompletionReceipt>> {
                let mut types = HashMap::new();
                self.truth.each_live(|shown| {
                    if items.iter().any(|item| item.id == shown.id) {
                        types.insert(shown.id, (shown.tenant_id, shown.task_type.clone()));
                    }
                });
                let told = items.clone();
                let receipts = self.inner.complete_many(now, items).await?;
                for (item, receipt) in told.iter().zip(&receipts) {
                    let recorded = matches!(receipt, CompletionReceipt::Recorded(_));
                    if let Some(key) = types.get(&item.id).filter(|_| recorded) {
                        self.testimony().note_end(now, key, item);
                    }
                }
                Ok(receipts)
            }

            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

queue_operations! { watched_queue;
    held(incarnation: i64) -> Vec<Held>;
    take_over(now: Timestamp, mine: i64) -> TakenOver;
}

macro_rules! passed_on {
    ($trait:ident: $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl $trait for WitnessStore {
            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

catalog_operations! { passed_on; Catalog:
    update_config(now: Timestamp, tenant: TenantId, id: ConfigId, update: ConfigUpdate) -> TaskConfig;
    set_type_concurrency(now: Timestamp, tenant: TenantId, task_type: &str, change: TypeConcurrencyChange) -> TaskType;
    set_tenant_bounds(tenant: TenantId, bounds: TenantBounds) -> ();
}

history_operations! { passed_on; History: }

vault_operations! { passed_on; Vault: }

access_operations! { passed_on; Access: }

outbox_operations! { passed_on; Outbox: }
care_operations! { passed_on; Care: }
