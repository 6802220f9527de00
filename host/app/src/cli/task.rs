//! `task`: task configs.

use super::failure::Outcome;
use super::retention::Bounds;
use super::task_parameters as parameters;
use super::task_show::{describe, table};
use super::task_spec::{CreateArguments, UpdateArguments, create, update};
use super::task_state as state;
use super::task_trigger as trigger;
use super::{PageArguments, Remote, now, task_apply, task_next, task_why};
use crate::client::segment;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a new task config
    Create(Box<CreateArguments>),
    /// List task configs, newest first
    List(ListArguments),
    /// Show one task config
    Show(TaskArgument),
    /// Change a task config
    Update(Box<UpdateArguments>),
    /// Delete a task config; its history stays unless you say otherwise
    Delete(DeleteArguments),
    /// Make plugins and tasks what a file declares, after showing the difference
    Apply(task_apply::Arguments),
    /// Make no more slots; what is passed over is not made up
    Pause(PauseArguments),
    /// Make slots again, from now on
    Resume(TaskArgument),
    /// Run it now
    Trigger(trigger::Arguments),
    /// Show when it fires next; with --cron without a server
    Next(task_next::Arguments),
    /// Say why it fires when it does, or why it does not
    Why(task_why::Arguments),
    /// See and change parameters
    #[command(subcommand)]
    Parameters(parameters::Verb),
    /// See and set how long its ended executions are kept
    Retention(RetentionArguments),
    /// See and change what the plugin remembers
    #[command(subcommand)]
    State(state::Verb),
}

/// One task.
#[derive(Debug, Args)]
pub(crate) struct TaskArgument {
    /// The task's id or key
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
}

impl TaskArgument {
    /// `/v1/tasks/TASK` and what follows.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/tasks/{}{rest}", segment(&self.task))
    }
}

#[derive(Debug, Args)]
pub(crate) struct RetentionArguments {
    #[command(flatten)]
    task: TaskArgument,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only of this plugin
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<String>,
    /// Only fired like this: cron, date or manual
    #[arg(long, value_name = "KIND")]
    scheduler_type: Option<String>,
    /// Only paused ones (or, =false, only others)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    paused: Option<bool>,
    /// Only with this text in the name
    #[arg(long)]
    name: Option<String>,
    /// Only those that this set of declarations wrote
    #[arg(long, value_name = "SET")]
    set: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    task: TaskArgument,
    /// What becomes of its executions
    #[arg(long, value_enum, default_value_t = History::Keep)]
    history: History,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum History {
    /// They stay, without a task
    Keep,
    /// They go too
    Delete,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArguments {
    #[command(flatten)]
    task: TaskArgument,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(arguments) => create(remote, &arguments),
        Verb::List(arguments) => list(remote, &arguments),
        Verb::Show(task) => {
            let answer = remote.client.get(&task.path(""), &Vec::new())?;
            remote.show(&answer, |task| describe(task, now()))
        }
        Verb::Update(arguments) => update(remote, &arguments),
        Verb::Apply(arguments) => task_apply::run(remote, &arguments),
        Verb::Delete(arguments) => delete(remote, &arguments),
        Verb::Pause(arguments) => {
            let body = json!({"reason": arguments.reason});
            let answer = remote.client.post(&arguments.task.path("/pause"), &body)?;
            remote.show(&answer, |task| {
                format!(
                    "Paused task {0}.\nGo on: horarium task resume {0}\n",
                    task["id"]
                )
            })
        }
        Verb::Resume(task) => {
            let answer = remote.client.post(&task.path("/resume"), &json!({}))?;
            remote.show(&answer, |task| {
                format!(
                    "Resumed task {0}.\n{1}See when it fires: horarium task next {0}\n",
                    task["id"],
                    describe(task, now())
                )
            })
        }
        Verb::Trigger(arguments) => trigger::run(remote, &arguments),
        Verb::Next(arguments) => task_next::remote(remote, &arguments),
        Verb::Why(arguments) => task_why::run(remote, &arguments),
        Verb::Parameters(verb) => parameters::run(remote, &verb),
        Verb::Retention(arguments) => {
            let path = arguments.task.path("/retention");
            arguments.bounds.run(remote, &path)
        }
        Verb::State(verb) => state::run(remote, &verb),
    }
}

fn list(remote: &Remote, arguments: &ListArguments) -> Outcome {
    let mut query = arguments.page.query();
    for (key, value) in [
        ("task_type", arguments.task_type.clone()),
        ("scheduler_type", arguments.scheduler_type.clone()),
        ("paused", arguments.paused.map(|paused| paused.to_string())),
        ("name", arguments.name.clone()),
        ("declared_by", arguments.set.clone()),
    ] {
        query.extend(value.map(|value| (key, value)));
    }
    let filtered = query.len() > 1;
    let answer = remote.client.get("/v1/tasks", &query)?;
    let empty = if filtered {
        "No task fits."
    } else {
        "There are no tasks yet: `horarium task create --name NAME --type TYPE --cron '*/5 * * * *'`."
    };
    remote.show_list(&answer, empty, |tasks| table(tasks, now()))
}

fn delete(remote: &Remote, arguments: &DeleteArguments) -> Outcome {
    let (word, history) = match arguments.history {
        History::Keep => ("keep", "its history stays"),
        History::Delete => ("delete", "its history goes too"),
    };
    let query = vec![("history", word.to_owned())];
    let answer = remote.client.delete(&arguments.task.path(""), &query)?;
    remote.show(&answer, |_| {
        format!(
            "Deleted task {}; {history}. See the others: horarium task list\n",
            arguments.task.task
        )
    })
}
