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
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    fn cron(catch_up: CatchUp, window: u64) -> Timetable {
        let config = CronConfig {
            cron_expression: "*/10 * * * *".into(),
            timezone: "UTC".into(),
            misfire: Misfire {
                catch_up,
                window: Duration::from_secs(window),
                grace: Duration::from_secs(60),
            },
            jitter: Duration::ZERO,
            start_at: None,
            end_at: None,
        };
        Timetable::new(&ScheduleConfig::Cron(config), 7).expect("compiles")
    }

    fn state(anchor: &str) -> ScheduleState {
        ScheduleState {
            anchor_at: at(anchor),
            ..ScheduleState::default()
        }
    }

    fn slots(plan: &Plan) -> Vec<String> {
        plan.fires
            .iter()
            .map(|f| f.slot.format("%H:%M").to_string())
            .collect()
    }

    #[test]
    fn one_slot_on_time_fires_by_schedule() {
        let plan = cron(CatchUp::Once, 86_400).plan(
            &state("2026-01-01T00:00:00Z"),
            at("2026-01-01T00:10:59Z"),
            Overlap::Skip,
        );
        assert_eq!(plan.fires[0].trigger, Trigger::Schedule);
        assert_eq!(
            (slots(&plan), plan.skipped),
            (vec!["00:10".to_owned()], None)
        );
        assert_eq!(plan.next_fire_at, Some(at("2026-01-01T00:20:00Z")));
    }

    #[test]
    fn nothing_due_only_looks_ahead() {
        let before = state("2026-01-01T00:00:00Z");
        let plan =
            cron(CatchUp::Once, 86_400).plan(&before, at("2026-01-01T00:09:59Z"), Overlap::Skip);
        assert_eq!((plan.fires.len(), plan.last_slot), (0, None));
        assert_eq!(plan.next_fire_at, Some(at("2026-01-01T00:10:00Z")));
    }

    #[test]
    fn a_missed_hour_is_made_up_as_the_policy_says() {
        let (before, now) = (state("2026-01-01T00:00:00Z"), at("2026-01-01T01:05:00Z"));
        let once = cron(CatchUp::Once, 86_400).plan(&before, now, Overlap::Skip);
        assert_eq!(
            (slots(&once), once.fires[0].trigger),
            (vec!["01:00".to_owned()], Trigger::CatchUp)
        );
        let skipped = once.skipped.expect("five were missed");
        assert_eq!(
            (skipped.first, skipped.last, skipped.count),
            (at("2026-01-01T00:10:00Z"), at("2026-01-01T00:50:00Z"), 5)
        );

        let skip = cron(CatchUp::Skip, 86_400).plan(&before, now, Overlap::Skip);
        assert_eq!(
            (skip.fires.len(), skip.skipped.map(|s| s.count)),
            (0, Some(6))
        );
        let skip =
            cron(CatchUp::Skip, 86_400).plan(&before, at("2026-01-01T01:00:30Z"), Overlap::Skip);
        assert_eq!(slots(&skip), ["01:00"]);

        let all = cron(CatchUp::All, 1800).plan(&before, now, Overlap::Skip);
        assert_eq!(slots(&all), ["00:40", "00:50", "01:00"]);
        assert_eq!(
            (all.made_up_all, all.skipped.map(|s| s.count)),
            (true, Some(3))
        );
        let as_once = cron(CatchUp::All, 86_400).plan(&before, now, Overlap::CancelRunning);
        assert_eq!(slots(&as_once), ["01:00"]);
    }

    #[test]
    fn outside_the_window_nothing_is_made_up() {
        let plan = cron(CatchUp::Once, 120).plan(
            &state("2026-01-01T00:00:00Z"),
            at("2026-01-01T01:05:00Z"),
            Overlap::Skip,
        );
        assert_eq!(
            (plan.fires.len(), plan.skipped.map(|s| s.count)),
            (0, Some(6))
        );
        assert_eq!(plan.last_slot, Some(at("2026-01-01T01:00:00Z")));
    }

    #[test]
    fn all_makes_up_the_newest_thousand() {
        let plan = cron(CatchUp::All, 366 * 86_400).plan(
            &state("2026-01-01T00:00:00Z"),
            at("2026-01-15T00:00:00Z"),
            Overlap::Allow,
        );
        assert_eq!(plan.fires.len(), MAX_MADE_UP);
        let skipped = plan.skipped.expect("the older ones");
        assert_eq!(skipped.count, 14 * 144 - 1000);
        assert_eq!(
            skipped.last + chrono::Duration::minutes(10),
            plan.fires[0].slot
        );
    }

    #[test]
    fn what_is_too_much_at_once_is_made_up_in_several_looks() {
        let table = cron(CatchUp::All, 366 * 86_400);
        let now = at("2026-01-01T02:00:30Z");
        let whole = table.plan(&state("2026-01-01T00:00:00Z"), now, Overlap::Skip);
        assert_eq!(whole.fires.len(), 12);
        assert_eq!(whole.clone().at_most(12), whole);
        // Ten of twelve leave two, eleven would leave one that counts as on time.
        for (count, looks) in [(10, vec![10, 2]), (11, vec![10, 2]), (5, vec![5, 5, 2])] {
            let (mut before, mut fired) = (state("2026-01-01T00:00:00Z"), Vec::new());
            for expected in &looks {
                assert!(
                    before.next_fire_at.is_none_or(|next| next <= now),
                    "{count}"
                );
                let plan = table.plan(&before, now, Overlap::Skip).at_most(count);
                assert_eq!(plan.fires.len(), *expected, "{count}");
                assert!(plan.made_up_all && plan.skipped.is_none(), "{count}");
                before.last_slot = plan.last_slot;
                before.next_fire_at = plan.next_fire_at;
                fired.extend(plan.fires);
            }
            assert_eq!(fired, whole.fires, "{count}");
            assert_eq!(before.next_fire_at, whole.next_fire_at, "{count}");
        }
    }

    #[test]
    fn a_clock_set_back_fires_nothing_until_it_passes_the_last_slot() {
        let before = ScheduleState {
            last_slot: Some(at("2026-01-01T12:00:00Z")),
            ..state("2026-01-01T00:00:00Z")
        };
        let plan =
            cron(CatchUp::All, 86_400).plan(&before, at("2026-01-01T09:00:00Z"), Overlap::Allow);
        assert!(plan.fires.is_empty() && plan.skipped.is_none());
        assert_eq!(plan.next_fire_at, Some(at("2026-01-01T12:10:00Z")));
    }

    #[test]
    fn start_is_inclusive_end_exclusive_and_jitter_is_stable() {
        let Timetable::Cron {
            schedule,
            mut config,
            id,
        } = cron(CatchUp::Once, 60)
        else {
            unreachable!()
        };
        config.start_at = Some(at("2026-01-01T00:20:00Z"));
        config.end_at = Some(at("2026-01-01T00:40:00Z"));
        config.jitter = Duration::from_secs(300);
        let table = Timetable::Cron {
            schedule,
            config,
            id,
        };
        let slots: Vec<_> = table.slots(at("2026-01-01T00:00:00Z")).collect();
        assert_eq!(
            slots,
            [at("2026-01-01T00:20:00Z"), at("2026-01-01T00:30:00Z")]
        );
        for slot in slots {
            let delay = table.fires_at(slot) - slot;
            assert!(delay >= chrono::Duration::zero() && delay < chrono::Duration::seconds(300));
            assert_eq!(table.fires_at(slot), table.fires_at(slot));
        }
    }

    #[test]
    fn a_missed_date_follows_its_policy() {
        let run_at = at("2026-01-01T00:00:00Z");
        let table = |catch_up| Timetable::Date {
            run_at,
            misfire: Misfire {
                catch_up,
                ..Misfire::default()
            },
        };
        let before = state("2025-12-31T00:00:00Z");
        let late = at("2026-01-01T02:00:00Z");
        assert_eq!(
            table(CatchUp::Once)
                .plan(&before, late, Overlap::Skip)
                .fires[0]
                .trigger,
            Trigger::CatchUp
        );
        assert!(
            table(CatchUp::Skip)
                .plan(&before, late, Overlap::Skip)
                .fires
                .is_empty()
        );
        assert_eq!(
            table(CatchUp::Once)
                .plan(&before, late, Overlap::Skip)
                .next_fire_at,
            None
        );
    }

    #[test]
    fn overlap_verdicts() {
        use OverlapVerdict::*;
        let live = |waiting, running| LiveCount { waiting, running };
        assert_eq!(judge_overlap(Overlap::Allow, live(3, 3)), Enqueue);
        assert_eq!(judge_overlap(Overlap::Skip, live(0, 1)), Skip);
        assert_eq!(judge_overlap(Overlap::QueueOne, live(0, 1)), Enqueue);
        assert_eq!(judge_overlap(Overlap::QueueOne, live(1, 0)), Skip);
        assert_eq!(
            judge_overlap(Overlap::CancelRunning, live(0, 1)),
            CancelThenEnqueue
        );
        assert_eq!(judge_overlap(Overlap::CancelRunning, live(0, 0)), Enqueue);
    }
}
