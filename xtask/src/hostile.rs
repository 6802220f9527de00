//! `soak hostile`: innocent tasks beside hostile ones, and ten thousand mixed runs on a real server, after which nothing
//! may be left.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::plugins;

/// The tests, which CI runs with fewer runs.
const TESTS: &str = "hostile::neighbours::";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    runs: u64,
}

/// Builds the guests, then runs them; how late the innocent were and what was held before and after is printed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    plugins::run(&plugins::Arguments::default())?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(crate::root())
        .args(["test", "--locked", "--workspace", "--test", "it"])
        .args(["--", TESTS, "--nocapture", "--test-threads", "1"])
        .env("HORARIUM_SOAK_RUNS", arguments.runs.to_string());
    let status = command.status().context("cannot start cargo")?;
    ensure!(
        status.success(),
        "something was left, or a run did not end: see above"
    );
    Ok(())
}
