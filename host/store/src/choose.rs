//! What a claim takes of what waits, decided alike for every database.

use crate::rows::Cells;
use horarium_core::store::{
    Bucket, ClaimRequest, Claimed, LaneBound, Lanes, OpenBreaker, RateBound, SUSPECT_AFTER_LOST,
    StoreResult, rules,
};
use horarium_model::Timestamp;
use horarium_model::concurrency::Rate;
use horarium_model::limits::LimitOverrides;
use horarium_model::quota::{Allowance, Ask, QuotaRoom, Quotas, Spent, minute_of};
use horarium_model::trace::TraceContext;
use std::collections::{HashMap, HashSet};

/// A run key or a rate's key, with its tenant.
pub(crate) type Key = (i64, String);

/// A row of `LANE_BOUNDS`.
pub(crate) fn lane_bound<'r>(r: &mut impl Cells<'r>) -> StoreResult<LaneBound> {
    Ok(LaneBound {
        lane: r.number("lane")?,
        weight: r.number("weight")?,
        tenant_max: r.opt_number("max_running")?,
        type_max: r.opt_number("max_running")?,
        breaker: {
            let probe_at = r.opt_instant("probe_at")?;
            let probing = r.flag("probe_id")?;
            probe_at.map(|probe_at| OpenBreaker { probe_at, probing })
        },
        quotas: r.flag("claim_quotas")?,
    })
}

/// A row of `QUOTAS_SPENT`: what is used.
pub(crate) fn spent_of<'r>(r: &mut impl Cells<'r>, now: Timestamp) -> StoreResult<Spent> {
    r.int("id")?;
    r.opt_text("quotas")?;
    spent(r, now)
}

/// A row of `QUOTAS_SPENT`: what is left.
pub(crate) fn quota_room<'r>(r: &mut impl Cells<'r>, now: Timestamp) -> StoreResult<QuotaRoom> {
    let tenant = r.int("id")?;
    let quotas: Quotas = r.json("quotas")?;
    Ok(QuotaRoom::new(tenant, &quotas, &spent(r, now)?))
}

/// The columns of `QUOTAS_SPENT` behind the quotas.
fn spent<'r>(r: &mut impl Cells<'r>, now: Timestamp) -> StoreResult<Spent> {
    let (minute, starts) = (r.opt_int("minute")?, r.number("minute_starts")?);
    Ok(Spent {
        starts: if minute == Some(minute_of(now)) {
            starts
        } else {
            0
        },
        fuel: r.number("fuel")?,
        log_bytes: r.number("log_bytes")?,
        fuel_reserved: r.number("fuel_reserved")?,
        memory_reserved: r.number("memory_reserved")?,
        log_reserved: r.number("log_reserved")?,
    })
}

/// A row of `ASKS`.
pub(crate) fn ask<'r>(r: &mut impl Cells<'r>) -> StoreResult<(i64, Ask)> {
    let id = r.int("id")?;
    let plugin: Option<LimitOverrides> = r.opt_json("limits")?;
    let task: Option<LimitOverrides> = r.opt_json("limits")?;
    Ok((
        id,
        rules::ask(plugin.unwrap_or_default(), task.unwrap_or_default()),
    ))
}

/// A bucket whose time has come to look at what waits for it.
pub(crate) struct ReadyRate {
    pub(crate) key: Key,
    bucket: Bucket,
    /// What it holds now.
    pub(crate) tokens: i64,
}

impl ReadyRate {
    /// A row of `RATES_READY`.
    pub(crate) fn read<'r>(r: &mut impl Cells<'r>, now: Timestamp) -> StoreResult<Self> {
        let key = (r.int("tenant_id")?, r.owned("rate_key")?);
        let full_at = r.int("full_at")?;
        let rate = Rate {
            count: r.number("rate_count")?,
            seconds: r.number("rate_seconds")?,
        };
        let bucket = Bucket {
            full_at,
            ..Bucket::new(rate)
        };
        let tokens = bucket.tokens(now);
        Ok(Self {
            key,
            bucket,
            tokens,
        })
    }

    /// The run key whose executions share the bucket, when tokens are left for more than `found`: those that
    /// nothing throttled wants are for what waits for it.
    pub(crate) fn rest(&self, found: i64) -> Option<(&str, i64)> {
        let rest = self.tokens - found;
        Some((
            RateBound::run_key_of(&self.key.1).filter(|_| rest > 0)?,
            rest,
        ))
    }

    /// When it is looked at the next time: never, when nothing waits for it.
    pub(crate) fn next_look(&self, now: Timestamp, something_waits: bool) -> Option<i64> {
        match (self.tokens, something_waits) {
            (0, _) => Some(self.bucket.ready_at(now)),
            (_, true) => Some(self.bucket.look_again_at(now)),
            (_, false) => None,
        }
    }
}

/// From so many lanes a claim asks first in which of them anything waits. Shared types are a lane of each tenant, of which
/// most are empty.
pub(crate) const MANY_LANES: usize = 64;

/// The claim, of the lanes that are busy.
pub(crate) fn narrowed(request: &ClaimRequest, busy: Vec<(i64, String)>) -> ClaimRequest {
    let busy: HashSet<(i64, String)> = busy.into_iter().collect();
    let types = request.types.iter().filter(|lane| busy.contains(*lane));
    ClaimRequest {
        types: types.cloned().collect(),
        ..request.clone()
    }
}

/// An available execution and what decides whether it may run now.
pub(crate) struct Candidate {
    pub(crate) queue_key: i64,
    run_key: Option<String>,
    run_max: i64,
    rate: Option<RateBound>,
    pub(crate) suspect: bool,
    expires_at: Option<Timestamp>,
    pub(crate) claimed: Claimed,
}

impl Candidate {
    /// A row of `CANDIDATES`; its parameters are taken as they come, empty where they stand aside.
    pub(crate) fn read<'r>(r: &mut impl Cells<'r>) -> StoreResult<Self> {
        let queue_key = r.int("queue_key")?;
        let run_key = r.opt_owned("run_key")?;
        let run_max = r.int("run_max")?;
        let rate_key = r.opt_owned("rate_key")?;
        let rate = Rate {
            count: r.opt_number("rate_count")?.unwrap_or(1),
            seconds: r.opt_number("rate_seconds")?.unwrap_or(1),
        };
        let lost: u32 = r.number("lost")?;
        let expires_at = r.opt_instant("expires_at")?;
        let claimed = Claimed {
            id: r.place().id,
            tenant_id: r.int("tenant_id")?,
            task_id: r.word("task_id")?,
            claim: r.number("claim")?,
            attempt: r.number("attempt")?,
            config_id: r.opt_int("config_id")?,
            config_version: r.opt_int("config_version")?,
            task_type: r.owned("task_type")?,
            trigger: r.word("trigger")?,
            slot: r.opt_instant("slot")?,
            due_at: r.instant("due_at")?,
            max_attempts: r.number("max_attempts")?,
            parameters: r.opt_text("parameters")?.unwrap_or_default().into(),
            parent_task_id: r.opt_word("parent_task_id")?,
            retry_of: r.opt_word("retry_of")?,
            chained: r.flag("chain")?,
            trace: r.opt_text("trace")?.and_then(TraceContext::from_text),
            allowance: Allowance::default(),
        };
        Ok(Self {
            queue_key,
            run_key,
            run_max,
            rate: rate_key.map(|key| RateBound { key, rate }),
            suspect: lost >= SUSPECT_AFTER_LOST,
            expires_at,
            claimed,
        })
    }

    /// Where it stands in its tenant's queue.
    pub(crate) fn place(&self) -> (i64, (i64, i64)) {
        (self.claimed.tenant_id, (self.queue_key, self.claimed.id))
    }

    pub(crate) fn key(&self) -> Option<Key> {
        let key = self.run_key.as_ref()?;
        Some((self.claimed.tenant_id, key.clone()))
    }

    pub(crate) fn rate_key(&self) -> Option<Key> {
        let rate = self.rate.as_ref()?;
        Some((self.claimed.tenant_id, rate.key.clone()))
    }
}

/// What runs already and what buckets hold, as far as this claim asked.
#[derive(Default)]
pub(crate) struct Known {
    /// How many run of each key.
    pub(crate) keys: HashMap<Key, i64>,
    /// When each bucket will be full.
    pub(crate) full_at: HashMap<Key, i64>,
    /// Whether a suspect runs.
    pub(crate) suspect: Option<bool>,
    /// What runs of tenants with quotas ask for.
    pub(crate) asks: HashMap<i64, Ask>,
    used: HashMap<Key, (Bucket, Rate)>,
}

/// A bucket after a claim: when it will be full, its rate, when what waits for it is looked at again.
pub(crate) struct UsedRate {
    pub(crate) key: Key,
    pub(crate) full_at: i64,
    pub(crate) rate: Rate,
    pub(crate) ready_at: i64,
}

impl Known {
    /// Keys of runs that this page meets for the first time.
    pub(crate) fn fresh_keys(&self, page: &[Candidate]) -> Vec<Key> {
        let keys = page.iter().filter_map(Candidate::key);
        let fresh: HashSet<Key> = keys.filter(|key| !self.keys.contains_key(key)).collect();
        fresh.into_iter().collect()
    }

    /// Keys of rates that this page meets for the first time.
    pub(crate) fn fresh_rates(&self, page: &[Candidate]) -> Vec<Key> {
        let keys = page.iter().filter_map(Candidate::rate_key);
        let fresh: HashSet<Key> = keys.filter(|key| !self.full_at.contains_key(key)).collect();
        fresh.into_iter().collect()
    }

    /// Those of tenants with quotas, which must say what they ask for.
    pub(crate) fn fresh_asks(&self, page: &[Candidate], lanes: &Lanes<'_>) -> Vec<i64> {
        let of_quotas = page.iter().filter(|one| lanes.asks(one.claimed.tenant_id));
        of_quotas.map(|one| one.claimed.id).collect()
    }

    /// The buckets that were asked for a token.
    pub(crate) fn used_rates(&self, now: Timestamp) -> Vec<UsedRate> {
        let used = self.used.iter();
        used.map(|(key, (bucket, rate))| UsedRate {
            key: key.clone(),
            full_at: bucket.full_at,
            rate: *rate,
            ready_at: bucket.ready_at(now),
        })
        .collect()
    }

    fn take_token(&mut self, tenant: i64, bound: &RateBound, now: Timestamp) -> bool {
        let key = (tenant, bound.key.clone());
        let mut bucket = Bucket::new(bound.rate);
        if let Some(full_at) = self.full_at.get(&key) {
            bucket.full_at = *full_at;
        }
        let taken = bucket.take(now);
        self.full_at.insert(key.clone(), bucket.full_at);
        self.used.insert(key, (bucket, bound.rate));
        taken
    }
}

/// What a claim chose.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) chosen: Vec<Claimed>,
    /// Not looked at again until a place of their run key is free.
    pub(crate) blocked: Vec<i64>,
    /// Not looked at again until their rate has tokens.
    pub(crate) throttled: Vec<i64>,
    /// Run keys of which a place was left by one that may not run for another reason: others may.
    pub(crate) spare: HashSet<Key>,
    /// Tenant, type and id of what was let through by an open breaker.
    pub(crate) probes: Vec<(i64, String, i64)>,
    /// A suspect was passed over: no more of them are looked at.
    pub(crate) suspects_wait: bool,
    /// What was reserved of the quotas of tenants.
    pub(crate) reserved: Vec<(i64, Allowance)>,
    /// Something waits for its tenant's memory: no other host could take it either.
    pub(crate) quota_waits: bool,
}

impl Choice {
    /// Takes one candidate, or passes it over.
    pub(crate) fn consider(
        &mut self,
        request: &ClaimRequest,
        lanes: &mut Lanes<'_>,
        known: &mut Known,
        candidate: Candidate,
    ) {
        let (key, id) = (candidate.key(), candidate.claimed.id);
        let tenant = candidate.claimed.tenant_id;
        if candidate.expires_at.is_some_and(|at| at <= request.now) {
            // The sweep ends it. Claims look no more at one with a key, but at those behind it.
            if let Some(key) = key.filter(|_| !candidate.suspect) {
                self.blocked.push(id);
                self.spare.insert(key);
            }
            return;
        }
        if !lanes.has_room(tenant, &candidate.claimed.task_type) {
            return;
        }
        let ask = known.asks.get(&id).copied();
        if let Some(ask) = &ask
            && !lanes.admits(tenant, ask)
        {
            self.quota_waits = true;
            return;
        }
        if candidate.suspect && known.suspect == Some(true) {
            self.suspects_wait = true;
            return;
        }
        let runs = key.as_ref().and_then(|key| known.keys.get(key).copied());
        let full = key.is_some() && runs.unwrap_or(0) >= candidate.run_max;
        if full && candidate.suspect {
            // Suspects are few and wait for one another too: they are looked at by every claim.
            self.suspects_wait = true;
            return;
        }
        if full {
            self.blocked.push(id);
            return;
        }
        if let Some(bound) = &candidate.rate
            && !known.take_token(tenant, bound, request.now)
        {
            self.throttled.push(id);
            // Where all of the run key share the bucket, no other of it may run either.
            let same = RateBound::run_key_of(&bound.key) == candidate.run_key.as_deref();
            self.spare.extend(key.filter(|_| !same));
            return;
        }
        if let Some(key) = key {
            *known.keys.entry(key).or_default() += 1;
        }
        if candidate.suspect {
            known.suspect = Some(true);
        }
        let probe = lanes.take(tenant, &candidate.claimed.task_type);
        if probe == Some(true) {
            let task_type = candidate.claimed.task_type.clone();
            self.probes.push((tenant, task_type, id));
        }
        let mut claimed = candidate.claimed;
        if let Some(ask) = &ask {
            claimed.allowance = lanes.reserve(tenant, ask);
            if !claimed.allowance.is_empty() {
                self.reserved.push((id, claimed.allowance));
            }
        }
        self.chosen.push(claimed);
    }

    /// What was claimed, as its claim leaves it.
    pub(crate) fn into_claimed(self) -> Vec<Claimed> {
        let mut chosen = self.chosen;
        for claimed in &mut chosen {
            claimed.claim += 1;
            claimed.attempt += 1;
        }
        chosen
    }
}
