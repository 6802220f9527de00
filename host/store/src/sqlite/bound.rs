//! Rows whose values are bound one by one, for the statements that write most: to find the n-th field of a row of JSON,
//! SQLite walks over all before it.

use super::db;
use horarium_core::store::StoreResult;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Type};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// How many rows the forms of a statement have room for. Those that are not bound are NULL, and left out by it.
const ROOMS: [usize; 3] = [1, 16, ROWS];

/// Most rows of one statement.
pub(super) const ROWS: usize = 128;

/// By statement, and the rows there is room for.
type Forms = HashMap<(&'static str, usize), Arc<str>>;

/// Values of rows, in the order of the statement's columns.
#[derive(Default)]
pub(super) struct Values(SqliteArguments);

impl Values {
    /// The next value.
    pub(super) fn add<'q, T>(&mut self, value: T) -> StoreResult<()>
    where
        T: Encode<'q, Sqlite> + Type<Sqlite>,
    {
        let wrong = |error| db(sqlx::Error::Encode(error));
        self.0.add(value).map_err(wrong)
    }

    /// The arguments they are.
    pub(super) fn into_arguments(self) -> SqliteArguments {
        self.0
    }
}

/// The form of a statement that takes so many rows: what stands in `{}` is one of them, and repeated.
pub(super) fn for_rows(statement: &'static str, count: usize) -> AssertSqlSafe<Arc<str>> {
    static FORMS: LazyLock<Mutex<Forms>> = LazyLock::new(Mutex::default);
    let room = ROOMS.into_iter().find(|room| *room >= count);
    let room = room.unwrap_or(ROWS);
    let mut forms = FORMS.lock().unwrap_or_else(PoisonError::into_inner);
    let form = forms.entry((statement, room));
    // Fixed text, and marks of parameters.
    AssertSqlSafe(
        form.or_insert_with(|| repeated(statement, room).into())
            .clone(),
    )
}

/// The statement with so many rows.
pub(super) fn repeated(statement: &str, rows: usize) -> String {
    let Some((before, rest)) = statement.split_once('{') else {
        return statement.to_owned();
    };
    let (row, after) = rest.split_once('}').unwrap_or((rest, ""));
    let rows = vec![row; rows].join(",");
    format!("{before}{rows}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_room_for_the_rows() {
        let statement = "INSERT INTO t SELECT * FROM (VALUES {(?,?)}) WHERE column1 IS NOT NULL";
        let marks = |count| for_rows(statement, count).0.matches('?').count() / 2;
        assert_eq!([1, 2, 16, 17, 128].map(marks), [1, 16, 16, 128, 128]);
        assert_eq!(
            repeated(statement, 2),
            "INSERT INTO t SELECT * FROM (VALUES (?,?),(?,?)) WHERE column1 IS NOT NULL"
        );
        assert_eq!(repeated("SELECT 1", 2), "SELECT 1");
    }
}
