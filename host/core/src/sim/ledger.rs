//! What schedules were in force when: an operator changes them in the middle of a history, and each slot must be
//! explained by the schedule that meant it.

use horarium_model::firing::Timetable;
use horarium_model::schedule::ScheduleConfig;
use horarium_model::{ConfigId, TaskConfig, Timestamp};
use std::collections::HashMap;

/// A schedule for as long as it was in force.
#[derive(Debug, Clone)]
struct Era {
    schedule: ScheduleConfig,
    /// Only later slots are of this era.
    begin: Timestamp,
    /// Slots up to this one were decided; those after it never will be. None while the era lasts.
    decided: Option<Timestamp>,
}

/// The eras of every config.
#[derive(Debug, Default)]
pub struct Ledger(HashMap<ConfigId, Vec<Era>>);

impl Ledger {
    /// A config was created.
    pub fn opened(&mut self, config: &TaskConfig) {
        let era = Era {
            schedule: config.spec.schedule.clone(),
            begin: config.created_at,
            decided: None,
        };
        self.0.insert(config.id, vec![era]);
    }

    /// A config was changed at `now`. Rule S2: one that means other instants begins anew.
    pub fn changed(&mut self, now: Timestamp, before: &TaskConfig, after: &TaskConfig) {
        let (old, new) = (&before.spec.schedule, &after.spec.schedule);
        let Some(eras) = self.0.get_mut(&after.id).filter(|_| old != new) else {
            return;
        };
        let decided = before.schedule_state.cursor();
        if let Some(last) = eras.last_mut() {
            last.decided = Some(decided);
        }
        let begin = match new.begins_anew(old, now) {
            true => decided.max(now),
            false => decided,
        };
        eras.push(Era {
            schedule: new.clone(),
            begin,
            decided: None,
        });
    }

    /// Every slot that must be explained, in order, given how far the config has come.
    pub fn slots(&self, config: &TaskConfig) -> Vec<Timestamp> {
        let mut slots = Vec::new();
        for era in self.0.get(&config.id).into_iter().flatten() {
            let until = era
                .decided
                .unwrap_or_else(|| config.schedule_state.cursor());
            if let Ok(table) = Timetable::new(&era.schedule, config.id) {
                slots.extend(table.slots(era.begin).take_while(|slot| *slot <= until));
            }
        }
        slots
    }
}
