//! Values on their way from one database to another, in a form that is the same for both, and checksums
//! over them.

use super::tables::{Kind, Table};
use horarium_core::store::{StoreError, StoreResult};
use serde_json::Value;
use std::borrow::Cow;

/// One value. JSON is canonical text; flags are 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// One row, its cells in the order of [`Table::columns`].
pub(crate) type Row = Vec<Cell>;

impl Cell {
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_flag(&self) -> Option<bool> {
        self.as_int().map(|number| number != 0)
    }

    pub(crate) fn as_real(&self) -> Option<f64> {
        match self {
            Self::Real(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_blob(&self) -> Option<&[u8]> {
        match self {
            Self::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A text as both databases keep it: PostgreSQL knows no NUL.
    pub(crate) fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Null, |text| {
            Self::Text(text.replace('\0', "\u{fffd}"))
        })
    }

    /// A JSON text, made canonical.
    pub(crate) fn json(table: &Table, column: &str, text: Option<&str>) -> StoreResult<Self> {
        let Some(text) = text else {
            return Ok(Self::Null);
        };
        let plain = match text.contains("\\u0000") {
            true => crate::postgres::jsonb::text(text),
            false => Cow::Borrowed(text),
        };
        let mut value: Value = serde_json::from_str(&plain).map_err(|error| {
            StoreError::Internal(format!("{}.{column} holds no JSON: {error}", table.name))
        })?;
        if plain.contains("-0") {
            without_negative_zero(&mut value);
        }
        Ok(Self::Text(value.to_string()))
    }

    /// How much of memory it takes, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 24,
            Self::Blob(bytes) => bytes.len() + 24,
            _ => 16,
        }
    }
}

/// PostgreSQL's numbers have no negative zero.
fn without_negative_zero(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_f64() == Some(0.0) && number.is_f64() => {
            *value = Value::from(0.0);
        }
        Value::Array(items) => items.iter_mut().for_each(without_negative_zero),
        Value::Object(map) => map.values_mut().for_each(without_negative_zero),
        _ => {}
    }
}

/// Cells of a row, by the names of columns.
pub(crate) fn pick(table: &Table, row: &Row, names: &[&str]) -> Vec<Cell> {
    let columns = table.columns();
    let cell = |name: &&str| {
        let place = columns.iter().position(|(column, _)| column == name);
        place.and_then(|place| row.get(place)).cloned()
    };
    names.iter().filter_map(cell).collect()
}

/// A place in a table, as it is kept between runs: the key of a row.
pub(crate) fn position_text(key: &[Cell]) -> String {
    let values: Vec<Value> = key
        .iter()
        .map(|cell| match cell {
            Cell::Int(number) => Value::from(*number),
            Cell::Text(text) => Value::from(text.as_str()),
            _ => Value::Null,
        })
        .collect();
    Value::Array(values).to_string()
}

/// The key that [`position_text`] wrote.
pub(crate) fn position(text: &str) -> StoreResult<Vec<Cell>> {
    let unreadable = || {
        StoreError::Internal(format!(
            "the copy's place `{text}` cannot be read; use --restart"
        ))
    };
    let values: Vec<Value> = serde_json::from_str(text).map_err(|_| unreadable())?;
    values
        .into_iter()
        .map(|value| match value {
            Value::Number(number) => number.as_i64().map(Cell::Int).ok_or_else(unreadable),
            Value::String(text) => Ok(Cell::Text(text)),
            _ => Err(unreadable()),
        })
        .collect()
}

/// Rows counted and summed up, in whatever order they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    sum: u128,
}

impl Sum {
    pub(crate) fn add(&mut self, table: &Table, row: &Row) {
        let mut hasher = blake3::Hasher::new();
        let mut field = |tag: u8, bytes: &[u8]| {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (cell, (_, kind)) in row.iter().zip(table.columns()) {
            match cell {
                Cell::Null => field(0, &[]),
                Cell::Int(number) => field(1, &number.to_le_bytes()),
                Cell::Real(number) => field(2, &number.to_bits().to_le_bytes()),
                Cell::Text(text) if kind == Kind::Json => field(3, text.as_bytes()),
                Cell::Text(text) => field(4, text.as_bytes()),
                Cell::Blob(bytes) => field(5, bytes),
            }
        }
        let hash = hasher.finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
    }

    /// The checksum as it is shown.
    pub(crate) fn checksum(&self) -> String {
        format!("{:032x}", self.sum)
    }
}
