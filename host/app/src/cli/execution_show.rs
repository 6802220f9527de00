//! Executions, attempts and log lines as people read them.

use super::render::{Cell, Facts, Paint, Style, Table, instant_of, pretty, text_of};
use super::words;
use horarium_model::Timestamp;
use horarium_model::execution::State;
use serde_json::Value;

/// Whether an execution has ended.
pub(crate) fn has_ended(execution: &Value) -> bool {
    let state = execution["state"].as_str().unwrap_or_default();
    state.parse::<State>().is_ok_and(State::is_end)
}

/// A list of executions.
pub(crate) fn table(items: &[Value], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "TASK_ID",
        "TASK>",
        "TYPE",
        "STATE",
        "TRIGGER",
        "ATTEMPT",
        "WHEN",
        "TOOK>",
        "SLOT+",
        "CREATED+",
        "PRIORITY+>",
        "HOST+",
        "PARENT+",
        "RETRY OF+",
        "WHAT",
    ]);
    for item in items {
        let state = text_of(item, "state");
        let took = item["duration_seconds"].as_f64().map(words::span);
        let at = |key| {
            instant_of(item, key)
                .map(words::instant)
                .unwrap_or_default()
        };
        table.row(vec![
            text_of(item, "task_id").into(),
            text_of(item, "config_id").into(),
            text_of(item, "task_type").into(),
            Cell::state(&state),
            text_of(item, "trigger").into(),
            attempts(item).into(),
            when(item, now).into(),
            took.unwrap_or_default().into(),
            at("slot").into(),
            at("created_at").into(),
            text_of(item, "priority").into(),
            text_of(item, "host").into(),
            text_of(item, "parent_task_id").into(),
            text_of(item, "retry_of").into(),
            what(item).into(),
        ]);
    }
    table
}

pub(crate) fn attempts(execution: &Value) -> String {
    match (
        execution["attempt"].as_u64(),
        execution["max_attempts"].as_u64(),
    ) {
        (Some(0) | None, _) => String::new(),
        (Some(attempt), Some(most)) => format!("{attempt} of {most}"),
        (Some(attempt), None) => attempt.to_string(),
    }
}

fn when(execution: &Value, now: Timestamp) -> String {
    let state = execution["state"].as_str().unwrap_or_default();
    let key = match state {
        "scheduled" | "available" | "retryable" => "due_at",
        "running" => "started_at",
        "skipped" => "slot",
        _ => "completed_at",
    };
    instant_of(execution, key)
        .map(|at| words::from_now(at, now))
        .unwrap_or_default()
}

/// The one thing to know: the error, why it was skipped, how far it is.
pub(crate) fn what(execution: &Value) -> String {
    let error = text_of(execution, "error_message");
    if !error.is_empty() {
        return said(&text_of(execution, "error_kind"), &error);
    }
    if execution["state"] == "skipped" {
        let count = execution["slot_count"].as_u64().unwrap_or(1);
        let slots = if count == 1 { "slot" } else { "slots" };
        return format!("{}, {count} {slots}", text_of(execution, "skip_reason"));
    }
    match execution["progress"]["fraction"].as_f64() {
        Some(fraction) if execution["state"] == "running" => {
            let message = text_of(&execution["progress"], "message");
            format!("{:.0} % {message}", fraction * 100.0)
        }
        _ => String::new(),
    }
}

/// `kind: message`, where the message does not begin so itself.
pub(crate) fn said(kind: &str, message: &str) -> String {
    if kind.is_empty() || message.starts_with(&format!("{kind}:")) {
        message.to_owned()
    } else {
        format!("{kind}: {message}")
    }
}

/// One execution with the attempts before its last.
pub(crate) fn describe(execution: &Value, attempts_ended: &[Value], now: Timestamp) -> String {
    let style = Style::of_stdout();
    let state = text_of(execution, "state");
    let mut facts = Facts::default();
    let instant = |key: &str| {
        instant_of(execution, key)
            .map(|at| format!("{} ({})", words::instant(at), words::from_now(at, now)))
            .unwrap_or_default()
    };
    facts
        .add("task_id", text_of(execution, "task_id"))
        .add("task", text_of(execution, "config_id"))
        .add("type", text_of(execution, "task_type"))
        .add("state", style.paint(Paint::of_state(&state), &state))
        .add("trigger", text_of(execution, "trigger"))
        .add("attempt", attempts(execution))
        .add("slot", instant("slot"));
    if execution["state"] == "skipped" {
        facts
            .add("last slot", instant("slot_last"))
            .add("skipped", what(execution));
    } else if has_ended(execution) {
        facts.add("ended", instant("completed_at"));
    } else {
        facts
            .add("due", instant("due_at"))
            .add("started", instant("started_at"))
            .add("progress", what(execution));
    }
    facts
        .add("took", took(execution, &execution["duration_seconds"]))
        .add("parameters", json_of(execution, "parameters"))
        .add("result", json_of(execution, "result"));
    let kind = text_of(execution, "error_kind");
    if !kind.is_empty() {
        let message = text_of(execution, "error_message");
        facts.add("error", style.paint(Paint::Bad, &said(&kind, &message)));
    }
    if let Some(traceback) = execution["error_traceback"].as_str() {
        facts.add(
            "traceback",
            horarium_model::text::sanitize(traceback.trim_end(), true),
        );
    }
    facts
        .add("used", usage(&execution["usage"], &execution["limits"]))
        .add("retry of", text_of(execution, "retry_of"))
        .add("host", text_of(execution, "host"))
        .add("version", text_of(execution, "plugin_digest"));
    let mut text = facts.render(style);
    if attempts_ended.len() > 1 {
        text.push('\n');
        text.push_str(&attempt_table(attempts_ended).render(style));
    }
    text
}

/// The wall-clock time of an attempt, of what it was allowed.
fn took(attempt: &Value, seconds: &Value) -> String {
    let Some(seconds) = seconds.as_f64() else {
        return String::new();
    };
    match attempt["timeout_seconds"].as_f64() {
        Some(allowed) => format!("{} / {}", words::span(seconds), words::span(allowed)),
        None => words::span(seconds),
    }
}

/// One measure of an attempt, of what it was allowed.
fn of_allowed(attempt: &Value, key: &str, limit: &str, words: fn(u64) -> String) -> String {
    let used = attempt["usage"][key].as_u64();
    match (used, attempt["limits"][limit].as_u64()) {
        (Some(used), Some(allowed)) => format!("{} / {}", words(used), words(allowed)),
        (Some(used), None) => words(used),
        (None, _) => String::new(),
    }
}

fn json_of(execution: &Value, key: &str) -> String {
    match &execution[key] {
        Value::Null => String::new(),
        value => pretty(value),
    }
}

fn attempt_table(attempts: &[Value]) -> Table {
    let mut table = Table::new(&[
        "ATTEMPT>", "OUTCOME", "STARTED", "TOOK>", "FUEL>", "MEMORY>", "ERROR",
    ]);
    for attempt in attempts {
        let started = instant_of(attempt, "started_at").map(words::instant);
        table.row(vec![
            text_of(attempt, "attempt").into(),
            Cell::state(&text_of(attempt, "outcome")),
            started.unwrap_or_default().into(),
            took(attempt, &attempt["usage"]["duration_seconds"]).into(),
            of_allowed(attempt, "fuel", "fuel", words::count).into(),
            of_allowed(attempt, "memory_peak_bytes", "memory_bytes", words::bytes).into(),
            what(attempt).into(),
        ]);
    }
    table
}

/// The requests an execution made.
pub(crate) fn call_table(calls: &[Value]) -> Table {
    let mut table = Table::new(&[
        "METHOD",
        "URL",
        "STATUS",
        "SENT>",
        "RECEIVED>",
        "TOOK>",
        "ERROR",
    ]);
    for call in calls {
        let bytes = |key: &str| call[key].as_u64().map(words::bytes).unwrap_or_default();
        let status = match call["status"].as_u64() {
            Some(status) if status >= 400 => Cell::painted(Paint::Bad, status.to_string()),
            Some(status) => Cell::painted(Paint::Good, status.to_string()),
            None => Cell::from(""),
        };
        table.row(vec![
            text_of(call, "method").into(),
            text_of(call, "url").into(),
            status,
            bytes("request_bytes").into(),
            bytes("response_bytes").into(),
            took(call, &call["duration_seconds"]).into(),
            text_of(call, "error").into(),
        ]);
    }
    table
}

/// Used of allowed, a line each: `memory 3.1 MiB of 64 MiB`.
pub(crate) fn usage(usage: &Value, limits: &Value) -> String {
    if !usage.is_object() {
        return String::new();
    }
    let mut lines = Vec::new();
    let mut line = |name: &str, key: &str, limit: &str, words: fn(u64) -> String| {
        let Some(used) = usage[key].as_u64() else {
            return;
        };
        match limits[limit].as_u64() {
            Some(allowed) => lines.push(format!("{name} {} / {}", words(used), words(allowed))),
            None if used > 0 => lines.push(format!("{name} {}", words(used))),
            None => {}
        }
    };
    line("fuel", "fuel", "fuel", words::count);
    line("memory", "memory_peak_bytes", "memory_bytes", words::bytes);
    if usage["http_calls"].as_u64().unwrap_or(0) > 0 {
        line("http calls", "http_calls", "http_calls", words::count);
        line(
            "http sent",
            "http_request_bytes",
            "http_request_bytes",
            words::bytes,
        );
        line(
            "http received",
            "http_response_bytes",
            "http_response_bytes",
            words::bytes,
        );
    }
    line("log", "log_bytes", "log_bytes", words::bytes);
    line("log dropped", "log_dropped_bytes", "", words::bytes);
    if usage["state_bytes"].as_u64().unwrap_or(0) > 0 {
        line("state", "state_bytes", "state_bytes", words::bytes);
    }
    let seconds = |key: &str| usage[key].as_f64().map(words::span).unwrap_or_default();
    lines.push(format!("cpu {}", seconds("cpu_seconds")));
    if usage["queued_seconds"]
        .as_f64()
        .is_some_and(|queued| queued > 0.0)
    {
        lines.push(format!("queued {}", seconds("queued_seconds")));
    }
    lines.join("\n")
}

/// One line of a log.
pub(crate) fn log_line(line: &Value, style: Style) -> String {
    let level = text_of(line, "level");
    let paint = match level.as_str() {
        "error" => Paint::Bad,
        "warn" => Paint::Warning,
        "info" => Paint::Plain,
        _ => Paint::Dim,
    };
    let at = instant_of(line, "at")
        .map(|at| at.format("%H:%M:%S%.3f").to_string())
        .unwrap_or_default();
    let source = match line["source"].as_str() {
        None | Some("log") => String::new(),
        Some(source) => format!("[{}] ", horarium_model::text::sanitize(source, false)),
    };
    let mut text = format!(
        "{} {} {source}{}",
        style.paint(Paint::Dim, &at),
        style.paint(paint, &format!("{level:5}")),
        style.paint(paint, &text_of(line, "message")),
    );
    for (key, value) in line["fields"].as_object().into_iter().flatten() {
        let field = horarium_model::text::sanitize(&format!(" {key}={value}"), false);
        text.push_str(&style.paint(Paint::Dim, &field));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:10Z".parse().expect("an instant")
    }

    #[test]
    fn a_list_says_when_how_long_and_why() {
        let items = [
            json!({"task_id": "u1", "config_id": 1, "task_type": "t", "state": "failed", "trigger": "schedule",
                "attempt": 2, "max_attempts": 4, "completed_at": "2026-01-01T00:00:00Z", "duration_seconds": 0.045,
                "error_kind": "timeout", "error_message": "it took too long"}),
            json!({"task_id": "u2", "state": "skipped", "skip_reason": "overlap", "slot_count": 3,
                "slot": "2026-01-01T00:00:05Z"}),
            json!({"task_id": "u3", "state": "running", "progress": {"fraction": 0.5, "message": "half"}}),
        ];
        let text = table(&items, now()).render(Style::of_stdout());
        for part in [
            "2 of 4",
            "10 s ago",
            "45 ms",
            "timeout: it took too long",
            "overlap, 3 slots",
            "50 % half",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        assert!(has_ended(&items[0]) && has_ended(&items[1]) && !has_ended(&items[2]));
    }

    #[test]
    fn use_is_shown_against_what_is_allowed() {
        let used = json!({"fuel": 1_234_567, "memory_peak_bytes": 2 << 20, "log_bytes": 0, "http_calls": 0});
        let text = usage(
            &used,
            &json!({"fuel": 1_000_000_000_u64, "memory_bytes": 64 << 20}),
        );
        assert!(text.contains("fuel 1 234 567 / 1 000 000 000"), "{text}");
        assert!(text.contains("memory 2 MiB / 64 MiB"), "{text}");
        assert!(!text.contains("http") && usage(&Value::Null, &Value::Null).is_empty());
    }

    #[test]
    fn a_log_line_has_time_level_source_and_fields() {
        let line = json!({"at": "2026-01-01T00:00:00.5Z", "level": "warn", "source": "stderr",
            "message": "m", "fields": {"a": 1}});
        assert_eq!(
            log_line(&line, Style::of_stdout()),
            "00:00:00.500 warn  [stderr] m a=1"
        );
    }
}
