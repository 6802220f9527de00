//! `db backup` and `db restore`: copies of the database file.

use super::db::{local_settings, runtime, shown};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Facts, Style};
use super::task_trigger::bar;
use super::{Global, print, words};
use clap::Args;
use horarium::settings::DatabaseUrl;
use horarium_store::DbStatus;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// The new file; must not exist
    file: PathBuf,
    /// The database, sqlite:FILE [default: as serve has it]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The server's settings, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// What `db backup` wrote
    file: PathBuf,
    /// Where it goes, sqlite:FILE [default: as serve has it]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The server's settings, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Move the database that is there aside first
    #[arg(long)]
    replace: bool,
}

pub(crate) fn backup(global: &Global, arguments: &BackupArguments) -> Outcome {
    let path = file_of(
        global,
        arguments.database_url.as_deref(),
        arguments.config.as_deref(),
        "pg_dump takes backups of PostgreSQL while hosts run on it, and `horarium db copy` writes all of it into a SQLite file",
    )?;
    let busy = spinner("copying and checking");
    let status = runtime()?.block_on(horarium_store::backup(&path, &arguments.file));
    busy.finish_and_clear();
    let document = document(&arguments.file, &status?, None);
    show(
        global,
        &document,
        "backup",
        Some("Keep secrets.key of the data directory in another place: it is not in the backup.\n"),
    )
}

pub(crate) fn restore(global: &Global, arguments: &RestoreArguments) -> Outcome {
    let path = file_of(
        global,
        arguments.database_url.as_deref(),
        arguments.config.as_deref(),
        "pg_restore puts back what pg_dump wrote",
    )?;
    let busy = spinner("checking and copying");
    let restored = horarium_store::restore(&arguments.file, &path, arguments.replace);
    let restored = runtime()?.block_on(restored);
    busy.finish_and_clear();
    let restored = restored?;
    let document = document(&path, &restored.status, restored.replaced.as_deref());
    show(
        global,
        &document,
        "database",
        Some(
            "Start it with `horarium serve`: what ran at the backup runs again, and missed slots follow each task's catch_up.\n",
        ),
    )
}

/// The SQLite file that is meant.
fn file_of(
    global: &Global,
    url: Option<&str>,
    config: Option<&Path>,
    for_postgres: &str,
) -> Result<PathBuf, Failure> {
    match local_settings(global, url, config)?.database()? {
        DatabaseUrl::Sqlite(path) => Ok(path),
        DatabaseUrl::Postgres(url) => Err(Failure::refused(format!(
            "{} is no SQLite file; {for_postgres}",
            shown(&url)
        ))),
    }
}

fn document(file: &Path, status: &DbStatus, replaced: Option<&Path>) -> Value {
    json!({
        "file": file.display().to_string(),
        "schema_version": status.schema_version,
        "size_bytes": status.size_bytes,
        "configs": status.configs,
        "live": status.live,
        "executions": status.executions,
        "replaced": replaced.map(|path| path.display().to_string()),
    })
}

fn show(global: &Global, document: &Value, what: &'static str, next: Option<&str>) -> Outcome {
    if global.json {
        print(&format!("{document}\n"))?;
        return Ok(Exit::Done);
    }
    let number = |key: &str| document[key].as_u64().unwrap_or(0);
    let mut facts = Facts::default();
    facts
        .add(what, document["file"].as_str().unwrap_or_default())
        .add("size", words::bytes(number("size_bytes")))
        .add("tasks", words::count(number("configs")))
        .add("waiting or running", words::count(number("live")))
        .add("ended executions", words::count(number("executions")));
    if let Some(replaced) = document["replaced"].as_str() {
        facts.add("the old one", replaced);
    }
    print(&facts.render(Style::of_stdout()))?;
    print(next.unwrap_or_default())?;
    Ok(Exit::Done)
}

/// SQLite does not tell how far it is.
fn spinner(doing: &'static str) -> ProgressBar {
    let bar = bar();
    bar.set_message(doing);
    bar
}
