//! What a WASI program gets: arguments, environment and standard input out of its parameters
//! ([`ProgramInput`](horarium_model::program::ProgramInput)), and what the host says of the execution.

use super::stdio::Stdin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use horarium_core::runner::Attempt;
use horarium_model::{Invalid, Problem, json};
use serde_json::Value;
use wasmtime_wasi::WasiCtxBuilder;

/// What a program is started with.
pub(crate) struct Program {
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Bytes,
}

impl Program {
    /// Takes it from the attempt's parameters.
    ///
    /// # Errors
    /// Values of the wrong kind, by pointer.
    pub(crate) fn of(attempt: &Attempt) -> Result<Self, Invalid> {
        let input = &attempt.version.input;
        if input.is_default() {
            return Ok(Self {
                args: Vec::new(),
                env: Vec::new(),
                stdin: Bytes::copy_from_slice(attempt.parameters.as_bytes()),
            });
        }
        let parameters = json::parse(attempt.parameters.as_bytes())?;
        let started = input.of(&parameters)?;
        let pointer = input.stdin_from.as_deref().unwrap_or_default();
        Ok(Self {
            stdin: started
                .stdin
                .map(|value| bytes_of(value, pointer))
                .transpose()?
                .unwrap_or_default(),
            args: started.args,
            env: started.env,
        })
    }

    pub(super) fn start(&self, attempt: &Attempt, builder: &mut WasiCtxBuilder) {
        builder
            .arg(&attempt.version.task_type)
            .args(&self.args)
            .envs(&self.env)
            .stdin(Stdin::new(self.stdin.clone()));
        for (name, value) in facts(attempt) {
            builder.env(name, value);
        }
    }
}

/// Text as it is, `{"base64": …}` decoded (the form in which bytes are a result), all else as JSON.
fn bytes_of(value: &Value, pointer: &str) -> Result<Bytes, Invalid> {
    if let Value::String(text) = value {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    if let Some(Value::String(encoded)) = value.get("base64")
        && value.as_object().is_some_and(|map| map.len() == 1)
    {
        return STANDARD.decode(encoded).map(Bytes::from).map_err(|error| {
            Invalid(vec![Problem::at(
                format!("{pointer}/base64"),
                format!("is no base64: {error}"),
            )])
        });
    }
    Ok(Bytes::from(value.to_string()))
}

/// What a program learns about its execution.
fn facts(attempt: &Attempt) -> Vec<(&'static str, String)> {
    let mut env = vec![
        ("HORARIUM_TASK_ID", attempt.task_id.to_string()),
        ("HORARIUM_ATTEMPT", attempt.attempt.to_string()),
    ];
    if let Some(slot) = attempt.slot {
        let slot = slot.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        env.push(("HORARIUM_SLOT", slot));
    }
    if let Some(config_id) = attempt.config_id {
        env.push(("HORARIUM_CONFIG_ID", config_id.to_string()));
    }
    env
}
