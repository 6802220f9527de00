//! `horarium-soak chaos|level|idle|prune`; `cargo xtask soak` builds what it needs and runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use horarium_soak::{Build, chaos, idle, level, prune};
use serde_json::Value;

#[derive(Parser)]
#[command(
    name = "cargo xtask soak",
    about = "Long tests with real servers on a PostgreSQL of their own"
)]
struct Cli {
    /// The server that is tested
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        default_value = "target/debug/horarium"
    )]
    binary: PathBuf,
    /// The folder of the built plugins
    #[arg(
        long,
        value_name = "DIRECTORY",
        global = true,
        default_value = "target/plugins"
    )]
    plugins: PathBuf,
    /// Print the report as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Hosts are killed, stopped, cut off and replaced, the database restarts; everything must end exactly once
    Chaos(ChaosArguments),
    /// Half of what the database carries, for long: tables and claims must not grow
    Level(LevelArguments),
    /// Hosts with nothing to do must leave the database alone
    Idle(IdleArguments),
    /// A million ended executions are listed and removed; claims must not wait for that
    Prune(PruneArguments),
}

#[derive(Args)]
struct ChaosArguments {
    /// How long there is load and trouble, such as 10m
    #[arg(long = "for", value_name = "SPAN", default_value = "10m", value_parser = span)]
    span: Duration,
    /// Repeats the troubles of an earlier run [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Executions triggered in that time
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    executions: u64,
    /// Slots of all schedules together
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(40..=100_000))]
    slots_per_minute: u64,
    /// Hosts
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(3..=16))]
    hosts: u64,
}

#[derive(Args)]
struct LevelArguments {
    /// How long there is load, such as 30m
    #[arg(long = "for", value_name = "SPAN", default_value = "30m", value_parser = span)]
    span: Duration,
    /// Executions a second [default: half of what a short drain reaches here]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
}

#[derive(Args)]
struct IdleArguments {
    /// How long the statements are counted, such as 2m
    #[arg(long = "for", value_name = "SPAN", default_value = "2m", value_parser = span)]
    span: Duration,
    /// Tasks, none of them due
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    configs: u32,
    /// Task types
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    types: u32,
}

#[derive(Args)]
struct PruneArguments {
    /// Ended executions in each of SQLite and PostgreSQL
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    rows: u64,
    /// How long is measured before anything is removed, such as 60s
    #[arg(long = "for", value_name = "SPAN", default_value = "60s", value_parser = span)]
    span: Duration,
}

/// `90s`, `10m`, or seconds.
fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (30..=86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "write 90s or 10m; at least 30s, at most a day".to_owned())
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything held.
fn run(cli: Cli) -> Result<bool> {
    catch_signals()?;
    let build = Build {
        binary: cli
            .binary
            .canonicalize()
            .with_context(|| cli.binary.display().to_string())?,
        plugins: cli.plugins,
    };
    let say = |line: &str| eprintln!("soak: {line}");
    let (json, table, holds): (Value, String, bool) = match cli.verb {
        Verb::Chaos(arguments) => {
            let options = chaos::Options {
                build,
                seed: arguments
                    .seed
                    .unwrap_or_else(|| u64::from(rand::random::<u32>())),
                span: arguments.span,
                executions: arguments.executions,
                slots_per_minute: arguments.slots_per_minute,
                hosts: usize::try_from(arguments.hosts)?,
                slots: 32,
            };
            let report = chaos::run(&options, &say)?;
            (report.json(), report.table(), report.holds())
        }
        Verb::Level(arguments) => {
            let options = level::Options {
                build,
                span: arguments.span,
                rate: arguments.rate,
            };
            let report = level::run(&options, &say)?;
            (report.json(), report.table(), report.holds())
        }
        Verb::Idle(arguments) => {
            let options = idle::Options {
                build,
                span: arguments.span,
                configs: arguments.configs,
                types: arguments.types,
            };
            let report = idle::run(&options, &say)?;
            (report.json(), report.table(), report.holds())
        }
        Verb::Prune(PruneArguments { rows, span }) => {
            let report = prune::run(&prune::Options { rows, span }, &say)?;
            (report.json(), report.table(), report.holds())
        }
    };
    match cli.json {
        true => println!("{json}"),
        false => println!("{table}"),
    }
    Ok(holds)
}

/// Ctrl-C and SIGTERM end a run, so that no server outlives it.
fn catch_signals() -> Result<()> {
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    for signal in signals {
        signal_hook::flag::register(signal, horarium_soak::interrupt())
            .context("signals cannot be caught")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_bounds() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("45"), Ok(Duration::from_secs(45)));
        assert_eq!(span("10m"), Ok(Duration::from_secs(600)));
        assert!(span("5s").is_err() && span("soon").is_err() && span("99999m").is_err());
    }
}
