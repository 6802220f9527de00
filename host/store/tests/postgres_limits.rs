//! Rules E2 and E3 on one PostgreSQL with eight hosts, watched by the database itself: a trigger raises as soon as
//! a bound is exceeded. `HORARIUM_LIMIT_RUNS` sets how many executions run (10 000 for a soak).

use horarium_core::store::conformance::{Lab, at, completion};
use horarium_core::store::{
    Catalog, ClaimRequest, Claimed, CompletionReceipt, End, NewExecution, Queue, RateBound,
};
use horarium_model::concurrency::Rate;
use horarium_model::descriptor::Descriptor;
use horarium_model::execution::State;
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::{PluginVersion, TypeConcurrency, VersionState, digest};
use horarium_model::{DEFAULT_TENANT_ID, Timestamp};
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;

const HOSTS: usize = 8;
const ECHO: &str = "echo";

fn runs(few: u32) -> u32 {
    let wanted = std::env::var("HORARIUM_LIMIT_RUNS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(few)
}

async fn open(cluster: &Cluster, database: &str) -> PostgresStore {
    let options = PostgresOptions {
        migrate: true,
        connections: 2,
        ..PostgresOptions::default()
    };
    let store = PostgresStore::connect(&cluster.url(database), options).await;
    store.expect("connects")
}

async fn claim(
    store: &PostgresStore,
    host: i64,
    now: Timestamp,
    limit: u32,
    types: &[(i64, &str)],
) -> Vec<Claimed> {
    let types = types.iter().map(|(t, name)| (*t, (*name).to_owned()));
    let request = ClaimRequest {
        now,
        incarnation: host,
        types: types.collect(),
        limit,
    };
    store.claim(request).await.expect("claims").claimed
}

async fn succeed(store: &PostgresStore, host: i64, now: Timestamp, claimed: &[Claimed]) {
    let ends = claimed
        .iter()
        .map(|claimed| completion(host, now, claimed, End::Succeeded(Arc::from("{}"))));
    let receipts = store.complete_many(now, ends.collect()).await;
    let good = CompletionReceipt::Recorded(State::Succeeded);
    assert!(receipts.expect("completes").iter().all(|r| *r == good));
}

async fn register(store: &PostgresStore, task_type: &str) {
    let version = PluginVersion {
        tenant_id: DEFAULT_TENANT_ID,
        task_type: task_type.to_owned(),
        digest: digest(b"x"),
        state: VersionState::Compiling,
        error: None,
        size_bytes: 1,
        descriptor: Descriptor::default(),
        grants: Vec::new(),
        limits: LimitOverrides::default(),
        activate: true,
        grant_asked: false,
        input: horarium_model::program::ProgramInput::default(),
        warnings: Vec::new(),
        created_at: at(0),
    };
    let added = store.add_version(at(0), version, b"x".to_vec()).await;
    added.expect("registered");
}

/// Raises when a fourth of the type runs. Counted at the commit, one transaction after the other.
const THREE_AT_ONCE: &str = r#"
CREATE TABLE watched (running integer NOT NULL CHECK (running BETWEEN 0 AND 3), most integer NOT NULL);
INSERT INTO watched VALUES (0, 0);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE change integer := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN change := change - (OLD.state = 'running')::integer; END IF;
    IF TG_OP <> 'DELETE' THEN change := change + (NEW.state = 'running')::integer; END IF;
    UPDATE watched SET running = running + change, most = greatest(most, running + change) WHERE change <> 0;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON live_executions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
"#;

/// Eight hosts, three at once: never four, however they hurry, and all of them run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_bound_is_exact_over_eight_hosts() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let first = open(&cluster, &database).await;
    let lab = Lab::new(Arc::new(first.clone())).await;
    register(&first, ECHO).await;
    let concurrency = TypeConcurrency {
        max: Some(3),
        backlog: None,
    };
    let set = first.set_type_concurrency(at(0), DEFAULT_TENANT_ID, ECHO, concurrency.into());
    set.await.expect("set");
    let runs = runs(900);
    for start in (0..runs).step_by(1000) {
        let items = (start..runs.min(start + 1000)).map(|_| lab.new_execution(None, at(0)));
        let receipts = first.enqueue_many(at(0), items.collect()).await;
        receipts.expect("enqueues");
    }
    cluster.run(&database, THREE_AT_ONCE).await;
    let left = Arc::new(AtomicI64::new(runs.into()));
    let mut hosts = Vec::new();
    for _ in 0..HOSTS {
        let (store, left) = (open(&cluster, &database).await, left.clone());
        hosts.push(tokio::spawn(async move {
            let host = store.start_host(at(0), "host").await.expect("starts");
            let mut done = 0;
            while left.load(Ordering::Relaxed) > 0 {
                let claimed = claim(&store, host, at(1), 5, &[(DEFAULT_TENANT_ID, ECHO)]).await;
                succeed(&store, host, at(2), &claimed).await;
                left.fetch_sub(claimed.len() as i64, Ordering::Relaxed);
                done += claimed.len();
                if claimed.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            done
        }));
    }
    let mut done = 0;
    for host in hosts {
        done += host.await.expect("no bound was broken");
    }
    assert_eq!(done, runs as usize);
    let mut connection = cluster.connect(&database).await;
    let (running, most): (i32, i32) = sqlx::query_as("SELECT running, most FROM watched")
        .fetch_one(&mut connection)
        .await
        .expect("answers");
    assert_eq!((running, most), (0, 3), "the bound was reached and kept");
}

/// A bucket of 20 tokens that gets two a second, told apart from the store's own: raises when it is overdrawn.
const TWO_A_SECOND: &str = r#"
CREATE TABLE watched (tokens numeric NOT NULL CHECK (tokens >= 0), at bigint NOT NULL, taken integer NOT NULL);
INSERT INTO watched VALUES (20, 0, 0);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE watched SET taken = taken + 1, at = greatest(at, NEW.started_at),
        tokens = least(20, tokens + (greatest(at, NEW.started_at) - at) * 2 / 1000000.0) - 1;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER UPDATE ON live_executions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.state <> 'running' AND NEW.state = 'running') EXECUTE FUNCTION watch();
"#;

/// Eight hosts take from one bucket: it is never overdrawn, and nothing of it is left unused for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_exact_over_eight_hosts() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let first = open(&cluster, &database).await;
    let lab = Lab::new(Arc::new(first.clone())).await;
    let runs = runs(150).min(2000);
    let rate = Rate {
        count: 20,
        seconds: 10,
    };
    let items = (0..runs).map(|_| NewExecution {
        rate: Some(RateBound::of("all", rate)),
        ..lab.new_execution(None, at(0))
    });
    let receipts = first.enqueue_many(at(0), items.collect()).await;
    receipts.expect("enqueues");
    cluster.run(&database, TWO_A_SECOND).await;
    // All open before anything is taken: opening tidies, and by the database's clock, which is far ahead of this
    // test's, every bucket is full again and needs no row.
    let mut stores = Vec::new();
    for _ in 0..HOSTS {
        stores.push(open(&cluster, &database).await);
    }
    // One clock for all, which moves with every look at it. All look at the same time, and nobody again before all have:
    // else, while the machine keeps one from writing, the looks of those that write nothing would let time pass.
    let clock = Arc::new(AtomicI64::new(0));
    let left = Arc::new(AtomicI64::new(runs.into()));
    let turn = Arc::new(Barrier::new(HOSTS));
    let mut hosts = Vec::new();
    for store in stores {
        let (left, clock, turn) = (left.clone(), clock.clone(), turn.clone());
        hosts.push(tokio::spawn(async move {
            let host = store.start_host(at(0), "host").await.expect("starts");
            loop {
                turn.wait().await;
                let done = left.load(Ordering::Relaxed) <= 0;
                turn.wait().await;
                if done {
                    break;
                }
                let passed = clock.fetch_add(100_000, Ordering::Relaxed);
                let now = at(1) + chrono::Duration::microseconds(passed);
                store.sweep_due(now, 100).await.expect("sweeps");
                let claimed = claim(&store, host, now, 5, &[(DEFAULT_TENANT_ID, ECHO)]).await;
                succeed(&store, host, now, &claimed).await;
                left.fetch_sub(claimed.len() as i64, Ordering::Relaxed);
            }
        }));
    }
    for host in hosts {
        host.await.expect("the bucket was never overdrawn");
    }
    let mut connection = cluster.connect(&database).await;
    let (taken,): (i32,) = sqlx::query_as("SELECT taken FROM watched")
        .fetch_one(&mut connection)
        .await
        .expect("answers");
    assert_eq!(taken as u32, runs);
    // Twenty at once and two a second, and some time to look again.
    let least = f64::from(runs - 20) / 2.0;
    let took = clock.load(Ordering::Relaxed) as f64 / 1e6;
    assert!(took < least * 1.5 + 20.0, "{took} s, {least} s would do");
}

/// A hundred thousand executions of one tenant wait; another's single one waits for one slot to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_delays_no_other_tenant() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let store = open(&cluster, &database).await;
    let lab = Lab::new(Arc::new(store.clone())).await;
    let flood = "INSERT INTO live_executions (id, tenant_id, queue_key, due_at, created_at, priority, max_attempts, \
        run_max, state, trigger, task_id, task_type, parameters) \
        SELECT n, 1, n, n, 0, 0, 4, 0, 'available', 'api', gen_random_uuid()::text, 'echo', '{}' \
        FROM generate_series(1, 100000) n; SELECT setval('execution_ids', 200000); ANALYZE live_executions;";
    cluster.run(&database, flood).await;
    let other = DEFAULT_TENANT_ID + 1;
    let both = [(DEFAULT_TENANT_ID, ECHO), (other, ECHO)];
    let running = claim(&store, lab.host, at(0), 8, &both).await;
    assert!(running.iter().all(|one| one.tenant_id == DEFAULT_TENANT_ID));
    assert_eq!(running.len(), 8);
    let single = NewExecution {
        tenant_id: other,
        ..lab.new_execution(None, at(5))
    };
    let task_id = single.task_id;
    let receipts = store.enqueue_many(at(5), vec![single]).await;
    receipts.expect("enqueues");
    succeed(&store, lab.host, at(6), &running[..1]).await;
    let next = claim(&store, lab.host, at(6), 1, &both).await;
    assert_eq!(next[0].task_id, task_id);
    // What a claim reads does not grow with what waits.
    let mut connection = cluster.connect(&database).await;
    let sql = "SELECT pg_stat_force_next_flush(); SELECT idx_tup_read FROM pg_stat_user_indexes \
        WHERE indexrelname = 'live_executions_claim'";
    let mut read = async || -> i64 {
        let rows = sqlx::raw_sql(sql).fetch_all(&mut connection).await;
        sqlx::Row::get(rows.expect("answers").last().expect("a row"), 0)
    };
    store.close().await;
    let before = read().await;
    let again = open(&cluster, &database).await;
    let host = again.start_host(at(7), "again").await.expect("starts");
    assert_eq!(claim(&again, host, at(7), 8, &both).await.len(), 8);
    again.close().await;
    let after = read().await;
    assert!(
        after - before < 1000,
        "{} index entries read",
        after - before
    );
}

/// Statements whose plans were made while next to nothing waited, then twenty thousand within a second; nobody but the host
/// itself tells the planner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_of_an_empty_queue_do_not_outlive_it() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let store = open(&cluster, &database).await;
    let alone = "ALTER TABLE live_executions SET (autovacuum_enabled = off); ANALYZE;";
    cluster.run(&database, alone).await;
    let lab = Lab::new(Arc::new(store.clone())).await;
    let echo = [(DEFAULT_TENANT_ID, ECHO)];
    let enqueue = async |count: usize| {
        let items = (0..count).map(|_| lab.new_execution(None, at(5))).collect();
        store.enqueue_many(at(5), items).await.expect("enqueues");
    };
    let run = async |count: u32| {
        for _ in 0..count {
            let claimed = claim(&store, lab.host, at(6), 1, &echo).await;
            assert_eq!(claimed.len(), 1);
            succeed(&store, lab.host, at(6), &claimed).await;
        }
    };
    // On the sixth execution of a statement its plan is kept.
    for _ in 0..20 {
        enqueue(1).await;
        run(1).await;
    }
    for _ in 0..10 {
        enqueue(2000).await;
    }
    let known = "SELECT relpages::bigint FROM pg_class WHERE relname = 'live_executions'";
    let met = async || while cluster.number(&database, known).await < 64 {};
    let met = tokio::time::timeout(Duration::from_secs(60), met()).await;
    met.expect("the planner was never told");
    run(100).await;
    store.close().await;
    let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'live_executions'";
    let read = cluster.number(&database, read).await;
    assert!(read < 20_000, "{read} rows read one after the other");
}
