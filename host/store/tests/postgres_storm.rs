//! Hosts that do everything at once on one PostgreSQL, and die in between: what must hold, holds.

use horarium_core::store::conformance::{Lab, at, completion};
use horarium_core::store::{
    Catalog, ClaimRequest, Claimed, Completion, End, ExecutionFilter, History, NewExecution, Page,
    Queue, Release,
};
use horarium_model::execution::State;
use horarium_model::{DEFAULT_TENANT_ID, TaskId};
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sqlx::Row;
use std::sync::Arc;

const ROUNDS: i64 = 120;

fn end(rng: &mut SmallRng, claimed: &Claimed, host: i64, now: i64) -> Completion {
    let end = match rng.random_range(0..10) {
        0..6 => End::Succeeded(Arc::from("{}")),
        6 => End::Failed,
        7 => End::Cancelled,
        _ => End::Retry(at(now + 1)),
    };
    Completion {
        pause_after_failures: Some(1000),
        ..completion(host, at(now), claimed, end)
    }
}

/// One host's life: starts, works on whatever there is in an order of its own, and sometimes dies with its
/// hands full. Returns the executions it added.
async fn host(
    store: PostgresStore,
    lab: Arc<Lab>,
    configs: Arc<Vec<i64>>,
    seed: u64,
) -> Vec<TaskId> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut added = Vec::new();
    let mut me = store.start_host(at(0), "storm").await.expect("starts");
    let types: Arc<[(i64, String)]> = Arc::from([(DEFAULT_TENANT_ID, "echo".to_owned())]);
    let mut held: Vec<Claimed> = Vec::new();
    for now in 0..ROUNDS {
        match rng.random_range(0..12) {
            0..3 => {
                let items: Vec<NewExecution> = (0..rng.random_range(1..20))
                    .map(|_| {
                        let config = configs[rng.random_range(0..configs.len())];
                        let keyed = rng.random_bool(0.7);
                        NewExecution {
                            run_key: keyed.then(|| format!("key{}", rng.random_range(0..5))),
                            run_max: 2,
                            expires_at: rng.random_bool(0.1).then(|| at(now + 5)),
                            ..lab.new_execution(Some(config), at(now + rng.random_range(-3..3)))
                        }
                    })
                    .collect();
                added.extend(items.iter().map(|item| item.task_id));
                store.enqueue_many(at(now), items).await.expect("enqueues");
            }
            3..6 => {
                let (now, types) = (at(now), types.clone());
                let limit = rng.random_range(1..12);
                let request = ClaimRequest {
                    now,
                    incarnation: me,
                    types,
                    limit,
                };
                let claims = store.claim(request).await.expect("claims");
                held.extend(claims.claimed);
            }
            6..8 => {
                let ends: Vec<_> = held
                    .drain(..)
                    .map(|one| end(&mut rng, &one, me, now))
                    .collect();
                store
                    .complete_many(at(now), ends.into())
                    .await
                    .expect("completes");
            }
            8 => {
                store.sweep_due(at(now), 50).await.expect("sweeps");
                if let Some(task_id) = added.get(rng.random_range(0..added.len().max(1))) {
                    let cancelled = store.cancel(at(now), DEFAULT_TENANT_ID, *task_id).await;
                    cancelled.expect("cancels");
                }
            }
            9 => {
                let items = held
                    .drain(..)
                    .map(|one| Release {
                        id: one.id,
                        claim: one.claim,
                        incarnation: me,
                        record: None,
                        due_at: rng.random_bool(0.5).then(|| at(now + 2)),
                    })
                    .collect();
                store.release(at(now), items).await.expect("releases");
            }
            10 => {
                let picked: Vec<i64> = (0..3)
                    .map(|_| configs[rng.random_range(0..configs.len())])
                    .collect();
                let mut orders = Vec::new();
                for id in picked {
                    orders.push(
                        lab.fire_order(id, now * 10_000 + i64::from(rng.random_range(0..999)))
                            .await,
                    );
                }
                for receipt in store.fire_due(at(now), orders).await.expect("fires") {
                    added.extend(receipt.enqueued);
                }
            }
            _ => {
                // It dies, and another takes over what it and others left.
                store.stop_host(at(now), me).await.expect("stops");
                held.clear();
                me = store.start_host(at(now), "storm").await.expect("starts");
                store.take_over(at(now), me).await.expect("takes over");
            }
        }
    }
    added
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let options = PostgresOptions {
        migrate: true,
        ..PostgresOptions::default()
    };
    let mut stores = Vec::new();
    for _ in 0..3 {
        let store = PostgresStore::connect(&cluster.url(&database), options.clone()).await;
        stores.push(store.expect("connects"));
    }
    let lab = Arc::new(Lab::new(Arc::new(stores[0].clone())).await);
    let configs = Arc::new(lab.crons(8).await);
    let seed = std::env::var("STORM_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let hosts = (0..6).map(|n: usize| {
        let life = host(
            stores[n % 3].clone(),
            lab.clone(),
            configs.clone(),
            seed + n as u64,
        );
        tokio::spawn(life)
    });
    let mut added = Vec::new();
    for life in hosts.collect::<Vec<_>>() {
        added.extend(life.await.expect("no panic"));
    }
    let store = &stores[0];
    // A last host works off what is left. Nothing may be stuck.
    let last = store.start_host(at(ROUNDS), "last").await.expect("starts");
    cluster
        .run(
            &database,
            &format!("UPDATE hosts SET lease_until = 0 WHERE incarnation <> {last}"),
        )
        .await;
    store.take_over(at(ROUNDS), last).await.expect("takes over");
    // After every slot that was fired for later.
    let mut now = (ROUNDS + 1) * 10_000;
    for _ in 0..2000 {
        now += 1;
        store.sweep_due(at(now), 1000).await.expect("sweeps");
        let types = Arc::from([(DEFAULT_TENANT_ID, "echo".to_owned())]);
        let request = ClaimRequest {
            now: at(now),
            incarnation: last,
            types,
            limit: 50,
        };
        let claimed = store.claim(request).await.expect("claims").claimed;
        let ends: Vec<_> = claimed
            .iter()
            .map(|one| Completion {
                end: End::Succeeded(Arc::from("{}")),
                ..end(&mut SmallRng::seed_from_u64(0), one, last, now)
            })
            .collect();
        store
            .complete_many(at(now), ends.into())
            .await
            .expect("completes");
        if store.queue_counts().await.expect("counts") == Default::default() {
            break;
        }
    }
    assert_eq!(
        store.queue_counts().await.expect("counts"),
        Default::default(),
        "something is stuck"
    );
    let mut ended = std::collections::HashMap::new();
    let mut page = Page::first(Page::MAX);
    loop {
        let list = store
            .executions(DEFAULT_TENANT_ID, &ExecutionFilter::default(), &page)
            .await;
        let list = list.expect("lists");
        for execution in list.items.into_iter().filter(|e| e.state != State::Skipped) {
            *ended.entry(execution.task_id).or_insert(0) += 1;
        }
        page.after = list.next;
        if list.next.is_none() {
            break;
        }
    }
    assert!(added.len() > 500, "{} executions were added", added.len());
    for task_id in &added {
        assert_eq!(ended.get(task_id), Some(&1), "{task_id} has one end");
    }
    assert_eq!(ended.len(), added.len(), "nothing was made up");
    // What the schema promises, and the order of locks.
    let mut connection = cluster.connect(&database).await;
    let rest = "SELECT (SELECT count(*) FROM live_parameters), \
        (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())";
    let row = sqlx::query(rest)
        .fetch_one(&mut connection)
        .await
        .expect("answers");
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (0, 0));
    store.tidy().await.expect("tidies");
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM run_keys")
        .fetch_one(&mut connection)
        .await
        .expect("answers");
    assert_eq!(keys, 1, "keys that nobody needs are gone");
    let _ = store.configs_by_ids(&configs).await.expect("answers");
}
