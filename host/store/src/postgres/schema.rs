//! The database's schema: its version, whether this binary fits it, how it is brought up to date.

use super::PostgresOptions;
use super::connect::{Target, begin, refuse};
use super::tx::{self, PgResult};
use crate::migrations::{self, Migration};
use horarium_core::store::StoreResult;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

const MIGRATIONS: &[Migration] = &[Migration {
    name: "initial",
    sql: include_str!("../../migrations/postgres/0001_initial.sql"),
    runs_from: 1,
}];

/// Of all hosts that start together one migrates, the others wait for it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7237109721140711796)";
const CURRENT: &str = "SELECT current_schema()::text";
const VERSIONS_TABLE: &str = "SELECT to_regclass('horarium_schema') IS NOT NULL";
const NEWEST: &str = "SELECT version, runs_from FROM horarium_schema ORDER BY version DESC LIMIT 1";
const CREATE_VERSIONS: &str = "CREATE TABLE horarium_schema (version bigint PRIMARY KEY, \
    name text NOT NULL, runs_from bigint NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
const NOTE_VERSION: &str =
    "INSERT INTO horarium_schema (version, name, runs_from) VALUES ($1, $2, $3)";
/// Who owns the tables, where that is neither this role nor one it is a member of.
const FOREIGN_OWNER: &str = "SELECT pg_get_userbyid(relowner)::text FROM pg_class \
    WHERE oid = to_regclass('task_executions') AND NOT pg_has_role(relowner, 'USAGE')";
/// Partitions and indexes are part of it.
const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'm', 'S')";

/// The schema version this binary works with.
pub(super) fn latest() -> i64 {
    migrations::latest(MIGRATIONS)
}

/// What a database is and holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PostgresStatus {
    /// Version of its schema; 0 when it is empty.
    pub schema_version: i64,
    /// Version this binary works with.
    pub latest: i64,
    /// Steps that `db migrate` would take.
    pub pending: i64,
    /// A copy into it was begun and is not finished: no host starts on it.
    pub unfinished_copy: bool,
    /// Size of its tables and indexes in bytes.
    pub size_bytes: i64,
    /// Task configs that are not deleted.
    pub configs: i64,
    /// Executions that wait or run.
    pub live: i64,
    /// Executions that ended.
    pub executions: i64,
}

/// (version, oldest binary that may use it); none when it is empty.
async fn version(connection: &mut PgConnection) -> PgResult<Option<(i64, i64)>> {
    let (exists,): (bool,) = tx::query_as(VERSIONS_TABLE)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    Ok(tx::query_as(NEWEST).fetch_optional(connection).await?)
}

/// Refuses a schema that a newer binary made and this one cannot use.
fn check(found: Option<(i64, i64)>) -> StoreResult<i64> {
    let Some((version, runs_from)) = found else {
        return Ok(0);
    };
    match migrations::refusal(latest(), version, Some(runs_from)) {
        Some(why) => Err(refuse(format_args!("the database {why}"))),
        None => Ok(version),
    }
}

/// The version of a schema that this binary can use or bring up to date; 0 when there is none.
pub(super) async fn current(connection: &mut PgConnection) -> PgResult<i64> {
    Ok(check(version(connection).await?)?)
}

/// Runs `work` in a transaction of its own connection.
async fn in_transaction<T>(
    target: &Target,
    options: &PostgresOptions,
    work: impl AsyncFnOnce(&mut PgConnection) -> PgResult<T>,
) -> StoreResult<T> {
    let mut connection = target.connect().await?;
    let begin = AssertSqlSafe(begin(options));
    let mut tx = connection
        .begin_with(begin)
        .await
        .map_err(|error| target.explain(&error))?;
    let done = work(&mut tx)
        .await
        .map_err(|fault| target.explain_fault(fault))?;
    tx.commit().await.map_err(|error| target.explain(&error))?;
    // The server notices by itself when this fails.
    let _ = connection.close().await;
    Ok(done)
}

/// Checks the schema's version; brings it up to date if that is wanted.
pub(super) async fn prepare(target: &Target, options: &PostgresOptions) -> StoreResult<()> {
    if look(target, options).await? >= latest() {
        return Ok(());
    }
    in_transaction(target, options, async |connection| {
        apply(connection, options).await
    })
    .await
}

/// The schema's version, if a store may be opened on it, or be migrated and opened.
async fn look(target: &Target, options: &PostgresOptions) -> StoreResult<i64> {
    let found = in_transaction(target, options, async |connection| {
        refuse_foreign(connection, target).await?;
        current(connection).await
    })
    .await?;
    if found < latest() && !options.migrate {
        let state = if found == 0 {
            "is empty".to_owned()
        } else {
            format!("has schema version {found}")
        };
        return Err(refuse(format_args!(
            "the database {state}, this binary needs version {}; run `horarium db migrate`, or start with --migrate",
            latest()
        )));
    }
    Ok(found)
}

/// Hosts make partitions of the history and bring the schema up to date, which the owner of the tables may do
/// alone.
async fn refuse_foreign(connection: &mut PgConnection, target: &Target) -> PgResult<()> {
    let owner: Option<(String,)> = tx::query_as(FOREIGN_OWNER)
        .fetch_optional(connection)
        .await?;
    let Some((owner,)) = owner else {
        return Ok(());
    };
    Err(target.not_owner(&owner).into())
}

/// Refuses a database into which a copy goes.
pub(super) async fn refuse_half_copied(
    target: &Target,
    options: &PostgresOptions,
) -> StoreResult<()> {
    in_transaction(target, options, async |connection| {
        Ok(super::copy::refuse_half_copied(connection).await?)
    })
    .await
}

/// Takes every step that is missing, all in one transaction: another host sees all of it or nothing.
async fn apply(connection: &mut PgConnection, options: &PostgresOptions) -> PgResult<()> {
    let run = async |connection: &mut PgConnection, sql: &str| {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(connection).await
    };
    // Building an index may take longer than any other statement is given.
    run(
        connection,
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0",
    )
    .await?;
    run(connection, LOCK).await?;
    if let Some(schema) = &options.schema {
        run(
            connection,
            &format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""),
        )
        .await?;
    }
    let found = current(connection).await?;
    if found == 0 {
        let exists = |error: &sqlx::Error| {
            error
                .as_database_error()
                .and_then(DatabaseError::code)
                .as_deref()
                == Some("42P07")
        };
        run(connection, CREATE_VERSIONS).await?;
        if let Err(error) = run(connection, MIGRATIONS[0].sql).await {
            return Err(if exists(&error) {
                refuse(format_args!(
                    "the database's schema has tables of another program: {error}; choose another database or schema"
                ))
                .into()
            } else {
                error.into()
            });
        }
        note(connection, 1).await?;
    }
    for number in found.max(1) + 1..=latest() {
        let step = usize::try_from(number - 1).unwrap_or(0);
        run(connection, MIGRATIONS[step].sql).await?;
        note(connection, number).await?;
    }
    Ok(())
}

async fn note(connection: &mut PgConnection, number: i64) -> PgResult<()> {
    let step = &MIGRATIONS[usize::try_from(number - 1).unwrap_or(0)];
    tx::query(NOTE_VERSION)
        .bind(number)
        .bind(step.name)
        .bind(step.runs_from)
        .execute(connection)
        .await?;
    tracing::info!(
        version = number,
        name = step.name,
        "database schema migrated"
    );
    Ok(())
}

/// The channel of this database's hints: one a schema.
pub(super) async fn channel(target: &Target, options: &PostgresOptions) -> StoreResult<String> {
    let schema = match &target.schema {
        Some(schema) => Some(schema.clone()),
        // In a transaction: between the two halves of a statement outside one a pooler may change the server.
        None => {
            in_transaction(target, options, async |connection| {
                let (schema,): (Option<String>,) =
                    tx::query_as(CURRENT).fetch_one(connection).await?;
                Ok(schema)
            })
            .await?
        }
    };
    let schema = schema.as_deref().unwrap_or("public");
    Ok(format!("horarium_{schema}"))
}

/// Looks at a database without changing it.
///
/// # Errors
/// As [`super::PostgresStore::connect`].
pub(super) async fn status(url: &str, options: &PostgresOptions) -> StoreResult<PostgresStatus> {
    let target = Target::parse(url, options)?.settled().await?;
    in_transaction(&target, options, async |connection| {
        let version = current(connection).await?;
        let mut status = PostgresStatus {
            schema_version: version,
            latest: latest(),
            pending: (latest() - version).max(0),
            unfinished_copy: super::copy::has_progress(connection).await?,
            size_bytes: 0,
            configs: 0,
            live: 0,
            executions: 0,
        };
        if version > 0 {
            let mut number = async |sql: &'static str| -> PgResult<i64> {
                let (n,): (i64,) = tx::query_as(sql).fetch_one(&mut *connection).await?;
                Ok(n)
            };
            status.size_bytes = number(SIZE).await?;
            status.configs = number(super::sql::COUNT_CONFIGS).await?;
            status.live = number(super::sql::COUNT_LIVE).await?;
            status.executions = number(super::sql::COUNT_ENDED).await?;
        }
        Ok(status)
    })
    .await
}

impl super::PostgresStore {
    /// Looks at a database without changing it; servers may be running on it.
    ///
    /// # Errors
    /// As [`Self::connect`], save that a schema that is behind is no error.
    pub async fn status(url: &str, options: &PostgresOptions) -> StoreResult<PostgresStatus> {
        status(url, options).await
    }

    /// Finds what [`Self::connect`] would refuse, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn check(url: &str, options: &PostgresOptions) -> StoreResult<()> {
        let target = Target::parse(url, options)?.settled().await?;
        match look(&target, options).await? {
            0 => Ok(()),
            _ => refuse_half_copied(&target, options).await,
        }
    }

    /// Creates the schema or brings it up to date; servers may be running on it.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn migrate(url: &str, options: &PostgresOptions) -> StoreResult<PostgresStatus> {
        let options = PostgresOptions {
            migrate: true,
            ..options.clone()
        };
        let target = Target::parse(url, &options)?.settled().await?;
        prepare(&target, &options).await?;
        status(url, &options).await
    }
}
