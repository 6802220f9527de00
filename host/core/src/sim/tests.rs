//! Many seeds in every CI run, and as many as one likes by `cargo xtask soak sim`. A failing one is printed;
//! `cargo xtask soak sim --seed N` repeats it alone.

use super::histories::{begun, broken, simulate};
use super::*;
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, Timestamp};
use serde_json::json;
use std::time::Duration;

/// Histories of one test; each is some hours of simulated time.
const SEEDS: u64 = 500;
/// Histories in which a broken rule must be noticed at the latest.
const MUTANT_SEEDS: u64 = 400;

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
    a_tenant_who_is_always_first_is_noticed: NoTurns;
    free_slots_beside_a_queue_are_noticed: LeftWaiting;
    too_many_of_a_tenant_are_noticed: NoTenantBound;
    too_many_of_a_type_are_noticed: NoTypeBound;
    a_rate_that_is_exceeded_is_noticed: NoRate;
    a_backlog_without_end_is_noticed: NoBacklog;
    a_breaker_that_holds_nothing_is_noticed: NoBreaker;
    a_chain_that_breaks_off_is_noticed: LostChain;
}

#[test]
fn the_same_seed_is_the_same_history() {
    // Task ids are random, so histories are compared by what they lead to, not by bytes.
    assert_eq!(simulate(5, None), simulate(5, None));
}

/// A world of one sound host with one slot, whose guests take no time.
async fn quiet_world(checking: Duration, faults: FaultPlan) -> World {
    let scenario = Scenario {
        seed: 1,
        hosts: 1,
        slots: 1,
        longest: Duration::from_millis(1),
        checking,
        shared: false,
        faults,
        mutation: None,
    };
    World::new(scenario, begun()).await.expect("a world")
}

/// Everything a config fired: slots, and when they could be seen.
async fn fired(world: &World, id: ConfigId) -> Vec<(Timestamp, Timestamp)> {
    use crate::store::{ExecutionFilter, History, Page};
    let filter = ExecutionFilter {
        config_id: Some(id),
        ..ExecutionFilter::default()
    };
    let page = Page::first(Page::MAX);
    let listed = world.store.executions(DEFAULT_TENANT_ID, &filter, &page);
    let listed = listed.await.expect("executions").items;
    listed
        .iter()
        .filter_map(|one| Some((one.slot?, one.created_at)))
        .collect()
}

async fn paused_time(future: impl Future<Output = ()>) {
    tokio::time::pause();
    future.await;
}

/// Twelve slots of 8 MiB each are no single call to the store.
#[tokio::test]
async fn what_is_made_up_goes_in_calls_of_bounded_size() {
    paused_time(async {
        let mut world = quiet_world(Duration::ZERO, FaultPlan::NONE).await;
        let config = json!({
            "name": "large", "scheduler_type": "cron", "parameters": {"text": "x".repeat(8 << 20)},
            "schedule_config": {"cron_expression": "*/10 * * * *", "catch_up": "all"},
        });
        let config = world.create(DEFAULT_TENANT_ID, config).await;
        let id = config.expect("a good config").id;
        world.pass(Duration::from_secs(2 * 3600 + 30)).await;
        world
            .start(0, chrono::Duration::zero())
            .await
            .expect("a host");
        world.pass(Duration::from_secs(60)).await;
        let fired = fired(&world, id).await;
        assert_eq!(fired.len(), 12);
        world.stop_all().await;
        let testimony = world.testimony.lock().expect("not poisoned");
        assert!(
            testimony.largest_call <= 64 << 20,
            "{}",
            testimony.largest_call
        );
        assert!(
            testimony.largest_call >= 32 << 20,
            "{}",
            testimony.largest_call
        );
    })
    .await;
}

/// Four hundred configs whose parameters take 200 ms each to check are due at once, one of every second beside them.
#[tokio::test]
async fn schemas_that_take_long_delay_nobody_else() {
    paused_time(async {
        let mut world = quiet_world(Duration::from_millis(200), FaultPlan::NONE).await;
        let cron = |name: String, expression: &str| {
            json!({"name": name, "scheduler_type": "cron", "overlap": "allow",
                "schedule_config": {"cron_expression": expression}})
        };
        let each_second = cron("each second".to_owned(), "* * * * * *");
        let each_second = world.create(DEFAULT_TENANT_ID, each_second).await;
        let each_second = each_second.expect("a good config").id;
        let mut together = Vec::new();
        for n in 0..400 {
            let config = cron(format!("at once {n}"), "1 20 28 3 *");
            let config = world.create(DEFAULT_TENANT_ID, config).await;
            together.push(config.expect("a good config").id);
        }
        world
            .start(0, chrono::Duration::zero())
            .await
            .expect("a host");
        world.pass(Duration::from_secs(120)).await;
        for id in together {
            assert_eq!(fired(&world, id).await.len(), 1);
        }
        let fired = fired(&world, each_second).await;
        assert!(fired.len() >= 118, "{}", fired.len());
        // The first waits for its own parameters.
        let latest = fired.iter().map(|(slot, seen)| *seen - *slot).max();
        assert!(latest < Some(chrono::Duration::seconds(1)), "{latest:?}");
        world.stop_all().await;
    })
    .await;
}

/// One schedule that no database takes, each second: what others fire and what waits for its time are no part of it.
#[tokio::test]
async fn a_slot_that_can_never_fire_holds_up_nothing_else() {
    paused_time(async {
        let faults = FaultPlan {
            unwritable: true,
            ..FaultPlan::NONE
        };
        let mut world = quiet_world(Duration::ZERO, faults).await;
        let mut ids = Vec::new();
        for text in [UNWRITABLE, "others"] {
            let config = json!({
                "name": text, "scheduler_type": "cron", "overlap": "allow", "parameters": {"text": text},
                "schedule_config": {"cron_expression": "* * * * * *"},
            });
            let config = world.create(DEFAULT_TENANT_ID, config).await;
            ids.push(config.expect("a good config").id);
        }
        let [bad, good] = ids[..] else { unreachable!() };
        let late = world.put_off((DEFAULT_TENANT_ID, good), 30).await;
        world
            .start(0, chrono::Duration::zero())
            .await
            .expect("a host");
        world.pass(Duration::from_secs(60)).await;
        assert!(fired(&world, bad).await.is_empty());
        let good = fired(&world, good).await;
        assert!(good.len() >= 55, "{}", good.len());
        use crate::store::History;
        let late = world.store.execution(DEFAULT_TENANT_ID, late).await;
        let late = late.expect("reads").expect("is there");
        assert!(late.first_started_at.is_some(), "{late:?}");
        world.stop_all().await;
    })
    .await;
}
