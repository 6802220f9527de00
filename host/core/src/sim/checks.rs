//! What must hold at the end of every history, whatever happened in it.

use super::world::World;
use crate::clock::Clock;
use crate::store::{
    Catalog, ConfigFilter, ExecutionFilter, History, Page, Queue, QueueCounts, StoreError,
};
use horarium_model::firing::Timetable;
use horarium_model::{
    ConfigId, DEFAULT_TENANT_ID, Execution, State, TaskConfig, TaskId, Timestamp,
};
use std::collections::{HashMap, HashSet};

/// Checks a world whose host was stopped after everything had time to end. Returns what is wrong.
///
/// # Errors
/// The store's.
pub async fn check(world: &World) -> Result<Vec<String>, StoreError> {
    let mut wrong = Vec::new();
    let executions = all_executions(world).await?;
    let counts = world.store.queue_counts().await?;
    if counts != QueueCounts::default() {
        wrong.push(format!(
            "still live after everything had time to end: {counts:?}"
        ));
    }
    one_end_each(&executions, &mut wrong);
    what_ran_was_recorded(world, &executions, &mut wrong);
    for config in configs(world).await? {
        slots_are_explained(world, &config, &executions, &mut wrong);
        bounds_held(world, &config, &mut wrong);
    }
    Ok(wrong)
}

async fn all_executions(world: &World) -> Result<Vec<Execution>, StoreError> {
    let mut all = Vec::new();
    let mut page = Page::first(Page::MAX);
    loop {
        let listing = world
            .store
            .executions(DEFAULT_TENANT_ID, &ExecutionFilter::default(), &page)
            .await?;
        all.extend(listing.items);
        match listing.next {
            Some(next) => page.after = Some(next),
            None => return Ok(all),
        }
    }
}

async fn configs(world: &World) -> Result<Vec<TaskConfig>, StoreError> {
    let page = Page::first(Page::MAX);
    Ok(world
        .store
        .configs(DEFAULT_TENANT_ID, &ConfigFilter::default(), &page)
        .await?
        .items)
}

fn one_end_each(executions: &[Execution], wrong: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for execution in executions {
        if !seen.insert(execution.task_id) {
            wrong.push(format!("{} stands in the history twice", execution.task_id));
        }
        if execution.attempt > execution.max_attempts {
            wrong.push(format!(
                "{} used {} of {} attempts",
                execution.task_id, execution.attempt, execution.max_attempts
            ));
        }
        if execution.state.is_success() != execution.is_success {
            wrong.push(format!(
                "{}: {} with is_success {:?}",
                execution.task_id, execution.state, execution.is_success
            ));
        }
    }
}

/// A guest ran only what exists, and what succeeded or failed by itself did run.
fn what_ran_was_recorded(world: &World, executions: &[Execution], wrong: &mut Vec<String>) {
    let diary = world
        .diary
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let known: HashMap<TaskId, &Execution> = executions.iter().map(|e| (e.task_id, e)).collect();
    let mut ran: HashMap<TaskId, u32> = HashMap::new();
    for run in &diary.runs {
        *ran.entry(run.task_id).or_default() += 1;
        if !known.contains_key(&run.task_id) {
            wrong.push(format!("{} ran and is in no history", run.task_id));
        }
    }
    for execution in executions {
        let runs = ran.get(&execution.task_id).copied().unwrap_or(0);
        if execution.state == State::Succeeded && runs == 0 {
            wrong.push(format!("{} succeeded without running", execution.task_id));
        }
        if execution.state == State::Skipped && runs > 0 {
            wrong.push(format!("{} was skipped and ran", execution.task_id));
        }
    }
}

/// Rules S1 and S5: each slot is exactly one execution or lies in exactly one skipped row (or the open streak).
fn slots_are_explained(
    world: &World,
    config: &TaskConfig,
    executions: &[Execution],
    wrong: &mut Vec<String>,
) {
    let Ok(timetable) = Timetable::new(&config.spec.schedule, config.id) else {
        return;
    };
    let until = config.schedule_state.last_slot.unwrap_or(world.begun);
    let slots: Vec<Timestamp> = timetable
        .slots(config.created_at)
        .take_while(|slot| *slot <= until)
        .collect();
    let own: Vec<&Execution> = executions
        .iter()
        .filter(|e| e.config_id == Some(config.id))
        .collect();
    let mut fired: HashMap<Timestamp, u32> = HashMap::new();
    let mut skips: Vec<(Timestamp, Timestamp, i64)> = Vec::new();
    for execution in own {
        match (execution.state, execution.slot) {
            (State::Skipped, Some(first)) => {
                skips.push((
                    first,
                    execution.slot_last.unwrap_or(first),
                    execution.slot_count.unwrap_or(1),
                ));
            }
            (_, Some(slot)) => *fired.entry(slot).or_default() += 1,
            _ => {}
        }
    }
    skips.extend(
        config
            .schedule_state
            .open_skip
            .iter()
            .map(|s| (s.first, s.last, s.count)),
    );
    let name = &config.spec.name;
    for slot in &slots {
        let runs = fired.get(slot).copied().unwrap_or(0);
        let rows = skips
            .iter()
            .filter(|(first, last, _)| first <= slot && slot <= last)
            .count();
        if runs as usize + rows != 1 {
            wrong.push(format!(
                "{name}: slot {slot} has {runs} executions and lies in {rows} skipped rows"
            ));
        }
    }
    let skipped: i64 = skips.iter().map(|(.., count)| count).sum();
    let told = skipped + i64::try_from(fired.len()).unwrap_or(i64::MAX);
    if told != i64::try_from(slots.len()).unwrap_or(i64::MAX) {
        wrong.push(format!(
            "{name}: {} slots passed, {told} are accounted for",
            slots.len()
        ));
    }
    if !config.spec.paused
        && timetable
            .next_fire_at(until)
            .is_some_and(|next| next < world.clock.now() - chrono::Duration::minutes(5))
    {
        wrong.push(format!(
            "{name}: a slot due at {:?} was never looked at",
            timetable.next_fire_at(until)
        ));
    }
}

fn bounds_held(world: &World, config: &TaskConfig, wrong: &mut Vec<String>) {
    let diary = world
        .diary
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let peak = peak_of(&diary.peak, config.id);
    let bound = if config.spec.runs_alone(false) {
        Some(1)
    } else {
        config.spec.concurrency.as_ref().and_then(|c| c.max)
    };
    if let Some(bound) = bound.filter(|bound| peak > *bound) {
        wrong.push(format!(
            "{}: {peak} ran at once, {bound} may",
            config.spec.name
        ));
    }
}

fn peak_of(peaks: &HashMap<ConfigId, u32>, id: ConfigId) -> u32 {
    peaks.get(&id).copied().unwrap_or(0)
}
