//! What the ends of executions enqueue (rule E7), planned alike for every database: facts are read at once,
//! everything is decided, and the rows are written in segments.

use crate::firing::{Fresh, SkippedOf};
use horarium_core::store::chain::{Link, Parent, Target, decide};
use horarium_core::store::{Backlogs, NewExecution, rules};
use horarium_model::chain::{ChainStep, ChainTask};
use horarium_model::execution::SkipReason;
use horarium_model::firing::LiveCount;
use horarium_model::{ConfigId, TaskConfig, TaskId, TenantId, Timestamp};
use std::collections::{HashMap, HashSet};

/// A step that the target's rules refused.
pub(crate) struct SkippedLink {
    pub(crate) id: i64,
    pub(crate) task_id: TaskId,
    pub(crate) parent: TaskId,
    pub(crate) of: SkippedOf,
    pub(crate) reason: SkipReason,
}

/// Rows that are written together.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) skips: Vec<SkippedLink>,
    pub(crate) new: Vec<(i64, NewExecution)>,
    /// Those of them that end at once, with their messages.
    pub(crate) failed: Vec<(i64, String)>,
    /// After them, what lives of this config is cancelled.
    pub(crate) then_cancel: Option<ConfigId>,
}

impl Links {
    /// What is inserted.
    pub(crate) fn fresh(&self) -> Vec<Fresh<'_>> {
        let new = self.new.iter();
        new.map(|(id, new)| Fresh::of(*id, new)).collect()
    }
}

/// What is known of the targets.
#[derive(Default)]
pub(crate) struct Facts {
    /// Keys that name a task now.
    pub(crate) keys: HashMap<(TenantId, String), ConfigId>,
    pub(crate) targets: HashMap<ConfigId, Target>,
    pub(crate) live: HashMap<ConfigId, LiveCount>,
    pub(crate) backlogs: Backlogs,
}

/// A tenant's type with a pin, and of it: whether it is held, and whether its version keeps state.
pub(crate) type Kinds = HashMap<(TenantId, String, Option<String>), (bool, bool)>;

impl Facts {
    /// Adds targets with what is known of their types.
    pub(crate) fn add(&mut self, configs: Vec<TaskConfig>, kinds: &Kinds) {
        for config in configs {
            let (disabled, uses_state) = kinds.get(&kind(&config)).copied().unwrap_or_default();
            let target = Target {
                disabled,
                uses_state,
                config,
            };
            self.targets.insert(target.config.id, target);
        }
    }

    /// The config a step names, if it names one.
    pub(crate) fn id_of(&self, tenant: TenantId, step: &ChainStep) -> Option<ConfigId> {
        match &step.task {
            ChainTask::Id(id) => Some(*id),
            ChainTask::Key(key) => self.keys.get(&(tenant, key.clone())).copied(),
        }
    }

    /// Everything the parents' steps name.
    pub(crate) fn ids(&self, parents: &[Parent]) -> Vec<ConfigId> {
        let steps = parents.iter().flat_map(|parent| {
            let id = |step| self.id_of(parent.tenant_id, step);
            parent.steps.iter().filter_map(id)
        });
        let mut ids: Vec<ConfigId> = steps.collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// The keys that the parents' steps name.
pub(crate) fn keys(parents: &[Parent]) -> HashSet<(TenantId, String)> {
    let steps = parents.iter().flat_map(|parent| {
        let key = |step: &ChainStep| match &step.task {
            ChainTask::Key(key) => Some((parent.tenant_id, key.clone())),
            ChainTask::Id(_) => None,
        };
        parent.steps.iter().filter_map(key)
    });
    steps.collect()
}

/// What decides which version of its plugin a config runs.
fn kind(config: &TaskConfig) -> (TenantId, String, Option<String>) {
    let spec = &config.spec;
    let pin = spec.plugin_version.clone();
    (config.tenant_id, spec.task_type.clone(), pin)
}

/// The types of configs, each once.
pub(crate) fn kinds(configs: &[TaskConfig]) -> HashSet<(TenantId, String, Option<String>)> {
    configs.iter().map(kind).collect()
}

/// Decides every step of every parent. Row ids count from 0; [`number`] gives the real ones.
pub(crate) fn plan(now: Timestamp, parents: &[Parent], mut facts: Facts) -> (Vec<Links>, usize) {
    let mut segments = vec![Links::default()];
    let mut ids = 0;
    for parent in parents {
        let mut taken = HashSet::new();
        for step in &parent.steps {
            let Some(id) = facts.id_of(parent.tenant_id, step) else {
                continue;
            };
            let target = facts.targets.get(&id);
            let Some(target) = target.filter(|t| t.config.tenant_id == parent.tenant_id) else {
                continue;
            };
            if !taken.insert(id) {
                continue;
            }
            let live = facts.live.entry(id).or_default();
            let backlogs = &mut facts.backlogs;
            let room = |new: &NewExecution, ended| backlogs.take_after(new, ended);
            let link = decide(now, parent, step, target, *live, room);
            if matches!(
                link,
                Link::Enqueue {
                    cancel_live: true,
                    ..
                }
            ) {
                if let Some(last) = segments.last_mut() {
                    last.then_cancel = Some(id);
                }
                segments.push(Links::default());
                live.waiting = 0;
            }
            let row = i64::try_from(ids).unwrap_or(i64::MAX);
            ids += 1;
            let Some(segment) = segments.last_mut() else {
                continue;
            };
            match link {
                Link::Skip(reason) => segment.skips.push(SkippedLink {
                    id: row,
                    task_id: rules::chain_task_id(now, parent.task_id, id),
                    parent: parent.task_id,
                    of: SkippedOf::new(&target.config),
                    reason,
                }),
                Link::Enqueue { new, .. } => {
                    live.waiting += 1;
                    segment.new.push((row, *new));
                }
                Link::Fail(new, message) => {
                    segment.new.push((row, *new));
                    segment.failed.push((row, message));
                }
            }
        }
    }
    (segments, ids)
}

/// Gives every row its real id.
pub(crate) fn number(segments: &mut [Links], ids: &[i64]) {
    let real = |id: &mut i64| {
        let found = usize::try_from(*id).ok().and_then(|index| ids.get(index));
        *id = found.copied().unwrap_or(*id);
    };
    for segment in segments {
        segment.skips.iter_mut().for_each(|skip| real(&mut skip.id));
        segment.new.iter_mut().for_each(|(id, _)| real(id));
        segment.failed.iter_mut().for_each(|(id, _)| real(id));
    }
}

/// Parents in the order in which they were ended: a database tells of removed rows in an order of its own, and what
/// they set off is numbered as it comes.
pub(crate) fn in_order(ended: &[i64], mut parents: Vec<(i64, Parent)>) -> Vec<Parent> {
    let places: HashMap<i64, usize> = ended.iter().copied().zip(0..).collect();
    parents.sort_by_key(|(id, _)| places.get(id).copied());
    parents.into_iter().map(|(_, parent)| parent).collect()
}
