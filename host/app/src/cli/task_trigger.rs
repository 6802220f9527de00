//! `task trigger`: run it now, and wait for the end if asked.

use super::execution_show::{self, describe};
use super::failure::{Exit, Failure, Outcome};
use super::render::{progress_bar, text_of};
use super::task::TaskArgument;
use super::values::{self, Setting};
use super::{Remote, now, print, task_batch};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    task: TaskArgument,
    /// Parameters for this run instead of the task's, a JSON object, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    params: Option<String>,
    /// One of those parameters; the value is JSON if it parses, else text
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// A merge patch (RFC 7396) of the task's parameters, for this run
    #[arg(long, value_name = "JSON|@FILE", conflicts_with_all = ["params", "set"])]
    merge: Option<String>,
    /// -100 to 100, higher first [default: the task's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// What to do while an execution of the task lives
    #[arg(long, value_enum, value_name = "RULE")]
    if_running: Option<IfRunning>,
    /// When it may start; now when left out
    #[arg(long, value_name = "INSTANT", conflicts_with = "delay")]
    due_at: Option<String>,
    /// Start after so many seconds
    #[arg(long, value_name = "SECONDS")]
    delay: Option<u32>,
    /// Carry it out once, however often it is sent with this key within a day
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// An execution for each line of FILE (- is standard input): a JSON object, its parameters
    #[arg(long, value_name = "FILE", conflicts_with_all = ["params", "set", "merge", "wait"])]
    batch: Option<String>,
    /// All lines of the batch or none
    #[arg(long, requires = "batch")]
    atomic: bool,
    /// Wait for the end: exit 0 if it succeeded, 1 if not
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IfRunning {
    /// Run after it
    Queue,
    /// Do not run
    Refuse,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let mut body = Map::new();
    if let Some(parameters) = values::parameters(arguments.params.as_deref(), &arguments.set)? {
        body.insert("parameters".into(), parameters.into());
    }
    if let Some(text) = &arguments.merge {
        let patch = values::object_argument("--merge", text)?;
        body.insert("parameters_patch".into(), patch.into());
    }
    if let Some(text) = &arguments.due_at {
        let at = values::instant(text, now())
            .map_err(|detail| Failure::refused(format!("--due-at: {detail}")))?;
        body.insert("due_at".into(), horarium_model::schedule::wire(at).into());
    }
    if let Some(seconds) = arguments.delay {
        body.insert("delay_seconds".into(), seconds.into());
    }
    if let Some(priority) = arguments.priority {
        body.insert("priority".into(), priority.into());
    }
    if let Some(rule) = arguments.if_running {
        let word = match rule {
            IfRunning::Queue => "queue",
            IfRunning::Refuse => "refuse",
        };
        body.insert("if_running".into(), word.into());
    }
    let key = arguments.idempotency_key.as_deref();
    if let Some(file) = &arguments.batch {
        let batch = (file.as_str(), arguments.atomic);
        return task_batch::run(remote, &arguments.task, batch, &body, key);
    }
    let path = arguments.task.path("/trigger");
    let answer = remote.client.post_once(&path, &json!(body), key)?;
    if !arguments.wait {
        return remote.show(&answer, |execution| {
            let id = text_of(execution, "task_id");
            format!("Triggered: {id}\nSee it with `horarium execution show {id}`.\n")
        });
    }
    let task_id = text_of(&answer.json()?, "task_id");
    wait(remote, &task_id)
}

/// Waits for the end of an execution, shows it, and says by the exit code how it went.
pub(crate) fn wait(remote: &Remote, task_id: &str) -> Outcome {
    let path = format!("/v1/executions/{}", crate::client::segment(task_id));
    let bar = bar();
    let mut pause = Duration::from_millis(20);
    let (answer, execution) = loop {
        let answer = remote.client.get(&path, &Vec::new())?;
        let execution = answer.json()?;
        if execution_show::has_ended(&execution) {
            break (answer, execution);
        }
        draw(&bar, &execution);
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    };
    bar.finish_and_clear();
    if remote.json {
        print(&format!("{}\n", answer.text.trim_end()))?;
    } else {
        print(&format!(
            "{}See what it logged: horarium execution logs {task_id}\n",
            describe(&execution, &[], now())
        ))?;
    }
    Ok(match execution["is_success"].as_bool() {
        Some(true) => Exit::Done,
        _ => Exit::Failed,
    })
}

/// A bar for the progress of an execution.
pub(crate) fn bar() -> ProgressBar {
    let bar = progress_bar(1000);
    bar.set_style(spinner());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn draw(bar: &ProgressBar, execution: &Value) {
    let progress = &execution["progress"];
    let message = text_of(progress, "message");
    let state = text_of(execution, "state");
    bar.set_message(if message.is_empty() {
        state
    } else {
        format!("{state}: {message}")
    });
    match progress["fraction"].as_f64() {
        Some(fraction) => {
            if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {elapsed} {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_position((fraction * 1000.0) as u64);
        }
        None => bar.set_style(spinner()),
    }
}

/// The id of an execution, before a request is made of it.
pub(crate) fn check_task_id(text: &str) -> Result<(), Failure> {
    match text.parse::<horarium_model::TaskId>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::refused(format!(
            "`{}` is not the id of an execution (a UUID); `horarium execution list` shows them",
            horarium_model::text::one_line(text, 60)
        ))),
    }
}
