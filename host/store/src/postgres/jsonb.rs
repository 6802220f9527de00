//! JSON text on its way into `jsonb`, so that it comes back equal: `jsonb` turns `1e16` into an integer,
//! and refuses `\u0000` with the whole statement.

use std::borrow::Cow;

/// The same value, with exponents written out and NUL characters replaced. `text` is JSON as serde_json
/// writes it.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    // What is before `done` has been copied.
    let (mut at, mut done) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                while let Some(nul) = find_nul(bytes, at, end) {
                    out.push_str(&text[done..nul]);
                    out.push_str("\\ufffd");
                    done = nul + 6;
                    at = done;
                }
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < bytes.len()
                    && matches!(bytes[at], b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E')
                {
                    at += 1;
                }
                if let Some(plain) = written_out(&text[start..at]) {
                    out.push_str(&text[done..start]);
                    out.push_str(&plain);
                    done = at;
                }
            }
            _ => at += 1,
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// Where the string that starts at `start` ends, behind its closing quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The next `\u0000` within a string.
fn find_nul(bytes: &[u8], from: usize, end: usize) -> Option<usize> {
    let mut at = from;
    while at + 6 <= end {
        if bytes[at] != b'\\' {
            at += 1;
        } else if bytes[at..].starts_with(b"\\u0000") {
            return Some(at);
        } else {
            at += 2;
        }
    }
    None
}

/// A number with an exponent, without it: always with a fraction, because it is not an integer.
fn written_out(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let count = i32::try_from(digits.len()).ok()?;
    let (whole, fraction) = if point <= 0 {
        ("0".to_owned(), format!("{}{digits}", zeros(-point)))
    } else if point >= count {
        (format!("{digits}{}", zeros(point - count)), "0".to_owned())
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
        (whole.to_owned(), fraction.to_owned())
    };
    Some(format!("{sign}{whole}.{fraction}"))
}

/// A text for a column: PostgreSQL keeps no NUL character.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{plain, text};

    #[test]
    fn exponents_are_written_out_and_strings_left_alone() {
        for (given, wanted) in [
            (
                r#"{"1e5":"2e6\"3e7","a":[1e16,-1.5e-7]}"#,
                r#"{"1e5":"2e6\"3e7","a":[10000000000000000.0,-0.00000015]}"#,
            ),
            ("1.25e1", "12.5"),
            ("12.5", "12.5"),
            ("5e-324", &format!("0.{}5", "0".repeat(323))),
            (
                r#"["a\u0000b","\\u0000","\\\u0000"]"#,
                r#"["a\ufffdb","\\u0000","\\\ufffd"]"#,
            ),
        ] {
            assert_eq!(text(given), wanted);
        }
    }

    #[test]
    fn doubles_survive() {
        for bits in (0..u64::MAX).step_by(usize::MAX / 50_000) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let json = serde_json::to_string(&value).expect("JSON");
                let back: f64 = text(&json).parse().expect("a number");
                assert_eq!(back.to_bits(), value.to_bits(), "{json}");
            }
        }
    }

    #[test]
    fn texts_lose_their_nul() {
        assert_eq!(plain("a\0b"), "a\u{fffd}b");
        assert_eq!(plain("ab"), "ab");
    }
}
