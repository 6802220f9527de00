//! The same random operations on two stores must give the same answers.

use super::lab::{Lab, TENANT, TYPE, at, completion, record, spec};
use crate::runner::StateCommit;
use crate::store::{
    ClaimRequest, Claimed, ConfigUpdate, End, HistoryOnDelete, NewExecution, Page, ProgressReport,
    Reanchor, Release, Store,
};
use horarium_model::ConfigId;
use horarium_model::config::SkipStreak;
use horarium_model::execution::{AttemptOutcome, Progress, SkipReason};
use horarium_model::schedule::Overlap;
use serde_json::json;
use std::fmt::Write as _;
use std::sync::Arc;

/// One operation. Small numbers choose among what exists; time moves with [`Op::Wait`].
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Op {
    Wait(u8),
    Create {
        kind: u8,
        key: Option<u8>,
        paused: bool,
    },
    Update {
        config: u8,
        stale: bool,
        paused: bool,
        reanchor: bool,
    },
    Delete {
        config: u8,
        history: bool,
    },
    Purge(u8),
    Enqueue {
        count: u8,
        config: Option<u8>,
        due: i8,
        priority: i8,
        expires: Option<u8>,
        key: Option<u8>,
        refuse: bool,
    },
    EnqueueAgain(u8),
    Fire {
        config: u8,
        slots: u8,
        overlap: u8,
        missed: bool,
        all: bool,
        skip: Option<u8>,
        stale: bool,
    },
    FireDue,
    Sweep(u8),
    Claim {
        limit: u8,
        types: u8,
    },
    Finish {
        which: u8,
        end: u8,
        state: Option<u8>,
        pause: bool,
        wrong: bool,
        logs: bool,
    },
    FinishAll {
        end: u8,
    },
    Release {
        which: u8,
        due: Option<u8>,
        recorded: bool,
    },
    Cancel(u8),
    Progress(u8),
    Crash,
    SetState {
        config: u8,
        key: u8,
        delete: bool,
    },
}

/// A store under comparison: what was done so far, told in answers.
struct Side {
    lab: Lab,
    now: i64,
    host: i64,
    configs: Vec<ConfigId>,
    tasks: Vec<horarium_model::TaskId>,
    claims: Vec<Claimed>,
}

/// Runs the operations on both stores and compares every answer and, at the end, everything readable.
///
/// # Errors
/// The first difference, with both answers.
pub async fn compare(ops: &[Op], one: Arc<dyn Store>, other: Arc<dyn Store>) -> Result<(), String> {
    let (mut one, mut other) = (Side::new(one).await, Side::new(other).await);
    for (step, op) in ops.iter().enumerate() {
        let (a, b) = (one.apply(op).await, other.apply(op).await);
        if a != b {
            return Err(format!("step {step}, {op:?}:\n  one:   {a}\n  other: {b}"));
        }
    }
    let (a, b) = (one.everything().await, other.everything().await);
    let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    match differs {
        Some((a, b)) => Err(format!("in the end:\n  one:   {a}\n  other: {b}")),
        None if a.len() != b.len() => Err("in the end one store has more".to_owned()),
        None => Ok(()),
    }
}

fn pick<T: Clone>(items: &[T], which: u8) -> Option<T> {
    let index = usize::from(which).checked_rem(items.len())?;
    items.get(index).cloned()
}

const OVERLAPS: [Overlap; 4] = [
    Overlap::Allow,
    Overlap::Skip,
    Overlap::QueueOne,
    Overlap::CancelRunning,
];
const TYPES: [&str; 2] = [TYPE, "other"];

/// Steps of every third execution, some of which fail their child.
fn chain(count: u8) -> Option<Arc<str>> {
    let end = ["succeeded", "failed", "cancelled"][usize::from(count / 3 % 3)];
    let from = if count.is_multiple_of(2) { "" } else { "/gone" };
    let steps = json!([
        {"task": format!("key{}", count % 3), "on": [end], "parameters": {"/x": from}},
        {"task": "key0", "on": ["succeeded", "failed"], "parameters": {}},
    ]);
    count.is_multiple_of(3).then(|| steps.to_string().into())
}

impl Side {
    async fn new(store: Arc<dyn Store>) -> Self {
        let lab = Lab::new(store).await;
        let host = lab.host;
        Self {
            lab,
            now: 1,
            host,
            configs: Vec::new(),
            tasks: Vec::new(),
            claims: Vec::new(),
        }
    }

    async fn apply(&mut self, op: &Op) -> String {
        let now = at(self.now);
        let store = self.lab.store.clone();
        match op {
            Op::Wait(seconds) => {
                self.now += i64::from(*seconds);
                format!("{:?}", store.next_due().await)
            }
            Op::Create { kind, key, paused } => self.create(*kind, *key, *paused).await,
            Op::Update {
                config,
                stale,
                paused,
                reanchor,
            } => self.update(*config, *stale, *paused, *reanchor).await,
            Op::Delete { config, history } => match pick(&self.configs, *config) {
                Some(id) => {
                    let history = if *history {
                        HistoryOnDelete::Delete
                    } else {
                        HistoryOnDelete::Keep
                    };
                    format!("{:?}", store.delete_config(now, TENANT, id, history).await)
                }
                None => String::new(),
            },
            Op::Purge(limit) => format!("{:?}", store.purge_deleted(u32::from(*limit) + 1).await),
            Op::Enqueue { .. } | Op::EnqueueAgain(_) => self.enqueue(op).await,
            Op::Fire { .. } => self.fire(op).await,
            Op::FireDue => format!("{:?}", store.due_schedules(now, 5).await),
            Op::Sweep(limit) => format!("{:?}", store.sweep_due(now, u32::from(*limit)).await),
            Op::Claim { limit, types } => self.claim(*limit, *types).await,
            Op::Finish { .. } | Op::FinishAll { .. } => self.finish(op).await,
            Op::Release {
                which,
                due,
                recorded,
            } => self.release(*which, *due, *recorded).await,
            Op::Cancel(which) => match pick(&self.tasks, *which) {
                Some(id) => format!("{:?}", store.cancel(now, TENANT, id).await),
                None => String::new(),
            },
            Op::Progress(which) => match pick(&self.claims, *which) {
                Some(claimed) => {
                    let progress = Progress {
                        fraction: Some(0.5),
                        message: format!("at {}", self.now),
                    };
                    let report = ProgressReport {
                        id: claimed.id,
                        claim: claimed.claim,
                        progress,
                    };
                    format!("{:?}", store.report_progress(vec![report]).await)
                }
                None => String::new(),
            },
            Op::Crash => {
                let host = store.start_host(now, &format!("host {}", self.now)).await;
                self.host = host.as_ref().copied().unwrap_or(0);
                let taken = store.take_over(now, self.host).await;
                // The database's clock and the leases are each store's own.
                let beat = store.heartbeat(now, self.host).await;
                let beat = beat.map(|b| {
                    // Whether something is available is told more or less exactly.
                    (b.alive, b.cancels, b.catalog_epoch, b.running, b.next_due)
                });
                // Incarnations are numbered by each store in its own way.
                format!("{:?} {taken:?} {beat:?}", host.is_ok())
            }
            Op::SetState {
                config,
                key,
                delete,
            } => match pick(&self.configs, *config) {
                Some(id) => {
                    let value = (!delete).then(|| vec![*key, 0, 255]);
                    let key = format!("k{}", key % 3);
                    let set = store.set_task_state(now, TENANT, id, &key, value).await;
                    format!("{set:?} {:?}", store.state_snapshot(id).await)
                }
                None => String::new(),
            },
        }
    }

    async fn create(&mut self, kind: u8, key: Option<u8>, paused: bool) -> String {
        let mut changes = match kind % 3 {
            0 => json!({}),
            1 => {
                json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": "H/2 * * * *", "jitter_seconds": 20}})
            }
            _ => {
                json!({"scheduler_type": "date", "schedule_config": {"run_at": "2026-01-01T00:01:00Z"}})
            }
        };
        let overlap = ["allow", "skip", "queue_one", "cancel_running"];
        if key.is_some() {
            changes["overlap"] = json!(overlap[usize::from(kind / 3 % 4)]);
        }
        changes["paused"] = json!(paused);
        changes["key"] = json!(key.map(|k| format!("key{}", k % 3)));
        let created = self
            .lab
            .store
            .create_config(at(self.now), TENANT, spec(changes))
            .await;
        if let Ok(config) = &created {
            self.configs.push(config.id);
        }
        format!("{created:?}")
    }

    async fn update(&mut self, which: u8, stale: bool, paused: bool, reanchor: bool) -> String {
        let Some(id) = pick(&self.configs, which) else {
            return String::new();
        };
        let store = &self.lab.store;
        let found = match store.config(TENANT, id).await {
            Ok(Some(config)) => config,
            other => return format!("{other:?}"),
        };
        let mut spec = found.spec.clone();
        spec.paused = paused;
        spec.key = spec.key.map(|_| format!("key{}", which % 3));
        spec.name = format!("changed at {}", self.now);
        let skipped = which.is_multiple_of(2).then(|| SkipStreak {
            reason: SkipReason::Paused,
            first: at(self.now),
            last: at(self.now + 1),
            count: 2,
        });
        let update = ConfigUpdate {
            expected_version: found.version - i64::from(stale),
            spec,
            reanchor: reanchor.then(|| Reanchor {
                anchor_at: at(self.now),
                next_fire_at: Some(at(self.now + 30)),
                skipped,
            }),
        };
        format!(
            "{:?}",
            store.update_config(at(self.now), TENANT, id, update).await
        )
    }

    async fn enqueue(&mut self, op: &Op) -> String {
        let mut items = Vec::new();
        match op {
            Op::Enqueue {
                count,
                config,
                due,
                priority,
                expires,
                key,
                refuse,
            } => {
                for n in 0..=count % 4 {
                    let config = config.and_then(|c| pick(&self.configs, c));
                    items.push(NewExecution {
                        task_type: TYPES[usize::from((count / 4 + n) % 2)].to_owned(),
                        priority: i32::from(*priority),
                        expires_at: expires.map(|e| at(self.now + i64::from(e))),
                        run_key: key.map(|k| format!("run{}", k % 2)),
                        run_max: 1 + u32::from(key.unwrap_or(0) % 2),
                        refuse_if_live: *refuse,
                        chain: chain(*count),
                        parameters: Arc::from(format!(
                            r#"{{"n":{n},"s":"{}"}}"#,
                            "y".repeat(usize::from(*count) * 9)
                        )),
                        ..self
                            .lab
                            .new_execution(config, at(self.now + i64::from(*due)))
                    });
                }
            }
            Op::EnqueueAgain(which) => {
                items.extend(pick(&self.tasks, *which).map(|task_id| NewExecution {
                    task_id,
                    ..self.lab.new_execution(None, at(self.now))
                }))
            }
            _ => {}
        }
        self.tasks.extend(items.iter().map(|i| i.task_id));
        format!(
            "{:?}",
            self.lab.store.enqueue_many(at(self.now), items).await
        )
    }

    async fn fire(&mut self, op: &Op) -> String {
        let Op::Fire {
            config,
            slots,
            overlap,
            missed,
            all,
            skip,
            stale,
        } = op
        else {
            return String::new();
        };
        let Some(id) = pick(&self.configs, *config) else {
            return String::new();
        };
        if !matches!(self.lab.store.config(TENANT, id).await, Ok(Some(_))) {
            return "deleted".to_owned();
        }
        let slots: Vec<i64> = (0..i64::from(slots % 4))
            .map(|n| self.now + n - 2)
            .collect();
        let mut order = self
            .lab
            .order(id, &slots, OVERLAPS[usize::from(overlap % 4)])
            .await;
        order.plan.made_up_all = *all;
        order.plan.skipped = missed.then(|| SkipStreak {
            reason: SkipReason::Missed,
            first: at(self.now - 20),
            last: at(self.now - 10),
            count: 3,
        });
        let reasons = [
            SkipReason::Quota,
            SkipReason::TypeDisabled,
            SkipReason::Overlap,
        ];
        order.skip_all = skip.map(|s| reasons[usize::from(s % 3)]);
        order.seen.version += i64::from(*stale);
        self.tasks.extend(&order.task_ids);
        let mut again = order.clone();
        again.task_ids = order.task_ids.iter().map(|_| self.lab.task_id()).collect();
        let fired = self
            .lab
            .store
            .fire_due(at(self.now), vec![order, again])
            .await;
        format!("{fired:?}")
    }

    async fn claim(&mut self, limit: u8, types: u8) -> String {
        let request = ClaimRequest {
            now: at(self.now),
            incarnation: self.host,
            types: TYPES
                .iter()
                .take(usize::from(types % 2) + 1)
                .map(|t| (TENANT, (*t).to_owned()))
                .collect(),
            limit: u32::from(limit % 8),
        };
        let claims = self.lab.store.claim(request).await;
        if let Ok(claims) = &claims {
            self.claims.extend(claims.claimed.iter().cloned());
        }
        format!("{claims:?}")
    }

    async fn finish(&mut self, op: &Op) -> String {
        let now = at(self.now);
        let end = |which: u8, now: i64| match which % 5 {
            0 => End::Succeeded(Arc::from(r#"{"ok":[1,null,"é"]}"#)),
            1 => End::Succeeded(Arc::from("null")),
            2 => End::Failed,
            3 => End::Cancelled,
            _ => End::Retry(at(now + i64::from(which / 5 % 4) * 10)),
        };
        let mut items = Vec::new();
        match op {
            Op::Finish {
                which,
                end: kind,
                state,
                pause,
                wrong,
                logs,
            } => {
                if let Some(claimed) = pick(&self.claims, *which) {
                    let mut item = completion(self.host, now, &claimed, end(*kind, self.now));
                    item.incarnation -= i64::from(*wrong);
                    item.pause_after_failures = pause.then_some(2);
                    if *logs {
                        item.logs = vec![super::lab::line(&claimed, 0, "line")];
                        item.calls = vec![super::lab::call(&claimed, 0, "https://a.example/")];
                        item.progress = Some(Progress {
                            fraction: None,
                            message: "last".into(),
                        });
                    }
                    if let Some(key) = state {
                        let expected = self.versions(claimed.config_id, *key).await;
                        item.state = Some(StateCommit {
                            expected,
                            writes: [(format!("k{}", key % 3), (key % 4 > 0).then(|| vec![*key]))]
                                .into(),
                        });
                    }
                    items.push(item);
                }
            }
            Op::FinishAll { end: kind } => {
                for (n, claimed) in self.claims.iter().rev().take(6).enumerate() {
                    let kind = kind.wrapping_add(u8::try_from(n).unwrap_or(0));
                    items.push(completion(self.host, now, claimed, end(kind, self.now)));
                }
            }
            _ => {}
        }
        format!(
            "{:?}",
            self.lab.store.complete_many(now, items.into()).await
        )
    }

    /// The versions of a key as they are now, or one that is wrong now and then.
    async fn versions(
        &self,
        config: Option<ConfigId>,
        key: u8,
    ) -> std::collections::BTreeMap<String, i64> {
        let name = format!("k{}", key % 3);
        let entries = match config {
            Some(id) => {
                self.lab
                    .store
                    .state_snapshot(id)
                    .await
                    .unwrap_or_default()
                    .entries
            }
            None => Default::default(),
        };
        let version = entries.get(&name).map_or(0, |e| e.version);
        [(name, version + i64::from(key.is_multiple_of(5)))].into()
    }

    async fn release(&mut self, which: u8, due: Option<u8>, recorded: bool) -> String {
        let Some(claimed) = pick(&self.claims, which) else {
            return String::new();
        };
        let now = at(self.now);
        let item = Release {
            id: claimed.id,
            claim: claimed.claim,
            incarnation: self.host,
            record: recorded.then(|| record(now, &claimed, AttemptOutcome::HandedBack)),
            due_at: due.map(|d| at(self.now + i64::from(d) - 5)),
        };
        format!("{:?}", self.lab.store.release(now, vec![item]).await)
    }

    /// Everything that can be read, as text.
    async fn everything(&self) -> String {
        let store = &self.lab.store;
        let mut text = String::new();
        let page = Page::first(1000);
        let _ = writeln!(text, "{:?}", store.queue_counts().await);
        let _ = writeln!(text, "{:?}", store.catalog_epoch().await);
        for config in &self.configs {
            let _ = writeln!(text, "{:?}", store.config(TENANT, *config).await);
            let _ = writeln!(text, "{:?}", store.state_snapshot(*config).await);
        }
        let listing = store.executions(TENANT, &Default::default(), &page).await;
        for listed in listing.map(|l| l.items).unwrap_or_default() {
            let id = listed.task_id;
            let _ = writeln!(text, "{:?}", store.execution(TENANT, id).await);
            let _ = writeln!(text, "{:?}", store.attempts(TENANT, id).await);
            let _ = writeln!(text, "{:?}", store.logs(TENANT, id, &page).await);
            let _ = writeln!(text, "{:?}", store.http_calls(TENANT, id, &page).await);
            let _ = writeln!(text, "{listed:?}");
        }
        text
    }
}
