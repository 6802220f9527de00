//! `bench`: flags of [`crate::bench`].

use super::bench_figures as figures;
use super::failure::{Exit, Failure, Outcome};
use super::task_trigger::bar;
use super::{Global, print};
use crate::bench::{
    self, BenchError, DrainOptions, GrowthOptions, GuestOptions, HostOptions, LatencyOptions,
    Options, ScheduleOptions, WaitingOptions,
};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// How fast a full queue is emptied, against the engine alone
    Drain(DrainArguments),
    /// From a trigger to the start, and to the recorded end, on an idle host
    Latency(LatencyArguments),
    /// Whether every slot of many cron tasks fires once, and how late
    Schedule(ScheduleArguments),
    /// Costs that must not grow: of a run, claim, tick and page while history, backlog and tasks become more
    Growth(GrowthArguments),
    /// Many runs that all wait in an HTTP call: what they hold, and what one that computes beside them loses
    Waiting(WaitingArguments),
    /// What a component costs: compiled, loaded, run, metered
    Guest(GuestArguments),
    /// A server as you would start it: how soon its first run starts, and what it uses at rest
    Host(HostArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once. Many, as short tasks want it: a claim and a flush of the disk serve a batch
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Executions in the queue
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tasks: u32,
    /// How often all is measured; medians are printed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Measure also with parameters and results of so many bytes, against few; by the plugin that comes along
    #[arg(long, value_name = "N", conflicts_with = "plugin", value_parser = clap::value_parser!(u32).range(100..=16_000_000))]
    parameters_bytes: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct LatencyArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once [default: 8 for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: Option<u32>,
    /// Triggers, one after another
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once [default: 8 for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: Option<u32>,
    /// Cron tasks in all
    #[arg(long, visible_alias = "tasks", value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    configs: u32,
    /// How many of them are due in each second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    due_per_second: u32,
    /// For so many seconds
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3000))]
    seconds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct GrowthArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Executions at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// The most rows of history; of waiting executions and cron tasks too, as far as 1000000
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    up_to: u32,
    /// Executions that are run for each point
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: u32,
    /// Cron tasks that are due in each tick
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    due: u32,
    /// How often each point is measured; medians are printed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Draw the curves into this file (SVG)
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WaitingArguments {
    /// A component that requests the `url` of its parameters [default: an embedded http_request]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Further parameters, JSON
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    params: Value,
    /// Where to make the database [default: a file in a temporary directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// So many wait at once
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Runs that compute, alone and beside them
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    loops: u32,
    /// Rounds of a loop each of these goes
    #[arg(long, value_name = "N", default_value_t = 100_000_000)]
    iterations: u64,
}

#[derive(Debug, Args)]
pub(crate) struct GuestArguments {
    /// The component [default: an embedded hello]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Its parameters, JSON
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    params: Value,
    /// Runs, one after another
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// How often its code is loaded from disk
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    loads: u32,
    /// Rounds of the loop that metering is measured on
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    iterations: u64,
}

#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// The component to register, with parameters {} [default: an embedded hello]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Plugins that are registered: the component, again and again under other digests
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    plugins: u32,
    /// How often the server is started; medians are printed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    starts: u32,
    /// For so many seconds it is watched at rest
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    idle: u32,
}

#[derive(Debug, Args)]
struct CommonArguments {
    /// The component to run, with parameters {} [default: an embedded hello]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Where to make the database: sqlite:FILE, or postgres://USER@HOST/NAME, in a schema that is dropped afterwards
    /// [default: a file in a temporary directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl CommonArguments {
    fn options(self, slots: u32) -> Options {
        Options {
            plugin: self.plugin,
            database_url: self.database_url,
            slots,
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Refused(detail) => Self::refused(detail),
            BenchError::Failed(detail) => Self::failed(detail),
        }
    }
}

/// JSON of parameters.
fn object(text: &str) -> Result<Value, String> {
    match horarium_model::json::parse(text.as_bytes()) {
        Ok(Value::Object(members)) => Ok(Value::Object(members)),
        Ok(_) => Err("parameters are an object, such as {\"n\": 5}".to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

/// A component by itself, on a database in a temporary directory.
fn alone(plugin: Option<PathBuf>, slots: u32) -> Options {
    Options {
        plugin,
        database_url: None,
        slots,
    }
}

pub(crate) fn run(global: &Global, verb: Verb) -> Outcome {
    let bar = bar();
    let progress = |what: String| bar.set_message(what);
    let (document, human) = measure(verb, &progress)?;
    bar.finish_and_clear();
    if global.json {
        print(&format!("{document}\n"))?;
    } else {
        print(&human(&document))?;
    }
    Ok(Exit::Done)
}

/// What was measured, and how people see it.
type Measured = (Value, fn(&Value) -> String);

fn measure(verb: Verb, progress: &dyn Fn(String)) -> Result<Measured, Failure> {
    let few = || 8 * bench::cores();
    Ok(match verb {
        Verb::Drain(arguments) => {
            let options = DrainOptions {
                common: arguments.common.options(arguments.slots),
                tasks: arguments.tasks as usize,
                runs: arguments.runs as usize,
                parameters_bytes: arguments.parameters_bytes.map(|bytes| bytes as usize),
            };
            (bench::drain(&options, progress)?, figures::drain)
        }
        Verb::Latency(arguments) => {
            let options = LatencyOptions {
                common: arguments
                    .common
                    .options(arguments.slots.unwrap_or_else(few)),
                tasks: arguments.tasks as usize,
            };
            (bench::latency(&options, progress)?, figures::latency)
        }
        Verb::Schedule(arguments) => {
            let options = ScheduleOptions {
                common: arguments
                    .common
                    .options(arguments.slots.unwrap_or_else(few)),
                configs: arguments.configs as usize,
                due_per_second: arguments.due_per_second as usize,
                seconds: arguments.seconds as usize,
            };
            (bench::schedule(&options, progress)?, figures::schedule)
        }
        Verb::Growth(arguments) => (growth(arguments, progress)?, figures::growth),
        Verb::Waiting(arguments) => {
            let options = WaitingOptions {
                common: Options {
                    database_url: arguments.database_url,
                    ..alone(arguments.plugin, arguments.slots)
                },
                parameters: arguments.params,
                loops: arguments.loops as usize,
                iterations: arguments.iterations,
            };
            (bench::waiting(&options, progress)?, figures::waiting)
        }
        Verb::Guest(arguments) => {
            let options = GuestOptions {
                common: alone(arguments.plugin, few()),
                parameters: arguments.params,
                runs: arguments.runs as usize,
                loads: arguments.loads as usize,
                iterations: arguments.iterations,
            };
            (bench::guest(&options, progress)?, figures::guest)
        }
        Verb::Host(arguments) => {
            let options = HostOptions {
                common: alone(arguments.plugin, few()),
                plugins: arguments.plugins as usize,
                starts: arguments.starts as usize,
                idle: Duration::from_secs(arguments.idle.into()),
            };
            (bench::host(&options, progress)?, figures::host)
        }
    })
}

fn growth(arguments: GrowthArguments, progress: &dyn Fn(String)) -> Result<Value, Failure> {
    let refused = |path: &Path, error: std::io::Error| {
        Failure::refused(format!("{}: {error}", path.display()))
    };
    // Known before minutes of measuring, which an older picture outlives.
    let mut opening = OpenOptions::new();
    opening.write(true).create(true).truncate(false);
    let picture = match arguments.picture {
        Some(path) => match opening.open(&path) {
            Ok(file) => Some((path, file)),
            Err(error) => return Err(refused(&path, error)),
        },
        None => None,
    };
    let options = GrowthOptions {
        common: arguments.common.options(arguments.slots),
        up_to: arguments.up_to as usize,
        tasks: arguments.tasks as usize,
        due: arguments.due as usize,
        rounds: arguments.rounds as usize,
    };
    let document = bench::growth(&options, progress)?;
    if let Some((path, mut file)) = picture {
        let drawn = bench::picture(&document);
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(drawn.as_bytes()));
        // The figures took longer than the picture of them: they are not lost with it.
        written.map_err(|error| {
            let path = path.display();
            Failure::failed(format!("{path}: {error}; the figures are {document}"))
        })?;
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_object() {
        assert_eq!(object("{\"n\": 5}"), Ok(serde_json::json!({"n": 5})));
        assert!(object("5").is_err_and(|text| text.contains("an object")));
        assert!(object("{").is_err());
    }
}
