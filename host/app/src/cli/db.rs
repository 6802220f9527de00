//! `db`: the database, without a server.

use super::failure::{Exit, Failure, Outcome};
use super::render::{Facts, Style};
use super::serve::settings;
use super::{Global, print, words};
use clap::{Args, Subcommand};
use horarium_core::store::{StoreError, StoreResult};
use horarium_store::DbStatus;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create the database, or bring its schema up to date; no server may run on it
    Migrate(Arguments),
    /// Show its schema version and what it holds; a server may run on it
    Status(Arguments),
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, such as sqlite:/var/lib/horarium/horarium.db [default: as serve has it]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The server's settings, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, verb: &Verb) -> Outcome {
    let (Verb::Migrate(arguments) | Verb::Status(arguments)) = verb;
    let url = arguments.database_url.clone();
    let flags = url.map(|url| ("database.url", url));
    let settings = settings(
        global,
        arguments.config.as_deref(),
        flags.into_iter().collect(),
    )?;
    let path = settings.database_path().map_err(Failure::refused)?;
    if matches!(verb, Verb::Migrate(_))
        && let Some(directory) = path.parent()
    {
        std::fs::create_dir_all(directory)
            .map_err(|error| Failure::refused(format!("{}: {error}", directory.display())))?;
    }
    let status = runtime()?.block_on(async {
        match verb {
            Verb::Migrate(_) => horarium_store::migrate(&path).await,
            Verb::Status(_) => horarium_store::status(&path).await,
        }
    });
    show(global, &path, status)
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
            StoreError::NotFound(_) | StoreError::Conflict(_) => Self::refused(error),
            StoreError::Unavailable(detail) => Self::refused(detail),
            StoreError::Internal(_) => Self::failed(error),
        }
    }
}

fn show(global: &Global, path: &Path, status: StoreResult<DbStatus>) -> Outcome {
    let status = status?;
    if global.json {
        let mut document = json!(status);
        document["path"] = path.display().to_string().into();
        print(&format!("{document}\n"))?;
    } else {
        print(&render(path, &status))?;
    }
    Ok(Exit::Done)
}

fn render(path: &Path, status: &DbStatus) -> String {
    let version = match (status.schema_version, status.pending) {
        (0, _) => "does not exist yet; `horarium serve` or `horarium db migrate` creates it".into(),
        (version, 0) => format!("{version}, up to date"),
        (version, pending) => format!(
            "{version} of {}: {pending} steps behind; `horarium db migrate` takes them",
            status.latest
        ),
    };
    let count = |number: i64| words::count(number.unsigned_abs());
    let mut facts = Facts::default();
    facts
        .add("database", path.display().to_string())
        .add("schema", version);
    if status.schema_version > 0 {
        facts
            .add(
                "size",
                format!(
                    "{}, write-ahead log {}",
                    words::bytes(status.size_bytes),
                    words::bytes(status.wal_bytes)
                ),
            )
            .add("tasks", count(status.configs))
            .add("waiting or running", count(status.live))
            .add("ended executions", count(status.executions));
    }
    facts.render(Style::of_stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_says_where_it_stands() {
        let mut status = DbStatus {
            schema_version: 0,
            latest: 2,
            pending: 2,
            size_bytes: 4096,
            wal_bytes: 0,
            configs: 1,
            live: 0,
            executions: 12_345,
        };
        let path = Path::new("/x/horarium.db");
        assert!(render(path, &status).contains("does not exist yet"));
        (status.schema_version, status.pending) = (1, 1);
        assert!(render(path, &status).contains("1 of 2: 1 steps behind"));
        (status.schema_version, status.pending) = (2, 0);
        let text = render(path, &status);
        assert!(
            text.contains("2, up to date") && text.contains("12 345"),
            "{text}"
        );
    }
}
