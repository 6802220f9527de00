//! Prune: what claims and pages of the history cost with a million ended executions, and while those are removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use horarium_core::caretaker::{Caretaker, PrunePlan};
use horarium_core::clock::{Clock, SystemClock};
use horarium_core::store::conformance::completion;
use horarium_core::store::{
    ClaimRequest, End, Enqueue, Enqueued, ExecutionFilter, NewExecution, Page, Store,
};
use horarium_model::execution::{LogLevel, LogLine, LogSource, State};
use horarium_model::retention::Retention;
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, TaskId, TaskSpec, Timestamp};
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Say, is_interrupted};

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Ended executions.
    pub rows: u64,
    /// How long is measured before anything is removed, and at most while it is.
    pub span: Duration,
}

/// Executions made at once.
const BATCH: u64 = 1000;
/// Task configs, and task types.
const CONFIGS: usize = 50;
const TYPES: usize = 5;
/// Between two executions that are measured.
const BEAT: Duration = Duration::from_millis(10);
/// What a page of the history may take, at p99.
const PAGE_ALLOWED: f64 = 50.0;
/// What a claim may take while rows are removed, at p99: it may wait for one step.
const CLAIM_ALLOWED: f64 = 100.0;

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    p50: f64,
    p99: f64,
    count: usize,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * values.len() as f64).ceil() as usize;
            values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self {
            p50: at(0.5),
            p99: at(0.99),
            count: values.len(),
        }
    }

    fn json(self) -> Value {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        json!({"p50": round(self.p50), "p99": round(self.p99), "count": self.count})
    }
}

/// One phase of one store.
#[derive(Debug, Default)]
struct Phase {
    enqueue: Spread,
    claim: Spread,
    end: Spread,
    page: Spread,
}

impl Phase {
    fn json(&self) -> Value {
        json!({
            "enqueue_ms": self.enqueue.json(),
            "claim_ms": self.claim.json(),
            "end_ms": self.end.json(),
            "page_ms": self.page.json(),
        })
    }
}

/// What was seen of one store.
#[derive(Debug)]
struct OfStore {
    store: &'static str,
    rows: u64,
    filled_per_second: f64,
    before: Phase,
    during: Phase,
    removed: u64,
    removed_per_second: f64,
}

/// The outcome.
#[derive(Debug)]
pub struct Report(Vec<OfStore>);

/// Runs it on SQLite and on PostgreSQL.
///
/// # Errors
/// When a store cannot be opened or fails.
pub fn run(options: &Options, say: Say<'_>) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let file = SqliteStore::open(folder.path().join("horarium.db"), SqliteOptions::default());
        let file = Arc::new(file.await?);
        let sqlite = one("sqlite", file.clone(), options, say).await?;
        file.close().await?;
        let cluster = Cluster::start();
        let url = cluster.url(&cluster.database().await);
        let options_of_store = PostgresOptions {
            migrate: true,
            ..PostgresOptions::default()
        };
        let server = Arc::new(PostgresStore::connect(&url, options_of_store).await?);
        let postgres = one("postgres", server.clone(), options, say).await?;
        server.close().await;
        Ok(Report(vec![sqlite, postgres]))
    })
}

async fn one(
    name: &'static str,
    store: Arc<dyn Store>,
    options: &Options,
    say: Say<'_>,
) -> Result<OfStore> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let host = store.start_host(clock.now(), "soak").await?;
    let load = Load::new(store.clone(), clock.clone(), host).await?;
    say(&format!("{name}: making {} ended executions", options.rows));
    let begun = Instant::now();
    load.fill(options.rows, say).await?;
    let filled = options.rows as f64 / begun.elapsed().as_secs_f64();
    say(&format!("{name}: measuring before anything is removed"));
    let (_forever, never) = watch::channel(false);
    let before = load.measure(options.span, never).await?;
    say(&format!("{name}: removing them, and measuring meanwhile"));
    let (done, ended) = watch::channel(false);
    let pruning = tokio::spawn(async move {
        let begun = Instant::now();
        let day = Some(86_400);
        let plan = PrunePlan::of_host(Retention {
            succeeded_seconds: day,
            failed_seconds: day,
            ..Retention::default()
        });
        let care = Caretaker { store, clock };
        let report = care.prune(&plan, &|_| {}).await;
        let _ = done.send(true);
        report.map(|report| (report.executions, begun.elapsed()))
    });
    let during = load.measure(options.span * 20, ended).await?;
    let (removed, took) = pruning.await??;
    Ok(OfStore {
        store: name,
        rows: options.rows,
        filled_per_second: filled,
        before,
        during,
        removed,
        removed_per_second: removed as f64 / took.as_secs_f64(),
    })
}

/// Makes executions and takes them all the way.
struct Load {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    host: i64,
    configs: Vec<(ConfigId, String)>,
    types: Arc<[(i64, String)]>,
}

impl Load {
    async fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, host: i64) -> Result<Self> {
        let mut configs = Vec::new();
        for number in 0..CONFIGS {
            let task_type = format!("type{}", number % TYPES);
            let spec =
                json!({"name": "a task", "task_type": task_type, "scheduler_type": "manual"});
            let spec = TaskSpec::from_json(&spec, clock.now(), None)
                .map_err(|invalid| anyhow!("{invalid}"))?;
            let config = store
                .create_config(clock.now(), DEFAULT_TENANT_ID, spec)
                .await?;
            configs.push((config.id, task_type));
        }
        let types = (0..TYPES).map(|n| (DEFAULT_TENANT_ID, format!("type{n}")));
        Ok(Self {
            store,
            clock,
            host,
            configs,
            types: types.collect(),
        })
    }

    fn item(&self, number: u64, now: Timestamp) -> NewExecution {
        let (config, task_type) = &self.configs[number as usize % self.configs.len()];
        NewExecution {
            config_id: Some(*config),
            parameters: Arc::from(r#"{"site":"https://example.org/","page":1}"#),
            ..NewExecution::plain(TaskId::now_v7(), DEFAULT_TENANT_ID, task_type, now)
        }
    }

    /// Enqueues, claims and ends `count`; the milliseconds of each.
    async fn pass(&self, first: u64, count: u64, now: Timestamp) -> Result<[f64; 3]> {
        let items = (first..first + count).map(|n| self.item(n, now)).collect();
        let begun = Instant::now();
        let Enqueued::Done(receipts) = self.store.enqueue(now, Enqueue::each(items)).await? else {
            bail!("an answer without a key");
        };
        let enqueued = millis(begun);
        let request = ClaimRequest {
            now,
            incarnation: self.host,
            types: self.types.clone(),
            limit: u32::try_from(count)?,
        };
        let begun = Instant::now();
        let claimed = self.store.claim(request).await?.claimed;
        let claims = millis(begun);
        if claimed.len() != receipts.len() {
            bail!("{} of {} were claimed", claimed.len(), receipts.len());
        }
        let ends = claimed.iter().map(|claimed| {
            let fails = claimed.id % 20 == 0;
            let end = match fails {
                true => End::Failed,
                false => End::Succeeded(r#"{"found":17}"#.into()),
            };
            let mut item = completion(self.host, now, claimed, end);
            item.logs = vec![LogLine {
                line: 0,
                attempt: claimed.claim,
                at: now,
                level: LogLevel::Info,
                source: LogSource::Log,
                message: "looked at one page".to_owned(),
                fields: None,
            }];
            item
        });
        let ends = ends.collect();
        let begun = Instant::now();
        self.store.complete_many(now, ends).await?;
        Ok([enqueued, claims, millis(begun)])
    }

    /// Ended executions of the month before yesterday.
    async fn fill(&self, rows: u64, say: Say<'_>) -> Result<()> {
        let first = self.clock.now() - chrono::Duration::days(32);
        let apart = chrono::Duration::days(30).num_microseconds().unwrap_or(1) as u64 / rows.max(1);
        let mut made = 0;
        while made < rows {
            if is_interrupted() {
                bail!("interrupted");
            }
            let count = BATCH.min(rows - made);
            let at = i64::try_from(made * apart)?;
            self.pass(made, count, first + chrono::Duration::microseconds(at))
                .await?;
            made += count;
            if made.is_multiple_of(100_000) {
                say(&format!("{made} made"));
            }
        }
        Ok(())
    }

    /// Single executions and pages of the history, until the span is over or `ended` says so.
    async fn measure(&self, span: Duration, mut ended: watch::Receiver<bool>) -> Result<Phase> {
        let (mut passes, mut pages) = ([vec![], vec![], vec![]], Vec::new());
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < span && !*ended.borrow_and_update() {
            if is_interrupted() {
                bail!("interrupted");
            }
            let spans = self.pass(number, 1, self.clock.now()).await?;
            for (all, one) in passes.iter_mut().zip(spans) {
                all.push(one);
            }
            pages.push(self.page(number).await?);
            number += 1;
            tokio::time::sleep(BEAT).await;
        }
        let [enqueue, claim, end] = passes.map(Spread::of);
        Ok(Phase {
            enqueue,
            claim,
            end,
            page: Spread::of(pages),
        })
    }

    /// A page by one filter or another, at the top or further down.
    async fn page(&self, number: u64) -> Result<f64> {
        let config = self.configs[number as usize % self.configs.len()].0;
        let filter = match number % 5 {
            0 => ExecutionFilter::default(),
            1 => ExecutionFilter {
                config_id: Some(config),
                ..ExecutionFilter::default()
            },
            2 => ExecutionFilter {
                states: vec![State::Failed],
                ..ExecutionFilter::default()
            },
            3 => ExecutionFilter {
                task_type: Some("type1".to_owned()),
                ..ExecutionFilter::default()
            },
            _ => ExecutionFilter {
                states: vec![State::Succeeded],
                ..ExecutionFilter::default()
            },
        };
        let mut page = Page::first(50);
        if number % 2 == 1 {
            page.after = Some(1 + i64::try_from(number * 7919 % 500_000)?);
        }
        let begun = Instant::now();
        self.store
            .executions(DEFAULT_TENANT_ID, &filter, &page)
            .await
            .context("a page")?;
        Ok(millis(begun))
    }
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

impl Report {
    /// Whether everything old is gone, and nobody waited long for it.
    pub fn holds(&self) -> bool {
        self.is_complete()
            && self.0.iter().all(|of| {
                let pages = of.before.page.p99.max(of.during.page.p99);
                pages <= PAGE_ALLOWED && of.during.claim.p99 <= CLAIM_ALLOWED
            })
    }

    /// Whether everything old is gone.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|of| of.removed == of.rows)
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let stores = self.0.iter().map(|of| {
            json!({
                "store": of.store,
                "rows": of.rows,
                "filled_per_second": of.filled_per_second.round(),
                "before": of.before.json(),
                "during": of.during.json(),
                "removed": of.removed,
                "removed_per_second": of.removed_per_second.round(),
            })
        });
        json!({
            "holds": self.holds(),
            "allowed_ms": {"page_p99": PAGE_ALLOWED, "claim_p99": CLAIM_ALLOWED},
            "stores": stores.collect::<Vec<_>>(),
        })
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:9} {:7} {:>16} {:>16} {:>16} {:>16}\n",
            "store", "phase", "enqueue p50/p99", "claim p50/p99", "end p50/p99", "page p50/p99"
        );
        for of in &self.0 {
            for (phase, name) in [(&of.before, "before"), (&of.during, "during")] {
                let cell = |s: Spread| format!("{:.2} / {:.2}", s.p50, s.p99);
                text.push_str(&format!(
                    "{:9} {name:7} {:>16} {:>16} {:>16} {:>16}\n",
                    of.store,
                    cell(phase.enqueue),
                    cell(phase.claim),
                    cell(phase.end),
                    cell(phase.page),
                ));
            }
            text.push_str(&format!(
                "{:9} {} of {} rows removed, {:.0} a second (made at {:.0} a second)\n",
                of.store, of.removed, of.rows, of.removed_per_second, of.filled_per_second
            ));
        }
        let verdict = match self.holds() {
            true => "holds",
            false => "DOES NOT HOLD",
        };
        text.push_str(&format!(
            "milliseconds; {verdict}: pages within {PAGE_ALLOWED} ms and claims within {CLAIM_ALLOWED} ms at p99, all rows gone"
        ));
        text
    }
}
