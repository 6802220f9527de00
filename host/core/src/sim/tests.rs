//! Many seeds in every CI run. A failing one is printed; `SIM_SEED=n` repeats it alone.

use super::*;
use horarium_model::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::Duration;

/// Histories per CI run; each is some hours of simulated time.
const SEEDS: u64 = 200;

fn begun() -> Timestamp {
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
/// lease, broken connections and clock jumps.
async fn live_through(seed: u64) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let faults = match seed % 3 {
        0 => FaultPlan::NONE,
        1 => FaultPlan {
            before: 0.05,
            after: 0.0,
        },
        _ => FaultPlan {
            before: 0.03,
            after: 0.03,
        },
    };
    let hosts = if seed.is_multiple_of(2) { 1 } else { 4 };
    let scenario = Scenario {
        seed,
        hosts,
        slots: rng.random_range(1..12),
        longest: Duration::from_secs(rng.random_range(1..240)),
        faults,
    };
    let mut world = World::new(scenario, begun()).await.expect("a world");
    let mut ids = Vec::new();
    for config in configs() {
        ids.push(world.create(config).await.expect("a valid config"));
    }
    for at in 0..hosts {
        // Where hosts share a database, their clocks need not be right.
        let wrong = if hosts > 1 && at == 0 { 60 } else { 0 };
        let ahead = chrono::Duration::seconds(wrong);
        world.start(at, ahead).await.expect("a host");
    }
    let mut triggered = Vec::new();
    for _ in 0..rng.random_range(5..25) {
        world
            .pass(Duration::from_millis(rng.random_range(1..600_000)))
            .await;
        let at = rng.random_range(0..hosts);
        match rng.random_range(0..10) {
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
            4 if !triggered.is_empty() => {
                let which = rng.random_range(0..triggered.len());
                world.cancel(at, triggered[which]).await;
            }
            _ => {
                let which = rng.random_range(0..ids.len());
                triggered.extend(world.trigger(at, ids[which]).await);
            }
        }
    }
    settle(&mut world).await;
    check(&world).await.expect("a readable store")
}

/// Stops new slots and lets everything that lives end.
async fn settle(world: &mut World) {
    use crate::clock::Clock;
    use crate::store::{Catalog, ConfigFilter, ConfigUpdate, Page, Queue, QueueCounts, Reanchor};
    let tenant = horarium_model::DEFAULT_TENANT_ID;
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
        world
            .store
            .update_config(now, tenant, config.id, update)
            .await
            .expect("paused");
    }
    // One slot and slow guests can leave a day of backlog.
    for _ in 0..2000 {
        world.pass(Duration::from_secs(120)).await;
        if world.store.queue_counts().await.expect("counts") == QueueCounts::default() {
            break;
        }
    }
    world.stop_all().await;
}

fn simulate(seed: u64) -> Vec<String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(live_through(seed))
}

#[test]
fn every_seed_keeps_the_rules() {
    let seeds: Vec<u64> = match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    };
    let failed: Vec<(u64, Vec<String>)> = seeds
        .into_iter()
        .map(|seed| (seed, simulate(seed)))
        .filter(|(_, wrong)| !wrong.is_empty())
        .collect();
    let shown: Vec<String> = failed
        .iter()
        .take(3)
        .map(|(seed, wrong)| format!("SIM_SEED={seed}: {:#?}", &wrong[..wrong.len().min(5)]))
        .collect();
    assert!(
        failed.is_empty(),
        "{} seeds break a rule\n{}",
        failed.len(),
        shown.join("\n")
    );
}

#[test]
fn the_same_seed_is_the_same_history() {
    // Task ids are random, so histories are compared by what they lead to, not by bytes.
    assert_eq!(simulate(5), simulate(5));
}
