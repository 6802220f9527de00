//! `soak schemathesis`: a real server is asked all kinds of things that its OpenAPI document tells of, and what it does not,
//! by schemathesis (PyPI), with a token of each role. Nothing may fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::demo::host::{self, Host};
use crate::plugins;

/// The version that is installed.
const VERSION: &str = "4.32.5";
/// All roles; the last is the token in the data directory.
const ROLES: [&str; 5] = ["viewer", "trigger", "operator", "admin", "host-admin"];
/// A token of a tenant could revoke or replace itself by these; they are left to the one in the data directory.
const OF_HOST_ADMIN: [&str; 2] = ["revokeToken", "rotateToken"];

/// What the document cannot say: values that fit their schemas may still be refused, because a cron expression has no slot, a
/// plugin is not registered, a key is taken or a version has moved on. Those refusals have statuses of their own, which the
/// document tells of.
const CONFIGURATION: &str = r#"
[generation]
# NUL is refused everywhere, which JSON Schema can only say of each text by itself.
allow-x00 = false
exclude-header-characters = "\n\r\u0000"

[parameters]
"header.Horarium-Tenant" = "default"
# Nobody guesses those.
"path.task_id" = "EXECUTION"

# A stream does not end by itself.
[[operations]]
include-operation-id = "events"
request-timeout = 1.0
max-stream-events = 2

# Each item is taken or refused by itself, with 202. And 1e300 is a number that is kept, while 1 with 300 zeros is an
# integer beyond 64 bits: no schema tells them apart.
[[operations]]
include-operation-id = "enqueueBatch"
checks.negative_data_rejection.expected-statuses = ["202", "400", "401", "403", "404", "409", "413", "415", "422", "429"]

# The values of a patch are any JSON, and numbers in it are told apart no better.
[[operations]]
include-operation-id = "updateParameters"
checks.negative_data_rejection.expected-statuses = ["200", "400", "401", "403", "404", "409", "412", "413", "415", "422", "429"]

# Nor are those in the result of an execution.
[[operations]]
include-operation-id = "importExecutions"
checks.negative_data_rejection.expected-statuses = ["200", "400", "401", "403", "404", "409", "413", "415", "422", "429"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422", "429"]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "412", "422", "429"]

# A stale If-Match is told before the body is looked at (RFC 9110, 13.2.1).
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "412", "413", "415", "422", "429"]
"#;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Cases an operation, of each role
    #[arg(long, value_name = "N", default_value_t = 50)]
    examples: u32,
    /// Only this role
    #[arg(long)]
    role: Option<String>,
    /// Repeats what a run with this seed did
    #[arg(long)]
    seed: Option<u128>,
}

/// Sets up schemathesis and a server, and lets the one at the other.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(role) = &arguments.role {
        ensure!(
            ROLES.contains(&role.as_str()),
            "`{role}` is no role; there are {}",
            ROLES.join(", ")
        );
    }
    let tool = set_up()?;
    plugins::run(&plugins::Arguments::quiet())?;
    let binary = host::build()?;
    let directory = crate::root().join("target/schemathesis/run");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let mut host = Host::start(binary, &directory)?;
    let execution = furnish(&host)?;
    let configuration = directory.join("schemathesis.toml");
    std::fs::write(
        &configuration,
        CONFIGURATION.replace("EXECUTION", &execution),
    )?;
    let mut failed = Vec::new();
    for role in ROLES {
        if arguments.role.as_ref().is_some_and(|only| only != role) {
            continue;
        }
        println!("schemathesis: {role}");
        let token = token(&host, role)?;
        let mut command = Command::new(&tool);
        command
            .current_dir(&directory)
            .arg("--config-file")
            .arg(&configuration)
            .arg("run")
            .arg(format!("{}/openapi.json", host.url()?))
            .args(["--checks", "all", "--suppress-health-check", "all"])
            .args(["--max-examples", &arguments.examples.to_string()])
            .args(["--generation-database", "none", "--no-color"])
            .args(["--header", &format!("Authorization: Bearer {token}")]);
        if let Some(seed) = arguments.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        if role != "host-admin" {
            for operation in OF_HOST_ADMIN {
                command.args(["--exclude-operation-id", operation]);
            }
        }
        let status = command.status().context("schemathesis does not start")?;
        host.check_alive()?;
        if !status.success() {
            failed.push(role);
        }
    }
    host.stop();
    if !failed.is_empty() {
        bail!("something failed as {}: see above", failed.join(", "));
    }
    println!("schemathesis: nothing failed");
    Ok(())
}

/// Installs schemathesis below target/, once; returns its program.
fn set_up() -> Result<PathBuf> {
    let folder = crate::root().join("target/schemathesis/venv");
    let tool = folder.join("bin/st");
    if is_there(&tool) {
        return Ok(tool);
    }
    println!(
        "setup: installing schemathesis {VERSION} from PyPI into {}: it asks the server what its document tells of",
        folder.display()
    );
    let done = |command: &mut Command, what: &str| -> Result<()> {
        let status = command.status().with_context(|| what.to_owned())?;
        ensure!(status.success(), "{what} failed ({status})");
        Ok(())
    };
    done(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
        "python3 -m venv (on Debian: apt-get install python3-venv)",
    )?;
    done(
        Command::new(folder.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("schemathesis=={VERSION}")),
        "pip install schemathesis",
    )?;
    ensure!(
        is_there(&tool),
        "schemathesis was installed, but does not start"
    );
    Ok(tool)
}

fn is_there(tool: &Path) -> bool {
    let told = Command::new(tool).arg("--version").output();
    told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(VERSION))
}

/// A plugin, tasks of each kind, and executions, so that there is something to be asked about; the id of one of them.
fn furnish(host: &Host) -> Result<String> {
    let hello = crate::root().join("target/plugins/hello.wasm");
    let hello = hello.to_string_lossy().into_owned();
    host.ask(&["plugin", "register", "hello", &hello])?;
    let common = ["--type", "hello", "--params", "{}"];
    for more in [
        &["--name", "by hand", "--key", "nightly"][..],
        &["--name", "at night", "--cron", "0 3 * * *"],
        &["--name", "once", "--at", "2099-01-01T00:00:00Z"],
    ] {
        host.ask(&[&["task", "create"][..], &common, more].concat())?;
    }
    let mut execution = String::new();
    for _ in 0..3 {
        let triggered = host.ask(&["task", "trigger", "nightly"])?;
        triggered["task_id"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut execution);
    }
    ensure!(!execution.is_empty(), "the server gave an execution no id");
    Ok(execution)
}

fn token(host: &Host, role: &str) -> Result<String> {
    if role == "host-admin" {
        let path = Path::new(&host.data_dir()).join("admin-token");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        return Ok(text.trim().to_owned());
    }
    let made = host.ask(&["token", "create", role, "--role", role])?;
    match &made["token"] {
        Value::String(text) => Ok(text.clone()),
        _ => bail!("the server gave out no token"),
    }
}
