//! One attempt: what it may use is read now (rule E1), it runs, and its end goes to the recorder.

use super::recorder::Ended;
use super::verdict::{self, Verdict};
use super::{Executor, Running, given};
use crate::config_cache::CompiledConfig;
use crate::control::StopReason;
use crate::runner::{Attempt, AttemptEnd, Failure, Outcome};
use crate::store::{Claimed, StoreError};
use crate::trace::RunTrace;
use futures_util::FutureExt;
use horarium_model::limits::{Allowed, DEFAULT_TIMEOUT_SECONDS, Level, Levels, LimitOverrides};
use horarium_model::retry::RetryPolicy;
use horarium_model::task_type::PluginVersion;
use horarium_model::trace::TraceContext;
use horarium_model::{ErrorKind, Timestamp, Trigger, Usage};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// The version that is in force, and what it may use.
struct InForce {
    version: Arc<PluginVersion>,
    allowed: Allowed,
}

/// Runs a claim to its end and hands the end to the recorder.
pub(super) async fn run(executor: &Executor, running: &Running) {
    let clock = &executor.parts.clock;
    // Now, not when it was claimed: it may have waited for a thread, and its end is told by its length.
    let (started_at, begun) = (clock.now(), clock.monotonic());
    let read = match config_of(executor, &running.claimed).await {
        Ok(config) => config,
        Err(error) => {
            // Not the execution's fault: it waits for the store like everybody else.
            let reason = AttemptEnd::HandedBack(error.to_string());
            finish(
                executor,
                running,
                None,
                None,
                outcome(reason),
                started_at,
                Duration::ZERO,
            )
            .await;
            return;
        }
    };
    let mut in_force = in_force(executor, &running.claimed, read.as_deref());
    if in_force.is_none() {
        // Another host may have registered it a moment ago.
        in_force = reread(executor, running, read.as_deref()).await;
    }
    let mut outcome = match &in_force {
        None => outcome(AttemptEnd::Failed(Failure::new(
            ErrorKind::UnknownTaskType,
            format!(
                "no ready plugin version is registered as `{}`",
                running.claimed.task_type
            ),
        ))),
        Some(in_force) => guarded(executor, running, read.as_deref(), in_force).await,
    };
    if refuses_parameters(&outcome)
        && let Some(fresh) = reread(executor, running, read.as_deref()).await
        && in_force
            .as_ref()
            .is_some_and(|known| known.version.digest != fresh.version.digest)
    {
        // They were checked against a version that is not the one in force any more.
        outcome = guarded(executor, running, read.as_deref(), &fresh).await;
        in_force = Some(fresh);
    }
    let duration = clock.monotonic().saturating_sub(begun);
    finish(
        executor,
        running,
        read.as_deref(),
        in_force,
        outcome,
        started_at,
        duration,
    )
    .await;
}

async fn config_of(
    executor: &Executor,
    claimed: &Claimed,
) -> Result<Option<Arc<CompiledConfig>>, StoreError> {
    match (claimed.config_id, claimed.config_version) {
        (Some(id), Some(version)) => executor.parts.configs.get(id, version).await,
        _ => Ok(None),
    }
}

fn in_force(
    executor: &Executor,
    claimed: &Claimed,
    config: Option<&CompiledConfig>,
) -> Option<InForce> {
    let pin = config.and_then(|c| c.config.spec.plugin_version.as_deref());
    let registry = &executor.parts.registry;
    let version = registry.chosen(claimed.tenant_id, &claimed.task_type, pin)?;
    let allowed = allowed(executor, claimed, config, &version);
    Some(InForce { version, allowed })
}

/// The version as the catalog has it now: what this host knows may be some seconds old. None as well when the
/// catalog cannot be read.
async fn reread(
    executor: &Executor,
    running: &Running,
    config: Option<&CompiledConfig>,
) -> Option<InForce> {
    executor.parts.registry.catch_up().await.ok()?;
    in_force(executor, &running.claimed, config)
}

fn refuses_parameters(outcome: &Outcome) -> bool {
    matches!(&outcome.end, AttemptEnd::Failed(failure) if failure.kind == ErrorKind::InvalidParameters)
}

/// Runs the guest; a panic of the host ends this attempt only.
async fn guarded(
    executor: &Executor,
    running: &Running,
    config: Option<&CompiledConfig>,
    in_force: &InForce,
) -> Outcome {
    match AssertUnwindSafe(prepared(executor, running, config, in_force))
        .catch_unwind()
        .await
    {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(task_id = %running.claimed.task_id, panic = text, "a bug of the host ended an attempt");
            let message = format!(
                "a bug of the host ended this attempt: {}",
                horarium_model::text::one_line(&text, 300)
            );
            outcome(AttemptEnd::Failed(Failure::new(
                ErrorKind::HostError,
                message,
            )))
        }
    }
}

async fn prepared(
    executor: &Executor,
    running: &Running,
    config: Option<&CompiledConfig>,
    in_force: &InForce,
) -> Outcome {
    let InForce { version, allowed } = in_force;
    let limits = allowed.limits;
    let (claimed, parts) = (&running.claimed, &executor.parts);
    if let Some(reason) = running.control.stop_reason() {
        return outcome(AttemptEnd::Stopped(reason));
    }
    running.control.log.set_budget(limits.log_bytes);
    let max = limits.parameters_bytes;
    let parameters = match check_parameters(executor, claimed, version, max).await {
        Ok(parameters) => parameters,
        Err(failure) => return outcome(AttemptEnd::Failed(failure)),
    };
    let state = match claimed.config_id.filter(|_| version.uses_state()) {
        None => None,
        Some(config_id) => match parts.store.state_snapshot(config_id).await {
            Ok(snapshot) => Some(snapshot),
            Err(error) => return outcome(AttemptEnd::HandedBack(error.to_string())),
        },
    };
    let given = match given::read(parts, claimed, version).await {
        Ok(given) => given,
        Err(end) => return outcome(end),
    };
    let attempt = Attempt {
        task_id: claimed.task_id,
        tenant_id: claimed.tenant_id,
        config_id: claimed.config_id,
        task_name: config
            .map(|c| c.config.spec.name.clone())
            .unwrap_or_default(),
        version: version.clone(),
        parameters,
        attempt: claimed.attempt,
        max_attempts: claimed.max_attempts,
        slot: claimed.slot,
        trigger: claimed.trigger,
        parent_task_id: claimed.parent_task_id,
        retry_of: claimed.retry_of,
        trace: RunTrace::of(claimed, executor.settings.trace_sample),
        timeout: Duration::from_secs(allowed.timeout_seconds.into()),
        limits,
        grants: version.grants.as_slice().into(),
        state,
        given,
    };
    let mut outcome = parts
        .registry
        .runner()
        .run(attempt, running.control.clone())
        .await;
    name_quota(&mut outcome, claimed, config, version);
    outcome
}

/// A run that was given less fuel than its limits allow, because its tenant had no more, ran out of its tenant's.
fn name_quota(
    outcome: &mut Outcome,
    claimed: &Claimed,
    config: Option<&CompiledConfig>,
    version: &PluginVersion,
) {
    let AttemptEnd::Failed(failure) = &mut outcome.end else {
        return;
    };
    let Some(given) = claimed.allowance.fuel else {
        return;
    };
    let task = config.map(|c| c.config.spec.limits).unwrap_or_default();
    let own = version.limits.tightest(&task).complete().fuel;
    if failure.kind == ErrorKind::OutOfFuel && given < own {
        failure.kind = ErrorKind::Quota;
        failure.message = format!(
            "it used up the {given} fuel that its tenant had left of `fuel_per_day`; its own limit is {own}"
        );
    }
}

/// The tightest of all levels, limit by limit (design section 3), and the config's timeout.
fn allowed(
    executor: &Executor,
    claimed: &Claimed,
    config: Option<&CompiledConfig>,
    version: &PluginVersion,
) -> Allowed {
    let spec = config.map(|c| &c.config.spec);
    // What the claim reserved of the tenant's quotas is all there is.
    let reserved = LimitOverrides {
        fuel: claimed.allowance.fuel,
        memory_bytes: claimed.allowance.memory_bytes,
        log_bytes: claimed.allowance.log_bytes,
        ..LimitOverrides::default()
    };
    let levels = Levels::new()
        .and(Level::Host, executor.settings.limits)
        .and(Level::Tenant(""), reserved)
        .and(Level::Plugin(&version.task_type), version.limits)
        .and(Level::Task, spec.map(|s| s.limits).unwrap_or_default());
    Allowed {
        limits: levels.effective(),
        timeout_seconds: spec.map_or(DEFAULT_TIMEOUT_SECONDS, |s| s.timeout_seconds),
    }
}

/// Rule E1: the version that runs may be newer than the one the parameters were checked against. Those of a
/// chain were made up when its parent ended, by a store that knows no schema: they get their defaults here.
async fn check_parameters(
    executor: &Executor,
    claimed: &Claimed,
    version: &PluginVersion,
    max_bytes: u64,
) -> Result<Arc<str>, Failure> {
    let invalid = |message: String| Failure::new(ErrorKind::InvalidParameters, message);
    let size = claimed.parameters.len() as u64;
    if size > max_bytes {
        return Err(invalid(format!(
            "the parameters have {size} bytes as JSON; `parameters_bytes` allows {max_bytes}"
        )));
    }
    if version.descriptor.parameters_schema.is_none() {
        return Ok(claimed.parameters.clone());
    }
    let value = serde_json::from_str(&claimed.parameters)
        .map_err(|e| invalid(format!("the stored parameters are not JSON: {e}")))?;
    match executor
        .parts
        .registry
        .runner()
        .check_parameters(version, value)
        .await
    {
        Ok(complete) if claimed.trigger == Trigger::Chain => Ok(complete.to_string().into()),
        Ok(_) => Ok(claimed.parameters.clone()),
        Err(refused) => {
            let message =
                format!("the parameters do not fit the schema of the version that runs: {refused}");
            Err(invalid(horarium_model::text::one_line(&message, 1000)))
        }
    }
}

fn outcome(end: AttemptEnd) -> Outcome {
    Outcome {
        end,
        usage: Usage::default(),
        state: None,
    }
}

/// What the chain of a claim is to know of its trace.
fn chained_trace(executor: &Executor, claimed: &Claimed) -> Option<TraceContext> {
    let trace = claimed
        .chained
        .then(|| RunTrace::of(claimed, executor.settings.trace_sample));
    trace.flatten().map(|trace| trace.place())
}

/// Turns an outcome into what is recorded and hands it to the recorder.
async fn finish(
    executor: &Executor,
    running: &Running,
    config: Option<&CompiledConfig>,
    in_force: Option<InForce>,
    mut outcome: Outcome,
    started_at: Timestamp,
    duration: Duration,
) {
    let queued = started_at - running.claimed.due_at;
    outcome.usage.duration_seconds = duration.as_secs_f64();
    outcome.usage.queued_seconds = queued.to_std().unwrap_or_default().as_secs_f64();
    let lease_lost = outcome.end == AttemptEnd::Stopped(StopReason::LeaseLost);
    if lease_lost {
        // Another host may own it now: nothing of this attempt may be written. If the store still thinks it
        // ours when it answers again, it is handed back.
        super::lock(&executor.owned).remove(&(running.claimed.id, running.claimed.claim));
        executor.lease.doubt();
        executor.parts.observer.stale();
        return;
    }
    let default_policy = RetryPolicy::default();
    let facts = verdict::Facts {
        claimed: &running.claimed,
        incarnation: running.incarnation,
        host: &executor.settings.host_name,
        digest: in_force.as_ref().map(|known| known.version.digest.clone()),
        allowed: in_force.map(|known| known.allowed),
        started_at,
        completed_at: crate::clock::whole_micros(
            started_at + chrono::Duration::from_std(duration).unwrap_or_default(),
        ),
        policy: config.map_or(&default_policy, |c| &c.config.spec.retry_policy),
        pause_after_failures: config.and_then(|c| c.config.spec.pause_after_failures),
        unit: rand::random::<f64>(),
        trace: chained_trace(executor, &running.claimed),
    };
    let control = &running.control;
    let mut calls = control.calls();
    for call in calls
        .iter_mut()
        .filter(|call| call.duration_seconds.is_none())
    {
        let lasted = (facts.completed_at - call.at).as_seconds_f64();
        call.duration_seconds = Some(lasted.max(0.0));
        call.error
            .get_or_insert_with(|| "broken off by the end of the run".into());
    }
    let kept = verdict::Kept {
        logs: control.log.lines_from(0),
        calls,
        progress: control.progress(),
    };
    let ended = match verdict::judge(&facts, outcome, kept) {
        Verdict::Complete(completion) => Ended::Complete {
            on_conflict: completion
                .state
                .is_some()
                .then(|| Box::new(verdict::state_conflict(&facts, &completion))),
            completion,
            claimed: running.claimed.clone(),
        },
        Verdict::Release(release) => Ended::Release(release),
    };
    // The recorder outlives every attempt; a closed channel only happens when the process ends.
    let _ = executor.ended.send(ended).await;
}
