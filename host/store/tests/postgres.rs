//! PostgreSQL keeps every rule that the conformance suite knows, directly and through a pooler; how it
//! starts, and what it says when it cannot.

use horarium_core::store::conformance::{Lab, at};
use horarium_core::store::{Queue, StoreError, conformance};
use horarium_model::cron::ZONE_DATA;
use horarium_store::testing::{Bouncer, Cluster};
use horarium_store::{PostgresOptions, PostgresStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// One connection pool of a few, and leases that are over at once: as one process sees it.
fn alone() -> PostgresOptions {
    PostgresOptions {
        connections: 3,
        lease: Duration::ZERO,
        notify: false,
        ..PostgresOptions::default()
    }
}

/// A database to copy, its schema up to date.
async fn template(cluster: &Cluster) -> String {
    let name = cluster.database().await;
    PostgresStore::migrate(&cluster.url(&name), &PostgresOptions::default())
        .await
        .expect("migrates");
    name
}

/// Every rule on a database of its own; one server for all of them, a few rules at a time. `url` leads to a
/// database.
async fn every_rule_holds(
    cluster: Arc<Cluster>,
    options: PostgresOptions,
    url: impl Fn(&Cluster, &str) -> String + Clone + Send + 'static,
) {
    let template = template(&cluster).await;
    every_rule_holds_on(cluster, template, options, url).await;
}

/// The same on copies of `template`.
async fn every_rule_holds_on(
    cluster: Arc<Cluster>,
    template: String,
    options: PostgresOptions,
    url: impl Fn(&Cluster, &str) -> String + Clone + Send + 'static,
) {
    let turns = Arc::new(Semaphore::new(4));
    let mut running = JoinSet::new();
    for (name, rule) in conformance::all() {
        let (cluster, template) = (cluster.clone(), template.clone());
        let (turns, options, url) = (turns.clone(), options.clone(), url.clone());
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("open");
            let database = cluster.copy_of(&template).await;
            let store = PostgresStore::connect(&url(&cluster, &database), options).await;
            let store = store.expect("connects");
            let done = tokio::spawn(rule(Arc::new(store.clone()))).await;
            store.close().await;
            cluster.drop_database(&database).await;
            done.err().map(|error| format!("{name}: {error}"))
        });
    }
    let mut failed: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    failed.sort_unstable();
    let failed = failed.join("\n");
    assert!(failed.is_empty(), "rules that do not hold:\n{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite() {
    let cluster = Arc::new(Cluster::start());
    every_rule_holds(cluster, alone(), Cluster::url).await;
}

/// Through the real pgbouncer in transaction mode, over two connections to the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_through_a_pooler() {
    let cluster = Arc::new(Cluster::start());
    let bouncer = Arc::new(Bouncer::start(&cluster));
    let options = PostgresOptions {
        pooler_transaction: true,
        ..alone()
    };
    let url = move |_: &Cluster, database: &str| bouncer.url(database);
    every_rule_holds(cluster, options, url).await;
}

/// A statement outside a transaction would be read by one connection of the server and run by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_start_together_behind_a_pooler() {
    let cluster = Cluster::start();
    let bouncer = Bouncer::start(&cluster);
    let template = template(&cluster).await;
    let url = bouncer.url(&cluster.copy_of(&template).await);
    let options = PostgresOptions {
        pooler_transaction: true,
        ..alone()
    };
    let mut starting = JoinSet::new();
    for _ in 0..16 {
        let (url, options) = (url.clone(), options.clone());
        starting.spawn(async move {
            for _ in 0..8 {
                let store = PostgresStore::connect(&url, options.clone()).await;
                store.expect("starts").close().await;
            }
        });
    }
    while let Some(done) = starting.join_next().await {
        done.expect("all start");
    }
}

/// What the next version's schema step might be: it only adds.
const NEXT_STEP: &str = "
    ALTER TABLE task_configs ADD COLUMN colour text;
    ALTER TABLE live_executions ADD COLUMN weight integer NOT NULL DEFAULT 1;
    ALTER TABLE task_executions ADD COLUMN weight integer NOT NULL DEFAULT 1;
    ALTER TABLE hosts ADD COLUMN zone text;
    CREATE TABLE novelties (id bigint PRIMARY KEY, config_id bigint);
    CREATE INDEX live_executions_weight ON live_executions (weight, id);
    INSERT INTO horarium_schema (version, name, runs_from)
        SELECT max(version) + 1, 'made up', max(version) FROM horarium_schema";

/// While hosts are upgraded one after another, this binary meets the next one's schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_on_the_next_schema() {
    let cluster = Arc::new(Cluster::start());
    let next = template(&cluster).await;
    cluster.run(&next, NEXT_STEP).await;
    every_rule_holds_on(cluster, next, alone(), Cluster::url).await;
}

async fn refusal(url: &str, options: PostgresOptions) -> StoreError {
    let refused = PostgresStore::connect(url, options).await;
    let error = refused.expect_err("refused");
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    assert!(
        !error.to_string().contains("secret"),
        "no password: {error}"
    );
    error
}

/// Each wrong start says in one line what is wrong and what would be right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_starts_are_explained() {
    let cluster = Cluster::start_with("scram-sha-256", "");
    let database = cluster.database().await;
    let quick = || PostgresOptions {
        connect_timeout: Duration::from_secs(2),
        ..PostgresOptions::default()
    };
    let good = cluster.url(&database);
    let permanent = [
        ("mysql://localhost/x".to_owned(), "postgres://"),
        (
            "postgres://localhost:x/y".to_owned(),
            "postgres://user:password@host",
        ),
        (cluster.url("nowhere"), "no database `nowhere`"),
        (
            good.replace("secret", "guess"),
            "does not let `postgres` in",
        ),
        (good.clone(), "is empty"),
    ];
    for (url, words) in permanent {
        let error = refusal(&url, quick()).await;
        assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let nobody = "postgres://postgres@127.0.0.1:1/x";
    let error = refusal(nobody, quick()).await;
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");

    cluster
        .run(&database, "CREATE ROLE guest LOGIN PASSWORD 'secret'")
        .await;
    let guest = good.replace("postgres:secret@", "guest:secret@");
    let migrate = PostgresOptions {
        migrate: true,
        ..quick()
    };
    let error = refusal(&guest, migrate.clone()).await;
    assert!(
        error
            .to_string()
            .contains("GRANT CREATE, USAGE ON SCHEMA public TO guest"),
        "{error}"
    );

    cluster
        .run(&database, "CREATE TABLE hosts (theirs text)")
        .await;
    let error = refusal(&good, migrate.clone()).await;
    assert!(error.to_string().contains("another program"), "{error}");
    let apart = PostgresOptions {
        schema: Some("apart".into()),
        ..migrate
    };
    let store = PostgresStore::connect(&good, apart.clone())
        .await
        .expect("connects");
    store.close().await;
    let status = PostgresStore::status(&good, &apart).await.expect("answers");
    assert_eq!((status.schema_version, status.pending), (status.latest, 0));
    // One step further is fine if it says so, two are not.
    let further = status.latest + 1;
    for (version, runs_from, good_one) in [
        (further, 1, true),
        (further, further, false),
        (further + 1, 1, false),
    ] {
        let newer = format!(
            "DELETE FROM apart.horarium_schema WHERE version > {};
             INSERT INTO apart.horarium_schema (version, name, runs_from) VALUES ({version}, 'later', {runs_from})",
            status.latest
        );
        cluster.run(&database, &newer).await;
        if good_one {
            let store = PostgresStore::connect(&good, apart.clone()).await;
            store.expect("a newer schema that only adds").close().await;
        } else {
            let error = refusal(&good, apart.clone()).await;
            let words = format!("schema version {version}, written by a newer Horarium");
            assert!(error.to_string().contains(&words), "{error}");
        }
    }
}

/// A role that may not do what hosts do is told at the start what would let it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_rights_are_explained() {
    let cluster = Cluster::start();
    let database = template(&cluster).await;
    cluster.run(&database, "CREATE ROLE guest LOGIN").await;
    let guest = cluster.url(&database).replace("postgres:secret@", "guest@");
    let options = PostgresOptions::default;
    // With nothing, and with all rights but ownership: partitions can be made by the owner alone.
    let all = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest; \
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO guest";
    for rights in ["SELECT 1", all] {
        cluster.run(&database, rights).await;
        let error = refusal(&guest, options()).await;
        assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
        let words = ["belong to `postgres`", "GRANT postgres TO guest"];
        assert!(
            words.iter().all(|word| error.to_string().contains(word)),
            "{error}"
        );
    }
    cluster
        .run(&database, "REVOKE ALL ON horarium_schema FROM guest")
        .await;
    let error = PostgresStore::status(&guest, &options())
        .await
        .expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("connect as the role that owns the tables"),
        "{error}"
    );

    let revoke = format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC");
    cluster.run(&database, &revoke).await;
    let error = refusal(&guest, options()).await;
    let words = format!("GRANT CONNECT, CREATE ON DATABASE {database} TO guest");
    assert!(error.to_string().contains(&words), "{error}");

    let let_in = format!("GRANT CONNECT ON DATABASE {database} TO guest; GRANT postgres TO guest");
    cluster.run(&database, &let_in).await;
    let store = PostgresStore::connect(&guest, options()).await;
    store.expect("a member of the owner").close().await;
}

/// Hosts that start together: one migrates, the others wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_migrate_together() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database().await);
    let options = PostgresOptions {
        migrate: true,
        // A word of SQL is a good name too.
        schema: Some("table".into()),
        ..alone()
    };
    let starts = (0..6).map(|_| PostgresStore::connect(&url, options.clone()));
    for started in futures_util::future::join_all(starts).await {
        let store = started.expect("connects");
        store
            .start_host(conformance::at(0), "one of many")
            .await
            .expect("starts");
        store.close().await;
    }
}

/// Timeouts of statements and locks are the database's errors, which callers wait out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_is_unavailability() {
    let cluster = Cluster::start();
    let database = template(&cluster).await;
    for pooler_transaction in [false, true] {
        let options = PostgresOptions {
            lock_timeout: Duration::from_millis(50),
            pooler_transaction,
            ..alone()
        };
        let store = PostgresStore::connect(&cluster.url(&database), options).await;
        let store = store.expect("connects");
        let mut holder = cluster.connect(&database).await;
        let lock = "BEGIN; LOCK TABLE live_executions IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock)
            .execute(&mut holder)
            .await
            .expect("locks");
        let refused = store.queue_counts().await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        sqlx::raw_sql("ROLLBACK")
            .execute(&mut holder)
            .await
            .expect("lets go");
        store.queue_counts().await.expect("answers again");
        store.close().await;
    }
}

/// Rule S13: which zone data an instant was computed with is kept, and written with each new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_remember_their_zone_data() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let options = PostgresOptions {
        migrate: true,
        ..alone()
    };
    let store = PostgresStore::connect(&cluster.url(&database), options).await;
    let store = store.expect("connects");
    let lab = Lab::new(Arc::new(store.clone())).await;
    let ids = lab.crons(2).await;
    let age = "UPDATE task_schedules SET zone_data = '2019a'";
    cluster.run(&database, age).await;
    let old = async || {
        let old = store.schedules_by_other_zone_data(ZONE_DATA, 0, 10).await;
        let old = old.expect("lists").into_iter().map(|one| one.config_id);
        old.collect::<Vec<_>>()
    };
    assert_eq!(old().await, ids);
    let order = lab.fire_order(ids[0], 600).await;
    let receipts = store.fire_due(at(600), vec![order]).await.expect("fires");
    assert!(receipts[0].applied);
    assert_eq!(old().await, ids[1..]);
    store.close().await;
}
