//! `serve`: the server, in the foreground.

use super::db::{UNFINISHED_COPY, runtime, status};
use super::failure::{Exit, Failure, Outcome};
use super::{Global, print};
use clap::Args;
use horarium::app::{App, AppError, postgres_options};
use horarium::settings::{DatabaseUrl, Settings, SettingsError};
use horarium_store::PostgresStore;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The database, sqlite:FILE or postgres://USER@HOST/NAME [default: horarium.db in the data directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Executions at once [default: 8 for each core]
    #[arg(long, value_name = "N")]
    slots: Option<String>,
    /// Settings, TOML; variables HORARIUM__SECTION__KEY and flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check the settings
    #[arg(long)]
    pub(super) check: bool,
    /// Bring the database's schema up to date first; SQLite's always is
    #[arg(long)]
    migrate: bool,
}

pub(crate) fn run(global: &Global, arguments: Arguments) -> Outcome {
    let mut flags = Vec::new();
    for (key, value) in [
        ("listen", &arguments.listen),
        ("database.url", &arguments.database_url),
        ("executor.slots", &arguments.slots),
    ] {
        flags.extend(value.clone().map(|value| (key, value)));
    }
    if arguments.migrate {
        flags.push(("database.migrate", "true".to_owned()));
    }
    let settings = load(global, arguments.config.as_deref(), flags.clone())?;
    if arguments.check {
        return check(&settings);
    }
    horarium::telemetry::init(&settings);
    App::serve(settings, || {
        load(global, arguments.config.as_deref(), flags.clone())
    })?;
    Ok(Exit::Done)
}

/// What a start would trip over, without starting: the settings, the files that they name, and a database of another
/// program, of a newer version, half a copy, or one where rights are missing.
fn check(settings: &Settings) -> Outcome {
    App::check(settings)?;
    let database = settings.database()?;
    runtime()?.block_on(async {
        if let DatabaseUrl::Postgres(url) = &database {
            PostgresStore::check(url, &postgres_options(settings)).await?;
        }
        let status = status(settings, &database).await?;
        match status["unfinished_copy"] == true {
            true => Err(Failure::refused(UNFINISHED_COPY)),
            false => Ok(()),
        }
    })?;
    print("the settings, the files they name and the database are fine\n")?;
    Ok(Exit::Done)
}

/// Settings as the server sees them: the file, the variables, then the flags.
pub(crate) fn settings(
    global: &Global,
    file: Option<&Path>,
    flags: Vec<(&'static str, String)>,
) -> Result<Settings, Failure> {
    load(global, file, flags).map_err(Failure::from)
}

fn load(
    global: &Global,
    file: Option<&Path>,
    mut flags: Vec<(&'static str, String)>,
) -> Result<Settings, SettingsError> {
    if let Some(directory) = &global.data_dir {
        flags.push(("data_dir", directory.display().to_string()));
    }
    // A variable that is not UTF-8 is none of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Settings::load(file, variables, &flags)
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Settings(error) => Self::refused(error),
            AppError::Store(_) => Self::refused(error),
            _ => Self::failed(error),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::refused(error)
    }
}
