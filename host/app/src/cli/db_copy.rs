//! `db copy`: a whole database into another one.

use super::db::{runtime, shown};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Style, Table, progress_bar};
use super::serve::settings;
use super::{Global, print, words};
use clap::Args;
use horarium::app::postgres_options;
use horarium::settings::{DatabaseUrl, Settings};
use horarium_store::{CopyPlace, CopyProgress, CopyReport};
use indicatif::ProgressStyle;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database that is copied, sqlite:FILE or postgres://USER@HOST/NAME; no server may run on it
    #[arg(long, value_name = "URL")]
    from: String,
    /// The empty database that it is copied into; its schema is created
    #[arg(long, value_name = "URL")]
    to: String,
    /// Remove what an unfinished copy wrote, and begin anew
    #[arg(long)]
    restart: bool,
    /// The server's settings, TOML: how PostgreSQL is used
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let settings = settings(global, arguments.config.as_deref(), Vec::new())?;
    let from = parse("--from", &arguments.from)?;
    let to = parse("--to", &arguments.to)?;
    let bar = progress_bar(0);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:24} [{bar:30}] {human_pos} of {human_len} rows")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut draw = |progress: CopyProgress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(match progress.verifying {
            true => format!("checking {}", progress.table),
            false => progress.table.to_owned(),
        });
    };
    let (source, target) = (place(&settings, &from), place(&settings, &to));
    let report = runtime()?.block_on(async {
        tokio::select! {
            report = horarium_store::copy(&source, &target, arguments.restart, &mut draw) => {
                report.map_err(Failure::from)
            }
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::failed("interrupted; the same command goes on from here"))
            }
        }
    });
    bar.finish_and_clear();
    let report = report?;
    let (from, to) = (name(&from), name(&to));
    if global.json {
        let mut document = json!(report);
        document["from"] = from.into();
        document["to"] = to.into();
        print(&format!("{document}\n"))?;
    } else {
        print(&render(&report, &from, &to))?;
    }
    Ok(Exit::Done)
}

fn parse(flag: &str, url: &str) -> Result<DatabaseUrl, Failure> {
    url.parse()
        .map_err(|detail: String| Failure::refused(format!("{flag}: {detail}")))
}

fn place(settings: &Settings, url: &DatabaseUrl) -> CopyPlace {
    match url {
        DatabaseUrl::Sqlite(path) => CopyPlace::Sqlite(path.clone()),
        DatabaseUrl::Postgres(url) => {
            CopyPlace::Postgres(url.clone(), Box::new(postgres_options(settings)))
        }
    }
}

/// A database as it is shown: without a password.
fn name(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        DatabaseUrl::Postgres(url) => shown(url),
    }
}

fn render(report: &CopyReport, from: &str, to: &str) -> String {
    let mut table = Table::new(&["TABLE", "ROWS>", "COPIED NOW>", "CHECKSUM"]);
    for copied in &report.tables {
        table.row(vec![
            copied.table.into(),
            words::count(copied.rows).into(),
            words::count(copied.copied).into(),
            copied.checksum.as_str().into(),
        ]);
    }
    format!(
        "{}{to} holds all of {from} ({} rows), and both are equal.\n\
         Start servers on the copy (horarium serve --database-url URL), and none on the old database any more: both would fire.\n",
        table.render(Style::of_stdout()),
        words::count(report.rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_store::CopiedTable;

    #[test]
    fn a_copy_says_what_it_did_and_what_comes_next() {
        let tables = vec![CopiedTable {
            table: "task_configs",
            rows: 12_345,
            copied: 345,
            checksum: "00ff".to_owned(),
        }];
        let report = CopyReport {
            resumed: true,
            rows: 12_345,
            tables,
        };
        let text = render(&report, "sqlite:/x/horarium.db", "postgres://me@db/h");
        for part in ["12 345", "345", "00ff", "none on the old database"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
