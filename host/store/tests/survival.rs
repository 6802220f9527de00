//! What survives when the process does not: everything that was answered, and of everything else all or
//! nothing.

use horarium_core::store::conformance::{Lab, at};
use horarium_core::store::{
    Catalog, EnqueueReceipt, ExecutionFilter, History, Page, Queue, StoreError,
};
use horarium_model::TaskId;
use horarium_model::{DEFAULT_TENANT_ID, TaskSpec};
use horarium_store::{SqliteOptions, SqliteStore};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

const BATCH: usize = 7;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Opens a database whose last owner may be closing it this instant.
fn reopen(runtime: &tokio::runtime::Runtime, path: &Path) -> SqliteStore {
    for _ in 0..10_000 {
        match runtime.block_on(SqliteStore::open(path, SqliteOptions::default())) {
            Ok(store) => return store,
            Err(StoreError::Unavailable(_)) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the lock was never let go");
}

fn task_id(batch: usize, item: usize) -> TaskId {
    TaskId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 | (batch * BATCH + item) as u128)
}

#[test]
fn a_writer_killed_at_work_leaves_whole_batches_and_all_that_was_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let answered = Arc::new(Mutex::new(Vec::new()));
    let doomed = runtime();
    let store = doomed.block_on(async {
        let store = SqliteStore::open(&path, SqliteOptions::default()).await;
        Arc::new(store.expect("opens"))
    });
    let lab = Arc::new(doomed.block_on(Lab::new(store.clone())));
    let (first_answers, seen) = std::sync::mpsc::channel();
    for batch in 0..400 {
        let (store, lab) = (store.clone(), lab.clone());
        let (answered, first_answers) = (answered.clone(), first_answers.clone());
        doomed.spawn(async move {
            let items = (0..BATCH)
                .map(|item| {
                    let mut new = lab.new_execution(None, at(0));
                    new.task_id = task_id(batch, item);
                    new
                })
                .collect();
            if store.enqueue_many(at(0), items).await.is_ok() {
                answered.lock().expect("no panic").push(batch);
                let _ = first_answers.send(());
            }
        });
    }
    seen.recv().expect("something was answered");
    drop((store, lab));
    doomed.shutdown_background();

    let after = runtime();
    let store = reopen(&after, &path);
    let found = after.block_on(async {
        let (mut found, mut page) = (HashSet::new(), Page::first(Page::MAX));
        loop {
            let filter = ExecutionFilter::default();
            let list = store.executions(DEFAULT_TENANT_ID, &filter, &page).await;
            let list = list.expect("lists");
            found.extend(list.items.into_iter().map(|e| e.task_id));
            page.after = list.next;
            if list.next.is_none() {
                return found;
            }
        }
    });
    let whole = |batch| {
        (0..BATCH)
            .filter(|item| found.contains(&task_id(batch, *item)))
            .count()
    };
    for batch in 0..400 {
        assert!([0, BATCH].contains(&whole(batch)), "batch {batch} is torn");
    }
    for batch in answered.lock().expect("no panic").iter() {
        assert_eq!(whole(*batch), BATCH, "batch {batch} was answered");
    }
    // The ids go on where they stopped, and the survivors can be worked off.
    let highest = after.block_on(async {
        let lab = Lab::new(Arc::new(store)).await;
        let mut last = lab.new_execution(None, at(0));
        last.task_id = task_id(1000, 0);
        let receipts = lab.store.enqueue_many(at(0), vec![last]).await;
        receipts.expect("enqueues").remove(0)
    });
    let EnqueueReceipt::Enqueued { id, .. } = highest else {
        panic!("{highest:?}")
    };
    assert!(id > i64::try_from(found.len()).expect("few"));
}

#[tokio::test]
async fn a_dropped_caller_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let store = Arc::new(
        SqliteStore::open(&path, SqliteOptions::default())
            .await
            .expect("opens"),
    );
    let lab = Lab::new(store.clone()).await;
    let item = lab.new_execution(None, at(0));
    let task_id = item.task_id;
    {
        let call = store.enqueue_many(at(0), vec![item]);
        tokio::pin!(call);
        // One poll hands the operation to the writer; then the caller goes away.
        assert!(futures_util::poll!(call.as_mut()).is_pending());
    }
    // Written through the same queue, so it comes after.
    store.start_host(at(1), "later").await.expect("starts");
    let found = store.execution(DEFAULT_TENANT_ID, task_id).await;
    assert!(found.expect("answers").is_some());
}

/// An operation that fails in a shared transaction takes nobody with it.
#[tokio::test]
async fn a_failing_operation_harms_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).await;
    let store = Arc::new(store.expect("opens"));
    let lab = Arc::new(Lab::new(store.clone()).await);
    let calls = (0..60).map(|n| {
        let (store, lab) = (store.clone(), lab.clone());
        tokio::spawn(async move {
            let mut item = lab.new_execution(None, at(0));
            if n % 3 == 0 {
                // Canonical JSON is the caller's promise; this breaks it.
                item.parameters = Arc::from("{not json");
            }
            let task_id = item.task_id;
            (
                n,
                task_id,
                store.enqueue_many(at(0), vec![item]).await.is_ok(),
            )
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let (n, task_id, went) = call.await.expect("no panic");
        assert_eq!(went, n % 3 != 0, "call {n}");
        let found = store.execution(DEFAULT_TENANT_ID, task_id).await;
        assert_eq!(found.expect("answers").is_some(), went, "call {n}");
    }
}

/// A database written by a newer binary is refused by name of both versions, and one of another program
/// is not touched.
#[tokio::test]
async fn newer_and_foreign_databases_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = |name: &str| SqliteStore::open(folder.path().join(name), SqliteOptions::default());
    open("new.db")
        .await
        .expect("opens")
        .close()
        .await
        .expect("closes");
    for (name, change, words) in [
        ("new.db", "PRAGMA user_version = 99", ["99", "version 1"]),
        (
            "foreign.db",
            "CREATE TABLE theirs (x)",
            ["another program", "foreign.db"],
        ),
    ] {
        let file = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(folder.path().join(name))
            .create_if_missing(true);
        use sqlx::{ConnectOptions, Connection};
        let mut connection = file.connect().await.expect("connects");
        sqlx::query(change)
            .execute(&mut connection)
            .await
            .expect("runs");
        connection.close().await.expect("closes");
        let refused = open(name).await.err().map(|error| error.to_string());
        let refused = refused.expect("refused");
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    }
}

/// A row that makes no sense is an error naming it, not a panic.
#[tokio::test]
async fn a_damaged_row_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).await;
    let store = store.expect("opens");
    let spec =
        serde_json::json!({"name": "a task", "task_type": "echo", "scheduler_type": "manual"});
    let spec = TaskSpec::from_json(&spec, at(0), None).expect("a good spec");
    let config = store
        .create_config(at(0), DEFAULT_TENANT_ID, spec)
        .await
        .expect("creates");
    store.close().await.expect("closes");
    drop(store);
    {
        use sqlx::{ConnectOptions, Connection};
        let file = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = file.connect().await.expect("connects");
        sqlx::query("UPDATE task_configs SET max_retries = -5")
            .execute(&mut connection)
            .await
            .expect("damages");
        connection.close().await.expect("closes");
    }
    let store = SqliteStore::open(&path, SqliteOptions::default()).await;
    let read = store
        .expect("opens")
        .config(DEFAULT_TENANT_ID, config.id)
        .await;
    let Err(StoreError::Internal(message)) = read else {
        panic!("{read:?}")
    };
    let id = config.id.to_string();
    let named = ["task_configs", "max_retries", id.as_str()];
    assert!(named.iter().all(|word| message.contains(word)), "{message}");
}
