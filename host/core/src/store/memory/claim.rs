//! Claims.

use super::live::clear_attempt;
use super::{Inner, RateRow, Row, move_state};
use crate::store::{
    BreakerRow, Bucket, ClaimRequest, Claimed, Claims, Completion, LaneBound, Lanes, OpenBreaker,
    RateBound, Running, SUSPECT_AFTER_LOST, rules,
};
use horarium_model::execution::State;
use horarium_model::quota::{Allowance, Ask, QuotaRoom, Quotas, Spent, day_of, minute_of};
use horarium_model::{ExecutionId, TenantId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What runs already, as far as it bounds what may run.
#[derive(Default)]
struct Runs {
    types: Running,
    keys: BTreeMap<(TenantId, String), u32>,
    suspect: bool,
}

impl Inner {
    fn runs(&self) -> Runs {
        let mut runs = Runs::default();
        for row in self.live.values() {
            if row.shown.state != State::Running {
                continue;
            }
            let tenant = row.shown.tenant_id;
            let lane = (tenant, row.shown.task_type.clone());
            *runs.types.entry(lane).or_default() += 1;
            runs.suspect |= row.shown.lost >= SUSPECT_AFTER_LOST;
            if let Some(key) = &row.run_key {
                *runs.keys.entry((tenant, key.clone())).or_default() += 1;
            }
        }
        runs
    }

    /// The bounds of the wanted types that have some.
    fn lane_bounds(&self, types: &[(TenantId, String)]) -> Vec<LaneBound> {
        let bound = |(lane, key): (usize, &(TenantId, String))| {
            let tenant = self.bounds.get(&key.0).copied().unwrap_or_default();
            let row = self.type_of(key.0, &key.1);
            LaneBound {
                lane,
                weight: tenant.weight,
                tenant_max: tenant.max,
                type_max: row.and_then(|row| row.concurrency.max),
                breaker: self.open_breaker(key),
                quotas: self.quotas.get(&key.0).is_some_and(Quotas::bound_claims),
            }
        };
        types.iter().enumerate().map(bound).collect()
    }

    fn open_breaker(&self, key: &(TenantId, String)) -> Option<OpenBreaker> {
        let row = self.breakers.get(key)?;
        let probe = row.probe_id.and_then(|id| self.live.get(&id));
        Some(OpenBreaker {
            probe_at: row.probe_at.filter(|_| row.opened_at.is_some())?,
            probing: probe.is_some_and(|probe| probe.shown.state == State::Running),
        })
    }

    /// What the end of an attempt says of its type.
    pub(super) fn note_health(
        &mut self,
        now: Timestamp,
        key: (TenantId, String),
        item: &Completion,
    ) {
        let before = self.breakers.remove(&key);
        let was = before.as_ref().and_then(BreakerRow::shown);
        let after = BreakerRow::after(before, now, item);
        let shown = after.as_ref().and_then(BreakerRow::shown);
        self.epoch += i64::from(was.is_some() != shown.is_some());
        if let Some(after) = after {
            self.breakers.insert(key, after);
        }
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest) -> Claims {
        if !self.is_alive(request.incarnation) {
            return Claims::default();
        }
        let mut runs = self.runs();
        let mut lanes = Lanes::new(&request.types, request.limit);
        let bounds = self.lane_bounds(&request.types);
        lanes.bound(&bounds, &runs.types, request.now, request.limit);
        for tenant in lanes.with_quotas() {
            let quotas = self.quotas.get(&tenant).copied().unwrap_or_default();
            let spent = self.spent(request.now, tenant);
            lanes.know_quotas(QuotaRoom::new(tenant, &quotas, &spent));
        }
        let mut waiting: Vec<(TenantId, (i64, ExecutionId))> = Vec::new();
        let open: BTreeSet<usize> = lanes.open().into_iter().collect();
        for (tenant, name) in open.into_iter().map(|lane| lanes.key(lane)) {
            let heads = self.available.get(&(tenant, name.to_owned()));
            waiting.extend(heads.into_iter().flatten().map(|head| (tenant, *head)));
        }
        waiting.sort_unstable();
        waiting.dedup();
        lanes.order(&mut waiting, |one| *one);
        let mut claims = Claims::default();
        for (_, (_, id)) in waiting {
            if claims.claimed.len() >= request.limit as usize {
                break;
            }
            if self.fits(request, &mut lanes, &mut runs, id, &mut claims.rates)
                && let Some(row) = self.live.get(&id)
                && let Some(probe) = lanes.take(row.shown.tenant_id, &row.shown.task_type)
            {
                let allowance = match lanes.asks(row.shown.tenant_id) {
                    true => lanes.reserve(row.shown.tenant_id, &self.ask(row)),
                    false => Allowance::default(),
                };
                let key = (row.shown.tenant_id, row.shown.task_type.clone());
                if let Some(breaker) = self.breakers.get_mut(&key).filter(|_| probe) {
                    breaker.probe_id = Some(id);
                }
                claims.claimed.extend(self.start(request, id, allowance));
            }
        }
        let minute = minute_of(request.now);
        for (tenant, more) in lanes.starts() {
            let (last, starts) = self.starts.entry(tenant).or_default();
            if *last != minute {
                (*last, *starts) = (minute, 0);
            }
            *starts += u64::from(more);
        }
        claims
    }

    /// Whether one may run now; what bounds it is counted as taken then.
    fn fits(
        &mut self,
        request: &ClaimRequest,
        lanes: &mut Lanes<'_>,
        runs: &mut Runs,
        id: ExecutionId,
        rates: &mut bool,
    ) -> bool {
        let Some(row) = self.live.get(&id) else {
            return false;
        };
        let shown = &row.shown;
        let suspect = shown.lost >= SUSPECT_AFTER_LOST;
        let expired = shown.expires_at.is_some_and(|at| at <= request.now);
        if expired
            || (suspect && runs.suspect)
            || !lanes.has_room(shown.tenant_id, &shown.task_type)
            || lanes.asks(shown.tenant_id) && !lanes.admits(shown.tenant_id, &self.ask(row))
        {
            return false;
        }
        let key = row.run_key.clone().map(|key| (shown.tenant_id, key));
        let count = key.as_ref().and_then(|key| runs.keys.get(key).copied());
        if key.is_some() && count.unwrap_or(0) >= row.run_max {
            return false;
        }
        if let Some(bound) = row.rate.clone() {
            *rates = true;
            let now = request.now;
            let rate = self.rates.entry((shown.tenant_id, bound.key));
            let rate = rate.or_insert_with(|| RateRow {
                bucket: Bucket::new(bound.rate),
                ready_at: None,
            });
            rate.bucket = rate.bucket.with_rate(bound.rate);
            let taken = rate.bucket.take(now);
            rate.ready_at = Some(rate.bucket.ready_at(now));
            if !taken {
                return false;
            }
        }
        if let Some(key) = key {
            *runs.keys.entry(key).or_default() += 1;
        }
        runs.suspect |= suspect;
        true
    }

    /// How many run of an execution's type, and how many may.
    pub(super) fn bound_of_type(&self, row: &Row) -> Option<(u32, u32)> {
        let lane = (row.shown.tenant_id, row.shown.task_type.clone());
        let max = self.type_of(lane.0, &lane.1)?.concurrency.max?;
        Some((self.runs().types.get(&lane).copied().unwrap_or(0), max))
    }

    /// How many run of an execution's tenant, and how many may.
    pub(super) fn bound_of_tenant(&self, row: &Row) -> Option<(u32, u32)> {
        let tenant = row.shown.tenant_id;
        let max = self.bounds.get(&tenant)?.max?;
        let runs = self.runs().types;
        let of_tenant = runs.iter().filter(|((of, _), _)| *of == tenant);
        Some((of_tenant.map(|(_, count)| *count).sum(), max))
    }

    /// A bucket as it is, for who takes from it at this rate.
    pub(super) fn bucket(&self, tenant: TenantId, bound: &RateBound) -> Bucket {
        let known = self.rates.get(&(tenant, bound.key.clone()));
        known.map_or_else(
            || Bucket::new(bound.rate),
            |known| known.bucket.with_rate(bound.rate),
        )
    }

    /// Looks again at rates whose time has come; how many something waits for.
    pub(super) fn refill(&mut self, now: Timestamp, limit: usize) -> u64 {
        let waiting: BTreeSet<(TenantId, String)> = self
            .live
            .values()
            .filter(|row| row.shown.state == State::Available)
            .filter_map(|row| Some((row.shown.tenant_id, row.rate.as_ref()?.key.clone())))
            .collect();
        let due = |rate: &RateRow| rate.ready_at.is_some_and(|at| at <= now.timestamp_micros());
        let due = self.rates.iter_mut().filter(|(_, rate)| due(rate));
        let mut refilled = 0;
        for (key, rate) in due.take(limit) {
            let wanted = waiting.contains(key);
            refilled += u64::from(wanted);
            rate.ready_at = wanted.then(|| rate.bucket.look_again_at(now));
        }
        refilled
    }

    /// What a run of it would ask for: the limits of its plugin and its config.
    fn ask(&self, row: &Row) -> Ask {
        let shown = &row.shown;
        let config = shown.config_id.and_then(|id| self.configs.get(&id));
        let config = config.map(|row| &row.config.spec);
        let (tenant, name) = (shown.tenant_id, shown.task_type.as_str());
        let active = || self.type_of(tenant, name)?.active_digest.clone();
        let pin = config.and_then(|spec| spec.plugin_version.clone());
        let version = pin
            .or_else(active)
            .and_then(|digest| self.version_of(tenant, name, &digest));
        rules::ask(
            version.map(|version| version.limits).unwrap_or_default(),
            config.map(|spec| spec.limits).unwrap_or_default(),
        )
    }

    /// What a tenant used up, and what is reserved for what it runs.
    pub(super) fn spent(&self, now: Timestamp, tenant: TenantId) -> Spent {
        let minute = self.starts.get(&tenant);
        let mut spent = Spent {
            starts: minute.map_or(0, |(last, starts)| match *last == minute_of(now) {
                true => *starts,
                false => 0,
            }),
            ..Spent::default()
        };
        let today = (tenant, day_of(now), String::new());
        let until = (tenant, day_of(now) + 1, String::new());
        for tally in self.usage.range(today..until).map(|(_, tally)| tally) {
            spent.fuel += tally.fuel;
            spent.log_bytes += tally.log_bytes;
        }
        let running = self
            .live
            .values()
            .filter(|row| row.shown.tenant_id == tenant && row.shown.state == State::Running);
        for allowance in running.map(|row| row.allowance) {
            spent.fuel_reserved += allowance.fuel.unwrap_or(0);
            spent.memory_reserved += allowance.memory_bytes.unwrap_or(0);
            spent.log_reserved += allowance.log_bytes.unwrap_or(0);
        }
        spent
    }

    /// Makes one available execution run.
    fn start(
        &mut self,
        request: &ClaimRequest,
        id: ExecutionId,
        allowance: Allowance,
    ) -> Option<Claimed> {
        let mut row = self.take_live(id)?;
        let config_id = row.shown.config_id.filter(|id| !self.is_orphan(Some(*id)));
        let shown = &mut row.shown;
        move_state(shown, State::Running);
        clear_attempt(shown);
        row.claim += 1;
        row.incarnation = request.incarnation;
        row.allowance = allowance;
        shown.attempt += 1;
        shown.started_at = Some(request.now);
        shown.first_started_at.get_or_insert(request.now);
        let claimed = Claimed {
            id,
            task_id: shown.task_id,
            claim: row.claim,
            attempt: shown.attempt,
            tenant_id: shown.tenant_id,
            config_id,
            config_version: config_id
                .and_then(|id| self.configs.get(&id))
                .map(|row| row.config.version),
            task_type: shown.task_type.clone(),
            trigger: shown.trigger,
            slot: shown.slot,
            due_at: shown.due_at.unwrap_or(shown.created_at),
            max_attempts: shown.max_attempts,
            parameters: row.parameters.clone(),
            parent_task_id: shown.parent_task_id,
            retry_of: shown.retry_of,
            chained: row.chain.is_some(),
            trace: row.trace.clone(),
            allowance,
        };
        self.put_live(row);
        Some(claimed)
    }
}
