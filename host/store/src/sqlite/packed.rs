//! Many rows as one: a JSON array for each, all in one text. A row by itself takes the way between the threads of
//! SQLite and of its reader, each of its values a copy of its own; where a claim reads a thousand, that costs more than
//! finding them.

use super::db;
use super::tx::Tx;
use crate::columns::{Place, text};
use crate::rows;
use horarium_core::store::{StoreError, StoreResult};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::borrow::Cow;
use std::fmt;

/// A value of a packed row. JSON in it is text, as it is elsewhere.
enum Cell<'a> {
    Null,
    Int(i64),
    Real(f64),
    Text(Cow<'a, str>),
}

/// A packed row.
pub(super) struct Cells<'a>(Vec<Cell<'a>>);

/// The rows in what a statement gave, which is nothing where there were none. Each is unpacked when it is asked for.
pub(super) fn rows<'a>(
    row: &'a SqliteRow,
    table: &'static str,
) -> StoreResult<impl Iterator<Item = StoreResult<Cells<'a>>>> {
    let packed: Option<&str> = row.try_get(0).map_err(db)?;
    Ok(unpacked(packed.unwrap_or_default(), table))
}

/// What is not packed, because few rows have it or it can be large: a text of each.
pub(super) async fn apart(
    tx: &mut Tx,
    statement: &'static str,
    ids: &[i64],
) -> StoreResult<Vec<(i64, String)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(statement)
        .bind(text(&ids)?)
        .fetch_all(tx.read())
        .await
        .map_err(db)
}

fn unpacked<'a>(
    packed: &'a str,
    table: &'static str,
) -> impl Iterator<Item = StoreResult<Cells<'a>>> {
    let rows = serde_json::Deserializer::from_str(packed).into_iter();
    rows.map(move |row| {
        row.map_err(|error| StoreError::Internal(format!("{table}: rows cannot be read: {error}")))
    })
}

impl<'de: 'a, 'a> Deserialize<'de> for Cells<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AllCells)
    }
}

struct AllCells;

impl<'de> Visitor<'de> for AllCells {
    type Value = Cells<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Cells<'de>, A::Error> {
        // As many as the widest statement has.
        let mut cells = Vec::with_capacity(32);
        while let Some(cell) = all.next_element()? {
            cells.push(cell);
        }
        Ok(Cells(cells))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyCell)
    }
}

struct AnyCell;

impl<'de> Visitor<'de> for AnyCell {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a number or a text")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Cell<'de>, E> {
        let number = i64::try_from(number).map_err(E::custom)?;
        Ok(Cell::Int(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Real(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }
}

/// One packed row being read, its values in the order of the statement.
pub(super) struct Reader<'r> {
    cells: std::slice::Iter<'r, Cell<'r>>,
    place: Place,
}

impl<'r> Reader<'r> {
    /// Reads a row of `table`; its first value is the id.
    pub(super) fn new(row: &'r Cells<'r>, table: &'static str) -> StoreResult<Self> {
        let mut reader = Self {
            cells: row.0.iter(),
            place: Place { table, id: 0 },
        };
        reader.place.id = rows::Cells::int(&mut reader, "id")?;
        Ok(reader)
    }

    fn wrong<T>(&self, column: &str, wanted: &str) -> StoreResult<T> {
        Err(self
            .place
            .corrupt(column, format_args!("it is not {wanted}")))
    }

    fn there<T>(&self, column: &str, value: Option<T>) -> StoreResult<T> {
        value.ok_or_else(|| self.place.corrupt(column, "it is null"))
    }
}

impl<'r> rows::Cells<'r> for Reader<'r> {
    fn place(&self) -> Place {
        self.place
    }

    fn int(&mut self, column: &str) -> StoreResult<i64> {
        let value = self.opt_int(column)?;
        self.there(column, value)
    }

    fn opt_int(&mut self, column: &str) -> StoreResult<Option<i64>> {
        match self.cells.next() {
            Some(Cell::Int(number)) => Ok(Some(*number)),
            Some(Cell::Null) => Ok(None),
            _ => self.wrong(column, "an integer"),
        }
    }

    fn text(&mut self, column: &str) -> StoreResult<&'r str> {
        let value = self.opt_text(column)?;
        self.there(column, value)
    }

    fn opt_text(&mut self, column: &str) -> StoreResult<Option<&'r str>> {
        match self.cells.next() {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            _ => self.wrong(column, "a text"),
        }
    }

    fn flag(&mut self, column: &str) -> StoreResult<bool> {
        self.int(column).map(|number| number != 0)
    }

    fn opt_real(&mut self, column: &str) -> StoreResult<Option<f64>> {
        match self.cells.next() {
            Some(Cell::Real(number)) => Ok(Some(*number)),
            Some(Cell::Int(number)) => Ok(Some(*number as f64)),
            Some(Cell::Null) => Ok(None),
            _ => self.wrong(column, "a number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Cells as _;

    #[test]
    fn values_come_as_they_were_packed() {
        let packed = r#"[7,"a\"\u0001\n\u00e9",null,-9223372036854775808,1][8,"{}","",9223372036854775807,0]"#;
        let mut read = Vec::new();
        for row in unpacked(packed, "t") {
            let row = row.expect("a row");
            let mut r = Reader::new(&row, "t").expect("an id");
            read.push((
                r.place().id,
                r.owned("a").expect("a text"),
                r.opt_text("b").expect("a text or null").map(str::to_owned),
                r.int("c").expect("an integer"),
                r.flag("d").expect("a flag"),
            ));
        }
        let first = (7, "a\"\u{1}\n\u{e9}".to_owned(), None, i64::MIN, true);
        let second = (8, "{}".to_owned(), Some(String::new()), i64::MAX, false);
        assert_eq!(read, [first, second]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let row = unpacked(r#"[7,"x",null]"#, "t").next();
        let row = row.expect("a row").expect("it is whole");
        let mut r = Reader::new(&row, "t").expect("an id");
        let told = |error: StoreError| error.to_string();
        let wrong = r.int("claim").map_err(told).expect_err("a text");
        assert!(
            wrong.contains("row 7 of t") && wrong.contains("claim"),
            "{wrong}"
        );
        let missing = r.text("task_type").map_err(told).expect_err("null");
        assert!(missing.contains("task_type"), "{missing}");
        let none = r.opt_int("slot").map_err(told).expect_err("the end");
        assert!(none.contains("slot"), "{none}");
        assert!(unpacked(r#"[1]{"a":2}"#, "t").any(|row| row.is_err()));
    }
}
