//! The tables of the Python system that this one replaces, read as they stand: every value as text, in one
//! transaction that sees one moment and can write nothing.

use super::PostgresOptions;
use super::connect::{Target, refuse};
use horarium_core::store::{StoreError, StoreResult};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::sync::Arc;

/// What a session needs to read for long while others are written to, and to write instants in one way.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET lock_timeout = '10s'; SET datestyle = 'ISO'; SET timezone = 'UTC'; SET intervalstyle = 'postgres'; \
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignTable {
    /// What ran when.
    Configs,
    /// What ended how.
    Executions,
}

impl ForeignTable {
    /// Its name there.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configs => "task_configs",
            Self::Executions => "task_executions",
        }
    }
}

/// A column of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignColumn {
    /// Its name.
    pub name: String,
    /// Its type, as `information_schema` has it.
    pub kind: String,
}

impl ForeignColumn {
    /// Whether it holds instants without a zone.
    pub fn is_naive(&self) -> bool {
        self.kind == "timestamp without time zone"
    }
}

/// One row; every value is PostgreSQL's text of it.
#[derive(Debug, Clone)]
pub struct ForeignRow {
    columns: Arc<[ForeignColumn]>,
    cells: Vec<Option<String>>,
}

impl ForeignRow {
    /// A value, none where it is NULL or there is no such column.
    pub fn get(&self, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|known| known.name == column)?;
        self.cells.get(at)?.as_deref()
    }

    /// Whether a column holds instants without a zone.
    pub fn is_naive(&self, column: &str) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|known| known.name == column && known.is_naive())
    }
}

/// A database of the Python system.
pub struct ForeignDatabase {
    connection: PgConnection,
    target: Target,
    schema: String,
    configs: Arc<[ForeignColumn]>,
    executions: Arc<[ForeignColumn]>,
}

impl std::fmt::Debug for ForeignDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignDatabase")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// A URL as SQLAlchemy writes it, `postgresql+psycopg2://…`, without the driver.
pub fn without_driver(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let scheme = scheme.split('+').next().unwrap_or(scheme);
            format!("{scheme}://{rest}")
        }
        None => url.to_owned(),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl ForeignDatabase {
    /// Connects and looks what there is. `schema` is the first of the role's `search_path` unless said.
    ///
    /// # Errors
    /// `Invalid` when the URL or the login is wrong or there is no `task_configs`; `Unavailable` when no server
    /// answers.
    pub async fn open(url: &str, schema: Option<&str>) -> StoreResult<Self> {
        let options = PostgresOptions {
            notify: false,
            ..PostgresOptions::default()
        };
        let target = Target::parse(&without_driver(url), &options)?
            .settled()
            .await?;
        let mut connection = target.connect().await?;
        let explain = |error: sqlx::Error| target.explain(&error);
        sqlx::raw_sql(SESSION)
            .execute(&mut connection)
            .await
            .map_err(explain)?;
        let schema = match schema {
            Some(schema) => schema.to_owned(),
            None => {
                let row = sqlx::query("SELECT coalesce(current_schema(), 'public')::text")
                    .fetch_one(&mut connection)
                    .await
                    .map_err(explain)?;
                row.try_get(0).map_err(explain)?
            }
        };
        let mut tables = [Vec::new(), Vec::new()];
        for (table, columns) in [ForeignTable::Configs, ForeignTable::Executions]
            .into_iter()
            .zip(&mut tables)
        {
            let rows = sqlx::query(
                "SELECT column_name::text, data_type::text FROM information_schema.columns \
                 WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position",
            )
            .bind(&schema)
            .bind(table.name())
            .fetch_all(&mut connection)
            .await
            .map_err(explain)?;
            for row in rows {
                columns.push(ForeignColumn {
                    name: row.try_get(0).map_err(explain)?,
                    kind: row.try_get(1).map_err(explain)?,
                });
            }
        }
        let [configs, executions] = tables.map(Arc::from);
        let database = Self {
            connection,
            target,
            schema,
            configs,
            executions,
        };
        database.require()?;
        Ok(database)
    }

    /// Refuses a database that is another one.
    fn require(&self) -> StoreResult<()> {
        for (table, wanted) in [
            (
                ForeignTable::Configs,
                &["id", "task_type", "scheduler_type"][..],
            ),
            (ForeignTable::Executions, &["id", "task_id"][..]),
        ] {
            let columns = self.columns(table);
            let (name, schema) = (table.name(), &self.schema);
            if columns.is_empty() && table == ForeignTable::Configs {
                return Err(refuse(format_args!(
                    "there is no table {name} in the schema {schema}; is this the database of the old system, and the \
                     schema it uses?"
                )));
            }
            let missing = wanted
                .iter()
                .find(|column| !columns.iter().any(|known| known.name == **column));
            if let (Some(missing), false) = (missing, columns.is_empty()) {
                return Err(refuse(format_args!(
                    "the table {schema}.{name} has no column {missing}, so it is not the old system's"
                )));
            }
        }
        Ok(())
    }

    /// The schema the tables are in.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The columns of a table, none when it is not there.
    pub fn columns(&self, table: ForeignTable) -> &Arc<[ForeignColumn]> {
        match table {
            ForeignTable::Configs => &self.configs,
            ForeignTable::Executions => &self.executions,
        }
    }

    fn place(&self, table: ForeignTable) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(table.name()))
    }

    async fn fetch(&mut self, sql: String, binds: &[Option<String>]) -> StoreResult<Vec<PgRow>> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for bind in binds {
            query = query.bind(bind.clone());
        }
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| self.target.explain(&error))
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// When the database does not answer, or refuses to let it be read.
    pub async fn count(&mut self, table: ForeignTable) -> StoreResult<u64> {
        if self.columns(table).is_empty() {
            return Ok(0);
        }
        let sql = format!("SELECT count(*) FROM {}", self.place(table));
        let rows = self.fetch(sql, &[]).await?;
        let count: i64 = rows
            .first()
            .map_or(Ok(0), |row| row.try_get(0))
            .map_err(|error| self.target.explain(&error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The next rows in the order of their ids, after one of these.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub async fn rows(
        &mut self,
        table: ForeignTable,
        after: Option<&str>,
        limit: u32,
    ) -> StoreResult<Vec<ForeignRow>> {
        let columns = self.columns(table).clone();
        let Some(id) = columns.iter().find(|column| column.name == "id") else {
            return Ok(Vec::new());
        };
        // Of the table: the text that is selected has the same name. What is no number compares as text, by bytes.
        let (place, bound) = match id.kind.as_str() {
            kind @ ("bigint" | "integer" | "smallint" | "numeric" | "uuid") => {
                ("t.id", format!("$1::{kind}"))
            }
            _ => ("t.id::text COLLATE \"C\"", "$1::text".to_owned()),
        };
        let cells: Vec<String> = columns
            .iter()
            .map(|column| format!("t.{}::text", quoted(&column.name)))
            .collect();
        let sql = format!(
            "SELECT {} FROM {} t WHERE $1::text IS NULL OR {place} > {bound} ORDER BY {place} LIMIT {limit}",
            cells.join(", "),
            self.place(table)
        );
        let rows = self.fetch(sql, &[after.map(str::to_owned)]).await?;
        let read = |row: PgRow| -> Result<ForeignRow, sqlx::Error> {
            let cells = (0..columns.len()).map(|at| row.try_get(at));
            Ok(ForeignRow {
                columns: columns.clone(),
                cells: cells.collect::<Result<_, _>>()?,
            })
        };
        let rows: Result<Vec<ForeignRow>, sqlx::Error> = rows.into_iter().map(read).collect();
        rows.map_err(|error| self.target.explain(&error))
    }

    /// Task ids that more than one execution has, each with the row that came last.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub async fn repeated_task_ids(&mut self) -> StoreResult<Vec<(String, String)>> {
        if self.columns(ForeignTable::Executions).is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT task_id::text, (array_agg(id::text ORDER BY id DESC))[1] FROM {} \
             WHERE task_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1",
            self.place(ForeignTable::Executions)
        );
        let rows = self.fetch(sql, &[]).await?;
        let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let pairs: Result<Vec<_>, sqlx::Error> = rows.iter().map(read).collect();
        pairs.map_err(|error| self.target.explain(&error))
    }

    /// Lets the database go.
    ///
    /// # Errors
    /// `Unavailable` when the connection broke before.
    pub async fn close(self) -> StoreResult<()> {
        let closed = self.connection.close().await;
        closed.map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_sqlalchemy_are_understood() {
        for (url, plain) in [
            ("postgresql+psycopg2://u:p@h/d", "postgresql://u:p@h/d"),
            ("postgresql+asyncpg://h/d?x=1", "postgresql://h/d?x=1"),
            ("postgres://h/d", "postgres://h/d"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_driver(url), plain);
        }
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
