//! Enumeration of wall times, without any zone, by the `cron` crate.

use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use cron::Schedule;

use super::CronError;
use super::fields::{Field, Fields};

/// Last second before 1970 and first after 2100, as wall seconds.
const BEFORE_FIRST: i64 = -1;
const AFTER_LAST: i64 = 4_133_980_800;

/// The wall times an expression means, as seconds since 1970-01-01 00:00 on the wall.
///
/// The crate ANDs day-of-month and day-of-week; where Unix ORs them, two of its schedules
/// are merged. It walks "UTC", which stands for a wall clock that is never moved.
#[derive(Clone, Debug)]
pub(super) struct WallTimes {
    schedule: Schedule,
    /// The other half of an OR.
    or_schedule: Option<Schedule>,
    /// Allowed years, ascending.
    years: Vec<u32>,
}

impl WallTimes {
    pub(super) fn new(fields: &Fields) -> Result<Self, CronError> {
        if !fields.either_day() {
            return Ok(WallTimes {
                schedule: schedule(fields, &fields.day_of_month, &fields.day_of_week)?,
                or_schedule: None,
                years: fields.year.values.clone(),
            });
        }
        let any_month_day = Field::every(fields.day_of_month.spec);
        let any_week_day = Field::every(fields.day_of_week.spec);
        Ok(WallTimes {
            schedule: schedule(fields, &fields.day_of_month, &any_week_day)?,
            or_schedule: Some(schedule(fields, &any_month_day, &fields.day_of_week)?),
            years: fields.year.values.clone(),
        })
    }

    /// The first wall time after `wall`.
    pub(super) fn after(&self, wall: i64) -> Option<i64> {
        if wall >= AFTER_LAST {
            return None;
        }
        let from = utc(wall.max(BEFORE_FIRST))?;
        let next = |schedule: &Schedule| schedule.after(&from).next().map(|w| w.timestamp());
        let first = next(&self.schedule);
        match self.or_schedule.as_ref().and_then(next) {
            Some(other) => Some(first.map_or(other, |first| first.min(other))),
            None => first,
        }
    }

    /// The last wall time at or before `wall`.
    pub(super) fn at_or_before(&self, wall: i64) -> Option<i64> {
        if wall <= BEFORE_FIRST {
            return None;
        }
        let until = self.just_after(wall.min(AFTER_LAST - 1))?;
        let last = |schedule: &Schedule| schedule.after(&until).next_back().map(|w| w.timestamp());
        last(&self.schedule).max(self.or_schedule.as_ref().and_then(last))
    }

    /// Where the crate has to start to find the last wall time at or before `wall`.
    ///
    /// Going back from a year that is not allowed, it keeps that year's month and day for the
    /// year it lands in; so it starts at the end of an allowed year.
    fn just_after(&self, wall: i64) -> Option<DateTime<Utc>> {
        let year = u32::try_from(utc(wall)?.year()).ok()?;
        let allowed = *self.years[..self.years.partition_point(|y| *y <= year)].last()?;
        if allowed == year {
            return utc(wall + 1);
        }
        let new_year = NaiveDate::from_yo_opt(i32::try_from(allowed).ok()? + 1, 1)?;
        Some(new_year.and_time(NaiveTime::MIN).and_utc())
    }
}

fn utc(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0)
}

/// One schedule of the crate, from explicit lists of values.
fn schedule(fields: &Fields, month_day: &Field, week_day: &Field) -> Result<Schedule, CronError> {
    let text = [
        list(&fields.second, 0),
        list(&fields.minute, 0),
        list(&fields.hour, 0),
        list(month_day, 0),
        list(&fields.month, 0),
        // The crate numbers Sunday 1.
        list(week_day, 1),
        list(&fields.year, 0),
    ]
    .join(" ");
    Schedule::from_str(&text).map_err(|error| CronError {
        field: None,
        position: None,
        message: format!("cron expression cannot be enumerated: {error}"),
    })
}

fn list(field: &Field, shift: u32) -> String {
    if field.is_every() {
        return "*".to_owned();
    }
    let values: Vec<String> = field
        .values
        .iter()
        .map(|value| (value + shift).to_string())
        .collect();
    values.join(",")
}
