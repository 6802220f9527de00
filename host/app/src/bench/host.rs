//! `bench host`: a server as its user would start it, this same program in a data directory of its own: from its start to
//! its first run, and what it uses at rest.

use super::process::{self, MIB, Memory};
use super::rest::post;
use super::statistics::{median, rounded};
use super::{BenchError, Options, Stopwatch};
use crate::client::{Address, Client};
use horarium_core::clock::{Clock, SystemClock};
use horarium_model::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct HostOptions {
    pub(crate) common: Options,
    /// Plugins that are registered.
    pub(crate) plugins: usize,
    /// How often it is started; the medians are reported.
    pub(crate) starts: usize,
    /// For how long it is watched at rest.
    pub(crate) idle: Duration,
}

/// So long before it is due, an execution is enqueued that waits for the next start: time enough to stop.
const AHEAD: Duration = Duration::from_millis(1500);
/// Between two looks at what is awaited, and the longest wait.
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// Until a host that did something is at rest.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures and returns the document; `progress` hears what is being done.
pub(crate) fn host(options: &HostOptions, progress: &dyn Fn(String)) -> Result<Value, BenchError> {
    let place = Place::new()?;
    let component = options.common.component()?;
    progress("starting a host".to_owned());
    let mut server = place.start()?;
    server.until_ready()?;
    for number in 0..options.plugins {
        progress(format!(
            "registering {number} of {} plugins",
            options.plugins
        ));
        place.register(&format!("plugin{number}"), &variant(&component, number))?;
    }
    let task = json!({"name": "first", "task_type": "plugin0", "scheduler_type": "manual"});
    let task = post::<Value>(&server.client()?, "/v1/tasks", &task)?["id"].clone();
    let mut starts = Vec::new();
    for number in 1..=options.starts {
        progress(format!("start {number} of {}", options.starts));
        let start;
        (start, server) = again(server, &place, &task)?;
        starts.push(start);
    }
    progress(format!("watching it rest for {} s", options.idle.as_secs()));
    let rest = server.rest(options.idle)?;
    server.stop()?;
    let middle = |figure: fn(&Start) -> f64| {
        let values: Vec<f64> = starts.iter().map(figure).collect();
        rounded(median(&values))
    };
    let binary = std::fs::metadata(&place.exe).map_err(BenchError::failed)?;
    Ok(json!({
        "plugins": options.plugins,
        "ready_ms": middle(|start| start.ready),
        "first_start_ms": middle(|start| start.begun),
        "first_end_ms": middle(|start| start.ended),
        "idle_cpu_percent": rounded(rest.cpu_percent),
        "idle_seconds": options.idle.as_secs_f64(),
        "resident_mib": rounded(rest.memory.resident as f64 / MIB),
        "resident_peak_mib": rounded(rest.memory.peak as f64 / MIB),
        "binary_bytes": binary.len(),
        "starts": starts.iter().map(Start::document).collect::<Vec<_>>(),
        "store": "sqlite, synchronous=FULL",
        "optimised": !cfg!(debug_assertions),
    }))
}

/// Milliseconds from the start of the process.
struct Start {
    /// Until it says that it is ready.
    ready: f64,
    /// Until its first run starts, which waited for it.
    begun: f64,
    /// Until that run has ended.
    ended: f64,
}

impl Start {
    fn document(&self) -> Value {
        json!({
            "ready_ms": rounded(self.ready),
            "first_start_ms": rounded(self.begun),
            "first_end_ms": rounded(self.ended),
        })
    }
}

/// Stops a host that has a run to come, and starts it when that is due.
fn again(server: Server, place: &Place, task: &Value) -> Result<(Start, Server), BenchError> {
    let clock = SystemClock::new();
    let due = clock.now() + AHEAD;
    let body = json!({"due_at": due.to_rfc3339()});
    let execution = post::<Value>(
        &server.client()?,
        &format!("/v1/tasks/{task}/trigger"),
        &body,
    )?;
    let execution = execution["task_id"].as_str().unwrap_or_default().to_owned();
    server.stop()?;
    if clock.now() >= due {
        return Err(BenchError::Failed(
            "the host took too long to stop; try again on a quieter machine".to_owned(),
        ));
    }
    while clock.now() < due {
        std::thread::sleep(LOOK);
    }
    let (from, watch) = (clock.now(), Stopwatch::start());
    let mut server = place.start()?;
    server.until_ready()?;
    let ready = watch.elapsed().as_secs_f64() * 1e3;
    let client = server.client()?;
    let shown = server.until("the first run has not ended", || {
        let shown = client.get(&format!("/v1/executions/{execution}"), &Vec::new());
        let shown = shown.and_then(|answer| answer.json()).ok()?;
        (!shown["completed_at"].is_null()).then_some(shown)
    })?;
    if shown["state"] != "succeeded" {
        let why = shown["error_message"].as_str().unwrap_or("no message");
        return Err(BenchError::Refused(format!("the plugin failed: {why}")));
    }
    let after = |key: &str| {
        let at = shown[key]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        let at = at.ok_or_else(|| BenchError::Failed(format!("the run has no {key}")))?;
        let micros = (at - from).num_microseconds().unwrap_or(i64::MAX);
        Ok::<_, BenchError>(micros as f64 / 1e3)
    };
    let start = Start {
        ready,
        begun: after("started_at")?,
        ended: after("completed_at")?,
    };
    Ok((start, server))
}

/// A data directory, which goes afterwards, and the program to start in it.
struct Place {
    directory: TempDir,
    exe: PathBuf,
}

impl Place {
    fn new() -> Result<Self, BenchError> {
        let directory = tempfile::Builder::new().prefix("horarium-bench-").tempdir();
        Ok(Self {
            directory: directory.map_err(BenchError::failed)?,
            exe: std::env::current_exe().map_err(BenchError::failed)?,
        })
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The program with the settings it has by itself, whatever the environment says.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(arguments).arg("--data-dir").arg(self.data());
        let ours = |name: &OsString| name.to_string_lossy().starts_with("HORARIUM");
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    fn start(&self) -> Result<Server, BenchError> {
        let log = self.directory.path().join("log");
        let file = File::create(&log).map_err(BenchError::failed)?;
        // What is there is of a host that has stopped.
        let _ = std::fs::remove_file(self.data().join("server.json"));
        let child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(BenchError::failed)?;
        Ok(Server {
            child,
            data: self.data(),
            log,
        })
    }

    fn register(&self, name: &str, component: &[u8]) -> Result<(), BenchError> {
        let file = self.directory.path().join("plugin.wasm");
        std::fs::write(&file, component).map_err(BenchError::failed)?;
        let path = file.display().to_string();
        let output = self
            .command(&["plugin", "register", name, &path, "--json"])
            .output()
            .map_err(BenchError::failed)?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        Err(BenchError::Refused(format!("the plugin: {}", told.trim())))
    }
}

/// A running server; killed when dropped.
struct Server {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Server {
    fn client(&self) -> Result<Client, BenchError> {
        let read =
            |name: &str| std::fs::read_to_string(self.data.join(name)).map_err(BenchError::failed);
        let known: Value =
            serde_json::from_str(&read("server.json")?).map_err(BenchError::failed)?;
        let address = Address {
            url: known["url"].as_str().unwrap_or_default().to_owned(),
            token: Some(read("admin-token")?.trim().to_owned()),
            source: "bench".to_owned(),
            tls: Default::default(),
        };
        Ok(Client::new(address, None))
    }

    fn until_ready(&mut self) -> Result<(), BenchError> {
        let file = self.data.join("server.json");
        self.until("the host does not start", || file.exists().then_some(()))?;
        let client = self.client()?;
        self.until("the host is not ready", || {
            client.get("/readyz", &Vec::new()).ok().map(|_| ())
        })
    }

    /// Waits for an answer, as long as the process lives.
    fn until<T>(
        &mut self,
        otherwise: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, BenchError> {
        let watch = Stopwatch::start();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let ended = self.child.try_wait().map_err(BenchError::failed)?;
            if ended.is_some() || watch.elapsed() > PATIENCE {
                let told = last_line(&self.log);
                return Err(BenchError::Failed(format!("{otherwise}: {told}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Lets it come to rest, and watches it.
    fn rest(&self, span: Duration) -> Result<Rest, BenchError> {
        std::thread::sleep(SETTLE);
        let pid = self.child.id();
        let (before, watch) = (process::cpu_time_of(pid)?, Stopwatch::start());
        std::thread::sleep(span);
        let used = process::cpu_time_of(pid)?.saturating_sub(before);
        Ok(Rest {
            cpu_percent: 100.0 * used.as_secs_f64() / watch.elapsed().as_secs_f64(),
            memory: Memory::of(pid)?,
        })
    }

    fn stop(mut self) -> Result<(), BenchError> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).map_err(BenchError::failed)?;
        let watch = Stopwatch::start();
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(BenchError::failed)? {
                break status;
            }
            // Then it is killed, as everything that is dropped here.
            if watch.elapsed() > PATIENCE {
                return Err(BenchError::Failed("the host does not stop".to_owned()));
            }
            std::thread::sleep(LOOK);
        };
        match status.success() {
            true => Ok(()),
            false => Err(BenchError::Failed(format!(
                "the host did not stop in order ({status}): {}",
                last_line(&self.log)
            ))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was stopped is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host at rest.
struct Rest {
    /// Of one core.
    cpu_percent: f64,
    memory: Memory,
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it says nothing").to_owned()
}

/// The component with a custom section of its own: it does the same and is another plugin.
fn variant(component: &[u8], number: usize) -> Vec<u8> {
    let text = format!("{number:08}");
    let mut bytes = component.to_vec();
    let name = b"bench";
    let size = 1 + name.len() + text.len();
    // Below 128 each, so a byte is their LEB128.
    bytes.extend([0, size as u8, name.len() as u8]);
    bytes.extend(name);
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_components_that_differ_in_a_section_nobody_reads() {
        let all: Vec<Vec<u8>> = (0..3).map(|n| variant(crate::bench::HELLO, n)).collect();
        assert!(all[0] != all[1] && all[1] != all[2]);
        for bytes in &all {
            let sections = wasmparser::Parser::new(0).parse_all(bytes);
            let last = sections.filter_map(|payload| match payload.expect("a component") {
                wasmparser::Payload::CustomSection(section) => Some(section.name().to_owned()),
                _ => None,
            });
            assert_eq!(last.last().as_deref(), Some("bench"));
        }
    }
}
