//! A recorded attempt as OTLP spans: the run, and below it each HTTP request it made; its log lines are events.

use super::otlp::{attribute, text, whole};
use horarium_core::observe::RecordedRun;
use horarium_core::trace::RunTrace;
use horarium_model::execution::{HttpCall, LogLine};
use horarium_model::schedule::wire;
use horarium_model::{ErrorKind, State, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// Most log lines told as events of a run; the rest is counted.
const MOST_EVENTS: usize = 64;
/// Most bytes of their messages: what waits for a collector is counted in spans.
const MOST_EVENT_BYTES: usize = 8 << 10;
/// Most requests told as spans of a run.
const MOST_CALLS: usize = 256;
/// Kinds of spans, and states of their status, by OTLP's numbers.
const CLIENT: u8 = 3;
const CONSUMER: u8 = 5;
const OK: u8 = 1;
const ERROR: u8 = 2;
/// The flag of a recorded span.
const SAMPLED: u32 = 1;

/// The spans of an attempt that stands at `state` now.
pub(super) fn of(run: &RecordedRun<'_>, trace: &RunTrace, state: State) -> Vec<Value> {
    let calls = run.calls.iter().take(MOST_CALLS);
    let mut spans: Vec<Value> = calls
        .map(|call| request(call, trace, run.record.completed_at))
        .collect();
    spans.push(attempt(run, trace, state));
    spans
}

fn nanos(at: Timestamp) -> String {
    at.timestamp_nanos_opt().unwrap_or_default().to_string()
}

fn later(from: Timestamp, seconds: f64) -> Timestamp {
    from + Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn span_id(id: u64) -> String {
    format!("{id:016x}")
}

/// What all spans of a trace have.
fn span(trace: &RunTrace, id: u64, parent: Option<u64>) -> Value {
    let mut span = json!({
        "traceId": format!("{:032x}", trace.trace_id),
        "spanId": span_id(id),
        "flags": SAMPLED,
    });
    if let Some(parent) = parent {
        span["parentSpanId"] = span_id(parent).into();
    }
    if let Some(state) = trace.outgoing(0).state {
        span["traceState"] = state.into();
    }
    span
}

fn attempt(run: &RecordedRun<'_>, trace: &RunTrace, state: State) -> Value {
    let (claimed, record) = (run.claimed, run.record);
    let mut attributes = vec![
        attribute("horarium.task_id", text(claimed.task_id.to_string())),
        attribute("horarium.task_type", text(&*claimed.task_type)),
        attribute("horarium.tenant_id", whole(claimed.tenant_id)),
        attribute("horarium.trigger", text(claimed.trigger.as_str())),
        attribute("horarium.attempt", whole(record.attempt)),
        attribute("horarium.max_attempts", whole(claimed.max_attempts)),
        attribute("horarium.state", text(state.as_str())),
    ];
    for (key, value) in [
        ("horarium.slot", claimed.slot.map(wire)),
        ("horarium.plugin_digest", record.plugin_digest.clone()),
        (
            "horarium.parent_task_id",
            claimed.parent_task_id.map(|id| id.to_string()),
        ),
        (
            "horarium.retry_of",
            claimed.retry_of.map(|id| id.to_string()),
        ),
        (
            "error.type",
            record.error_kind.map(|kind| kind.as_str().to_owned()),
        ),
    ] {
        attributes.extend(value.map(|value| attribute(key, text(value))));
    }
    let config = claimed.config_id.map(whole);
    attributes.extend(config.map(|id| attribute("horarium.config_id", id)));
    if let Some(usage) = &record.usage {
        let cpu = json!({"doubleValue": usage.cpu_seconds});
        let queued = json!({"doubleValue": usage.queued_seconds});
        attributes.extend([
            attribute("horarium.fuel", whole(usage.fuel)),
            attribute("horarium.memory_peak_bytes", whole(usage.memory_peak_bytes)),
            attribute("horarium.cpu_seconds", cpu),
            attribute("horarium.queued_seconds", queued),
        ]);
    }
    let events: Vec<Value> = told(run.logs).map(event).collect();
    let mut span = span(trace, trace.span_id, trace.parent);
    span["name"] = format!("run {}", claimed.task_type).into();
    span["kind"] = CONSUMER.into();
    span["startTimeUnixNano"] = nanos(record.started_at).into();
    span["endTimeUnixNano"] = nanos(record.completed_at).into();
    span["attributes"] = attributes.into();
    span["droppedEventsCount"] = (run.logs.len() - events.len()).into();
    span["events"] = events.into();
    span["status"] = status(record.error_kind, record.error_message.as_deref());
    span
}

fn status(kind: Option<ErrorKind>, message: Option<&str>) -> Value {
    match kind {
        None => json!({"code": OK}),
        Some(kind) => json!({"code": ERROR, "message": message.unwrap_or(kind.as_str())}),
    }
}

/// The first lines, as far as both bounds let them.
fn told(lines: &[LogLine]) -> impl Iterator<Item = &LogLine> {
    let mut bytes = 0;
    lines.iter().take(MOST_EVENTS).take_while(move |line| {
        bytes += line.message.len();
        bytes <= MOST_EVENT_BYTES
    })
}

fn event(line: &LogLine) -> Value {
    json!({
        "timeUnixNano": nanos(line.at),
        "name": "log",
        "attributes": [
            attribute("log.severity", text(line.level.as_str())),
            attribute("log.source", text(line.source.as_str())),
            attribute("log.message", text(&*line.message)),
        ],
    })
}

/// A request of a run that ended at `run_end`. Its length is of another clock, and no child outlasts its parent.
fn request(call: &HttpCall, trace: &RunTrace, run_end: Timestamp) -> Value {
    let mut attributes = vec![
        attribute("http.request.method", text(&*call.method)),
        attribute("url.full", text(&*call.url)),
        attribute("http.request.body.size", whole(call.request_bytes)),
        attribute("http.response.body.size", whole(call.response_bytes)),
    ];
    let answered = call.status.map(whole);
    attributes.extend(answered.map(|status| attribute("http.response.status_code", status)));
    let failed = match (&call.error, call.status) {
        (Some(error), _) => Some(error.clone()),
        (None, Some(status)) if status >= 400 => Some(status.to_string()),
        _ => None,
    };
    let end = later(call.at, call.duration_seconds.unwrap_or_default()).min(run_end.max(call.at));
    let mut span = span(trace, trace.call_span(call.call), Some(trace.span_id));
    span["name"] = call.method.clone().into();
    span["kind"] = CLIENT.into();
    span["startTimeUnixNano"] = nanos(call.at).into();
    span["endTimeUnixNano"] = nanos(end).into();
    span["attributes"] = attributes.into();
    span["status"] = match failed {
        Some(message) => json!({"code": ERROR, "message": message}),
        None => json!({}),
    };
    span
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_model::execution::{LogLevel, LogSource};

    #[test]
    fn no_run_tells_more_than_so_many_lines_and_bytes() {
        let lines = |count: usize, length: usize| -> Vec<LogLine> {
            let line = LogLine {
                line: 0,
                attempt: 1,
                fields: None,
                at: Timestamp::UNIX_EPOCH,
                level: LogLevel::Info,
                source: LogSource::Log,
                message: "x".repeat(length),
            };
            vec![line; count]
        };
        assert_eq!(told(&lines(100, 1)).count(), MOST_EVENTS);
        assert_eq!(told(&lines(100, 4096)).count(), 2);
        assert_eq!(told(&lines(3, 9000)).count(), 0);
    }
}
