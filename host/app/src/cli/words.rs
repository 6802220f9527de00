//! Numbers as people read them: spans, sizes, instants from now.

use horarium_model::Timestamp;

/// A span in seconds: `45 ms`, `1.25 s`, `2 min 5 s`, `3 h 4 min`, `2 d 3 h`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 0.001 {
        return format!("{:.0} µs", seconds * 1e6);
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        let text = format!("{seconds:.2}");
        return format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    let whole = seconds.round() as u64;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match whole {
        0..3_600 => two(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// A size in bytes: `512 B`, `1.5 KiB`, `64 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{} {}", text.trim_end_matches(".0"), UNITS[unit])
}

/// A count in groups of three: `12 345 678`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// How far an instant is from `now`: `in 3 min`, `2 h 5 min ago`, `now`.
pub(crate) fn from_now(instant: Timestamp, now: Timestamp) -> String {
    let micros = (instant - now).num_microseconds().unwrap_or(i64::MAX);
    let text = span((micros.unsigned_abs() as f64 / 1e6).round());
    if micros.unsigned_abs() < 500_000 {
        "now".to_owned()
    } else if micros > 0 {
        format!("in {text}")
    } else {
        format!("{text} ago")
    }
}

/// An instant to the second, in UTC.
pub(crate) fn instant(instant: Timestamp) -> String {
    instant.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_two_units() {
        let cases = [
            (0.0, "0 µs"),
            (0.000_25, "250 µs"),
            (0.045, "45 ms"),
            (1.0, "1 s"),
            (1.25, "1.25 s"),
            (59.0, "59 s"),
            (125.4, "2 min 5 s"),
            (3_600.0, "1 h"),
            (11_045.0, "3 h 4 min"),
            (183_600.0, "2 d 3 h"),
            (f64::NAN, "-"),
            (-1.0, "-"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(64 << 20), "64 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1 MiB");
        assert_eq!(bytes(u64::MAX), "16777216 TiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_345_678), "12 345 678");
    }

    #[test]
    fn instants_are_told_from_now() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
        let at = |seconds| now + chrono::Duration::seconds(seconds);
        assert_eq!(from_now(at(180), now), "in 3 min");
        assert_eq!(from_now(at(-7_500), now), "2 h 5 min ago");
        assert_eq!(from_now(now, now), "now");
        assert_eq!(instant(now), "2026-01-01 00:00:00Z");
    }
}
