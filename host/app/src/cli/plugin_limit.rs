//! `plugin limit` and `plugin breaker`: what holds all executions of a plugin together.

use super::failure::{Failure, Outcome};
use super::plugin::path;
use super::render::{Facts, Style, instant_of, text_of};
use super::{Remote, now, words};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// How many run at once, over all hosts; `none` for no bound
    #[arg(long, value_name = "N|none")]
    max: Option<String>,
    /// How many may wait before triggers are refused and slots skipped; `none` for no bound
    #[arg(long, value_name = "N|none")]
    backlog: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BreakerArguments {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// What to do with it
    #[arg(value_enum, default_value = "show")]
    action: BreakerAction,
}

/// What to do with a breaker.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum BreakerAction {
    /// Say whether it is open
    Show,
    /// Close it: what waits starts again
    Reset,
}

impl Arguments {
    /// Whether nothing is to be changed.
    pub(crate) fn only_shows(&self) -> bool {
        self.max.is_none() && self.backlog.is_none()
    }
}

impl BreakerArguments {
    /// Whether nothing is to be changed.
    pub(crate) fn only_shows(&self) -> bool {
        matches!(self.action, BreakerAction::Show)
    }
}

/// A bound as REST takes it.
fn bound(flag: &str, text: &str) -> Result<Value, Failure> {
    match text {
        "none" => Ok(Value::Null),
        number => number.parse::<u32>().map(Value::from).map_err(|_| {
            Failure::refused(format!(
                "{flag} is `{}`; write a whole number, or none",
                horarium_model::text::one_line(number, 40)
            ))
        }),
    }
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let mut bounds = Map::new();
    for (flag, key, text) in [
        ("--max", "max", &arguments.max),
        ("--backlog", "backlog", &arguments.backlog),
    ] {
        if let Some(text) = text {
            bounds.insert(key.into(), bound(flag, text)?);
        }
    }
    let at = path(&arguments.task_type, "");
    let answer = match bounds.is_empty() {
        true => remote.client.get(&at, &Vec::new())?,
        false => {
            let body = json!({ "concurrency": bounds });
            remote.client.patch(&at, "application/json", None, &body)?
        }
    };
    remote.show(&answer, |task_type| {
        let facts = describe(task_type).render(Style::of_stdout());
        match arguments.only_shows() {
            true => facts,
            false => format!(
                "{facts}See what runs and waits: horarium execution list --type {} --state running,available\n",
                arguments.task_type
            ),
        }
    })
}

pub(crate) fn breaker(remote: &Remote, arguments: &BreakerArguments) -> Outcome {
    let name = &arguments.task_type;
    match arguments.action {
        BreakerAction::Show => {
            let answer = remote.client.get(&path(name, ""), &Vec::new())?;
            remote.show(&answer, |task_type| match open(task_type) {
                Some(text) => format!("{text}\n"),
                None => format!("The breaker of {name} is closed.\n"),
            })
        }
        BreakerAction::Reset => {
            let answer = remote
                .client
                .post(&path(name, "/breaker/reset"), &json!({}))?;
            remote.show(&answer, |_| {
                format!(
                    "The breaker of {name} is closed: what waits starts again.\n\
                     See how it goes: horarium execution list --type {name} --follow\n"
                )
            })
        }
    }
}

/// What holds a type, for `plugin show`.
pub(crate) fn describe(task_type: &Value) -> Facts {
    let bounds = &task_type["concurrency"];
    let shown = |key: &str| match bounds[key].as_u64() {
        Some(number) => number.to_string(),
        None => "no bound".to_owned(),
    };
    let mut facts = Facts::default();
    facts
        .add("run at once", shown("max"))
        .add("may wait", shown("backlog"))
        .add(
            "breaker",
            open(task_type).unwrap_or_else(|| "closed".to_owned()),
        );
    facts
}

/// An open breaker in words.
pub(super) fn open(task_type: &Value) -> Option<String> {
    let breaker = task_type.get("breaker").filter(|b| b.is_object())?;
    let name = text_of(task_type, "task_type");
    let opened = instant_of(breaker, "opened_at").map(|at| words::from_now(at, now()));
    let probe = instant_of(breaker, "probe_at").map(|at| words::from_now(at, now()));
    Some(format!(
        "open since {}: {} attempts in a row failed, the last one with {}: {}\nThe next is let through {}. `horarium plugin breaker {name} reset` closes it.",
        opened.unwrap_or_default(),
        breaker["failures"],
        text_of(breaker, "error_kind"),
        text_of(breaker, "error_message"),
        probe.unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers_or_none() {
        assert_eq!(bound("--max", "3").ok(), Some(json!(3)));
        assert_eq!(bound("--max", "none").ok(), Some(Value::Null));
        assert!(bound("--max", "-1").is_err() && bound("--max", "many").is_err());
    }

    #[test]
    fn an_open_breaker_says_why_and_until_when() {
        let mut task_type =
            json!({"task_type": "t", "concurrency": {"max": 3, "backlog": null}, "breaker": null});
        let text = describe(&task_type).render(Style::of_stdout());
        assert!(
            text.contains("closed") && text.contains("no bound"),
            "{text}"
        );
        task_type["breaker"] = json!({"failures": 20, "opened_at": "2026-01-01T00:00:00Z",
            "probe_at": "2026-01-01T00:00:30Z", "pause_seconds": 30, "error_kind": "trap", "error_message": "boom"});
        let text = describe(&task_type).render(Style::of_stdout());
        for part in ["20 attempts", "trap: boom", "plugin breaker t reset"] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
    }
}
