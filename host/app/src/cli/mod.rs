//! The command line: a file a verb. Remote verbs speak REST through [`crate::client`]; `task next --cron`,
//! `dev`, `db`, `bench` and `doctor` work here.

mod apply_file;
mod audit;
mod bench;
mod bench_figures;
mod completions;
mod db;
mod db_backup;
mod db_copy;
mod db_prune;
mod dev;
mod dev_build;
mod dev_inspect;
mod dev_new;
mod dev_run;
mod dev_test;
mod dev_wit;
mod doctor;
mod doctor_host;
mod doctor_postgres;
mod doctor_server;
mod execution;
mod execution_bulk;
mod execution_follow;
mod execution_show;
pub(crate) mod failure;
mod host;
mod import;
mod man;
mod next;
mod plugin;
mod plugin_config;
mod plugin_diff;
mod plugin_grant;
mod plugin_limit;
mod plugin_register;
mod quota;
mod render;
mod retention;
mod secret;
mod serve;
mod task;
mod task_apply;
mod task_batch;
mod task_next;
mod task_parameters;
mod task_show;
mod task_spec;
mod task_state;
mod task_trigger;
mod task_why;
mod templates;
mod tenant;
mod token;
mod usage;
mod values;
mod watch;
pub(crate) mod words;

use crate::client::{Address, Answer, Client, Query};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use dev::worker;
use failure::{Exit, Failure, Outcome};
use horarium_core::clock::{Clock, SystemClock};
use horarium_model::Timestamp;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `horarium` understands.
#[derive(Debug, Parser)]
#[command(
    name = "horarium",
    version,
    about = "Runs WebAssembly task plugins on schedules, each in a sandbox, and keeps the history",
    after_help = "Exit codes: 0 done, 1 the task or check failed, 2 bad usage or refused input, \
                  3 server unreachable or not allowed.\n\
                  HORARIUM_TOKEN holds the token for HORARIUM_URL; without a URL the local server's \
                  files in the data directory are used.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Global {
    /// Print the answer as JSON, alone
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How to print: `wide` has more columns and cuts nothing, `json` is --json
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Show it again and again, every so many seconds (lists and what shows something)
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        default_missing_value = "2", value_parser = watch::seconds)]
    watch: Option<f64>,
    /// The tenant whose things are meant [default: the token's own, else `default`]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "HORARIUM_TENANT",
        hide_env_values = true
    )]
    pub(crate) tenant: Option<String>,
    /// The server, such as http://127.0.0.1:7411 [default: the local one]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HORARIUM_URL",
        hide_env_values = true
    )]
    pub(crate) url: Option<String>,
    /// Where the local server keeps its files [default: $XDG_DATA_HOME/horarium]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What fits a terminal
    Table,
    /// More columns, nothing cut
    Wide,
    /// The answer as JSON, alone
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the server
    Serve(serve::Arguments),
    /// For plugin authors: run and look at components without a server
    #[command(subcommand)]
    Dev(dev::Verb),
    /// Register and manage plugins
    #[command(subcommand)]
    Plugin(plugin::Verb),
    /// Write and manage task configs
    #[command(subcommand)]
    Task(task::Verb),
    /// See and steer executions
    #[command(subcommand)]
    Execution(execution::Verb),
    /// Keep secrets for plugins
    #[command(subcommand)]
    Secret(secret::Verb),
    /// See who executes
    #[command(subcommand)]
    Host(host::Verb),
    /// See and manage tenants
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Hand out and revoke tokens
    #[command(subcommand)]
    Token(token::Verb),
    /// See who did what
    #[command(subcommand)]
    Audit(audit::Verb),
    /// See and set what a tenant may use
    #[command(subcommand)]
    Quota(quota::Verb),
    /// Report what was used, by day and plugin
    Usage(usage::Arguments),
    /// Take over tasks and history from another system
    #[command(subcommand)]
    Import(import::Verb),
    /// Look after the database
    #[command(subcommand)]
    Db(db::Verb),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Check that this machine and the server are fit
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Write manual pages
    Man(man::Arguments),
}

/// Does what the command line asks and reports what went wrong on stderr.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let json = cli.global.json();
    let every = cli.global.watch;
    let done = match every {
        None => run(cli),
        Some(_) if !watch::only_shows(&cli.verb) => Err(watch::refuse()),
        Some(every) => watch::repeat(every, json, || Cli::try_parse().map_or(Ok(Exit::Done), run)),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{}", failure.render(json));
            failure.exit.into()
        }
    }
}

/// What the arguments ask for instead of a verb (help, version), or what is wrong with them: as a problem document
/// where JSON was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let failure = Failure::refused(error.render().to_string().trim());
        eprintln!("{}", failure.render(true));
    } else {
        let _ = error.print();
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn run(cli: Cli) -> Outcome {
    let mut global = cli.global;
    global.json = global.json();
    render::go_wide(global.output == Some(Format::Wide));
    let (next, quiet) = (
        next::after(&cli.verb),
        global.json || global.watch.is_some(),
    );
    let done = dispatch(global, cli.verb)?;
    if done == Exit::Done && !quiet {
        next::tell(next);
    }
    Ok(done)
}

fn dispatch(global: Global, verb: Verb) -> Outcome {
    match verb {
        Verb::Serve(arguments) => serve::run(&global, arguments),
        Verb::Dev(verb) => dev::run(&global, verb),
        Verb::Plugin(verb) => plugin::run(&Remote::new(&global)?, verb),
        Verb::Task(task::Verb::Next(arguments)) => task_next::run(&global, &arguments),
        Verb::Task(verb) => task::run(&Remote::new(&global)?, verb),
        Verb::Execution(verb) => execution::run(&Remote::new(&global)?, verb),
        Verb::Secret(verb) => secret::run(&Remote::new(&global)?, verb),
        Verb::Host(verb) => host::run(&Remote::new(&global)?, verb),
        Verb::Tenant(verb) => tenant::run(&Remote::new(&global)?, verb),
        Verb::Token(verb) => token::run(&Remote::new(&global)?, verb),
        Verb::Audit(verb) => audit::run(&Remote::new(&global)?, verb),
        Verb::Quota(verb) => quota::run(&Remote::new(&global)?, &verb),
        Verb::Usage(arguments) => usage::run(&global, &Remote::new(&global)?, arguments),
        Verb::Import(verb) => import::run(&Remote::new(&global)?, &verb),
        Verb::Db(verb) => db::run(&global, &verb),
        Verb::Bench(verb) => bench::run(&global, verb),
        Verb::Doctor(arguments) => doctor::run(&global, &arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::Man(arguments) => man::run(&arguments),
    }
}

impl Global {
    /// Whether JSON was asked for, either way.
    fn json(&self) -> bool {
        self.json || self.output == Some(Format::Json)
    }

    /// Where the local server keeps its files: the flag, the setting's variable, the default.
    fn data_dir(&self) -> PathBuf {
        let variable = || std::env::var_os("HORARIUM__DATA_DIR").map(PathBuf::from);
        let default = || horarium::settings::Settings::default().data_dir;
        self.data_dir
            .clone()
            .or_else(variable)
            .unwrap_or_else(default)
    }

    /// A client of the server in force.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let address = Address::find(self.url.as_deref(), &self.data_dir())?;
        Ok(Client::new(address, self.tenant.as_deref()))
    }
}

/// What remote verbs need.
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) json: bool,
}

impl Remote {
    fn new(global: &Global) -> Result<Self, Failure> {
        Ok(Self {
            client: global.client()?,
            json: global.json,
        })
    }

    /// Prints an answer: the body alone where JSON was asked for, else what `human` makes of it.
    pub(crate) fn show(
        &self,
        answer: &Answer,
        human: impl FnOnce(&serde_json::Value) -> String,
    ) -> Outcome {
        if self.json {
            if !answer.text.is_empty() {
                print(&format!("{}\n", answer.text.trim_end()))?;
            }
        } else {
            print(&human(&answer.json()?))?;
        }
        Ok(Exit::Done)
    }

    /// Prints a list: rows of a table, or the sentence `empty` when there is nothing.
    pub(crate) fn show_list(
        &self,
        answer: &Answer,
        empty: &str,
        table: impl FnOnce(&[serde_json::Value]) -> render::Table,
    ) -> Outcome {
        self.show(answer, |body| {
            let none = Vec::new();
            let items = body
                .get("items")
                .and_then(serde_json::Value::as_array)
                .unwrap_or(&none);
            if items.is_empty() {
                return format!("{empty}\n");
            }
            let mut text = table(items).render(render::Style::of_stdout());
            if let Some(cursor) = body.get("next_cursor").and_then(serde_json::Value::as_str) {
                text.push_str(&format!("There are more: add --cursor {cursor}\n"));
            }
            text
        })
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct PageArguments {
    /// How many at most, 1 to 1000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        allow_negative_numbers = true
    )]
    limit: i64,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl PageArguments {
    fn query(&self) -> Query<'static> {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        query
    }
}

/// Nobody reads stdout any more.
static READ_NO_MORE: AtomicBool = AtomicBool::new(false);

/// Whether the reader of stdout went away: what goes on printing may stop.
pub(crate) fn is_read_no_more() -> bool {
    READ_NO_MORE.load(Ordering::Relaxed)
}

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            READ_NO_MORE.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(Failure::failed(format!("stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// The current instant.
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

#[cfg(test)]
mod tests;
