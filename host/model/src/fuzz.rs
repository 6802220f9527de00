//! What is fed with random input: by `fuzz/` for hours, by `tests/fuzz.rs` within bounds in every CI run. Each
//! panics when something that must always hold does not.

use crate::cron::CronSchedule;
use crate::grant::Grant;
use crate::json;

/// What came through the JSON door comes through again unchanged.
pub fn json_door(bytes: &[u8]) {
    match json::parse(bytes) {
        Ok(value) => {
            let text = value.to_string();
            let again = json::parse(text.as_bytes());
            assert_eq!(again.as_ref(), Ok(&value), "{text}");
        }
        Err(problem) => assert_line(&problem.detail),
    }
}

/// A grant is written as it would be read; what is none is refused with one line.
pub fn grant(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Grant>() {
        Ok(grant) => {
            let written = grant.to_string();
            assert_eq!(written.parse(), Ok(grant), "{written}");
        }
        Err(refusal) => assert_line(&refusal),
    }
}

/// Slots rise, and lie after what was asked; what is no schedule is refused with one line.
pub fn cron(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let after = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
    match CronSchedule::parse(text, "Europe/Berlin", 7) {
        Ok(schedule) => {
            let slots: Vec<_> = schedule.slots(after).take(5).collect();
            assert!(slots.first().is_none_or(|first| *first > after), "{text}");
            assert!(slots.windows(2).all(|two| two[0] < two[1]), "{text}");
            if let Some(first) = slots.first() {
                assert_eq!(
                    schedule.previous_at_or_before(*first),
                    Some(*first),
                    "{text}"
                );
            }
        }
        Err(error) => assert_line(&error.to_string()),
    }
}

/// A refusal is one line, of a length people read, with nothing that a terminal obeys.
fn assert_line(text: &str) {
    assert!(!text.is_empty() && text.len() < 4_000, "{text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
