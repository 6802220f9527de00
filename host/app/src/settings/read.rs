//! Values of settings as they come: typed from TOML, as text from the environment and from flags.

use horarium_model::text::{nearest, one_line};
use std::hash::{Hash, Hasher};

/// A value as it came.
pub(super) enum Raw<'a> {
    /// From a file.
    Toml(&'a toml::Value),
    /// From a variable or a flag.
    Text(&'a str),
}

impl Hash for Raw<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Toml(value) => value.to_string().hash(state),
            Self::Text(text) => text.hash(state),
        }
    }
}

impl Raw<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Toml(value) => one_line(&value.to_string(), 60),
            Self::Text(text) => one_line(text, 60),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<String, String> {
        let text = match self {
            Self::Toml(toml::Value::String(text)) => text.trim(),
            Self::Text(text) => text.trim(),
            Self::Toml(_) => return Err(format!("is {}; it must be a text", self.shown())),
        };
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        Ok(text.to_owned())
    }

    /// A text that `T` can be read from; `like` shows what it looks like.
    pub(super) fn parsed<T: std::str::FromStr>(&self, like: &str) -> Result<T, String> {
        self.text()?
            .parse()
            .map_err(|_| format!("is `{}`; write it like {like}", self.shown()))
    }

    /// A whole number of `min..=max`.
    pub(super) fn integer(&self, min: u64, max: u64) -> Result<u64, String> {
        let number = match self {
            Self::Toml(toml::Value::Integer(n)) => u64::try_from(*n).ok(),
            Self::Toml(_) => None,
            Self::Text(text) => text.trim().replace('_', "").parse().ok(),
        };
        number.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
            format!(
                "is {}; it must be a whole number from {min} to {max}",
                self.shown()
            )
        })
    }

    /// True or false.
    pub(super) fn boolean(&self) -> Result<bool, String> {
        let found = match self {
            Self::Toml(toml::Value::Boolean(b)) => Some(*b),
            Self::Toml(_) => None,
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(true),
                "false" | "0" | "no" => Some(false),
                _ => None,
            },
        };
        found.ok_or_else(|| format!("is {}; it must be true or false", self.shown()))
    }

    /// A number of bytes: a whole number, or a text like `512 MiB`.
    pub(super) fn bytes(&self, min: u64) -> Result<u64, String> {
        let parsed = match self {
            Self::Toml(toml::Value::Integer(n)) => u64::try_from(*n).ok(),
            Self::Toml(toml::Value::String(text)) => parse_bytes(text),
            Self::Toml(_) => None,
            Self::Text(text) => parse_bytes(text),
        };
        parsed.filter(|n| *n >= min).ok_or_else(|| {
            format!(
                "is {}; it must be a size of at least {min} bytes like 536870912 or 512 MiB",
                self.shown()
            )
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        if let Some((_, chosen)) = choices.iter().find(|(w, _)| w.eq_ignore_ascii_case(&text)) {
            return Ok(*chosen);
        }
        let words: Vec<&str> = choices.iter().map(|(w, _)| *w).collect();
        let hint = nearest(&text, words.iter().copied())
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        Err(format!(
            "is `{}`; it must be one of {}{hint}",
            self.shown(),
            words.join(", ")
        ))
    }

    /// A list: an array in TOML, separated by commas in text.
    pub(super) fn list<T>(
        &self,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        match self {
            Self::Toml(toml::Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    toml::Value::String(text) => read(text.trim()),
                    other => Err(format!("holds {other}; its items must be texts")),
                })
                .collect(),
            Self::Toml(_) => Err(format!("is {}; it must be a list of texts", self.shown())),
            Self::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(read)
                .collect(),
        }
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.replace('_', "").parse().ok()?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}
