//! Which slots of a config are due and what becomes of each: rules S1 to S5, S9, S11 and S12 as one
//! pure function. The overlap rule (S6) needs the queue and is judged by the store, by [`judge_overlap`].

use crate::config::ScheduleState;
use crate::cron::CronSchedule;
use crate::execution::{SkipReason, Trigger};
use crate::schedule::{CatchUp, CronConfig, Misfire, Overlap, ScheduleConfig, wire};
use crate::{ConfigId, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most slots that catch-up `all` makes up (rule S4).
pub const MAX_MADE_UP: usize = 1000;

/// A schedule ready to be asked: its expression compiled.
#[derive(Debug, Clone)]
pub enum Timetable {
    /// Recurring.
    Cron {
        /// The compiled expression.
        schedule: Box<CronSchedule>,
        /// Start, end, jitter and misfire rules.
        config: CronConfig,
        /// Whose slots: seeds the jitter.
        id: ConfigId,
    },
    /// Once.
    Date {
        /// The instant.
        run_at: Timestamp,
        /// Rules for a missed instant.
        misfire: Misfire,
    },
    /// Never.
    Manual,
}

/// A slot that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// The instant the schedule meant.
    pub slot: Timestamp,
    /// The slot plus its jitter: when it becomes due.
    pub fires_at: Timestamp,
    /// `schedule` or `catch_up`.
    pub trigger: Trigger,
}

/// Consecutive slots that do not run.
pub type Skip = crate::config::SkipStreak;

/// What one look at a schedule decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Slots that fire, oldest first.
    pub fires: Vec<Fire>,
    /// Slots that do not, all older than the fires.
    pub skipped: Option<Skip>,
    /// The newest slot decided upon; unchanged when none was due.
    pub last_slot: Option<Timestamp>,
    /// When to look again.
    pub next_fire_at: Option<Timestamp>,
    /// Whether the fires are catch-up `all` and queue one behind another whatever the overlap rule (S7).
    pub made_up_all: bool,
}

impl Plan {
    /// The same plan with about `count` fires at most, `count` being two or more. The others stay due: the next
    /// look finds them, and never one alone, which would count as a slot on time instead of one made up.
    #[must_use]
    pub fn at_most(mut self, count: usize) -> Self {
        let keep = match self.fires.len() {
            all if all <= count => return self,
            all if all - count == 1 => count - 1,
            _ => count,
        };
        self.last_slot = keep.checked_sub(1).map(|last| self.fires[last].slot);
        self.next_fire_at = Some(self.fires[keep].fires_at);
        self.fires.truncate(keep);
        self
    }
}

impl Timetable {
    /// Compiles a schedule.
    ///
    /// # Errors
    /// When the expression is refused, which a saved config's is not unless zone data changed.
    pub fn new(schedule: &ScheduleConfig, id: ConfigId) -> Result<Self, crate::cron::CronError> {
        Ok(match schedule {
            ScheduleConfig::Manual => Self::Manual,
            ScheduleConfig::Date { run_at, misfire } => Self::Date {
                run_at: *run_at,
                misfire: *misfire,
            },
            ScheduleConfig::Cron(config) => Self::Cron {
                schedule: Box::new(config.compile(id.unsigned_abs())?),
                config: config.clone(),
                id,
            },
        })
    }

    /// The next slots strictly after `after`, start and end applied.
    pub fn slots(&self, after: Timestamp) -> Box<dyn Iterator<Item = Timestamp> + '_> {
        match self {
            Self::Manual => Box::new(std::iter::empty()),
            Self::Date { run_at, .. } => {
                Box::new(Some(*run_at).filter(|at| *at > after).into_iter())
            }
            Self::Cron {
                schedule, config, ..
            } => {
                let slots = schedule.slots(config.from(after));
                Box::new(slots.take_while(|slot| config.counts(*slot)))
            }
        }
    }

    /// When `slot` fires: slot + hash(config, slot) mod jitter (rule S3).
    pub fn fires_at(&self, slot: Timestamp) -> Timestamp {
        match self {
            Self::Cron { config, id, .. } if !config.jitter.is_zero() => {
                slot + jitter(*id, slot, config.jitter)
            }
            _ => slot,
        }
    }

    fn misfire(&self) -> Misfire {
        match self {
            Self::Cron { config, .. } => config.misfire,
            Self::Date { misfire, .. } => *misfire,
            Self::Manual => Misfire::default(),
        }
    }

    /// When the first slot after `cursor` fires.
    pub fn next_fire_at(&self, cursor: Timestamp) -> Option<Timestamp> {
        self.slots(cursor).next().map(|slot| self.fires_at(slot))
    }

    /// The slots in `(after, until]` as one streak, for a pause that ends (rule S9). Their jitter does not
    /// matter: a slot of before the resume never fires (rule S2), so it belongs to the row.
    pub fn streak(&self, after: Timestamp, until: Timestamp, reason: SkipReason) -> Option<Skip> {
        let (first, last, count) = match self {
            Self::Manual => return None,
            Self::Date { run_at, .. } => {
                (*run_at > after && *run_at <= until).then_some((*run_at, *run_at, 1))?
            }
            Self::Cron {
                schedule, config, ..
            } => {
                let (from, until) = config.bounds(after, until);
                let first = schedule.next_after(from).filter(|slot| *slot <= until)?;
                let last = schedule.newest_in(from, until).unwrap_or(first);
                (first, last, schedule.count_in(from, until))
            }
        };
        Some(Skip {
            reason,
            first,
            last,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        })
    }

    /// What is to be known of `slot`, the next one after `after`: its jitter, whether clocks were changed, and
    /// whether `start_at` or `end_at` make it the first or last. None when it is like any other.
    pub fn remark(&self, after: Timestamp, slot: Timestamp) -> Option<String> {
        let Self::Cron {
            schedule, config, ..
        } = self
        else {
            return None;
        };
        let mut remarks = Vec::new();
        if let Some(start) = config.start_at.filter(|at| after < *at && *at <= slot) {
            remarks.push(format!("the first slot: start_at is {}", wire(start)));
        }
        let beyond = |end: &Timestamp| schedule.next_after(slot).is_some_and(|next| next >= *end);
        if let Some(end) = config.end_at.filter(beyond) {
            remarks.push(format!("the last slot: end_at is {}", wire(end)));
        }
        remarks.extend(schedule.remark(after, slot));
        if !config.jitter.is_zero() {
            let delay = (self.fires_at(slot) - slot).num_milliseconds() as f64 / 1e3;
            remarks.push(format!(
                "jitter: {delay} s of at most {} s",
                config.jitter.as_secs()
            ));
        }
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    /// Decides every slot due at `now` (rule S4). `overlap` matters only for S7: under
    /// `cancel_running`, catch-up `all` acts as `once`.
    pub fn plan(&self, state: &ScheduleState, now: Timestamp, overlap: Overlap) -> Plan {
        let cursor = state.cursor();
        let due = self.due(cursor, now);
        let next_fire_at = due.next.map(|slot| self.fires_at(slot));
        let Some(newest) = due.newest else {
            return Plan {
                last_slot: state.last_slot,
                next_fire_at,
                ..Plan::default()
            };
        };
        let misfire = self.misfire();
        let late = |slot: Timestamp| {
            (now - self.fires_at(slot))
                .to_std()
                .unwrap_or(Duration::ZERO)
        };
        let mut plan = Plan {
            last_slot: Some(newest),
            next_fire_at,
            ..Plan::default()
        };
        let fire = |slot, trigger| Fire {
            slot,
            fires_at: self.fires_at(slot),
            trigger,
        };
        if due.count == 1 && late(newest) <= misfire.grace {
            plan.fires.push(fire(newest, Trigger::Schedule));
            return plan;
        }
        let catch_up = match misfire.catch_up {
            CatchUp::All if overlap == Overlap::CancelRunning => CatchUp::Once,
            other => other,
        };
        match catch_up {
            CatchUp::Skip if late(newest) <= misfire.grace => {
                plan.fires.push(fire(newest, Trigger::CatchUp))
            }
            CatchUp::Once if late(newest) <= misfire.window => {
                plan.fires.push(fire(newest, Trigger::CatchUp))
            }
            CatchUp::All => {
                plan.made_up_all = true;
                let inside = due
                    .newest_slots()
                    .iter()
                    .copied()
                    .filter(|slot| late(*slot) <= misfire.window);
                plan.fires
                    .extend(inside.map(|slot| fire(slot, Trigger::CatchUp)));
            }
            CatchUp::Skip | CatchUp::Once => {}
        }
        plan.skipped = due.skipped_before(plan.fires.first().map(|f| f.slot), plan.fires.len());
        plan
    }

    /// Whether a plan that was made for an instant before `now` is what [`Self::plan`] would answer at `now`: told of one
    /// slot on time, and else of nothing.
    pub fn still(&self, plan: &Plan, now: Timestamp) -> bool {
        let [fire] = plan.fires[..] else {
            return false;
        };
        let late = (now - fire.fires_at).to_std().unwrap_or(Duration::ZERO);
        fire.trigger == Trigger::Schedule
            && plan.skipped.is_none()
            && plan.next_fire_at.is_none_or(|next| next > now)
            && fire.fires_at <= now
            && late <= self.misfire().grace
    }

    /// The slots after `cursor` that fire at or before `now`. Costs a step a day of the span at most, not
    /// one a slot: a host that was away for a year catches up at once. The usual case, one slot or none,
    /// costs two steps forward.
    fn due(&self, cursor: Timestamp, now: Timestamp) -> Due {
        match self {
            Self::Manual => Due::default(),
            Self::Date { run_at, .. } => {
                let ahead = Some(*run_at).filter(|at| *at > cursor);
                match ahead.filter(|at| *at <= now) {
                    Some(due) => Due::single(due, None),
                    None => Due::none(ahead),
                }
            }
            Self::Cron {
                schedule, config, ..
            } => {
                let (from, until) = config.bounds(cursor, now);
                let next = |slot| {
                    schedule
                        .next_after(slot)
                        .filter(|slot| config.counts(*slot))
                };
                let first = next(from);
                let Some(only) = first.filter(|slot| *slot <= until) else {
                    return Due::none(first);
                };
                let second = next(only);
                if second.is_none_or(|slot| slot > until) {
                    return match self.fires_at(only) <= now {
                        true => Due::single(only, second),
                        false => Due::none(first),
                    };
                }
                let mut tail: Vec<Timestamp> = schedule
                    .slots_before(until)
                    .take_while(|slot| *slot > from)
                    .skip_while(|slot| self.fires_at(*slot) > now)
                    .take(MAX_MADE_UP + 1)
                    .collect();
                tail.reverse();
                let Some(newest) = tail.last().copied() else {
                    return Due::none(first);
                };
                let count = i64::try_from(schedule.count_in(from, newest)).unwrap_or(i64::MAX);
                Due {
                    first,
                    newest: Some(newest),
                    count,
                    tail,
                    next: next(newest),
                }
            }
        }
    }
}

/// The due slots: how many, the first, and the newest thousand and one; and the slot after them.
#[derive(Default)]
struct Due {
    first: Option<Timestamp>,
    newest: Option<Timestamp>,
    count: i64,
    tail: Vec<Timestamp>,
    next: Option<Timestamp>,
}

impl Due {
    fn none(next: Option<Timestamp>) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    fn single(slot: Timestamp, next: Option<Timestamp>) -> Self {
        Self {
            first: Some(slot),
            newest: Some(slot),
            count: 1,
            tail: vec![slot],
            next,
        }
    }

    /// The newest slots that catch-up `all` may make up.
    fn newest_slots(&self) -> &[Timestamp] {
        &self.tail[self.tail.len().saturating_sub(MAX_MADE_UP)..]
    }

    /// The due slots older than the first that fires, as a streak.
    fn skipped_before(&self, first_fired: Option<Timestamp>, fired: usize) -> Option<Skip> {
        let count = self.count - i64::try_from(fired).unwrap_or(i64::MAX);
        let first = self.first.filter(|_| count > 0)?;
        let last = match first_fired {
            None => self.newest,
            Some(fired) => self
                .tail
                .iter()
                .copied()
                .take_while(|slot| *slot < fired)
                .last(),
        };
        Some(Skip {
            reason: SkipReason::Missed,
            first,
            last: last.unwrap_or(first),
            count,
        })
    }
}

/// A delay in `[0, jitter)` that is the same for a config and slot on every host, in microseconds.
fn jitter(id: ConfigId, slot: Timestamp, jitter: Duration) -> chrono::Duration {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&slot.timestamp_micros().to_le_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let span = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX).max(1);
    chrono::Duration::microseconds((u64::from_le_bytes(bytes) % span).cast_signed())
}

/// How many executions of a config live, for the overlap rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCount {
    /// Scheduled, available or retryable.
    pub waiting: u32,
    /// Running.
    pub running: u32,
}

/// What the overlap rule says about a slot that wants to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapVerdict {
    /// Insert the execution.
    Enqueue,
    /// The slot is skipped with reason `overlap`.
    Skip,
    /// End what waits, ask what runs to stop, insert the execution.
    CancelThenEnqueue,
}

/// Rule S6 for one slot, given what lives of its config.
pub fn judge_overlap(overlap: Overlap, live: LiveCount) -> OverlapVerdict {
    match overlap {
        Overlap::Allow => OverlapVerdict::Enqueue,
        Overlap::Skip if live.waiting + live.running > 0 => OverlapVerdict::Skip,
        Overlap::QueueOne if live.waiting > 0 => OverlapVerdict::Skip,
        Overlap::CancelRunning if live.waiting + live.running > 0 => {
            OverlapVerdict::CancelThenEnqueue
        }
        Overlap::Skip | Overlap::QueueOne | Overlap::CancelRunning => OverlapVerdict::Enqueue,
    }
}

#[cfg(test)]
#[path = "firing_tests.rs"]
mod tests;
