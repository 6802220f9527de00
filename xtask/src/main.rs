//! Chores of the repository: `cargo xtask VERB`. A file a verb, no logic of the product.

mod demo;
mod guests;
mod hostile;
mod plugins;
mod schemathesis;
mod servers;
mod setup;
mod sim;
mod soak;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Horarium repository")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building the plugins needs: the compiler's target wasm32-wasip2
    Setup,
    /// Build the plugins to target/plugins/
    Plugins(plugins::Arguments),
    /// Show Horarium at work: build, start a server in a temporary directory, run eight kinds of task
    Demo(demo::Arguments),
    /// Run all tests, after all the set-up they need
    Test(test::Arguments),
    /// Run a long test
    #[command(subcommand)]
    Soak(Soak),
}

#[derive(Subcommand)]
enum Soak {
    /// Many seeded histories of the scheduler and executor on simulated time
    Sim(sim::Arguments),
    /// Mixed hostile and honest runs on a real server, after which nothing may be left
    Hostile(hostile::Arguments),
    /// A real server is asked what its OpenAPI document tells of and what it does not, with a token of each role
    Schemathesis(schemathesis::Arguments),
    /// Real hosts are killed, stopped and cut off, the database restarts; everything must end exactly once
    #[command(disable_help_flag = true)]
    Chaos(soak::Arguments),
    /// Half of what the database carries, for long: tables and claims must not grow
    #[command(disable_help_flag = true)]
    Level(soak::Arguments),
    /// Real hosts with nothing to do must leave the database alone
    #[command(disable_help_flag = true)]
    Idle(soak::Arguments),
    /// A million ended executions on SQLite and PostgreSQL: what lists and claims cost, and while they are removed
    #[command(disable_help_flag = true)]
    Prune(soak::Arguments),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Plugins(arguments) => plugins::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Soak(Soak::Sim(arguments)) => sim::run(&arguments),
        Verb::Soak(Soak::Hostile(arguments)) => hostile::run(&arguments),
        Verb::Soak(Soak::Schemathesis(arguments)) => schemathesis::run(&arguments),
        Verb::Soak(Soak::Chaos(arguments)) => soak::run("chaos", &arguments),
        Verb::Soak(Soak::Level(arguments)) => soak::run("level", &arguments),
        Verb::Soak(Soak::Idle(arguments)) => soak::run("idle", &arguments),
        Verb::Soak(Soak::Prune(arguments)) => soak::run("prune", &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository, wherever it is checked out.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), PathBuf::from)
}
