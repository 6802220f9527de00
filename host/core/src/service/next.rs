//! What a schedule will do next, slot by slot.

use super::tasks::timetable;
use super::{ServiceResult, TaskRef, Tasks};
use horarium_model::schedule::{CatchUp, Overlap, wire_time};
use horarium_model::{TaskConfig, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// The next slots of a task.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NextSlots {
    /// The instants meant, in order.
    #[serde(serialize_with = "wire_list")]
    #[schemars(with = "Vec<Timestamp>")]
    pub slots: Vec<Timestamp>,
    /// The same slots with what would become of each.
    pub preview: Vec<PreviewSlot>,
}

/// One slot to come.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PreviewSlot {
    /// The instant meant.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub slot: Timestamp,
    /// When it fires, jitter included.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub fires_at: Timestamp,
    /// What is to be known about it; null when it simply fires.
    pub note: Option<String>,
}

fn wire_list<S: serde::Serializer>(slots: &[Timestamp], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        slots
            .iter()
            .map(|slot| horarium_model::schedule::wire(*slot)),
    )
}

impl Tasks {
    /// The next `count` slots after `after` (exclusive; now when absent), judged as things stand now.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn next(
        &self,
        tenant: TenantId,
        task: &TaskRef,
        count: usize,
        after: Option<Timestamp>,
    ) -> ServiceResult<NextSlots> {
        let config = self.show(tenant, task).await?;
        let table = timetable(&config.spec.schedule, config.id)?;
        let now = self.0.clock.now();
        let slots: Vec<Timestamp> = table.slots(after.unwrap_or(now)).take(count).collect();
        let held = self.hold_note(tenant, &config);
        let mut overlap = self.overlap_note(&config).await?;
        let mut preview = Vec::with_capacity(slots.len());
        let mut before = after.unwrap_or(now);
        for slot in &slots {
            let fires_at = table.fires_at(*slot);
            let note = past_note(&config, *slot, fires_at, now)
                .or_else(|| held.clone())
                // Only the first slot to come can meet what lives now.
                .or_else(|| overlap.take());
            let notes: Vec<String> = note
                .into_iter()
                .chain(table.remark(before, *slot))
                .collect();
            preview.push(PreviewSlot {
                slot: *slot,
                fires_at,
                note: (!notes.is_empty()).then(|| notes.join("; ")),
            });
            before = *slot;
        }
        Ok(NextSlots { slots, preview })
    }

    fn hold_note(&self, tenant: TenantId, config: &TaskConfig) -> Option<String> {
        let spec = &config.spec;
        if spec.paused {
            let why = spec.pause_reason.as_deref().unwrap_or("no reason given");
            return Some(format!("paused ({why}): it will not fire until resumed"));
        }
        if self.0.registry.is_disabled(tenant, &spec.task_type) {
            return Some(format!(
                "type_disabled: `{}` is disabled; the slot would be skipped",
                spec.task_type
            ));
        }
        None
    }

    async fn overlap_note(&self, config: &TaskConfig) -> ServiceResult<Option<String>> {
        let live = self.live_for_overlap(config).await?;
        Ok(live.map(|execution| {
            let (id, state) = (execution.task_id, execution.state);
            match config.spec.effective_overlap() {
                Overlap::CancelRunning => {
                    format!("overlap cancel_running: execution {id} ({state}) would be cancelled")
                }
                _ => format!("overlap: skipped if execution {id} ({state}) still stands then"),
            }
        }))
    }
}

/// What became, or becomes, of a slot that has passed.
fn past_note(
    config: &TaskConfig,
    slot: Timestamp,
    fires_at: Timestamp,
    now: Timestamp,
) -> Option<String> {
    if fires_at > now {
        return None;
    }
    if slot <= config.schedule_state.anchor_at {
        return Some("before the schedule was (re)started: it does not fire".to_owned());
    }
    if slot <= config.schedule_state.cursor() {
        return Some("in the past, decided already".to_owned());
    }
    let misfire = config.spec.schedule.misfire();
    let late = (now - fires_at).to_std().unwrap_or_default();
    Some(match misfire.catch_up {
        _ if config.spec.paused => "paused: it becomes part of one skipped row".to_owned(),
        _ if late <= misfire.grace => "due now".to_owned(),
        CatchUp::Skip => "missed: catch_up is `skip`".to_owned(),
        _ if late > misfire.window => "missed: older than catch_up_window_seconds".to_owned(),
        CatchUp::Once => "catch-up: only the newest missed slot fires".to_owned(),
        CatchUp::All => "catch-up: fires, the oldest first".to_owned(),
    })
}
