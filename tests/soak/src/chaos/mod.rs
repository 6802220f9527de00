//! Chaos: hosts on one database, worked hard while they are killed, stopped, cut off and replaced, and while the
//! database restarts. At the end everything must have ended exactly once.

mod checks;
mod live;
mod load;
mod plan;
mod report;

pub use report::Report;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::database::Database;
use crate::host::{Host, Member};
use crate::link::Link;
use crate::{Build, Say};
use live::Told;
use load::{Answers, Tasks};

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is tested.
    pub build: Build,
    /// Makes the troubles repeatable.
    pub seed: u64,
    /// How long there is load and trouble.
    pub span: Duration,
    /// Executions triggered in that time.
    pub executions: u64,
    /// Slots of all schedules together.
    pub slots_per_minute: u64,
    /// Hosts.
    pub hosts: usize,
    /// Executions at once on each host.
    pub slots: u32,
}

/// How far ahead the first host's clock is.
const CLOCK_AHEAD_SECONDS: u32 = 60;
/// How long everything may take to end when the trouble is over.
const PATIENCE: Duration = Duration::from_secs(180);
/// Hosts come to rest before the schedules are stopped.
const CALM: Duration = Duration::from_secs(3);

/// One host with its way to the database.
pub(super) struct Seat {
    pub(super) host: Host,
    pub(super) link: Link,
    there: AtomicBool,
}

impl Seat {
    /// Whether clients should find it.
    pub(super) fn is_there(&self) -> bool {
        self.there.load(Ordering::Acquire)
    }

    pub(super) fn set_there(&self, there: bool) {
        self.there.store(there, Ordering::Release);
    }
}

/// Everything of one run.
pub(super) struct Stage {
    pub(super) database: Database,
    pub(super) hosts: Vec<Seat>,
    begun: Mutex<Instant>,
    over: AtomicBool,
}

impl Stage {
    pub(super) fn elapsed(&self) -> Duration {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.elapsed()
    }

    fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Something failed for good: whoever waits gives up.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || crate::is_interrupted()
    }

    /// Waits until so long after the beginning, or until it is over.
    pub(super) fn wait_until(&self, at: Duration) {
        while !self.is_over() {
            let left = at.saturating_sub(self.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }
}

/// Runs it and judges. An error means that it could not be carried out; what went wrong is in the report.
///
/// # Errors
/// When the servers do not start or stop answering for good.
pub fn run(options: &Options, say: Say<'_>) -> Result<Report> {
    let directory = tempfile::Builder::new()
        .prefix("horarium-chaos-")
        .tempdir()?;
    say(&format!(
        "seed {}; starting PostgreSQL and {} hosts",
        options.seed, options.hosts
    ));
    let stage = stage(options, directory.path().to_path_buf())?;
    let tasks = prepare(&stage, options)?;
    let planned = plan::plan(options.seed, options.span, options.hosts);
    let answers = Answers::default();
    say(&format!(
        "{} executions and {} slots a minute over {} s; {} troubles",
        options.executions,
        options.slots_per_minute,
        options.span.as_secs(),
        planned.len()
    ));
    stage.begin();
    let told = suffer(&stage, options, &planned, &tasks, &answers, say);
    let told = match told {
        Ok(told) => told,
        Err(error) => return Err(stage.explain(error)),
    };
    let paused_at = settle(&stage, &tasks, say).map_err(|error| stage.explain(error))?;
    let lived = stage.elapsed();
    let stale = stage.hosts.iter().map(|seat| seat.host.count_stale()).sum();
    let facts = checks::Facts {
        tasks: &tasks,
        answers: &answers,
        paused_at,
        told: &told,
        stale,
    };
    let found = checks::check(&stage.database, &facts)?;
    Ok(Report::new(options, lived, told, found))
}

impl Stage {
    /// An error with the last words of the hosts.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let words: Vec<String> = self
            .hosts
            .iter()
            .map(|seat| format!("--- {}\n{}", seat.host.name(), seat.host.last_words()))
            .collect();
        error.context(words.join("\n"))
    }
}

fn stage(options: &Options, directory: PathBuf) -> Result<Stage> {
    let database = Database::start("")?;
    let mut hosts = Vec::new();
    for number in 0..options.hosts {
        let name = format!("host-{number}");
        let link = Link::start(database.runtime(), database.cluster().socket_file())?;
        let mut settings = Vec::new();
        if number == 0 {
            let ahead = CLOCK_AHEAD_SECONDS.to_string();
            settings.push(("HORARIUM__HOST__CLOCK_AHEAD_SECONDS".to_owned(), ahead));
        }
        let url = format!(
            "postgres://postgres:secret@{}/{}?sslmode=disable",
            link.address(),
            database.name()
        );
        let member = Member {
            binary: options.build.binary.clone(),
            directory: directory.join(&name),
            name,
            database_url: url,
            slots: options.slots,
            settings,
        };
        hosts.push(Seat {
            host: Host::new(member),
            link,
            there: AtomicBool::new(true),
        });
    }
    Ok(Stage {
        database,
        hosts,
        begun: Mutex::new(Instant::now()),
        over: AtomicBool::new(false),
    })
}

/// Starts the hosts and gives them their tasks.
fn prepare(stage: &Stage, options: &Options) -> Result<Tasks> {
    for seat in &stage.hosts {
        seat.host.spawn()?;
    }
    for seat in &stage.hosts {
        seat.host.ready()?;
    }
    let first = &stage.hosts[0].host;
    first.register("hello", &options.build.plugin("hello")?)?;
    first.register("sleep", &options.build.plugin("hostile/sleep")?)?;
    crate::host::all_loaded(first, options.hosts, &["hello", "sleep"])?;
    load::create(stage, options.slots_per_minute)
}

/// The load and the trouble, side by side.
fn suffer(
    stage: &Stage,
    options: &Options,
    planned: &[plan::Episode],
    tasks: &Tasks,
    answers: &Answers,
    say: Say<'_>,
) -> Result<Vec<Told>> {
    std::thread::scope(|scope| {
        let load =
            scope.spawn(|| load::trigger(stage, tasks, answers, options.executions, options.span));
        let troubles: Vec<_> = planned
            .iter()
            .map(|episode| {
                scope.spawn(move || {
                    let told = live::live(stage, episode);
                    if told.is_err() {
                        stage.over.store(true, Ordering::Release);
                    }
                    told
                })
            })
            .collect();
        let mut said = Duration::ZERO;
        while !load.is_finished() || troubles.iter().any(|trouble| !trouble.is_finished()) {
            std::thread::sleep(Duration::from_millis(250));
            if stage.elapsed().saturating_sub(said) >= Duration::from_secs(5) {
                said = stage.elapsed();
                say(&progress(stage, planned, answers));
            }
        }
        let mut told = Vec::new();
        for trouble in troubles {
            match trouble.join() {
                Ok(one) => told.push(one?),
                Err(_) => bail!("a thread panicked"),
            }
        }
        if crate::is_interrupted() {
            bail!("interrupted");
        }
        Ok(told)
    })
}

fn progress(stage: &Stage, planned: &[plan::Episode], answers: &Answers) -> String {
    let now = stage.elapsed();
    let troubles: Vec<String> = planned
        .iter()
        .filter(|e| e.from <= now && now < e.until)
        .map(|e| match e.host {
            Some(host) => format!("host-{host} {}", e.kind.name()),
            None => e.kind.name().to_owned(),
        })
        .collect();
    let counts = "SELECT (SELECT count(*) FROM task_executions) AS ended, \
        (SELECT count(*) FROM live_executions WHERE state = 'running') AS running, \
        (SELECT count(*) FROM live_executions WHERE state <> 'running') AS waiting";
    let counts = match stage.database.row(counts) {
        Ok(row) => format!(
            "{} ended, {} run, {} wait",
            row["ended"], row["running"], row["waiting"]
        ),
        Err(_) => "the database is away".to_owned(),
    };
    let acknowledged = answers.acknowledged.lock().map_or(0, |all| all.len());
    let troubles = match troubles.is_empty() {
        true => String::new(),
        false => format!("; {}", troubles.join(", ")),
    };
    format!(
        "{:>4} s: {acknowledged} triggered, {counts}{troubles}",
        now.as_secs()
    )
}

/// Ends the trouble: everything comes back, the schedules stop, what lives ends. Returns when the schedules
/// stopped, by the database's clock in microseconds.
fn settle(stage: &Stage, tasks: &Tasks, say: Say<'_>) -> Result<i64> {
    say("the trouble is over; what lives comes to its end");
    for seat in &stage.hosts {
        seat.host.ready()?;
    }
    std::thread::sleep(CALM);
    let now = stage.database.row("SELECT database_now() AS now")?;
    let now = now["now"].as_i64().context("no instant")?;
    load::pause(stage, tasks)?;
    let begun = Instant::now();
    loop {
        let row = stage
            .database
            .row("SELECT count(*) AS live FROM live_executions")?;
        if row["live"] == 0 {
            return Ok(now);
        }
        if begun.elapsed() > PATIENCE {
            // The checks tell what is left.
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
