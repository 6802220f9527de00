//! Quotas on one PostgreSQL with two hosts that hurry, watched by the database itself: a trigger raises as soon as one
//! is exceeded.

mod hosts;

use horarium_core::store::conformance::at;
use horarium_core::store::{
    Care, Catalog, Claimed, Completion, CompletionReceipt, Queue, StoreError, TenantQuotas,
};
use horarium_model::DEFAULT_TENANT_ID;
use horarium_model::execution::State;
use horarium_model::quota::Quotas;
use horarium_model::{TaskSpec, Usage};
use horarium_store::PostgresStore;
use horarium_store::testing::Cluster;
use hosts::{lab, no_deadlocks, open, options, request, success};
use serde_json::{Value, json};

/// Three of the default limit of memory at once, and not a whole number of runs of fuel.
const MEMORY: u64 = 200 << 20;
const FUEL: u64 = 2_000_000_000_000;
/// What each burns, if it is given as much.
const BURNS: u64 = 12_345_678_901;

/// What is reserved for running executions and, of fuel, what was burnt; added up at each commit, one transaction
/// after the other.
const WATCH: &str = r#"
CREATE TABLE watched (memory bigint NOT NULL CHECK (memory BETWEEN 0 AND 209715200),
    fuel bigint NOT NULL CHECK (fuel BETWEEN 0 AND 2000000000000), most bigint NOT NULL DEFAULT 0);
INSERT INTO watched VALUES (0, 0);
CREATE FUNCTION watch_runs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE m bigint := 0; f bigint := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.state = 'running' THEN
        m := m - coalesce(OLD.memory_reserved, 0); f := f - coalesce(OLD.fuel_reserved, 0);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.state = 'running' THEN
        m := m + coalesce(NEW.memory_reserved, 0); f := f + coalesce(NEW.fuel_reserved, 0);
    END IF;
    IF m <> 0 OR f <> 0 THEN
        UPDATE watched SET memory = memory + m, fuel = fuel + f, most = greatest(most, memory + m);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION watch_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE watched SET fuel = fuel + NEW.fuel - CASE WHEN TG_OP = 'INSERT' THEN 0 ELSE OLD.fuel END;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON live_executions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch_runs();
CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON usage_days
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch_usage();
"#;

async fn set(store: &PostgresStore, body: Value) {
    let quotas = Quotas::from_json(&body).expect("good quotas");
    store
        .set_quotas(DEFAULT_TENANT_ID, quotas)
        .await
        .expect("set");
}

/// The end of a run that burnt what it could.
fn burnt(host: i64, claimed: &Claimed) -> Completion {
    let mut item = success(claimed, host);
    item.record.usage = Some(Usage {
        fuel: BURNS.min(claimed.allowance.fuel.expect("reserved")),
        ..Usage::default()
    });
    item
}

async fn burnt_so_far(store: &PostgresStore) -> u64 {
    let used = store.quota_use(at(101), DEFAULT_TENANT_ID).await;
    used.expect("counted").spent.fuel
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_fuel_are_exact_over_two_hosts() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    set(
        &first,
        json!({"memory_bytes": MEMORY, "fuel_per_day": FUEL}),
    )
    .await;
    let items = (0..300).map(|_| lab.new_execution(None, at(0))).collect();
    first.enqueue_many(at(0), items).await.expect("enqueues");
    cluster.run(&database, WATCH).await;
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let store = open(&cluster, &database, options()).await;
        tasks.push(tokio::spawn(async move {
            let host = store.start_host(at(0), "host").await.expect("starts");
            let mut ended = 0;
            while burnt_so_far(&store).await < FUEL {
                let claimed = store.claim(request(host, 5)).await.expect("claims").claimed;
                let ends: Vec<_> = claimed.iter().map(|one| burnt(host, one)).collect();
                let receipts = store
                    .complete_many(at(101), ends.into())
                    .await
                    .expect("ends");
                let good = CompletionReceipt::Recorded(State::Succeeded);
                assert!(receipts.iter().all(|receipt| *receipt == good));
                ended += claimed.len() as u64;
            }
            let more = store.claim(request(host, 5)).await.expect("claims").claimed;
            assert!(more.is_empty(), "nothing is left");
            ended
        }));
    }
    let mut ended = 0;
    for task in tasks {
        ended += task.await.expect("within every quota");
    }
    let used = first
        .quota_use(at(101), DEFAULT_TENANT_ID)
        .await
        .expect("counted");
    assert_eq!(used.spent.fuel, FUEL, "all of it, and no more");
    assert_eq!(
        (used.spent.fuel_reserved, used.spent.memory_reserved),
        (0, 0)
    );
    assert!(ended >= FUEL.div_ceil(BURNS), "{ended}");
    let most = cluster.number(&database, "SELECT most FROM watched").await;
    assert!(most > 0 && most.unsigned_abs() <= MEMORY, "{most}");
    no_deadlocks(&cluster, &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_what_is_created_are_exact_over_two_hosts() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    set(&first, json!({"executions_per_minute": 25, "configs": 7})).await;
    let items = (0..100).map(|_| lab.new_execution(None, at(0))).collect();
    first.enqueue_many(at(0), items).await.expect("enqueues");
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let store = open(&cluster, &database, options()).await;
        tasks.push(tokio::spawn(async move {
            let host = store.start_host(at(0), "host").await.expect("starts");
            let (mut started, mut created) = (0, 0);
            for _ in 0..10 {
                started += store
                    .claim(request(host, 3))
                    .await
                    .expect("claims")
                    .claimed
                    .len();
                let spec =
                    json!({"name": "a task", "task_type": "echo", "scheduler_type": "manual"});
                let spec = TaskSpec::from_json(&spec, at(0), None).expect("a good spec");
                match store.create_config(at(0), DEFAULT_TENANT_ID, spec).await {
                    Ok(_) => created += 1,
                    Err(StoreError::Quota(hit)) => assert_eq!((hit.used, hit.limit), (7, 7)),
                    Err(error) => panic!("{error}"),
                }
            }
            (started, created)
        }));
    }
    let (mut started, mut created) = (0, 0);
    for task in tasks {
        let (more, made) = task.await.expect("done");
        (started, created) = (started + more, created + made);
    }
    assert_eq!((started, created), (25, 7));
    let TenantQuotas { quotas, .. } = first
        .quotas(DEFAULT_TENANT_ID)
        .await
        .expect("read")
        .expect("known");
    assert_eq!(quotas.configs, Some(7));
    no_deadlocks(&cluster, &database).await;
}
