//! `task state`: what a task's plugin remembers.

use super::Remote;
use super::failure::Outcome;
use super::render::{Cell, Table, text_of};
use super::task::TaskArgument;
use super::values::read_file;
use crate::client::segment;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List keys and values
    Show(TaskArgument),
    /// Set a key; a run in progress that saw another value then ends state_conflict
    Set(SetArguments),
    /// Forget one key, or everything
    Reset(ResetArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    task: TaskArgument,
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// The value, text or @FILE
    #[arg(value_name = "TEXT|@FILE")]
    value: String,
}

#[derive(Debug, Args)]
pub(crate) struct ResetArguments {
    #[command(flatten)]
    task: TaskArgument,
    /// Only this key
    #[arg(value_name = "KEY", required_unless_present = "all")]
    key: Option<String>,
    /// Everything
    #[arg(long, conflicts_with = "key")]
    all: bool,
}

pub(crate) fn run(remote: &Remote, verb: &Verb) -> Outcome {
    match verb {
        Verb::Show(task) => {
            let answer = remote.client.get(&task.path("/state"), &Vec::new())?;
            let empty = "It remembers nothing.";
            remote.show_list(&answer, empty, table)
        }
        Verb::Set(arguments) => set(remote, arguments),
        Verb::Reset(arguments) => reset(remote, arguments),
    }
}

fn set(remote: &Remote, arguments: &SetArguments) -> Outcome {
    let bytes = match arguments.value.strip_prefix('@') {
        Some(path) => read_file(Path::new(path))?,
        None => arguments.value.as_bytes().to_vec(),
    };
    let rest = format!("/state/{}", segment(&arguments.key));
    let answer = remote
        .client
        .put(&arguments.task.path(&rest), &body(bytes))?;
    remote.show(&answer, |_| {
        format!("Set `{}`.\n{}", arguments.key, see_all(&arguments.task))
    })
}

fn see_all(task: &TaskArgument) -> String {
    format!(
        "See all it remembers: horarium task state show {}\n",
        task.task
    )
}

/// Text as it is, other bytes as base64.
fn body(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => json!({"value": text}),
        Err(error) => json!({"value": {"base64": STANDARD.encode(error.as_bytes())}}),
    }
}

fn reset(remote: &Remote, arguments: &ResetArguments) -> Outcome {
    let next = see_all(&arguments.task);
    let (rest, done) = match &arguments.key {
        Some(key) => (
            format!("/state/{}", segment(key)),
            format!("Forgot `{key}`.\n{next}"),
        ),
        None => (
            "/state".to_owned(),
            format!(
                "Forgot everything.\nLet it begin anew: horarium task trigger {} --wait\n",
                arguments.task.task
            ),
        ),
    };
    let answer = remote
        .client
        .delete(&arguments.task.path(&rest), &Vec::new())?;
    remote.show(&answer, |_| done)
}

fn table(items: &[Value]) -> Table {
    let mut table = Table::new(&["KEY", "BYTES>", "VERSION>", "VALUE"]);
    for item in items {
        let value = match item.get("value") {
            Some(Value::String(text)) => Cell::from(text.as_str()),
            _ => Cell::painted(super::render::Paint::Dim, "(bytes)"),
        };
        table.row(vec![
            text_of(item, "key").into(),
            text_of(item, "size_bytes").into(),
            text_of(item, "version").into(),
            value,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::Style;

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        assert_eq!(body(b"t3_abc".to_vec()), json!({"value": "t3_abc"}));
        assert_eq!(body(vec![0xff]), json!({"value": {"base64": "/w=="}}));
        let items = [
            json!({"key": "a", "size_bytes": 6, "version": 1, "value": "t3_abc"}),
            json!({"key": "b", "size_bytes": 1, "version": 2, "value": {"base64": "/w=="}}),
        ];
        let text = table(&items).render(Style::of_stdout());
        assert!(
            text.contains("t3_abc") && text.contains("(bytes)"),
            "{text}"
        );
    }
}
