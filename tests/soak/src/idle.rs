//! Idle: hosts with many tasks of which none is due. All together they may send one statement a second besides
//! their heartbeats.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::database::Database;
use crate::host::{Host, start_many};
use crate::{Build, Say};

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is tested.
    pub build: Build,
    /// How long statements are counted.
    pub span: Duration,
    /// Tasks, none of them due.
    pub configs: u32,
    /// Task types.
    pub types: u32,
}

/// Hosts.
const HOSTS: usize = 4;
/// Statements a second of all hosts together, heartbeats aside.
const ALLOWED: f64 = 1.0;
/// CPU time of a host, as a share of one core.
const ALLOWED_CPU: f64 = 0.05;
/// Until what the start brings is done.
const SETTLE: Duration = Duration::from_secs(12);
/// What a heartbeat looks like.
const HEARTBEAT: &str = "query LIKE '%UPDATE hosts SET seen_at%'";
/// Statements of this test itself.
const OWN: &str = "query LIKE '%to_jsonb(q)%' OR query LIKE '%pg_stat_statements%'";

/// Somebody wants alerts, of which there are none.
const WATCHED: &[(&str, &str)] = &[
    ("HORARIUM__ALERTS__URL", "https://alerts.example/"),
    ("HORARIUM__ALERTS__SECRET", "a secret that signs no alert"),
];

/// The outcome.
#[derive(Debug)]
pub struct Report {
    heartbeats_per_second: f64,
    others_per_second: f64,
    /// Share of one core, of each host.
    cpu: Vec<f64>,
    /// What was sent besides heartbeats, and how often.
    statements: Vec<(String, u64)>,
}

/// Runs it.
///
/// # Errors
/// When the servers do not start or stop answering.
pub fn run(options: &Options, say: Say<'_>) -> Result<Report> {
    let directory = tempfile::Builder::new()
        .prefix("horarium-idle-")
        .tempdir()?;
    say(&format!(
        "starting {HOSTS} hosts with {} tasks of {} types",
        options.configs, options.types
    ));
    let database = Database::start("-c shared_preload_libraries=pg_stat_statements")?;
    let hosts = start_many(
        &options.build,
        directory.path(),
        &database,
        HOSTS,
        16,
        WATCHED,
    )?;
    fill(&database, &hosts[0], options)?;
    database.run("CREATE EXTENSION pg_stat_statements");
    std::thread::sleep(SETTLE);
    say(&format!("counting for {} s", options.span.as_secs()));
    count(&database, &hosts, options.span)
}

/// One type and one task by the front door, the others as copies.
fn fill(database: &Database, host: &Host, options: &Options) -> Result<()> {
    host.register("hello", &options.build.plugin("hello")?)?;
    // Due once a year, on the leap day's eve: not while this runs.
    let made = host.post(
        "/v1/tasks",
        &json!({
            "name": "seldom", "task_type": "hello", "scheduler_type": "cron",
            "schedule_config": {"cron_expression": "0 12 28 2 *"},
        }),
    )?;
    let config = made["id"].as_i64().context("a task without an id")?;
    database.copy_config(config, options.configs.saturating_sub(1))?;
    let types = options.types;
    for table in ["task_types", "plugin_versions"] {
        let columns = database.columns(table, "id task_type")?;
        database.run(&format!(
            "INSERT INTO {table} (task_type, {columns}) SELECT 'hello' || n, {columns} \
             FROM {table}, generate_series(1, {types} - 1) n WHERE task_type = 'hello'"
        ));
    }
    database.run(&format!(
        "UPDATE task_configs SET task_type = 'hello' || id % {types} WHERE id % {types} > 0; \
         UPDATE meta SET value = value + 1 WHERE key = 'catalog_epoch'"
    ));
    // The heartbeat brings the news of it.
    crate::host::all_loaded(
        host,
        HOSTS,
        &["hello", &format!("hello{}", types.saturating_sub(1).max(1))],
    )
}

fn count(database: &Database, hosts: &[Host], span: Duration) -> Result<Report> {
    let cpu = || {
        hosts
            .iter()
            .map(Host::cpu_seconds)
            .collect::<Result<Vec<f64>>>()
    };
    let before = cpu()?;
    database.rows("SELECT pg_stat_statements_reset()::text")?;
    let begun = Instant::now();
    while begun.elapsed() < span {
        if crate::is_interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let rows = database.rows(&format!(
        "SELECT query, calls, {HEARTBEAT} AS heartbeat FROM pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND NOT ({OWN}) \
         ORDER BY calls DESC"
    ))?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = cpu()?;
    let (mut heartbeats, mut others) = (0, 0);
    let mut statements = Vec::new();
    for row in &rows {
        let calls = row["calls"].as_u64().unwrap_or(0);
        if row["heartbeat"] == true {
            heartbeats += calls;
        } else {
            others += calls;
            let query = row["query"].as_str().unwrap_or_default();
            statements.push((query.chars().take(100).collect(), calls));
        }
    }
    Ok(Report {
        heartbeats_per_second: heartbeats as f64 / seconds,
        others_per_second: others as f64 / seconds,
        cpu: before
            .iter()
            .zip(after)
            .map(|(before, after)| (after - before) / seconds)
            .collect(),
        statements,
    })
}

impl Report {
    /// Whether they left the database alone, and did little themselves.
    pub fn holds(&self) -> bool {
        self.wrong().is_empty()
    }

    /// What was too much.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.heartbeats_per_second <= 0.0 {
            wrong.push("no heartbeat was seen: the count is worth nothing".to_owned());
        }
        if self.others_per_second > ALLOWED {
            wrong.push(format!(
                "{:.2} statements a second besides heartbeats: {:#?}",
                self.others_per_second, self.statements
            ));
        }
        let busiest = self.cpu.iter().copied().fold(0.0, f64::max);
        if busiest > ALLOWED_CPU {
            wrong.push(format!(
                "an idle host used {:.1} % of a core",
                busiest * 100.0
            ));
        }
        wrong
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let statements: Vec<Value> = self
            .statements
            .iter()
            .map(|(query, calls)| json!({"query": query, "calls": calls}))
            .collect();
        json!({
            "holds": self.holds(),
            "heartbeats_per_second": self.heartbeats_per_second,
            "others_per_second": self.others_per_second,
            "cpu": self.cpu,
            "statements": statements,
        })
    }

    /// As a table.
    pub fn table(&self) -> String {
        let cpu: Vec<String> = self
            .cpu
            .iter()
            .map(|share| format!("{:.2} %", share * 100.0))
            .collect();
        let mut text = format!(
            "heartbeats  {:.2} a second\nother       {:.2} a second\nCPU         {} of a core\n",
            self.heartbeats_per_second,
            self.others_per_second,
            cpu.join(", ")
        );
        for (query, calls) in &self.statements {
            text.push_str(&format!("{calls:>8}  {query}\n"));
        }
        for wrong in self.wrong() {
            text.push_str(&format!("WRONG  {wrong}\n"));
        }
        text
    }
}
