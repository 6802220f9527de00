//! The steps themselves, the same in the child and in this process.

use crate::bindings::describer::DescriberPre;
use crate::capability;
use crate::connector::Connector;
use crate::engine::{self, CodeProfile};
use crate::epoch::EpochThread;
use crate::loaded::Loaded;
use crate::run::Env;
use chrono::DateTime;
use horarium_core::clock::SystemClock;
use horarium_core::control::{RunControl, StopReason};
use horarium_core::memory::MemoryBudget;
use horarium_core::runner::Attempt;
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{DEFAULT_TENANT_ID, Limits, Trigger, json, text};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::Component;
use wasmtime::{Engine, Trap};

/// What `describe` may use.
const DESCRIBE_FUEL: u64 = 20_000_000_000;
const DESCRIBE_TIME: Duration = Duration::from_secs(10);
const DESCRIBE_MEMORY: u64 = 256 << 20;
const DESCRIBE_BYTES: u64 = 1 << 20;

/// An engine to compile with.
pub(super) fn compiler(profile: CodeProfile) -> Result<Engine, String> {
    engine::on_demand(profile).map_err(|error| error.to_string())
}

/// Compiles a checked component.
pub(super) fn compile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    engine.precompile_component(component).map_err(|error| {
        format!(
            "compiling failed: {}",
            text::one_line(&format!("{error:#}"), 500)
        )
    })
}

/// Resolves the imports, which checks their types, and calls `describe` if it is there.
pub(super) async fn describe(
    engine: &Engine,
    artifact: &[u8],
    describes: bool,
) -> Result<Option<Value>, String> {
    let env = env(engine).map_err(|error| text::one_line(&format!("{error:#}"), 500))?;
    // SAFETY: the artifact was made by `compile` a moment ago, in this process.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, artifact) }
        .map_err(|error| text::one_line(&format!("{error:#}"), 500))?;
    Loaded::new(&env.linker, &component).map_err(|error| unresolved(&error))?;
    if !describes {
        return Ok(None);
    }
    let pre = env
        .linker
        .instantiate_pre(&component)
        .map_err(|error| unresolved(&error))?;
    let pre = DescriberPre::new(pre).map_err(|error| unresolved(&error))?;
    let control = Arc::new(RunControl::new(16 << 10, 1));
    let (returned, data) = env.describe(&pre, nobody(), control).await;
    if let Some(stdio) = &data.stdio {
        stdio.finish();
    }
    if data.control.stop_reason() == Some(StopReason::Timeout) {
        return Err(format!("describe did not return within {DESCRIBE_TIME:?}"));
    }
    match returned {
        Some(Ok(answer)) => read_answer(&answer).map(Some),
        Some(Err(_)) if data.limiter.refused() => Err(format!(
            "describe needed more than {DESCRIBE_MEMORY} bytes of memory"
        )),
        Some(Err(error)) if error.downcast_ref() == Some(&Trap::OutOfFuel) => Err(format!(
            "describe used up its {DESCRIBE_FUEL} units of fuel"
        )),
        Some(Err(error)) => {
            let stderr = data
                .stdio
                .as_ref()
                .map(|stdio| stdio.stderr_tail())
                .unwrap_or_default();
            let said = text::one_line(stderr.trim(), 300);
            let root = text::one_line(&error.root_cause().to_string(), 300);
            Err(format!(
                "describe failed: {root}{}{said}",
                if said.is_empty() { "" } else { ": " }
            ))
        }
        None => Err("describe did not return".to_owned()),
    }
}

fn read_answer(answer: &str) -> Result<Value, String> {
    if answer.len() as u64 > DESCRIBE_BYTES {
        return Err(format!(
            "describe answered {} bytes, more than {DESCRIBE_BYTES}",
            answer.len()
        ));
    }
    match json::parse(answer.as_bytes()) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("describe must answer a JSON object".to_owned()),
        Err(problem) => Err(format!("describe answered no acceptable JSON: {problem}")),
    }
}

fn unresolved(error: &wasmtime::Error) -> String {
    let detail = text::one_line(&format!("{error:#}"), 500);
    format!("the component does not fit this host: {detail}")
}

fn env(engine: &Engine) -> wasmtime::Result<Env> {
    let clock = Arc::new(SystemClock::new());
    let connector = Connector::new(None, Vec::new(), &[])
        .map_err(|error| wasmtime::Error::msg(error.to_string()))?;
    Ok(Env {
        linker: capability::linker(engine)?,
        epoch: EpochThread::start(engine, clock.clone())?,
        engine: engine.clone(),
        clock,
        connector: Arc::new(connector),
        budget: MemoryBudget::new(DESCRIBE_MEMORY),
        host_version: Arc::from(""),
    })
}

/// The attempt `describe` is called in: nothing granted, little allowed.
fn nobody() -> Attempt {
    let epoch = DateTime::UNIX_EPOCH;
    let version = PluginVersion {
        tenant_id: DEFAULT_TENANT_ID,
        task_type: "describe".to_owned(),
        digest: String::new(),
        state: VersionState::Compiling,
        error: None,
        size_bytes: 0,
        descriptor: Default::default(),
        grants: Vec::new(),
        limits: Default::default(),
        input: Default::default(),
        activate: false,
        grant_asked: false,
        warnings: Vec::new(),
        created_at: epoch,
    };
    let limits = Limits {
        fuel: DESCRIBE_FUEL,
        memory_bytes: DESCRIBE_MEMORY,
        http_calls: 0,
        hostcall_bytes: 2 * DESCRIBE_BYTES,
        ..Limits::default()
    };
    Attempt {
        task_id: uuid::Uuid::nil(),
        tenant_id: DEFAULT_TENANT_ID,
        config_id: None,
        task_name: String::new(),
        version: Arc::new(version),
        parameters: Arc::from("{}"),
        attempt: 1,
        max_attempts: 1,
        slot: None,
        trigger: Trigger::Manual,
        parent_task_id: None,
        retry_of: None,
        trace: None,
        timeout: DESCRIBE_TIME,
        limits,
        grants: Arc::from([]),
        state: None,
        given: Default::default(),
    }
}
