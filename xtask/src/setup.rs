//! `setup`: what the guests' build needs and the repository cannot carry.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The target every plugin is built for.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Installs the target's standard library unless it is there.
pub(crate) fn run() -> Result<()> {
    if has_target() {
        println!("setup: {TARGET} is installed");
        return Ok(());
    }
    println!(
        "setup: installing {TARGET}, which plugins are compiled for: rustup target add {TARGET}"
    );
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(crate::root())
        .status();
    match added {
        Ok(status) if status.success() => {}
        Ok(status) => bail!(
            "rustup target add {TARGET} failed ({status}): check the network and run it by hand"
        ),
        Err(error) => bail!(
            "rustup does not start ({error}), and this Rust has no {TARGET}: \
             install it as your system packages it, or install Rust by rustup"
        ),
    }
    if !has_target() {
        bail!(
            "rustup added {TARGET}, but not to the rustc in use: is there a second Rust in PATH?"
        );
    }
    Ok(())
}

/// Makes sure of the target; says nothing when it is there.
pub(crate) fn ensure() -> Result<()> {
    if has_target() { Ok(()) } else { run() }
}

/// Asked of rustc itself, so that a Rust without rustup will do.
fn has_target() -> bool {
    let Ok(directory) = rustc(&["--print", "target-libdir", "--target", TARGET]) else {
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
