//! `import celery-beat`: periodic tasks, as `manage.py dumpdata django_celery_beat` writes them, or a `beat_schedule` as
//! JSON.

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

/// When an entry fires.
#[derive(Debug, PartialEq)]
enum When {
    Cron(String, String),
    At(Timestamp),
    /// Not expressible here, and why.
    Never(String),
}

/// A schedule and what is to be said of it.
type Read = (When, Option<String>);

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

    fn crontab(&self, schedule: &Value, zone: Tz) -> Read {
        let field = |key: &str| match &schedule[key] {
            Value::String(text) => text.chars().filter(|c| !c.is_whitespace()).collect(),
            Value::Number(number) => number.to_string(),
            _ => "*".to_owned(),
        };
        let named = schedule["timezone"].as_str().map(zone_named);
        let zone = match named {
            Some(Ok(zone)) => zone,
            Some(Err(detail)) => return never(detail),
            None => zone,
        };
        let fields = [
            "minute",
            "hour",
            "day_of_month",
            "month_of_year",
            "day_of_week",
        ]
        .map(field);
        self.crontab_fields(fields, zone)
    }

    /// Celery wants both days to fit, where cron takes either: with both restricted it means another thing here.
    fn crontab_fields(&self, fields: [String; 5], zone: Tz) -> Read {
        let text = fields.join(" ");
        if fields.iter().any(String::is_empty) {
            let text = one_line(&text, 80);
            return never(format!("a field of its crontab `{text}` is empty"));
        }
        let [minute, hour, day, month, weekday] = fields;
        if !day.starts_with('*') && !weekday.starts_with('*') {
            return never(format!(
                "its crontab `{}` wants day of month and day of week both to fit, which no expression says here",
                one_line(&text, 80)
            ));
        }
        let (month, weekday) = (short_names(&month), short_names(&weekday));
        let text = [minute, hour, day, month, weekday].join(" ");
        (When::Cron(text, zone.name().to_owned()), None)
    }

    fn clocked(&self, at: &Value) -> Read {
        let text = at.as_str().unwrap_or_default();
        match instant(text, self.zone) {
            Some(at) => (When::At(at), None),
            None => never(format!(
                "its clocked_time `{}` is no instant",
                one_line(text, 60)
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

fn never(reason: String) -> Read {
    (When::Never(reason), None)
}

fn zone_named(text: &str) -> Result<Tz, String> {
    zone(text)
}

/// `monday` and `January`, which Celery takes, by the three letters that cron takes.
fn short_names(field: &str) -> String {
    let mut short = String::new();
    let mut letters = 0;
    for c in field.chars() {
        letters = if c.is_ascii_alphabetic() {
            letters + 1
        } else {
            0
        };
        if letters <= 3 {
            short.push(c.to_ascii_lowercase());
        }
    }
    short
}

/// An interval as an expression, where there is one: it counts from full hours, not from when beat was started.
fn interval(every: Option<f64>, period: Option<&str>) -> Read {
    let period = period.unwrap_or("seconds").to_lowercase();
    let unit = match period.trim_end_matches('s') {
        "second" => 1.0,
        "minute" => 60.0,
        "hour" => 3600.0,
        "day" => 86_400.0,
        "week" => 604_800.0,
        "microsecond" => 1e-6,
        _ => {
            return never(format!(
                "its period `{}` is not known here",
                one_line(&period, 40)
            ));
        }
    };
    let seconds = every.unwrap_or(0.0) * unit;
    let whole = seconds as u64;
    let divides = |part: u64, of: u64| {
        part > 0 && whole.is_multiple_of(part) && of.is_multiple_of(whole / part)
    };
    let step = |part: u64| match whole / part {
        1 => "*".to_owned(),
        n => format!("*/{n}"),
    };
    let expression = match whole {
        _ if seconds.fract() != 0.0 || whole == 0 => None,
        1..60 if divides(1, 60) => Some(format!("{} * * * * *", step(1))),
        60..3600 if divides(60, 60) => Some(format!("{} * * * *", step(60))),
        3600..86_400 if divides(3600, 24) => Some(format!("0 {} * * *", step(3600))),
        86_400 => Some("0 0 * * *".to_owned()),
        604_800 => Some("0 0 * * 0".to_owned()),
        _ => None,
    };
    match expression {
        Some(expression) => {
            let note = format!(
                "every {seconds} s there, counted from its start; here at `{expression}` UTC"
            );
            (When::Cron(expression, "UTC".to_owned()), Some(note))
        }
        None => never(format!("no cron expression says: every {seconds} s")),
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
mod tests {
    use super::*;

    fn read(document: &Value) -> Vec<Found> {
        let types = TypeMap::new(&[("app.tasks.mail".into(), "mailer".into())]);
        let reading = Reading {
            set: "celery",
            types: &types,
            zone: Tz::Europe__Berlin,
            now: "2026-01-01T00:00:00Z".parse().expect("an instant"),
        };
        reading.document(document).expect("read")
    }

    #[test]
    fn a_fixture_is_read() {
        let fixture = json!([
            {"model": "django_celery_beat.crontabschedule", "pk": 1, "fields": {"minute": "0", "hour": "8, 20",
                "day_of_week": "monday-Friday", "day_of_month": "*", "month_of_year": "*", "timezone": "America/New_York"}},
            {"model": "django_celery_beat.intervalschedule", "pk": 1, "fields": {"every": 5, "period": "minutes"}},
            {"model": "django_celery_beat.clockedschedule", "pk": 3, "fields": {"clocked_time": "2030-01-01T09:00:00Z"}},
            {"model": "django_celery_beat.solarschedule", "pk": 2, "fields": {"event": "sunrise"}},
            {"model": "django_celery_beat.periodictask", "pk": 1, "fields": {"name": "Mail", "task": "app.tasks.mail",
                "crontab": 1, "interval": null, "args": "[1, 2]", "kwargs": "{\"to\": \"ada\"}", "enabled": true,
                "queue": "slow", "expire_seconds": 30, "start_time": "2026-02-01T00:00:00Z", "one_off": false}},
            {"model": "django_celery_beat.periodictask", "pk": 2, "fields": {"name": "Poll", "task": "app.poll",
                "interval": 1, "args": "[]", "kwargs": "{}", "enabled": false}},
            {"model": "django_celery_beat.periodictask", "pk": 3, "fields": {"name": "Once", "task": "app.poll", "clocked": 3}},
            {"model": "django_celery_beat.periodictask", "pk": 4, "fields": {"name": "Sun", "task": "app.poll", "solar": 2}},
            {"model": "django_celery_beat.periodictask", "pk": 5, "fields": {"name": "Gone", "task": "app.poll", "interval": 9}},
            {"model": "django_celery_beat.periodictask", "pk": 6, "fields": {"name": "celery.backend_cleanup", "task": "x", "crontab": 1}},
        ]);
        let found = read(&fixture);
        assert_eq!(found.len(), 5);
        let mail = &found[0].task;
        assert_eq!(mail["task_type"], "mailer");
        assert_eq!(mail["parameters"], json!({"to": "ada", "args": [1, 2]}));
        assert_eq!(
            mail["schedule_config"],
            json!({"cron_expression": "0 8,20 * * mon-fri", "timezone": "America/New_York",
                "start_at": "2026-02-01T00:00:00Z"})
        );
        assert_eq!(mail["expires_after_seconds"], 30);
        assert!(
            found[0]
                .notes
                .iter()
                .any(|note| note.contains("queue \"slow\""))
        );
        let poll = &found[1].task;
        assert_eq!(poll["schedule_config"]["cron_expression"], "*/5 * * * *");
        assert_eq!(
            (&poll["paused"], &poll["pause_reason"]),
            (&json!(true), &json!("it was disabled there"))
        );
        assert_eq!(
            found[2].task["schedule_config"]["run_at"],
            "2030-01-01T09:00:00Z"
        );
        for found in &found[3..] {
            assert_eq!(
                (&found.task["scheduler_type"], &found.task["paused"]),
                (&json!("manual"), &json!(true))
            );
        }
    }

    #[test]
    fn a_beat_schedule_is_read() {
        let found = read(&json!({"timezone": "UTC", "beat_schedule": {
            "a": {"task": "app.a", "schedule": 30.0},
            "b": {"task": "app.b", "schedule": {"minute": "*/15", "hour": 4}, "args": [1], "options": {"expires": 60}},
            "c": {"task": "app.c", "schedule": "0 4 1 * *"},
            "d": {"task": "app.d", "schedule": "0 4 1 * 1"},
            "e": {"task": "app.e", "schedule": 90},
        }}));
        let expressions: Vec<&Value> = found
            .iter()
            .map(|f| {
                f.task
                    .get("schedule_config")
                    .map_or(&Value::Null, |s| &s["cron_expression"])
            })
            .collect();
        assert_eq!(
            expressions,
            [
                &json!("*/30 * * * * *"),
                &json!("*/15 4 * * *"),
                &json!("0 4 1 * *"),
                &Value::Null,
                &Value::Null
            ]
        );
        assert_eq!(found[1].task["expires_after_seconds"], 60);
        assert!(
            found[3].notes[0].contains("both to fit"),
            "{:?}",
            found[3].notes
        );
        assert!(
            found[4].notes[0].contains("every 90 s"),
            "{:?}",
            found[4].notes
        );
        for keyed in [&found[0], &found[1]] {
            let key = keyed.task["key"].as_str().expect("a key");
            assert!(key.starts_with("celery-"), "{key}");
        }
    }

    #[test]
    fn a_crontab_without_one_of_its_fields_is_told() {
        for schedule in [
            json!({"minute": ""}),
            json!({"minute": " ", "day_of_week": ""}),
        ] {
            let found = read(&json!({"a": {"task": "x", "schedule": schedule}}));
            assert!(
                found[0].notes[0].contains("is empty"),
                "{:?}",
                found[0].notes
            );
        }
    }

    #[test]
    fn intervals_that_divide_have_an_expression() {
        for (every, period, wanted) in [
            (1.0, "seconds", Some("* * * * * *")),
            (60.0, "seconds", Some("* * * * *")),
            (1.0, "minutes", Some("* * * * *")),
            (6.0, "hours", Some("0 */6 * * *")),
            (1.0, "days", Some("0 0 * * *")),
            (7.0, "days", Some("0 0 * * 0")),
            (5.0, "hours", None),
            (7.0, "minutes", None),
            (0.5, "seconds", None),
            (10.0, "microseconds", None),
            (2.0, "days", None),
        ] {
            let (when, _) = interval(Some(every), Some(period));
            let found = match &when {
                When::Cron(expression, _) => Some(expression.as_str()),
                _ => None,
            };
            assert_eq!(found, wanted, "{every} {period}");
        }
    }
}
