//! `soak sim`: many more histories of the simulator than CI lives through.

use std::process::Command;

use anyhow::{Context, Result, ensure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Histories
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// Only this one
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Build it optimised, which pays from some ten thousand histories on
    #[arg(long)]
    release: bool,
}

/// Lives through them; the seeds of those that break a rule are printed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(crate::root())
        .args(["test", "--locked", "-p", "horarium-core", "--lib"]);
    if arguments.release {
        command.arg("--release");
    }
    let test = "sim::tests::a_soak_keeps_the_rules";
    command.args(["--", test, "--exact", "--ignored"]);
    match arguments.seed {
        Some(seed) => command.env("SIM_SEED", seed.to_string()),
        None => command.env("SIM_SEEDS", arguments.seeds.to_string()),
    };
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "a rule was broken: see above");
    Ok(())
}
