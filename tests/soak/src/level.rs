//! Level: half of what a database carries, for long. Dead rows, sizes and the time until a start must come to rest.

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
    /// How long there is load.
    pub span: Duration,
    /// Executions a second; none = half of what a short drain reaches.
    pub rate: Option<u32>,
}

/// Hosts, and executions at once on each.
const HOSTS: usize = 2;
const SLOTS: u32 = 128;
/// Looks at the database in a run.
const LOOKS: u32 = 24;
/// Executions drained to learn the speed.
const DRAIN: &str = "5000";
/// As a server of its own would be: what is committed is on the disk. Statements are counted.
const SERVER: &str =
    "-c fsync=on -c full_page_writes=on -c shared_preload_libraries=pg_stat_statements";
/// Of the tables that live by being rewritten; history only grows.
const TABLES: &str =
    "('live_executions', 'live_parameters', 'task_schedules', 'run_keys', 'hosts')";
/// Dead rows that an execution leaves which a schedule fires, and seconds between two rounds of autovacuum.
const DEAD_EACH: f64 = 3.0;
const NAPTIME: f64 = 60.0;
/// How much of the load must have been carried.
const CARRIED: f64 = 0.95;

/// One look.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: f64,
    /// Executions that ended since the look before, a second.
    ended_per_second: f64,
    dead: u64,
    table_bytes: u64,
    history_bytes: u64,
    /// From due to started, of those that ended since the look before.
    start_p50_ms: f64,
    start_p99_ms: f64,
    /// The claiming statement since the look before.
    claim_mean_ms: f64,
    claim_max_ms: f64,
}

/// The outcome.
#[derive(Debug)]
pub struct Report {
    rate: u32,
    samples: Vec<Sample>,
    wrong: Vec<String>,
}

/// Runs it and judges.
///
/// # Errors
/// When the servers do not start or stop answering.
pub fn run(options: &Options, say: Say<'_>) -> Result<Report> {
    let directory = tempfile::Builder::new()
        .prefix("horarium-level-")
        .tempdir()?;
    let database = Database::start(SERVER)?;
    let rate = match options.rate {
        Some(rate) => rate,
        None => {
            say("measuring what this machine drains");
            half_of_a_drain(&options.build, &database)?
        }
    };
    let hosts = start_many(
        &options.build,
        directory.path(),
        &database,
        HOSTS,
        SLOTS,
        &[],
    )?;
    database.run("CREATE EXTENSION pg_stat_statements");
    load(&database, &hosts[0], &options.build, rate)?;
    say(&format!(
        "{rate} executions a second for {} s",
        options.span.as_secs()
    ));
    let samples = watch(&database, &hosts, options.span, say)?;
    let wrong = judge(&samples, f64::from(rate));
    Ok(Report {
        rate,
        samples,
        wrong,
    })
}

fn half_of_a_drain(build: &Build, database: &Database) -> Result<u32> {
    let output = std::process::Command::new(&build.binary)
        .args(["bench", "drain", "--runs", "1", "--json", "--tasks", DRAIN])
        .args(["--database-url", &database.url()])
        .output()?;
    if !output.status.success() {
        bail!("bench drain: {}", String::from_utf8_lossy(&output.stderr));
    }
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let drained = figures["drain_per_second"].as_f64().context("no figure")?;
    Ok((drained / 2.0).max(1.0) as u32)
}

/// As many tasks as executions a second are wanted, each with a slot every second.
fn load(database: &Database, host: &Host, build: &Build, rate: u32) -> Result<()> {
    host.register("hello", &build.plugin("hello")?)?;
    crate::host::all_loaded(host, HOSTS, &["hello"])?;
    let made = host.post(
        "/v1/tasks",
        &json!({
            "name": "each second", "task_type": "hello", "scheduler_type": "cron", "overlap": "allow",
            "schedule_config": {"cron_expression": "* * * * * *"},
        }),
    )?;
    let config = made["id"].as_i64().context("a task without an id")?;
    database.copy_config(config, rate.saturating_sub(1))
}

fn watch(database: &Database, hosts: &[Host], span: Duration, say: Say<'_>) -> Result<Vec<Sample>> {
    let begun = Instant::now();
    let pause = span / LOOKS;
    let mut samples: Vec<Sample> = Vec::new();
    let mut before = Mark::now(database)?;
    database.rows("SELECT pg_stat_statements_reset()::text")?;
    for number in 1..=LOOKS {
        while begun.elapsed() < pause * number {
            if crate::is_interrupted() {
                bail!("interrupted");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for host in hosts {
            host.check_alive()?;
        }
        let mark = Mark::now(database)?;
        let mut sample = look(database, &before, &mark)?;
        sample.at = begun.elapsed().as_secs_f64();
        before = mark;
        database.rows("SELECT pg_stat_statements_reset()::text")?;
        say(&sample.line());
        samples.push(sample);
    }
    Ok(samples)
}

/// How far the database was at a look.
struct Mark {
    at_micros: i64,
    last_id: i64,
}

impl Mark {
    fn now(database: &Database) -> Result<Self> {
        let row = database
            .row("SELECT database_now() AS now, (SELECT last_value FROM execution_ids) AS id")?;
        Ok(Self {
            at_micros: row["now"].as_i64().context("now")?,
            last_id: row["id"].as_i64().context("id")?,
        })
    }
}

fn look(database: &Database, before: &Mark, now: &Mark) -> Result<Sample> {
    let tables = database.row(&format!(
        "SELECT sum(n_dead_tup) AS dead, sum(pg_total_relation_size(relid)) AS bytes, \
            (SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables \
                WHERE relname LIKE 'task_executions%') AS history \
         FROM pg_stat_user_tables WHERE relname IN {TABLES}"
    ))?;
    let starts = database.row(&format!(
        "SELECT count(*) AS ended, \
            coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY started_at - due_at), 0) / 1000 AS p50, \
            coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY started_at - due_at), 0) / 1000 AS p99 \
         FROM task_executions WHERE tenant_id = 1 AND id > {} AND id <= {}",
        before.last_id, now.last_id
    ))?;
    let claims = database.row(
        "SELECT coalesce(sum(total_exec_time) / nullif(sum(calls), 0), 0) AS mean, \
            coalesce(max(max_exec_time), 0) AS max FROM pg_stat_statements \
         WHERE query LIKE '%queue_key%' AND query LIKE '%SKIP LOCKED%'",
    )?;
    let seconds = (now.at_micros - before.at_micros) as f64 / 1e6;
    let float = |row: &Value, key: &str| row[key].as_f64().unwrap_or(0.0);
    let count = |row: &Value, key: &str| float(row, key) as u64;
    Ok(Sample {
        at: 0.0,
        ended_per_second: float(&starts, "ended") / seconds.max(1e-3),
        dead: count(&tables, "dead"),
        table_bytes: count(&tables, "bytes"),
        history_bytes: count(&tables, "history"),
        start_p50_ms: float(&starts, "p50"),
        start_p99_ms: float(&starts, "p99"),
        claim_mean_ms: float(&claims, "mean"),
        claim_max_ms: float(&claims, "max"),
    })
}

/// Holds the last third against the middle one; the first is for warming up.
fn judge(samples: &[Sample], rate: f64) -> Vec<String> {
    let third = samples.len() / 3;
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let mut wrong = Vec::new();
    let mut level = |what: &str, figure: fn(&Sample) -> f64, times: f64, slack: f64| {
        let highest = |part: &[Sample]| part.iter().map(figure).fold(0.0, f64::max);
        let (was, is) = (highest(middle), highest(last));
        if is > was * times + slack {
            wrong.push(format!("{what} grew from {was:.1} to {is:.1}"));
        }
    };
    // Dead rows go up and down with autovacuum's minute, in which looks may meet them anywhere.
    level(
        "dead rows",
        |s| s.dead as f64,
        1.3,
        rate * DEAD_EACH * NAPTIME / 4.0,
    );
    level(
        "bytes of the working tables",
        |s| s.table_bytes as f64,
        1.25,
        4e6,
    );
    let mut settled = |what: &str, figure: fn(&Sample) -> f64, slack: f64| {
        let median = |part: &[Sample]| {
            let mut figures: Vec<f64> = part.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or(0.0)
        };
        let (was, is) = (median(middle), median(last));
        if is > was * 1.4 + slack {
            wrong.push(format!("{what} grew from {was:.2} to {is:.2} ms"));
        }
    };
    settled("the p99 from due to started", |s| s.start_p99_ms, 10.0);
    settled(
        "the mean of the claiming statement",
        |s| s.claim_mean_ms,
        1.0,
    );
    let carried = last.iter().map(|s| s.ended_per_second).sum::<f64>() / last.len().max(1) as f64;
    if carried < rate * CARRIED {
        wrong.push(format!(
            "only {carried:.0} of {rate:.0} executions a second were carried"
        ));
    }
    wrong
}

const MIB: f64 = 1024.0 * 1024.0;

impl Sample {
    fn line(&self) -> String {
        format!(
            "{:>6.0} s  {:>7.0} /s  {:>9} dead  {:>8.1} MiB tables  {:>8.1} MiB history  start p50 {:>7.1} p99 {:>7.1} ms  claim mean {:>6.2} max {:>7.1} ms",
            self.at,
            self.ended_per_second,
            self.dead,
            self.table_bytes as f64 / MIB,
            self.history_bytes as f64 / MIB,
            self.start_p50_ms,
            self.start_p99_ms,
            self.claim_mean_ms,
            self.claim_max_ms
        )
    }

    fn json(&self) -> Value {
        json!({
            "at_seconds": self.at,
            "ended_per_second": self.ended_per_second,
            "dead_rows": self.dead,
            "table_bytes": self.table_bytes,
            "history_bytes": self.history_bytes,
            "start_ms": {"p50": self.start_p50_ms, "p99": self.start_p99_ms},
            "claim_ms": {"mean": self.claim_mean_ms, "max": self.claim_max_ms},
        })
    }
}

impl Report {
    /// Whether everything came to rest.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let samples: Vec<Value> = self.samples.iter().map(Sample::json).collect();
        json!({
            "holds": self.holds(),
            "rate_per_second": self.rate,
            "samples": samples,
            "wrong": self.wrong,
        })
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut lines: Vec<String> = self.samples.iter().map(Sample::line).collect();
        lines.push(String::new());
        match self.holds() {
            true => lines.push(format!(
                "holds  {} executions a second: tables, dead rows and claims are level",
                self.rate
            )),
            false => lines.extend(self.wrong.iter().map(|wrong| format!("WRONG  {wrong}"))),
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(change: fn(usize, &mut Sample)) -> Vec<Sample> {
        let one = |number| {
            let mut sample = Sample {
                ended_per_second: 100.0,
                dead: 40_000,
                table_bytes: 10_000_000,
                start_p99_ms: 50.0,
                claim_mean_ms: 2.0,
                ..Sample::default()
            };
            change(number, &mut sample);
            sample
        };
        (0..24).map(one).collect()
    }

    #[test]
    fn what_grows_is_found() {
        assert_eq!(judge(&samples(|_, _| {}), 100.0), [""; 0]);
        let growing: [fn(usize, &mut Sample); 5] = [
            |n, s| s.dead += n as u64 * 10_000,
            |n, s| s.table_bytes += n as u64 * 2_000_000,
            |n, s| s.start_p99_ms += n as f64 * 20.0,
            |n, s| s.claim_mean_ms += n as f64,
            |n, s| s.ended_per_second -= n as f64,
        ];
        for grows in growing {
            let wrong = judge(&samples(grows), 100.0);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
        }
    }
}
