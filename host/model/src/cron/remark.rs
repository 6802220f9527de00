//! What changed clocks did to a slot, in words for people.

use super::CronSchedule;
use super::next::DstRule;
use chrono::{DateTime, NaiveDateTime};

/// The remark on `slot`, the next after `after`; Unix seconds.
pub(super) fn of(schedule: &CronSchedule, after: i64, slot: i64) -> Option<String> {
    let remarks: Vec<String> = swallowed(schedule, after, slot)
        .into_iter()
        .chain(repeated(schedule, slot))
        .collect();
    if remarks.is_empty() {
        return moved(schedule, after, slot);
    }
    Some(remarks.join("; "))
}

/// The newest gap since `after` that swallowed a wall time of the schedule.
fn swallowed(schedule: &CronSchedule, after: i64, slot: i64) -> Option<String> {
    let zone = &schedule.zone;
    let (old, new) = (zone.index_at(after), zone.index_at(slot));
    (old + 1..=new).rev().find_map(|index| {
        let begin = zone.begin(index);
        let (from, to) = (begin + zone.offset(index - 1), begin + zone.offset(index));
        let lost = schedule.walls.after(from - 1).filter(|wall| *wall < to)?;
        let becomes = match schedule.rule {
            DstRule::EachOnce => "it fires at the first instant after the gap",
            DstRule::RealTime => "it is left out",
        };
        let same_day = wall_time(from).date() == wall_time(to).date();
        let shown = if same_day { time } else { date_and_time };
        Some(format!(
            "{} does not exist in {}: clocks go from {} to {}; {becomes}",
            date_and_time(lost),
            schedule.timezone.name(),
            shown(from),
            shown(to),
        ))
    })
}

/// A wall time that comes twice.
fn repeated(schedule: &CronSchedule, slot: i64) -> Option<String> {
    let zone = &schedule.zone;
    let index = zone.index_at(slot);
    let wall = slot + zone.offset(index);
    let comes_in = |other: usize| {
        let instant = wall - zone.offset(other);
        zone.begin(other) <= instant && instant < zone.end(other)
    };
    let again = index + 1 < zone.len() && comes_in(index + 1);
    let before = index > 0 && comes_in(index - 1);
    let becomes = match (schedule.rule, again, before) {
        (_, false, false) => return None,
        (DstRule::EachOnce, ..) => "it fires at the first only",
        (DstRule::RealTime, true, _) => "this is the first, and both fire",
        (DstRule::RealTime, ..) => "this is the second, and both fire",
    };
    Some(format!(
        "{} comes twice in {}; {becomes}",
        date_and_time(wall),
        schedule.timezone.name()
    ))
}

/// Clocks were changed since `after`, which moves slots in UTC.
fn moved(schedule: &CronSchedule, after: i64, slot: i64) -> Option<String> {
    let zone = &schedule.zone;
    let offset = |instant| zone.offset(zone.index_at(instant));
    let (old, new) = (offset(after), offset(slot));
    (old != new).then(|| {
        format!(
            "clocks changed from {} to {}; {} in {}",
            utc(old),
            utc(new),
            time(slot + new),
            schedule.timezone.name()
        )
    })
}

fn wall_time(wall: i64) -> NaiveDateTime {
    DateTime::from_timestamp(wall, 0)
        .unwrap_or_default()
        .naive_utc()
}

fn time(wall: i64) -> String {
    let form = if wall % 60 == 0 { "%H:%M" } else { "%H:%M:%S" };
    wall_time(wall).format(form).to_string()
}

fn date_and_time(wall: i64) -> String {
    format!("{} {}", wall_time(wall).format("%Y-%m-%d"), time(wall))
}

/// `UTC+05:30`; an offset of whole minutes has no seconds.
fn utc(offset: i64) -> String {
    let (sign, size) = if offset < 0 {
        ('-', -offset)
    } else {
        ('+', offset)
    };
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    let seconds = if seconds == 0 {
        String::new()
    } else {
        format!(":{seconds:02}")
    };
    format!("UTC{sign}{hours:02}:{minutes:02}{seconds}")
}
