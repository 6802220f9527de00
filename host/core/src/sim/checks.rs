//! What must hold at the end of every history, whatever happened in it.

use super::runner::Scope;
use super::world::World;
use crate::clock::Clock;
use crate::store::{
    Catalog, ConfigFilter, ExecutionFilter, History, Page, Queue, QueueCounts, StoreError,
};
use horarium_model::execution::State;
use horarium_model::firing::Timetable;
use horarium_model::{Execution, TaskConfig, TaskId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

/// Checks a world whose host was stopped after everything had time to end. Returns what is wrong.
///
/// A failover may have lost executions that were acknowledged, or their runs' claims and ends. What is lost may run
/// again, even beside the run that was forgotten; each slot and each execution the store still knows has one end all
/// the same.
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
    let configs = configs(world).await?;
    for config in &configs {
        slots_are_explained(world, config, &executions, &mut wrong);
    }
    chains_followed(world, &configs, &executions, &mut wrong);
    if !world.failed_over {
        bounds_held(world, &configs, &mut wrong);
    }
    let testimony = world.testimony.lock();
    let testimony = testimony.unwrap_or_else(PoisonError::into_inner);
    wrong.extend(testimony.wrong.iter().cloned());
    Ok(wrong)
}

async fn all_executions(world: &World) -> Result<Vec<Execution>, StoreError> {
    let mut all = Vec::new();
    for tenant in world.tenants() {
        let mut page = Page::first(Page::MAX);
        loop {
            let listing = world
                .store
                .executions(tenant, &ExecutionFilter::default(), &page)
                .await?;
            all.extend(listing.items);
            match listing.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    Ok(all)
}

async fn configs(world: &World) -> Result<Vec<TaskConfig>, StoreError> {
    let (filter, page) = (ConfigFilter::default(), Page::first(Page::MAX));
    let mut all = Vec::new();
    for tenant in world.tenants() {
        let listing = world.store.configs(tenant, &filter, &page);
        all.extend(listing.await?.items);
    }
    Ok(all)
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
        if !known.contains_key(&run.task_id) && !world.lost.contains(&run.task_id) {
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

/// Rules S1, S2, S5 and S9: each slot is exactly one execution or lies in exactly one skipped row (or the open
/// streak), and nothing else fires, or fires early.
fn slots_are_explained(
    world: &World,
    config: &TaskConfig,
    executions: &[Execution],
    wrong: &mut Vec<String>,
) {
    let name = &config.spec.name;
    let slots = world.ledger.slots(config);
    let mut fired: HashMap<Timestamp, u32> = HashMap::new();
    let mut skips: Vec<(Timestamp, Timestamp, i64)> = Vec::new();
    for execution in executions {
        let Some(slot) = execution
            .slot
            .filter(|_| execution.config_id == Some(config.id))
        else {
            continue;
        };
        if execution.state == State::Skipped {
            let last = execution.slot_last.unwrap_or(slot);
            skips.push((slot, last, execution.slot_count.unwrap_or(1)));
            continue;
        }
        *fired.entry(slot).or_default() += 1;
        if slots.binary_search(&slot).is_err() {
            wrong.push(format!(
                "{name}: {slot} fired and is no slot of its schedule"
            ));
        }
        if execution.created_at < slot {
            wrong.push(format!("{name}: slot {slot} fired early"));
        }
    }
    let open = config.schedule_state.open_skip.iter();
    skips.extend(open.map(|s| (s.first, s.last, s.count)));
    skips.sort_unstable();
    for slot in &slots {
        let runs = fired.get(slot).copied().unwrap_or(0);
        let before = skips.partition_point(|(first, ..)| first <= slot);
        let rows = skips[..before]
            .iter()
            .filter(|(_, last, _)| slot <= last)
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
}

/// Rule E7: each end sets off each step that names it once, and no other. After a failover what was set off may be
/// lost with its parent's end.
fn chains_followed(
    world: &World,
    configs: &[TaskConfig],
    executions: &[Execution],
    wrong: &mut Vec<String>,
) {
    let mut children: HashMap<TaskId, usize> = HashMap::new();
    for parent in executions.iter().filter_map(|e| e.parent_task_id) {
        *children.entry(parent).or_default() += 1;
    }
    let chained: HashMap<_, _> = configs.iter().map(|config| (config.id, config)).collect();
    for execution in executions {
        let config = execution.config_id.and_then(|id| chained.get(&id));
        let steps = config.map_or(&[][..], |config| &config.spec.chain);
        let due = steps
            .iter()
            .filter(|step| step.on.contains(&execution.state));
        let due = due.count();
        let found = children.remove(&execution.task_id).unwrap_or(0);
        if found != due && !(world.failed_over && found < due) {
            wrong.push(format!(
                "{} ended {} and set off {found} others instead of {due}",
                execution.task_id, execution.state
            ));
        }
    }
    for parent in children
        .keys()
        .filter(|parent| !world.lost.contains(parent))
    {
        wrong.push(format!("{parent} set off another and never was"));
    }
}

/// Checks a world whose hosts are well and have had some minutes: nothing due was left lying.
///
/// # Errors
/// The store's.
pub async fn check_due(world: &World) -> Result<Vec<String>, StoreError> {
    let late = world.clock.now() - chrono::Duration::minutes(5);
    let mut wrong = Vec::new();
    for config in configs(world).await? {
        let Ok(timetable) = Timetable::new(&config.spec.schedule, config.id) else {
            continue;
        };
        let next = timetable.next_fire_at(config.schedule_state.cursor());
        if let Some(next) = next.filter(|next| *next < late && !config.spec.paused) {
            let name = &config.spec.name;
            wrong.push(format!("{name}: a slot due at {next} was never looked at"));
        }
    }
    if let Err(error) = world.reasons().await {
        wrong.push(error);
    }
    Ok(wrong)
}

/// No limit was exceeded by what really ran: of a host, tenant, type, config, or key.
fn bounds_held(world: &World, configs: &[TaskConfig], wrong: &mut Vec<String>) {
    let diary = world.diary.lock().unwrap_or_else(PoisonError::into_inner);
    let rules = world.rules.lock().unwrap_or_else(PoisonError::into_inner);
    let names: HashMap<_, _> = configs
        .iter()
        .map(|config| (config.id, config.spec.name.as_str()))
        .collect();
    let name = |id| names.get(id).copied().unwrap_or("a config");
    for (scope, peak) in &diary.peak {
        let (bound, of) = match scope {
            Scope::Host(number) => (Some(world.slots()), format!("host {number}")),
            Scope::Tenant(tenant) => (rules.tenant(*tenant).max, format!("tenant {tenant}")),
            Scope::Type(tenant, task_type) => (
                rules.of_type(*tenant, task_type).max,
                format!("{task_type} of tenant {tenant}"),
            ),
            Scope::Config(id) => {
                let bound = rules.bound_of(*id).filter(|(_, by_key)| !by_key);
                (bound.map(|(max, _)| max), name(id).to_owned())
            }
            Scope::Key(id, key) => (
                rules.bound_of(*id).map(|(max, _)| max),
                format!("{} with key {key}", name(id)),
            ),
        };
        if let Some(bound) = bound.filter(|bound| peak > bound) {
            wrong.push(format!("{of}: {peak} ran at once, {bound} may"));
        }
    }
}
