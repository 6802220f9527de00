//! `execution`: what runs and what ran.

use super::execution_show::{call_table, describe, has_ended, log_line, table};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Style, text_of};
use super::task_trigger::{check_task_id, wait};
use super::{PageArguments, Remote, now, print};
use crate::client::segment;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

/// Requests that `execution show` lists.
const SHOWN_CALLS: usize = 50;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List executions, newest first
    List(ListArguments),
    /// Show one execution with its attempts
    Show(ExecutionArgument),
    /// Print what it logged
    Logs(LogsArguments),
    /// List the requests it made
    Http(HttpArguments),
    /// End it: at once while it waits, soon while it runs
    Cancel(ExecutionArgument),
    /// Run an ended one again, as a new execution
    Retry(RetryArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only of this task, by id or key
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Only of this plugin
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<String>,
    /// Only in this state, or these: failed,cancelled
    #[arg(long, value_name = "STATE[,…]")]
    state: Option<String>,
    /// Only brought about like this, such as schedule or manual
    #[arg(long, value_name = "TRIGGER")]
    trigger: Option<String>,
    /// Only failed like this, such as timeout
    #[arg(long, value_name = "KIND")]
    error_kind: Option<String>,
    /// Only created at or after this instant
    #[arg(long, value_name = "INSTANT")]
    since: Option<String>,
    /// Only created before this instant
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

/// One execution.
#[derive(Debug, Args)]
pub(crate) struct ExecutionArgument {
    /// The execution's task_id, a UUID
    #[arg(value_name = "TASK_ID")]
    task_id: String,
}

impl ExecutionArgument {
    fn path(&self, rest: &str) -> Result<String, Failure> {
        check_task_id(&self.task_id)?;
        Ok(format!("/v1/executions/{}{rest}", segment(&self.task_id)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    #[command(flatten)]
    execution: ExecutionArgument,
    /// Go on until the execution has ended; with --json a line is an object
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    page: PageArguments,
}

#[derive(Debug, Args)]
pub(crate) struct HttpArguments {
    #[command(flatten)]
    execution: ExecutionArgument,
    #[command(flatten)]
    page: PageArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArguments {
    #[command(flatten)]
    execution: ExecutionArgument,
    /// Wait for the end: exit 0 if it succeeded, 1 if not
    #[arg(long)]
    wait: bool,
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::List(arguments) => list(remote, &arguments),
        Verb::Show(execution) => show(remote, &execution),
        Verb::Logs(arguments) if arguments.follow => follow(remote, &arguments),
        Verb::Logs(arguments) => logs(remote, &arguments),
        Verb::Http(arguments) => {
            let path = arguments.execution.path("/http")?;
            let answer = remote.client.get(&path, &arguments.page.query())?;
            remote.show_list(&answer, "It made no request.", call_table)
        }
        Verb::Cancel(execution) => {
            let answer = remote
                .client
                .post(&execution.path("/cancel")?, &json!({}))?;
            remote.show(&answer, |execution| {
                if has_ended(execution) {
                    format!("Cancelled {}.\n", text_of(execution, "task_id"))
                } else {
                    format!("{} was asked to end.\n", text_of(execution, "task_id"))
                }
            })
        }
        Verb::Retry(arguments) => {
            let path = arguments.execution.path("/retry")?;
            let answer = remote.client.post(&path, &json!({}))?;
            if arguments.wait {
                return wait(remote, &text_of(&answer.json()?, "task_id"));
            }
            remote.show(&answer, |execution| {
                format!("Runs again as {}.\n", text_of(execution, "task_id"))
            })
        }
    }
}

fn list(remote: &Remote, arguments: &ListArguments) -> Outcome {
    let mut query = arguments.page.query();
    for (key, value) in [
        ("task", &arguments.task),
        ("task_type", &arguments.task_type),
        ("state", &arguments.state),
        ("trigger", &arguments.trigger),
        ("error_kind", &arguments.error_kind),
        ("since", &arguments.since),
        ("until", &arguments.until),
    ] {
        query.extend(value.clone().map(|value| (key, value)));
    }
    let filtered = query.len() > 1;
    let answer = remote.client.get("/v1/executions", &query)?;
    let empty = if filtered {
        "No execution fits."
    } else {
        "Nothing ran yet: `horarium task trigger TASK --wait` runs a task now."
    };
    remote.show_list(&answer, empty, |items| table(items, now()))
}

fn show(remote: &Remote, execution: &ExecutionArgument) -> Outcome {
    let answer = remote.client.get(&execution.path("")?, &Vec::new())?;
    if remote.json {
        return remote.show(&answer, |_| String::new());
    }
    let attempts = remote
        .client
        .get(&execution.path("/attempts")?, &Vec::new())?
        .json()?;
    let calls = remote
        .client
        .get(&execution.path("/http")?, &Vec::new())?
        .json()?;
    let none = Vec::new();
    let attempts = attempts["items"].as_array().unwrap_or(&none);
    let mut text = describe(&answer.json()?, attempts, now());
    if let Some(items) = calls["items"].as_array().filter(|items| !items.is_empty()) {
        text.push('\n');
        text.push_str(&call_table(items).render(Style::of_stdout()));
        if items.len() == SHOWN_CALLS {
            text.push_str(&format!(
                "`horarium execution http {}` lists all.\n",
                execution.task_id
            ));
        }
    }
    print(&text)?;
    Ok(Exit::Done)
}

fn logs(remote: &Remote, arguments: &LogsArguments) -> Outcome {
    let path = arguments.execution.path("/logs")?;
    let answer = remote.client.get(&path, &arguments.page.query())?;
    remote.show(&answer, |body| {
        let mut text = lines(body);
        if text.is_empty() {
            text = "It has logged nothing.\n".to_owned();
        }
        text
    })
}

fn lines(body: &Value) -> String {
    let style = Style::of_stdout();
    let items = body["items"].as_array().into_iter().flatten();
    items.map(|line| log_line(line, style) + "\n").collect()
}

/// While an execution lives the server always gives a cursor to ask again with.
fn follow(remote: &Remote, arguments: &LogsArguments) -> Outcome {
    let path = arguments.execution.path("/logs")?;
    let mut page = arguments.page.clone();
    loop {
        let body = remote.client.get(&path, &page.query())?.json()?;
        let items = body["items"].as_array().map_or(0, Vec::len);
        if remote.json {
            let items = body["items"].as_array().into_iter().flatten();
            print(&items.map(|line| format!("{line}\n")).collect::<String>())?;
        } else {
            print(&lines(&body))?;
        }
        let Some(next) = body["next_cursor"].as_str() else {
            return Ok(Exit::Done);
        };
        page.cursor = Some(next.to_owned());
        if items == 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
