//! Chains (rule E7).

use super::live::{Fresh, skipped};
use super::{Inner, Row};
use crate::store::chain::{Link, Parent, Target, decide};
use crate::store::{NewExecution, rules};
use horarium_model::chain::{ChainStep, ChainTask};
use horarium_model::execution::{Execution, State, Trigger};
use horarium_model::task_type::PluginVersion;
use horarium_model::{ErrorKind, TenantId, Timestamp};
use serde_json::Value;

impl Inner {
    /// Remembers that an execution with a chain ended. One whose config was deleted sets off nothing.
    pub(super) fn note_chain(&mut self, row: &Row) {
        let shown = &row.shown;
        let Some(chain) = row
            .chain
            .as_deref()
            .filter(|_| !self.is_orphan(shown.config_id))
        else {
            return;
        };
        let result = shown.result.clone().unwrap_or(Value::Null);
        let parent = Parent::read(
            (shown.task_id, shown.tenant_id),
            (chain, row.chain_depth),
            (shown.state, result),
        );
        let trace = row.trace.clone();
        self.ended
            .extend(parent.ok().map(|parent| parent.traced(trace)));
    }

    /// Enqueues what the ends of this operation set off, and what that sets off in turn.
    pub(super) fn run_chains(&mut self, now: Timestamp) {
        while !self.ended.is_empty() {
            for parent in std::mem::take(&mut self.ended) {
                let mut taken = Vec::new();
                for step in &parent.steps {
                    let Some(target) = self.chain_target(parent.tenant_id, step) else {
                        continue;
                    };
                    if !taken.contains(&target.config.id) {
                        taken.push(target.config.id);
                        self.take_step(now, &parent, step, &target);
                    }
                }
            }
        }
    }

    fn chain_target(&self, tenant: TenantId, step: &ChainStep) -> Option<Target> {
        let row = match &step.task {
            ChainTask::Id(id) => self.config(tenant, *id)?,
            ChainTask::Key(key) => self.by_key(tenant, key)?,
        };
        let config = row.config.clone();
        let spec = &config.spec;
        let of_type = self.type_of(tenant, &spec.task_type);
        let digest = spec.plugin_version.as_ref();
        let digest = digest.or(of_type.and_then(|t| t.active_digest.as_ref()));
        let version = digest.and_then(|digest| self.version_of(tenant, &spec.task_type, digest));
        Some(Target {
            disabled: of_type.is_some_and(|t| t.disabled),
            uses_state: version.is_some_and(PluginVersion::uses_state),
            config,
        })
    }

    fn take_step(&mut self, now: Timestamp, parent: &Parent, step: &ChainStep, target: &Target) {
        let config = &target.config;
        let live = self.live_count(config.id);
        let room =
            |new: &NewExecution, ended| self.backlogs(std::iter::once(new)).take_after(new, ended);
        match decide(now, parent, step, target, live, room) {
            Link::Skip(reason) => {
                let id = self.next_id();
                let shown = Execution {
                    task_id: rules::chain_task_id(now, parent.task_id, config.id),
                    trigger: Trigger::Chain,
                    skip_reason: Some(reason),
                    parent_task_id: Some(parent.task_id),
                    ..skipped(id, config, now)
                };
                self.file_skipped(shown);
            }
            Link::Enqueue { new, cancel_live } => {
                if cancel_live {
                    self.cancel_live(now, config.id);
                }
                self.insert(now, &new, Fresh::of(&new));
            }
            Link::Fail(new, message) => {
                let (id, _) = self.insert(now, &new, Fresh::of(&new));
                let kind = ErrorKind::InvalidParameters;
                self.end_bare(now, id, State::Failed, kind, &message);
            }
        }
    }
}
