//! `host`: who executes.

use super::failure::Outcome;
use super::render::{Cell, Paint, Table, instant_of, text_of};
use super::{PageArguments, Remote, now, words};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the hosts that are alive, with what each runs and has loaded
    List(PageArguments),
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::List(page) => {
            let answer = remote.client.get("/v1/hosts", &page.query())?;
            remote.show_list(&answer, "No host is alive.", table)
        }
    }
}

fn table(hosts: &[Value]) -> Table {
    let mut table = Table::new(&[
        "HOST",
        "INCARNATION>",
        "VERSION",
        "RUNNING>",
        "SLOTS>",
        "LOADED",
        "STARTED",
        "SEEN",
        "MEMORY+>",
    ]);
    for host in hosts {
        let since = |key| instant_of(host, key).map(|at| words::from_now(at, now()));
        let loaded: Vec<&str> = host["loaded"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let name = text_of(host, "name");
        table.row(vec![
            match host["is_answering"] == true {
                true => Cell::painted(Paint::Good, format!("{name} (answers here)")),
                false => name.into(),
            },
            host["incarnation"].to_string().into(),
            text_of(host, "version").into(),
            host["running"].to_string().into(),
            host["slots"].to_string().into(),
            loaded.join(" ").into(),
            since("started_at").unwrap_or_default().into(),
            since("seen_at").unwrap_or_default().into(),
            host["memory_bytes"]
                .as_u64()
                .map(words::bytes)
                .unwrap_or_default()
                .into(),
        ]);
    }
    table
}
