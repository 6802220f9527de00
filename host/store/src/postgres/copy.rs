//! A PostgreSQL database as source or target of a copy.

use super::connect::{self, Target, refuse};
use super::tx::{query, query_as, query_scalar};
use super::{PostgresOptions, jsonb, partitions, schema};
use crate::copy::{Begun, Cell, End, Kind, Numbers, Row, TABLES, Table, half_copied, quoted};
use horarium_core::store::{StoreError, StoreResult};
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::{AssertSqlSafe, Connection, Transaction};

const HAS_PROGRESS: &str = "SELECT to_regclass('horarium_copy') IS NOT NULL";
const CREATE_PROGRESS: &str =
    "CREATE TABLE horarium_copy (name text PRIMARY KEY, place text, rows bigint NOT NULL)";
const DROP_PROGRESS: &str = "DROP TABLE horarium_copy";
const PROGRESS: &str = "SELECT name, place, rows FROM horarium_copy";
const NOTE_TABLE: &str = "INSERT INTO horarium_copy (name, place, rows) VALUES ($1, $2, 0)";
const MOVE_PLACE: &str = "UPDATE horarium_copy SET place = $3, rows = rows + $4 \
    WHERE name = $1 AND place IS NOT DISTINCT FROM $2";
const IDENTITY: &str = "SELECT concat_ws(' ', pg_postmaster_start_time()::text, \
    (SELECT oid::text FROM pg_database WHERE datname = current_database()), \
    current_schema()::regnamespace::oid::text)";
const ALIVE: &str =
    "SELECT min(name) FROM hosts WHERE stopped_at IS NULL AND lease_until > database_now()";
const NUMBERS: &str = "SELECT (SELECT value FROM meta WHERE key = 'catalog_epoch'), \
    (SELECT last_value - (NOT is_called)::int FROM execution_ids), \
    (SELECT last_value - (NOT is_called)::int FROM task_configs_id_seq), \
    (SELECT last_value - (NOT is_called)::int FROM plugin_versions_id_seq), \
    coalesce((SELECT max(incarnation) FROM hosts), 0)";
const FIRST_HOST: &str = "SELECT min(started_at) FROM hosts";
const OLDEST_END: &str = "SELECT min(completed_at) FROM task_executions";
const SET_EPOCH: &str = "UPDATE meta SET value = $1 WHERE key = 'catalog_epoch'";
const SET_SEQUENCES: &str = "SELECT setval('execution_ids', greatest($1::bigint, 1), $1 > 0), \
    setval('task_configs_id_seq', greatest($2::bigint, 1), $2 > 0), \
    setval('plugin_versions_id_seq', greatest($3::bigint, 1), $3 > 0)";
const MAKE_KEYS: &str = "INSERT INTO run_keys (tenant_id, run_key) \
    SELECT DISTINCT tenant_id, run_key FROM live_executions WHERE run_key IS NOT NULL ON CONFLICT DO NOTHING";

/// Every statement that does not come from the table of tables, for the test that prepares them.
#[cfg(test)]
pub(crate) const ALL: &[&str] = &[
    HAS_PROGRESS,
    DROP_PROGRESS,
    PROGRESS,
    NOTE_TABLE,
    MOVE_PLACE,
    IDENTITY,
    ALIVE,
    NUMBERS,
    FIRST_HOST,
    OLDEST_END,
    SET_EPOCH,
    SET_SEQUENCES,
    MAKE_KEYS,
];
#[cfg(test)]
pub(crate) const CREATE: &str = CREATE_PROGRESS;

fn expression(table: &Table, column: &str, kind: Kind) -> String {
    match (column, kind) {
        // None lives on in a copy.
        ("stopped_at", _) if table.name == "hosts" => {
            "coalesce(t.stopped_at, t.seen_at)".to_owned()
        }
        (_, Kind::Int) => format!("t.\"{column}\"::bigint"),
        (_, Kind::Json) => format!("t.\"{column}\"::text"),
        _ => format!("t.\"{column}\""),
    }
}

pub(crate) fn count_statement(table: &Table) -> String {
    format!("SELECT count(*) FROM {}", table.name)
}

/// A page: the first one, or what comes after a key, which is bound first. The limit is bound last.
pub(crate) fn page_statement(table: &Table, first: bool) -> String {
    let expressions: Vec<String> = table
        .columns()
        .into_iter()
        .map(|(column, kind)| expression(table, column, kind))
        .collect();
    let key = table.postgres_key();
    let after = match first {
        true => String::new(),
        false => {
            let places: Vec<String> = (1..=key.len()).map(|n| format!("${n}")).collect();
            format!(" WHERE ({}) > ({})", quoted(&key, "t."), places.join(", "))
        }
    };
    let limit = if first { 1 } else { key.len() + 1 };
    format!(
        "SELECT {} FROM {} t{after} ORDER BY {} LIMIT ${limit}",
        expressions.join(", "),
        table.name,
        quoted(&key, "t.")
    )
}

/// A batch, an array a column.
pub(crate) fn insert_statement(table: &Table) -> String {
    let columns = table.columns();
    let names: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
    let (mut arrays, mut values) = (Vec::new(), Vec::new());
    for (place, (column, kind)) in columns.iter().enumerate() {
        let (array, cast) = match kind {
            Kind::Int => ("bigint[]", ""),
            Kind::Flag => ("boolean[]", ""),
            Kind::Real => ("double precision[]", ""),
            Kind::Text => ("text[]", ""),
            Kind::Json => ("text[]", "::jsonb"),
            Kind::Blob => ("bytea[]", ""),
        };
        arrays.push(format!("${}::{array}", place + 1));
        values.push(format!("u.\"{column}\"{cast}"));
    }
    let names = quoted(&names, "");
    format!(
        "INSERT INTO {} ({names}) SELECT {} FROM unnest({}) u({names})",
        table.name,
        values.join(", "),
        arrays.join(", ")
    )
}

/// Refuses a database into which a copy goes.
pub(super) async fn refuse_half_copied(connection: &mut PgConnection) -> StoreResult<()> {
    match has_progress(connection).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(half_copied()),
        Err(error) => Err(super::tx::db(&error)),
    }
}

pub(super) async fn has_progress(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar(HAS_PROGRESS).fetch_one(connection).await
}

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

fn bind_key<'q>(query: Query<'q>, cell: &Cell) -> Query<'q> {
    match cell {
        Cell::Text(text) => query.bind(text.clone()),
        other => query.bind(other.as_int()),
    }
}

/// One column of a batch.
fn bind_column<'q>(query: Query<'q>, rows: &[Row], place: usize, kind: Kind) -> Query<'q> {
    let cells = rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null));
    match kind {
        Kind::Int => query.bind(cells.map(Cell::as_int).collect::<Vec<_>>()),
        Kind::Flag => query.bind(cells.map(Cell::as_flag).collect::<Vec<_>>()),
        Kind::Real => query.bind(cells.map(Cell::as_real).collect::<Vec<_>>()),
        Kind::Text => {
            let texts = cells.map(|cell| cell.as_text().map(str::to_owned));
            query.bind(texts.collect::<Vec<_>>())
        }
        Kind::Json => {
            let texts = cells.map(|cell| cell.as_text().map(|text| jsonb::text(text).into_owned()));
            query.bind(texts.collect::<Vec<_>>())
        }
        Kind::Blob => {
            let blobs = cells.map(|cell| cell.as_blob().map(<[u8]>::to_vec));
            query.bind(blobs.collect::<Vec<_>>())
        }
    }
}

fn read(table: &Table, row: &PgRow) -> StoreResult<Row> {
    use sqlx::Row as _;
    let cell = |place: usize, column: &str, kind: Kind| -> Result<StoreResult<Cell>, sqlx::Error> {
        Ok(Ok(match kind {
            Kind::Int => row
                .try_get::<Option<i64>, _>(place)?
                .map_or(Cell::Null, Cell::Int),
            Kind::Flag => {
                let flag: Option<bool> = row.try_get(place)?;
                flag.map_or(Cell::Null, |flag| Cell::Int(flag.into()))
            }
            Kind::Real => row
                .try_get::<Option<f64>, _>(place)?
                .map_or(Cell::Null, Cell::Real),
            Kind::Text => Cell::text(row.try_get(place)?),
            Kind::Json => return Ok(Cell::json(table, column, row.try_get(place)?)),
            Kind::Blob => {
                let bytes: Option<Vec<u8>> = row.try_get(place)?;
                bytes.map_or(Cell::Null, Cell::Blob)
            }
        }))
    };
    table
        .columns()
        .into_iter()
        .enumerate()
        .map(|(place, (column, kind))| {
            cell(place, column, kind).map_err(|error| super::tx::db(&error))?
        })
        .collect()
}

/// The database of a copy.
pub(crate) struct PostgresEnd {
    target: Target,
    connection: PgConnection,
    begin: String,
    kept: bool,
}

impl PostgresEnd {
    /// A database that is only read.
    pub(crate) async fn source(url: &str, options: &PostgresOptions) -> StoreResult<Self> {
        let mut end = Self::open(url, options).await?;
        let found = end.version().await?;
        if found == 0 {
            return Err(refuse(
                "the source is empty: there is no schema of Horarium in it",
            ));
        }
        end.refuse_older("source", found)?;
        if end.begun().await?.is_some() {
            return Err(half_copied());
        }
        Ok(end)
    }

    /// A database that gets its schema if it has none.
    pub(crate) async fn target(url: &str, options: &PostgresOptions) -> StoreResult<Self> {
        let mut end = Self::open(url, options).await?;
        let found = end.version().await?;
        if found == 0 {
            let options = PostgresOptions {
                migrate: true,
                ..options.clone()
            };
            schema::prepare(&end.target, &options).await?;
        } else {
            end.refuse_older("target", found)?;
        }
        Ok(end)
    }

    async fn open(url: &str, options: &PostgresOptions) -> StoreResult<Self> {
        let target = Target::parse(url, options)?.settled().await?;
        Ok(Self {
            connection: target.connect().await?,
            target,
            // Whole tables are counted, indexed and read.
            begin: format!(
                "{}; SET LOCAL statement_timeout = 0",
                connect::begin(options)
            ),
            kept: !options.pooler_transaction,
        })
    }

    async fn version(&mut self) -> StoreResult<i64> {
        let (mut tx, target) = self.transaction().await?;
        schema::current(&mut tx)
            .await
            .map_err(|fault| target.explain_fault(fault))
    }

    fn refuse_older(&self, which: &str, found: i64) -> StoreResult<()> {
        match found < schema::latest() {
            true => Err(refuse(format_args!(
                "the {which} has schema version {found}, this binary needs {}; run `horarium db migrate` on it",
                schema::latest()
            ))),
            false => Ok(()),
        }
    }

    async fn transaction(&mut self) -> StoreResult<(Transaction<'_, Postgres>, &Target)> {
        let begin = AssertSqlSafe(self.begin.clone());
        match self.connection.begin_with(begin).await {
            Ok(tx) => Ok((tx, &self.target)),
            Err(error) => Err(self.target.explain(&error)),
        }
    }

    /// One row, in a transaction of its own.
    async fn row<T>(&mut self, statement: &'static str) -> StoreResult<T>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let (mut tx, target) = self.transaction().await?;
        let row = query_as(statement).fetch_one(&mut *tx).await;
        let row = row.map_err(|error| target.explain(&error))?;
        tx.commit().await.map_err(|error| target.explain(&error))?;
        Ok(row)
    }
}

#[async_trait::async_trait]
impl End for PostgresEnd {
    async fn identity(&mut self) -> StoreResult<String> {
        let (identity,) = self.row(IDENTITY).await?;
        Ok(identity)
    }

    async fn at_rest(&mut self) -> StoreResult<()> {
        let (alive,): (Option<String>,) = self.row(ALIVE).await?;
        match alive {
            Some(name) => Err(StoreError::Unavailable(format!(
                "host `{name}` runs on the source, or died a moment ago; stop all its hosts first"
            ))),
            None => Ok(()),
        }
    }

    async fn numbers(&mut self) -> StoreResult<Numbers> {
        let (catalog_epoch, execution, config, version, incarnation) = self.row(NUMBERS).await?;
        Ok(Numbers {
            catalog_epoch,
            execution,
            config,
            version,
            incarnation,
        })
    }

    async fn first_host(&mut self) -> StoreResult<Option<i64>> {
        let (first,) = self.row(FIRST_HOST).await?;
        Ok(first)
    }

    async fn count(&mut self, table: &Table) -> StoreResult<u64> {
        let (mut tx, target) = self.transaction().await?;
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count_statement(table)))
            .persistent(false)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| target.explain(&error))?;
        tx.commit().await.map_err(|error| target.explain(&error))?;
        Ok(rows.unsigned_abs())
    }

    async fn oldest_end(&mut self) -> StoreResult<Option<i64>> {
        let (oldest,) = self.row(OLDEST_END).await?;
        Ok(oldest)
    }

    fn key(&self, table: &Table) -> Vec<&'static str> {
        table.postgres_key()
    }

    async fn page(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
        limit: i64,
    ) -> StoreResult<Vec<Row>> {
        let kept = self.kept;
        let (mut tx, target) = self.transaction().await?;
        let statement = page_statement(table, after.is_none());
        let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(kept);
        for cell in after.unwrap_or_default() {
            query = bind_key(query, cell);
        }
        let rows = query.bind(limit).fetch_all(&mut *tx).await;
        let rows = rows.map_err(|error| target.explain(&error))?;
        tx.commit().await.map_err(|error| target.explain(&error))?;
        rows.iter().map(|row| read(table, row)).collect()
    }

    async fn begun(&mut self) -> StoreResult<Option<Begun>> {
        let (mut tx, target) = self.transaction().await?;
        let explain = |error: sqlx::Error| target.explain(&error);
        if !has_progress(&mut tx).await.map_err(explain)? {
            return Ok(None);
        }
        let rows = query_as(PROGRESS)
            .fetch_all(&mut *tx)
            .await
            .map_err(explain)?;
        tx.commit().await.map_err(explain)?;
        Ok(Some(Begun::read(rows)))
    }

    async fn begin(&mut self, source: &str) -> StoreResult<()> {
        let begun = self.begun().await?.is_some();
        let (mut tx, target) = self.transaction().await?;
        let explain = |error: sqlx::Error| target.explain(&error);
        let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        // An empty database has nothing but the default tenant.
        let empty = match begun {
            true => format!("{DROP_PROGRESS}; TRUNCATE {}", tables.join(", ")),
            false => "DELETE FROM tenants".to_owned(),
        };
        sqlx::raw_sql(AssertSqlSafe(format!("{empty}; {CREATE_PROGRESS}")))
            .execute(&mut *tx)
            .await
            .map_err(explain)?;
        let names = tables.into_iter().map(|name| (name, None));
        for (name, place) in names.chain([("", Some(source))]) {
            let note = query(NOTE_TABLE).bind(name).bind(place);
            note.execute(&mut *tx).await.map_err(explain)?;
        }
        tx.commit().await.map_err(explain)
    }

    async fn make_room(&mut self, oldest_end: i64) -> StoreResult<()> {
        loop {
            let (mut tx, target) = self.transaction().await?;
            let made = partitions::reach_back(&mut tx, oldest_end).await;
            if !made.map_err(|fault| target.explain_fault(fault))? {
                return Ok(());
            }
            tx.commit().await.map_err(|error| target.explain(&error))?;
        }
    }

    async fn write(
        &mut self,
        table: &Table,
        rows: &[Row],
        from: Option<&str>,
        to: &str,
    ) -> StoreResult<bool> {
        let kept = self.kept;
        let (mut tx, target) = self.transaction().await?;
        let explain = |error: sqlx::Error| target.explain(&error);
        let moved = query(MOVE_PLACE)
            .bind(table.name)
            .bind(from)
            .bind(to)
            .bind(i64::try_from(rows.len()).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await
            .map_err(explain)?;
        if moved.rows_affected() != 1 {
            return Ok(false);
        }
        let mut insert = sqlx::query(AssertSqlSafe(insert_statement(table))).persistent(kept);
        for (place, (_, kind)) in table.columns().into_iter().enumerate() {
            insert = bind_column(insert, rows, place, kind);
        }
        insert.execute(&mut *tx).await.map_err(explain)?;
        tx.commit().await.map_err(explain)?;
        Ok(true)
    }

    async fn finish(&mut self, numbers: &Numbers) -> StoreResult<()> {
        let (mut tx, target) = self.transaction().await?;
        let explain = |error: sqlx::Error| target.explain(&error);
        let epoch = query(SET_EPOCH).bind(numbers.catalog_epoch);
        epoch.execute(&mut *tx).await.map_err(explain)?;
        query(SET_SEQUENCES)
            .bind(numbers.execution)
            .bind(numbers.config)
            .bind(numbers.version)
            .execute(&mut *tx)
            .await
            .map_err(explain)?;
        for statement in [MAKE_KEYS, DROP_PROGRESS] {
            query(statement).execute(&mut *tx).await.map_err(explain)?;
        }
        // The first plans on it are made before autovacuum came by.
        let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        let analyze = format!("ANALYZE {}, run_keys", tables.join(", "));
        sqlx::raw_sql(AssertSqlSafe(analyze))
            .execute(&mut *tx)
            .await
            .map_err(explain)?;
        tx.commit().await.map_err(explain)
    }

    async fn close(self: Box<Self>) -> StoreResult<()> {
        // The server notices by itself when this fails.
        let _ = self.connection.close().await;
        Ok(())
    }
}
