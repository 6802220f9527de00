//! TOML as JSON, and what is looked at in every table of it.

use crate::cli::failure::Failure;
use crate::cli::values;
use horarium_model::input::type_name;
use horarium_model::json::escape;
use horarium_model::text::nearest;
use horarium_model::{Invalid, Problem};
use serde_json::{Map, Value};

/// The file as JSON: instants become text, what JSON does not have is refused.
pub(super) fn document(file: &str, text: &str) -> Result<Value, Failure> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let at = line
            .map(|line| format!(", line {line}"))
            .unwrap_or_default();
        Failure::refused(format!("{file}{at}: {}", error.message()))
    })?;
    let value = as_json(toml::Value::Table(table), "").map_err(|invalid| {
        Failure::invalid(&invalid).relocate(|pointer| format!("{file}: {pointer}"))
    })?;
    // The same door as the server's, for its words and places.
    horarium_model::json::parse(value.to_string().as_bytes())
        .map_err(|problem| Failure::refused(format!("{file}: {problem}")))
}

fn as_json(value: toml::Value, pointer: &str) -> Result<Value, Invalid> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .ok_or_else(|| Invalid::one(pointer, "is no number that JSON has"))?
            .into(),
        toml::Value::Array(items) => {
            let each = items.into_iter().enumerate();
            let all: Result<Vec<Value>, Invalid> = each
                .map(|(index, item)| as_json(item, &format!("{pointer}/{index}")))
                .collect();
            all?.into()
        }
        toml::Value::Table(table) => {
            let mut map = Map::new();
            for (key, value) in table {
                let at = format!("{pointer}/{}", escape(&key));
                map.insert(key, as_json(value, &at)?);
            }
            map.into()
        }
    })
}

/// An item's place, the name its table has, and the table.
pub(super) type Item = (String, Option<String>, Map<String, Value>);

/// `[key.NAME]` tables, or `[[key]]`.
pub(super) fn items(top: &Map<String, Value>, key: &str, problems: &mut Vec<Problem>) -> Vec<Item> {
    let all: Vec<(String, Option<String>, &Value)> = match top.get(key) {
        None => Vec::new(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| {
                (
                    format!("/{key}/{}", escape(name)),
                    Some(name.clone()),
                    value,
                )
            })
            .collect(),
        Some(Value::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (format!("/{key}/{index}"), None, value))
            .collect(),
        Some(other) => {
            let detail = format!("must be tables, [{key}.NAME], not {}", type_name(other));
            problems.push(Problem::at(format!("/{key}"), detail));
            Vec::new()
        }
    };
    let mut tables = Vec::with_capacity(all.len());
    for (pointer, name, value) in all {
        match value {
            Value::Object(table) => tables.push((pointer, name, table.clone())),
            other => {
                let detail = format!("must be a table, not {}", type_name(other));
                problems.push(Problem::at(pointer, detail));
            }
        }
    }
    tables
}

pub(super) fn unknown(
    table: &Map<String, Value>,
    pointer: &str,
    known: &[&[&str]],
    problems: &mut Vec<Problem>,
) {
    let known = || known.iter().copied().flatten().copied();
    for key in table
        .keys()
        .filter(|key| !known().any(|known| known == *key))
    {
        let hint = match nearest(key, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        };
        let detail = format!("is not known here; {hint}");
        problems.push(Problem::at(format!("{pointer}/{}", escape(key)), detail));
    }
}

/// Puts what an alias said under the name it stands for, which must not be said besides.
pub(super) fn rename(
    table: &mut Map<String, Value>,
    pointer: &str,
    alias: &str,
    name: &str,
    said: Option<Value>,
    problems: &mut Vec<Problem>,
) {
    let Some(said) = said else { return };
    if table.contains_key(name) {
        let detail = format!("is said twice: by `{name}` and by {alias}");
        problems.push(Problem::at(format!("{pointer}/{name}"), detail));
        return;
    }
    table.insert(name.to_owned(), said);
}

/// Sizes may be written as `"16MiB"`.
pub(super) fn read_sizes(limits: &mut Value, pointer: &str, problems: &mut Vec<Problem>) {
    let Some(limits) = limits.as_object_mut() else {
        return;
    };
    for (name, value) in limits.iter_mut() {
        let Value::String(text) = value else { continue };
        match values::limit(&format!("{name}={text}")) {
            Ok((_, number)) => *value = number.into(),
            Err(detail) => {
                problems.push(Problem::at(format!("{pointer}/{}", escape(name)), detail))
            }
        }
    }
}
