//! `setup`: what the guests' build needs and the repository cannot carry.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The target every plugin is built for.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Targets of the examples of other kinds.
pub(crate) const OTHER_TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-unknown-unknown"];

/// Installs the target's standard library unless it is there.
pub(crate) fn run() -> Result<()> {
    if has_target(TARGET) {
        println!("setup: {TARGET} is installed");
        return Ok(());
    }
    add(TARGET)
}

/// Makes sure of all targets that plugins here are compiled for.
pub(crate) fn ensure_all() -> Result<()> {
    ensure()?;
    let missing = OTHER_TARGETS
        .into_iter()
        .filter(|target| !has_target(target));
    missing.into_iter().try_for_each(add)
}

fn add(target: &str) -> Result<()> {
    println!(
        "setup: installing {target}, which plugins are compiled for: rustup target add {target}"
    );
    let added = Command::new("rustup")
        .args(["target", "add", target])
        .current_dir(crate::root())
        .status();
    match added {
        Ok(status) if status.success() => {}
        Ok(status) => bail!(
            "rustup target add {target} failed ({status}): check the network and run it by hand"
        ),
        Err(error) => bail!(
            "rustup does not start ({error}), and this Rust has no {target}: \
             install it as your system packages it, or install Rust by rustup"
        ),
    }
    if !has_target(target) {
        bail!(
            "rustup added {target}, but not to the rustc in use: is there a second Rust in PATH?"
        );
    }
    Ok(())
}

/// Makes sure of the target; says nothing when it is there.
pub(crate) fn ensure() -> Result<()> {
    if has_target(TARGET) { Ok(()) } else { run() }
}

/// Asked of rustc itself, so that a Rust without rustup will do.
fn has_target(target: &str) -> bool {
    let Ok(directory) = rustc(&["--print", "target-libdir", "--target", target]) else {
        return false;
    };
    let Ok(entries) = PathBuf::from(directory.trim()).read_dir() else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// What the compiler that cargo runs us with prints.
pub(crate) fn rustc(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(crate::root())
        .output()
        .context("rustc does not start: install Rust first")?;
    if !output.status.success() {
        bail!(
            "rustc {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
