//! Takes the values of secrets out of what a run leaves behind: a plugin may log a revealed value, and a
//! server may answer with what it was sent.

use super::RunSecret;
use crate::runner::{AttemptEnd, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Shorter texts are not looked for: they would be found everywhere.
const MIN_BYTES: usize = 4;
/// Shorter lines of a value, and pieces of its base64, are not looked for by themselves.
const MIN_PIECE: usize = 8;

/// Knows the values of a run's secrets in the forms they usually take.
pub struct Redactor {
    /// The longest first, with what stands in their place.
    patterns: Vec<(Zeroizing<String>, Arc<str>)>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} patterns)", self.patterns.len())
    }
}

impl Redactor {
    /// For the secrets of a run; none when there is nothing to look for.
    pub fn new(secrets: &[RunSecret]) -> Option<Self> {
        let mut patterns: Vec<(Zeroizing<String>, Arc<str>)> = Vec::new();
        for secret in secrets {
            let shown: Arc<str> = mask(&secret.name).into();
            for form in forms(secret.value.expose()) {
                if patterns.iter().all(|(known, _)| *known != form) {
                    patterns.push((form, shown.clone()));
                }
            }
        }
        patterns.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        (!patterns.is_empty()).then_some(Self { patterns })
    }

    /// The text with `[secret NAME]` in the place of each value.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut redacted = Cow::Borrowed(text);
        for (form, shown) in &self.patterns {
            if redacted.contains(form.as_str()) {
                redacted = Cow::Owned(redacted.replace(form.as_str(), shown));
            }
        }
        redacted
    }

    /// Redacts every text and name in a document; a number that is a value becomes a text.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.text(text) {
                    *text = redacted;
                }
            }
            Value::Number(number) => {
                let text = number.to_string();
                if let Cow::Owned(redacted) = self.text(&text) {
                    *value = Value::String(redacted);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(map) => {
                map.values_mut().for_each(|item| self.json(item));
                if map.keys().any(|key| self.finds(key.as_bytes())) {
                    *map = std::mem::take(map)
                        .into_iter()
                        .map(|(key, item)| (self.text(&key).into_owned(), item))
                        .collect();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Whether a value of a secret stands in these bytes.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.patterns.iter().any(|(form, _)| {
            let form = form.as_bytes();
            let first = form[0];
            bytes.len() >= form.len()
                && bytes
                    .windows(form.len())
                    .any(|window| window[0] == first && window == form)
        })
    }

    /// Redacts everything an attempt hands over to be kept, its state aside, which holds no value in the
    /// first place.
    pub fn outcome(&self, outcome: &mut Outcome) {
        match &mut outcome.end {
            AttemptEnd::Succeeded(text) => {
                if self.finds(text.as_bytes())
                    && let Ok(mut value) = serde_json::from_str::<Value>(text)
                {
                    self.json(&mut value);
                    *text = value.to_string().into();
                }
            }
            AttemptEnd::Failed(failure) => {
                let texts = [
                    Some(&mut failure.message),
                    failure.traceback.as_mut(),
                    failure.code.as_mut(),
                ];
                for text in texts.into_iter().flatten() {
                    if let Cow::Owned(redacted) = self.text(text) {
                        *text = redacted;
                    }
                }
                if let Some(details) = &mut failure.details {
                    self.json(details);
                }
            }
            AttemptEnd::Stopped(_) => {}
            AttemptEnd::HandedBack(reason) | AttemptEnd::NoMemory(reason) => {
                *reason = self.text(reason).into_owned();
            }
        }
    }
}

/// What stands in the place of a secret.
pub fn mask(name: &str) -> String {
    format!("[secret {name}]")
}

/// The value as it stands in a text, in JSON, in a URL, in base64 at each of three offsets, and its longer
/// lines.
fn forms(value: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    let mut add = |form: String, least: usize| {
        if form.len() >= least {
            forms.push(Zeroizing::new(form));
        }
    };
    for (text, least) in std::iter::once((value, MIN_BYTES))
        .chain(value.lines().map(|line| (line.trim(), MIN_PIECE)))
    {
        add(text.to_owned(), least);
        let quoted = Value::from(text).to_string();
        add(quoted[1..quoted.len() - 1].to_owned(), least);
        add(percent_encode(text), least);
    }
    for offset in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let padded = Zeroizing::new([&vec![0; offset][..], value.as_bytes()].concat());
            let encoded = engine.encode(&*padded);
            // The characters at both ends depend on what stands beside the value.
            let start = (offset * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            if start < end {
                add(encoded[start..end].to_owned(), MIN_PIECE);
            }
        }
    }
    forms
}

/// What a URL may hold as it is (RFC 3986).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::Failure;
    use crate::secrets::SecretValue;
    use base64::engine::general_purpose::STANDARD;
    use horarium_model::{ErrorKind, Usage};
    use serde_json::json;

    fn redactor(pairs: &[(&str, &str)]) -> Redactor {
        let secrets: Vec<RunSecret> = pairs
            .iter()
            .map(|(name, value)| RunSecret {
                name: (*name).to_owned(),
                value: SecretValue::new((*value).to_owned()).expect("a value"),
            })
            .collect();
        Redactor::new(&secrets).expect("patterns")
    }

    #[test]
    fn every_usual_form_of_a_value_is_found() {
        let value = "p\"ss wörd/+%&9";
        let redactor = redactor(&[("k", value)]);
        let basic = |user: &str| STANDARD.encode(format!("{user}:{value}"));
        for text in [
            format!("it is {value}!"),
            json!({"a": [value, 1]}).to_string(),
            format!("https://x.example/?k={}", percent_encode(value)),
            format!("Basic {}", basic("u")),
            format!("Basic {}", basic("ab")),
            format!("Basic {}", basic("abc")),
            URL_SAFE_NO_PAD.encode(value),
        ] {
            let redacted = redactor.text(&text);
            assert!(redacted.contains("[secret k]"), "{text} -> {redacted}");
            assert!(redactor.finds(text.as_bytes()));
        }
        assert_eq!(redactor.text("nothing here"), "nothing here");
    }

    #[test]
    fn lines_of_a_key_are_values_too_and_short_texts_are_not() {
        let redactor = redactor(&[("pem", "-----BEGIN-----\nMIIEvgIBADANBg\n-----END-----")]);
        assert_eq!(redactor.text("x MIIEvgIBADANBg"), "x [secret pem]");
        let short = RunSecret {
            name: "s".into(),
            value: SecretValue::new("abc".into()).expect("a value"),
        };
        assert!(Redactor::new(&[short]).is_none());
    }

    #[test]
    fn results_and_failures_are_redacted_in_every_part() {
        let redactor = redactor(&[("k", "canary-1"), ("n", "31415926")]);
        let mut outcome = Outcome {
            end: AttemptEnd::Succeeded(
                json!({"a": {"canary-1": ["x canary-1", 31_415_926, null, 5]}})
                    .to_string()
                    .into(),
            ),
            usage: Usage::default(),
            state: None,
        };
        redactor.outcome(&mut outcome);
        let expected = json!({"a": {"[secret k]": ["x [secret k]", "[secret n]", null, 5]}});
        assert_eq!(
            outcome.end,
            AttemptEnd::Succeeded(expected.to_string().into())
        );
        let mut failure = Failure::new(ErrorKind::Permanent, "no canary-1");
        failure.traceback = Some("at canary-1".into());
        failure.code = Some("canary-1".into());
        failure.details = Some(json!(["canary-1"]));
        outcome.end = AttemptEnd::Failed(failure);
        redactor.outcome(&mut outcome);
        assert!(!format!("{outcome:?}").contains("canary"));
    }
}
