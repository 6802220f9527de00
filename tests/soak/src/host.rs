//! One host: the real binary with a directory of its own, behind a link of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Build;
use crate::database::Database;

/// How long a host may take to answer after its start, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// What a host is started with.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) binary: PathBuf,
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    pub(crate) database_url: String,
    pub(crate) slots: u32,
    /// `HORARIUM__…` variables.
    pub(crate) settings: Vec<(String, String)>,
}

/// A host that can be killed, stopped and started again.
#[derive(Debug)]
pub(crate) struct Host {
    member: Member,
    agent: ureq::Agent,
    process: Mutex<Process>,
}

#[derive(Debug, Default)]
struct Process {
    child: Option<Child>,
    /// Where it answers, and with which token; none until it was ready.
    known: Option<(String, String)>,
    /// Stale completions of processes that are gone, and of this one when last asked.
    stale_before: u64,
    stale_now: u64,
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(child) = &mut self.process().child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Host {
    pub(crate) fn new(member: Member) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST))
            .build();
        Self {
            member,
            agent: agent.into(),
            process: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.member.name
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data_dir(&self) -> PathBuf {
        self.member.directory.join("data")
    }

    /// Starts it; it is not ready yet.
    pub(crate) fn spawn(&self) -> Result<()> {
        let data = self.data_dir();
        std::fs::create_dir_all(&self.member.directory)?;
        // One that was killed leaves its file.
        let _ = std::fs::remove_file(data.join("server.json"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.member.directory.join("log"))?;
        let mut command = Command::new(&self.member.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HORARIUM_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .args(["--database-url", &self.member.database_url])
            .args(["--slots", &self.member.slots.to_string()])
            .env("HORARIUM__HOST__NAME", &self.member.name)
            .env("HORARIUM__DATABASE__MIGRATE", "true")
            .env("NO_COLOR", "1")
            .envs(self.member.settings.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", self.member.binary.display()))?;
        let mut process = self.process();
        process.stale_before += std::mem::take(&mut process.stale_now);
        process.known = None;
        process.child = Some(child);
        Ok(())
    }

    /// Waits until it answers that it is ready.
    pub(crate) fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.is_ready() {
            if begun.elapsed() > PATIENCE {
                bail!("{} is not ready:\n{}", self.name(), self.last_words());
            }
            self.check_alive()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.learn().is_some() && self.get("/readyz").is_ok()
    }

    /// Reads where it answers.
    fn learn(&self) -> Option<(String, String)> {
        let mut process = self.process();
        if process.known.is_none() {
            let data = self.data_dir();
            let told = std::fs::read(data.join("server.json")).ok()?;
            let told: Value = serde_json::from_slice(&told).ok()?;
            let token = std::fs::read_to_string(data.join("admin-token")).ok()?;
            let url = told["url"].as_str()?.to_owned();
            process.known = Some((url, token.trim().to_owned()));
        }
        process.known.clone()
    }

    /// Fails when it ended by itself.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let ended = match &mut self.process().child {
            Some(child) => child.try_wait()?,
            None => None,
        };
        match ended {
            Some(status) => bail!(
                "{} ended by itself ({status}):\n{}",
                self.name(),
                self.last_words()
            ),
            None => Ok(()),
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.member.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process();
        let child = process.child.as_ref().context("no process")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to {}", self.member.name))
    }

    /// `kill -9`; when that was.
    pub(crate) fn kill(&self) -> Result<Instant> {
        self.end(Signal::SIGKILL)
    }

    /// SIGTERM, and the wait for its end; when the signal was sent.
    pub(crate) fn stop(&self) -> Result<Instant> {
        self.end(Signal::SIGTERM)
    }

    fn end(&self, signal: Signal) -> Result<Instant> {
        // Asks it, which may take its time.
        self.count_stale();
        let sent = Instant::now();
        self.signal(signal)?;
        self.reap()?;
        Ok(sent)
    }

    fn reap(&self) -> Result<()> {
        let child = self.process().child.take();
        if let Some(mut child) = child {
            child.wait()?;
        }
        Ok(())
    }

    /// How many late ends were refused by its processes so far; asks the living one if it answers.
    pub(crate) fn count_stale(&self) -> u64 {
        let counted = self.get("/metrics").ok().and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("horarium_stale_completions_total"))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        });
        let mut process = self.process();
        if let Some(counted) = counted {
            process.stale_now = counted as u64;
        }
        process.stale_before + process.stale_now
    }

    /// The CPU time its process has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let id = self.process().child.as_ref().context("no process")?.id();
        cpu_seconds(id)
    }

    /// GET; the body of a good answer.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.send("GET", path, "")
    }

    /// POST of JSON; the body of a good answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send("POST", path, &body.to_string())?;
        serde_json::from_str(&answer).with_context(|| format!("no JSON from {path}: {answer}"))
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let (url, token) = self.learn().context("it is not ready")?;
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{url}{path}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body.to_owned())?;
        let mut answer = self.agent.run(request)?;
        let text = answer.body_mut().read_to_string()?;
        if !answer.status().is_success() {
            bail!("{method} {path}: {} {text}", answer.status());
        }
        Ok(text)
    }

    /// Runs a verb of the command line against it; what it prints as JSON.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(&self.member.binary)
            .args(arguments)
            .args(["--json", "--data-dir"])
            .arg(self.data_dir())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("horarium {}: {complaint}", arguments.join(" "));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Registers a component.
    pub(crate) fn register(&self, task_type: &str, component: &Path) -> Result<()> {
        let file = component.to_str().context("an odd path")?;
        self.cli(&["plugin", "register", task_type, file])?;
        Ok(())
    }
}

/// Starts `count` hosts that reach the database directly, and waits until all are ready.
pub(crate) fn start_many(
    build: &Build,
    directory: &Path,
    database: &Database,
    count: usize,
    slots: u32,
    settings: &[(&str, &str)],
) -> Result<Vec<Host>> {
    let member = |number: usize| {
        let name = format!("host-{number}");
        Host::new(Member {
            binary: build.binary.clone(),
            directory: directory.join(&name),
            name,
            database_url: database.url(),
            slots,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        })
    };
    let hosts: Vec<Host> = (0..count).map(member).collect();
    for host in &hosts {
        host.spawn()?;
    }
    for host in &hosts {
        host.ready()?;
    }
    Ok(hosts)
}

/// Waits until as many hosts are alive and each has loaded these types.
pub(crate) fn all_loaded(host: &Host, hosts: usize, types: &[&str]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let list: Value = serde_json::from_str(&host.get("/v1/hosts")?)?;
        let list = list["items"].as_array().context("no list of hosts")?;
        let has = |one: &&Value, name: &str| {
            let loaded = one["loaded"].as_array();
            loaded.is_some_and(|loaded| loaded.iter().any(|known| known == name))
        };
        let ready = list
            .iter()
            .filter(|one| types.iter().all(|name| has(one, name)));
        if ready.count() >= hosts {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "not every host has loaded {}: {list:#?}",
                types.join(" and ")
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The CPU time of a process, in seconds.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may contain blanks.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(11).context("utime")?, ticks(12).context("stime")?);
    Ok((user + system) / 100.0)
}
