//! What a due schedule becomes, and where it stands afterwards.

use crate::store::{Backlogs, ConfigUpdate, FireOrder, StoreResult};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::execution::{SkipReason, Trigger};
use horarium_model::firing::{LiveCount, OverlapVerdict, Timetable, judge_overlap};
use horarium_model::schedule::{Overlap, SchedulerType};
use horarium_model::{ConfigId, Invalid, TaskConfig, TaskSpec, Timestamp};

/// What one step of a [`Firing`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum FireStep {
    /// Write this streak as a `skipped` row.
    CloseStreak(SkipStreak),
    /// End what waits of the config, ask what runs to stop.
    CancelLive,
    /// Insert the execution of the plan's fire with this index.
    Enqueue(usize),
}

/// What becomes of a [`FireOrder`], step by step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firing {
    /// To be done in this order.
    pub steps: Vec<FireStep>,
    /// The streak that stays open.
    pub open_skip: Option<SkipStreak>,
    /// Slots skipped by this order, by reason.
    pub skips: Vec<(SkipReason, u64)>,
}

impl Firing {
    /// Judges every slot of the order (rules S5, S6, S7), given the open streak, what lives of the config, and
    /// how many more may wait.
    pub fn decide(
        order: &FireOrder,
        open: Option<SkipStreak>,
        mut live: LiveCount,
        backlogs: &mut Backlogs,
    ) -> Self {
        let mut firing = Self {
            open_skip: open,
            ..Self::default()
        };
        if let Some(streak) = &order.plan.skipped {
            firing.skip(streak.clone());
        }
        let queues_up =
            order.plan.made_up_all && matches!(order.overlap, Overlap::Skip | Overlap::QueueOne);
        for (index, fire) in order.plan.fires.iter().enumerate() {
            let verdict = match order.skip_all {
                Some(reason) => Err(reason),
                None if queues_up => Ok(OverlapVerdict::Enqueue),
                None => Ok(judge_overlap(order.overlap, live)),
            };
            let skipped = |reason| SkipStreak {
                reason,
                first: fire.slot,
                last: fire.slot,
                count: 1,
            };
            match verdict {
                Err(reason) => firing.skip(skipped(reason)),
                Ok(OverlapVerdict::Skip) => firing.skip(skipped(SkipReason::Overlap)),
                // Nothing is cancelled for a slot that finds no place itself.
                Ok(OverlapVerdict::CancelThenEnqueue) => {
                    match backlogs.take_after(&order.template, live.waiting) {
                        Ok(()) => {
                            firing.steps.push(FireStep::CancelLive);
                            live.waiting = 0;
                            firing.enqueue(index);
                        }
                        Err(_) => firing.skip(skipped(SkipReason::BacklogCap)),
                    }
                }
                Ok(OverlapVerdict::Enqueue) => match backlogs.take(&order.template) {
                    Ok(()) => firing.enqueue(index),
                    Err(_) => firing.skip(skipped(SkipReason::BacklogCap)),
                },
            }
            if firing.steps.last() == Some(&FireStep::Enqueue(index)) {
                live.waiting += 1;
            }
        }
        firing
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(open) = self.open_skip.take() {
            self.steps.push(FireStep::CloseStreak(open));
        }
        self.steps.push(FireStep::Enqueue(index));
    }

    fn skip(&mut self, streak: SkipStreak) {
        let count = u64::try_from(streak.count).unwrap_or(0);
        match self.skips.iter_mut().find(|(r, _)| *r == streak.reason) {
            Some((_, skipped)) => *skipped = skipped.saturating_add(count),
            None => self.skips.push((streak.reason, count)),
        }
        match &mut self.open_skip {
            Some(open) if open.reason == streak.reason => {
                open.last = streak.last;
                open.count = open.count.saturating_add(streak.count);
            }
            Some(open) => {
                self.steps
                    .push(FireStep::CloseStreak(std::mem::replace(open, streak)));
            }
            None => self.open_skip = Some(streak),
        }
    }
}

/// What brought a skipped streak about.
pub fn skip_trigger(reason: SkipReason) -> Trigger {
    match reason {
        SkipReason::Missed => Trigger::CatchUp,
        _ => Trigger::Schedule,
    }
}

/// Whether a schedule still stands where it was seen (rule S1). The failure count may have moved on: no
/// decision rests on it.
pub fn same_position(now: &ScheduleState, seen: &ScheduleState) -> bool {
    (
        now.next_fire_at,
        now.last_slot,
        now.anchor_at,
        &now.open_skip,
    ) == (
        seen.next_fire_at,
        seen.last_slot,
        seen.anchor_at,
        &seen.open_skip,
    )
}

/// When a new config fires first: after `now`, and not at all while it is paused.
///
/// # Errors
/// `Invalid` when its schedule does not compile.
pub fn first_fire(spec: &TaskSpec, id: ConfigId, now: Timestamp) -> StoreResult<Option<Timestamp>> {
    if spec.paused {
        return Ok(None);
    }
    let table = Timetable::new(&spec.schedule, id)
        .map_err(|error| Invalid::one("/schedule_config", error.message))?;
    Ok(table.next_fire_at(now))
}

/// The schedule state after an update, and the streaks that must be written first, oldest first. A paused
/// or manual config has no next fire whatever the update says; one that is resumed counts failures anew.
pub fn reposition(old: &TaskConfig, update: &ConfigUpdate) -> (ScheduleState, Vec<SkipStreak>) {
    let mut state = old.schedule_state.clone();
    let mut streaks = Vec::new();
    if let Some(reanchor) = &update.reanchor {
        streaks.extend(state.open_skip.take());
        streaks.extend(reanchor.skipped.clone());
        state.anchor_at = reanchor.anchor_at;
        state.next_fire_at = reanchor.next_fire_at;
    }
    if update.spec.paused || update.spec.schedule.kind() == SchedulerType::Manual {
        state.next_fire_at = None;
    }
    if old.spec.paused && !update.spec.paused {
        state.failures_in_a_row = 0;
    }
    (state, streaks)
}
