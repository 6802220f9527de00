//! Why a task fires when it does, or does not (rule E9): the one reason that holds now, what is next, and what
//! became of a slot that has passed.

use super::tasks::timetable;
use super::{ServiceResult, TaskRef, Tasks};
use crate::store::{ExecutionFilter, Page};
use horarium_model::config::SkipStreak;
use horarium_model::execution::{SkipReason, State, Trigger};
use horarium_model::firing::Timetable;
use horarium_model::schedule::{Overlap, ScheduleConfig, wire, wire_time};
use horarium_model::{Execution, TaskConfig, TaskId, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// How far back a slot is looked for, in executions of its task.
const LOOK_BACK: usize = 20_000;

/// Why a task fires when it does.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct WhyTask {
    /// The task.
    pub id: i64,
    /// Whether a slot will fire by itself: `waiting`, `held` (something must be changed first), `ended` (never
    /// again) or `manual`.
    pub state: &'static str,
    /// The one thing to know, as a word.
    pub reason: &'static str,
    /// The same as a sentence.
    pub message: String,
    /// The next slot, were nothing in its way.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub next_slot: Option<Timestamp>,
    /// When it fires, jitter included.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub next_fire_at: Option<Timestamp>,
    /// What became of the slot that was asked about, else of the newest one; null before the first.
    pub slot: Option<WhySlot>,
}

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct WhySlot {
    /// The instant the schedule meant.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub slot: Timestamp,
    /// `fired`, or why it did not: a reason of `skipped` rows, `not_a_slot`, `before_anchor`, `not_started`,
    /// `ended`, `not_due`, `due` or `unknown`.
    pub reason: &'static str,
    /// The rule as a sentence.
    pub message: String,
    /// Its execution, or the skipped row that it lies in.
    pub task_id: Option<TaskId>,
}

/// A word and a sentence.
type Reason = (&'static str, String);

impl Tasks {
    /// Why a task does not fire now, and what became of `slot`, or of its newest slot.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn why(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        slot: Option<Timestamp>,
    ) -> ServiceResult<WhyTask> {
        let config = self.show(tenant, task).await?;
        let table = timetable(&config.spec.schedule, config.id)?;
        let now = self.0.clock.now();
        let cursor = config.schedule_state.cursor();
        // While it is paused the position stands still, and what has passed will not be made up.
        let from = if config.spec.paused {
            cursor.max(now)
        } else {
            cursor
        };
        let next_slot = table.slots(from).next();
        let (state, (reason, message)) = self.standing(&config, &table, next_slot, now).await?;
        let asked = slot.or(config.schedule_state.last_slot);
        let slot = match asked {
            Some(asked) => Some(self.what_became(&config, &table, asked, now).await?),
            None => None,
        };
        Ok(WhyTask {
            id: config.id,
            state,
            reason,
            message,
            next_slot,
            // A paused task does not fire then.
            next_fire_at: next_slot
                .filter(|_| !config.spec.paused)
                .map(|slot| table.fires_at(slot)),
            slot,
        })
    }

    async fn standing(
        &self,
        config: &TaskConfig,
        table: &Timetable,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> ServiceResult<(&'static str, Reason)> {
        if matches!(config.spec.schedule, ScheduleConfig::Manual) {
            let message = "it has no schedule: it runs when it is triggered".to_owned();
            return Ok(("manual", ("manual", message)));
        }
        if let Some(held) = self.held(config, table, now) {
            return Ok(("held", held));
        }
        let Some(next) = next else {
            return Ok(("ended", ("ended", ended(config))));
        };
        if let Some(reason) = self.no_plugin(config) {
            return Ok(("held", reason));
        }
        let fires_at = table.fires_at(next);
        let start = match &config.spec.schedule {
            ScheduleConfig::Cron(cron) => cron.start_at.filter(|at| *at > now),
            _ => None,
        };
        let last = config.schedule_state.last_slot;
        let reason = if let Some(last) = last.filter(|last| *last > now) {
            let message = format!(
                "the clock shows {}, before the slot {} that was decided already: it was set back, and nothing fires until it has passed",
                wire(now),
                wire(last)
            );
            ("clock", message)
        } else if let Some(start) = start {
            let message = format!(
                "it has not started: start_at is {}, and the first slot fires at {}",
                wire(start),
                wire(fires_at)
            );
            ("not_started", message)
        } else if fires_at <= now {
            let message = format!("slot {} is due: a scheduler gets to it now", wire(next));
            ("due", message)
        } else if let Some(message) = self.overlap(config).await? {
            ("overlap", message)
        } else {
            let message = format!(
                "it waits for its next slot, which fires at {}",
                wire(fires_at)
            );
            ("not_due", message)
        };
        Ok(("waiting", reason))
    }

    /// What an operator set that keeps slots from firing.
    fn held(&self, config: &TaskConfig, table: &Timetable, now: Timestamp) -> Option<Reason> {
        let spec = &config.spec;
        if spec.paused {
            let why = spec.pause_reason.as_deref().unwrap_or("no reason given");
            let cursor = config.schedule_state.cursor();
            let passed = match table.streak(cursor, now, SkipReason::Paused) {
                Some(skip) => format!(
                    "; {} slots have passed since and are not made up",
                    skip.count
                ),
                None => String::new(),
            };
            return Some((
                "paused",
                format!("it is paused ({why}): no slot fires until it is resumed{passed}"),
            ));
        }
        let name = &spec.task_type;
        if self.0.registry.is_disabled(config.tenant_id, name) {
            let message = format!("`{name}` is disabled: slots are skipped until it is enabled");
            return Some(("type_disabled", message));
        }
        None
    }

    /// Slots fire without a plugin too, but what they enqueue does not run.
    fn no_plugin(&self, config: &TaskConfig) -> Option<Reason> {
        let (registry, spec) = (&self.0.registry, &config.spec);
        let name = &spec.task_type;
        if registry.task_type(config.tenant_id, name).is_none() {
            let message = format!("no plugin is registered as `{name}`: what fires cannot run");
            return Some(("unknown_task_type", message));
        }
        let pin = spec.plugin_version.as_deref();
        if registry.chosen(config.tenant_id, name, pin).is_some() {
            return None;
        }
        let message = match pin {
            Some(pin) => format!("it is pinned to version {pin} of `{name}`, which is not ready"),
            None => format!("`{name}` has no active version: what fires waits for one"),
        };
        Some(("no_plugin_version", message))
    }

    /// What lives of the config and meets its next slot.
    async fn overlap(&self, config: &TaskConfig) -> ServiceResult<Option<String>> {
        let live = self.live_for_overlap(config).await?;
        Ok(live.map(|live| {
            let (id, state) = (live.task_id, live.state);
            let what = match config.spec.effective_overlap() {
                Overlap::CancelRunning => "it is cancelled when the next slot fires",
                _ => "the next slot is skipped if it still stands then",
            };
            let overlap = config.spec.effective_overlap().as_str();
            format!("execution {id} is {state} and overlap is `{overlap}`: {what}")
        }))
    }

    async fn what_became(
        &self,
        config: &TaskConfig,
        table: &Timetable,
        slot: Timestamp,
        now: Timestamp,
    ) -> ServiceResult<WhySlot> {
        let told = |(reason, message): Reason, task_id| WhySlot {
            slot,
            reason,
            message,
            task_id,
        };
        if let Some(row) = self.row_of(config, slot).await? {
            let reason = match &row.skip_reason {
                Some(reason) => {
                    let first = row.slot.unwrap_or(slot);
                    let streak = SkipStreak {
                        reason: *reason,
                        first,
                        last: row.slot_last.unwrap_or(first),
                        count: row.slot_count.unwrap_or(1),
                    };
                    skipped(config, &streak)
                }
                None => fired(&row),
            };
            return Ok(told(reason, Some(row.task_id)));
        }
        let state = &config.schedule_state;
        let open = state.open_skip.as_ref();
        if let Some(open) = open.filter(|open| open.first <= slot && slot <= open.last) {
            return Ok(told(skipped(config, open), None));
        }
        Ok(told(undecided(config, table, slot, now), None))
    }

    /// The execution of a slot, or the skipped row that holds it.
    async fn row_of(
        &self,
        config: &TaskConfig,
        slot: Timestamp,
    ) -> ServiceResult<Option<Execution>> {
        let filter = ExecutionFilter {
            config_id: Some(config.id),
            // A slot's row is never older than the slot; a minute for clocks that disagree.
            created_from: Some(slot - chrono::Duration::minutes(1)),
            ..ExecutionFilter::default()
        };
        let mut page = Page::first(Page::MAX);
        let mut seen = 0;
        while seen < LOOK_BACK {
            let store = &self.0.store;
            let listing = store.executions(config.tenant_id, &filter, &page).await?;
            seen += listing.items.len();
            for row in listing.items {
                let Some(first) = row.slot.filter(|_| row.trigger != Trigger::Retry) else {
                    continue;
                };
                if first <= slot && slot <= row.slot_last.unwrap_or(first) {
                    return Ok(Some(row));
                }
            }
            match listing.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(None)
    }

    /// An execution that the overlap rule counts, if one lives.
    pub(super) async fn live_for_overlap(
        &self,
        config: &TaskConfig,
    ) -> ServiceResult<Option<Execution>> {
        let mut states = vec![State::Scheduled, State::Available, State::Retryable];
        match config.spec.effective_overlap() {
            Overlap::Allow => return Ok(None),
            Overlap::QueueOne => {}
            Overlap::Skip | Overlap::CancelRunning => states.push(State::Running),
        }
        let filter = ExecutionFilter {
            config_id: Some(config.id),
            states,
            ..ExecutionFilter::default()
        };
        let store = &self.0.store;
        let live = store
            .executions(config.tenant_id, &filter, &Page::first(1))
            .await?;
        Ok(live.items.into_iter().next())
    }
}

fn ended(config: &TaskConfig) -> String {
    match &config.spec.schedule {
        ScheduleConfig::Date { run_at, .. } => {
            format!(
                "its instant {} has passed: it does not fire again",
                wire(*run_at)
            )
        }
        ScheduleConfig::Cron(cron) => match cron.end_at {
            Some(end) => format!("it has ended: no slot is left before end_at {}", wire(end)),
            None => "its expression has no slot any more".to_owned(),
        },
        ScheduleConfig::Manual => "it has no schedule".to_owned(),
    }
}

fn fired(row: &Execution) -> Reason {
    let how = match row.trigger {
        Trigger::CatchUp => "was made up (catch-up)",
        _ => "fired",
    };
    let at = row.due_at.unwrap_or(row.created_at);
    let message = format!(
        "it {how} as execution {}, due at {}, now {}",
        row.task_id,
        wire(at),
        row.state
    );
    ("fired", message)
}

fn skipped(config: &TaskConfig, streak: &SkipStreak) -> Reason {
    let spec = &config.spec;
    let rule = match streak.reason {
        SkipReason::Missed => {
            let misfire = spec.schedule.misfire();
            format!(
                "no scheduler could fire it in time, and catch_up `{}` (window {} s, grace {} s) does not make it up",
                misfire.catch_up.as_str(),
                misfire.window.as_secs(),
                misfire.grace.as_secs()
            )
        }
        SkipReason::Overlap => format!(
            "an execution of the task still lived, and overlap is `{}`",
            spec.effective_overlap().as_str()
        ),
        SkipReason::Paused => "the task was paused, and paused slots are not made up".to_owned(),
        SkipReason::TypeDisabled => format!("`{}` was disabled", spec.task_type),
        SkipReason::BacklogCap => "too many executions were waiting already".to_owned(),
        SkipReason::Quota => "its tenant had used up a quota".to_owned(),
        SkipReason::Clock => "the clock was changed over it".to_owned(),
        SkipReason::ChainDepth => "its chain was 32 links long already".to_owned(),
    };
    let among = match streak.count {
        0 | 1 => String::new(),
        count => format!(
            " (one of {count} slots in a row, {} to {})",
            wire(streak.first),
            wire(streak.last)
        ),
    };
    (
        streak.reason.as_str(),
        format!("it was skipped: {rule}{among}"),
    )
}

/// About an instant that no row and no streak explains.
fn undecided(config: &TaskConfig, table: &Timetable, slot: Timestamp, now: Timestamp) -> Reason {
    let state = &config.schedule_state;
    if let ScheduleConfig::Cron(cron) = &config.spec.schedule {
        if let Some(start) = cron.start_at.filter(|start| slot < *start) {
            return ("not_started", format!("start_at is {}", wire(start)));
        }
        if let Some(end) = cron.end_at.filter(|end| *end <= slot) {
            return ("ended", format!("end_at is {}", wire(end)));
        }
    }
    let just_before = slot - chrono::Duration::microseconds(1);
    if table.slots(just_before).next() != Some(slot) {
        let message = match table.slots(slot).next() {
            Some(next) => format!(
                "the schedule means no such instant; the next one is {}",
                wire(next)
            ),
            None => "the schedule means no such instant".to_owned(),
        };
        return ("not_a_slot", message);
    }
    if slot <= state.anchor_at {
        let message = format!(
            "the schedule was created, changed or resumed at {}: earlier slots neither fire nor count as missed",
            wire(state.anchor_at)
        );
        return ("before_anchor", message);
    }
    if slot <= state.cursor() {
        let message = "its row is not there any more: the history was pruned, or the expression was another then";
        return ("unknown", message.to_owned());
    }
    let fires_at = table.fires_at(slot);
    if config.spec.paused {
        return (
            "paused",
            "the task is paused: it becomes part of one skipped row".to_owned(),
        );
    }
    if fires_at > now {
        return ("not_due", format!("it fires at {}", wire(fires_at)));
    }
    ("due", "it is due: a scheduler decides it now".to_owned())
}
