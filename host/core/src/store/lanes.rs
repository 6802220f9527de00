//! Who is next (rules E2 and E3). A claim does not look at a queue but at lanes: what waits of one tenant and
//! task type. Tenants take turns, the one with the fewest running per weight first; within a tenant the queue
//! key decides over all its lanes. What a type or a tenant allows is known before its lanes are looked at, so
//! that a full one costs nothing however long it is.

use horarium_model::quota::{Allowance, Ask, QuotaRoom};
use horarium_model::{TenantId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What bounds one lane, for those that are bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaneBound {
    /// Its place among the wanted types.
    pub lane: usize,
    /// Weight of the tenant when tenants take turns.
    pub weight: u32,
    /// How many of the tenant run at once.
    pub tenant_max: Option<u32>,
    /// How many of the type run at once.
    pub type_max: Option<u32>,
    /// The breaker of the type, while it is open.
    pub breaker: Option<OpenBreaker>,
    /// Whether the tenant has quotas.
    pub quotas: bool,
}

/// An open circuit breaker, as a claim meets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenBreaker {
    /// When one is let through.
    pub probe_at: Timestamp,
    /// One was let through and has not ended.
    pub probing: bool,
}

/// What runs, by tenant and type.
pub type Running = HashMap<(TenantId, String), u32>;

/// A tenant's turn.
#[derive(Debug, Clone, Copy)]
struct Share {
    weight: u32,
    running: u32,
    room: u32,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    room: u32,
    /// What is taken is the probe of an open breaker.
    probe: bool,
    /// Its type or its tenant has a bound.
    bounded: bool,
}

/// The lanes of one claim.
#[derive(Debug)]
pub struct Lanes<'a> {
    types: &'a [(TenantId, String)],
    places: HashMap<(TenantId, &'a str), usize>,
    lanes: Vec<Lane>,
    shares: BTreeMap<TenantId, Share>,
    /// What tenants with quotas have left of those, and how many started of each.
    quotas: BTreeMap<TenantId, (QuotaRoom, u32)>,
    with_quotas: BTreeSet<TenantId>,
}

/// A lane with little room is looked at this far in a page, in case some of it must be passed over.
const LEAST_PORTION: u32 = 32;

/// Where an execution stands in its tenant's queue.
pub type Head = (i64, i64);

impl<'a> Lanes<'a> {
    /// The lanes of the wanted types, for a claim of at most `wanted`, nothing bounded yet.
    pub fn new(types: &'a [(TenantId, String)], wanted: u32) -> Self {
        let free = Share {
            weight: 1,
            running: 0,
            room: wanted,
        };
        let lane = Lane {
            room: wanted,
            probe: false,
            bounded: false,
        };
        let key = |(tenant, name): &'a (TenantId, String)| (*tenant, name.as_str());
        Self {
            types,
            places: types.iter().map(key).zip(0..).collect(),
            lanes: vec![lane; types.len()],
            shares: types.iter().map(|(tenant, _)| (*tenant, free)).collect(),
            quotas: BTreeMap::new(),
            with_quotas: BTreeSet::new(),
        }
    }

    /// Whether it matters what runs: tenants take turns, or something is bounded.
    pub fn needs_counts(&self, bounds: &[LaneBound]) -> bool {
        !bounds.is_empty() || self.shares.len() > 1
    }

    /// The tenants that are asked for.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.shares.keys().copied().collect()
    }

    /// The tenants that have quotas: what is left of them must be told by [`Self::know_quotas`] after the bounds.
    pub fn with_quotas(&self) -> Vec<TenantId> {
        self.with_quotas.iter().copied().collect()
    }

    /// What a tenant has left of its quotas.
    pub fn know_quotas(&mut self, room: QuotaRoom) {
        self.quotas.insert(room.tenant_id, (room, 0));
    }

    /// Whether runs of a tenant must say what they ask for.
    pub fn asks(&self, tenant: TenantId) -> bool {
        self.quotas.contains_key(&tenant)
    }

    /// Whether the tenant's quotas leave room for a run. If not, none of the tenant's is taken before it.
    pub fn admits(&mut self, tenant: TenantId, ask: &Ask) -> bool {
        let Some((room, _)) = self.quotas.get_mut(&tenant) else {
            return true;
        };
        let fits = room.fits(ask);
        if !fits {
            room.wait();
        }
        fits
    }

    /// Reserves for a run that was taken what it asks for.
    pub fn reserve(&mut self, tenant: TenantId, ask: &Ask) -> Allowance {
        let Some((room, starts)) = self.quotas.get_mut(&tenant) else {
            return Allowance::default();
        };
        *starts += 1;
        room.take(ask)
    }

    /// How many of each tenant with quotas were taken.
    pub fn starts(&self) -> Vec<(TenantId, u32)> {
        let all = self
            .quotas
            .iter()
            .map(|(tenant, (_, starts))| (*tenant, *starts));
        all.filter(|(_, starts)| *starts > 0).collect()
    }

    /// Applies bounds and what runs, for a claim of at most `wanted`. May be called again with fresher ones.
    pub fn bound(&mut self, bounds: &[LaneBound], running: &Running, now: Timestamp, wanted: u32) {
        self.quotas.clear();
        self.with_quotas.clear();
        for share in self.shares.values_mut() {
            *share = Share {
                weight: 1,
                running: 0,
                room: wanted,
            };
        }
        for ((tenant, _), count) in running {
            if let Some(share) = self.shares.get_mut(tenant) {
                share.running += count;
            }
        }
        for lane in &mut self.lanes {
            *lane = Lane {
                room: wanted,
                probe: false,
                bounded: false,
            };
        }
        for bound in bounds {
            let Some((key, lane)) = self
                .types
                .get(bound.lane)
                .zip(self.lanes.get_mut(bound.lane))
            else {
                continue;
            };
            lane.bounded = bound.type_max.is_some()
                || bound.tenant_max.is_some()
                || bound.breaker.is_some()
                || bound.quotas;
            if bound.quotas {
                self.with_quotas.insert(key.0);
            }
            if let Some(max) = bound.type_max {
                let runs = running.get(key).copied().unwrap_or(0);
                lane.room = lane.room.min(max.saturating_sub(runs));
            }
            if let Some(breaker) = bound.breaker {
                lane.probe = true;
                let opens = breaker.probe_at <= now && !breaker.probing;
                lane.room = lane.room.min(u32::from(opens));
            }
            if let Some(share) = self.shares.get_mut(&key.0) {
                share.weight = bound.weight.max(1);
                if let Some(max) = bound.tenant_max {
                    share.room = share.room.min(max.saturating_sub(share.running));
                }
            }
        }
    }

    /// Places of the lanes that have room.
    pub fn open(&self) -> Vec<usize> {
        (0..self.lanes.len())
            .filter(|lane| self.room(*lane) > 0)
            .collect()
    }

    /// Places of the lanes that have room and whose room is bounded: they are locked before they are counted.
    pub fn bounded(&self) -> Vec<usize> {
        let mut open = self.open();
        open.retain(|lane| self.lanes[*lane].bounded);
        open
    }

    /// The tenant and type of a lane.
    pub fn key(&self, lane: usize) -> (TenantId, &'a str) {
        let (tenant, name) = &self.types[lane];
        (*tenant, name)
    }

    /// How many more may be taken from a lane.
    pub fn room(&self, lane: usize) -> u32 {
        let tenant = &self.types[lane].0;
        let share = self.shares.get(tenant).map_or(0, |share| share.room);
        let room = self.lanes[lane].room.min(share);
        match self.quotas.get(tenant) {
            Some((quotas, _)) => room.min(u32::try_from(quotas.starts()).unwrap_or(u32::MAX)),
            None => room,
        }
    }

    /// How many of a lane are looked at in a page of `size`: hardly more than may be taken, as what is passed
    /// over leaves its room to the next page.
    pub fn portion(&self, lane: usize, size: u32) -> u32 {
        match self.room(lane) {
            0 => 0,
            room => size.min(room.max(LEAST_PORTION)),
        }
    }

    /// What decides a lane's turn: what runs of its tenant, and the tenant's weight.
    pub fn turn(&self, lane: usize) -> (u32, u32) {
        let share = self.shares.get(&self.types[lane].0);
        share.map_or((0, 1), |s| (s.running, s.weight))
    }

    /// Whether one more of a lane may be taken.
    pub fn has_room(&self, tenant: TenantId, task_type: &str) -> bool {
        let place = self.places.get(&(tenant, task_type));
        place.is_some_and(|place| self.room(*place) > 0)
    }

    /// Takes nothing more from a lane.
    pub fn close(&mut self, lane: usize) {
        self.lanes[lane].room = 0;
    }

    /// Takes one of a lane, if it has room. Tells whether it is a probe.
    pub fn take(&mut self, tenant: TenantId, task_type: &str) -> Option<bool> {
        let place = *self.places.get(&(tenant, task_type))?;
        if self.room(place) == 0 {
            return None;
        }
        self.lanes[place].room -= 1;
        if let Some(share) = self.shares.get_mut(&tenant) {
            share.room -= 1;
            share.running += 1;
        }
        Some(self.lanes[place].probe)
    }

    /// Puts what waits in the order in which it is taken: tenants by turns, each tenant's own by its queue.
    pub fn order<T>(&self, waiting: &mut [T], place: impl Fn(&T) -> (TenantId, Head)) {
        waiting.sort_by_key(|one| place(one).1);
        if self.shares.len() < 2 {
            return;
        }
        let mut seen: BTreeMap<TenantId, u32> = BTreeMap::new();
        let mut turns: HashMap<Head, f64> = HashMap::with_capacity(waiting.len());
        for one in waiting.iter() {
            let (tenant, head) = place(one);
            let before = seen.entry(tenant).or_default();
            *before += 1;
            turns.insert(head, self.turn_of(tenant, *before));
        }
        let turn = |one: &T| turns.get(&place(one).1).copied().unwrap_or(0.0);
        waiting.sort_by(|a, b| {
            let by_turn = turn(a).total_cmp(&turn(b));
            by_turn.then_with(|| place(a).1.cmp(&place(b).1))
        });
    }

    /// Running per weight of a tenant once its n-th is taken.
    fn turn_of(&self, tenant: TenantId, nth: u32) -> f64 {
        let share = self.shares.get(&tenant);
        share.map_or(f64::MAX, |s| {
            f64::from(s.running.saturating_add(nth)) / f64::from(s.weight)
        })
    }

    /// How many of each lane are among the next `wanted`, given the first of each.
    pub fn share_out(&self, heads: &[(usize, Vec<Head>)], wanted: usize) -> Vec<(usize, u32)> {
        let mut all: Vec<(usize, Head)> = heads
            .iter()
            .flat_map(|(lane, heads)| heads.iter().map(|head| (*lane, *head)))
            .collect();
        self.order(&mut all, |(lane, head)| (self.types[*lane].0, *head));
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for (lane, _) in all.into_iter().take(wanted) {
            *counts.entry(lane).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Vec<(TenantId, String)> {
        [(1, "a"), (1, "b"), (2, "a")]
            .map(|(tenant, name)| (tenant, name.to_owned()))
            .to_vec()
    }

    fn now() -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000, 0).expect("in range")
    }

    const FREE: LaneBound = LaneBound {
        lane: 0,
        weight: 1,
        tenant_max: None,
        type_max: None,
        breaker: None,
        quotas: false,
    };

    #[test]
    fn tenants_take_turns_by_what_runs_per_weight() {
        let types = types();
        let mut lanes = Lanes::new(&types, 6);
        let heads = vec![
            (0, (0..6).map(|n| (n, n)).collect::<Vec<_>>()),
            (1, vec![(1, 50)]),
            (2, (0..6).map(|n| (100 + n, 100 + n)).collect()),
        ];
        lanes.bound(&[], &Running::new(), now(), 6);
        assert_eq!(lanes.share_out(&heads, 6), [(0, 2), (1, 1), (2, 3)]);
        // Two of the first tenant run already: the other catches up first.
        let running = Running::from([((1, "a".to_owned()), 2)]);
        lanes.bound(&[], &running, now(), 6);
        assert_eq!(lanes.share_out(&heads, 2), [(2, 2)]);
        // Three times the weight, three times the share.
        let heavy = LaneBound { weight: 3, ..FREE };
        lanes.bound(&[heavy], &Running::new(), now(), 4);
        assert_eq!(lanes.share_out(&heads, 4), [(0, 2), (1, 1), (2, 1)]);
    }

    #[test]
    fn what_is_bounded_has_as_much_room_as_is_left() {
        let types = types();
        let mut lanes = Lanes::new(&types, 9);
        let running = Running::from([((1, "a".to_owned()), 2), ((2, "a".to_owned()), 5)]);
        let bounds = [
            LaneBound {
                type_max: Some(3),
                tenant_max: Some(4),
                ..FREE
            },
            LaneBound {
                lane: 1,
                tenant_max: Some(4),
                ..FREE
            },
            LaneBound {
                lane: 2,
                type_max: Some(5),
                ..FREE
            },
        ];
        lanes.bound(&bounds, &running, now(), 9);
        assert_eq!(lanes.bounded(), [0, 1]);
        assert_eq!(lanes.open(), [0, 1]);
        assert_eq!((lanes.room(0), lanes.room(1)), (1, 2));
        assert_eq!(lanes.take(1, "a"), Some(false));
        assert_eq!(lanes.take(1, "a"), None, "three of the type");
        assert_eq!(lanes.take(1, "b"), Some(false));
        assert_eq!(lanes.take(1, "b"), None, "four of the tenant");
    }

    #[test]
    fn an_open_breaker_lets_one_through_when_its_time_has_come() {
        let types = types();
        let mut lanes = Lanes::new(&types, 9);
        let breaker = |seconds, probing| LaneBound {
            breaker: Some(OpenBreaker {
                probe_at: now() + chrono::Duration::seconds(seconds),
                probing,
            }),
            ..FREE
        };
        for (bound, room) in [
            (breaker(1, false), 0),
            (breaker(0, false), 1),
            (breaker(0, true), 0),
        ] {
            lanes.bound(&[bound], &Running::new(), now(), 9);
            assert_eq!(lanes.room(0), room, "{bound:?}");
        }
        lanes.bound(&[breaker(-1, false)], &Running::new(), now(), 9);
        assert_eq!((lanes.take(1, "a"), lanes.take(1, "a")), (Some(true), None));
    }
}
