//! `db`: the database, without a server.

use super::db_backup::{BackupArguments, RestoreArguments};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Facts, Style, text_of};
use super::serve::settings;
use super::{Global, db_copy, db_prune, print, words};
use clap::{Args, Subcommand};
use horarium::app::postgres_options;
use horarium::settings::{DatabaseUrl, Settings};
use horarium_core::store::{StoreError, StoreResult};
use horarium_store::PostgresStore;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create the schema, or bring it up to date; no server may run on a SQLite file meanwhile
    Migrate(Arguments),
    /// Show its schema version and what it holds; a server may run on it
    Status(Arguments),
    /// Remove old history now; running and waiting executions are never touched
    Prune(db_prune::Arguments),
    /// Copy a SQLite database to a new file, checked; a server may run on it
    Backup(BackupArguments),
    /// Put a backup in the place of a SQLite database; no server may run on it
    Restore(RestoreArguments),
    /// Copy all of it into another database: from SQLite to PostgreSQL, or any other way
    Copy(db_copy::Arguments),
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, sqlite:FILE or postgres://USER@HOST/NAME [default: as serve has it]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The server's settings, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, verb: &Verb) -> Outcome {
    match verb {
        Verb::Migrate(arguments) => look(global, arguments, true),
        Verb::Status(arguments) => look(global, arguments, false),
        Verb::Prune(arguments) => db_prune::run(global, arguments),
        Verb::Backup(arguments) => super::db_backup::backup(global, arguments),
        Verb::Restore(arguments) => super::db_backup::restore(global, arguments),
        Verb::Copy(arguments) => db_copy::run(global, arguments),
    }
}

/// The server's settings, with the database that a flag names.
pub(super) fn local_settings(
    global: &Global,
    url: Option<&str>,
    config: Option<&Path>,
) -> Result<Settings, Failure> {
    let flags = url.map(|url| ("database.url", url.to_owned()));
    settings(global, config, flags.into_iter().collect())
}

fn look(global: &Global, arguments: &Arguments, migrates: bool) -> Outcome {
    let (url, config) = (&arguments.database_url, &arguments.config);
    let settings = local_settings(global, url.as_deref(), config.as_deref())?;
    let database = settings.database()?;
    if migrates && let DatabaseUrl::Sqlite(path) = &database {
        make_folder(path)?;
    }
    let status = runtime()?.block_on(async {
        match migrates {
            true => migrate(&settings, &database).await,
            false => status(&settings, &database).await,
        }
    })?;
    if global.json {
        print(&format!("{status}\n"))?;
    } else {
        print(&render(&status))?;
    }
    Ok(Exit::Done)
}

/// Makes the folder of a file.
pub(crate) fn make_folder(file: &Path) -> Result<(), Failure> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::refused(format!("{}: {error}", folder.display())))
}

/// Why no server starts on a database.
pub(crate) const UNFINISHED_COPY: &str =
    "a copy into this database is not finished; the same `horarium db copy` goes on";

/// Where a database stands, as `db status --json` tells it.
pub(crate) async fn status(settings: &Settings, database: &DatabaseUrl) -> StoreResult<Value> {
    Ok(match database {
        DatabaseUrl::Sqlite(path) => document(path.display(), &horarium_store::status(path).await?),
        DatabaseUrl::Postgres(url) => {
            let status = PostgresStore::status(url, &postgres_options(settings)).await?;
            document(shown(url), &status)
        }
    })
}

async fn migrate(settings: &Settings, database: &DatabaseUrl) -> StoreResult<Value> {
    Ok(match database {
        DatabaseUrl::Sqlite(path) => {
            document(path.display(), &horarium_store::migrate(path).await?)
        }
        DatabaseUrl::Postgres(url) => {
            let status = PostgresStore::migrate(url, &postgres_options(settings)).await?;
            document(shown(url), &status)
        }
    })
}

fn document(database: impl std::fmt::Display, status: &impl Serialize) -> Value {
    let mut document = json!(status);
    document["database"] = database.to_string().into();
    document
}

/// A URL without its password, wherever that stands.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return String::new();
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = match place.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{user}@{place}")
        }
        None => place.to_owned(),
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let open: Vec<&str> = pairs
        .filter(|pair| !pair.starts_with("password="))
        .collect();
    match open.is_empty() {
        true => format!("{scheme}://{place}"),
        false => format!("{scheme}://{place}?{}", open.join("&")),
    }
}

/// A runtime for a few store calls.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("tokio: {error}")))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(invalid) => Self::invalid(&invalid),
            StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Quota(_) => {
                Self::refused(error)
            }
            StoreError::Unavailable(detail) => Self::refused(detail),
            StoreError::Internal(_) => Self::failed(error),
        }
    }
}

fn render(status: &Value) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let version = number("schema_version");
    let schema = match (version, number("pending")) {
        (0, _) => "does not exist yet; `horarium serve` or `horarium db migrate` creates it".into(),
        (version, 0) => format!("{version}, up to date"),
        (version, pending) => format!(
            "{version} of {}: {pending} steps behind; `horarium db migrate` takes them",
            number("latest")
        ),
    };
    let count = |key: &str| words::count(number(key));
    let mut facts = Facts::default();
    facts
        .add("database", text_of(status, "database"))
        .add("schema", schema);
    if status["unfinished_copy"] == true {
        facts.add("copy", UNFINISHED_COPY);
    }
    if version > 0 {
        let mut size = words::bytes(number("size_bytes"));
        if status["wal_bytes"].is_u64() {
            size = format!(
                "{size}, write-ahead log {}",
                words::bytes(number("wal_bytes"))
            );
        }
        facts
            .add("size", size)
            .add("tasks", count("configs"))
            .add("waiting or running", count("live"))
            .add("ended executions", count("executions"));
    }
    facts.render(Style::of_stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_says_where_it_stands() {
        let status = |version: u64, pending: u64| {
            let database = "/x/horarium.db";
            render(
                &json!({"database": database, "schema_version": version, "latest": 2,
                "pending": pending, "size_bytes": 4096, "wal_bytes": 0, "configs": 1, "live": 0,
                "executions": 12_345}),
            )
        };
        assert!(status(0, 2).contains("does not exist yet"));
        assert!(status(1, 1).contains("1 of 2: 1 steps behind"));
        let mut copied = json!({"schema_version": 1, "unfinished_copy": true});
        assert!(render(&copied).contains("not finished"));
        copied["unfinished_copy"] = false.into();
        assert!(!render(&copied).contains("not finished"));
        let text = status(2, 0);
        assert!(
            text.contains("2, up to date") && text.contains("12 345"),
            "{text}"
        );
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            shown("postgres://me:secret@db/h?sslmode=require"),
            "postgres://me@db/h?sslmode=require"
        );
        assert_eq!(shown("postgres://db/h"), "postgres://db/h");
        assert_eq!(shown("postgres://me:a@b@db/h"), "postgres://me@db/h");
        assert_eq!(
            shown("postgres://db/h?password=secret&host=%2Frun"),
            "postgres://db/h?host=%2Frun"
        );
    }
}
