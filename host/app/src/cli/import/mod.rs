//! `import`: tasks and history of other systems. Each source becomes specs of tasks ([`Found`]); what is the same
//! for all of them is here: the declaration that creates them, once, and the report.

mod celery;
mod crontab;
mod history;
mod report;
mod spec;
mod sqlalchemy;
mod types;
mod zone;

pub(crate) use report::Report;

use super::Remote;
use super::failure::{Failure, Outcome};
use super::task_apply::with_what_became_of_it;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use types::TypeMap;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Take over task_configs and task_executions of the Python system this one replaces
    Sqlalchemy(sqlalchemy::Arguments),
    /// Take over a crontab
    Crontab(crontab::Arguments),
    /// Take over periodic tasks of Celery beat, as JSON
    CeleryBeat(celery::Arguments),
}

/// What every import takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Do it; without, only report what would be done
    #[arg(long)]
    apply: bool,
    /// The plugin that stands for one of theirs; may be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = types::pair)]
    map: Vec<(String, String)>,
    /// A name for what is imported, the first part of each task's key
    #[arg(long, value_name = "NAME", value_parser = types::set_name)]
    set: Option<String>,
    /// Create all tasks paused, as long as the old system runs
    #[arg(long)]
    paused: bool,
}

/// A task of another system.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// Where it was found, for people: `line 3`, `row 7`.
    place: String,
    /// What it ran there.
    from_type: String,
    /// As REST takes it, with a key.
    task: Map<String, Value>,
    /// What could not be taken as it was.
    notes: Vec<String>,
}

pub(crate) fn run(remote: &Remote, verb: &Verb) -> Outcome {
    match verb {
        Verb::Sqlalchemy(arguments) => sqlalchemy::run(remote, arguments),
        Verb::Crontab(arguments) => crontab::run(remote, arguments),
        Verb::CeleryBeat(arguments) => celery::run(remote, arguments),
    }
}

/// Compares what was found with what is there, and creates what is not if that was asked for. Tasks that are there
/// already stay as they are, so that an import may be given again.
fn carry_over(
    remote: &Remote,
    common: &Common,
    set: &str,
    found: &[Found],
    types: &TypeMap,
) -> Result<Report, Failure> {
    let tasks: Vec<Value> = found
        .iter()
        .map(|found| {
            let mut task = found.task.clone();
            if common.paused && task.get("paused") != Some(&Value::Bool(true)) {
                task.insert("paused".into(), true.into());
                task.insert("pause_reason".into(), "imported with --paused".into());
            }
            task.into()
        })
        .collect();
    let mut body = json!({
        "set": format!("import/{set}"),
        "tasks": tasks,
        "existing": "keep",
        "unfit": "pause",
        "dry_run": true,
    });
    let place = |failure: Failure| failure.relocate(|pointer| named(pointer, found));
    let mut plan = remote
        .client
        .post("/v1/apply", &body)
        .map_err(place)?
        .json()?;
    if common.apply {
        body["dry_run"] = false.into();
        body["plan"] = plan["plan"].clone();
        plan = remote
            .client
            .post("/v1/apply", &body)
            .map_err(|failure| with_what_became_of_it(place(failure)))?
            .json()?;
    }
    let registered = remote.client.every("/v1/task-types")?;
    Ok(Report::new(
        set,
        common.apply,
        found,
        &tasks,
        &plan,
        types,
        &registered,
    ))
}

/// A pointer of the declaration, told by where the task was found.
fn named(pointer: &str, found: &[Found]) -> String {
    let rest = pointer.strip_prefix("/tasks/").unwrap_or_default();
    let (index, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match index
        .parse::<usize>()
        .ok()
        .and_then(|index| found.get(index))
    {
        Some(found) => format!("{}: /{rest}", found.place),
        None => pointer.to_owned(),
    }
}
