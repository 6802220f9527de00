//! What the end of an execution enqueues (rule E7), decided alike by every store inside the transaction that
//! records the end. A store finds the targets, asks [`decide`] for each step in order, and carries it out.

use super::{FullBacklog, NewExecution, StoreError, StoreResult, rules};
use crate::config_cache::{Overrides, new_execution};
use horarium_model::chain::{ChainStep, MAX_DEPTH, from_text};
use horarium_model::execution::{SkipReason, State, Trigger};
use horarium_model::firing::{LiveCount, OverlapVerdict, judge_overlap};
use horarium_model::trace::TraceContext;
use horarium_model::{TaskConfig, TaskId, TenantId, Timestamp};
use serde_json::Value;

/// An execution that has just ended and had a chain.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Its public id.
    pub task_id: TaskId,
    /// Owner.
    pub tenant_id: TenantId,
    /// Its place in its own chain.
    depth: u32,
    /// What its end sets off.
    pub steps: Vec<ChainStep>,
    /// Its result, null when it did not succeed.
    result: Value,
    /// The trace that what it sets off belongs to.
    trace: Option<TraceContext>,
}

impl Parent {
    /// Reads the frozen steps and keeps those that follow `end`.
    ///
    /// # Errors
    /// `Internal` when the steps are damaged.
    pub fn read(
        (task_id, tenant_id): (TaskId, TenantId),
        (chain, depth): (&str, u32),
        (end, result): (State, Value),
    ) -> StoreResult<Self> {
        let steps = from_text(chain)
            .map_err(|error| StoreError::Internal(format!("execution {task_id}: {error}")))?;
        Ok(Self {
            task_id,
            tenant_id,
            depth,
            steps: steps.into_iter().filter(|step| step.follows(end)).collect(),
            result,
            trace: None,
        })
    }

    /// The same, as part of a trace.
    #[must_use]
    pub fn traced(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }
}

/// A task that a step names, as it is now.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its config.
    pub config: TaskConfig,
    /// Whether its type is held.
    pub disabled: bool,
    /// Whether the version that would run keeps state.
    pub uses_state: bool,
}

/// What becomes of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// The target's rules refuse it: a `skipped` row.
    Skip(SkipReason),
    /// It is enqueued; with `cancel_live` what lives of the target is cancelled first.
    Enqueue {
        /// The execution.
        new: Box<NewExecution>,
        /// Whether the target's overlap rule is `cancel_running` and something of it lives.
        cancel_live: bool,
    },
    /// It is enqueued and ends at once, `failed` with `invalid_parameters` and this message.
    Fail(Box<NewExecution>, String),
}

/// Judges a step of `parent` by the rules of its target. `room` takes a place in the backlogs for what is enqueued when so
/// many of its config were cancelled.
pub fn decide(
    now: Timestamp,
    parent: &Parent,
    step: &ChainStep,
    target: &Target,
    live: LiveCount,
    room: impl FnOnce(&NewExecution, u32) -> Result<(), FullBacklog>,
) -> Link {
    let config = &target.config;
    let overlap = judge_overlap(config.spec.effective_overlap(), live);
    let refusal = if parent.depth >= MAX_DEPTH {
        Some(SkipReason::ChainDepth)
    } else if target.disabled {
        Some(SkipReason::TypeDisabled)
    } else if config.spec.paused {
        Some(SkipReason::Paused)
    } else {
        (overlap == OverlapVerdict::Skip).then_some(SkipReason::Overlap)
    };
    if let Some(reason) = refusal {
        return Link::Skip(reason);
    }
    // The tighter bounds of host and plugin are checked at the claim (rule E1).
    let max_bytes = config.spec.limits.complete().parameters_bytes;
    let handed = step.hand_over(&config.spec.parameters, &parent.result, max_bytes);
    let overrides = Overrides {
        parameters: handed
            .as_ref()
            .ok()
            .map(|map| Value::Object(map.clone()).to_string().into()),
        ..Overrides::default()
    };
    let task_id = rules::chain_task_id(now, parent.task_id, config.id);
    let new = Box::new(NewExecution {
        parent_task_id: Some(parent.task_id),
        chain_depth: parent.depth + 1,
        // Not that of the request that ends the parent, if one does.
        trace: parent.trace.clone(),
        ..new_execution(
            config,
            target.uses_state,
            task_id,
            Trigger::Chain,
            now,
            overrides,
        )
    });
    match handed {
        Ok(_) => {
            let cancel_live = overlap == OverlapVerdict::CancelThenEnqueue;
            let ended = if cancel_live { live.waiting } else { 0 };
            match room(&new, ended) {
                Ok(()) => Link::Enqueue { new, cancel_live },
                Err(_) => Link::Skip(SkipReason::BacklogCap),
            }
        }
        Err(message) => Link::Fail(new, message),
    }
}
