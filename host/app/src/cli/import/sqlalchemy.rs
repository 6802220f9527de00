//! `import sqlalchemy`: `task_configs` and `task_executions` of the Python system that this one replaces.

use super::history::History;
use super::spec::{pause, settle, unschedule};
use super::types::{TypeMap, name};
use super::zone::{instant, zone};
use super::{Common, Found, carry_over};
use crate::cli::db::{runtime, shown};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{Remote, now};
use chrono_tz::Tz;
use clap::Args;
use horarium_model::Timestamp;
use horarium_model::schedule::wire;
use horarium_model::text::one_line;
use horarium_store::{ForeignDatabase, ForeignRow, ForeignTable, without_driver};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Configs read at once.
const PAGE: u32 = 500;
/// Columns that are taken, or that mean nothing here.
const KNOWN: &[&str] = &[
    "id",
    "name",
    "task_type",
    "scheduler_type",
    "parameters",
    "schedule_config",
    "max_retries",
    "timeout_seconds",
    "priority",
    "overlap",
    "pause_after_failures",
    "expires_after_seconds",
    "pause_reason",
    "created_at",
    "updated_at",
    "version",
    "deleted_at",
];
/// Columns that say whether it fires, and the value that says it does.
const SWITCHES: &[(&str, bool)] = &[
    ("paused", false),
    ("is_paused", false),
    ("is_active", true),
    ("active", true),
    ("enabled", true),
    ("is_enabled", true),
];
/// Words of a status that say it fires.
const FIRING: &[&str] = &[
    "active",
    "enabled",
    "running",
    "scheduled",
    "pending",
    "idle",
    "ok",
];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its database: postgres://USER@HOST/NAME, or as SQLAlchemy writes it, postgresql+asyncpg://…
    #[arg(
        long,
        value_name = "URL",
        env = "HORARIUM_IMPORT_URL",
        hide_env_values = true
    )]
    from: String,
    /// The schema its tables are in [default: the first of the role's search_path]
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
    /// The zone of times that were kept without one
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    naive_timezone: Tz,
    /// Take the tasks alone
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    common: Common,
}

/// What rows are read by.
pub(super) struct Reading<'a> {
    pub(super) set: &'a str,
    pub(super) zone: Tz,
    pub(super) types: &'a TypeMap,
    pub(super) now: Timestamp,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let runtime = runtime()?;
    let set = arguments.common.set.as_deref().unwrap_or("sqlalchemy");
    let types = TypeMap::new(&arguments.common.map);
    let reading = Reading {
        set,
        zone: arguments.naive_timezone,
        types: &types,
        now: now(),
    };
    let mut source = runtime.block_on(ForeignDatabase::open(
        &arguments.from,
        arguments.schema.as_deref(),
    ))?;
    let configs = runtime.block_on(configs(&mut source, &reading))?;
    let mut report = carry_over(remote, &arguments.common, set, &configs.found, &types)?;
    report.source = shown(&without_driver(&arguments.from));
    report.notes.extend(configs.notes);
    report
        .notes
        .extend(naive_columns(&source, arguments.naive_timezone));
    if !arguments.no_history {
        let history = History {
            remote,
            reading: &reading,
            tasks: &configs.tasks,
        };
        let moved = match arguments.common.apply {
            true => history.carry(&runtime, &mut source)?,
            false => history.look(&runtime, &mut source)?,
        };
        report.executions = Some(moved);
    }
    runtime.block_on(source.close())?;
    report.show(remote)
}

/// What is told of instants without a zone.
fn naive_columns(source: &ForeignDatabase, zone: Tz) -> Option<String> {
    let columns = [ForeignTable::Configs, ForeignTable::Executions]
        .into_iter()
        .flat_map(|table| source.columns(table).iter())
        .filter(|column| column.is_naive());
    let names: BTreeSet<&str> = columns.map(|column| column.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    match names.is_empty() {
        true => None,
        false => Some(format!(
            "times without a zone ({}) are read as {zone}; --naive-timezone names another",
            names.join(", ")
        )),
    }
}

/// A config as executions refer to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) key: String,
    pub(super) task_type: String,
}

struct Configs {
    found: Vec<Found>,
    /// By the id there.
    tasks: HashMap<String, Known>,
    notes: Vec<String>,
}

async fn configs(source: &mut ForeignDatabase, reading: &Reading<'_>) -> Result<Configs, Failure> {
    let mut configs = Configs {
        found: Vec::new(),
        tasks: HashMap::new(),
        notes: Vec::new(),
    };
    let left = left_columns(source);
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    let mut deleted = 0_u64;
    let mut after: Option<String> = None;
    loop {
        let rows = source
            .rows(ForeignTable::Configs, after.as_deref(), PAGE)
            .await?;
        let Some(last) = rows.last() else { break };
        after = last.get("id").map(str::to_owned);
        for row in &rows {
            if row.get("deleted_at").is_some() {
                deleted += 1;
                continue;
            }
            for column in left.iter().filter(|column| row.get(column).is_some()) {
                *used.entry(column).or_default() += 1;
            }
            let found = config(row, reading);
            let text = |key: &str| found.task[key].as_str().unwrap_or_default().to_owned();
            let known = Known {
                key: text("key"),
                task_type: text("task_type"),
            };
            let id = row.get("id").unwrap_or_default();
            configs.tasks.insert(id.to_owned(), known);
            configs.found.push(found);
        }
    }
    if deleted > 0 {
        configs.notes.push(format!(
            "{deleted} tasks are deleted there and are left out"
        ));
    }
    configs.notes.extend(used.into_iter().map(|(column, rows)| {
        format!("the column {column} means nothing here and is left out ({rows} tasks have it)")
    }));
    Ok(configs)
}

/// Columns that are not read.
fn left_columns(source: &ForeignDatabase) -> Vec<String> {
    let read = |name: &str| {
        KNOWN.contains(&name)
            || matches!(name, "status" | "state")
            || SWITCHES.iter().any(|(switch, _)| *switch == name)
    };
    let columns = source.columns(ForeignTable::Configs).iter();
    columns
        .filter(|column| !read(&column.name))
        .map(|column| column.name.clone())
        .collect()
}

/// A config's row as a task.
fn config(row: &ForeignRow, reading: &Reading<'_>) -> Found {
    let id = row.get("id").unwrap_or_default();
    let from_type = row.get("task_type").unwrap_or_default().trim();
    let mut notes = Vec::new();
    let mut task = Map::new();
    task.insert(
        "key".into(),
        super::types::key(reading.set, "", &super::types::slug(id, 32, "")).into(),
    );
    let otherwise = format!("{} {id}", reading.set);
    task.insert(
        "name".into(),
        name(row.get("name").unwrap_or_default(), &otherwise).into(),
    );
    task.insert("task_type".into(), reading.types.of(from_type).into());
    task.insert("scheduler_type".into(), "manual".into());
    parameters(row, &mut task, &mut notes);
    for column in [
        "max_retries",
        "timeout_seconds",
        "priority",
        "pause_after_failures",
        "expires_after_seconds",
    ] {
        match row.get(column).map(whole) {
            Some(Some(number)) => drop(task.insert(column.into(), number.into())),
            Some(None) => notes.push(format!(
                "{column} {} is left out: it is no whole number",
                one_line(row.get(column).unwrap_or_default(), 40)
            )),
            None => {}
        }
    }
    if let Some(overlap) = row.get("overlap") {
        task.insert("overlap".into(), overlap.to_ascii_lowercase().into());
    }
    switched_off(row, &mut task);
    schedule(row, reading, &mut task, &mut notes);
    settle(&mut task, &mut notes, reading.now);
    Found {
        place: format!("row {id}"),
        from_type: from_type.to_owned(),
        task,
        notes,
    }
}

/// A whole number, which some columns keep as `60.0`.
fn whole(text: &str) -> Option<i64> {
    let number: f64 = text.trim().parse().ok()?;
    let fits = number.fract() == 0.0 && number.abs() < 9e15;
    fits.then_some(number as i64)
}

fn parameters(row: &ForeignRow, task: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let Some(text) = row.get("parameters") else {
        return;
    };
    let parameters = match horarium_model::json::parse(text.as_bytes()) {
        Ok(Value::Object(map)) => map.into(),
        Ok(Value::Null) => return,
        Ok(other) => {
            notes.push("parameters are no object, and are kept under `value`".to_owned());
            json!({ "value": other })
        }
        Err(problem) => {
            let reason = format!(
                "its parameters are JSON that is not taken here ({problem}); they are kept as text"
            );
            notes.push(one_line(&reason, 450));
            pause(task, &reason);
            json!({ "imported_text": text })
        }
    };
    task.insert("parameters".into(), parameters);
}

/// Whether it fired there.
fn switched_off(row: &ForeignRow, task: &mut Map<String, Value>) {
    if let Some(reason) = row.get("pause_reason") {
        task.insert("pause_reason".into(), one_line(reason, 400).into());
    }
    for (column, fires) in SWITCHES {
        let off = if *fires { "false" } else { "true" };
        if row.get(column) == Some(off) {
            pause(task, &format!("{column} was {off} there"));
            return;
        }
    }
    for column in ["status", "state"] {
        if let Some(status) = row.get(column)
            && !FIRING.contains(&status.to_ascii_lowercase().as_str())
        {
            pause(
                task,
                &format!("its {column} was {} there", one_line(status, 40)),
            );
            return;
        }
    }
}

/// When it fires.
fn schedule(
    row: &ForeignRow,
    reading: &Reading<'_>,
    task: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) {
    let kind = row.get("scheduler_type").unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    // Enums that were stored by their qualified name.
    let kind = kind.rsplit('.').next().unwrap_or_default();
    let text = row.get("schedule_config").unwrap_or("{}");
    let config = match horarium_model::json::parse(text.as_bytes()) {
        Ok(Value::Object(map)) => map,
        Ok(Value::Null) => Map::new(),
        _ => {
            let reason = format!("its schedule_config is no object: {}", one_line(text, 200));
            notes.push(reason.clone());
            return unschedule(task, &reason);
        }
    };
    let (schedule, left) = known_schedule(config, reading);
    if !left.is_empty() && kind != "manual" {
        notes.push(format!(
            "schedule_config has {}, which means nothing here and is left out",
            left.join(", ")
        ));
    }
    match kind {
        "manual" => {}
        "cron" => {
            task.insert("scheduler_type".into(), "cron".into());
            task.insert("schedule_config".into(), schedule.into());
        }
        "date" => date(schedule, reading, task, notes),
        other => {
            let reason = format!("its scheduler_type {} is unknown here", one_line(other, 40));
            notes.push(reason.clone());
            unschedule(task, &reason);
        }
    }
}

/// A schedule by the names it has here, and the keys that have none.
fn known_schedule(
    config: Map<String, Value>,
    reading: &Reading<'_>,
) -> (Map<String, Value>, Vec<String>) {
    let zone = config.get("timezone").and_then(Value::as_str);
    let zone = zone
        .and_then(|zone| zone.parse().ok())
        .unwrap_or(reading.zone);
    let mut schedule = Map::new();
    let mut left = Vec::new();
    for (key, value) in config {
        let name = match key.as_str() {
            "cron_expression" | "cron" | "expression" | "crontab" => "cron_expression",
            "run_at" | "run_date" | "date" => "run_at",
            "timezone" | "tz" => "timezone",
            "start_at" | "start_date" => "start_at",
            "end_at" | "end_date" => "end_at",
            "jitter_seconds" | "jitter" => "jitter_seconds",
            "misfire_grace_seconds" | "misfire_grace_time" => "misfire_grace_seconds",
            "catch_up" => "catch_up",
            "catch_up_window_seconds" => "catch_up_window_seconds",
            _ => {
                left.push(key);
                continue;
            }
        };
        let value = match (name, value.as_str()) {
            ("run_at" | "start_at" | "end_at", Some(text)) => {
                instant(text, zone).map_or_else(|| value.clone(), |at| wire(at).into())
            }
            _ => value,
        };
        if !value.is_null() {
            schedule.insert(name.to_owned(), value);
        }
    }
    (schedule, left)
}

/// A task that runs once: one whose instant has passed never runs by itself again.
fn date(
    mut schedule: Map<String, Value>,
    reading: &Reading<'_>,
    task: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) {
    // The instant says its offset.
    schedule.remove("timezone");
    let at = schedule.get("run_at").and_then(Value::as_str);
    if let Some(at) = at.and_then(|at| at.parse::<Timestamp>().ok())
        && at <= reading.now
    {
        let reason = format!("it was due once, at {}, which has passed", wire(at));
        notes.push(reason.clone());
        return unschedule(task, &reason);
    }
    task.insert("scheduler_type".into(), "date".into());
    task.insert("schedule_config".into(), schedule.into());
}
