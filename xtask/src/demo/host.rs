//! The real binary: built, started as a server, and asked through its own command line.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long the server may take to start, and to stop.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// Builds the binary and returns where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // Of the workspace, not of the package: cargo then builds dependencies as the tests have them, and once.
        .args(["build", "--locked", "--workspace", "--bin", "horarium"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(crate::root())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("the host does not build; to see it alone: cargo build --workspace --bin horarium");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo built the host but names no executable")
}

/// A server of ours.
pub(crate) struct Host {
    binary: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Host {
    /// Starts it in `directory` and waits until it answers.
    pub(crate) fn start(binary: PathBuf, directory: &Path) -> Result<Self> {
        let data_dir = directory.join("data");
        let settings = directory.join("horarium.toml");
        // The world outside is on loopback: the settings and the plugins' grants must both say so.
        let text =
            "[network]\nallow_private = [\"127.0.0.0/8\"]\n\n[executor]\ngrace_seconds = 5\n";
        std::fs::write(&settings, text).with_context(|| settings.display().to_string())?;
        let log = directory.join("server.log");
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let child = clean(&binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&settings)
            .arg("--data-dir")
            .arg(&data_dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is ours: we stop it when all is told.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", binary.display()))?;
        let mut host = Self {
            binary,
            data_dir,
            log,
            child,
        };
        let started = Instant::now();
        while host.ask(&["task", "list"]).is_err() {
            host.check_alive()?;
            if started.elapsed() > START {
                bail!(
                    "the server did not answer within {} s{}",
                    START.as_secs(),
                    host.tail()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(host)
    }

    /// Runs a verb with `--json` and returns what it prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let output = clean(&self.binary)
            .args(arguments)
            .arg("--json")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} does not start", self.binary.display()))?;
        let verb = arguments
            .iter()
            .take(2)
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        if !output.status.success() {
            let problem = String::from_utf8_lossy(&output.stderr);
            let problem = problem.trim();
            let detail = serde_json::from_str::<Value>(problem)
                .ok()
                .and_then(|document| document["detail"].as_str().map(str::to_owned));
            bail!("horarium {verb}: {}", detail.as_deref().unwrap_or(problem));
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("horarium {verb} printed no JSON"))
    }

    /// Where it listens, from the file it leaves for local verbs.
    pub(crate) fn url(&self) -> Result<String> {
        let text = std::fs::read(self.data_dir.join("server.json"))?;
        let known: Value = serde_json::from_slice(&text)?;
        Ok(known["url"].as_str().unwrap_or("(unknown)").to_owned())
    }

    /// How a person calls the binary.
    pub(crate) fn binary(&self) -> String {
        self.binary.display().to_string()
    }

    /// Where it keeps its files.
    pub(crate) fn data_dir(&self) -> String {
        self.data_dir.display().to_string()
    }

    /// Fails if it ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended by itself ({status}){}", self.tail()),
        }
    }

    /// Adds what the server said last to a failure.
    pub(crate) fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| anyhow::anyhow!("{error:#}{}", self.tail()))
    }

    /// The last lines of the server's log, or nothing.
    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        if last.is_empty() {
            String::new()
        } else {
            format!("; the server's last words:\n  {last}")
        }
    }

    /// Asks it to end, waits, and ends it if it does not.
    pub(crate) fn stop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else {
            return;
        };
        // Reaped children's ids may be somebody else's: only ours that still runs is signalled.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < STOP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The binary without what the shell set for another server.
fn clean(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HORARIUM_") {
            command.env_remove(name);
        }
    }
    command
}
