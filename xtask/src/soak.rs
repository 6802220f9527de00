//! `soak`: long runs of what CI runs short.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{plugins, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is soaked
    #[arg(value_enum)]
    what: What,
    /// How many runs
    #[arg(long, default_value_t = 10_000)]
    runs: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Mixed hostile and honest runs, after which nothing may be left
    Hostile,
}

/// Builds what is needed and runs the test that CI runs with fewer rounds.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    plugins::run(&plugins::Arguments::default())?;
    let test = match arguments.what {
        What::Hostile => "hostile::neighbours::many_mixed_runs_leak_nothing",
    };
    println!("soak: {} runs of {test}", arguments.runs);
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(crate::root())
        .args(["test", "--package", "horarium", "--test", "it", "--locked", "--"])
        .args(["--exact", test, "--nocapture"])
        .env("HORARIUM_SOAK_RUNS", arguments.runs.to_string())
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("something was left behind, or a run did not end");
    }
    Ok(())
}
