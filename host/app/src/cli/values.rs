//! Values on the command line: JSON or @file, key=value, instants, places in a document.

use super::failure::Failure;
use horarium_model::{Timestamp, input, json};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// A JSON document: the text itself, `@FILE`, or `@-` for standard input.
pub(crate) fn json_argument(flag: &str, text: &str) -> Result<Value, Failure> {
    let bytes = match text.strip_prefix('@') {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::refused(format!("{flag} @-: {error}")))?;
            bytes
        }
        Some(path) => read_file(Path::new(path))?,
        None => text.as_bytes().to_vec(),
    };
    json::parse(&bytes).map_err(|problem| {
        let at = problem
            .position
            .map(|position| format!(" (byte {position})"))
            .unwrap_or_default();
        let place = if problem.pointer.is_empty() {
            String::new()
        } else {
            format!("{}: ", problem.pointer)
        };
        let failure = Failure::refused(format!("{flag}: {place}{}{at}", problem.detail));
        if text.starts_with('@') || bytes.starts_with(b"{") {
            failure
        } else {
            failure.hint(format!(
                "{flag} takes JSON such as '{{\"name\": \"Ada\"}}', or @FILE"
            ))
        }
    })
}

/// As [`json_argument`], and an object.
pub(crate) fn object_argument(flag: &str, text: &str) -> Result<Map<String, Value>, Failure> {
    match json_argument(flag, text)? {
        Value::Object(map) => Ok(map),
        other => Err(Failure::refused(format!(
            "{flag}: must be an object, not {}",
            input::type_name(&other)
        ))),
    }
}

/// The bytes of a file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}

/// The text of a file, or of standard input for `-`, without the byte order mark that some editors put first.
pub(crate) fn read_text(path: &str) -> Result<String, Failure> {
    let (bytes, name) = match path {
        "-" => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.map_err(|error| Failure::refused(format!("standard input: {error}")))?;
            (bytes, "standard input")
        }
        path => (read_file(Path::new(path))?, path),
    };
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::refused(format!("{name}: is not UTF-8 text, from byte {at} on"))
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// `KEY=VALUE`: the key as it stands, or a JSON pointer when it starts with `/`; the value is JSON if it
/// parses, else a string.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    key: String,
    value: Value,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err("write it as KEY=VALUE".to_owned());
        };
        if key.is_empty() || key == "/" {
            return Err("the key before = is empty".to_owned());
        }
        Ok(Self {
            key: key.to_owned(),
            // The same door as the server's: what it would refuse there is taken as text here.
            value: json::parse(value.as_bytes()).unwrap_or_else(|_| Value::String(value.into())),
        })
    }
}

impl Setting {
    /// Puts the value in its place, making objects on the way.
    pub(crate) fn apply(&self, document: &mut Map<String, Value>) -> Result<(), Failure> {
        let Some(pointer) = self.key.strip_prefix('/') else {
            document.insert(self.key.clone(), self.value.clone());
            return Ok(());
        };
        let mut tokens: Vec<String> = pointer
            .split('/')
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect();
        let last = tokens.pop().unwrap_or_default();
        let mut at = document;
        for token in tokens {
            let next = at
                .entry(token.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            match next {
                Value::Object(map) => at = map,
                other => {
                    return Err(Failure::refused(format!(
                        "--set {}: `{token}` is {}, not an object; write the whole value",
                        self.key,
                        input::type_name(other)
                    )));
                }
            }
        }
        at.insert(last, self.value.clone());
        Ok(())
    }
}

/// Parameters from `--params` and `--set`; none when neither was given.
pub(crate) fn parameters(
    params: Option<&str>,
    set: &[Setting],
) -> Result<Option<Map<String, Value>>, Failure> {
    if params.is_none() && set.is_empty() {
        return Ok(None);
    }
    let mut map = match params {
        Some(text) => object_argument("--params", text)?,
        None => Map::new(),
    };
    for setting in set {
        setting.apply(&mut map)?;
    }
    Ok(Some(map))
}

/// `NAME=VALUE` of a limit: a whole number, with `_` for reading or KiB, MiB, GiB behind it.
pub(crate) fn limit(text: &str) -> Result<(String, u64), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("write it as NAME=NUMBER, such as memory_bytes=16MiB".to_owned());
    };
    let (digits, unit) = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
        .iter()
        .find_map(|(unit, bits)| {
            value
                .strip_suffix(unit)
                .map(|digits| (digits, 1_u64 << bits))
        })
        .unwrap_or((value, 1));
    let number = digits.trim().replace('_', "").parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .map(|number| (name.trim().to_owned(), number))
        .ok_or_else(|| format!("`{value}` is not a whole number such as 1000000 or 16MiB"))
}

/// A span: `90s`, `10m`, `36h`, `30d`, in seconds.
pub(crate) fn span(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().zip(unit);
    let seconds = number.and_then(|(number, unit)| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| *seconds <= 100 * 366 * 86_400);
    seconds.ok_or_else(|| {
        format!(
            "`{}` is not a span like 90s, 10m, 36h or 30d",
            horarium_model::text::one_line(text, 40)
        )
    })
}

/// An instant with an offset, or `+90s`, `+10m`, `+2h`, `+1d` from now.
pub(crate) fn instant(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let Some(rest) = text.strip_prefix('+') else {
        return input::parse_instant(text);
    };
    let seconds = span(rest)
        .ok()
        .and_then(|seconds| i64::try_from(seconds).ok());
    seconds
        .and_then(chrono::Duration::try_seconds)
        .and_then(|span| now.checked_add_signed(span))
        .ok_or_else(|| {
            format!(
                "`{}` is not a span like +90s, +10m, +2h or +1d",
                horarium_model::text::one_line(text, 40)
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(items: &[&str]) -> Result<Value, Failure> {
        let set: Vec<Setting> = items
            .iter()
            .map(|item| item.parse().expect("a setting"))
            .collect();
        parameters(Some(r#"{"old": 1, "deep": {"kept": true}}"#), &set)
            .map(|map| Value::Object(map.unwrap_or_default()))
    }

    #[test]
    fn settings_are_json_or_text_at_a_key_or_pointer() {
        let document = settings(&["old=[1,2]", "dotted.key=x=y", "/deep/new/er=null", "t=007"]);
        assert_eq!(
            document,
            Ok(json!({
                "old": [1, 2], "dotted.key": "x=y", "t": "007",
                "deep": {"kept": true, "new": {"er": null}},
            }))
        );
        assert!(settings(&["/old/x=1"]).is_err_and(|f| f.render(false).contains("is a number")));
        assert!("novalue".parse::<Setting>().is_err() && "=1".parse::<Setting>().is_err());
        assert_eq!(parameters(None, &[]), Ok(None));
    }

    #[test]
    fn documents_are_read_through_the_door() {
        let wrong = json_argument("--params", r#"{"a": 1, "a": 2}"#).expect_err("duplicate");
        assert!(wrong.render(false).contains("--params: /a"), "{wrong:?}");
        let bare = json_argument("--params", "name").expect_err("not JSON");
        assert!(bare.render(false).contains("hint: --params takes JSON"));
        assert!(object_argument("--params", "[]").is_err());
        assert!(json_argument("--params", "@/no/such/file").is_err());
    }

    #[test]
    fn texts_are_read_without_their_mark_and_named_when_they_are_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a file");
        let path = file.to_str().expect("UTF-8");
        std::fs::write(&file, "\u{feff}a\r\n").expect("written");
        assert_eq!(read_text(path), Ok("a\r\n".to_owned()));
        std::fs::write(&file, b"ab\xff").expect("written");
        let refused = read_text(path).expect_err("not UTF-8").render(false);
        let told = format!("error: {path}: is not UTF-8 text, from byte 2 on");
        assert!(refused.starts_with(&told), "{refused}");
    }

    #[test]
    fn limits_take_units() {
        assert_eq!(limit("fuel=1_000"), Ok(("fuel".into(), 1000)));
        assert_eq!(
            limit("memory_bytes=16MiB"),
            Ok(("memory_bytes".into(), 16 << 20))
        );
        assert!(limit("fuel").is_err() && limit("fuel=-1").is_err());
        assert!(limit("fuel=99999999999999999GiB").is_err());
    }

    #[test]
    fn instants_are_absolute_or_from_now() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
        assert_eq!(
            instant("+90s", now),
            Ok(now + chrono::Duration::seconds(90))
        );
        assert_eq!(
            instant("2026-01-01T01:00:00+01:00", now),
            Ok(now),
            "an offset"
        );
        for wrong in ["2030-01-01T00:00:00", "+5", "+s", "+99999999999d", "soon"] {
            assert!(instant(wrong, now).is_err(), "{wrong}");
        }
    }
}
