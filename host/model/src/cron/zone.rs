//! A time zone as a list of spans of constant offset.
//!
//! `chrono-tz` answers for one instant or one wall time, but does not list a zone's
//! transitions. Walking slots needs them, so they are found once per zone and kept.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::CronError;
use super::parse::quoted;

const DAY: i64 = 86_400;
/// A little before 1970 and after 2100, the years an expression can name, in Unix seconds.
const FIRST_PROBE: i64 = -30 * DAY;
const LAST_PROBE: i64 = 4_133_980_800 + 30 * DAY;

/// No clock was ever moved by more than this (the date line moves a day), in seconds.
const MAX_SHIFT: i64 = 2 * DAY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// First instant of the span, Unix seconds.
    begin: i64,
    /// Wall time less UTC, in seconds.
    offset: i64,
}

/// A zone's spans of constant offset from 1970 to 2100, in order.
#[derive(Debug)]
pub(super) struct ZoneTable {
    spans: Vec<Span>,
}

static TABLES: LazyLock<Mutex<HashMap<Tz, Arc<ZoneTable>>>> = LazyLock::new(Mutex::default);

impl ZoneTable {
    /// The table of `zone`, built on first use (milliseconds) and shared from then on.
    pub(super) fn of(zone: Tz) -> Arc<Self> {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            tables
                .entry(zone)
                .or_insert_with(|| Arc::new(Self::build(zone))),
        )
    }

    /// Finds every transition: probes a day apart (the shortest span since 1970 is longer by
    /// far), then halves the interval in which the offset changed.
    fn build(zone: Tz) -> Self {
        let mut from = FIRST_PROBE;
        let mut offset = offset_of(zone, from);
        let mut spans = vec![Span {
            begin: i64::MIN,
            offset,
        }];
        while from < LAST_PROBE {
            let probe = from + DAY;
            if offset_of(zone, probe) == offset {
                from = probe;
                continue;
            }
            let (mut same, mut other) = (from, probe);
            while other - same > 1 {
                let middle = same + (other - same) / 2;
                if offset_of(zone, middle) == offset {
                    same = middle;
                } else {
                    other = middle;
                }
            }
            offset = offset_of(zone, other);
            spans.push(Span {
                begin: other,
                offset,
            });
            from = other;
        }
        ZoneTable { spans }
    }

    /// Index of the span in which `instant` lies.
    pub(super) fn index_at(&self, instant: i64) -> usize {
        self.spans
            .partition_point(|span| span.begin <= instant)
            .saturating_sub(1)
    }

    /// Number of spans.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Wall time less UTC in a span.
    pub(super) fn offset(&self, index: usize) -> i64 {
        self.spans[index].offset
    }

    /// First instant of a span; `i64::MIN` for the first one.
    pub(super) fn begin(&self, index: usize) -> i64 {
        self.spans[index].begin
    }

    /// First instant after a span; `i64::MAX` for the last one.
    pub(super) fn end(&self, index: usize) -> i64 {
        self.spans
            .get(index + 1)
            .map_or(i64::MAX, |next| next.begin)
    }

    /// The latest wall time shown at or before `instant`. Later than the wall time at
    /// `instant` itself while an hour is repeated.
    pub(super) fn latest_wall(&self, instant: i64) -> i64 {
        let mut index = self.index_at(instant);
        let mut latest = instant + self.offset(index);
        while index > 0 && instant - self.begin(index) < MAX_SHIFT {
            let last_before = self.begin(index) - 1;
            index -= 1;
            latest = latest.max(last_before + self.offset(index));
        }
        latest
    }

    /// The first instant at which the wall clock has reached `wall`: that wall time itself
    /// (the first of two), or the end of the gap that swallowed it.
    pub(super) fn first_reaching(&self, wall: i64) -> i64 {
        let mut index = self.index_at(wall - MAX_SHIFT);
        loop {
            let offset = self.offset(index);
            if self.begin(index).saturating_add(offset) >= wall {
                return self.begin(index);
            }
            if wall - offset < self.end(index) {
                return wall - offset;
            }
            index += 1;
        }
    }
}

fn offset_of(zone: Tz, instant: i64) -> i64 {
    let utc = DateTime::from_timestamp(instant, 0)
        .unwrap_or_default()
        .naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    i64::from(offset.local_minus_utc())
}

/// Looks an IANA name up; an unknown one is answered with the nearest.
pub(super) fn parse_timezone(name: &str) -> Result<Tz, CronError> {
    name.parse().map_err(|_| {
        let right = nearest(name).map_or_else(
            || "use an IANA name such as `Europe/Berlin` or `UTC`".to_owned(),
            |zone| format!("did you mean `{}`?", zone.name()),
        );
        CronError {
            field: Some("timezone"),
            position: None,
            message: format!("timezone `{}` is unknown; {right}", quoted(name)),
        }
    })
}

fn nearest(name: &str) -> Option<Tz> {
    const CLOSE: f64 = 0.8;
    if name.len() > 64 {
        return None;
    }
    let wanted = name.trim().to_ascii_lowercase().replace(' ', "_");
    let city = |zone: &Tz| {
        let name = zone.name().to_ascii_lowercase();
        name.rsplit('/').next() == Some(wanted.as_str())
    };
    let whole = |zone: &Tz| zone.name().eq_ignore_ascii_case(&wanted);
    let mut zones = TZ_VARIANTS.iter();
    if let Some(zone) = zones
        .clone()
        .find(|zone| whole(zone))
        .or_else(|| zones.find(|zone| city(zone)))
    {
        return Some(*zone);
    }
    TZ_VARIANTS
        .iter()
        .map(|zone| {
            let known = zone.name().to_ascii_lowercase();
            (
                strsim::normalized_damerau_levenshtein(&wanted, &known),
                *zone,
            )
        })
        .filter(|(likeness, _)| *likeness >= CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, zone)| zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_agree_with_chrono_tz() {
        // Every 50th zone every 5 hours and a bit, so that probes fall on all parts of a day.
        for zone in TZ_VARIANTS.iter().step_by(50) {
            let table = ZoneTable::of(*zone);
            let mut instant = FIRST_PROBE;
            while instant < LAST_PROBE {
                let offset = table.offset(table.index_at(instant));
                assert_eq!(offset, offset_of(*zone, instant), "{zone} at {instant}");
                instant += 18_121;
            }
        }
    }

    #[test]
    fn spans_are_longer_than_the_probes_that_find_them() {
        // Two transitions within one probe could hide each other; the real ones are days apart.
        for name in [
            "Africa/Casablanca",
            "Africa/Cairo",
            "Asia/Gaza",
            "America/Argentina/San_Luis",
            "Antarctica/Casey",
            "Pacific/Apia",
        ] {
            let table = ZoneTable::of(name.parse().unwrap());
            for index in 1..table.len() - 1 {
                let length = table.end(index) - table.begin(index);
                assert!(
                    length > 5 * DAY,
                    "{name}: {length} s at {}",
                    table.begin(index)
                );
            }
        }
    }

    #[test]
    fn the_date_line_and_the_repeated_hour() {
        let apia = ZoneTable::of(Tz::Pacific__Apia);
        let wall = |text: &str| -> i64 {
            let wall: chrono::NaiveDateTime = text.parse().unwrap();
            wall.and_utc().timestamp()
        };
        let midnight = wall("2011-12-30T10:00:00");
        assert_eq!(apia.first_reaching(wall("2011-12-30T00:00:00")), midnight);
        assert_eq!(apia.first_reaching(wall("2011-12-30T23:59:59")), midnight);
        assert_eq!(apia.first_reaching(wall("2011-12-31T00:00:00")), midnight);
        assert_eq!(
            apia.first_reaching(wall("2011-12-29T23:59:59")),
            midnight - 1
        );

        // Berlin 2026-10-25: 03:00 CEST becomes 02:00 CET at 01:00 UTC.
        let berlin = ZoneTable::of(Tz::Europe__Berlin);
        let back = wall("2026-10-25T01:00:00");
        assert_eq!(berlin.latest_wall(back), wall("2026-10-25T02:59:59"));
        assert_eq!(berlin.latest_wall(back + 3599), wall("2026-10-25T02:59:59"));
        assert_eq!(berlin.latest_wall(back + 3600), wall("2026-10-25T03:00:00"));
        assert_eq!(
            berlin.first_reaching(wall("2026-10-25T02:30:00")),
            back - 1800
        );
    }
}
