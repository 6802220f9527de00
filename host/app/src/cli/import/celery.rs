//! `import celery-beat`: periodic tasks, as `manage.py dumpdata django_celery_beat` writes them, or a `beat_schedule` as
//! JSON.

mod schedules;

use super::spec::{pause, settle, unschedule};
use super::types::{TypeMap, key, name, short_hash};
use super::zone::{instant, zone};
use super::{Common, Found, carry_over};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::values::read_text;
use crate::cli::{Remote, now};
use chrono_tz::Tz;
use clap::Args;
use horarium_model::Timestamp;
use horarium_model::input::type_name;
use horarium_model::schedule::wire;
use horarium_model::text::one_line;
use schedules::{Read, When, interval, never, zone_named};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The JSON: `manage.py dumpdata django_celery_beat`, or a beat_schedule; - is standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// The zone of times that name none
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    timezone: Tz,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let text = read_text(&arguments.file)?;
    let document = horarium_model::json::parse(text.as_bytes())
        .map_err(|problem| Failure::refused(format!("{}: {problem}", arguments.file)))?;
    let set = arguments.common.set.as_deref().unwrap_or("celery");
    let types = TypeMap::new(&arguments.common.map);
    let reading = Reading {
        set,
        types: &types,
        zone: arguments.timezone,
        now: now(),
    };
    let found = reading
        .document(&document)
        .map_err(|detail| Failure::refused(format!("{}: {detail}", arguments.file)))?;
    let mut report = carry_over(remote, &arguments.common, set, &found, &types)?;
    report.source = match arguments.file.as_str() {
        "-" => "standard input".to_owned(),
        file => file.to_owned(),
    };
    report.notes.push(
        "a plugin gets `kwargs` as its parameters, and what stands in `args` as the parameter `args`".to_owned(),
    );
    report.show(remote)
}

/// What entries are read by.
struct Reading<'a> {
    set: &'a str,
    types: &'a TypeMap,
    zone: Tz,
    now: Timestamp,
}

impl Reading<'_> {
    fn document(&self, document: &Value) -> Result<Vec<Found>, String> {
        match document {
            Value::Array(rows) => self.fixture(rows),
            Value::Object(map) => {
                let zone = map.get("timezone").and_then(Value::as_str);
                let zone = zone.map(zone_named).transpose()?.unwrap_or(self.zone);
                match map.get("beat_schedule").or(map.get("CELERY_BEAT_SCHEDULE")) {
                    Some(Value::Object(entries)) => self.entries(entries, zone),
                    Some(other) => Err(format!(
                        "beat_schedule must be an object, not {}",
                        type_name(other)
                    )),
                    None => self.entries(map, zone),
                }
            }
            other => Err(format!(
                "must be a list (dumpdata) or an object (beat_schedule), not {}",
                type_name(other)
            )),
        }
    }

    /// Rows of `dumpdata`.
    fn fixture(&self, rows: &[Value]) -> Result<Vec<Found>, String> {
        let mut schedules: HashMap<(String, String), &Value> = HashMap::new();
        let model = |row: &Value| {
            let model = row["model"].as_str().unwrap_or_default();
            model.rsplit('.').next().unwrap_or_default().to_lowercase()
        };
        for row in rows {
            schedules.insert((model(row), row["pk"].to_string()), &row["fields"]);
        }
        let tasks = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| model(row) == "periodictask");
        let mut found = Vec::new();
        for (index, row) in tasks {
            let fields = row["fields"]
                .as_object()
                .ok_or_else(|| format!("/{index}/fields must be an object"))?;
            let name = fields
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            // beat's own.
            if name == "celery.backend_cleanup" {
                continue;
            }
            let (when, note) = self.of_fixture(fields, &schedules);
            let place = format!("`{}`", one_line(name, 60));
            found.push(self.task(place, name, fields, when, note));
        }
        if found.is_empty()
            && !rows.is_empty()
            && schedules.keys().all(|(model, _)| model.is_empty())
        {
            return Err("has no rows with a `model`; is it what dumpdata wrote?".to_owned());
        }
        Ok(found)
    }

    fn of_fixture(
        &self,
        fields: &Map<String, Value>,
        schedules: &HashMap<(String, String), &Value>,
    ) -> Read {
        for kind in ["crontab", "interval", "clocked", "solar"] {
            let Some(id) = fields.get(kind).filter(|id| !id.is_null()) else {
                continue;
            };
            let Some(schedule) = schedules.get(&(format!("{kind}schedule"), id.to_string())) else {
                return never(format!(
                    "its {kind} schedule {id} is not in the file; dump the whole app"
                ));
            };
            return match kind {
                "crontab" => self.crontab(schedule, self.zone),
                "interval" => interval(schedule["every"].as_f64(), schedule["period"].as_str()),
                "clocked" => self.clocked(&schedule["clocked_time"]),
                _ => never(format!("it follows the sun: {schedule}")),
            };
        }
        never("it names no schedule".to_owned())
    }

    /// A `beat_schedule`.
    fn entries(&self, entries: &Map<String, Value>, zone: Tz) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        for (name, entry) in entries {
            if name == "timezone" {
                continue;
            }
            let entry = entry.as_object().filter(|entry| entry.contains_key("task"));
            let entry = entry.ok_or_else(|| {
                format!(
                    "`{}` must be an object with `task` and `schedule`",
                    one_line(name, 60)
                )
            })?;
            let (when, note) = self.of_entry(entry.get("schedule").unwrap_or(&Value::Null), zone);
            found.push(self.task(format!("`{}`", one_line(name, 60)), name, entry, when, note));
        }
        Ok(found)
    }

    fn of_entry(&self, schedule: &Value, zone: Tz) -> Read {
        match schedule {
            Value::Number(seconds) => interval(seconds.as_f64(), Some("seconds")),
            Value::String(text) => {
                let fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                match <[String; 5]>::try_from(fields) {
                    Ok(fields) => self.crontab_fields(fields, zone),
                    Err(_) => never(format!(
                        "its schedule `{}` is no crontab",
                        one_line(text, 60)
                    )),
                }
            }
            Value::Object(map) if map.contains_key("every") => {
                let period = map
                    .get("period")
                    .and_then(Value::as_str)
                    .unwrap_or("seconds");
                interval(map["every"].as_f64(), Some(period))
            }
            Value::Object(map) if map.contains_key("seconds") => {
                interval(map["seconds"].as_f64(), Some("seconds"))
            }
            Value::Object(map) if map.contains_key("minute") || map.contains_key("hour") => {
                self.crontab(schedule, zone)
            }
            Value::Null => never("it names no schedule".to_owned()),
            other => never(format!(
                "its schedule {} is not known here",
                one_line(&other.to_string(), 80)
            )),
        }
    }

    fn task(
        &self,
        place: String,
        entry_name: &str,
        fields: &Map<String, Value>,
        when: When,
        note: Option<String>,
    ) -> Found {
        let from_type = fields
            .get("task")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut notes: Vec<String> = note.into_iter().collect();
        let mut task = Map::new();
        let id = short_hash(&[entry_name]);
        task.insert("key".into(), key(self.set, entry_name, &id).into());
        task.insert("name".into(), name(entry_name, &place).into());
        task.insert("task_type".into(), self.types.of(from_type).into());
        task.insert("parameters".into(), parameters(fields, &mut notes));
        let mut schedule = Map::new();
        for (theirs, ours) in [("start_time", "start_at"), ("expires", "end_at")] {
            let at = fields.get(theirs).and_then(Value::as_str);
            if let Some(at) = at.and_then(|text| instant(text, self.zone)) {
                schedule.insert(ours.into(), wire(at).into());
            }
        }
        match when {
            When::Cron(expression, zone) => {
                schedule.insert("cron_expression".into(), expression.into());
                schedule.insert("timezone".into(), zone.into());
                task.insert("scheduler_type".into(), "cron".into());
                task.insert("schedule_config".into(), schedule.into());
            }
            When::At(at) if at > self.now => {
                task.insert("scheduler_type".into(), "date".into());
                task.insert("schedule_config".into(), json!({"run_at": wire(at)}));
            }
            When::At(at) => {
                let reason = format!("it was due once, at {}, which has passed", wire(at));
                notes.push(reason.clone());
                unschedule(&mut task, &reason);
            }
            When::Never(reason) => {
                notes.push(reason.clone());
                unschedule(&mut task, &reason);
            }
        }
        options(fields, &mut task, &mut notes);
        settle(&mut task, &mut notes, self.now);
        Found {
            place,
            from_type: from_type.to_owned(),
            task,
            notes,
        }
    }
}

/// A value that fixtures keep as JSON in a text.
fn inner(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(text)) => {
            horarium_model::json::parse(text.as_bytes()).unwrap_or_else(|_| text.clone().into())
        }
        Some(other) => other.clone(),
        None => Value::Null,
    }
}

fn parameters(fields: &Map<String, Value>, notes: &mut Vec<String>) -> Value {
    let mut parameters = match inner(fields.get("kwargs")) {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => {
            notes.push("its kwargs are no object, and are kept under `kwargs`".to_owned());
            Map::from_iter([("kwargs".to_owned(), other)])
        }
    };
    match inner(fields.get("args")) {
        Value::Null => {}
        Value::Array(args) if args.is_empty() => {}
        args => {
            if parameters.insert("args".into(), args).is_some() {
                notes.push("it has both args and a kwarg `args`; the former are kept".to_owned());
            }
        }
    }
    parameters.into()
}

/// What else an entry says.
fn options(fields: &Map<String, Value>, task: &mut Map<String, Value>, notes: &mut Vec<String>) {
    if fields.get("enabled") == Some(&Value::Bool(false)) {
        pause(task, "it was disabled there");
    }
    if fields.get("one_off") == Some(&Value::Bool(true)) && task["scheduler_type"] == "cron" {
        let reason = "it was to run only once, at its next time (one_off)";
        notes.push(reason.to_owned());
        pause(task, reason);
    }
    let own = fields.get("options").and_then(Value::as_object);
    let said = |key: &str| {
        let value = fields.get(key).or_else(|| own?.get(key));
        value.filter(|value| !value.is_null() && **value != json!("") && **value != json!("{}"))
    };
    for key in ["expire_seconds", "expires"] {
        if let Some(seconds) = said(key).and_then(Value::as_u64) {
            task.insert("expires_after_seconds".into(), seconds.into());
        }
    }
    let nothing: Vec<String> = ["queue", "exchange", "routing_key", "priority", "headers"]
        .into_iter()
        .filter_map(|key| said(key).map(|value| format!("{key} {value}")))
        .collect();
    if !nothing.is_empty() {
        notes.push(one_line(
            &format!("means nothing here: {}", nothing.join(", ")),
            300,
        ));
    }
}

#[cfg(test)]
mod tests;
