//! The histories that the tests live through: what is configured, who shares the world, and what befalls it.

use super::world::SHAKY;
use super::*;
use crate::store::TenantBounds;
use horarium_model::task_type::TypeConcurrency;
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, TaskId, TenantId, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(super) fn begun() -> Timestamp {
    "2026-03-28T20:00:00Z".parse().expect("an instant")
}

fn configs() -> Vec<Value> {
    let cron = |name: &str, expression: &str, extra: Value| {
        let mut config = json!({
            "name": name, "scheduler_type": "cron", "max_retries": 2, "timeout_seconds": 90,
            "schedule_config": {"cron_expression": expression, "timezone": "Europe/Berlin"},
            "retry_policy": {"initial_seconds": 2, "max_seconds": 60},
        });
        json_merge(&mut config, extra);
        config
    };
    vec![
        cron("every minute, skip", "* * * * *", json!({})),
        cron(
            "twenty seconds, allow",
            "*/20 * * * * *",
            json!({"overlap": "allow", "concurrency": {"max": 3}}),
        ),
        cron(
            "queue one",
            "*/2 * * * *",
            json!({"overlap": "queue_one", "priority": 5}),
        ),
        cron(
            "cancel running",
            "* * * * *",
            json!({"overlap": "cancel_running"}),
        ),
        cron(
            "all made up",
            "*/3 * * * *",
            json!({"schedule_config": {"catch_up": "all", "misfire_grace_seconds": 10}}),
        ),
        cron(
            "skipping",
            "*/3 * * * *",
            json!({"schedule_config": {"catch_up": "skip", "misfire_grace_seconds": 20}}),
        ),
        cron(
            "with jitter",
            "*/5 * * * *",
            json!({"schedule_config": {"jitter_seconds": 200}}),
        ),
        cron(
            "expiring",
            "* * * * *",
            json!({"overlap": "allow", "expires_after_seconds": 30, "concurrency": {"max": 1}}),
        ),
        json!({"name": "once", "scheduler_type": "date", "schedule_config": {"run_at": "2026-03-28T21:30:00Z"}}),
        json!({"name": "by hand", "scheduler_type": "manual", "max_retries": 1}),
    ]
}

/// Tenants of a crowded world: one who takes turns as everybody, one with three times the share and a bound, and one
/// whose every execution is bounded by something.
const PLAIN: TenantId = 2;
const HEAVY: TenantId = 3;
const BOUND: TenantId = 4;
/// A type of the last with bounds of its own.
const NARROW: &str = "narrow";

/// What three more tenants have in a crowded world.
fn crowd() -> Vec<(TenantId, Value)> {
    let cron = |name: &str, expression: &str, extra: Value| {
        let mut config = json!({
            "name": name, "scheduler_type": "cron", "max_retries": 1, "timeout_seconds": 90, "overlap": "allow",
            "schedule_config": {"cron_expression": expression},
            "retry_policy": {"initial_seconds": 2, "max_seconds": 30},
        });
        json_merge(&mut config, extra);
        config
    };
    let manual = |name: &str, extra: Value| {
        let mut config = json!({"name": name, "scheduler_type": "manual", "max_retries": 1});
        json_merge(&mut config, extra);
        config
    };
    vec![
        (PLAIN, cron("plain", "* * * * *", json!({}))),
        (PLAIN, manual("plain by hand", json!({"priority": 3}))),
        (HEAVY, cron("heavy", "*/45 * * * * *", json!({}))),
        (HEAVY, manual("heavy by hand", json!({}))),
        (
            BOUND,
            cron("narrow", "* * * * *", json!({"task_type": NARROW})),
        ),
        (
            BOUND,
            manual("narrow by hand", json!({"task_type": NARROW})),
        ),
        (
            BOUND,
            manual("by key", json!({"concurrency": {"max": 2, "key": "/k"}})),
        ),
        (
            BOUND,
            cron(
                "at a rate",
                "*/30 * * * * *",
                json!({"concurrency": {"rate": {"count": 3, "seconds": 120}}, "expires_after_seconds": 300}),
            ),
        ),
        (
            BOUND,
            cron(
                "few wait",
                "* * * * *",
                json!({"concurrency": {"max": 1, "backlog": 3}, "max_retries": 0}),
            ),
        ),
        (
            BOUND,
            cron(
                "shaky",
                "*/30 * * * * *",
                json!({"task_type": SHAKY, "expires_after_seconds": 900}),
            ),
        ),
        (
            BOUND,
            cron(
                "parent",
                "*/2 * * * *",
                json!({"chain": [{"task": "after-success", "on": ["succeeded"]}, {"task": "after-failure", "on": ["failed"]}]}),
            ),
        ),
        (
            BOUND,
            manual("after success", json!({"key": "after-success"})),
        ),
        (
            BOUND,
            manual(
                "after failure",
                json!({"key": "after-failure", "overlap": "skip"}),
            ),
        ),
    ]
}

/// Three more tenants, with what they may and what they have.
async fn admit_crowd(world: &mut World, rng: &mut SmallRng) -> Vec<(TenantId, ConfigId)> {
    let bounds = |weight, max, backlog| TenantBounds {
        weight,
        max,
        backlog,
    };
    let narrow = TypeConcurrency {
        max: Some(2),
        backlog: Some(12),
    };
    let free = TypeConcurrency::default();
    let most = rng.random_range(2..6);
    for (tenant, bounds, task_type, concurrency) in [
        (PLAIN, bounds(1, None, None), TYPE, free),
        (HEAVY, bounds(3, Some(most), Some(60)), TYPE, free),
        (BOUND, bounds(2, None, None), TYPE, free),
        (BOUND, bounds(2, None, None), SHAKY, free),
        (BOUND, bounds(2, None, None), NARROW, narrow),
    ] {
        let admitted = world.admit(tenant, bounds, task_type, concurrency).await;
        admitted.expect("a tenant");
    }
    let mut ids = Vec::new();
    for (tenant, config) in crowd() {
        let config = world.create(tenant, config).await.expect("a valid config");
        ids.push((tenant, config.id));
    }
    ids
}

/// Whether many tenants share the world of a seed: a quarter of them, as those take five times as long.
fn is_crowded(seed: u64) -> bool {
    seed % 8 > 5
}

fn json_merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                json_merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn up_to(rng: &mut SmallRng, seconds: u64) -> Duration {
    Duration::from_millis(rng.random_range(0..seconds * 1000))
}

/// Lives through one seeded history of one host or several: triggers, cancels, kills, stops, pauses past the
/// lease, broken connections, clock jumps, and failovers that lose the last transactions.
async fn live_through(seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let faults = match seed % 3 {
        0 => FaultPlan::NONE,
        1 => FaultPlan {
            before: 0.05,
            after: 0.0,
            late: 0.1,
            unwritable: true,
        },
        _ => FaultPlan {
            before: 0.03,
            after: 0.03,
            late: 0.03,
            unwritable: false,
        },
    };
    let hosts = if seed.is_multiple_of(2) { 1 } else { 4 };
    let scenario = Scenario {
        seed,
        hosts,
        // What a crowd wants must be less than what there is, else its backlog grows for ever.
        slots: rng.random_range(if is_crowded(seed) { 4..12 } else { 1..12 }),
        longest: Duration::from_secs(rng.random_range(1..if is_crowded(seed) { 90 } else { 240 })),
        shared: seed % 16 > 7,
        checking: Duration::from_millis(if seed % 5 == 3 { 200 } else { 0 }),
        faults,
        mutation,
    };
    let mut world = World::new(scenario, begun()).await.expect("a world");
    let mut ids = Vec::new();
    for config in configs() {
        let config = world.create(DEFAULT_TENANT_ID, config).await;
        ids.push((DEFAULT_TENANT_ID, config.expect("a valid config").id));
    }
    if is_crowded(seed) {
        ids.extend(admit_crowd(&mut world, &mut rng).await);
    }
    for at in 0..hosts {
        // Where hosts share a database, their clocks need not be right.
        let wrong = if hosts > 1 && at == 0 { 60 } else { 0 };
        let ahead = chrono::Duration::seconds(wrong);
        world.start(at, ahead).await.expect("a host");
    }
    let mut triggered: Vec<(TenantId, TaskId)> = Vec::new();
    for _ in 0..rng.random_range(5..25) {
        world
            .pass(Duration::from_millis(rng.random_range(1..600_000)))
            .await;
        let at = rng.random_range(0..hosts);
        match rng.random_range(0..14) {
            0 => {
                world.kill(at).await;
                world.pass(up_to(&mut rng, 1800)).await;
                world
                    .start(at, chrono::Duration::zero())
                    .await
                    .expect("a host");
            }
            1 => {
                world.stop(at).await;
                world.pass(up_to(&mut rng, 600)).await;
                world
                    .start(at, chrono::Duration::zero())
                    .await
                    .expect("a host");
            }
            2 if hosts == 1 => world
                .clock
                .jump(chrono::Duration::seconds(rng.random_range(-120..120))),
            2 => {
                world.freeze(at, true);
                world.pass(up_to(&mut rng, 60)).await;
                world.freeze(at, false);
            }
            3 => {
                world.cut(at, true);
                world.pass(up_to(&mut rng, 60)).await;
                world.cut(at, false);
            }
            // Every fourth history with several hosts: after a failover less can be promised.
            4 if hosts > 1 && seed % 8 == 1 => world.fail_over(up_to(&mut rng, 10)).await,
            4 if !triggered.is_empty() => {
                let which = rng.random_range(0..triggered.len());
                let (tenant, task_id) = triggered[which];
                world.cancel(at, tenant, task_id).await;
            }
            5 | 6 if is_crowded(seed) => {
                // Somebody wants a lot at once.
                let which = ids[rng.random_range(0..ids.len())];
                for _ in 0..rng.random_range(10..40) {
                    let key = json!({"k": rng.random_range(0..3)});
                    world.trigger(at, which, Some(key), rng.random()).await;
                }
            }
            10 | 11 => {
                let which = rng.random_range(0..ids.len());
                let paused = rng.random_bool(0.5);
                let (tenant, id) = ids[which];
                world.update(tenant, id, json!({"paused": paused})).await;
            }
            12 => {
                let which = rng.random_range(0..ids.len());
                let (tenant, id) = ids[which];
                world.update(tenant, id, change(&mut rng)).await;
            }
            _ => {
                let which = rng.random_range(0..ids.len());
                let told = rng.random();
                let task_id = world.trigger(at, ids[which], None, told).await;
                triggered.extend(task_id.map(|task_id| (ids[which].0, task_id)));
            }
        }
    }
    world.pass(Duration::from_secs(600)).await;
    let mut wrong = check_due(&world).await.expect("a readable store");
    settle(&mut world).await;
    wrong.extend(check(&world).await.expect("a readable store"));
    wrong
}

/// What an operator changes of a schedule. Some of it is refused for some.
fn change(rng: &mut SmallRng) -> Value {
    let hour = |rng: &mut SmallRng| {
        let minutes = rng.random_range(-60..240);
        begun() + chrono::Duration::minutes(minutes)
    };
    let config = match rng.random_range(0..9) {
        0 => json!({"cron_expression": "*/2 * * * *"}),
        1 => json!({"cron_expression": "7-59/5 * * * *"}),
        2 => json!({"cron_expression": "*/30 * * * * *"}),
        3 => json!({"timezone": "Australia/Lord_Howe"}),
        4 => json!({"catch_up": (["skip", "once", "all"][rng.random_range(0..3)])}),
        5 => json!({"jitter_seconds": rng.random_range(0..20)}),
        6 => json!({"end_at": hour(rng)}),
        7 => json!({"start_at": hour(rng), "end_at": null}),
        _ => {
            json!({"misfire_grace_seconds": rng.random_range(0..600), "catch_up_window_seconds": rng.random_range(0..3600)})
        }
    };
    json!({"schedule_config": config})
}

/// Stops new slots and lets everything that lives end.
async fn settle(world: &mut World) {
    use crate::clock::Clock;
    use crate::store::{Catalog, ConfigFilter, ConfigUpdate, Page, Queue, QueueCounts, Reanchor};
    for tenant in world.tenants() {
        let listing = world
            .store
            .configs(tenant, &ConfigFilter::default(), &Page::first(100))
            .await
            .expect("configs");
        for config in listing.items {
            // Paused without a new anchor: what was due stays as it was decided.
            let mut spec = config.spec.clone();
            spec.paused = true;
            let reanchor = Reanchor {
                anchor_at: config.schedule_state.anchor_at,
                next_fire_at: None,
                skipped: None,
            };
            let update = ConfigUpdate {
                expected_version: config.version,
                spec,
                reanchor: Some(reanchor),
            };
            let now = world.clock.now();
            let updated = world.store.update_config(now, tenant, config.id, update);
            updated.await.expect("paused");
        }
    }
    // One slot and slow guests can leave a day of backlog; what does not move for hours never will.
    let (mut before, mut still) = (QueueCounts::default(), 0);
    for _ in 0..2000 {
        world.pass(Duration::from_secs(120)).await;
        let counts = world.store.queue_counts().await.expect("counts");
        still = if counts == before { still + 1 } else { 0 };
        before = counts;
        if counts == QueueCounts::default() || still > 100 {
            break;
        }
    }
    world.stop_all().await;
}

/// Lives through one history. What breaks off by a panic is wrong too, and keeps its seed.
pub(super) fn simulate(seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    std::panic::catch_unwind(|| live(seed, mutation)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        vec![format!("it panicked: {}", text.unwrap_or_default())]
    })
}

fn live(seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(live_through(seed, mutation))
}

/// Histories that break a rule, found on every core. Stops early once `enough` were found.
pub(super) fn broken(
    seeds: &[u64],
    mutation: Option<Mutation>,
    enough: usize,
) -> Vec<(u64, Vec<String>)> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let wrong = simulate(*seed, mutation);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if !wrong.is_empty() {
                        found.push((*seed, wrong));
                    }
                    if found.len() >= enough {
                        return;
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}
