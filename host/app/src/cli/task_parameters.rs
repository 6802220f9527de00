//! `task parameters`: see and change what a task is run with.

use super::Remote;
use super::failure::{Failure, Outcome};
use super::render::pretty;
use super::task::TaskArgument;
use super::values::{self, Setting};
use crate::client::Query;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print the parameters, or one value of them
    Show(ShowArguments),
    /// Change parameters; no concurrent change is lost
    Set(SetArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    task: TaskArgument,
    /// Where in the parameters, a JSON pointer such as /subreddit
    #[arg(long, value_name = "POINTER")]
    pointer: Option<String>,
    /// What to print when there is nothing there, JSON if it parses, else text
    #[arg(long, value_name = "JSON", requires = "pointer")]
    default: Option<String>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(false).args(["merge", "patch", "params", "set"])))]
pub(crate) struct SetArguments {
    #[command(flatten)]
    task: TaskArgument,
    /// A merge patch (RFC 7396): named values replace, null removes
    #[arg(long, value_name = "JSON|@FILE")]
    merge: Option<String>,
    /// A list of operations (RFC 6902)
    #[arg(long, value_name = "JSON|@FILE")]
    patch: Option<String>,
    /// All parameters, replacing the old ones whole
    #[arg(long, value_name = "JSON|@FILE")]
    params: Option<String>,
    /// One value; a KEY like /a/b is a JSON pointer; null removes
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
}

pub(crate) fn run(remote: &Remote, verb: &Verb) -> Outcome {
    match verb {
        Verb::Show(arguments) => show(remote, arguments),
        Verb::Set(arguments) => set(remote, arguments),
    }
}

fn show(remote: &Remote, arguments: &ShowArguments) -> Outcome {
    let mut query: Query<'_> = Vec::new();
    query.extend(
        arguments
            .pointer
            .clone()
            .map(|pointer| ("pointer", pointer)),
    );
    if let Some(text) = &arguments.default {
        let default = horarium_model::json::parse(text.as_bytes());
        let default = default.unwrap_or_else(|_| Value::String(text.clone()));
        query.push(("default", default.to_string()));
    }
    let answer = remote
        .client
        .get(&arguments.task.path("/parameters"), &query)?;
    remote.show(&answer, |value| format!("{}\n", pretty(value)))
}

fn set(remote: &Remote, arguments: &SetArguments) -> Outcome {
    let path = arguments.task.path("/parameters");
    let client = &remote.client;
    let answer = match change(arguments)? {
        Change::Replace(body) => client.put(&path, &body)?,
        Change::Merge(body) => client.patch(&path, "application/merge-patch+json", None, &body)?,
        Change::Patch(body) => client.patch(&path, "application/json-patch+json", None, &body)?,
    };
    remote.show(&answer, |value| {
        let task = &arguments.task.task;
        format!(
            "{}\nRun it with them: horarium task trigger {task} --wait\n",
            pretty(value)
        )
    })
}

#[derive(Debug, PartialEq)]
enum Change {
    Merge(Value),
    Patch(Value),
    Replace(Value),
}

fn change(arguments: &SetArguments) -> Result<Change, Failure> {
    if let Some(text) = &arguments.patch {
        return values::json_argument("--patch", text).map(Change::Patch);
    }
    if let Some(text) = &arguments.params {
        return values::object_argument("--params", text).map(|map| Change::Replace(map.into()));
    }
    let mut map = match &arguments.merge {
        Some(text) => values::object_argument("--merge", text)?,
        None => Map::new(),
    };
    for setting in &arguments.set {
        setting.apply(&mut map)?;
    }
    Ok(Change::Merge(map.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Set {
        #[command(flatten)]
        arguments: SetArguments,
    }

    fn changed(flags: &[&str]) -> Option<Change> {
        let flags = ["set", "7"].iter().chain(flags);
        change(&Set::try_parse_from(flags).ok()?.arguments).ok()
    }

    #[test]
    fn exactly_one_kind_of_change() {
        assert_eq!(
            changed(&["--set", "a=1", "--set", "/b/c=x"]),
            Some(Change::Merge(json!({"a": 1, "b": {"c": "x"}})))
        );
        assert_eq!(
            changed(&["--patch", r#"[{"op": "remove", "path": "/a"}]"#]),
            Some(Change::Patch(json!([{"op": "remove", "path": "/a"}])))
        );
        assert_eq!(
            changed(&["--params", "{}"]),
            Some(Change::Replace(json!({})))
        );
        assert_eq!(changed(&[]), None);
        assert_eq!(changed(&["--merge", "{}", "--set", "a=1"]), None);
        assert_eq!(changed(&["--merge", "[]"]), None);
    }
}
