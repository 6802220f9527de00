//! Chores of the repository: `cargo xtask VERB`. A file a verb, no logic of the product.

mod demo;
mod plugins;
mod servers;
mod setup;
mod sim;
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
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Plugins(arguments) => plugins::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Soak(Soak::Sim(arguments)) => sim::run(&arguments),
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
