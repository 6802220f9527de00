//! A database copied into another one is equal to it, goes on where it was interrupted, and is refused where
//! it would mix up two.

use horarium_core::store::conformance::differential::compare;
use horarium_core::store::conformance::{self, Lab, at};
use horarium_core::store::memory::MemoryStore;
use horarium_core::store::{
    Catalog, EnqueueReceipt, ExecutionFilter, History, Page, Queue, Store, StoreError,
};
use horarium_model::execution::{Execution, State};
use horarium_model::task_type::PluginVersion;
use horarium_model::{DEFAULT_TENANT_ID, HOST_TENANT_ID};
use horarium_store::testing::Cluster;
use horarium_store::{
    CopyPlace, CopyReport, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, copy,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::sync::Arc;

mod ops;

async fn open(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path, SqliteOptions::default()).await;
    store.expect("opens")
}

fn file(path: &Path) -> CopyPlace {
    CopyPlace::Sqlite(path.to_owned())
}

fn options() -> PostgresOptions {
    PostgresOptions {
        notify: false,
        ..PostgresOptions::default()
    }
}

async fn database(cluster: &Cluster) -> (String, CopyPlace) {
    let url = cluster.url(&cluster.database().await);
    let place = CopyPlace::Postgres(url.clone(), Box::new(options()));
    (url, place)
}

async fn copied(from: &CopyPlace, to: &CopyPlace) -> CopyReport {
    copy(from, to, false, &mut |_| {}).await.expect("copies")
}

async fn refused(from: &CopyPlace, to: &CopyPlace) -> String {
    let refused = copy(from, to, false, &mut |_| {})
        .await
        .expect_err("refused");
    assert!(!refused.to_string().contains('\n'), "one line: {refused}");
    refused.to_string()
}

/// Everything that lists show, with attempts and logs.
async fn everything(store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut page, filter) = (Page::first(Page::MAX), ExecutionFilter::default());
    let mut executions: Vec<Execution> = Vec::new();
    loop {
        let list = store.executions(DEFAULT_TENANT_ID, &filter, &page).await;
        let list = list.expect("lists");
        executions.extend(list.items);
        page.after = list.next;
        if list.next.is_none() {
            break;
        }
    }
    for listed in executions {
        let whole = store.execution(DEFAULT_TENANT_ID, listed.task_id).await;
        let attempts = store.attempts(DEFAULT_TENANT_ID, listed.task_id).await;
        let logs = store
            .logs(DEFAULT_TENANT_ID, listed.task_id, &Page::first(Page::MAX))
            .await;
        lines.push(format!("{whole:?} {attempts:?} {logs:?}"));
    }
    let filter = Default::default();
    let configs = store
        .configs(DEFAULT_TENANT_ID, &filter, &Page::first(Page::MAX))
        .await;
    for config in configs.expect("lists").items {
        let state = store.task_state(DEFAULT_TENANT_ID, config.id).await;
        lines.push(format!("{config:?} {state:?}"));
    }
    lines.push(format!("{:?}", store.all_task_types().await));
    for version in store.all_versions().await.expect("lists") {
        let bytes = store.component_bytes(&version.digest).await;
        lines.push(format!("{version:?} {bytes:?}"));
    }
    lines.push(format!("{:?}", store.catalog_epoch().await));
    lines
}

/// A file as random operations leave it: nothing in it was stopped in order.
async fn busy_file(path: &Path, operations: usize) {
    let mut runner = TestRunner::deterministic();
    let ops = proptest::collection::vec(ops::op(), operations);
    let ops = ops.new_tree(&mut runner).expect("operations").current();
    let store = Arc::new(open(path).await);
    let same = compare(&ops, Arc::new(MemoryStore::new()), store.clone()).await;
    same.expect("both answer alike");
    // What is shared has no tenant.
    let shared = PluginVersion {
        tenant_id: HOST_TENANT_ID,
        ..conformance::version("shared", b"shared")
    };
    let shared = store.add_version(at(0), shared, b"shared".to_vec()).await;
    shared.expect("registered");
    store.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_everything_is_equal() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (here, back) = (folder.path().join("here.db"), folder.path().join("back.db"));
    busy_file(&here, 700).await;
    let (url, there) = database(&cluster).await;
    let first = copied(&file(&here), &there).await;
    assert!(!first.resumed && first.rows > 200, "{first:?}");
    let second = copied(&there, &file(&back)).await;
    assert_eq!(first.tables, second.tables, "also by checksums");
    let (_, elsewhere) = database(&cluster).await;
    assert_eq!(copied(&there, &elsewhere).await.tables, first.tables);

    let (one, other) = (open(&here).await, open(&back).await);
    let told = everything(&one).await;
    assert_eq!(told, everything(&other).await);
    let postgres = PostgresStore::connect(&url, options())
        .await
        .expect("opens");
    assert_eq!(told, everything(&postgres).await);

    // Ids go on behind those of the source, also of what was deleted there.
    let (mut ids, mut hosts) = (Vec::new(), Vec::new());
    for store in [Arc::new(one) as Arc<dyn Store>, Arc::new(postgres)] {
        let lab = Lab::new(store.clone()).await;
        let configs = lab.crons(1).await;
        let mut item = lab.new_execution(None, at(0));
        item.task_id = horarium_model::TaskId::now_v7();
        let receipts = store
            .enqueue_many(at(0), vec![item])
            .await
            .expect("enqueues");
        let EnqueueReceipt::Enqueued { id, .. } = receipts[0] else {
            panic!("{receipts:?}")
        };
        ids.push((configs, id));
        hosts.push(lab.host);
    }
    assert_eq!(ids[0], ids[1]);
    // PostgreSQL numbers hosts by its clock, which is far ahead of any counter.
    assert!(hosts[1] > hosts[0], "{hosts:?}");
}

/// JSON with every kind of number, instants before 1970, plugins, logs, state: as the rules of the
/// conformance suite leave them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rules_leave_is_equal() {
    const RULES: [&str; 6] = [
        "json_comes_back_equal",
        "instants_keep_their_microseconds",
        "versions_live_their_life",
        "logs_and_attempts_are_kept_in_order",
        "state_is_committed_with_success_only",
        "tenants_do_not_see_each_other",
    ];
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = conformance::all();
    let rules = rules.into_iter().filter(|(name, _)| RULES.contains(name));
    let mut done = 0;
    for (name, rule) in rules {
        let path = folder.path().join(format!("{name}.db"));
        let store = Arc::new(open(&path).await);
        rule(store.clone()).await;
        let told = everything(store.as_ref()).await;
        store.close().await.expect("closes");
        drop(store);
        let (url, there) = database(&cluster).await;
        copied(&file(&path), &there).await;
        let postgres = PostgresStore::connect(&url, options())
            .await
            .expect("opens");
        assert_eq!(told, everything(&postgres).await, "{name}");
        postgres.close().await;
        done += 1;
    }
    assert_eq!(done, RULES.len());
}

/// What ran when the file's server died is taken over by the first host of the copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_the_dead_server_are_taken_over_on_the_copy() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let store = Arc::new(open(&path).await);
    let lab = Lab::new(store.clone()).await;
    let mut items: Vec<_> = (0..3).map(|_| lab.new_execution(None, at(0))).collect();
    // One runs, another waits for the same key, marked as passed over.
    items[1].run_key = Some("k".into());
    items[2].run_key = Some("k".into());
    let tasks: Vec<_> = items.iter().map(|item| item.task_id).collect();
    store.enqueue_many(at(0), items).await.expect("enqueues");
    let request = |incarnation, now| horarium_core::store::ClaimRequest {
        now,
        incarnation,
        types: Arc::from([(DEFAULT_TENANT_ID, "echo".to_owned())]),
        limit: 10,
    };
    assert_eq!(
        store
            .claim(request(lab.host, at(1)))
            .await
            .expect("claims")
            .claimed
            .len(),
        2
    );
    store.close().await.expect("closes");
    drop((lab, store));

    let (url, there) = database(&cluster).await;
    copied(&file(&path), &there).await;
    let postgres = PostgresStore::connect(&url, options())
        .await
        .expect("opens");
    let host = postgres.start_host(at(2), "new").await.expect("starts");
    let beat = postgres.heartbeat(at(2), host).await.expect("beats");
    assert_eq!(
        beat.next_take_over,
        Some(std::time::Duration::ZERO),
        "at once"
    );
    let taken = postgres.take_over(at(2), host).await.expect("takes over");
    assert_eq!((taken.requeued, taken.failed, taken.cancelled), (2, 0, 0));
    let claims = postgres.claim(request(host, at(3))).await;
    let claimed = claims.expect("claims").claimed;
    assert_eq!(claimed.len(), 2, "of the two with one key one may run");
    assert!(claimed.iter().all(|claimed| claimed.attempt == 1));
    for task in tasks {
        let shown = postgres.execution(DEFAULT_TENANT_ID, task).await;
        let shown = shown.expect("answers").expect("is there");
        assert!(matches!(shown.state, State::Running | State::Available));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_copy_goes_on_and_nothing_else_does() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, other) = (folder.path().join("one.db"), folder.path().join("other.db"));
    busy_file(&path, 300).await;
    busy_file(&other, 30).await;
    let (source, other) = (file(&path), file(&other));
    let (url, there) = database(&cluster).await;
    let local = file(&folder.path().join("local.db"));
    for target in [&there, &local] {
        // Dropped in the middle, as by an interrupt.
        let (reached, stop) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        let mut told = |progress: horarium_store::CopyProgress| {
            if progress.table == "task_executions"
                && let Some(reached) = reached.take()
            {
                let _ = reached.send(());
            }
        };
        tokio::select! {
            biased;
            _ = stop => {}
            done = copy(&source, target, false, &mut told) => panic!("not interrupted: {done:?}"),
        }
        let words = refused(&other, target).await;
        assert!(words.contains("another database"), "{words}");
    }
    // No host starts on half a database, and nothing copies from it.
    let half = PostgresStore::connect(&url, options())
        .await
        .expect_err("refused");
    assert!(half.to_string().contains("db copy"), "{half}");
    let CopyPlace::Sqlite(half) = &local else {
        panic!()
    };
    let half = SqliteStore::open(half, SqliteOptions::default()).await;
    assert!(half.expect_err("refused").to_string().contains("db copy"));
    assert!(refused(&there, &local).await.contains("not finished"));

    let done = copied(&source, &there).await;
    let early: u64 = done.tables.iter().take(10).map(|table| table.copied).sum();
    assert!(done.resumed && early == 0, "{done:?}");
    assert!(done.tables.iter().any(|table| table.copied > 0), "{done:?}");
    let words = refused(&source, &there).await;
    assert!(words.contains("not empty: task_configs has"), "{words}");

    // A source that was used meanwhile is another one; what was copied of the old one goes.
    let store = open(&path).await;
    store.start_host(at(9_000), "again").await.expect("starts");
    store.close().await.expect("closes");
    drop(store);
    assert!(refused(&source, &local).await.contains("--restart"));
    let anew = copy(&source, &local, true, &mut |_| {})
        .await
        .expect("copies");
    let copied: u64 = anew.tables.iter().map(|table| table.copied).sum();
    assert!(!anew.resumed && copied == anew.rows, "{anew:?}");
    // Restarting removes copies alone.
    let error = copy(&source, &local, true, &mut |_| {})
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("not empty"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_copies_are_refused_in_one_line() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("one.db");
    let (url, there) = database(&cluster).await;
    let nothing = refused(&file(&folder.path().join("none.db")), &there).await;
    assert!(
        nothing.contains("none.db: there is no database"),
        "{nothing}"
    );
    assert!(!folder.path().join("none.db.lock").exists());
    let store = open(&path).await;
    let running = copy(&file(&path), &there, false, &mut |_| {}).await;
    assert!(
        matches!(&running, Err(StoreError::Unavailable(why)) if why.contains("in use by process")),
        "{running:?}"
    );
    store.start_host(at(0), "a").await.expect("starts");
    store.close().await.expect("closes");
    drop(store);
    let same = refused(&file(&path), &file(&path)).await;
    assert!(same.contains("same file"), "{same}");
    let empty = refused(&there, &file(&path)).await;
    assert!(empty.contains("source is empty"), "{empty}");

    copied(&file(&path), &there).await;
    let same = refused(&there, &there).await;
    assert!(same.contains("same database"), "{same}");
    let store = PostgresStore::connect(&url, options())
        .await
        .expect("opens");
    store.start_host(at(1), "alive").await.expect("starts");
    let alive = refused(&there, &file(&folder.path().join("two.db"))).await;
    assert!(alive.contains("host `alive` runs"), "{alive}");
    store.close().await;

    let (newer, place) = database(&cluster).await;
    PostgresStore::migrate(&newer, &options())
        .await
        .expect("migrates");
    let name = newer
        .split('?')
        .next()
        .and_then(|url| url.rsplit('/').next())
        .expect("a name");
    cluster
        .run(
            name,
            "INSERT INTO horarium_schema (version, name, runs_from) VALUES (99, 'later', 99)",
        )
        .await;
    let words = refused(&file(&path), &place).await;
    assert!(words.contains("schema version 99"), "{words}");
}
