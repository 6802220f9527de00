//! How a run ended, in the words of the contract.

use crate::bindings::plugin::horarium::task::types::{RetryAdvice, TaskError};
use crate::capability::http::FIELD_BYTES;
use crate::capability::http_held::HeldTooMuch;
use crate::capability::stdio::ResultTooLarge;
use crate::data::RunData;
use crate::limiter::HostMemoryEmpty;
use crate::run::{Ended, Returned};
use horarium_core::control::StopReason;
use horarium_core::runner::{AttemptEnd, Failure};
use horarium_model::execution::{LogLevel, LogSource};
use horarium_model::{ErrorKind, json, text};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace, WasmtimeBug};
use wasmtime_wasi::I32Exit;

/// Longest error message, in characters.
const MESSAGE_CHARS: usize = 2000;
/// Longest backtrace, in bytes.
const BACKTRACE_BYTES: usize = 16 << 10;
/// Largest `details` of a task error that are kept.
const DETAILS_BYTES: usize = 64 << 10;
/// Exit code of a command that asks to be tried again (EX_TEMPFAIL).
const EXIT_RETRYABLE: i32 = 75;

/// A guest's end: its result before the JSON door, or how it failed.
pub(crate) enum Classified {
    /// The text `run` returned.
    Json(String),
    /// What a command printed.
    Printed(Vec<u8>),
    /// Anything else.
    End(AttemptEnd),
}

/// Classifies, in the order that keeps one cause from hiding another.
pub(crate) fn classify(ended: &mut Ended) -> Classified {
    if let Some(stdio) = &ended.data.stdio {
        stdio.finish();
    }
    let stop = ended.data.control.stop_reason();
    let error = match ended.returned.take() {
        Some(Ok(Returned::Task(Ok(result)))) => return Classified::Json(result),
        Some(Ok(Returned::Command(Ok(())))) => return printed(&ended.data),
        Some(Ok(_)) if stop.is_some() => None,
        Some(Ok(Returned::Task(Err(error)))) => {
            return failed(&ended.data, task_error(&ended.data, error));
        }
        Some(Ok(Returned::Command(Err(())))) => return exited(&ended.data, 1),
        Some(Err(error)) => Some(error),
        None => None,
    };
    match (stop, error) {
        (Some(StopReason::Timeout), error) => {
            let seconds = ended.data.attempt.timeout.as_secs_f64();
            let message = format!("timeout: still running after {seconds} s");
            failed(
                &ended.data,
                failure(
                    ErrorKind::Timeout,
                    message,
                    traceback(&ended.data, error.as_ref()),
                ),
            )
        }
        (Some(reason), _) => Classified::End(AttemptEnd::Stopped(reason)),
        (None, Some(error)) => trapped(&ended.data, ended.begun.is_some(), &error),
        (None, None) => failed(
            &ended.data,
            Failure::new(ErrorKind::HostError, "the run was dropped without a reason"),
        ),
    }
}

fn trapped(data: &RunData, instantiated: bool, error: &wasmtime::Error) -> Classified {
    if data.limiter.refused() {
        let message = format!(
            "memory_limit: the plugin needed more than memory_bytes allows ({} bytes; {} in use at most)",
            data.limiter.limit(),
            data.limiter.peak()
        );
        return failed(
            data,
            failure(
                ErrorKind::MemoryLimit,
                message,
                traceback(data, Some(error)),
            ),
        );
    }
    if error.is::<HostMemoryEmpty>() || error.is::<PoolConcurrencyLimitError>() {
        let reason = text::one_line(&format!("host_memory: {}", root(error)), 300);
        return Classified::End(AttemptEnd::NoMemory(reason));
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return exited(data, exit.0);
    }
    let (kind, message) = explain(data, instantiated, error);
    failed(data, failure(kind, message, traceback(data, Some(error))))
}

fn explain(data: &RunData, instantiated: bool, error: &wasmtime::Error) -> (ErrorKind, String) {
    if error.is::<ResultTooLarge>() {
        let allowed = data.attempt.limits.result_bytes;
        let message = format!("output_limit: stdout has more than result_bytes allows ({allowed})");
        return (ErrorKind::OutputLimit, message);
    }
    if result_too_large(data, error) {
        let allowed = data.attempt.limits.result_bytes;
        let message =
            format!("output_limit: what run returned is more than result_bytes allows ({allowed})");
        return (ErrorKind::OutputLimit, message);
    }
    if let Some(limit) = host_limit(data, error) {
        return (ErrorKind::HostLimit, format!("host_limit: {limit}"));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            let fuel = data.attempt.limits.fuel;
            (
                ErrorKind::OutOfFuel,
                format!("out_of_fuel: the budget of {fuel} units is used up"),
            )
        }
        // Nothing but the epoch interrupts, and that sets a reason first.
        Some(Trap::Interrupt) => (ErrorKind::Timeout, "timeout: interrupted".to_owned()),
        Some(trap) => {
            let message = panic_message(data).unwrap_or_else(|| {
                let words = trap.to_string();
                format!(
                    "trap: {}",
                    words.strip_prefix("wasm trap: ").unwrap_or(&words)
                )
            });
            (ErrorKind::Trap, message)
        }
        None if error.is::<WasmtimeBug>() => {
            (ErrorKind::HostError, format!("engine: {}", root(error)))
        }
        None if !instantiated => (
            ErrorKind::LoadFailed,
            format!("instantiation: {}", root(error)),
        ),
        None => (ErrorKind::Trap, format!("trap: {}", root(error))),
    }
}

/// How the engine says that one call copied more than `hostcall_bytes`.
const COPIED_TOO_MUCH: &str = "fuel allocated for hostcalls";

/// Whether the engine would not even copy the result out: what `run` returns comes without a backtrace,
/// since no guest code is on the stack any more.
fn result_too_large(data: &RunData, error: &wasmtime::Error) -> bool {
    let limits = &data.attempt.limits;
    limits.result_bytes <= limits.hostcall_bytes
        && error.downcast_ref::<WasmBacktrace>().is_none()
        && root(error).contains(COPIED_TOO_MUCH)
}

/// The limits of the host's own things. Most of these errors have no public type; their texts are
/// matched here alone, and tests against the real engine hold them.
fn host_limit(data: &RunData, error: &wasmtime::Error) -> Option<String> {
    let limits = &data.attempt.limits;
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(format!("more than {} handles", limits.handles));
    }
    if let Some(held) = error.downcast_ref::<HeldTooMuch>() {
        return Some(held.to_string());
    }
    let root = root(error);
    if root.contains(COPIED_TOO_MUCH) {
        return Some(format!(
            "more than {} hostcall_bytes in one call",
            limits.hostcall_bytes
        ));
    }
    if root.contains("total size of fields exceeds limit") {
        return Some(format!(
            "more than {FIELD_BYTES} bytes of headers in one message"
        ));
    }
    if root.ends_with("handle limit exceeded") {
        return Some(format!("more than {} handles", limits.handles));
    }
    if root.starts_with("requested len") && root.contains("exceeds limit") {
        return Some(format!(
            "more than {} random_bytes in one call",
            limits.random_bytes
        ));
    }
    let counts = [
        ("instance", "instances", limits.instances),
        ("memory", "memories", limits.memories),
        ("table", "tables", limits.tables),
    ];
    counts.into_iter().find_map(|(word, name, allowed)| {
        root.starts_with(&format!("resource limit exceeded: {word} count"))
            .then(|| format!("more than {allowed} {name}"))
    })
}

fn printed(data: &RunData) -> Classified {
    let printed = data.stdio.as_ref().map(|stdio| stdio.take_result());
    Classified::Printed(printed.unwrap_or_default())
}

/// A guest that called exit. Inside `run` that is no way to return, whatever the code.
fn exited(data: &RunData, code: i32) -> Classified {
    if data.program.is_none() {
        let message = panic_message(data)
            .unwrap_or_else(|| format!("exit: the plugin called exit({code}) inside run"));
        return failed(
            data,
            failure(ErrorKind::Exit, message, traceback(data, None)),
        );
    }
    let kind = match code {
        0 => return printed(data),
        EXIT_RETRYABLE => ErrorKind::Retryable,
        _ => ErrorKind::Exit,
    };
    let stderr = data.stdio.as_ref().map(|stdio| stdio.stderr_tail());
    let last_line = stderr
        .as_deref()
        .and_then(|tail| tail.lines().map(str::trim).rfind(|line| !line.is_empty()));
    let message = last_line.map_or_else(|| format!("exit code {code}"), str::to_owned);
    failed(data, failure(kind, message, traceback(data, None)))
}

fn task_error(data: &RunData, error: TaskError) -> Failure {
    let (kind, not_before) = match error.retry {
        RetryAdvice::ByPolicy => (ErrorKind::Retryable, None),
        RetryAdvice::Never => (ErrorKind::Permanent, None),
        RetryAdvice::NotBefore(ms) => (ErrorKind::Retryable, Some(Duration::from_millis(ms))),
    };
    let message = match text::one_line(&error.message, MESSAGE_CHARS) {
        empty if empty.is_empty() => "the plugin failed without a message".to_owned(),
        message => message,
    };
    Failure {
        kind,
        message,
        traceback: traceback(data, None),
        code: error.code.map(|code| text::one_line(&code, 100)),
        details: error
            .details
            .and_then(|details| read_details(data, &details)),
        not_before,
    }
}

/// Details that are no JSON object are dropped with a remark in the log.
fn read_details(data: &RunData, details: &str) -> Option<Value> {
    let problem = if details.len() > DETAILS_BYTES {
        format!("{} bytes are more than {DETAILS_BYTES}", details.len())
    } else {
        match json::parse(details.as_bytes()) {
            Ok(value) if value.is_object() => return Some(value),
            Ok(_) => "not a JSON object".to_owned(),
            Err(problem) => problem.to_string(),
        }
    };
    let message = format!("details of the error are dropped: {problem}");
    let log = &data.control.log;
    log.write(
        data.clock.now(),
        LogLevel::Warn,
        LogSource::Host,
        &message,
        None,
    );
    None
}

fn failure(kind: ErrorKind, message: String, traceback: Option<String>) -> Failure {
    Failure {
        traceback,
        ..Failure::new(kind, text::one_line(&message, MESSAGE_CHARS))
    }
}

/// Ends with a failure; what the host denied the run is part of why.
fn failed(data: &RunData, mut failure: Failure) -> Classified {
    if let Some(denial) = data.denials.last()
        && !failure.message.contains(&denial)
    {
        failure.message = format!("{}; {denial}", failure.message);
    }
    Classified::End(AttemptEnd::Failed(failure))
}

/// The guest's backtrace and the end of its stderr.
fn traceback(data: &RunData, error: Option<&wasmtime::Error>) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(backtrace) = error.and_then(|error| error.downcast_ref::<WasmBacktrace>()) {
        parts.push(text::sanitize(&bounded(backtrace), true));
    }
    let stderr = data.stdio.as_ref().map(|stdio| stdio.stderr_tail());
    if let Some(stderr) = stderr.filter(|stderr| !stderr.trim().is_empty()) {
        parts.push(format!("stderr:\n{}", stderr.trim_end()));
    }
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The backtrace as text, cut where it gets long. The names in it are the guest's: demangling a hostile one
/// can go on for ever, so it is stopped by a writer that has enough.
fn bounded(backtrace: &WasmBacktrace) -> String {
    let mut out = Bounded(String::new());
    if write!(out, "{backtrace}").is_err() {
        out.0.push('…');
    }
    out.0
}

struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = BACKTRACE_BYTES.saturating_sub(self.0.len());
        let cut = text.floor_char_boundary(room);
        self.0.push_str(&text[..cut]);
        if cut < text.len() {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// What a Rust panic wrote to stderr, as one line: `panicked at src/lib.rs:3:5: message`.
fn panic_message(data: &RunData) -> Option<String> {
    let stderr = data.stdio.as_ref()?.stderr_tail();
    let lines: Vec<&str> = stderr.lines().collect();
    let at = lines
        .iter()
        .rposition(|line| line.contains("panicked at "))?;
    let line = lines[at];
    let place = &line[line.find("panicked at ")?..];
    let message = lines
        .get(at + 1)
        .filter(|next| place.ends_with(':') && !next.starts_with("note: "))
        .copied()
        .unwrap_or_default();
    Some(format!("{place} {message}").trim_end().to_owned())
}

fn root(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// A command's stdout as a result: JSON if it is JSON as a whole, else text, else base64; null if empty.
pub(crate) fn printed_value(bytes: Vec<u8>) -> Value {
    use base64::Engine as _;
    if bytes.is_empty() {
        return Value::Null;
    }
    if let Ok(value) = json::parse(&bytes) {
        return value;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Value::String(text.replace('\0', "\u{FFFD}")),
        Err(error) => {
            json!({"base64": base64::engine::general_purpose::STANDARD.encode(error.as_bytes())})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdout_is_json_or_text_or_bytes() {
        assert_eq!(printed_value(vec![]), Value::Null);
        assert_eq!(printed_value(b" {\"a\": 1}\n".to_vec()), json!({"a": 1}));
        assert_eq!(printed_value(b"hi\n".to_vec()), json!("hi\n"));
        assert_eq!(
            printed_value(b"{\"a\":1,\"a\":2}".to_vec()),
            json!("{\"a\":1,\"a\":2}")
        );
        assert_eq!(printed_value(b"a\0b".to_vec()), json!("a\u{FFFD}b"));
        assert_eq!(printed_value(vec![0xff, 0]), json!({"base64": "/wA="}));
    }
}
