//! Cron schedules by hand: what fires when.

use chrono::{DateTime, Utc};
use horarium_model::cron::CronSchedule;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn schedule(expression: &str, zone: &str) -> CronSchedule {
    CronSchedule::parse(expression, zone, 7).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// Asserts the slots after `after` (exclusive), forwards and backwards.
#[track_caller]
fn fires(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let schedule = schedule(expression, zone);
    let expected: Vec<DateTime<Utc>> = expected.iter().map(|text| at(text)).collect();
    let forwards: Vec<_> = schedule.slots(at(after)).take(expected.len()).collect();
    assert_eq!(forwards, expected, "{expression} in {zone}");
    let last = *expected.last().unwrap();
    let mut backwards: Vec<_> = schedule.slots_before(last).take(expected.len()).collect();
    backwards.reverse();
    assert_eq!(backwards, expected, "{expression} in {zone}, backwards");
    assert_eq!(schedule.count_in(at(after), last), expected.len() as u64);
}

/// The same slots, found by two expressions.
#[track_caller]
fn same(one: &str, other: &str) {
    let from = at("2026-01-01T00:00:00Z");
    let slots = |expression| -> Vec<_> {
        schedule(expression, "Europe/Berlin")
            .slots(from)
            .take(300)
            .collect()
    };
    assert_eq!(slots(one), slots(other), "{one} and {other}");
}

#[test]
fn fixed_times_in_a_gap_fire_once_at_its_end() {
    fires(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        &[
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
        ],
    );
    // Two lost times and the one that is there: one slot.
    fires(
        "0 2,3 * * *",
        "America/New_York",
        "2026-03-08T00:00:00Z",
        &[
            "2026-03-08T07:00:00Z",
            "2026-03-09T06:00:00Z",
            "2026-03-09T07:00:00Z",
        ],
    );
    fires(
        "15,45 2 8 3 *",
        "America/New_York",
        "2026-03-01T00:00:00Z",
        &["2026-03-08T07:00:00Z", "2027-03-08T07:15:00Z"],
    );
    // Midnight itself is lost in Santiago: the day begins at 01:00.
    fires(
        "0 0 * * *",
        "America/Santiago",
        "2026-09-05T05:00:00Z",
        &["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"],
    );
    // Half an hour on Lord Howe.
    fires(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T16:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    );
    // Monrovia lost 44 minutes and 30 seconds.
    fires(
        "0 0 7 1 *",
        "Africa/Monrovia",
        "1971-12-01T00:00:00Z",
        &["1972-01-07T00:44:30Z", "1973-01-07T00:00:00Z"],
    );
    // Morocco comes back from Ramadan time.
    fires(
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-03-21T12:00:00Z",
        &["2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"],
    );
}

#[test]
fn fixed_times_shown_twice_fire_at_the_first() {
    fires(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    fires(
        "0,30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00Z",
        &[
            "2026-11-01T05:00:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-02T06:00:00Z",
        ],
    );
    // Santiago shows 23:00-23:59 of Saturday twice.
    fires(
        "30 23 * * *",
        "America/Santiago",
        "2026-04-04T12:00:00Z",
        &["2026-04-05T02:30:00Z", "2026-04-06T03:30:00Z"],
    );
    fires(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T00:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    );
    fires(
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-02-14T12:00:00Z",
        &["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"],
    );
}

#[test]
fn a_question_in_the_repeated_hour_finds_no_second_firing() {
    let schedule = schedule("30 2 * * *", "Europe/Berlin");
    // 02:10 CET, the second time round.
    let again = at("2026-10-25T01:10:00Z");
    assert_eq!(schedule.next_after(again), Some(at("2026-10-26T01:30:00Z")));
    assert_eq!(
        schedule.previous_at_or_before(again),
        Some(at("2026-10-25T00:30:00Z"))
    );
}

#[test]
fn real_time_is_followed_through_both_folds() {
    fires(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:59:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
    fires(
        "0 * * * *",
        "America/New_York",
        "2026-03-08T05:59:00Z",
        &[
            "2026-03-08T06:00:00Z",
            "2026-03-08T07:00:00Z",
            "2026-03-08T08:00:00Z",
        ],
    );
    // Only the hour that exists; a `*` in the minute makes nothing up in the gap.
    fires(
        "*/20 2 * * *",
        "Europe/Berlin",
        "2026-03-28T01:30:00Z",
        &["2026-03-28T01:40:00Z", "2026-03-30T00:00:00Z"],
    );
    fires(
        "*/30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:00:00Z",
        ],
    );
    // 01:30 to 02:00 comes twice on Lord Howe.
    fires(
        "*/15 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:20:00Z",
        &[
            "2026-04-04T14:30:00Z",
            "2026-04-04T14:45:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:15:00Z",
            "2026-04-05T14:30:00Z",
        ],
    );
    // A `*` in the second counts as well.
    fires(
        "*/30 30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &[
            "2026-10-25T00:30:00Z",
            "2026-10-25T00:30:30Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T01:30:30Z",
        ],
    );
}

#[test]
fn only_a_leading_star_makes_a_time_open() {
    // `0-59` means every minute and still counts as fixed: the gap fires once, at its end.
    fires(
        "0-59/30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T02:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
    );
    fires(
        "30,*/60 2 * * *",
        "Europe/Berlin",
        "2026-03-28T02:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
    );
    // `H` does not count as a star.
    fires(
        "H(30-30) 2 * * *",
        "Europe/Berlin",
        "2026-03-28T02:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
}

#[test]
fn the_day_samoa_never_had() {
    // 2011-12-30 is lost whole: its noon fires as the 31st begins.
    fires(
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        &[
            "2011-12-29T22:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-30T22:00:00Z",
        ],
    );
    fires(
        "0 12 30 12 *",
        "Pacific/Apia",
        "2011-01-01T00:00:00Z",
        &["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"],
    );
    fires(
        "0 */6 * * *",
        "Pacific/Apia",
        "2011-12-30T03:00:00Z",
        &[
            "2011-12-30T04:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-30T16:00:00Z",
        ],
    );
}

#[test]
fn leap_days_and_long_waits() {
    fires(
        "0 0 29 2 *",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
    );
    fires(
        "* * 29 2 *",
        "Europe/Berlin",
        "2025-06-01T00:00:00Z",
        &["2028-02-28T23:00:00Z", "2028-02-28T23:01:00Z"],
    );
    fires(
        "0 0 29 2 *",
        "UTC",
        "2092-03-01T00:00:00Z",
        &["2096-02-29T00:00:00Z"],
    );
    // Both day fields must match because one starts with `*`: Mondays of week days 0, 7, …
    fires(
        "0 0 29 2 */6",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["2032-02-29T00:00:00Z", "2048-02-29T00:00:00Z"],
    );
    let last = schedule("0 0 0 31 12 * 2100", "UTC");
    assert_eq!(last.next_after(at("2100-12-31T00:00:00Z")), None);
    assert_eq!(last.previous_at_or_before(at("2100-12-30T00:00:00Z")), None);
}

#[test]
fn day_rules_are_those_of_debian() {
    // Neither field starts with `*`: the 13th, and every Friday.
    fires(
        "0 0 13 * 5",
        "UTC",
        "2026-02-06T00:00:00Z",
        &[
            "2026-02-13T00:00:00Z",
            "2026-02-20T00:00:00Z",
            "2026-02-27T00:00:00Z",
            "2026-03-06T00:00:00Z",
            "2026-03-13T00:00:00Z",
        ],
    );
    fires(
        "0 0 1,15 * MON",
        "UTC",
        "2026-06-28T00:00:00Z",
        &[
            "2026-06-29T00:00:00Z",
            "2026-07-01T00:00:00Z",
            "2026-07-06T00:00:00Z",
        ],
    );
    // `*/2` starts with `*`: odd days that are Saturdays.
    fires(
        "0 0 */2 * SAT",
        "UTC",
        "2026-07-01T00:00:00Z",
        &[
            "2026-07-11T00:00:00Z",
            "2026-07-25T00:00:00Z",
            "2026-08-01T00:00:00Z",
        ],
    );
    // `1-31/2` names the same days but does not: odd days, and Saturdays.
    fires(
        "0 0 1-31/2 * SAT",
        "UTC",
        "2026-07-01T00:00:00Z",
        &[
            "2026-07-03T00:00:00Z",
            "2026-07-04T00:00:00Z",
            "2026-07-05T00:00:00Z",
        ],
    );
    // `H` is no star either.
    let hashed = schedule("0 0 H(10-10) * 1", "UTC");
    assert_eq!(
        hashed.count_in(at("2026-06-30T00:00:00Z"), at("2026-07-31T00:00:00Z")),
        5
    );
}

#[test]
fn week_days_names_steps_and_blanks() {
    for sunday in ["0", "7", "SUN", "sun", "0,7", "7-7", "*/7"] {
        same(&format!("0 9 * * {sunday}"), "0 9 * * Sun");
    }
    same("0 9 * * 1-5", "0 9 * * MON-FRI");
    same("0 9 * * 6-7", "0 9 * * 0,6");
    same("0 9 * * 5-7/2", "0 9 * * FRI,SUN");
    same("0 9 * * mon-FRI/2", "0 9 * * 1,3,5");
    same("0 9 * * 0-7", "0 9 * * *");
    same("0 0 1 jan,Jul *", "0 0 1 1,7 *");
    same("0 0 1 MAR-MAY *", "0 0 1 3,4,5 *");
    same("*/20 * * * *", "0,20,40 * * * *");
    same("*/90 * * * *", "0 * * * *");
    same("10-50/20 * * * *", "10,30,50 * * * *");
    same("5,5,1-6 0 * * *", "1-6 0 * * *");
    same(" \t0\t 9  *\t* *  ", "0 9 * * *");
    same("0 0 9 * * *", "0 9 * * *");
    same("0 0 9 * * * *", "0 9 * * *");
    same("00 09 * * *", "0 9 * * *");
}

#[test]
fn nicknames() {
    same("@yearly", "0 0 1 1 *");
    same("@annually", "0 0 1 1 *");
    same("@monthly", "0 0 1 * *");
    same("@weekly", "0 0 * * 0");
    same(" @daily ", "0 0 * * *");
    same("@Midnight", "0 0 * * *");
    same("@hourly", "0 * * * *");
}

#[test]
fn seconds_and_years() {
    fires(
        "10,50 59 23 31 12 * 2026,2028",
        "UTC",
        "2026-12-31T23:59:10Z",
        &[
            "2026-12-31T23:59:50Z",
            "2028-12-31T23:59:10Z",
            "2028-12-31T23:59:50Z",
        ],
    );
    fires(
        "*/15 * * * * *",
        "UTC",
        "2026-12-31T23:59:44.999Z",
        &["2026-12-31T23:59:45Z", "2027-01-01T00:00:00Z"],
    );
    fires(
        "0 0 0 1 1 * */50",
        "UTC",
        "1969-12-31T23:59:59Z",
        &[
            "1970-01-01T00:00:00Z",
            "2020-01-01T00:00:00Z",
            "2070-01-01T00:00:00Z",
        ],
    );
}

#[test]
fn looking_back_from_a_year_that_is_not_allowed() {
    let schedule = schedule("0 0 0 15 2,12 * 2024,2026", "UTC");
    for (until, last) in [
        ("2029-03-01T00:00:00Z", Some("2026-12-15T00:00:00Z")),
        ("2026-12-14T00:00:00Z", Some("2026-02-15T00:00:00Z")),
        ("2026-01-14T00:00:00Z", Some("2024-12-15T00:00:00Z")),
        ("2025-03-01T00:00:00Z", Some("2024-12-15T00:00:00Z")),
        ("2023-03-01T00:00:00Z", None),
    ] {
        assert_eq!(
            schedule.previous_at_or_before(at(until)),
            last.map(at),
            "{until}"
        );
    }
}

#[test]
fn instants_far_away_do_no_harm() {
    let schedule = schedule("* * * * *", "Pacific/Kiritimati");
    assert_eq!(schedule.next_after(DateTime::<Utc>::MAX_UTC), None);
    assert_eq!(
        schedule.previous_at_or_before(DateTime::<Utc>::MIN_UTC),
        None
    );
    // Kiritimati kept the other day until 1995: its 1970 began after ours.
    assert_eq!(
        schedule.next_after(DateTime::<Utc>::MIN_UTC),
        Some(at("1970-01-01T10:40:00Z"))
    );
    assert_eq!(
        schedule.previous_at_or_before(DateTime::<Utc>::MAX_UTC),
        Some(at("2100-12-31T09:59:00Z"))
    );
    assert_eq!(
        schedule.count_in(DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC),
        0
    );
}

#[test]
fn the_newest_thousand_of_a_year_of_seconds() {
    let schedule = schedule("* * * * * *", "Europe/Berlin");
    let (after, until) = (at("2025-11-01T00:00:00Z"), at("2026-11-01T00:00:00Z"));
    let newest: Vec<_> = schedule
        .slots_before(until)
        .take_while(|slot| *slot > after)
        .take(1000)
        .collect();
    assert_eq!(newest.len(), 1000);
    assert_eq!(newest[0], until);
    assert_eq!(newest[999], at("2026-10-31T23:43:21Z"));
    assert_eq!(schedule.count_in(after, until), 365 * 86_400);
    assert_eq!(schedule.newest_in(after, until), Some(until));
    assert_eq!(schedule.newest_in(until, until), None);
}

#[test]
fn hashed_values_are_spread_and_stay_put() {
    let minutes = |expression: &str, seed: u64| -> Vec<i64> {
        let midnight = at("2026-06-01T00:00:00Z");
        CronSchedule::parse(expression, "UTC", seed)
            .unwrap()
            .slots(midnight - chrono::Duration::seconds(1))
            .take_while(|slot| *slot < midnight + chrono::Duration::hours(1))
            .map(|slot| (slot - midnight).num_minutes())
            .collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let once = minutes("H * * * *", seed);
        assert_eq!(once, minutes("h * * * *", seed));
        assert_eq!(once.len(), 1);
        seen.insert(once[0]);

        let quarters = minutes("H/15 * * * *", seed);
        assert_eq!(quarters.len(), 4, "{quarters:?}");
        assert!(quarters.windows(2).all(|pair| pair[1] - pair[0] == 15));

        assert!(minutes("H(0-29) * * * *", seed)[0] < 30);
        let tens = minutes("H(0-29)/10 * * * *", seed);
        assert_eq!(tens.len(), 3, "{tens:?}");
        assert!(tens[2] < 30 && tens[1] - tens[0] == 10);

        let day = CronSchedule::parse("0 0 H * *", "UTC", seed).unwrap();
        assert_eq!(
            day.count_in(at("2026-01-31T12:00:00Z"), at("2026-02-28T12:00:00Z")),
            1
        );
    }
    assert_eq!(seen.len(), 60);
    // No seed is refused what others are allowed: `H` avoids dates that never come.
    for seed in 0..200 {
        for expression in ["0 0 31 H *", "0 0 H(29-31) 2 *", "0 0 30 H(2-3) *"] {
            let schedule = CronSchedule::parse(expression, "UTC", seed);
            assert!(schedule.is_ok(), "{expression} with seed {seed}");
        }
    }
    // A new release must not move anybody's slots.
    assert_eq!(minutes("H * * * *", 1), [22]);
}

#[test]
fn a_schedule_knows_what_it_was_made_of() {
    let schedule = schedule(" @daily", "America/New_York");
    assert_eq!(schedule.expression(), " @daily");
    assert_eq!(schedule.timezone(), chrono_tz::America::New_York);
}

#[test]
fn remarks_say_what_changed_clocks_did() {
    let remark = |expression: &str, zone: &str, after: &str| {
        let schedule = schedule(expression, zone);
        let slot = schedule.next_after(at(after)).unwrap();
        schedule.remark(at(after), slot)
    };
    let berlin = |expression, after| remark(expression, "Europe/Berlin", after);
    assert_eq!(berlin("30 2 * * *", "2026-03-27T12:00:00Z"), None);
    for (found, wanted) in [
        (
            berlin("30 2 * * *", "2026-03-28T12:00:00Z"),
            "2026-03-29 02:30 does not exist in Europe/Berlin: clocks go from 02:00 to 03:00; \
             it fires at the first instant after the gap",
        ),
        (
            berlin("*/30 2 * * *", "2026-03-28T12:00:00Z"),
            "2026-03-29 02:00 does not exist in Europe/Berlin: clocks go from 02:00 to 03:00; it is left out",
        ),
        (
            berlin("30 2 * * *", "2026-10-24T12:00:00Z"),
            "2026-10-25 02:30 comes twice in Europe/Berlin; it fires at the first only",
        ),
        (
            berlin("*/30 2 * * *", "2026-10-24T12:00:00Z"),
            "2026-10-25 02:00 comes twice in Europe/Berlin; this is the first, and both fire",
        ),
        (
            berlin("*/30 2 * * *", "2026-10-25T00:30:00Z"),
            "2026-10-25 02:00 comes twice in Europe/Berlin; this is the second, and both fire",
        ),
        (
            berlin("0 9 * * *", "2026-03-28T12:00:00Z"),
            "clocks changed from UTC+01:00 to UTC+02:00; 09:00 in Europe/Berlin",
        ),
        (
            remark("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z"),
            "2011-12-30 12:00 does not exist in Pacific/Apia: clocks go from 2011-12-30 00:00 to 2011-12-31 00:00; \
             it fires at the first instant after the gap",
        ),
    ] {
        assert_eq!(found.as_deref(), Some(wanted));
    }
}
