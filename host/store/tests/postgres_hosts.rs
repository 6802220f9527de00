//! Several hosts on one PostgreSQL: bounds are exact, slots fire once, leases end, hints arrive, and a
//! server that restarts costs time, not truth.

use horarium_core::store::conformance::{Lab, at};
use horarium_core::store::{
    Catalog, Completion, CompletionReceipt, ConfigFilter, End, EnqueueReceipt, ExecutionFilter,
    History, NewExecution, Page, Queue, Store, StoreError,
};
use horarium_core::wake::Hint;
use horarium_model::execution::State;
use horarium_model::{DEFAULT_TENANT_ID, TaskId};
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use sqlx::postgres::PgConnection;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

mod hosts;
use hosts::{lab, no_deadlocks, open, options, request, success, until_waiting};

/// Rule E3: four claimers on two hosts, 600 executions of three keys that allow one, two and five, and of
/// none. At no time does more of a key run than it allows; each runs once; nothing is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_keys_are_exact_over_hosts() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    let items: Vec<NewExecution> = (0..600)
        .map(|n: u32| NewExecution {
            run_key: match n % 4 {
                0 => None,
                key => Some(format!("key{key}")),
            },
            run_max: [1, 1, 2, 5][(n % 4) as usize],
            ..lab.new_execution(None, at(i64::from(n % 50)))
        })
        .collect();
    first.enqueue_many(at(50), items).await.expect("enqueues");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let watcher = tokio::spawn(watch(cluster.connect(&database).await, stopped));
    let mut claimers = Vec::new();
    for n in 0..4 {
        let store = [&first, &second][n % 2].clone();
        claimers.push(tokio::spawn(async move {
            let host = store.start_host(at(0), "claimer").await.expect("starts");
            let (mut done, mut idle) = (Vec::new(), 0);
            while idle < 50 {
                let claimed = store.claim(request(host, 7)).await.expect("claims").claimed;
                idle = if claimed.is_empty() { idle + 1 } else { 0 };
                let ends: Vec<_> = claimed.iter().map(|one| success(one, host)).collect();
                let receipts = store
                    .complete_many(at(101), ends.into())
                    .await
                    .expect("completes");
                let good = CompletionReceipt::Recorded(State::Succeeded);
                assert!(receipts.iter().all(|receipt| *receipt == good));
                done.extend(claimed.into_iter().map(|one| one.task_id));
            }
            done
        }));
    }
    let mut done = Vec::new();
    for claimer in claimers {
        done.extend(claimer.await.expect("no panic"));
    }
    assert_eq!(done.len(), 600);
    assert_eq!(
        done.iter().collect::<HashSet<_>>().len(),
        600,
        "each ran once"
    );
    assert_eq!(
        first.queue_counts().await.expect("counts"),
        Default::default()
    );
    stop.send_replace(true);
    assert!(
        watcher.await.expect("no bound was broken") > 10,
        "it was watched"
    );
    no_deadlocks(&cluster, &database).await;
}

/// Looks at what runs of each key until told to stop; how often it looked.
async fn watch(mut connection: PgConnection, stopped: tokio::sync::watch::Receiver<bool>) -> u64 {
    let broken = "SELECT run_key, count(*) FROM live_executions WHERE state = 'running' \
        AND run_key IS NOT NULL GROUP BY run_key HAVING count(*) > max(run_max)";
    let mut looks = 0;
    while !*stopped.borrow() {
        let found: Vec<(String, i64)> = sqlx::query_as(broken)
            .fetch_all(&mut connection)
            .await
            .expect("answers");
        assert!(found.is_empty(), "more run than may: {found:?}");
        looks += 1;
    }
    looks
}

/// Rule S1: two schedulers see the same slots; each fires once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_slot_fires_once() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    let configs = lab.crons(20).await;
    for slot in 1..=10 {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for id in &configs {
            ours.push(lab.fire_order(*id, slot * 600).await);
            theirs.push(lab.fire_order(*id, slot * 600).await);
        }
        // In opposite orders, which would be a deadlock if the locks were taken in that of the request.
        theirs.reverse();
        let now = at(slot * 600);
        let (a, b) = tokio::join!(first.fire_due(now, ours), second.fire_due(now, theirs));
        let (a, b) = (a.expect("fires"), b.expect("fires"));
        for (one, other) in a.iter().zip(b.iter().rev()) {
            assert!(
                one.applied != other.applied,
                "slot {slot}: {one:?} {other:?}"
            );
        }
    }
    let page = Page::first(1000);
    let all = first
        .executions(DEFAULT_TENANT_ID, &ExecutionFilter::default(), &page)
        .await
        .expect("lists");
    let slots: HashSet<_> = all.items.iter().map(|e| (e.config_id, e.slot)).collect();
    assert_eq!((all.items.len(), slots.len()), (200, 200));
    no_deadlocks(&cluster, &database).await;
}

/// Rule E5: a lease is over when the database says so; what its host ran is taken over once, and what it
/// says later is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_over_is_taken_over_once() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    let items = (0..600).map(|_| lab.new_execution(None, at(0))).collect();
    first.enqueue_many(at(0), items).await.expect("enqueues");
    let claimed = first
        .claim(request(lab.host, 600))
        .await
        .expect("claims")
        .claimed;
    assert_eq!(claimed.len(), 600);
    let (a, b) = (
        first.start_host(at(0), "a").await.expect("starts"),
        second.start_host(at(0), "b").await.expect("starts"),
    );
    let none = second.take_over(at(200_000_000), b).await.expect("answers");
    assert_eq!(none, Default::default(), "whatever the hosts' clocks say");
    assert!(
        first
            .heartbeat(at(1), lab.host)
            .await
            .expect("answers")
            .alive
    );
    let over = format!(
        "UPDATE hosts SET lease_until = database_now() - 1 WHERE incarnation = {}",
        lab.host
    );
    cluster.run(&database, &over).await;
    let (x, y) = tokio::join!(first.take_over(at(101), a), second.take_over(at(101), b));
    let (mut x, mut y) = (x.expect("answers"), y.expect("answers"));
    // What one had locked when the other looked is left; the next round finds what is still there.
    for _ in 0..10 {
        let more = second.take_over(at(101), b).await.expect("answers");
        y.requeued += more.requeued;
    }
    x.requeued += y.requeued;
    assert_eq!((x.requeued, x.failed, x.cancelled), (600, 0, 0));
    assert!(
        !first
            .heartbeat(at(102), lab.host)
            .await
            .expect("answers")
            .alive
    );
    let late = vec![success(&claimed[0], lab.host)];
    let late = first
        .complete_many(at(102), late.into())
        .await
        .expect("answers");
    assert_eq!(late, [CompletionReceipt::Stale]);
    assert!(
        first
            .claim(request(lab.host, 1))
            .await
            .expect("answers")
            .claimed
            .is_empty()
    );
    let again = second.claim(request(b, 1)).await.expect("claims").claimed;
    assert_eq!((again[0].claim, again[0].attempt), (2, 1));
}

async fn heard(hints: &mut broadcast::Receiver<Hint>, wanted: Hint) {
    let hearing = async {
        loop {
            match hints.recv().await {
                Ok(hint) if hint == wanted => return,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let limit = Duration::from_secs(20);
    let hearing = tokio::time::timeout(limit, hearing).await;
    hearing.unwrap_or_else(|_| panic!("never heard {wanted:?}"));
}

/// What one host does the others hear; nobody hears himself; and without hints everything is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_reach_the_other_hosts() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let deaf = PostgresOptions {
        notify: false,
        ..options()
    };
    let (second, third) = (
        open(&cluster, &database, options()).await,
        open(&cluster, &database, deaf).await,
    );
    let mut own = first.hints();
    let mut hints = second.hints();
    let mut silence = third.hints();
    // The listener says so when it listens.
    let listening = second.hints();
    drop(listening);
    heard_or_already(&cluster, &database, 2).await;
    let due = lab.new_execution(None, at(0));
    let later = lab.new_execution(None, at(1000));
    let task_id = due.task_id;
    first
        .enqueue_many(at(0), vec![due])
        .await
        .expect("enqueues");
    heard(&mut hints, Hint::Enqueued).await;
    first
        .enqueue_many(at(0), vec![later])
        .await
        .expect("enqueues");
    heard(&mut hints, Hint::Schedule).await;
    let claimed = first
        .claim(request(lab.host, 1))
        .await
        .expect("claims")
        .claimed;
    assert_eq!(claimed[0].task_id, task_id);
    first
        .cancel(at(2), DEFAULT_TENANT_ID, task_id)
        .await
        .expect("cancels");
    heard(&mut hints, Hint::Cancel(task_id)).await;
    lab.crons(1).await;
    heard(&mut hints, Hint::Catalog).await;
    // A server that restarts: the listener comes back, and says that it may have missed something.
    cluster.stop("fast");
    cluster.resume();
    heard(&mut hints, Hint::Missed).await;
    while let Ok(hint) = own.try_recv() {
        assert_eq!(hint, Hint::Missed, "nobody hears himself");
    }
    assert!(silence.try_recv().is_err());
    let beat = third.heartbeat(at(3), lab.host).await.expect("answers");
    assert_eq!(beat.cancels, [task_id], "found by polling");
    assert!(beat.catalog_epoch > 0);
}

/// Waits until this many connections listen.
async fn heard_or_already(cluster: &Cluster, database: &str, listeners: i64) {
    let mut connection = cluster.connect(database).await;
    for _ in 0..10_000 {
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .fetch_one(&mut connection)
        .await
        .expect("answers");
        if found >= listeners {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nobody listens");
}

/// While the server is away calls say so; afterwards they work, and what was answered is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_costs_time_alone() {
    let cluster = Cluster::start();
    let patient = PostgresOptions {
        connect_timeout: Duration::from_millis(300),
        ..options()
    };
    let (_, store, lab) = lab(&cluster, patient).await;
    let mut answered = Vec::new();
    let mut refused = 0;
    for round in 0..60 {
        match round {
            // A crash, with idle connections in the pool that do not know yet.
            20 => cluster.stop("immediate"),
            22 => cluster.resume(),
            // An orderly restart.
            40 => {
                cluster.stop("fast");
                cluster.resume();
            }
            _ => {}
        }
        let items: Vec<NewExecution> = (0..5).map(|_| lab.new_execution(None, at(0))).collect();
        let ids: Vec<TaskId> = items.iter().map(|item| item.task_id).collect();
        match store.enqueue_many(at(0), items).await {
            Ok(_) => answered.extend(ids),
            Err(StoreError::Unavailable(_)) => refused += 1,
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
    assert!((1..=3).contains(&refused), "{refused} calls were refused");
    for task_id in answered {
        let found = store.execution(DEFAULT_TENANT_ID, task_id).await;
        assert!(found.expect("answers").is_some(), "{task_id} is lost");
    }
}

/// A caller that goes away stops nothing and leaves no transaction open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_callers_leave_nothing_behind() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    let mut ids = Vec::new();
    for n in 0..300_u64 {
        let item = lab.new_execution(None, at(0));
        ids.push(item.task_id);
        let call = store.enqueue_many(at(0), vec![item]);
        tokio::pin!(call);
        for _ in 0..n % 4 + 1 {
            let _ = futures_util::poll!(call.as_mut());
            tokio::task::yield_now().await;
        }
    }
    let mut connection = cluster.connect(&database).await;
    for (n, task_id) in ids.iter().enumerate() {
        let mut found = false;
        for _ in 0..1000 {
            let shown = store.execution(DEFAULT_TENANT_ID, *task_id).await;
            found = shown.expect("answers").is_some();
            if found {
                break;
            }
        }
        assert!(found, "call {n} was not run to its end");
    }
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'",
    )
    .fetch_one(&mut connection)
    .await
    .expect("answers");
    assert_eq!(open, 0, "transactions were left open");
}

/// Deleting a config while others enqueue for it and end its executions leaves nothing of it waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_deleted_config() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    for _ in 0..15 {
        let config = lab.crons(1).await[0];
        let items = (0..10)
            .map(|_| lab.new_execution(Some(config), at(0)))
            .collect();
        first.enqueue_many(at(0), items).await.expect("enqueues");
        let claimed = first
            .claim(request(lab.host, 5))
            .await
            .expect("claims")
            .claimed;
        let retries: Vec<_> = claimed
            .iter()
            .map(|one| Completion {
                end: End::Retry(at(500)),
                ..success(one, lab.host)
            })
            .collect();
        let more = (0..10)
            .map(|_| lab.new_execution(Some(config), at(0)))
            .collect();
        let (deleted, ended, added) = tokio::join!(
            second.delete_config(at(1), DEFAULT_TENANT_ID, config, Default::default()),
            first.complete_many(at(1), retries.into()),
            first.enqueue_many(at(1), more),
        );
        deleted.expect("deletes");
        ended.expect("completes");
        added.expect("answers");
        let counts = first.queue_counts().await.expect("counts");
        assert_eq!(counts, Default::default());
    }
    no_deadlocks(&cluster, &database).await;
}

/// The same task id from two hosts at once is one execution.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_ids_are_unique_over_hosts() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    for _ in 0..50 {
        let item = lab.new_execution(None, at(0));
        let through = |store: PostgresStore, item: NewExecution| async move {
            let receipts = store
                .enqueue_many(at(0), vec![item])
                .await
                .expect("enqueues");
            let taken = matches!(receipts[0], EnqueueReceipt::Enqueued { .. });
            if taken {
                let host = store.start_host(at(0), "quick").await.expect("starts");
                let claimed = store.claim(request(host, 1)).await.expect("claims").claimed;
                let ends: Vec<_> = claimed.iter().map(|one| success(one, host)).collect();
                store
                    .complete_many(at(1), ends.into())
                    .await
                    .expect("completes");
            }
            taken
        };
        let (a, b, c) = tokio::join!(
            through(first.clone(), item.clone()),
            through(second.clone(), item.clone()),
            through(second.clone(), item),
        );
        assert_eq!([a, b, c].iter().filter(|taken| **taken).count(), 1);
    }
}

/// What goes into either database comes out equal: numbers to the last bit, texts, structure.
#[tokio::test]
async fn both_databases_return_equal_values() {
    let cluster = Cluster::start();
    let (_, postgres, _) = lab(&cluster, options()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = SqliteStore::open(folder.path().join("a.db"), SqliteOptions::default()).await;
    let stores: [Arc<dyn Store>; 2] = [Arc::new(postgres), Arc::new(sqlite.expect("opens"))];
    let text = r#"{"z":1,"a":{"long":1,"b":[]},"n":[1e16,-1e16,1.5e300,1e-7,0.1,3.0,1.0000000000000002,
        18446744073709551615,-9223372036854775808,2.2250738585072014e-308,123456789.123456789],
        "t":"Ü \ud83d\ude00 \u0001 \\u0000 1e5 \"q\""}"#;
    let text = horarium_model::json::canonical(text.as_bytes()).expect("good JSON");
    let mut seen = Vec::new();
    for store in stores {
        let lab = Lab::new(store.clone()).await;
        let item = NewExecution {
            parameters: text.as_str().into(),
            ..lab.new_execution(None, at(0))
        };
        let task_id = item.task_id;
        store
            .enqueue_many(at(0), vec![item])
            .await
            .expect("enqueues");
        let claimed = store
            .claim(request(lab.host, 1))
            .await
            .expect("claims")
            .claimed
            .remove(0);
        let mut end = success(&claimed, lab.host);
        end.end = End::Succeeded(text.as_str().into());
        store
            .complete_many(at(1), vec![end].into())
            .await
            .expect("completes");
        let shown = store.execution(DEFAULT_TENANT_ID, task_id).await;
        let shown = shown.expect("answers").expect("there");
        seen.push((claimed.parameters, shown.parameters, shown.result));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(&*seen[0].0, text, "the guest gets the canonical text");
    assert_eq!(seen[0].1.as_ref().expect("there").to_string(), text);
}

/// The history's partitions are there before they are needed, and what went to the default one is moved.
#[tokio::test]
async fn partitions_are_made_ahead() {
    let cluster = Cluster::start();
    let (database, store, lab) = lab(&cluster, options()).await;
    let mut connection = cluster.connect(&database).await;
    let mut count = async |of: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {of}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .expect("counts")
    };
    assert!(count("history_partitions").await >= 4);
    // As if nobody had made them in time.
    let last: String = {
        let mut other = cluster.connect(&database).await;
        sqlx::query_scalar("SELECT name FROM history_partitions ORDER BY from_at DESC LIMIT 1")
            .fetch_one(&mut other)
            .await
            .expect("answers")
    };
    let drop = format!("DROP TABLE {last}; DELETE FROM history_partitions WHERE name = '{last}'");
    cluster.run(&database, &drop).await;
    let mut item = lab.new_execution(None, at(0));
    item.task_id = TaskId::now_v7();
    let task_id = item.task_id;
    store
        .enqueue_many(at(0), vec![item])
        .await
        .expect("enqueues");
    let claimed = store
        .claim(request(lab.host, 1))
        .await
        .expect("claims")
        .claimed;
    let mut end = success(&claimed[0], lab.host);
    end.record.completed_at =
        store.database_now().await.expect("answers") + chrono::Duration::days(92);
    store
        .complete_many(at(1), vec![end].into())
        .await
        .expect("completes");
    assert_eq!(count("task_executions_default").await, 1);
    store.tidy().await.expect("tidies");
    assert_eq!(count("task_executions_default").await, 0);
    assert_eq!(count(&last).await, 1);
    let found = store.execution(DEFAULT_TENANT_ID, task_id).await;
    assert!(found.expect("answers").is_some());
    let listed = store
        .configs(DEFAULT_TENANT_ID, &ConfigFilter::default(), &Page::first(1))
        .await;
    assert!(listed.is_ok());
}

/// A machine on the way to the server; what goes through it can be frozen, as by a loss of power: nobody says
/// anything any more, and nobody closes.
async fn road(port: u16) -> (u16, tokio::sync::watch::Sender<u64>) {
    use tokio::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address").port();
    let (freeze, frozen) = tokio::sync::watch::channel(0_u64);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut frozen = frozen.clone();
            frozen.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("a server");
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    // Both stay open, unheard.
                    _ = frozen.changed() => std::future::pending().await,
                }
            });
        }
    });
    (own, freeze)
}

/// A store of so many connections that are given up after a second, on such a road to its server.
async fn store_on_a_road(
    connections: u32,
) -> (
    Cluster,
    String,
    PostgresStore,
    tokio::sync::watch::Sender<u64>,
) {
    let cluster = Cluster::start_on_tcp(None, "host all all 127.0.0.1/32 trust");
    let database = cluster.database().await;
    let url = cluster.tcp_url("127.0.0.1", &database, "sslmode=disable");
    let port: u16 = url
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split('/').next()?.parse().ok())
        .expect("a port");
    let (own, freeze) = road(port).await;
    let options = PostgresOptions {
        connections,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        ..options()
    };
    let url = url.replace(&port.to_string(), &own.to_string());
    let store = PostgresStore::connect(&url, options).await;
    (cluster, database, store.expect("connects"), freeze)
}

/// After a failover to another machine the old one's connections never answer; the store notices by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fell_silent_are_given_up() {
    let (cluster, database, store, freeze) = store_on_a_road(2).await;
    let mut hints = store.hints();
    heard_or_already(&cluster, &database, 1).await;
    while hints.try_recv().is_ok() {}
    let host = store.start_host(at(0), "one").await.expect("starts");
    // One connection rests when the road freezes, another one is in the middle of something.
    let lock = "LOCK TABLE task_configs IN ACCESS EXCLUSIVE MODE";
    let holder = cluster.hold(&database, lock).await;
    let stuck = tokio::spawn({
        let store = store.clone();
        async move { store.purge_deleted(10).await }
    });
    until_waiting(&cluster, &database).await;
    freeze.send_modify(|times| *times += 1);
    let bound = Duration::from_secs(60);
    // A beat may be given up with its connection, as a host's may; the next one has a new one.
    let beat = async {
        loop {
            match store.heartbeat(at(1), host).await {
                Err(StoreError::Unavailable(_)) => {}
                beat => return beat,
            }
        }
    };
    let beat = tokio::time::timeout(bound, beat).await;
    assert!(beat.expect("not for ever").expect("answers").alive);
    let stuck = tokio::time::timeout(bound, stuck)
        .await
        .expect("not for ever");
    let stuck = stuck
        .expect("no panic")
        .expect_err("nobody knows what came of it");
    assert!(matches!(&stuck, StoreError::Unavailable(_)), "{stuck:?}");
    drop(holder);
    store.purge_deleted(10).await.expect("goes on");
    assert!(store.hosts().await.expect("lists").len() == 1);
    // So does the one that only listens, after some seconds of silence.
    let missed = tokio::time::timeout(bound, heard(&mut hints, Hint::Missed)).await;
    missed.expect("it listens again");
}

/// So does one that looks, behind what the store was asked for, whether tables outgrew their plans: a store that closes
/// waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_grown_tables_that_fell_silent_does_not_keep_a_store_open() {
    let (cluster, database, store, freeze) = store_on_a_road(2).await;
    let lab = Lab::new(Arc::new(store.clone())).await;
    // Nothing of an enqueue needs this table; its size is asked for.
    let lock = "LOCK TABLE task_attempts IN ACCESS EXCLUSIVE MODE";
    let _holder = cluster.hold(&database, lock).await;
    let items = (0..2000).map(|_| lab.new_execution(None, at(5))).collect();
    store.enqueue_many(at(5), items).await.expect("enqueues");
    until_waiting(&cluster, &database).await;
    freeze.send_modify(|times| *times += 1);
    let closed = tokio::time::timeout(Duration::from_secs(60), store.close()).await;
    closed.expect("not for ever");
}
