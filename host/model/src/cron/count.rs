//! How many slots a window holds, without visiting each: a schedule that fires every second
//! has 31 million of them in a year.

use chrono::{DateTime, Datelike, NaiveDate};

use super::fields::{Field, Fields};
use super::next::DstRule;
use super::zone::ZoneTable;

const DAY: i64 = 86_400;

/// Number of slots in `(after, until]`, Unix seconds.
pub(super) fn slots(
    fields: &Fields,
    zone: &ZoneTable,
    rule: DstRule,
    after: i64,
    until: i64,
) -> u64 {
    if until <= after {
        return 0;
    }
    match rule {
        DstRule::RealTime => real_time(fields, zone, after, until),
        DstRule::EachOnce => each_once(fields, zone, after, until),
    }
}

fn real_time(fields: &Fields, zone: &ZoneTable, after: i64, until: i64) -> u64 {
    let mut count = 0;
    let mut from = after;
    for index in zone.index_at(after)..=zone.index_at(until) {
        let offset = zone.offset(index);
        let last = until.min(zone.end(index).saturating_sub(1));
        count += walls(fields, from + offset, last + offset);
        from = last;
    }
    count
}

fn each_once(fields: &Fields, zone: &ZoneTable, after: i64, until: i64) -> u64 {
    let mut count = walls(fields, zone.latest_wall(after), zone.latest_wall(until));
    for index in zone.index_at(after) + 1..=zone.index_at(until) {
        let begin = zone.begin(index);
        let landing = begin + zone.offset(index);
        // All that a gap swallowed, and what it ends on, fires once.
        count -= walls(fields, zone.latest_wall(begin - 1), landing).saturating_sub(1);
    }
    count
}

/// Number of wall times in `(after, until]`, wall seconds.
fn walls(fields: &Fields, after: i64, until: i64) -> u64 {
    if until <= after {
        return 0;
    }
    let (first, last) = (after.div_euclid(DAY), until.div_euclid(DAY));
    let whole_day = times(fields, DAY - 1);
    let mut count = (first..=last)
        .filter(|day| matches_day(fields, *day))
        .count() as u64
        * whole_day;
    if matches_day(fields, first) {
        count -= times(fields, after.rem_euclid(DAY));
    }
    if matches_day(fields, last) {
        count -= whole_day - times(fields, until.rem_euclid(DAY));
    }
    count
}

/// Number of matching times of day from 00:00:00 to `second` of the day, both included.
fn times(fields: &Fields, second: i64) -> u64 {
    let below = |field: &Field, value: u32| field.values.partition_point(|v| *v < value) as u64;
    let second = second as u32;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let per_minute = fields.second.values.len() as u64;
    let per_hour = fields.minute.values.len() as u64 * per_minute;
    let mut count = below(&fields.hour, hour) * per_hour;
    if fields.hour.allows(hour) {
        count += below(&fields.minute, minute) * per_minute;
        if fields.minute.allows(minute) {
            count += below(&fields.second, second + 1);
        }
    }
    count
}

fn matches_day(fields: &Fields, day: i64) -> bool {
    let Some(date) = DateTime::from_timestamp(day * DAY, 0).map(|w| w.date_naive()) else {
        return false;
    };
    let month_day = fields.day_of_month.allows(date.day());
    let week_day = fields
        .day_of_week
        .allows(date.weekday().num_days_from_sunday());
    let day_matches = if fields.either_day() {
        month_day || week_day
    } else {
        month_day && week_day
    };
    day_matches && fields.month.allows(date.month()) && allows_year(fields, date)
}

fn allows_year(fields: &Fields, date: NaiveDate) -> bool {
    u32::try_from(date.year()).is_ok_and(|year| fields.year.allows(year))
}
