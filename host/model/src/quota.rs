//! What a tenant may use.

use crate::input::Fields;
use crate::limits::LimitOverrides;
use crate::problem::Invalid;
use crate::schedule::wire;
use crate::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Numbers that every JSON reader keeps exact.
const MAX: u64 = (1 << 53) - 1;

macro_rules! quotas {
    ($($(#[$doc:meta])* $name:ident: $least:expr, $most:expr;)*) => {
        /// Quotas of a tenant; what is absent is not bounded.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Quotas {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<u64>,)*
        }

        impl Quotas {
            /// Their names.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Reads an object of them.
            ///
            /// # Errors
            /// What is wrong, with its pointer.
            pub fn from_json(body: &Value) -> Result<Self, Invalid> {
                Fields::read(body, "", Self::read)
            }

            /// The schema of what is read.
            pub fn describe() -> Value {
                Fields::describe(Self::read)
            }

            fn read(fields: &mut Fields<'_>) -> Self {
                Self {
                    $($name: fields.unsigned(stringify!($name), $least, $most),)*
                }
            }

            /// By name.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => self.$name,)*
                    _ => None,
                }
            }
        }
    };
}

quotas! {
    /// Executions that run at once.
    concurrency: 0, u32::MAX.into();
    /// Executions that wait.
    backlog: 0, u32::MAX.into();
    /// Attempts that start within a calendar minute.
    executions_per_minute: 0, u32::MAX.into();
    /// Fuel burnt within a UTC day: reserved when an attempt starts, what it did not burn is given back at its end.
    fuel_per_day: 0, MAX;
    /// Bytes of memory that running executions may hold together, by their limits.
    memory_bytes: 1, MAX;
    /// Registered task types.
    plugins: 0, MAX;
    /// Task configs.
    configs: 0, MAX;
    /// Ended executions that are kept; the oldest beyond go.
    history: 1, MAX;
    /// Bytes of keys and values of the state of all tasks.
    state_bytes: 0, MAX;
    /// Bytes of log kept within a UTC day; what is beyond is counted and dropped.
    log_bytes_per_day: 0, MAX;
}

impl Quotas {
    /// Whether claims have to look at them, besides what runs and waits.
    pub fn bound_claims(&self) -> bool {
        self.executions_per_minute.is_some()
            || self.fuel_per_day.is_some()
            || self.memory_bytes.is_some()
            || self.log_bytes_per_day.is_some()
    }

    /// What they say of the limits of a single run.
    pub fn limits(&self) -> LimitOverrides {
        LimitOverrides {
            fuel: self.fuel_per_day.map(|fuel| fuel.max(1)),
            memory_bytes: self.memory_bytes,
            ..LimitOverrides::default()
        }
    }
}

/// What a run asks for of what its tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Its limit of fuel.
    pub fuel: u64,
    /// Its limit of memory.
    pub memory_bytes: u64,
    /// Its limit of log.
    pub log_bytes: u64,
}

/// What a claim reserved for a run; none where its tenant has no such quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Fuel.
    pub fuel: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of log.
    pub log_bytes: Option<u64>,
}

impl Allowance {
    /// Whether nothing was reserved.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A quota that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaHit {
    /// Its name.
    pub quota: &'static str,
    /// What is in use.
    pub used: u64,
    /// What there may be.
    pub limit: u64,
    /// When it begins anew, where time alone does that.
    pub resets_at: Option<Timestamp>,
}

impl fmt::Display for QuotaHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            quota, used, limit, ..
        } = self;
        write!(
            f,
            "the tenant's quota `{quota}` is used up: {used} of {limit}"
        )?;
        match self.resets_at {
            Some(at) => write!(f, "; it begins anew at {}", wire(at)),
            None => Ok(()),
        }
    }
}

/// What a tenant uses of its quotas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaUse {
    /// Executions that run.
    pub running: u64,
    /// Executions that wait.
    pub waiting: u64,
    /// What is used up as time goes on.
    pub spent: Spent,
    /// Task types.
    pub plugins: u64,
    /// Task configs.
    pub configs: u64,
    /// Ended executions.
    pub history: u64,
    /// Bytes of state.
    pub state_bytes: u64,
}

/// What claims and ends use up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Attempts that started in the minute.
    pub starts: u64,
    /// Fuel burnt on the day.
    pub fuel: u64,
    /// Fuel reserved for what runs.
    pub fuel_reserved: u64,
    /// Memory reserved for what runs.
    pub memory_reserved: u64,
    /// Bytes of log kept on the day.
    pub log_bytes: u64,
    /// Bytes of log reserved for what runs.
    pub log_reserved: u64,
}

/// Microseconds of a minute and of a day.
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 86_400_000_000;

/// The minute of an instant, counted from 1970.
pub fn minute_of(at: Timestamp) -> i64 {
    at.timestamp_micros().div_euclid(MINUTE)
}

/// The UTC day of an instant, counted from 1970.
pub fn day_of(at: Timestamp) -> i64 {
    at.timestamp_micros().div_euclid(DAY)
}

/// When the next minute begins.
pub fn next_minute(now: Timestamp) -> Option<Timestamp> {
    Timestamp::from_timestamp_micros((minute_of(now) + 1) * MINUTE)
}

/// When the next day begins, in UTC.
pub fn next_day(now: Timestamp) -> Option<Timestamp> {
    Timestamp::from_timestamp_micros((day_of(now) + 1) * DAY)
}

/// One quota with its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaLine {
    /// Its name.
    pub name: &'static str,
    /// What there may be; none for no bound.
    pub limit: Option<u64>,
    /// What is in use; what is reserved for running executions counts.
    pub used: u64,
    /// When it begins anew.
    pub resets_at: Option<Timestamp>,
}

impl QuotaLine {
    /// The hit, when nothing is left.
    pub fn hit(&self) -> Option<QuotaHit> {
        let limit = self.limit.filter(|limit| self.used >= *limit)?;
        Some(QuotaHit {
            quota: self.name,
            used: self.used,
            limit,
            resets_at: self.resets_at,
        })
    }
}

impl QuotaUse {
    /// Every quota with its use, in the order of their names' table.
    pub fn lines(&self, quotas: &Quotas, now: Timestamp) -> Vec<QuotaLine> {
        let spent = &self.spent;
        let of = |name: &str| match name {
            "concurrency" => (self.running, None),
            "backlog" => (self.waiting, None),
            "executions_per_minute" => (spent.starts, next_minute(now)),
            "fuel_per_day" => (spent.fuel + spent.fuel_reserved, next_day(now)),
            "memory_bytes" => (spent.memory_reserved, None),
            "plugins" => (self.plugins, None),
            "configs" => (self.configs, None),
            "history" => (self.history, None),
            "state_bytes" => (self.state_bytes, None),
            _ => (spent.log_bytes + spent.log_reserved, next_day(now)),
        };
        let line = |name: &&'static str| {
            let (used, resets_at) = of(name);
            QuotaLine {
                name,
                limit: quotas.get(name),
                used,
                resets_at,
            }
        };
        Quotas::NAMES.iter().map(line).collect()
    }
}

/// What a tenant has left of the quotas that bound claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaRoom {
    /// Whose.
    pub tenant_id: TenantId,
    starts: Option<u64>,
    fuel: Option<u64>,
    memory: Option<u64>,
    memory_max: Option<u64>,
    log: Option<u64>,
}

impl QuotaRoom {
    /// From what there may be and what is in use.
    pub fn new(tenant_id: TenantId, quotas: &Quotas, spent: &Spent) -> Self {
        let left = |limit: Option<u64>, used: u64| limit.map(|limit| limit.saturating_sub(used));
        Self {
            tenant_id,
            starts: left(quotas.executions_per_minute, spent.starts),
            fuel: left(quotas.fuel_per_day, spent.fuel + spent.fuel_reserved),
            memory: left(quotas.memory_bytes, spent.memory_reserved),
            memory_max: quotas.memory_bytes,
            log: left(
                quotas.log_bytes_per_day,
                spent.log_bytes + spent.log_reserved,
            ),
        }
    }

    /// How many more may start, as far as that is known without knowing them.
    pub fn starts(&self) -> u64 {
        match self.fuel == Some(0) || self.memory == Some(0) {
            true => 0,
            false => self.starts.unwrap_or(u64::MAX),
        }
    }

    /// Whether there is room for one.
    pub fn fits(&self, ask: &Ask) -> bool {
        let wanted = ask.memory_bytes.min(self.memory_max.unwrap_or(u64::MAX));
        self.starts() > 0 && self.memory.is_none_or(|memory| memory >= wanted)
    }

    /// Lets nobody else before one that does not fit: memory is waited for in turn.
    pub fn wait(&mut self) {
        self.memory = self.memory.map(|_| 0);
    }

    /// Takes what one asks for; of fuel and log what is left, if that is less.
    pub fn take(&mut self, ask: &Ask) -> Allowance {
        self.starts = self.starts.map(|starts| starts.saturating_sub(1));
        let some = |left: &mut Option<u64>, wanted: u64| {
            let rest = left.as_mut()?;
            let taken = wanted.min(*rest);
            *rest -= taken;
            Some(taken)
        };
        Allowance {
            fuel: some(&mut self.fuel, ask.fuel),
            memory_bytes: some(&mut self.memory, ask.memory_bytes),
            log_bytes: some(&mut self.log, ask.log_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ASK: Ask = Ask {
        fuel: 100,
        memory_bytes: 64,
        log_bytes: 10,
    };

    fn quotas(body: Value) -> Quotas {
        Quotas::from_json(&body).expect("good quotas")
    }

    #[test]
    fn what_is_left_is_shared_out_and_never_more() {
        let all = quotas(
            json!({"fuel_per_day": 250, "memory_bytes": 150, "log_bytes_per_day": 15,
            "executions_per_minute": 9}),
        );
        let spent = Spent {
            fuel: 60,
            fuel_reserved: 40,
            ..Spent::default()
        };
        let mut room = QuotaRoom::new(1, &all, &spent);
        let mut took = Vec::new();
        while room.fits(&ASK) {
            took.push(room.take(&ASK));
        }
        let fuel: Vec<_> = took.iter().map(|one| one.fuel).collect();
        assert_eq!(fuel, [Some(100), Some(50)]);
        assert_eq!(took[1].log_bytes, Some(5));
        assert_eq!(took[1].memory_bytes, Some(64));
        assert_eq!(room.starts(), 0, "no fuel is left");
    }

    #[test]
    fn memory_is_waited_for_in_turn_and_starts_are_counted() {
        let mut room = QuotaRoom::new(1, &quotas(json!({"memory_bytes": 100})), &Spent::default());
        assert!(room.take(&ASK).fuel.is_none());
        assert!(!room.fits(&ASK));
        let small = Ask {
            memory_bytes: 10,
            ..ASK
        };
        assert!(room.fits(&small));
        room.wait();
        assert!(!room.fits(&small));
        // One that wants more than there may ever be gets all of it.
        let room = QuotaRoom::new(1, &quotas(json!({"memory_bytes": 50})), &Spent::default());
        assert!(room.fits(&ASK));
        let starts = quotas(json!({"executions_per_minute": 2}));
        let mut room = QuotaRoom::new(
            1,
            &starts,
            &Spent {
                starts: 1,
                ..Spent::default()
            },
        );
        assert!(room.take(&ASK).is_empty());
        assert!(!room.fits(&ASK));
    }

    #[test]
    fn a_hit_says_which_how_much_and_until_when() {
        let now = Timestamp::from_timestamp(86_400 + 30, 0).expect("in range");
        let all = quotas(json!({"fuel_per_day": 100, "configs": 3}));
        let used = QuotaUse {
            configs: 2,
            spent: Spent {
                fuel: 70,
                fuel_reserved: 30,
                ..Spent::default()
            },
            ..QuotaUse::default()
        };
        let lines = used.lines(&all, now);
        assert_eq!(lines.len(), Quotas::NAMES.len());
        let hits: Vec<_> = lines.iter().filter_map(QuotaLine::hit).collect();
        assert_eq!(hits.len(), 1);
        assert_eq!(
            hits[0].to_string(),
            "the tenant's quota `fuel_per_day` is used up: 100 of 100; it begins anew at 1970-01-03T00:00:00Z"
        );
        assert_eq!(next_minute(now), Timestamp::from_timestamp(86_460, 0));
        assert!(all.bound_claims() && !quotas(json!({"configs": 1})).bound_claims());
        assert_eq!(all.limits().fuel, Some(100));
    }

    #[test]
    fn days_begin_at_midnight_before_1970_too() {
        let day = |seconds| day_of(Timestamp::from_timestamp(seconds, 0).expect("in range"));
        assert_eq!((day(0), day(86_399), day(86_400), day(-1)), (0, 0, 1, -1));
    }
}
