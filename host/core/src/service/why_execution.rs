//! `execution why` (rule E9): what an execution waits for, or why it stands where it stands.

use super::{Executions, ServiceResult};
use crate::store::Waits;
use horarium_model::execution::{SkipReason, State};
use horarium_model::schedule::wire_time;
use horarium_model::{Execution, TaskId, TenantId, Timestamp};
use serde::Serialize;

/// Why an execution stands where it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// Where it stands.
    pub state: State,
    /// One word: `not_due`, `backoff`, `type_disabled`, `no_host`, `limit`, `queue_position` while it waits;
    /// else `running`, `ended` or why it was skipped.
    pub reason: &'static str,
    /// One line for people.
    pub message: String,
    /// When the reason passes by itself, where time alone decides.
    #[serde(with = "wire_time::option")]
    pub until: Option<Timestamp>,
    /// Executions that are claimed before it; at most 10 000 are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The bound that holds it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitReached>,
}

/// A bound that is reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitReached {
    /// How many run at once at most.
    pub max: u32,
    /// How many run.
    pub running: u32,
}

impl Why {
    fn new(state: State, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            state,
            reason,
            message: message.into(),
            until: None,
            position: None,
            limit: None,
        }
    }
}

impl Executions {
    /// What an execution waits for.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn why(&self, tenant: TenantId, task_id: TaskId) -> ServiceResult<Why> {
        let cx = &self.0;
        let shown = self.find(tenant, task_id).await?;
        if shown.state.is_end() || shown.state == State::Running {
            return Ok(settled(&shown));
        }
        let Some(waits) = cx.store.waits(tenant, task_id).await? else {
            // It ended between the two looks.
            return Ok(settled(&self.find(tenant, task_id).await?));
        };
        let now = cx.clock.now();
        if let Some(due) = shown.due_at.filter(|due| *due > now) {
            return Ok(not_yet(&shown, due));
        }
        let name = &shown.task_type;
        if cx.registry.is_disabled(tenant, name) {
            let message = format!("`{name}` is disabled; `plugin disable {name} --undo` frees it");
            return Ok(Why::new(shown.state, "type_disabled", message));
        }
        let hosts = cx.store.hosts().await?;
        let loaded = |host: &crate::store::HostRow| host.facts.loaded.contains(name);
        if !hosts.iter().any(loaded) {
            let message = match hosts.len() {
                0 => "no host is alive".to_owned(),
                1 => format!("the host that is alive has no version of `{name}` it can run"),
                n => format!("none of the {n} hosts has a version of `{name}` it can run"),
            };
            return Ok(Why::new(shown.state, "no_host", message));
        }
        Ok(in_line(&shown, &waits))
    }
}

fn not_yet(shown: &Execution, due: Timestamp) -> Why {
    let at = horarium_model::schedule::wire(due);
    let mut why = match shown.state {
        State::Retryable => {
            let failed = format!(
                "attempt {} of {} ended ({}); the next may start at {at}",
                shown.attempt,
                shown.max_attempts,
                shown.error_kind.map_or("handed back", |kind| kind.as_str())
            );
            Why::new(shown.state, "backoff", failed)
        }
        _ => Why::new(shown.state, "not_due", format!("it is due at {at}")),
    };
    why.until = Some(due);
    why
}

/// It could run now, if it were its turn.
fn in_line(shown: &Execution, waits: &Waits) -> Why {
    if let Some((running, max)) = waits.bound
        && running >= max
    {
        let message = match max {
            1 => "another execution that it must not run beside is running".to_owned(),
            max => format!("{running} executions that share its bound of {max} are running"),
        };
        return Why {
            limit: Some(LimitReached { max, running }),
            ..Why::new(shown.state, "limit", message)
        };
    }
    let message = match waits.ahead {
        0 => "it is next; it waits for a free slot".to_owned(),
        1 => "one execution is before it in the queue".to_owned(),
        n => format!("{n} executions are before it in the queue"),
    };
    Why {
        position: Some(waits.ahead),
        ..Why::new(shown.state, "queue_position", message)
    }
}

/// It does not wait.
fn settled(shown: &Execution) -> Why {
    let state = shown.state;
    if let Some(reason) = shown.skip_reason {
        return Why::new(state, reason.as_str(), skip_message(reason));
    }
    if state == State::Running {
        let host = shown.host.as_deref().unwrap_or("a host");
        let asked = match shown.cancel_requested_at {
            Some(_) => "; it was asked to stop",
            None => "",
        };
        return Why::new(state, "running", format!("it runs on {host}{asked}"));
    }
    let message = match &shown.error_message {
        Some(message) => format!("it has ended, {state}: {message}"),
        None => format!("it has ended, {state}"),
    };
    Why::new(state, "ended", message)
}

/// The rule behind a skip, for people.
fn skip_message(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Missed => {
            "no host was there in time, and the catch-up rule makes it up not or by another slot (S4)"
        }
        SkipReason::Overlap => {
            "an execution of the task was live, and its overlap rule skips then (S6)"
        }
        SkipReason::Paused => "the task was paused (S9)",
        SkipReason::BacklogCap => "too much was waiting already",
        SkipReason::Quota => "the tenant's quota was used up",
        SkipReason::TypeDisabled => "the plugin was disabled",
        SkipReason::Clock => "the clock had been set back (S12)",
        SkipReason::ChainDepth => "the chain was 32 links long already (E7)",
    }
}
