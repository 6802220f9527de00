//! A SQLite file as source or target of a copy. Its lock is held all the time: no server runs on it.

use super::file::{self, Lock};
use super::{SqliteOptions, db, sql};
use crate::copy::{
    Begun, Cell, End, Kind, Numbers, PROGRESS_TABLE, Row, TABLES, Table, half_copied, quoted,
};
use horarium_core::store::{StoreError, StoreResult};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const HAS_PROGRESS: &str =
    "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'horarium_copy')";
const CREATE_PROGRESS: &str =
    "CREATE TABLE horarium_copy (name TEXT PRIMARY KEY, place TEXT, rows INTEGER NOT NULL)";
const PROGRESS: &str = "SELECT name, place, rows FROM horarium_copy";
const NOTE_TABLE: &str = "INSERT INTO horarium_copy (name, place, rows) VALUES (?1, ?2, 0)";
const MOVE_PLACE: &str =
    "UPDATE horarium_copy SET place = ?3, rows = rows + ?4 WHERE name = ?1 AND place IS ?2";
const NUMBERS: &str = "SELECT (SELECT value FROM meta WHERE key = 'catalog_epoch'), \
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'task_configs'), 0), \
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'plugin_versions'), 0), \
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'hosts'), 0)";
const FIRST_HOST: &str = "SELECT min(started_at) FROM hosts";
const OLDEST_END: &str = "SELECT min(completed_at) FROM task_executions";
const SET_EPOCH: &str = "UPDATE meta SET value = ?1 WHERE key = 'catalog_epoch'";
const FORGET_SEQUENCE: &str = "DELETE FROM sqlite_sequence WHERE name = ?1";
const SET_SEQUENCE: &str = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";

/// Every statement that does not come from the table of tables, for the test that prepares them.
#[cfg(test)]
pub(crate) const ALL: &[&str] = &[
    HAS_PROGRESS,
    PROGRESS,
    NOTE_TABLE,
    MOVE_PLACE,
    NUMBERS,
    FIRST_HOST,
    OLDEST_END,
    SET_EPOCH,
    FORGET_SEQUENCE,
    SET_SEQUENCE,
];
#[cfg(test)]
pub(crate) const CREATE: &str = CREATE_PROGRESS;

/// The tenant of what is kept beside executions.
const TENANT: &str = "coalesce((SELECT e.tenant_id FROM task_executions e WHERE e.id = t.execution_id), \
    (SELECT l.tenant_id FROM live_executions l WHERE l.id = t.execution_id))";

fn expression(table: &Table, column: &str, kind: Kind) -> String {
    match (column, kind) {
        ("tenant_id", _) if table.beside_execution => TENANT.to_owned(),
        // The lock proves that none is alive.
        ("stopped_at", _) if table.name == "hosts" => {
            "coalesce(t.stopped_at, t.seen_at)".to_owned()
        }
        (_, Kind::Json) => format!("json(t.\"{column}\")"),
        _ => format!("t.\"{column}\""),
    }
}

/// What belongs to an execution that is no more belongs to nobody.
fn owned(table: &Table) -> String {
    match table.beside_execution {
        true => format!("{TENANT} IS NOT NULL"),
        false => "1".to_owned(),
    }
}

pub(crate) fn count_statement(table: &Table) -> String {
    format!(
        "SELECT count(*) FROM {} t WHERE {}",
        table.name,
        owned(table)
    )
}

/// A page: the first one, or what comes after a key, which is bound first. The limit is bound last.
pub(crate) fn page_statement(table: &Table, first: bool) -> String {
    let expressions: Vec<String> = table
        .columns()
        .into_iter()
        .map(|(column, kind)| expression(table, column, kind))
        .collect();
    let key = table.sqlite_key();
    let after = match first {
        true => String::new(),
        false => {
            let places: Vec<&str> = key.iter().map(|_| "?").collect();
            format!(" AND ({}) > ({})", quoted(&key, "t."), places.join(", "))
        }
    };
    format!(
        "SELECT {} FROM {} t WHERE {}{after} ORDER BY {} LIMIT +?",
        expressions.join(", "),
        table.name,
        owned(table),
        quoted(&key, "t.")
    )
}

/// Whether a column is one of the file's own.
fn is_stored(table: &Table, column: &str) -> bool {
    !(table.beside_execution && column == "tenant_id")
}

pub(crate) fn insert_statement(table: &Table) -> String {
    let columns: Vec<(&str, Kind)> = table
        .columns()
        .into_iter()
        .filter(|(column, _)| is_stored(table, column))
        .collect();
    let names: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
    let values: Vec<&str> = columns
        .iter()
        .map(|(_, kind)| match kind {
            Kind::Json => "jsonb(?)",
            _ => "?",
        })
        .collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({})",
        table.name,
        quoted(&names, ""),
        values.join(", ")
    )
}

/// Whether two paths lead to one file.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => a == b,
    }
}

/// Refuses a file into which a copy goes.
pub(super) async fn refuse_half_copied(connection: &mut SqliteConnection) -> StoreResult<()> {
    match has_progress(connection).await? {
        true => Err(half_copied()),
        false => Ok(()),
    }
}

pub(super) async fn has_progress(connection: &mut SqliteConnection) -> StoreResult<bool> {
    let (has,): (bool,) = sqlx::query_as(HAS_PROGRESS)
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(db)?;
    Ok(has)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

fn bind<'q>(query: Query<'q>, cell: &Cell) -> Query<'q> {
    match cell {
        Cell::Null => query.bind(None::<i64>),
        Cell::Int(number) => query.bind(*number),
        Cell::Real(number) => query.bind(*number),
        Cell::Text(text) => query.bind(text.clone()),
        Cell::Blob(bytes) => query.bind(bytes.clone()),
    }
}

fn read(table: &Table, row: &SqliteRow) -> StoreResult<Row> {
    use sqlx::Row as _;
    let cell = |place: usize, column: &str, kind: Kind| -> StoreResult<Cell> {
        let int = || row.try_get_unchecked::<Option<i64>, _>(place);
        let text = || row.try_get_unchecked::<Option<&str>, _>(place);
        Ok(match kind {
            Kind::Int => int().map_err(db)?.map_or(Cell::Null, Cell::Int),
            Kind::Flag => {
                let flag = int().map_err(db)?.map(|number| i64::from(number != 0));
                flag.map_or(Cell::Null, Cell::Int)
            }
            Kind::Real => {
                let number = row.try_get_unchecked::<Option<f64>, _>(place).map_err(db)?;
                number.map_or(Cell::Null, Cell::Real)
            }
            Kind::Text => Cell::text(text().map_err(db)?),
            Kind::Json => Cell::json(table, column, text().map_err(db)?)?,
            Kind::Blob => {
                let bytes = row
                    .try_get_unchecked::<Option<Vec<u8>>, _>(place)
                    .map_err(db)?;
                bytes.map_or(Cell::Null, Cell::Blob)
            }
        })
    };
    table
        .columns()
        .into_iter()
        .enumerate()
        .map(|(place, (column, kind))| cell(place, column, kind))
        .collect()
}

/// The file of a copy.
pub(crate) struct SqliteEnd {
    path: PathBuf,
    connection: SqliteConnection,
    is_source: bool,
    _lock: Lock,
}

impl SqliteEnd {
    /// A file that is only read.
    pub(crate) async fn source(path: &Path) -> StoreResult<Self> {
        if std::fs::metadata(path).map_or(0, |m| m.len()) == 0 {
            return Err(file::refuse(path, "there is no database to copy"));
        }
        let lock = Lock::take(path)?;
        file::check_header(path)?;
        let mut connection = file::reader_options(path)
            .connect()
            .await
            .map_err(|error| file::opening(path, error))?;
        file::require_current(&mut connection, path).await?;
        refuse_half_copied(&mut connection).await?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            is_source: true,
            _lock: lock,
        })
    }

    /// A file that is made if it does not exist.
    pub(crate) async fn target(path: &Path) -> StoreResult<Self> {
        let folder = file::folder_of(path);
        std::fs::create_dir_all(folder).map_err(|error| file::unusable(folder, &error))?;
        let lock = Lock::take(path)?;
        let options = SqliteOptions {
            migrate: false,
            ..SqliteOptions::default()
        };
        let connection = file::open_writer(path, &options).await?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            is_source: false,
            _lock: lock,
        })
    }

    async fn number(&mut self, statement: String) -> StoreResult<Option<i64>> {
        let (number,): (Option<i64>,) = sqlx::query_as(AssertSqlSafe(statement))
            .fetch_one(&mut self.connection)
            .await
            .map_err(db)?;
        Ok(number)
    }
}

#[async_trait::async_trait]
impl End for SqliteEnd {
    async fn identity(&mut self) -> StoreResult<String> {
        let real = std::fs::canonicalize(&self.path);
        let real = real.map_err(|error| {
            StoreError::Unavailable(format!("cannot open {}: {error}", self.path.display()))
        })?;
        Ok(real.display().to_string())
    }

    async fn at_rest(&mut self) -> StoreResult<()> {
        Ok(())
    }

    async fn numbers(&mut self) -> StoreResult<Numbers> {
        let (catalog_epoch, config, version, incarnation) = sqlx::query_as(NUMBERS)
            .fetch_one(&mut self.connection)
            .await
            .map_err(db)?;
        let execution = self.number(sql::LAST_EXECUTION.to_owned()).await?;
        Ok(Numbers {
            catalog_epoch,
            execution: execution.unwrap_or_default(),
            config,
            version,
            incarnation,
        })
    }

    async fn first_host(&mut self) -> StoreResult<Option<i64>> {
        self.number(FIRST_HOST.to_owned()).await
    }

    async fn count(&mut self, table: &Table) -> StoreResult<u64> {
        let rows = self.number(count_statement(table)).await?;
        Ok(rows.unwrap_or_default().unsigned_abs())
    }

    async fn oldest_end(&mut self) -> StoreResult<Option<i64>> {
        self.number(OLDEST_END.to_owned()).await
    }

    fn key(&self, table: &Table) -> Vec<&'static str> {
        table.sqlite_key()
    }

    async fn page(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
        limit: i64,
    ) -> StoreResult<Vec<Row>> {
        let statement = page_statement(table, after.is_none());
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for cell in after.unwrap_or_default() {
            query = bind(query, cell);
        }
        let rows = query
            .bind(limit)
            .fetch_all(&mut self.connection)
            .await
            .map_err(db)?;
        rows.iter().map(|row| read(table, row)).collect()
    }

    async fn begun(&mut self) -> StoreResult<Option<Begun>> {
        if !has_progress(&mut self.connection).await? {
            return Ok(None);
        }
        let rows: Vec<(String, Option<String>, i64)> = sqlx::query_as(PROGRESS)
            .fetch_all(&mut self.connection)
            .await
            .map_err(db)?;
        Ok(Some(Begun::read(rows)))
    }

    async fn begin(&mut self, source: &str) -> StoreResult<()> {
        let begun = has_progress(&mut self.connection).await?;
        let mut tx = self
            .connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(db)?;
        if begun {
            let drop = format!("DROP TABLE {PROGRESS_TABLE}");
            tx.execute(sqlx::raw_sql(AssertSqlSafe(drop)))
                .await
                .map_err(db)?;
        }
        tx.execute(sqlx::raw_sql(CREATE_PROGRESS))
            .await
            .map_err(db)?;
        for table in TABLES {
            let empty = format!("DELETE FROM {}", table.name);
            tx.execute(sqlx::raw_sql(AssertSqlSafe(empty)))
                .await
                .map_err(db)?;
        }
        let names = TABLES.iter().map(|table| (table.name, None));
        for (name, place) in names.chain([("", Some(source))]) {
            sqlx::query(NOTE_TABLE)
                .bind(name.to_owned())
                .bind(place.map(str::to_owned))
                .execute(&mut *tx)
                .await
                .map_err(db)?;
        }
        tx.commit().await.map_err(db)
    }

    async fn make_room(&mut self, _oldest_end: i64) -> StoreResult<()> {
        Ok(())
    }

    async fn write(
        &mut self,
        table: &Table,
        rows: &[Row],
        from: Option<&str>,
        to: &str,
    ) -> StoreResult<bool> {
        let mut tx = self
            .connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(db)?;
        let moved = sqlx::query(MOVE_PLACE)
            .bind(table.name)
            .bind(from.map(str::to_owned))
            .bind(to.to_owned())
            .bind(i64::try_from(rows.len()).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        if moved.rows_affected() != 1 {
            return Ok(false);
        }
        let columns = table.columns();
        for row in rows {
            let mut query = sqlx::query(AssertSqlSafe(insert_statement(table)));
            for (cell, (column, _)) in row.iter().zip(&columns) {
                if is_stored(table, column) {
                    query = bind(query, cell);
                }
            }
            query.execute(&mut *tx).await.map_err(db)?;
        }
        tx.commit().await.map_err(db)?;
        Ok(true)
    }

    async fn finish(&mut self, numbers: &Numbers) -> StoreResult<()> {
        let mut tx = self
            .connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(db)?;
        for (statement, number) in [
            (SET_EPOCH, numbers.catalog_epoch),
            (sql::KEEP_LAST_EXECUTION, numbers.execution),
        ] {
            sqlx::query(statement)
                .bind(number)
                .execute(&mut *tx)
                .await
                .map_err(db)?;
        }
        let sequences = HashMap::from([
            ("task_configs", numbers.config),
            ("plugin_versions", numbers.version),
            ("hosts", numbers.incarnation),
        ]);
        for (name, number) in sequences {
            sqlx::query(FORGET_SEQUENCE)
                .bind(name)
                .execute(&mut *tx)
                .await
                .map_err(db)?;
            sqlx::query(SET_SEQUENCE)
                .bind(name)
                .bind(number)
                .execute(&mut *tx)
                .await
                .map_err(db)?;
        }
        let drop = format!("DROP TABLE {PROGRESS_TABLE}");
        tx.execute(sqlx::raw_sql(AssertSqlSafe(drop)))
            .await
            .map_err(db)?;
        tx.commit().await.map_err(db)
    }

    async fn close(self: Box<Self>) -> StoreResult<()> {
        let Self {
            mut connection,
            is_source,
            _lock,
            ..
        } = *self;
        if !is_source {
            connection.execute("PRAGMA optimize").await.map_err(db)?;
        }
        connection.close().await.map_err(db)
    }
}
