//! `execution`: what runs and what ran.

use super::execution_bulk::{self, BulkArguments, CANCEL, RETRY};
use super::execution_follow;
use super::execution_show::{call_table, describe, has_ended, log_line, table};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Style, text_of};
use super::task_trigger::{check_task_id, wait};
use super::{PageArguments, Remote, is_read_no_more, now, print};
use crate::client::{Query, segment};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
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
    /// Tell what it waits for
    Why(ExecutionArgument),
    /// End one, or all that fit a filter: at once while it waits, soon while it runs
    Cancel(CancelArguments),
    /// Run an ended one, or all that fit a filter, again as new executions
    Retry(Box<RetryArguments>),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Print a line for each that begins, changes or ends from now on, until interrupted; with --json an object
    #[arg(long, short, conflicts_with_all = ["limit", "cursor"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    page: PageArguments,
}

/// Which executions.
#[derive(Debug, Args)]
pub(crate) struct FilterArguments {
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
    /// Only with this in their error message
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only created at or after this instant
    #[arg(long, value_name = "INSTANT")]
    since: Option<String>,
    /// Only created before this instant
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
}

impl FilterArguments {
    /// What was said, in the words of the API.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("task", &self.task),
            ("task_type", &self.task_type),
            ("state", &self.state),
            ("trigger", &self.trigger),
            ("error_kind", &self.error_kind),
            ("text", &self.text),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect()
    }

    /// The same as the filter of a bulk operation.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let pairs = self.pairs().into_iter();
        pairs
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect()
    }
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
    pub(crate) follow: bool,
    /// Only of this attempt, as the lines name it
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    #[command(flatten)]
    page: PageArguments,
}

impl LogsArguments {
    fn query<'a>(&self, page: &PageArguments) -> Query<'a> {
        let mut query = page.query();
        query.extend(self.attempt.map(|attempt| ("attempt", attempt.to_string())));
        query
    }
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
    /// The execution's task_id, a UUID; or a filter
    #[arg(value_name = "TASK_ID")]
    task_id: Option<String>,
    /// Wait for the end: exit 0 if it succeeded, 1 if not
    #[arg(long, requires = "task_id")]
    wait: bool,
    /// Carry it out once, however often it is sent with this key within a day
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    bulk: BulkArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// The execution's task_id, a UUID; or a filter
    #[arg(value_name = "TASK_ID")]
    task_id: Option<String>,
    #[command(flatten)]
    bulk: BulkArguments,
}

/// A single execution, when one was named and no filter given.
fn single(
    task_id: Option<String>,
    bulk: &BulkArguments,
) -> Result<Option<ExecutionArgument>, Failure> {
    match task_id {
        Some(_) if !bulk.filter.to_json().is_empty() => Err(Failure::refused(
            "a TASK_ID names one execution, a filter many; give one of them",
        )),
        Some(task_id) => Ok(Some(ExecutionArgument { task_id })),
        None => Ok(None),
    }
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::List(arguments) if arguments.follow => {
            execution_follow::run(remote, &arguments.filter)
        }
        Verb::List(arguments) => list(remote, &arguments),
        Verb::Show(execution) => show(remote, &execution),
        Verb::Logs(arguments) if arguments.follow => follow(remote, &arguments),
        Verb::Logs(arguments) => logs(remote, &arguments),
        Verb::Http(arguments) => {
            let path = arguments.execution.path("/http")?;
            let answer = remote.client.get(&path, &arguments.page.query())?;
            remote.show_list(&answer, "It made no request.", call_table)
        }
        Verb::Why(execution) => {
            let answer = remote.client.get(&execution.path("/why")?, &Vec::new())?;
            remote.show(&answer, |why| {
                let (state, reason) = (text_of(why, "state"), text_of(why, "reason"));
                format!("{state} ({reason}): {}\n", text_of(why, "message"))
            })
        }
        Verb::Cancel(arguments) => cancel(remote, arguments),
        Verb::Retry(arguments) => retry(remote, *arguments),
    }
}

fn cancel(remote: &Remote, arguments: CancelArguments) -> Outcome {
    let Some(execution) = single(arguments.task_id, &arguments.bulk)? else {
        return execution_bulk::run(remote, CANCEL, &arguments.bulk, None);
    };
    let path = execution.path("/cancel")?;
    let answer = remote.client.post(&path, &json!({}))?;
    remote.show(&answer, |execution| {
        if has_ended(execution) {
            format!(
                "Cancelled {0}.\nRun it again: horarium execution retry {0}\n",
                text_of(execution, "task_id")
            )
        } else {
            format!(
                "{0} was asked to end.\nSee it end: horarium execution logs {0} --follow\n",
                text_of(execution, "task_id")
            )
        }
    })
}

fn retry(remote: &Remote, arguments: RetryArguments) -> Outcome {
    let Some(execution) = single(arguments.task_id, &arguments.bulk)? else {
        return execution_bulk::run(
            remote,
            RETRY,
            &arguments.bulk,
            arguments.idempotency_key.as_deref(),
        );
    };
    let (path, key) = (execution.path("/retry")?, arguments.idempotency_key);
    let answer = remote.client.post_once(&path, &json!({}), key.as_deref())?;
    if arguments.wait {
        return wait(remote, &text_of(&answer.json()?, "task_id"));
    }
    remote.show(&answer, |execution| {
        format!(
            "Runs again as {0}.\nSee it: horarium execution show {0}\n",
            text_of(execution, "task_id")
        )
    })
}

fn list(remote: &Remote, arguments: &ListArguments) -> Outcome {
    let mut query = arguments.page.query();
    query.extend(arguments.filter.pairs());
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
    let answer = remote
        .client
        .get(&path, &arguments.query(&arguments.page))?;
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
        let body = remote.client.get(&path, &arguments.query(&page))?.json()?;
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
        if is_read_no_more() {
            return Ok(Exit::Done);
        }
        page.cursor = Some(next.to_owned());
        if items == 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
