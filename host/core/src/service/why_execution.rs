//! `execution why` (rule E9): what an execution waits for, or why it stands where it stands.

use super::{Executions, ServiceResult};
use crate::store::{Waits, rules};
use horarium_model::execution::{SkipReason, State};
use horarium_model::quota::{QuotaHit, QuotaLine};
use horarium_model::schedule::wire_time;
use horarium_model::task_type::Breaker;
use horarium_model::{Execution, TaskId, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// Why an execution stands where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Why {
    /// Where it stands.
    pub state: State,
    /// One word: `not_due`, `backoff`, `type_disabled`, `no_host`, `breaker`, `limit`, `rate`, `quota`, `queue_position` while it waits;
    /// else `running`, `ended` or why it was skipped.
    pub reason: &'static str,
    /// One line for people.
    pub message: String,
    /// When the reason passes by itself, where time alone decides.
    #[serde(with = "wire_time::option")]
    #[schemars(with = "Option<Timestamp>")]
    pub until: Option<Timestamp>,
    /// Executions that are claimed before it; at most 10 000 are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The bound that holds it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitReached>,
}

/// A bound that is reached.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
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
            let shared = cx.registry.task_type(tenant, name);
            let message = match shared.is_some_and(|of_type| of_type.is_shared()) {
                true => format!(
                    "`{name}`, which the host shares, is disabled until a host-admin frees it"
                ),
                false => format!("`{name}` is disabled; `plugin disable {name} --undo` frees it"),
            };
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
        let of_type = cx.store.task_type(tenant, name).await?;
        if let Some(breaker) = of_type.and_then(|of_type| of_type.breaker) {
            return Ok(broken(&shown, &breaker));
        }
        let why = in_line(&shown, &waits, now);
        if why.reason == "queue_position"
            && let Some(hit) = self.quota_hit(&shown, now).await?
        {
            let until = hit.resets_at;
            return Ok(Why {
                until,
                ..Why::new(shown.state, "quota", hit.to_string())
            });
        }
        Ok(why)
    }

    /// The quota of the tenant that keeps everything of it waiting.
    async fn quota_hit(
        &self,
        shown: &Execution,
        now: Timestamp,
    ) -> ServiceResult<Option<QuotaHit>> {
        const OF_CLAIMS: [&str; 3] = ["executions_per_minute", "fuel_per_day", "memory_bytes"];
        let (store, tenant) = (&self.0.store, shown.tenant_id);
        let Some(known) = store.quotas(tenant).await? else {
            return Ok(None);
        };
        if !known.quotas.bound_claims() {
            return Ok(None);
        }
        let used = store.quota_use(now, tenant).await?;
        let mut lines = used.lines(&known.quotas, now);
        let wanted = self.memory_asked(shown).await?;
        for line in lines.iter_mut().filter(|line| line.name == "memory_bytes") {
            // It is not used up, but too little is left for this one.
            let short = line
                .limit
                .filter(|limit| line.used + wanted.min(*limit) > *limit);
            line.limit = short.map(|_| line.used);
        }
        let mut bounding = lines.iter().filter(|line| OF_CLAIMS.contains(&line.name));
        let hit = bounding.find_map(QuotaLine::hit);
        Ok(hit.map(|hit| QuotaHit {
            limit: known.quotas.get(hit.quota).unwrap_or(hit.limit),
            ..hit
        }))
    }

    /// The limit of memory that a run of it would have by its plugin and its task.
    async fn memory_asked(&self, shown: &Execution) -> ServiceResult<u64> {
        let cx = &self.0;
        let config = match shown.config_id {
            Some(id) => cx.store.config(shown.tenant_id, id).await?,
            None => None,
        };
        let spec = config.as_ref().map(|config| &config.spec);
        let pin = spec.and_then(|spec| spec.plugin_version.as_deref());
        let version = cx.registry.chosen(shown.tenant_id, &shown.task_type, pin);
        let ask = rules::ask(
            version.map(|version| version.limits).unwrap_or_default(),
            spec.map(|spec| spec.limits).unwrap_or_default(),
        );
        Ok(ask.memory_bytes)
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

/// Its type keeps failing.
fn broken(shown: &Execution, breaker: &Breaker) -> Why {
    let name = &shown.task_type;
    let at = horarium_model::schedule::wire(breaker.probe_at);
    let message = format!(
        "{} attempts of `{name}` failed in a row; one is let through at {at}; `plugin breaker {name} reset` lets all through",
        breaker.failures
    );
    Why {
        until: Some(breaker.probe_at),
        ..Why::new(shown.state, "breaker", message)
    }
}

/// It could run now, if it were its turn and nothing bounded it.
fn in_line(shown: &Execution, waits: &Waits, now: Timestamp) -> Why {
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
    let whose = [
        (waits.of_type, "its plugin's"),
        (waits.of_tenant, "its tenant's"),
    ];
    for (bound, whose) in whose {
        if let Some((running, max)) = bound.filter(|(running, max)| running >= max) {
            let message = format!("{running} executions are running, {whose} bound is {max}");
            return Why {
                limit: Some(LimitReached { max, running }),
                ..Why::new(shown.state, "limit", message)
            };
        }
    }
    if let Some(bucket) = waits.bucket.filter(|bucket| bucket.tokens(now) == 0) {
        let until = Timestamp::from_timestamp_micros(bucket.ready_at(now));
        return Why {
            until,
            ..Why::new(
                shown.state,
                "rate",
                "as many attempts started as its rate allows for now",
            )
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
