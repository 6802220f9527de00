//! `doctor`: is this machine fit, and is the server there? Each check is a line, with what to do.

use super::failure::{Exit, Failure, Outcome};
use super::render::{Paint, Style};
use super::serve::settings;
use super::{Global, doctor_host as host, doctor_server as server, print};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server's settings, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// It works, but could be better.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) status: Status,
    /// What was found, one line.
    pub(crate) detail: String,
    /// What to do about it; none when it is fine.
    pub(crate) advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(crate) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Ok,
            detail: detail.into(),
            advice: None,
        }
    }

    /// It works, but could be better.
    pub(crate) fn warn(
        check: &'static str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Warn,
            advice: Some(advice.into()),
            ..Self::ok(check, detail)
        }
    }

    /// It does not work.
    pub(crate) fn fail(
        check: &'static str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Fail,
            advice: Some(advice.into()),
            ..Self::ok(check, detail)
        }
    }

    fn document(&self) -> Value {
        json!({
            "check": self.check,
            "status": self.status.as_str(),
            "detail": self.detail,
            "advice": self.advice,
        })
    }

    fn line(&self, style: Style) -> String {
        let word = self.status.as_str();
        let word = style.paint(Paint::of_state(word), &format!("{word:4}"));
        let detail = horarium_model::text::one_line(&self.detail, 200);
        let mut line = format!("{word}  {:16} {detail}\n", self.check);
        if let Some(advice) = &self.advice {
            line.push_str(&format!("      {:16} -> {advice}\n", ""));
        }
        line
    }
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let settings = settings(global, arguments.config.as_deref(), Vec::new())?;
    let mut findings = host::directory(&settings);
    findings.extend([
        host::token(&settings),
        host::database(&settings),
        host::disk(&settings),
        host::clock(),
        host::address_space(),
        host::open_files(&settings),
    ]);
    findings.extend(super::doctor_postgres::findings(&settings));
    findings.extend(host::engine(&settings));
    findings.extend(server::findings(global));
    report(global, &findings)
}

fn report(global: &Global, findings: &[Finding]) -> Outcome {
    if global.json {
        let items: Vec<Value> = findings.iter().map(Finding::document).collect();
        print(&format!(
            "{}\n",
            json!({"items": items, "next_cursor": null})
        ))?;
    } else {
        let style = Style::of_stdout();
        let lines: Vec<String> = findings.iter().map(|finding| finding.line(style)).collect();
        print(&lines.concat())?;
    }
    Ok(verdict(findings))
}

/// Warnings alone are no reason to fail.
fn verdict(findings: &[Finding]) -> Exit {
    let failed = findings
        .iter()
        .any(|finding| finding.status == Status::Fail);
    if failed { Exit::Failed } else { Exit::Done }
}

/// A failure as one line of a finding.
pub(crate) fn words(failure: &Failure) -> String {
    let text = failure.render(false);
    let text = text.lines().next().unwrap_or_default();
    text.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_fail_and_advice_follows_its_line() {
        let warn = Finding::warn("disk", "slow", "buy a faster one");
        assert_eq!(verdict(&[Finding::ok("a", "b"), warn.clone()]), Exit::Done);
        let fail = Finding::fail("database", "damaged", "restore it");
        assert_eq!(verdict(&[warn.clone(), fail.clone()]), Exit::Failed);
        assert_eq!(
            fail.document(),
            json!({"check": "database", "status": "fail", "detail": "damaged", "advice": "restore it"})
        );
        let text = warn.line(Style::of_stdout());
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("-> buy a faster one"));
        assert_eq!(words(&Failure::refused("why").hint("do")), "why");
    }
}
