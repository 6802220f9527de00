//! The file itself: who may open it, what version it has, how it is brought up to date.

use super::{Durability, SqliteOptions, db};
use crate::migrations::{self, Migration};
use horarium_core::store::{StoreError, StoreResult};
use horarium_model::Invalid;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// "HORA": marks the file as ours.
const APPLICATION_ID: i64 = 0x484f_5241;

/// Each step of the schema: its version is its place, counted from 1.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "initial",
    sql: include_str!("../../migrations/sqlite/0001_initial.sql"),
    runs_from: 1,
}];

/// The oldest binary that may use a schema, beside its version in `user_version`.
const RUNS_FROM: &str = "SELECT value FROM meta WHERE key = 'runs_from'";

/// Rows that a statement may be ahead of who reads them: a whole claim, so that the two threads do not take turns.
const ROW_BUFFER: usize = 2048;

/// The schema version this binary works with.
fn latest() -> i64 {
    migrations::latest(MIGRATIONS)
}

/// Proof that no other process has the database.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock file beside the database and writes this process's id into it.
    pub(super) fn take(path: &Path) -> StoreResult<Self> {
        let name = beside(path, ".lock");
        let unusable = |error: std::io::Error| {
            StoreError::Unavailable(format!("cannot use {}: {error}", name.display()))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(StoreError::Unavailable(format!(
                    "{} is in use by process {}; stop that server, or choose another data directory",
                    path.display(),
                    holder.trim()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()))
            .map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

pub(super) fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot write {}: {error}", path.display()))
}

pub(super) fn refuse(path: &Path, what: impl std::fmt::Display) -> StoreError {
    StoreError::Invalid(Invalid::one("", format!("{}: {what}", path.display())))
}

/// The connection that writes, its schema up to date.
pub(super) async fn open_writer(
    path: &Path,
    options: &SqliteOptions,
) -> StoreResult<SqliteConnection> {
    check_header(path)?;
    refuse_foreign(path).await?;
    make(path)?;
    let synchronous = match options.durability {
        Durability::Full => SqliteSynchronous::Full,
        Durability::Normal => SqliteSynchronous::Normal,
    };
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(false)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(256)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-32768")
        .pragma("journal_size_limit", "67108864")
        .pragma("wal_autocheckpoint", "12000")
        .row_buffer_size(ROW_BUFFER)
        .thread_name(|_| "sqlite-writer".to_owned())
        .connect()
        .await
        .map_err(|error| opening(path, error))?;
    let version = check_version(&mut connection, path).await?;
    if version < latest() {
        if !options.migrate && version > 0 {
            return Err(behind(path, version));
        }
        apply(&mut connection, version).await?;
    }
    Ok(connection)
}

/// Makes the file of a new database, for its owner alone, as are those that SQLite makes beside it.
fn make(path: &Path) -> StoreResult<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(
            StoreError::Unavailable(format!("cannot open {}: {error}", path.display())),
        ),
        _ => Ok(()),
    }
}

/// Before anything writes, as opening for writing itself does: a newer database stays as it is.
async fn refuse_foreign(path: &Path) -> StoreResult<()> {
    if std::fs::metadata(path).map_or(0, |m| m.len()) == 0 {
        return Ok(());
    }
    let mut connection = reader_options(path)
        .connect()
        .await
        .map_err(|error| opening(path, error))?;
    let checked = check_version(&mut connection, path).await;
    connection.close().await.map_err(db)?;
    checked.map(|_| ())
}

/// A connection that only reads.
pub(super) fn reader_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(false)
        .busy_timeout(Duration::from_secs(5))
        .pragma("query_only", "ON")
        .pragma("temp_store", "MEMORY")
        .row_buffer_size(ROW_BUFFER)
}

pub(super) fn opening(path: &Path, error: sqlx::Error) -> StoreError {
    let not_a_database = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "26" || code == "11");
    if not_a_database {
        refuse(path, "is not a SQLite database, or is damaged")
    } else {
        StoreError::Unavailable(format!("cannot open {}: {error}", path.display()))
    }
}

/// Before SQLite touches it: a file that is something else stays as it is.
pub(super) fn check_header(path: &Path) -> StoreResult<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(StoreError::Unavailable(format!(
                "cannot open {}: {error}",
                path.display()
            )));
        }
    };
    let mut header = Vec::new();
    let read = Read::by_ref(&mut file).take(16).read_to_end(&mut header);
    read.map_err(|error| {
        StoreError::Unavailable(format!("cannot read {}: {error}", path.display()))
    })?;
    if header.is_empty() || header == *b"SQLite format 3\0" {
        return Ok(());
    }
    Err(refuse(
        path,
        "is not a SQLite database; choose another file",
    ))
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> StoreResult<i64> {
    let row = sqlx::query(sql)
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(db)?;
    row.try_get(0).map_err(db)
}

/// The schema version of a file that is ours; 0 when it is empty.
pub(super) async fn check_version(
    connection: &mut SqliteConnection,
    path: &Path,
) -> StoreResult<i64> {
    let application =
        number(connection, "PRAGMA application_id")
            .await
            .map_err(|error| match error {
                StoreError::Internal(text) => refuse(path, text),
                other => other,
            })?;
    let version = number(connection, "PRAGMA user_version").await?;
    let objects = number(connection, "SELECT count(*) FROM sqlite_schema").await?;
    if application != APPLICATION_ID && (objects > 0 || application != 0) {
        return Err(refuse(
            path,
            "is a SQLite database of another program; choose another file",
        ));
    }
    let runs_from = match version > latest() {
        true => runs_from(connection).await?,
        false => None,
    };
    match migrations::refusal(latest(), version, runs_from) {
        Some(why) => Err(refuse(path, why)),
        None => Ok(version),
    }
}

async fn runs_from(connection: &mut SqliteConnection) -> StoreResult<Option<i64>> {
    let row = sqlx::query(RUNS_FROM)
        .persistent(false)
        .fetch_optional(connection)
        .await
        .map_err(db)?;
    row.map(|row| row.try_get(0).map_err(db)).transpose()
}

/// Refuses a schema that would have to be migrated first.
pub(super) async fn require_current(
    connection: &mut SqliteConnection,
    path: &Path,
) -> StoreResult<()> {
    let version = check_version(connection, path).await?;
    match version < latest() {
        true => Err(behind(path, version)),
        false => Ok(()),
    }
}

fn behind(path: &Path, version: i64) -> StoreError {
    refuse(
        path,
        format_args!(
            "has schema version {version}, this binary needs {}; run `horarium db migrate`",
            latest()
        ),
    )
}

/// Brings the schema from `version` to the latest, each step in one transaction with its number.
async fn apply(connection: &mut SqliteConnection, version: i64) -> StoreResult<()> {
    let done = usize::try_from(version).unwrap_or(0);
    for (step, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let (number, name) = (step + 1, migration.name);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(db)?;
        let script = format!(
            "{}\nINSERT INTO meta (key, value) VALUES ('runs_from', {}) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value;\n\
             PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};",
            migration.sql, migration.runs_from
        );
        transaction
            .execute(sqlx::raw_sql(AssertSqlSafe(script)))
            .await
            .map_err(|error| {
                StoreError::Internal(format!("migration {number} ({name}) failed: {error}"))
            })?;
        transaction.commit().await.map_err(db)?;
        tracing::info!(version = number, name, "database schema migrated");
    }
    Ok(())
}

/// What a database is and holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DbStatus {
    /// Version of its schema; 0 when it is empty or does not exist.
    pub schema_version: i64,
    /// Version this binary works with.
    pub latest: i64,
    /// Steps that `db migrate` would take.
    pub pending: i64,
    /// A copy into it was begun and is not finished: no server starts on it.
    pub unfinished_copy: bool,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// Size of its write-ahead log in bytes.
    pub wal_bytes: u64,
    /// Task configs that are not deleted.
    pub configs: i64,
    /// Executions that wait or run.
    pub live: i64,
    /// Executions that ended.
    pub executions: i64,
}

/// Looks at a database without changing it; a server may be running on it.
///
/// # Errors
/// `Invalid` when the file is not ours or is newer than this binary, `Unavailable` when it cannot be read.
pub async fn status(path: impl AsRef<Path>) -> StoreResult<DbStatus> {
    let path = path.as_ref();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let mut status = DbStatus {
        schema_version: 0,
        latest: latest(),
        pending: latest(),
        unfinished_copy: false,
        size_bytes: size(path),
        wal_bytes: size(&beside(path, "-wal")),
        configs: 0,
        live: 0,
        executions: 0,
    };
    if status.size_bytes == 0 {
        return Ok(status);
    }
    check_header(path)?;
    let mut connection = reader_options(path)
        .connect()
        .await
        .map_err(|error| opening(path, error))?;
    status.schema_version = check_version(&mut connection, path).await?;
    status.pending = (status.latest - status.schema_version).max(0);
    if status.schema_version > 0 {
        status.unfinished_copy = super::copy::has_progress(&mut connection).await?;
        status.configs = number(&mut connection, super::sql::COUNT_CONFIGS).await?;
        status.live = number(&mut connection, super::sql::COUNT_LIVE).await?;
        status.executions = number(&mut connection, super::sql::COUNT_ENDED).await?;
    }
    connection.close().await.map_err(db)?;
    Ok(status)
}

/// Creates a database or brings its schema up to date. No server may be running on it.
///
/// # Errors
/// As [`super::SqliteStore::open`].
pub async fn migrate(path: impl AsRef<Path>) -> StoreResult<DbStatus> {
    let path = path.as_ref();
    let lock = Lock::take(path)?;
    let connection = open_writer(path, &SqliteOptions::default()).await?;
    connection.close().await.map_err(db)?;
    drop(lock);
    status(path).await
}

/// Reads a whole database for damage without changing it; a server may be running on it. Returns what
/// is wrong, a line each; nothing when it is sound.
///
/// # Errors
/// As [`status`].
pub async fn quick_check(path: impl AsRef<Path>) -> StoreResult<Vec<String>> {
    let path = path.as_ref();
    check_header(path)?;
    let mut connection = reader_options(path)
        .connect()
        .await
        .map_err(|error| opening(path, error))?;
    let rows = sqlx::query("PRAGMA quick_check(10)")
        .persistent(false)
        .fetch_all(&mut connection)
        .await
        .map_err(db)?;
    connection.close().await.map_err(db)?;
    let mut lines = Vec::new();
    for row in rows {
        let line: String = row.try_get(0).map_err(db)?;
        if line != "ok" {
            lines.push(line);
        }
    }
    Ok(lines)
}
