//! `test`: everything the tests need, then all of them.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{plugins, servers, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to the test runner, such as the name of a test
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    rest: Vec<String>,
}

/// Sets up, builds the plugins the tests run, then runs the workspace's tests and the guests' own.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    servers::ensure()?;
    println!("test: building the host and its tests");
    build()?;
    println!("test: building the plugins of every kind, which the host's tests run");
    let all = plugins::Arguments {
        all: true,
        ..plugins::Arguments::default()
    };
    plugins::run(&all)?;

    let nextest = has_nextest();
    let mut command = cargo();
    if nextest {
        println!("test: cargo nextest run --workspace");
        command.args(["nextest", "run", "--workspace", "--locked"]);
    } else {
        println!("test: cargo test --workspace (with cargo-nextest installed this is faster)");
        command.args(["test", "--workspace", "--locked"]);
    }
    check(command.args(&arguments.rest), "the tests of the host")?;
    // Names of tests mean the host's: the guests have few.
    if arguments.rest.is_empty() {
        if nextest {
            println!("test: documentation examples, which nextest leaves out");
            let documentation = ["test", "--workspace", "--locked", "--doc"];
            check(cargo().args(documentation), "the documentation's examples")?;
        }
        guests()?;
    }
    println!("test: all passed");
    Ok(())
}

/// Builds the workspace as its tests want it, the program among them.
pub(crate) fn build() -> Result<()> {
    let arguments: &[&str] = if has_nextest() {
        &["nextest", "run", "--workspace", "--locked", "--no-run"]
    } else {
        &["test", "--workspace", "--locked", "--no-run"]
    };
    check(cargo().args(arguments), "the build of the host")
}

/// The guests' logic is tested as ordinary code of this machine, with the SDK's stand-in for a host.
fn guests() -> Result<()> {
    println!("test: the plugins' own tests");
    let host = setup::rustc(&["-vV"])?;
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?
        .to_owned();
    let mut command = cargo();
    command.current_dir(crate::root().join("plugins")).args([
        "test",
        "--workspace",
        "--lib",
        "--locked",
        "--target",
        &host,
    ]);
    check(&mut command, "the plugins' own tests")
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    command
}

fn has_nextest() -> bool {
    cargo()
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn check(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().context("cargo does not start")?;
    if !status.success() {
        bail!("{what} failed");
    }
    Ok(())
}
