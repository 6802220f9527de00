//! `soak chaos|level|idle|prune`: builds what the long tests with real servers need, and runs them.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{plugins, servers, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build and test an optimised server; first of all flags
    #[arg(long)]
    release: bool,
    /// Flags of the test; `--help` tells them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    rest: Vec<String>,
}

/// Builds the server and the plugins, then hands over.
pub(crate) fn run(test: &str, arguments: &Arguments) -> Result<()> {
    let rest: Vec<&str> = arguments.rest.iter().map(String::as_str).collect();
    if !rest.iter().any(|flag| ["--help", "-h"].contains(flag)) {
        setup::ensure()?;
        servers::ensure()?;
        // What it prints belongs to people: a report may be read from stdout.
        plugins::run(&plugins::Arguments::quiet())?;
        let release: &[&str] = if arguments.release {
            &["--release"]
        } else {
            &[]
        };
        // Of the workspace: cargo then builds dependencies as the tests have them.
        let build = ["build", "--locked", "--workspace", "--bin", "horarium"];
        cargo(&build, release)?;
    }
    let binary = match arguments.release {
        true => "target/release/horarium",
        false => "target/debug/horarium",
    };
    let soak = ["run", "--locked", "--quiet", "-p", "horarium-soak", "--"];
    let mut soak: Vec<&str> = soak.into();
    soak.extend(["--binary", binary, test]);
    cargo(&soak, &rest).context("something did not hold, or could not be carried out: see above")
}

fn cargo(arguments: &[&str], more: &[&str]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .current_dir(crate::root())
        .args(arguments)
        .args(more)
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("cargo {} failed", arguments[0]);
    }
    Ok(())
}
