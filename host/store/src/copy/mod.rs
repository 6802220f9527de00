//! A whole database into another one, which may be of another kind: table after table in the order of
//! keys, a batch a transaction together with the place it reached, so that a copy that was interrupted
//! goes on. At the end both are read again and compared, row counts and checksums, before the target may be
//! used; until then no host starts on it.

mod cells;
mod tables;
#[cfg(test)]
mod tests;

pub(crate) use cells::{Cell, Row, pick, position, position_text};
pub(crate) use tables::{Kind, TABLES, Table, quoted};

use crate::postgres::copy::PostgresEnd;
use crate::sqlite::copy::SqliteEnd;
use crate::{PostgresOptions, sqlite};
use cells::Sum;
use horarium_core::store::{StoreError, StoreResult};
use horarium_model::Invalid;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// Aimed at in one batch, in bytes.
const BATCH: usize = 8 << 20;
/// Rows of a table's first batch; how large they are is not known yet.
const FIRST: i64 = 16;

/// A database to copy from or to.
#[derive(Debug, Clone)]
pub enum CopyPlace {
    /// A file.
    Sqlite(PathBuf),
    /// A URL and how it is used.
    Postgres(String, Box<PostgresOptions>),
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    /// Everything is there and is being compared.
    pub verifying: bool,
    /// The table at hand.
    pub table: &'static str,
    /// Rows done, of all tables; while verifying those of both databases.
    pub done: u64,
    /// Rows to be done, of all tables.
    pub total: u64,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// It went on from where an earlier copy was interrupted.
    pub resumed: bool,
    /// Rows of all tables.
    pub rows: u64,
    /// Each table, as it is in both databases.
    pub tables: Vec<CopiedTable>,
}

/// A table that is equal in both databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopiedTable {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Those of them that this run copied.
    pub copied: u64,
    /// Over all values of all rows, the same in both.
    pub checksum: String,
}

/// The numbers that go on counting in the copy, and so must not begin anew: the highest ids ever given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) catalog_epoch: i64,
    pub(crate) execution: i64,
    pub(crate) config: i64,
    pub(crate) version: i64,
    pub(crate) incarnation: i64,
}

/// What tells a source from another one, and from itself after somebody changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    numbers: Numbers,
    first_host: Option<i64>,
    rows: Vec<u64>,
}

/// A copy that was begun: its source's fingerprint, and of each table the place reached and the rows
/// written.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    pub(crate) source: String,
    pub(crate) tables: HashMap<String, (Option<String>, i64)>,
}

/// The table of the target that says how far a copy came; the row without a name is the copy itself. While it
/// is there no host starts.
pub(crate) const PROGRESS_TABLE: &str = "horarium_copy";

/// One of the two databases.
#[async_trait::async_trait]
pub(crate) trait End: Send {
    /// Unlike that of every other database.
    async fn identity(&mut self) -> StoreResult<String>;
    /// Refuses a source that a host may be changing.
    async fn at_rest(&mut self) -> StoreResult<()>;
    async fn numbers(&mut self) -> StoreResult<Numbers>;
    async fn first_host(&mut self) -> StoreResult<Option<i64>>;
    async fn count(&mut self, table: &Table) -> StoreResult<u64>;
    /// The first end in the history.
    async fn oldest_end(&mut self) -> StoreResult<Option<i64>>;
    fn key(&self, table: &Table) -> Vec<&'static str>;
    /// The next rows after a key, in the order of keys.
    async fn page(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
        limit: i64,
    ) -> StoreResult<Vec<Row>>;

    /// The copy that was begun into it.
    async fn begun(&mut self) -> StoreResult<Option<Begun>>;
    /// Notes that a copy begins, and removes what an earlier one wrote.
    async fn begin(&mut self, source: &str) -> StoreResult<()>;
    /// Makes place for a history that goes back this far.
    async fn make_room(&mut self, oldest_end: i64) -> StoreResult<()>;
    /// Writes a batch and moves the table's place with it. False when it was not where it was thought.
    async fn write(
        &mut self,
        table: &Table,
        rows: &[Row],
        from: Option<&str>,
        to: &str,
    ) -> StoreResult<bool>;
    /// Lets ids go on where the source's stopped, and hosts start.
    async fn finish(&mut self, numbers: &Numbers) -> StoreResult<()>;
    async fn close(self: Box<Self>) -> StoreResult<()>;
}

impl Begun {
    /// From the rows of [`PROGRESS_TABLE`].
    pub(crate) fn read(rows: Vec<(String, Option<String>, i64)>) -> Self {
        let mut begun = Self::default();
        for (name, place, rows) in rows {
            match name.as_str() {
                "" => begun.source = place.unwrap_or_default(),
                _ => drop(begun.tables.insert(name, (place, rows))),
            }
        }
        begun
    }
}

fn refuse(what: impl std::fmt::Display) -> StoreError {
    StoreError::Invalid(Invalid::one("", what.to_string()))
}

/// The refusal of a host that would start on a database into which a copy goes.
pub(crate) fn half_copied() -> StoreError {
    refuse(
        "a copy into this database is not finished; run the same `horarium db copy` again and it goes on",
    )
}

/// Refuses a target that holds something.
async fn require_empty(target: &mut dyn End) -> StoreResult<()> {
    for table in TABLES {
        let rows = target.count(table).await?;
        // Every database has the default tenant.
        if rows > u64::from(table.name == "tenants") {
            return Err(refuse(format_args!(
                "the target is not empty: {} has {rows} {}; copy into an empty database",
                table.name,
                if rows == 1 { "row" } else { "rows" }
            )));
        }
    }
    Ok(())
}

/// Copies all of `from` to `to`, or what an interrupted copy left; with `restart` what that wrote is removed
/// first. `told` hears how it goes.
///
/// # Errors
/// `Unavailable` when a server runs on the source or a database cannot be reached. `Invalid` when the schemas
/// do not fit, both are the same database, the target holds something else than an unfinished copy of this
/// source, or the source changed since that was begun. `Internal` when the copy differs from its source.
pub async fn copy(
    from: &CopyPlace,
    to: &CopyPlace,
    restart: bool,
    told: &mut (dyn FnMut(CopyProgress) + Send),
) -> StoreResult<CopyReport> {
    if let (CopyPlace::Sqlite(from), CopyPlace::Sqlite(to)) = (from, to)
        && sqlite::same_file(from, to)
    {
        return Err(refuse("source and target are the same file"));
    }
    let mut source: Box<dyn End> = match from {
        CopyPlace::Sqlite(path) => Box::new(SqliteEnd::source(path).await?),
        CopyPlace::Postgres(url, options) => Box::new(PostgresEnd::source(url, options).await?),
    };
    // Nothing is made for a source that cannot be copied.
    source.at_rest().await?;
    let mut target: Box<dyn End> = match to {
        CopyPlace::Sqlite(path) => Box::new(SqliteEnd::target(path).await?),
        CopyPlace::Postgres(url, options) => Box::new(PostgresEnd::target(url, options).await?),
    };
    if source.identity().await? == target.identity().await? {
        return Err(refuse("source and target are the same database"));
    }
    let report = run(source.as_mut(), target.as_mut(), restart, told).await?;
    source.close().await?;
    target.close().await?;
    Ok(report)
}

async fn run(
    source: &mut dyn End,
    target: &mut dyn End,
    restart: bool,
    told: &mut (dyn FnMut(CopyProgress) + Send),
) -> StoreResult<CopyReport> {
    let numbers = source.numbers().await?;
    let mut rows = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        rows.push(source.count(table).await?);
    }
    let total: u64 = rows.iter().sum();
    let fingerprint = Fingerprint {
        numbers,
        first_host: source.first_host().await?,
        rows,
    };
    let fingerprint = serde_json::json!(fingerprint).to_string();
    let begun = target.begun().await?;
    if begun.is_none() {
        require_empty(target).await?;
    }
    let begun = begun.filter(|_| !restart);
    let resumed = begun.is_some();
    match &begun {
        Some(begun) if begun.source != fingerprint => {
            return Err(refuse(
                "the target holds an unfinished copy of another database, or the source has changed since \
                 it was begun; --restart removes what was copied and begins anew",
            ));
        }
        Some(_) => {}
        None => target.begin(&fingerprint).await?,
    }
    let begun = begun.unwrap_or_default();
    let mut done: i64 = begun.tables.values().map(|(_, rows)| rows).sum();
    let mut copied = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let place = begun.tables.get(table.name).and_then(|(at, _)| at.clone());
        if table.name == "task_executions"
            && let Some(oldest) = source.oldest_end().await?
        {
            target.make_room(oldest).await?;
        }
        let before = done;
        copy_table(source, target, table, place, &mut |rows| {
            done += rows;
            told(CopyProgress {
                verifying: false,
                table: table.name,
                done: done.unsigned_abs(),
                total,
            });
        })
        .await?;
        copied.push((done - before).unsigned_abs());
    }
    let tables = verify(source, target, &copied, total, told).await?;
    // A host that started on the source meanwhile would show here at the latest.
    if source.numbers().await? != numbers {
        return Err(changed());
    }
    target.finish(&numbers).await?;
    Ok(CopyReport {
        resumed,
        rows: tables.iter().map(|table| table.rows).sum(),
        tables,
    })
}

fn changed() -> StoreError {
    refuse("the source changed while it was copied; stop its server and copy again with --restart")
}

/// Rows for the next batch, by the size of those of the last one.
fn next_limit(table: &Table, rows: &[Row]) -> i64 {
    let size: usize = rows.iter().flatten().map(Cell::size).sum();
    let mean = (size / rows.len().max(1)).max(1);
    let fitting = i64::try_from(BATCH / mean).unwrap_or(i64::MAX);
    let more = i64::try_from(rows.len())
        .unwrap_or(i64::MAX)
        .saturating_mul(4);
    fitting.min(more).clamp(1, table.page)
}

async fn copy_table(
    source: &mut dyn End,
    target: &mut dyn End,
    table: &Table,
    mut place: Option<String>,
    wrote: &mut (dyn FnMut(i64) + Send),
) -> StoreResult<()> {
    let key = source.key(table);
    let mut limit = FIRST.min(table.page);
    loop {
        let after = place.as_deref().map(position).transpose()?;
        let rows = source.page(table, after.as_deref(), limit).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        let reached = position_text(&pick(table, last, &key));
        if !target
            .write(table, &rows, place.as_deref(), &reached)
            .await?
        {
            return Err(refuse(
                "another copy into the same target is running; let it finish",
            ));
        }
        wrote(i64::try_from(rows.len()).unwrap_or(i64::MAX));
        limit = next_limit(table, &rows);
        place = Some(reached);
    }
}

/// Reads both and compares them.
async fn verify(
    source: &mut dyn End,
    target: &mut dyn End,
    copied: &[u64],
    total: u64,
    told: &mut (dyn FnMut(CopyProgress) + Send),
) -> StoreResult<Vec<CopiedTable>> {
    let mut done = 0;
    let mut tables = Vec::with_capacity(TABLES.len());
    for (table, copied) in TABLES.iter().zip(copied) {
        let mut read = |rows: u64| {
            done += rows;
            told(CopyProgress {
                verifying: true,
                table: table.name,
                done,
                total: total * 2,
            });
        };
        let wanted = sum(source, table, &mut read).await?;
        let found = sum(target, table, &mut read).await?;
        if wanted != found {
            return Err(StoreError::Internal(format!(
                "the copy of {} differs from its source: {} rows with checksum {}, there {} with {}; \
                 the target stays closed. Copy again with --restart",
                table.name,
                found.rows,
                found.checksum(),
                wanted.rows,
                wanted.checksum()
            )));
        }
        tables.push(CopiedTable {
            table: table.name,
            rows: found.rows,
            copied: *copied,
            checksum: found.checksum(),
        });
    }
    Ok(tables)
}

async fn sum(
    end: &mut dyn End,
    table: &Table,
    read: &mut (dyn FnMut(u64) + Send),
) -> StoreResult<Sum> {
    let key = end.key(table);
    let mut sum = Sum::default();
    let mut after: Option<Vec<Cell>> = None;
    let mut limit = FIRST.min(table.page);
    loop {
        let rows = end.page(table, after.as_deref(), limit).await?;
        let Some(last) = rows.last() else {
            return Ok(sum);
        };
        after = Some(pick(table, last, &key));
        limit = next_limit(table, &rows);
        for row in &rows {
            sum.add(table, row);
        }
        read(rows.len() as u64);
    }
}
