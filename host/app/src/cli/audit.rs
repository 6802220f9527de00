//! `audit`: who did what.

use super::failure::Outcome;
use super::render::{Cell, Paint, Table, instant_of, text_of};
use super::values::instant;
use super::{Failure, PageArguments, Remote, now, words};
use clap::{Args, Subcommand};
use horarium_model::Timestamp;
use horarium_model::access::Permission;
use horarium_model::schedule::wire;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List what was done and what was not allowed, newest first
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this kind, such as tasks:write
    #[arg(long, value_name = "PERMISSION")]
    action: Option<Permission>,
    /// Only by this token, by id
    #[arg(long, value_name = "ID")]
    token: Option<String>,
    /// Only from this instant on
    #[arg(long, value_name = "INSTANT")]
    since: Option<String>,
    /// Only before this instant
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    let Verb::List(arguments) = verb;
    let mut query = arguments.page.query();
    if let Some(action) = arguments.action {
        query.push(("action", action.to_string()));
    }
    if let Some(token) = arguments.token {
        query.push(("token", token));
    }
    for (key, text) in [("since", arguments.since), ("until", arguments.until)] {
        if let Some(text) = text {
            query.push((key, wire(read(key, &text)?)));
        }
    }
    let answer = remote.client.get("/v1/audit", &query)?;
    remote.show_list(&answer, "Nothing was done yet.", table)
}

fn read(flag: &str, text: &str) -> Result<Timestamp, Failure> {
    instant(text, now()).map_err(|detail| Failure::refused(format!("--{flag}: {detail}")))
}

fn table(entries: &[Value]) -> Table {
    let mut table = Table::new(&[
        "WHEN",
        "WHO",
        "ROLE",
        "WHAT",
        "REQUEST",
        "STATUS>",
        "FROM",
        "REQUEST ID+",
        "HOST+",
    ]);
    for entry in entries {
        let at = instant_of(entry, "at").map(words::instant);
        let status = text_of(entry, "status");
        let request = format!("{} {}", text_of(entry, "method"), text_of(entry, "target"));
        table.row(vec![
            at.unwrap_or_default().into(),
            text_of(entry, "actor").into(),
            text_of(entry, "role").into(),
            text_of(entry, "action").into(),
            request.into(),
            match status.as_str() {
                "403" => Cell::painted(Paint::Bad, &status),
                _ => status.into(),
            },
            text_of(entry, "address").into(),
            text_of(entry, "request_id").into(),
            text_of(entry, "host").into(),
        ]);
    }
    table
}
