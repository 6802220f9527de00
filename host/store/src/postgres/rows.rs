//! Rows as PostgreSQL returns them.

use crate::columns::Place;
use crate::rows;
pub(super) use crate::rows::Cells;
use horarium_core::store::{DueSchedule, StoreResult};
use horarium_model::TaskConfig;
use horarium_model::execution::{AttemptRecord, Execution};
use horarium_model::task_type::{PluginVersion, TaskType};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row, Type, TypeInfo, ValueRef};

/// One row being read, its columns in the order of the statement.
pub(super) struct Reader<'r> {
    row: &'r PgRow,
    at: usize,
    place: Place,
}

impl<'r> Reader<'r> {
    /// Reads `row` of `table`; its first column is the id.
    pub(super) fn new(row: &'r PgRow, table: &'static str) -> StoreResult<Self> {
        let mut reader = Self::plain(row, table);
        reader.place.id = reader.int("id")?;
        Ok(reader)
    }

    /// Reads a row whose first column is no id.
    pub(super) fn plain(row: &'r PgRow, table: &'static str) -> Self {
        Self {
            row,
            at: 0,
            place: Place { table, id: 0 },
        }
    }

    /// The row's id.
    pub(super) fn id(&self) -> i64 {
        self.place.id
    }

    /// The next column.
    pub(super) fn get<T>(&mut self, column: &str) -> StoreResult<T>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        let value = self
            .row
            .try_get::<T, _>(self.at)
            .map_err(|error| self.place.corrupt(column, error));
        self.at += 1;
        value
    }

    /// Whether the next column is a 32-bit integer: the narrow ones of the hot table are.
    fn is_narrow(&self) -> bool {
        self.row
            .try_get_raw(self.at)
            .is_ok_and(|value| value.type_info().name() == "INT4")
    }
}

impl<'r> Cells<'r> for Reader<'r> {
    fn place(&self) -> Place {
        self.place
    }

    fn int(&mut self, column: &str) -> StoreResult<i64> {
        if self.is_narrow() {
            self.get::<i32>(column).map(i64::from)
        } else {
            self.get(column)
        }
    }

    fn opt_int(&mut self, column: &str) -> StoreResult<Option<i64>> {
        if self.is_narrow() {
            Ok(self.get::<Option<i32>>(column)?.map(i64::from))
        } else {
            self.get(column)
        }
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

rows::readers!(PgRow);
