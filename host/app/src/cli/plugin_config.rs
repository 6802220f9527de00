//! `plugin config`: settings that every run of a plugin reads.

use super::Remote;
use super::failure::Outcome;
use super::plugin::path;
use super::render::{Cell, Table, text_of};
use super::values::read_text;
use crate::client::segment;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Set a key; runs that start from now on see it
    Set(SetArguments),
    /// Forget a key
    Unset(KeyArguments),
    /// List keys and values
    List(TypeArgument),
}

#[derive(Debug, Args)]
pub(crate) struct TypeArgument {
    /// The registered name
    #[arg(value_name = "TYPE")]
    task_type: String,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    #[command(flatten)]
    plugin: TypeArgument,
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    plugin: TypeArgument,
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// The value: text, @FILE, or @- for standard input. Not for secrets: `horarium secret set`
    #[arg(value_name = "TEXT|@FILE", allow_hyphen_values = true)]
    value: String,
}

pub(crate) fn run(remote: &Remote, verb: &Verb) -> Outcome {
    match verb {
        Verb::List(plugin) => {
            let path = path(&plugin.task_type, "/config");
            let answer = remote.client.get(&path, &Vec::new())?;
            remote.show_list(&answer, "Nothing is set.", table)
        }
        Verb::Set(arguments) => {
            let value = match arguments.value.strip_prefix('@') {
                Some(file) => read_text(file)?,
                None => arguments.value.clone(),
            };
            let path = key_path(&arguments.plugin, &arguments.key);
            let answer = remote.client.put(&path, &json!({"value": value}))?;
            remote.show(&answer, |_| {
                format!(
                    "Set `{}`; runs that begin from now on read it.\n{}",
                    arguments.key,
                    see_all(&arguments.plugin)
                )
            })
        }
        Verb::Unset(arguments) => unset(remote, arguments),
    }
}

fn unset(remote: &Remote, arguments: &KeyArguments) -> Outcome {
    let path = key_path(&arguments.plugin, &arguments.key);
    let answer = remote.client.delete(&path, &Vec::new())?;
    remote.show(&answer, |_| {
        format!(
            "Forgot `{}`.\n{}",
            arguments.key,
            see_all(&arguments.plugin)
        )
    })
}

fn see_all(plugin: &TypeArgument) -> String {
    format!(
        "See all: horarium plugin config list {}\n",
        plugin.task_type
    )
}

fn key_path(plugin: &TypeArgument, key: &str) -> String {
    path(&plugin.task_type, &format!("/config/{}", segment(key)))
}

fn table(items: &[Value]) -> Table {
    let mut table = Table::new(&["KEY", "VALUE"]);
    for item in items {
        let cell = |key: &str| Cell::from(text_of(item, key));
        table.row(vec![cell("key"), cell("value")]);
    }
    table
}
