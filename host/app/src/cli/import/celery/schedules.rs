//! When Celery's entries fire, as this system says it: an expression, an instant, or not at all.

use super::Reading;
use crate::cli::import::zone::{instant, zone};
use chrono_tz::Tz;
use horarium_model::Timestamp;
use horarium_model::text::one_line;
use serde_json::Value;

/// When an entry fires.
#[derive(Debug, PartialEq)]
pub(super) enum When {
    Cron(String, String),
    At(Timestamp),
    /// Not expressible here, and why.
    Never(String),
}

/// A schedule and what is to be said of it.
pub(super) type Read = (When, Option<String>);

impl Reading<'_> {
    pub(super) fn crontab(&self, schedule: &Value, zone: Tz) -> Read {
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
    pub(super) fn crontab_fields(&self, fields: [String; 5], zone: Tz) -> Read {
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

    pub(super) fn clocked(&self, at: &Value) -> Read {
        let text = at.as_str().unwrap_or_default();
        match instant(text, self.zone) {
            Some(at) => (When::At(at), None),
            None => never(format!(
                "its clocked_time `{}` is no instant",
                one_line(text, 60)
            )),
        }
    }
}

pub(super) fn never(reason: String) -> Read {
    (When::Never(reason), None)
}

pub(super) fn zone_named(text: &str) -> Result<Tz, String> {
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
pub(super) fn interval(every: Option<f64>, period: Option<&str>) -> Read {
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
