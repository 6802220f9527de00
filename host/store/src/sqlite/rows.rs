//! Rows as SQLite returns them, turned into what they mean. A row that makes no sense is an error that
//! names it, never a panic.

use crate::columns::Place;
use crate::rows;
pub(super) use crate::rows::Cells;
pub(super) use crate::rows::overlap_word;
use horarium_core::store::{DueSchedule, StoreResult};
use horarium_model::TaskConfig;
use horarium_model::execution::{AttemptRecord, Execution, State};
use horarium_model::task_type::{PluginVersion, TaskType};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};

/// One row being read, its columns in the order of the statement.
pub(super) struct Reader<'r> {
    row: &'r SqliteRow,
    at: usize,
    pub(super) place: Place,
}

impl<'r> Reader<'r> {
    /// Reads `row` of `table`; its first column is the id.
    pub(super) fn new(row: &'r SqliteRow, table: &'static str) -> StoreResult<Self> {
        let mut reader = Self {
            row,
            at: 0,
            place: Place { table, id: 0 },
        };
        reader.place.id = reader.get("id")?;
        Ok(reader)
    }

    /// Reads a row whose first column is no id.
    pub(super) fn plain(row: &'r SqliteRow, table: &'static str) -> Self {
        Self {
            row,
            at: 0,
            place: Place { table, id: 0 },
        }
    }

    /// The next column.
    pub(super) fn get<T>(&mut self, column: &str) -> StoreResult<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        let value = self
            .row
            .try_get::<T, _>(self.at)
            .map_err(|error| self.place.corrupt(column, error));
        self.at += 1;
        value
    }
}

impl<'r> Cells<'r> for Reader<'r> {
    fn place(&self) -> Place {
        self.place
    }

    fn int(&mut self, column: &str) -> StoreResult<i64> {
        self.get(column)
    }

    fn opt_int(&mut self, column: &str) -> StoreResult<Option<i64>> {
        self.get(column)
    }

    fn text(&mut self, column: &str) -> StoreResult<&'r str> {
        self.get(column)
    }

    fn opt_text(&mut self, column: &str) -> StoreResult<Option<&'r str>> {
        self.get(column)
    }

    fn flag(&mut self, column: &str) -> StoreResult<bool> {
        self.get(column)
    }

    fn opt_real(&mut self, column: &str) -> StoreResult<Option<f64>> {
        self.get(column)
    }
}

rows::readers!(SqliteRow);

/// A state column on its own.
pub(super) fn state(row: &SqliteRow, column: usize, table: &'static str) -> StoreResult<State> {
    let place = Place { table, id: 0 };
    let text: &str = row
        .try_get(column)
        .map_err(|error| place.corrupt("state", error))?;
    place.word("state", text)
}
