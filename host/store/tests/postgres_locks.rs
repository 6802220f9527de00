//! What hosts hold while they wait for each other, and what is left behind where one passed over what another
//! held.

use horarium_core::store::conformance::{Lab, at};
use horarium_core::store::{
    Catalog, Claimed, Completion, CompletionReceipt, End, EnqueueReceipt, NewExecution, Queue,
    RateBound, TenantBounds,
};
use horarium_model::concurrency::Rate;
use horarium_model::execution::State;
use horarium_model::task_type::TypeConcurrency;
use horarium_model::{ConfigId, DEFAULT_TENANT_ID, ErrorKind};
use horarium_store::PostgresStore;
use horarium_store::testing::{Cluster, let_go};
use sqlx::AssertSqlSafe;
use std::sync::Arc;

mod hosts;
use hosts::{lab, no_deadlocks, options, request, success, until_waiting};

/// What a chain to this config locks: a tenant with a cap, the config itself.
fn held_by_others(target: ConfigId) -> [String; 3] {
    [
        "SELECT 1 FROM tenants WHERE id = 1 FOR NO KEY UPDATE".into(),
        format!("SELECT 1 FROM task_configs WHERE id = {target} FOR UPDATE"),
        format!("SELECT 1 FROM task_schedules WHERE config_id = {target} FOR NO KEY UPDATE"),
    ]
}

/// An execution whose success or cancel sets off the target.
fn parent(lab: &Lab, target: ConfigId) -> NewExecution {
    let chain = format!(r#"[{{"task": {target}, "on": ["succeeded", "cancelled"]}}]"#);
    NewExecution {
        chain: Some(Arc::from(chain)),
        ..lab.new_execution(None, at(0))
    }
}

async fn cap_the_tenant(store: &PostgresStore) {
    let bounds = TenantBounds {
        backlog: Some(1000),
        ..TenantBounds::default()
    };
    let set = store.set_tenant_bounds(DEFAULT_TENANT_ID, bounds).await;
    set.expect("set");
}

async fn put(store: &PostgresStore, item: NewExecution) -> i64 {
    let receipts = store.enqueue_many(at(0), vec![item]).await;
    match receipts.expect("enqueues")[..] {
        [EnqueueReceipt::Enqueued { id, .. }] => id,
        ref other => panic!("not enqueued: {other:?}"),
    }
}

async fn claim(store: &PostgresStore, lab: &Lab) -> Vec<Claimed> {
    let claims = store.claim(request(lab.host, 5)).await;
    claims.expect("claims").claimed
}

/// Who ends an execution with a chain waits for what the chain looks at before it has the execution, so that who
/// comes the other way round, as a schedule that cancels what runs, does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_with_chains_wait_with_empty_hands() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    cap_the_tenant(&store).await;
    let target = lab.crons(1).await[0];
    for held in held_by_others(target) {
        let id = put(&store, parent(&lab, target)).await;
        let running = claim(&store, &lab).await.remove(0);
        assert_eq!(running.id, id);
        let mut other = cluster.hold(&database, &held).await;
        let (ending, end) = (store.clone(), success(&running, lab.host));
        let ended =
            tokio::spawn(async move { ending.complete_many(at(1), vec![end].into()).await });
        until_waiting(&cluster, &database).await;
        let row = format!("SELECT 1 FROM live_executions WHERE id = {id} FOR UPDATE NOWAIT");
        let free = sqlx::raw_sql(AssertSqlSafe(row)).execute(&mut other).await;
        free.unwrap_or_else(|error| panic!("{held}: {error}"));
        let_go(other).await;
        let receipts = ended.await.expect("ends").expect("completes");
        assert_eq!(receipts, [CompletionReceipt::Recorded(State::Succeeded)]);
        // The child runs and ends, so that the next one finds nothing alive.
        let child = claim(&store, &lab).await.remove(0);
        let done = store.complete_many(at(2), vec![success(&child, lab.host)].into());
        done.await.expect("completes");
    }
    no_deadlocks(&cluster, &database).await;
}

/// A cancel learns of the chain only when it has the execution. It lets go of it and comes back, and is not refused
/// however long the others take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_with_a_chain_waits_with_empty_hands() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    cap_the_tenant(&store).await;
    let target = lab.crons(1).await[0];
    for held in held_by_others(target) {
        let item = parent(&lab, target);
        let task_id = item.task_id;
        let id = put(&store, item).await;
        let mut other = cluster.hold(&database, &held).await;
        let cancelling = store.clone();
        let cancelled =
            tokio::spawn(async move { cancelling.cancel(at(1), DEFAULT_TENANT_ID, task_id).await });
        until_waiting(&cluster, &database).await;
        let row = format!("SELECT 1 FROM live_executions WHERE id = {id} FOR UPDATE NOWAIT");
        let free = sqlx::raw_sql(AssertSqlSafe(row)).execute(&mut other).await;
        free.unwrap_or_else(|error| panic!("{held}: {error}"));
        let_go(other).await;
        cancelled.await.expect("ends").expect("cancels");
        assert_eq!(lab.show(task_id).await.state, State::Cancelled);
        let child = claim(&store, &lab).await.remove(0);
        assert_eq!(child.parent_task_id, Some(task_id));
        let done = store.complete_many(at(2), vec![success(&child, lab.host)].into());
        done.await.expect("completes");
    }
    no_deadlocks(&cluster, &database).await;
}

/// A batch waits for the others of a capped type, not for those of every type in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_capped_is_locked() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    for name in ["capped", "free"] {
        let sql = format!(
            "INSERT INTO task_types (tenant_id, task_type, created_at, updated_at) VALUES (1, '{name}', 0, 0)"
        );
        cluster.run(&database, &sql).await;
    }
    let concurrency = TypeConcurrency {
        max: None,
        backlog: Some(10),
    };
    let set = store.set_type_concurrency(at(0), DEFAULT_TENANT_ID, "capped", concurrency.into());
    set.await.expect("set");
    let held = "SELECT 1 FROM task_types WHERE task_type = 'free' FOR NO KEY UPDATE; \
        SELECT 1 FROM tenants FOR NO KEY UPDATE";
    let other = cluster.hold(&database, held).await;
    let items = ["capped", "free"].map(|name| NewExecution {
        task_type: name.to_owned(),
        ..lab.new_execution(None, at(0))
    });
    let placed = store.enqueue_many(at(0), items.into()).await;
    assert_eq!(placed.expect("nobody has what it needs").len(), 2);
    let_go(other).await;
}

/// Tokens come while somebody holds what waits for them, and changes nothing: it is looked at again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_met_a_held_row_are_given_later() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    let rate = Rate {
        count: 1,
        seconds: 1,
    };
    for _ in 0..2 {
        let item = NewExecution {
            rate: Some(RateBound::of("all", rate)),
            ..lab.new_execution(None, at(0))
        };
        put(&store, item).await;
    }
    assert_eq!(claim(&store, &lab).await.len(), 1);
    let waiting = "SELECT 1 FROM live_executions WHERE blocked = 2 FOR UPDATE";
    let other = cluster.hold(&database, waiting).await;
    let swept = store.sweep_due(at(102), 10).await.expect("sweeps");
    assert_eq!(swept.refilled, 0);
    let_go(other).await;
    let swept = store.sweep_due(at(104), 10).await.expect("sweeps");
    assert_eq!(swept.refilled, 1);
    let later = horarium_core::store::ClaimRequest {
        now: at(104),
        ..request(lab.host, 5)
    };
    assert_eq!(store.claim(later).await.expect("claims").claimed.len(), 1);
}

/// A place of a run key is freed while somebody holds the next in line, and changes nothing: a sweep finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_met_a_held_row_is_given_later() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    store.sweep_due(at(0), 10).await.expect("sweeps");
    for _ in 0..2 {
        let item = NewExecution {
            run_key: Some("one".into()),
            ..lab.new_execution(None, at(0))
        };
        put(&store, item).await;
    }
    let running = claim(&store, &lab).await.remove(0);
    let waiting = "SELECT 1 FROM live_executions WHERE blocked = 1 FOR UPDATE";
    let other = cluster.hold(&database, waiting).await;
    let done = store.complete_many(at(101), vec![success(&running, lab.host)].into());
    done.await.expect("completes");
    let_go(other).await;
    assert!(claim(&store, &lab).await.is_empty(), "it was passed over");
    store.sweep_due(at(102), 10).await.expect("sweeps");
    assert_eq!(claim(&store, &lab).await.len(), 1);
    // Nothing is let go of a key that is in use.
    put(
        &store,
        NewExecution {
            run_key: Some("one".into()),
            ..lab.new_execution(None, at(0))
        },
    )
    .await;
    assert!(claim(&store, &lab).await.is_empty());
    store.sweep_due(at(300), 10).await.expect("sweeps");
    let blocked = "SELECT count(*) FROM live_executions WHERE blocked = 1";
    assert_eq!(cluster.number(&database, blocked).await, 1);
}

/// The end of a claim that is over says nothing of its type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_end_leaves_no_breaker() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    put(&store, lab.new_execution(None, at(0))).await;
    let running = claim(&store, &lab).await.remove(0);
    let mut end = success(&running, lab.host);
    end.record.error_kind = Some(ErrorKind::LoadFailed);
    let stale = Completion {
        claim: end.claim + 1,
        end: End::Failed,
        ..end
    };
    let receipts = store.complete_many(at(1), vec![stale].into()).await;
    assert_eq!(receipts.expect("answers"), [CompletionReceipt::Stale]);
    let kept = "SELECT count(*) FROM type_breakers";
    assert_eq!(cluster.number(&database, kept).await, 0);
}

/// An end that nothing stands against is one statement, which looks again at what changed while it waited for its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_sees_what_changed_while_it_waited() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    let config = lab.crons(1).await[0];
    let failed =
        format!("UPDATE task_schedules SET failures_in_a_row = 2 WHERE config_id = {config}");
    let deleted = format!(
        "UPDATE task_configs SET deleted_at = 1, delete_history = true WHERE id = {config}"
    );
    let forgiven =
        format!("SELECT 1 - failures_in_a_row FROM task_schedules WHERE config_id = {config}");
    // What another does, what it holds the row with, and a number that is one afterwards.
    let cases = [
        (
            "SELECT 1",
            "cancel_requested_at = NULL",
            "SELECT count(*) FROM task_executions WHERE id = ID AND state = 'succeeded'",
        ),
        (
            "SELECT 1",
            "cancel_requested_at = 5",
            "SELECT count(*) FROM task_executions WHERE id = ID AND cancel_requested_at = 5",
        ),
        (&failed, "lost = lost", &forgiven),
        (
            &deleted,
            "lost = lost",
            "SELECT 1 - count(*) FROM task_executions WHERE id = ID",
        ),
    ];
    for (round, (does, row, told)) in (1..).zip(cases) {
        let id = put(&store, lab.new_execution(Some(config), at(0))).await;
        let running = claim(&store, &lab).await.remove(0);
        assert_eq!(running.id, id);
        let held = format!("{does}; UPDATE live_executions SET {row} WHERE id = {id}");
        let mut other = cluster.hold(&database, &held).await;
        let (ending, end) = (store.clone(), success(&running, lab.host));
        // Far from one another: what met something does not try the short way for a second.
        let now = at(10 * round);
        let ended = tokio::spawn(async move { ending.complete_many(now, vec![end].into()).await });
        until_waiting(&cluster, &database).await;
        let commit = sqlx::raw_sql("COMMIT").execute(&mut other).await;
        commit.expect("commits");
        let receipts = ended.await.expect("ends").expect("completes");
        assert_eq!(receipts, [CompletionReceipt::Recorded(State::Succeeded)]);
        let told = told.replace("ID", &id.to_string());
        assert_eq!(cluster.number(&database, &told).await, 1, "{held}: {told}");
        let alive = format!("SELECT count(*) FROM live_executions WHERE id = {id}");
        assert_eq!(cluster.number(&database, &alive).await, 0, "{held}");
    }
    let used = "SELECT sum(runs)::bigint FROM usage_days";
    assert_eq!(
        cluster.number(&database, used).await,
        4,
        "each is counted once"
    );
    no_deadlocks(&cluster, &database).await;
}
