//! What is no cron schedule, and with which words it is refused.

use chrono::{DateTime, Utc};
use horarium_model::cron::{CronError, CronSchedule};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[track_caller]
fn refused(expression: &str) -> CronError {
    match CronSchedule::parse(expression, "Europe/Berlin", 0) {
        Ok(_) => panic!("`{expression}` was accepted"),
        Err(error) => error,
    }
}

#[test]
fn refusals_name_field_and_position() {
    let table: &[(&str, &str, usize)] = &[
        ("61 * * * *", "minute", 0),
        ("60 0 * * * *", "second", 0),
        ("* 24 * * *", "hour", 2),
        ("0 0 0 * *", "day-of-month", 4),
        ("0 0 32 * *", "day-of-month", 4),
        ("0 0 * 13 *", "month", 6),
        ("0 0 * 0 *", "month", 6),
        ("0 0 * * 8", "day-of-week", 8),
        ("0 0 0 1 1 * 1969", "year", 12),
        ("0 0 0 1 1 * 2101", "year", 12),
        ("0 0 0 1 1 * H", "year", 12),
        ("99999999999999999999 * * * *", "minute", 0),
        ("0 0 L * *", "day-of-month", 4),
        ("0 0 15W * *", "day-of-month", 6),
        ("0 0 LW * *", "day-of-month", 4),
        ("0 0 * * 5#2", "day-of-week", 9),
        ("0 0 * * 5L", "day-of-week", 9),
        ("0 0 * * FRIL", "day-of-week", 8),
        ("0 0 ? * MON", "day-of-month", 4),
        ("0 0 1 * ?", "day-of-week", 8),
        ("50-10 * * * *", "minute", 0),
        ("0 0 * * 5-1", "day-of-week", 8),
        ("0 0 * * FRI-MON", "day-of-week", 8),
        ("0 0 * * SAT-SUN", "day-of-week", 8),
        ("0 0 * NOV-FEB *", "month", 6),
        ("0 0 * * MONDAY", "day-of-week", 8),
        ("0 0 * FOO *", "month", 6),
        ("MON * * * *", "minute", 0),
        ("*/0 * * * *", "minute", 2),
        ("1-5/0 * * * *", "minute", 4),
        ("5/10 * * * *", "minute", 1),
        ("*/ * * * *", "minute", 2),
        ("*/x * * * *", "minute", 2),
        ("1-5/-1 * * * *", "minute", 4),
        (",1 * * * *", "minute", 0),
        ("1,,2 * * * *", "minute", 2),
        ("1, * * * *", "minute", 2),
        ("1- * * * *", "minute", 2),
        ("-1 * * * *", "minute", 0),
        ("1-2-3 * * * *", "minute", 3),
        ("*5 * * * *", "minute", 1),
        ("** * * * *", "minute", 1),
        ("1x * * * *", "minute", 1),
        ("1.5 * * * *", "minute", 1),
        ("0~30 * * * *", "minute", 1),
        ("H(5) * * * *", "minute", 3),
        ("H(0-70) * * * *", "minute", 4),
        ("H(0-5 * * * *", "minute", 5),
        ("H() * * * *", "minute", 2),
        ("ä * * * *", "minute", 0),
        ("0 ä1 * * *", "hour", 2),
        ("1\u{a0}2 * * * *", "minute", 1),
        ("0 0 * * *\n", "day-of-week", 9),
        ("  0 0 31 2 *", "day-of-month", 6),
        ("0 0 31 2 *", "day-of-month", 4),
        ("0 0 30 2 *", "day-of-month", 4),
        ("0 0 H(30-31) 2 *", "day-of-month", 4),
        ("0 0 31 4,6,9,11 *", "day-of-month", 4),
        ("0 0 0 29 2 * 2027", "year", 13),
        // 02:30 on 29 March 2026 does not exist, and the open second makes nothing up.
        ("* 30 2 29 3 * 2026", "year", 14),
    ];
    for (expression, field, position) in table {
        let error = refused(expression);
        assert_eq!(
            (error.field, error.position),
            (Some(*field), Some(*position)),
            "{expression:?}: {error}"
        );
        assert!(error.message.starts_with(field), "{error}");
        assert!(
            error.message.contains(&format!("position {position}")),
            "{error}"
        );
        assert!(!error.message.contains('\n'), "{error:?}");
    }
}

#[test]
fn refusals_of_the_whole() {
    let three = refused("* * *");
    assert_eq!((three.field, three.position), (None, None));
    assert_eq!(
        three.to_string(),
        "cron expression `* * *` has 3 fields; use 5 (minute hour day-of-month month \
         day-of-week), 6 (second first) or 7 (second first, year last)"
    );
    assert_eq!(refused("* * * * * * * *").position, Some(14));
    assert!(refused("").message.contains("empty"));
    assert!(refused(" \t ").message.contains("empty"));
    assert!(
        refused(&"*".repeat(2000))
            .message
            .contains("longer than 1024")
    );
    assert!(
        refused("@every 5m")
            .message
            .contains("`@every` at position 0")
    );
    assert!(refused("@reboot").message.contains("@hourly"));
    assert_eq!(refused("@daily 5").position, Some(7));
    let zone = refused("CRON_TZ=Europe/Berlin 0 0 * * *");
    assert!(zone.message.contains("`timezone`"), "{zone}");
}

#[test]
fn refusals_say_what_would_be_right() {
    for (expression, message) in [
        (
            "61 * * * *",
            "minute `61` at position 0 is out of range; use 0-59",
        ),
        (
            "0 0 * * 9",
            "day-of-week `9` at position 8 is out of range; use 0-7 or SUN-SAT",
        ),
        (
            "5/10 * * * *",
            "minute step at position 1 follows a single value; write `5-59/10`",
        ),
        (
            "0 0 * * FRI-MON",
            "day-of-week range `FRI-MON` at position 8 runs backwards; write `5-6,0-1`",
        ),
        (
            "0 0 * * SAT-SUN",
            "day-of-week range `SAT-SUN` at position 8 runs backwards; write `6,0`",
        ),
        (
            "0 0 * * monday",
            "day-of-week `monday` at position 8 is not a value; use MON",
        ),
        (
            "0 0 ? * *",
            "day-of-month `?` at position 4 is not supported; use `*`",
        ),
        (
            "0 0 31 2 *",
            "day-of-month `31` at position 4 leaves no slot within nine years; \
             use a day that its month has",
        ),
    ] {
        assert_eq!(refused(expression).to_string(), message);
    }
}

#[test]
fn past_years_are_refused_where_the_clock_is_known() {
    let now = at("2026-11-23T12:00:00Z");
    let error = |expression| CronSchedule::parse_at(expression, "UTC", 0, now).unwrap_err();
    for (expression, position) in [
        ("0 0 0 1 1 * 2020", 12),
        ("0 0 0 1 1 * 2026", 12),
        ("0 0 0 1 1 * 2036", 12),
        ("0 0 0 29 2 * 2029-2031", 13),
    ] {
        let error = error(expression);
        assert_eq!(
            (error.field, error.position),
            (Some("year"), Some(position)),
            "{error}"
        );
    }
    // Leap days on a Sunday or Saturday: 2032, then 2048.
    assert!(CronSchedule::parse_at("0 0 29 2 */6", "UTC", 0, now).is_ok());
    let later = at("2032-03-01T00:00:00Z");
    let error = CronSchedule::parse_at("0 0 29 2 */6", "UTC", 0, later).unwrap_err();
    assert_eq!(
        (error.field, error.position),
        (Some("day-of-month"), Some(4))
    );
    // What was accepted once can be read back for ever.
    assert!(CronSchedule::parse("0 0 0 1 1 * 2020", "UTC", 0).is_ok());
    assert!(CronSchedule::parse_at("0 0 29 2 *", "UTC", 0, now).is_ok());
    assert!(CronSchedule::parse_at("0 0 0 1 1 * 2027", "UTC", 0, now).is_ok());
}

#[test]
fn unknown_zones_are_answered_with_the_nearest() {
    for (zone, nearest) in [
        ("Europe/Berlinn", "did you mean `Europe/Berlin`?"),
        ("europe/berlin", "did you mean `Europe/Berlin`?"),
        ("Berlin", "did you mean `Europe/Berlin`?"),
        ("America/New York", "did you mean `America/New_York`?"),
        ("utc", "did you mean `UTC`?"),
        (
            "Mars/Olympus",
            "use an IANA name such as `Europe/Berlin` or `UTC`",
        ),
        ("", "use an IANA name"),
        ("+02:00", "use an IANA name"),
    ] {
        let error = CronSchedule::parse("* * * * *", zone, 0).unwrap_err();
        assert_eq!((error.field, error.position), (Some("timezone"), None));
        assert!(error.message.contains(nearest), "{zone}: {error}");
    }
}
