//! The one door through which JSON enters: parsed once, strictly, and only the re-serialised form is
//! stored, validated and given to guests, so that both databases return equal values.

use crate::problem::Problem;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Deepest nesting accepted. serde_json itself stops at 128; the margin keeps later re-parsing safe.
pub const MAX_DEPTH: usize = 100;

/// Parses one JSON document. Refused: nesting deeper than [`MAX_DEPTH`], duplicate keys, `\u0000`,
/// integers outside i64/u64, numbers that overflow a double, anything after the document.
///
/// # Errors
/// A [`Problem`] with the pointer of the offending value (or the byte offset of a syntax error).
pub fn parse(text: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(text).map_err(|e| {
        Problem::at(
            "",
            format!("not UTF-8 at byte {}; JSON is UTF-8 text", e.valid_up_to()),
        )
        .position(Some(e.valid_up_to()))
    })?;
    let walk = Walk {
        path: RefCell::new(Vec::new()),
        refusal: RefCell::new(None),
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Seed {
        walk: &walk,
        depth: 0,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value));
    match parsed {
        Ok(value) => check_numbers(text, value),
        Err(error) => Err(walk
            .refusal
            .into_inner()
            .unwrap_or_else(|| syntax(text, &error))),
    }
}

/// [`parse`], then the canonical text: what is stored and given to guests.
///
/// # Errors
/// As [`parse`].
pub fn canonical(text: &[u8]) -> Result<String, Problem> {
    parse(text).map(|value| value.to_string())
}

fn syntax(text: &str, error: &serde_json::Error) -> Problem {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let offset = (line_start + error.column().saturating_sub(1)).min(text.len());
    Problem::at("", format!("not valid JSON: {error}")).position(Some(offset))
}

/// serde_json turns an integer beyond u64 into a double; such a number written without fraction or
/// exponent is refused here, by its digits, because it would not come back as it was sent.
fn check_numbers(text: &str, value: Value) -> Result<Value, Problem> {
    let Some(offset) = oversized_integer(text.as_bytes()) else {
        return Ok(value);
    };
    let pointer = imprecise_integer(&value, &mut String::new()).unwrap_or_default();
    let detail = "an integer outside the range of 64 bits would lose digits; send it as a string";
    Err(Problem::at(pointer, detail).position(Some(offset)))
}

/// Byte offset of the first integer literal that fits neither i64 nor u64. The text is valid JSON.
fn oversized_integer(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < text.len()
                    && matches!(text[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                {
                    at += 1;
                }
                let literal = std::str::from_utf8(&text[start..at]).unwrap_or_default();
                let integer = !literal.contains(['.', 'e', 'E']);
                if integer && literal.parse::<i64>().is_err() && literal.parse::<u64>().is_err() {
                    return Some(start);
                }
            }
            _ => at += 1,
        }
    }
    None
}

fn imprecise_integer(value: &Value, at: &mut String) -> Option<String> {
    match value {
        // 2^63 and above as f64, with no fractional part: either a big integer or something like 1e30.
        Value::Number(n) if n.is_f64() => {
            let f = n.as_f64()?;
            (f.fract() == 0.0 && f.abs() >= 9.2e18).then(|| at.clone())
        }
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
            let len = at.len();
            at.push_str(&format!("/{i}"));
            let found = imprecise_integer(item, at);
            at.truncate(len);
            found
        }),
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            let len = at.len();
            at.push('/');
            at.push_str(&escape(key));
            let found = imprecise_integer(item, at);
            at.truncate(len);
            found
        }),
        _ => None,
    }
}

/// Whether a value is nested deeper than so many levels, as [`parse`] counts them.
pub fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else {
        return value.is_array() || value.is_object();
    };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper_than(item, left)),
        Value::Object(map) => map.values().any(|item| is_deeper_than(item, left)),
        _ => false,
    }
}

/// One reference token of a JSON pointer (RFC 6901): `~` and `/` escaped.
pub fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

struct Walk {
    path: RefCell<Vec<String>>,
    refusal: RefCell<Option<Problem>>,
}

impl Walk {
    fn pointer(&self) -> String {
        self.path
            .borrow()
            .iter()
            .fold(String::new(), |mut pointer, token| {
                pointer.push('/');
                pointer.push_str(&escape(token));
                pointer
            })
    }

    /// Remembers why parsing stops here; serde's own error text would lose the pointer.
    fn refuse<E: serde::de::Error>(&self, detail: String) -> E {
        let error = E::custom(&detail);
        *self.refusal.borrow_mut() = Some(Problem::at(self.pointer(), detail));
        error
    }
}

struct Seed<'w> {
    walk: &'w Walk,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        // PostgreSQL's numbers have no negative zero: this makes it an ordinary one.
        Number::from_f64(v + 0.0)
            .map(Value::Number)
            .ok_or_else(|| self.walk.refuse("a number that is not finite".into()))
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        self.visit_string(v.to_owned())
    }
    fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Value, E> {
        if v.contains('\0') {
            return Err(self
                .walk
                .refuse("\\u0000 in a string cannot be stored; remove it".into()));
        }
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut items = Vec::new();
        loop {
            self.walk.path.borrow_mut().push(items.len().to_string());
            let Some(item) = seq.next_element_seed(Seed {
                walk: self.walk,
                depth,
            })?
            else {
                break;
            };
            items.push(item);
            self.walk.path.borrow_mut().pop();
        }
        self.walk.path.borrow_mut().pop();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.walk.path.borrow_mut().push(key.clone());
            if key.contains('\0') {
                return Err(self
                    .walk
                    .refuse("\\u0000 in a key cannot be stored; remove it".into()));
            }
            if map.contains_key(&key) {
                return Err(self
                    .walk
                    .refuse("the key stands twice in its object; keep one".into()));
            }
            let value = access.next_value_seed(Seed {
                walk: self.walk,
                depth,
            })?;
            map.insert(key, value);
            self.walk.path.borrow_mut().pop();
        }
        Ok(Value::Object(map))
    }
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self
                .walk
                .refuse(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(self.depth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Problem {
        parse(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn ordinary_documents_pass_unchanged() {
        let text = r#"{"a":[1,-2,1.5,true,null,"é"],"b":{"c":18446744073709551615}}"#;
        assert_eq!(canonical(text.as_bytes()).unwrap(), text);
        assert_eq!(canonical(b"[-0.0,-0,0.0]").unwrap(), "[0.0,0.0,0.0]");
    }

    #[test]
    fn each_refusal_names_its_place() {
        assert_eq!(refused(r#"{"a":{"b":1,"b":2}}"#).pointer, "/a/b");
        assert_eq!(refused(r#"{"a/b":["x","\u0000"]}"#).pointer, "/a~1b/1");
        assert_eq!(refused(r#"{"\u0000":1}"#).pointer, "/\0");
        assert_eq!(
            refused(r#"{"n":[12345678901234567890123]}"#).pointer,
            "/n/0"
        );
        assert_eq!(refused(r#"{"a":1"#).position, Some(5));
        assert!(refused("1e999").detail.contains("number"));
        assert!(refused("{} x").detail.contains("trailing"));
        assert!(parse(b"\xff").unwrap_err().detail.contains("UTF-8"));
    }

    #[test]
    fn depth_is_bounded_at_exactly_one_hundred() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let deepest = parse(nested(MAX_DEPTH).as_bytes()).expect("as deep as it may be");
        assert!(!is_deeper_than(&deepest, MAX_DEPTH) && is_deeper_than(&deepest, MAX_DEPTH - 1));
        assert!(
            refused(&nested(MAX_DEPTH + 1))
                .detail
                .contains("100 levels")
        );
        assert!(refused(&nested(100_000)).detail.contains("100 levels"));
    }
}
