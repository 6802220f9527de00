//! Cron schedules against an oracle that walks the clock, and against `croner`.
//!
//! The oracle knows the rules in words only: it visits every minute (or second) and asks
//! `chrono-tz` what the wall shows, with no table of transitions and no `cron` crate.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Duration, LocalResult, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use horarium_model::cron::CronSchedule;
use proptest::prelude::*;

/// Instants at which clocks were moved.
const TRANSITIONS: &[(&str, &str)] = &[
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("America/Santiago", "2026-04-05T03:00:00Z"),
    ("America/Santiago", "2026-09-06T04:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Havana", "2026-11-01T05:00:00Z"),
    ("America/Caracas", "2007-12-09T07:00:00Z"),
    ("America/Caracas", "2016-05-01T07:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
    ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
    ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),
    ("Asia/Tehran", "2022-03-21T20:30:00Z"),
    ("Asia/Pyongyang", "2018-05-04T15:00:00Z"),
    ("Europe/Dublin", "2026-10-25T01:00:00Z"),
    ("UTC", "2028-02-29T00:00:00Z"),
];

/// A clock moved from an offset with odd seconds: only walks by the second are exact.
const ODD_SECONDS: (&str, &str) = ("Africa/Monrovia", "1972-01-07T00:44:30Z");

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A field as generated: its text and the values it means.
#[derive(Clone, Debug)]
struct Generated {
    text: String,
    values: BTreeSet<u32>,
}

impl Generated {
    fn starred(&self) -> bool {
        self.text.starts_with('*')
    }
}

fn item(low: u32, high: u32) -> impl Strategy<Value = Generated> {
    let stepped = |text: String, low: u32, high: u32, step: u32| Generated {
        text,
        values: (low..=high)
            .filter(|v| (v - low).is_multiple_of(step))
            .collect(),
    };
    prop_oneof![
        2 => Just(stepped("*".into(), low, high, 1)),
        2 => (1..=high + 3).prop_map(move |n| stepped(format!("*/{n}"), low, high, n)),
        4 => (low..=high).prop_map(move |v| stepped(v.to_string(), v, v, 1)),
        2 => (low..=high, low..=high).prop_map(move |(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            stepped(format!("{a}-{b}"), a, b, 1)
        }),
        2 => (low..=high, low..=high, 1..=high).prop_map(move |(a, b, n)| {
            let (a, b) = (a.min(b), a.max(b));
            stepped(format!("{a}-{b}/{n}"), a, b, n)
        }),
    ]
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Generated> {
    proptest::collection::vec(item(low, high), 1..3).prop_map(|items| Generated {
        text: items
            .iter()
            .map(|i| i.text.as_str())
            .collect::<Vec<_>>()
            .join(","),
        values: items.into_iter().flat_map(|i| i.values).collect(),
    })
}

/// The rules in words, over sets of values.
#[derive(Clone, Debug)]
struct Oracle {
    second: Option<Generated>,
    minute: Generated,
    hour: Generated,
    day_of_month: Generated,
    month: Generated,
    day_of_week: Generated,
    year: Option<Generated>,
}

impl Oracle {
    fn expression(&self) -> String {
        self.second
            .iter()
            .chain([
                &self.minute,
                &self.hour,
                &self.day_of_month,
                &self.month,
                &self.day_of_week,
            ])
            .chain(&self.year)
            .map(|f| f.text.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let second = match &self.second {
            Some(field) => field.values.contains(&wall.second()),
            None => wall.second() == 0,
        };
        if !second
            || !self.minute.values.contains(&wall.minute())
            || !self.hour.values.contains(&wall.hour())
            || !self.month.values.contains(&wall.month())
            || self
                .year
                .as_ref()
                .is_some_and(|f| !f.values.contains(&(wall.year() as u32)))
        {
            return false;
        }
        let sunday = wall.weekday().num_days_from_sunday();
        let week_day = self.day_of_week.values.contains(&sunday)
            || (sunday == 0 && self.day_of_week.values.contains(&7));
        let month_day = self.day_of_month.values.contains(&wall.day());
        if self.day_of_month.starred() || self.day_of_week.starred() {
            month_day && week_day
        } else {
            month_day || week_day
        }
    }

    fn fixed(&self) -> bool {
        let second = self.second.as_ref().is_some_and(Generated::starred);
        !second && !self.minute.starred() && !self.hour.starred()
    }

    /// All slots in `(from, until]`, walking by `step`.
    fn slots(
        &self,
        zone: Tz,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        step: Duration,
    ) -> Vec<DateTime<Utc>> {
        let mut slots = BTreeSet::new();
        if self.fixed() {
            let mut gap = Gap::default();
            let mut wall = from.naive_utc() - Duration::hours(48);
            let last = until.naive_utc() + Duration::hours(48);
            while wall <= last {
                if self.matches(wall) {
                    slots.insert(match zone.from_local_datetime(&wall) {
                        LocalResult::Single(only) => only.with_timezone(&Utc),
                        LocalResult::Ambiguous(first, _) => first.with_timezone(&Utc),
                        LocalResult::None => gap.end(zone, wall),
                    });
                }
                wall += step;
            }
        } else {
            let mut instant = from + step;
            while instant <= until {
                if self.matches(instant.with_timezone(&zone).naive_local()) {
                    slots.insert(instant);
                }
                instant += step;
            }
        }
        slots
            .into_iter()
            .filter(|slot| from < *slot && *slot <= until)
            .collect()
    }
}

/// The gap met last: walking to its end for each wall time in it would be slow.
#[derive(Default)]
struct Gap(Option<(NaiveDateTime, NaiveDateTime, DateTime<Utc>)>);

impl Gap {
    /// The first instant after the gap that swallowed `wall`.
    fn end(&mut self, zone: Tz, wall: NaiveDateTime) -> DateTime<Utc> {
        if let Some((before, after, end)) = self.0
            && before < wall
            && wall < after
        {
            return end;
        }
        let shown = |instant: DateTime<Utc>| instant.with_timezone(&zone).naive_local();
        let mut end = (wall - Duration::hours(30)).and_utc();
        while shown(end + Duration::minutes(1)) < wall {
            end += Duration::minutes(1);
        }
        while shown(end) < wall {
            end += Duration::seconds(1);
        }
        self.0 = Some((shown(end - Duration::seconds(1)), shown(end), end));
        end
    }
}

/// Holds every way of asking for slots against the oracle.
fn check(
    oracle: &Oracle,
    zone: &str,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    step: Duration,
) -> Result<(), TestCaseError> {
    let expression = oracle.expression();
    // A generated day that never comes is refused; that is tested elsewhere.
    let Ok(schedule) = CronSchedule::parse(&expression, zone, 0) else {
        return Ok(());
    };
    let expected = oracle.slots(schedule.timezone(), from, until, step);

    let forwards: Vec<_> = schedule
        .slots(from)
        .take_while(|slot| *slot <= until)
        .collect();
    prop_assert_eq!(&forwards, &expected, "{} in {}", expression, zone);

    let mut backwards: Vec<_> = schedule
        .slots_before(until)
        .take_while(|slot| *slot > from)
        .collect();
    backwards.reverse();
    prop_assert_eq!(
        &backwards,
        &expected,
        "backwards, {} in {}",
        expression,
        zone
    );

    prop_assert_eq!(schedule.count_in(from, until), expected.len() as u64);
    prop_assert_eq!(schedule.newest_in(from, until), expected.last().copied());

    // From instants that are no slots, with fractions too.
    for part in 0..20 {
        let start = from + (until - from) / 20 * part + Duration::milliseconds(137);
        let next = schedule.next_after(start).filter(|slot| *slot <= until);
        let wanted = expected.iter().find(|slot| **slot > start).copied();
        prop_assert_eq!(next, wanted, "{} in {} after {}", expression, zone, start);
        let last = schedule.newest_in(from, start);
        let wanted = expected.iter().rfind(|slot| **slot <= start).copied();
        prop_assert_eq!(last, wanted, "{} in {} before {}", expression, zone, start);
    }
    Ok(())
}

fn oracle(second: bool) -> impl Strategy<Value = Oracle> {
    let second = if second {
        field(0, 59).prop_map(Some).boxed()
    } else {
        Just(None).boxed()
    };
    (
        second,
        field(0, 59),
        field(0, 23),
        // Days and months mostly open: the windows are short.
        prop_oneof![3 => Just(every(1, 31)), 1 => field(1, 31)],
        prop_oneof![5 => Just(every(1, 12)), 1 => field(1, 12)],
        prop_oneof![3 => Just(every(0, 7)), 1 => field(0, 7)],
    )
        .prop_map(
            |(second, minute, hour, day_of_month, month, day_of_week)| Oracle {
                second,
                minute,
                hour,
                day_of_month,
                month,
                day_of_week,
                year: None,
            },
        )
}

/// A field without `*`.
fn closed(low: u32, high: u32) -> impl Strategy<Value = Generated> {
    field(low, high).prop_filter("no star", |field| !field.text.contains('*'))
}

fn every(low: u32, high: u32) -> Generated {
    Generated {
        text: "*".into(),
        values: (low..=high).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn minutes_agree_with_a_walk(
        oracle in oracle(false),
        transition in 0..TRANSITIONS.len(),
    ) {
        let (zone, instant) = TRANSITIONS[transition];
        let middle = at(instant);
        check(
            &oracle,
            zone,
            middle - Duration::hours(30),
            middle + Duration::hours(30),
            Duration::minutes(1),
        )?;
    }

    #[test]
    fn seconds_agree_with_a_walk(
        oracle in oracle(true),
        transition in 0..=TRANSITIONS.len(),
        before in 1i64..5400,
        after in 1i64..5400,
    ) {
        let (zone, instant) = TRANSITIONS.get(transition).copied().unwrap_or(ODD_SECONDS);
        let middle = at(instant);
        check(
            &oracle,
            zone,
            middle - Duration::seconds(before),
            middle + Duration::seconds(after),
            Duration::seconds(1),
        )?;
    }

    #[test]
    fn days_agree_with_a_walk_over_years(
        day_of_month in field(1, 31),
        month in field(1, 12),
        day_of_week in field(0, 7),
        year in proptest::option::of(closed(2018, 2026)),
    ) {
        let noon = Generated { text: "12".into(), values: [12].into() };
        let zero = Generated { text: "0".into(), values: [0].into() };
        let oracle = Oracle {
            second: year.is_some().then(|| zero.clone()),
            minute: zero,
            hour: noon,
            day_of_month,
            month,
            day_of_week,
            year,
        };
        let (from, until) = (at("2019-12-31T12:00:00Z"), at("2025-03-01T12:00:00Z"));
        check(&oracle, "UTC", from, until, Duration::days(1))?;
    }

    #[test]
    // Single values only: croner takes lists and ranges for intervals when clocks change.
    fn croner_agrees_on_plain_expressions(
        minute in 0u32..60,
        hour in 0u32..24,
        day in prop_oneof![Just("*".to_owned()), (1u32..29).prop_map(|d| d.to_string())],
        month in prop_oneof![Just("*".to_owned()), (1u32..13).prop_map(|m| m.to_string())],
        week_day in prop_oneof![Just("*".to_owned()), (0u32..8).prop_map(|d| d.to_string())],
        open_hour in any::<bool>(),
        transition in 0..TRANSITIONS.len(),
    ) {
        let (zone, instant) = TRANSITIONS[transition];
        // croner stops for ever at a day that the date line took.
        prop_assume!(!zone.starts_with("Pacific/"));
        let hour = if open_hour { "*".to_owned() } else { hour.to_string() };
        let expression = format!("{minute} {hour} {day} {month} {week_day}");
        let ours = CronSchedule::parse(&expression, zone, 0).unwrap();
        let theirs: croner::Cron = expression.parse().unwrap();
        let start = at(instant) - Duration::days(2);
        let local = start.with_timezone(&ours.timezone());
        let mine: Vec<_> = ours.slots(start).take(40).collect();
        let other: Vec<_> = theirs
            .iter_after(local)
            .take(40)
            .map(|slot| slot.with_timezone(&Utc))
            .collect();
        prop_assert_eq!(mine, other, "{} in {}", expression, zone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    // No steps on `*` in the day fields, which croner counts as restricted; Debian does not.
    #[test]
    fn croner_agrees_on_field_syntax(
        second in field(0, 59),
        minute in field(0, 59),
        hour in field(0, 23),
        day in prop_oneof![Just(every(1, 31)), closed(1, 31)],
        month in field(1, 12),
        week_day in prop_oneof![Just(every(0, 7)), closed(0, 7)],
    ) {
        let fields = [second, minute, hour, day, month, week_day];
        let expression = fields.iter().map(|f| f.text.as_str()).collect::<Vec<_>>().join(" ");
        let Ok(ours) = CronSchedule::parse(&expression, "UTC", 0) else {
            return Ok(());
        };
        let theirs: croner::Cron = match expression.parse() {
            Ok(theirs) => theirs,
            // croner refuses steps longer than the range.
            Err(_) => return Ok(()),
        };
        let start = at("2026-02-20T12:34:56Z");
        let mine: Vec<_> = ours.slots(start).take(20).collect();
        let other: Vec<_> = theirs.iter_after(start).take(20).collect();
        prop_assert_eq!(mine, other, "{}", expression);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>(), zone in any::<String>()) {
        let _ = CronSchedule::parse(&text, "UTC", 1);
        prop_assert!(CronSchedule::parse("* * * * *", &zone, 1).is_err() || zone.parse::<Tz>().is_ok());
    }

    #[test]
    fn text_near_an_expression_is_parsed_or_refused(
        text in "[ \t]?([-0-9*/,HhLW#?~()@a-zA-Zä]{1,6}[ \t]{1,2}){4,7}[-0-9*/,H()]{1,5}",
    ) {
        match CronSchedule::parse(&text, "Europe/Berlin", 1) {
            Ok(schedule) => prop_assert!(schedule.next_after(DateTime::UNIX_EPOCH).is_some()),
            Err(error) => {
                prop_assert!(!error.message.contains('\n'));
                if let Some(position) = error.position {
                    prop_assert!(position <= text.chars().count(), "{}", error);
                }
            }
        }
    }
}
