//! Many seeds in every CI run, and as many as one likes by `cargo xtask soak sim`. A failing one is printed;
//! `cargo xtask soak sim --seed N` repeats it alone.

use super::*;
use horarium_model::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Histories of one test; each is some hours of simulated time.
const SEEDS: u64 = 500;
/// Histories in which a broken rule must be noticed at the latest.
const MUTANT_SEEDS: u64 = 60;

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
        slots: rng.random_range(1..12),
        longest: Duration::from_secs(rng.random_range(1..240)),
        faults,
        mutation,
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
                world.cancel(at, triggered[which]).await;
            }
            10 | 11 => {
                let which = rng.random_range(0..ids.len());
                let paused = rng.random_bool(0.5);
                world.update(ids[which], json!({"paused": paused})).await;
            }
            12 => {
                let which = rng.random_range(0..ids.len());
                world.update(ids[which], change(&mut rng)).await;
            }
            _ => {
                let which = rng.random_range(0..ids.len());
                let told = rng.random();
                triggered.extend(world.trigger(at, ids[which], told).await);
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

fn simulate(seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(live_through(seed, mutation))
}

/// Histories that break a rule, found on every core. Stops early once `enough` were found.
fn broken(seeds: &[u64], mutation: Option<Mutation>, enough: usize) -> Vec<(u64, Vec<String>)> {
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

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[track_caller]
fn keep_the_rules(failed: &[(u64, Vec<String>)]) {
    let shown: Vec<String> = failed
        .iter()
        .take(3)
        .map(|(seed, wrong)| format!("seed {seed}: {:#?}", &wrong[..wrong.len().min(5)]))
        .collect();
    assert!(
        failed.is_empty(),
        "{} seeds break a rule; repeat one by `cargo xtask soak sim --seed N`\n{}",
        failed.len(),
        shown.join("\n")
    );
}

/// Four tests of a quarter each: the test runner spreads them over the cores.
fn quarter(number: u64) {
    let seeds = number * SEEDS..(number + 1) * SEEDS;
    let histories = seeds.map(|seed| (seed, simulate(seed, None)));
    let failed: Vec<_> = histories.filter(|(_, wrong)| !wrong.is_empty()).collect();
    keep_the_rules(&failed);
}

#[test]
fn the_first_quarter_of_seeds_keeps_the_rules() {
    quarter(0);
}

#[test]
fn the_second_quarter_of_seeds_keeps_the_rules() {
    quarter(1);
}

#[test]
fn the_third_quarter_of_seeds_keeps_the_rules() {
    quarter(2);
}

#[test]
fn the_last_quarter_of_seeds_keeps_the_rules() {
    quarter(3);
}

/// `SIM_SEED` is the one seed, `SIM_SEEDS` how many.
#[test]
#[ignore = "cargo xtask soak sim"]
fn a_soak_keeps_the_rules() {
    let seeds: Vec<u64> = match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_SEEDS").unwrap_or(10_000)).collect(),
    };
    keep_the_rules(&broken(&seeds, None, 50));
}

/// A store that breaks this rule is caught within some histories.
fn is_noticed(mutation: Mutation) {
    let noticed = (0..MUTANT_SEEDS).any(|seed| !simulate(seed, Some(mutation)).is_empty());
    assert!(
        noticed,
        "{MUTANT_SEEDS} histories, and nobody noticed {mutation:?}"
    );
}

macro_rules! noticed {
    ($($name:ident: $mutation:ident;)*) => {
        $(
            #[test]
            fn $name() {
                is_noticed(Mutation::$mutation);
            }
        )*

        #[test]
        fn every_mutation_has_its_test() {
            assert_eq!(Mutation::ALL, [$(Mutation::$mutation),*]);
        }
    };
}

noticed! {
    a_slot_fired_twice_is_noticed: DoubleFire;
    a_slot_that_never_fired_is_noticed: LostFire;
    a_slot_fired_early_is_noticed: EarlyFire;
    a_schedule_that_stands_still_is_noticed: NeverAgain;
    missed_slots_without_a_row_are_noticed: ForgottenSkip;
    a_row_that_counts_too_many_is_noticed: MiscountedSkip;
    paused_slots_without_a_row_are_noticed: ForgottenPause;
    slots_from_before_a_change_are_noticed: OldAnchor;
    too_many_at_once_are_noticed: NoBound;
    a_claim_handed_out_twice_is_noticed: ClaimedTwice;
    retries_without_end_are_noticed: EndlessRetry;
    a_lost_end_is_noticed: LostEnd;
    what_waits_for_ever_is_noticed: LateRetry;
    runs_of_the_dead_are_noticed: NoTakeOver;
}

#[test]
fn the_same_seed_is_the_same_history() {
    // Task ids are random, so histories are compared by what they lead to, not by bytes.
    assert_eq!(simulate(5, None), simulate(5, None));
}
