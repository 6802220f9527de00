//! Instants of systems that write them without a zone.

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use horarium_model::Timestamp;

/// An IANA name.
pub(super) fn zone(text: &str) -> Result<Tz, String> {
    let named = text.parse::<Tz>();
    named.map_err(|_| format!("`{text}` is no IANA time zone; write it like Europe/Berlin or UTC"))
}

/// The instant of a wall time: the first of two, and the first after a gap.
pub(super) fn local(at: NaiveDateTime, zone: Tz) -> Timestamp {
    match zone.from_local_datetime(&at) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => {
            instant.with_timezone(&Utc)
        }
        LocalResult::None => {
            // No gap is as long as a day; what it skipped follows what was in force before.
            let before = zone.from_local_datetime(&(at - Duration::days(1)));
            let offset = before
                .earliest()
                .map(|instant| at - Duration::days(1) - instant.naive_utc());
            Utc.from_utc_datetime(&(at - offset.unwrap_or_default()))
        }
    }
}

/// An instant as databases and Python write it; one without an offset is meant in `zone`.
pub(super) fn instant(text: &str, zone: Tz) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.with_timezone(&Utc));
    }
    for format in [
        "%Y-%m-%d %H:%M:%S%.f%#z",
        "%Y-%m-%dT%H:%M:%S%.f%#z",
        "%Y-%m-%d %H:%M%#z",
    ] {
        if let Ok(instant) = DateTime::parse_from_str(text, format) {
            return Some(instant.with_timezone(&Utc));
        }
    }
    let naive = [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
    ];
    let mut naive = naive
        .iter()
        .filter_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    naive.next().map(|at| local(at, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_every_make_are_read() {
        let berlin = zone("Europe/Berlin").expect("a zone");
        for (text, wanted) in [
            ("2025-07-01 12:00:00", "2025-07-01T10:00:00Z"),
            ("2025-07-01T12:00:00.5", "2025-07-01T10:00:00.5Z"),
            (
                "2025-07-01 12:00:00.000001+00",
                "2025-07-01T12:00:00.000001Z",
            ),
            ("2025-07-01 12:00:00-03:30", "2025-07-01T15:30:00Z"),
            ("2025-07-01T12:00:00+02:00", "2025-07-01T10:00:00Z"),
            ("2025-07-01T12:00:00Z", "2025-07-01T12:00:00Z"),
            // Twice there: the first. Never there: as before the gap.
            ("2025-10-26 02:30:00", "2025-10-26T00:30:00Z"),
            ("2025-03-30 02:30:00", "2025-03-30T01:30:00Z"),
        ] {
            let wanted: Timestamp = wanted.parse().expect("an instant");
            assert_eq!(instant(text, berlin), Some(wanted), "{text}");
        }
        for wrong in ["infinity", "", "yesterday", "2025-02-30 00:00:00"] {
            assert_eq!(instant(wrong, berlin), None, "{wrong}");
        }
        assert!(zone("Berlin").is_err());
    }
}
