//! `db prune`: removes old history now.

use super::db::{local_settings, runtime, shown};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Style, Table};
use super::task_trigger::bar;
use super::values::span;
use super::{Global, print, words};
use clap::Args;
use horarium::app::postgres_options;
use horarium::settings::{DatabaseUrl, Settings};
use horarium_core::caretaker::{Caretaker, PrunePlan, PruneReport};
use horarium_core::clock::SystemClock;
use horarium_core::store::Store;
use horarium_model::execution::State;
use horarium_model::retention::{PerEnd, Retention};
use horarium_model::text::one_line;
use horarium_store::{PostgresStore, SqliteOptions, SqliteStore};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Without --older-than and --keep it removes what the settings, the tenants and the tasks want kept no longer, as hosts
/// do by themselves once an hour. Running and waiting executions are never touched.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Remove what ended longer ago than this, such as 36h or 30d
    #[arg(long, value_name = "SPAN", value_parser = span)]
    older_than: Option<u64>,
    /// Of these only: succeeded, failed, cancelled, skipped; may be given several times
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = ended)]
    state: Vec<State>,
    /// Remove what is not among this many newest of its task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep: Option<u64>,
    /// Only say how many that are
    #[arg(long)]
    dry_run: bool,
    /// The database, sqlite:FILE or postgres://USER@HOST/NAME [default: as serve has it]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The server's settings, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn ended(text: &str) -> Result<State, String> {
    let state: Option<State> = text.parse().ok();
    state
        .filter(|state| PerEnd::all(()).get(*state).is_some())
        .ok_or_else(|| {
            format!(
                "`{}` is no way to end; there are succeeded, failed, cancelled, skipped",
                one_line(text, 40)
            )
        })
}

impl Arguments {
    /// What is due by these flags, or by the settings when there are none.
    fn plan(&self, settings: &Settings) -> Result<PrunePlan, Failure> {
        if self.older_than.is_none() && self.keep.is_none() {
            if !self.state.is_empty() {
                return Err(Failure::refused(
                    "--state says of what, not how much: add --older-than SPAN or --keep N",
                ));
            }
            return Ok(PrunePlan {
                dry_run: self.dry_run,
                ..PrunePlan::of_host(settings.retention)
            });
        }
        let meant = |state| self.state.is_empty() || self.state.contains(&state);
        let age = |state| self.older_than.filter(|_| meant(state));
        Ok(PrunePlan {
            retention: Retention {
                succeeded_seconds: age(State::Succeeded),
                failed_seconds: age(State::Failed),
                cancelled_seconds: age(State::Cancelled),
                skipped_seconds: age(State::Skipped),
                keep: self.keep,
            },
            states: PerEnd {
                succeeded: meant(State::Succeeded),
                failed: meant(State::Failed),
                cancelled: meant(State::Cancelled),
                skipped: meant(State::Skipped),
            },
            stored: false,
            tenant: None,
            dry_run: self.dry_run,
            pace: 1,
        })
    }
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let (url, config) = (&arguments.database_url, &arguments.config);
    let settings = local_settings(global, url.as_deref(), config.as_deref())?;
    let mut plan = arguments.plan(&settings)?;
    let busy = bar();
    busy.set_message("looking");
    let progress = |removed: u64| busy.set_message(format!("{} so far", words::count(removed)));
    let report = runtime()?.block_on(async {
        let (store, closing) = open(&settings).await?;
        if let Some(name) = &global.tenant {
            let found = store.tenant_named(name).await?;
            let missing = || Failure::refused(horarium_core::service::tenants::no_such(name));
            plan.tenant = Some(found.ok_or_else(missing)?.id);
        }
        // Nobody else is on a file that could be opened; on PostgreSQL hosts may be at work.
        if closing.is_some() {
            plan.pace = 0;
        }
        let care = Caretaker {
            store,
            clock: Arc::new(SystemClock::new()),
        };
        let pruned = tokio::select! {
            pruned = care.prune(&plan, &progress) => pruned.map_err(Failure::from),
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::failed("interrupted; what was removed stays removed, the same command goes on"))
            }
        };
        if let Some(file) = closing {
            file.close().await?;
        }
        pruned
    });
    busy.finish_and_clear();
    let report = report?;
    if global.json {
        let mut document = json!(report);
        document["dry_run"] = arguments.dry_run.into();
        print(&format!("{document}\n"))?;
    } else {
        print(&render(&report, arguments.dry_run))?;
    }
    Ok(Exit::Done)
}

/// The store, and the file that is to be closed.
async fn open(settings: &Settings) -> Result<(Arc<dyn Store>, Option<Arc<SqliteStore>>), Failure> {
    match settings.database()? {
        DatabaseUrl::Sqlite(path) => {
            if !path.exists() {
                let detail = format!("{}: there is no database", path.display());
                return Err(Failure::refused(detail));
            }
            let options = SqliteOptions {
                migrate: false,
                ..SqliteOptions::default()
            };
            let file = Arc::new(SqliteStore::open(&path, options).await.map_err(|error| {
                Failure::refused(error).hint(
                    "a running server prunes by itself: the settings `retention`, `tenant retention` and `task retention` say what",
                )
            })?);
            Ok((file.clone(), Some(file)))
        }
        DatabaseUrl::Postgres(url) => {
            let store = PostgresStore::connect(&url, postgres_options(settings)).await;
            let store =
                store.map_err(|error| Failure::refused(format!("{}: {error}", shown(&url))))?;
            Ok((Arc::new(store), None))
        }
    }
}

fn render(report: &PruneReport, dry_run: bool) -> String {
    let (count, verb) = match dry_run {
        true => (report.executions, "would go"),
        false => (report.executions, "are gone"),
    };
    if count == 0 {
        return "Nothing is old enough to go. See how much there is: horarium db status\n"
            .to_owned();
    }
    let mut table = Table::new(&["TENANT", "EXECUTIONS>"]);
    for (tenant, count) in &report.tenants {
        table.row(vec![tenant.as_str().into(), words::count(*count).into()]);
    }
    let next = match dry_run {
        true => "Next: the same without --dry-run (horarium db prune …)\n",
        false => "See what is left: horarium db status\n",
    };
    format!(
        "{}{} executions {verb}, with their attempts, logs and requests.\n{next}",
        table.render(Style::of_stdout()),
        words::count(count)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(line: &[&str]) -> Result<PrunePlan, String> {
        let line = std::iter::once("prune").chain(line.iter().copied());
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        let settings = Settings {
            retention: Retention {
                failed_seconds: Some(60),
                ..Retention::default()
            },
            ..Settings::default()
        };
        let plan = line.arguments.plan(&settings);
        plan.map_err(|failure| failure.render(false))
    }

    #[test]
    fn flags_say_what_goes_and_without_any_the_settings_do() {
        let plain = plan(&[]).expect("a plan");
        assert_eq!(
            (plain.retention.failed_seconds, plain.stored),
            (Some(60), true)
        );
        let flags = [
            "--older-than",
            "2d",
            "--state",
            "failed,skipped",
            "--keep",
            "5",
        ];
        let own = plan(&flags).expect("a plan");
        let day = 86_400;
        assert_eq!(
            (
                own.retention.failed_seconds,
                own.retention.succeeded_seconds,
                own.retention.keep
            ),
            (Some(2 * day), None, Some(5))
        );
        assert!(own.states.skipped && !own.states.succeeded && !own.stored);
        for (wrong, part) in [
            (&["--state", "failed"][..], "add --older-than"),
            (&["--state", "running", "--keep", "1"], "no way to end"),
            (&["--keep", "0"], "0 is not in"),
            (&["--older-than", "2 weeks"], "30d"),
        ] {
            let refused = plan(wrong).expect_err("refused");
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn what_went_is_told_by_tenant() {
        let mut report = PruneReport::default();
        assert!(render(&report, false).contains("Nothing"));
        report.executions = 12_345;
        report.tenants.insert("acme".into(), 12_345);
        let text = render(&report, true);
        assert!(
            text.contains("acme") && text.contains("12 345 executions would go"),
            "{text}"
        );
    }
}
