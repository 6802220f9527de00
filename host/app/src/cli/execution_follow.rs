//! `execution list --follow`: a line for whatever happens to executions, as it happens.

use super::execution::FilterArguments;
use super::execution_show::{attempts, what};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Paint, Style, instant_of, text_of};
use super::watch::ends_by_interrupt;
use super::{Remote, is_read_no_more, print, words};
use crate::client::Listener;
use horarium_core::service::events::EVENT_KINDS;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Duration;

/// Executions whose last line is remembered, so that it is not printed again.
const REMEMBERED: usize = 10_000;
/// Longest of what is said about one, where nothing was asked to be whole.
const MAX_WHAT: usize = 80;

/// Follows until it is interrupted, the reader of stdout goes away, or the token is not good any more.
pub(crate) fn run(remote: &Remote, filter: &FilterArguments) -> Outcome {
    ends_by_interrupt()?;
    let kinds = EVENT_KINDS.iter().copied();
    let of_executions: Vec<&str> = kinds
        .filter(|kind| kind.starts_with("execution."))
        .collect();
    let mut query = vec![("kind", of_executions.join(","))];
    query.extend(filter.pairs());
    let mut printer = Printer {
        json: remote.json,
        told: Told::default(),
        away: None,
    };
    remote.client.follow(&query, &mut printer)?;
    Ok(Exit::Done)
}

/// Prints what is heard.
struct Printer {
    json: bool,
    told: Told,
    /// The server is away; none before it was there.
    away: Option<bool>,
}

impl Printer {
    /// What only a person wants to know.
    fn note(&self, text: &str) {
        if !self.json && std::io::stderr().is_terminal() {
            let style = Style::of_stderr();
            eprintln!("{}", style.paint(Paint::Dim, text));
        }
    }
}

impl Listener for Printer {
    fn hear(&mut self, _kind: &str, data: Value) -> Result<ControlFlow<()>, Failure> {
        if self.told.is_news(&data) {
            match self.json {
                true => print(&format!("{data}\n"))?,
                false => print(&line(&data, Style::of_stdout()))?,
            }
        }
        Ok(match is_read_no_more() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    fn connected(&mut self) {
        match self.away.replace(false) {
            None => self.note("Following what happens to executions; Ctrl-C ends it."),
            Some(true) => self.note("The server is back."),
            Some(false) => {}
        }
    }

    fn lost(&mut self, why: &Failure, pause: Duration) {
        if self.away.replace(true) != Some(true) {
            self.note(&format!("{}\nTrying again.", why.render(false)));
        }
        std::thread::sleep(pause);
    }
}

/// How each execution stood when it was printed last. Events tell of one as it stands, so that several may tell the
/// same, and after a lost connection some come again.
#[derive(Debug, Default)]
struct Told {
    last: HashMap<String, Value>,
    order: VecDeque<String>,
}

impl Told {
    fn is_news(&mut self, data: &Value) -> bool {
        let id = text_of(data, "task_id");
        let stands = json!([
            data["state"],
            data["attempt"],
            data["started_at"],
            data["due_at"]
        ]);
        match self.last.insert(id.clone(), stands.clone()) {
            Some(before) => before != stands,
            None => {
                self.order.push_back(id);
                if self.order.len() > REMEMBERED
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.last.remove(&oldest);
                }
                true
            }
        }
    }
}

/// One line: when, how it stands, which, and the one thing to know.
fn line(data: &Value, style: Style) -> String {
    let state = text_of(data, "state");
    let keys: &[&str] = match state.as_str() {
        "scheduled" | "available" => &["created_at"],
        "running" => &["started_at"],
        _ => &["completed_at", "slot", "created_at"],
    };
    let at = keys.iter().find_map(|key| instant_of(data, key));
    let at = at.map(words::instant).unwrap_or_default();
    let mut parts = vec![
        style.paint(Paint::Dim, &format!("{at:20}")),
        style.paint(Paint::of_state(&state), &format!("{state:9}")),
        text_of(data, "task_id"),
        text_of(data, "task_type"),
    ];
    let task = text_of(data, "config_id");
    if !task.is_empty() {
        parts.push(format!("task {task}"));
    }
    let attempt = attempts(data);
    if data["attempt"].as_u64() > Some(1) {
        parts.push(format!("attempt {attempt}"));
    }
    if let Some(seconds) = data["duration_seconds"].as_f64()
        && state != "running"
    {
        parts.push(words::span(seconds));
    }
    let what = match state.as_str() {
        "skipped" => text_of(data, "skip_reason"),
        _ => what(data),
    };
    if !what.is_empty() {
        parts.push(style.whole_or_cut(&what, MAX_WHAT));
    }
    format!("{}\n", parts.join("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_printed_once_and_every_change_of_it() {
        let mut told = Told::default();
        let stands = |state: &str, attempt: u32| json!({"task_id": "u1", "state": state, "attempt": attempt});
        for (state, attempt, news) in [
            ("available", 0, true),
            ("running", 1, true),
            ("running", 1, false),
            ("retryable", 1, true),
            ("running", 2, true),
            ("succeeded", 2, true),
            ("succeeded", 2, false),
        ] {
            assert_eq!(
                told.is_news(&stands(state, attempt)),
                news,
                "{state} {attempt}"
            );
        }
        for n in 0..REMEMBERED + 5 {
            assert!(told.is_news(&json!({"task_id": format!("v{n}"), "state": "running"})));
        }
        assert_eq!(
            (told.last.len(), told.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }

    #[test]
    fn a_line_says_when_how_which_and_why() {
        let failed = json!({"task_id": "u1", "config_id": 7, "task_type": "hello", "state": "failed", "attempt": 2,
            "max_attempts": 4, "completed_at": "2026-01-01T00:00:10Z", "duration_seconds": 0.045,
            "error_kind": "timeout", "error_message": "x".repeat(200)});
        let text = line(&failed, Style::of_stdout());
        let start = "2026-01-01 00:00:10Z  failed     u1  hello  task 7  attempt 2 of 4  45 ms  timeout: xxx";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.ends_with("\u{2026}\n") && text.chars().count() < 180,
            "{text}"
        );
        let waits = json!({"task_id": "u2", "task_type": "hello", "state": "available", "attempt": 0,
            "created_at": "2026-01-01T00:00:10Z"});
        let text = line(&waits, Style::of_stdout());
        assert_eq!(text, "2026-01-01 00:00:10Z  available  u2  hello\n");
    }
}
