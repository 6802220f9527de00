//! Every statement is prepared against a migrated database, and the hot ones are held to their indexes in
//! a database as a busy one looks.

use super::{PostgresOptions, PostgresStore, growth, sql};
use crate::testing::Cluster;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

async fn database(cluster: &Cluster) -> String {
    let name = cluster.database().await;
    let options = PostgresOptions {
        migrate: true,
        ..PostgresOptions::default()
    };
    let store = PostgresStore::connect(&cluster.url(&name), options).await;
    store.expect("connects").close().await;
    name
}

#[tokio::test]
async fn every_statement_prepares() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    let mut connection = cluster.connect(&name).await;
    assert!(sql::ALL.len() > 80, "the table of statements is read");
    let lists = [
        ("LIST_LIVE", sql::LIST_LIVE),
        ("LIST_ENDED", sql::LIST_ENDED),
    ];
    for (name, statement) in sql::ALL.iter().chain(&lists) {
        let prepared = (&mut connection)
            .prepare(sqlx::SqlStr::from_static(statement))
            .await;
        if let Err(error) = prepared {
            panic!("{name}: {error}\n{statement}");
        }
    }
}

#[tokio::test]
async fn what_grows_is_found_and_can_be_analysed() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    let options = PostgresOptions::default();
    let store = PostgresStore::connect(&cluster.url(&name), options).await;
    let store = store.expect("connects");
    cluster.run(&name, "ANALYZE").await;
    let (busy, _) = BUSY
        .split_once("INSERT INTO task_executions")
        .expect("is there");
    cluster.run(&name, busy).await;
    growth::look(&store.shared).await.expect("analyses");
    for (table, column) in growth::TABLES {
        let known = "SELECT relpages::bigint FROM pg_class WHERE relname";
        let pages = cluster.number(&name, &format!("{known} = '{table}'")).await;
        let has_grown = matches!(table, "task_configs" | "task_schedules");
        assert_eq!(pages > 100, has_grown, "{table}: {pages} pages");
        let analyze = format!("ANALYZE (SKIP_LOCKED) {table} ({column})");
        cluster.run(&name, &analyze).await;
    }
    store.close().await;
}

/// Where hundreds of thousands wait, what the planner expects of a claim would have each one compiled.
#[tokio::test]
async fn no_session_compiles_its_statements() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    for pooler_transaction in [false, true] {
        let options = PostgresOptions {
            pooler_transaction,
            ..PostgresOptions::default()
        };
        let store = PostgresStore::connect(&cluster.url(&name), options).await;
        let store = store.expect("connects");
        let shown = store.write(|tx| {
            Box::pin(async move {
                let shown = sqlx::query_scalar::<_, String>("SHOW jit");
                Ok(shown.fetch_one(tx.connection()).await?)
            })
        });
        assert_eq!(shown.await.expect("answers"), "off", "{pooler_transaction}");
        store.close().await;
    }
}

/// A million executions ended over four months, some still to come, 100 000 wait (half of them for run keys, most of
/// these passed over), 500 run, 100 000 configs have schedules.
const BUSY: &str = r#"
SELECT set_config('seed.now', database_now()::text, false);
INSERT INTO hosts (incarnation, name, started_at, seen_at, lease_until)
VALUES (1, 'a', 0, 0, 0), (2, 'b', 0, 0, 0);
INSERT INTO task_configs (tenant_id, name, name_folded, task_type, scheduler_type, parameters, schedule_config,
    max_retries, timeout_seconds, priority, limits, retry_policy, chain, paused, version, created_at, updated_at)
SELECT 1 + n % 10, 'c', 'c', 'type' || n % 50, 'cron', '{}', '{}', 3, 60, 0, '{}', '{}', '[]', false, 1, 0, 0
FROM generate_series(1, 100000) n;
INSERT INTO task_schedules (config_id, next_fire_at, anchor_at)
SELECT n, current_setting('seed.now')::bigint + n * 1000000::bigint, 0 FROM generate_series(1, 100000) n;
INSERT INTO task_executions (id, config_id, task_id, is_success, started_at, completed_at, duration_seconds,
    tenant_id, task_type, state, trigger, priority, attempt, max_attempts, lost, created_at, ended_claim)
SELECT n, 1 + n % 100000, 'h' || lpad(n::text, 12, '0'), n % 50 <> 0, 0,
    current_setting('seed.now')::bigint + (n - 260000) * 10000000::bigint, 0.1, 1 + n % 10, 'type' || n % 50,
    CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END, 'schedule', 0, 1, 4, 0, 0, 1
FROM generate_series(1, 1000000) n;
INSERT INTO live_executions (id, tenant_id, config_id, queue_key, due_at, created_at, priority, max_attempts,
    run_max, state, trigger, task_id, task_type, run_key, blocked, incarnation, expires_at)
SELECT 2000000 + n, 1 + n % 10, 1 + n % 100000, n, n, 0, 0, 4, 1,
    CASE WHEN n > 100000 THEN 'running' WHEN n % 10 < 3 THEN 'scheduled' ELSE 'available' END, 'schedule',
    'l' || lpad(n::text, 12, '0'), 'type' || n % 50, CASE WHEN n % 2 = 0 THEN 'k' || n % 1000 END,
    CASE WHEN n <= 100000 AND n % 10 >= 3 AND n % 2 = 0 AND n % 8 > 0 THEN 1 ELSE 0 END, CASE WHEN n > 100000 THEN 1 + n % 2 END,
    CASE WHEN n % 7 = 0 THEN n END
FROM generate_series(1, 100500) n;
INSERT INTO task_attempts (tenant_id, execution_id, claim, attempt, outcome, started_at, completed_at, duration_seconds)
SELECT 1 + n % 10, n, 1, 1, 'failed', 0, 0, 0 FROM generate_series(1, 100000) n;
INSERT INTO live_parameters SELECT id, '{}' FROM live_executions WHERE id % 10 = 0;
INSERT INTO run_keys (tenant_id, run_key) SELECT DISTINCT tenant_id, run_key FROM live_executions
    WHERE run_key IS NOT NULL;
INSERT INTO task_types (tenant_id, task_type, created_at, updated_at)
SELECT t, 'type' || n, 0, 0 FROM generate_series(1, 10) t, generate_series(0, 49) n;
INSERT INTO run_keys (tenant_id, run_key) SELECT 1, 'gone' || n FROM generate_series(1, 100000) n;
INSERT INTO alerts (alert_id, event, tenant_id, detail, created_at, due_at)
SELECT n::text, 'failed', 1, '{}', n, CASE WHEN n % 1000 = 0 THEN n END FROM generate_series(1, 100000) n;
"#;

/// The plan that a prepared statement gets once its parameters no longer matter, as this store's do.
async fn plan(connection: &mut PgConnection, statement: &str, arguments: &str) -> String {
    let script = format!(
        "SET plan_cache_mode = force_generic_plan; DEALLOCATE ALL; PREPARE it AS {statement}"
    );
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(script)))
        .await
        .unwrap_or_else(|error| panic!("{error}\n{statement}"));
    let arguments = if arguments.is_empty() {
        String::new()
    } else {
        format!("({arguments})")
    };
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE it{arguments}");
    let lines: Vec<String> = {
        use sqlx::Row;
        let rows = connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(explain)))
            .await;
        let rows = rows.unwrap_or_else(|error| panic!("{error}\n{statement}"));
        rows.iter().map(|row| row.get(0)).collect()
    };
    lines.join("\n")
}

/// Arguments of `INSERT_PLAIN`.
fn plain_arguments() -> String {
    let columns = "ARRAY[NULL]::bigint[], ARRAY[1]::bigint[], ARRAY['new']::text[], ARRAY[1]::bigint[], ARRAY['type1']::text[]";
    format!(
        "{columns}{}, 0, 9000000000000000, NULL",
        ", NULL".repeat(20)
    )
}

/// What an hour of a new installation looks like: history that nothing has analysed yet.
#[tokio::test]
async fn known_ids_use_their_index_before_anything_is_analysed() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    cluster.run(&name, BUSY).await;
    let mut connection = cluster.connect(&name).await;
    let tasks = "ARRAY[1]::bigint[], ARRAY['h000000000001'], 0, 9000000000000000";
    let function = "SELECT prosrc FROM pg_proc WHERE proname = 'none_ended'";
    let function: String = sqlx::query_scalar(function)
        .fetch_one(&mut connection)
        .await
        .expect("there is one");
    let (_, within) = function.split_once("EXISTS (").expect("asks");
    let (within, _) = within.split_once(") THEN").expect("decides");
    let within = within
        .replace("tenants, tasks", "$1::bigint[], $2::text[]")
        .replace("not_before", "$3")
        .replace("not_after", "$4");
    let plain = plain_arguments();
    for (statement, arguments) in [
        (sql::KNOWN_TASKS, tasks),
        (&within, tasks),
        (sql::INSERT_PLAIN, &plain),
    ] {
        let plan = plan(&mut connection, statement, arguments).await;
        let reads: Vec<&str> = plan
            .lines()
            .filter(|line| line.contains(" on task_exec"))
            .collect();
        let index = "task_id_tenant_id_completed_at_idx";
        assert!(
            !reads.is_empty() && reads.iter().all(|line| line.contains(index)),
            "{plan}"
        );
    }
}

/// Twenty thousand have ended and ten thousand wait since the server last looked: a page of either half reads its rows, and
/// does not sort out all of them.
#[tokio::test]
async fn pages_of_what_came_since_the_last_look_cost_their_rows() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    let options = PostgresOptions::default();
    let store = PostgresStore::connect(&cluster.url(&name), options).await;
    let store = store.expect("connects");
    let came = "INSERT INTO task_executions (id, task_id, is_success, completed_at, tenant_id, task_type, state,
            trigger, priority, attempt, max_attempts, lost, created_at)
        SELECT n, 'h' || n, true, database_now(), 1, 'type', 'succeeded', 'api', 0, 1, 4, 0, 0
        FROM generate_series(1, 20000) n;
        INSERT INTO live_executions (id, tenant_id, queue_key, due_at, created_at, priority, max_attempts, run_max, state,
            trigger, task_id, task_type)
        SELECT n, 1, n, n, 0, 0, 4, 1, 'available', 'api', 'l' || n, 'type' FROM generate_series(20001, 30000) n";
    cluster.run(&name, came).await;
    growth::look(&store.shared).await.expect("analyses");
    let mut connection = cluster.connect(&name).await;
    for half in [sql::LIST_LIVE, sql::LIST_ENDED] {
        for before in [15_000, 25_000] {
            let list = format!(
                "{half} WHERE l.tenant_id = 1 AND l.id < {before} ORDER BY l.id DESC LIMIT 51"
            );
            let plan = plan(&mut connection, &list, "").await;
            let sorts = plan.contains("->  Sort") || plan.contains("Bitmap");
            assert!(!sorts, "{plan}");
        }
    }
    store.close().await;
}

/// A hundred thousand of one type wait, none of the others; before the planner has learned of it, when it knows how many, and after.
#[tokio::test]
async fn an_idle_lane_is_not_looked_for_among_what_waits_in_others() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    let fill = "INSERT INTO live_executions (id, tenant_id, queue_key, due_at, created_at, priority, max_attempts,
        run_max, state, trigger, task_id, task_type)
        SELECT n, 1, n, n, 0, 0, 4, 1, 'available', 'api', 'l' || n, 'full' FROM generate_series(1, 100000) n";
    cluster.run(&name, fill).await;
    let lanes = "ARRAY[1,1]::bigint[], ARRAY['full','idle']";
    let numbers = "ARRAY[1,1]::bigint[]";
    let listed = format!("ANALYZE live_executions ({})", growth::LISTED);
    for analysed in ["SELECT 1", &listed, "ANALYZE"] {
        cluster.run(&name, analysed).await;
        let mut connection = cluster.connect(&name).await;
        for (statement, arguments) in [
            (sql::CLAIM_PLAIN, format!("{lanes}, 64, 1, 0")),
            (sql::CANDIDATES, format!("{lanes}, {numbers}, true, 1, 0")),
            (
                sql::NEXT_OF_LANES,
                format!("{lanes}, {numbers}, {numbers}, {numbers}, 64, true, 0"),
            ),
            (sql::LANES_WAITING, lanes.to_owned()),
            (sql::WAITING_HEADS, lanes.to_owned()),
        ] {
            let plan = plan(&mut connection, statement, &arguments).await;
            let over_all =
                plan.contains("live_executions_queue") || plan.contains("Seq Scan on live_exec");
            assert!(!over_all, "after {analysed}\n{plan}");
        }
    }
}

/// When a host has had the server look at what grew, and when it has looked at everything.
#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let cluster = Cluster::start();
    let name = database(&cluster).await;
    cluster.run(&name, BUSY).await;
    let options = PostgresOptions::default();
    let store = PostgresStore::connect(&cluster.url(&name), options).await;
    let store = store.expect("connects");
    growth::look(&store.shared).await.expect("analyses");
    let mut connection = cluster.connect(&name).await;
    use_their_indexes(&mut connection).await;
    cluster.run(&name, "ANALYZE").await;
    use_their_indexes(&mut connection).await;
    store.close().await;
}

async fn use_their_indexes(connection: &mut PgConnection) {
    let types = "ARRAY[1,2]::bigint[], ARRAY['type1','type2']";
    let keys = "ARRAY[1]::bigint[], ARRAY['k2']";
    let candidates = format!("{types}, ARRAY[64,64]::bigint[], true, 1, 0");
    let (plain, at_once) = (plain_arguments(), format!("{types}, 64, 1, 0"));
    let next = format!(
        "{types}, {0}, {0}, {0}, 64, true, 0",
        "ARRAY[1,1]::bigint[]"
    );
    let tokens = format!("{keys}, ARRAY[1]::bigint[]");
    let unblock = format!("{keys}, ARRAY[1]::bigint[], 0");
    let known = "ARRAY[1]::bigint[], ARRAY['h000000000001'], 0, 9000000000000000";
    let ids = "ARRAY[2100001,2100002]::bigint[]";
    let record = format!("{ids}{}", ", NULL".repeat(16));
    let record_plain = format!("{record}, NULL, 1, '[]'{}", ", NULL".repeat(4));
    let task = "1, 'h000000000001', 0";
    for (name, statement, arguments, index) in [
        (
            "claim",
            sql::CANDIDATES,
            candidates.as_str(),
            "live_executions_claim",
        ),
        (
            "lanes",
            sql::NEXT_OF_LANES,
            next.as_str(),
            "live_executions_claim",
        ),
        ("busy lanes", sql::BUSY_LANES, "", "live_executions_claim"),
        ("heads", sql::WAITING_HEADS, types, "live_executions_claim"),
        (
            "waiting lanes",
            sql::LANES_WAITING,
            types,
            "live_executions_claim",
        ),
        (
            "running types",
            sql::RUNNING_OF_TYPES,
            "ARRAY[1]::bigint[]",
            "live_executions_running",
        ),
        (
            "rates",
            sql::UNTHROTTLE,
            tokens.as_str(),
            "live_executions_throttled",
        ),
        ("full rates", sql::RATES_READY, "0, 10", "run_keys_ready"),
        ("next due", sql::NEXT_DUE, "", "run_keys_ready"),
        (
            "due schedules",
            sql::DUE_SCHEDULES,
            "0, 100",
            "task_schedules_due",
        ),
        (
            "sweep",
            sql::SWEEP_AVAILABLE,
            "0, 100",
            "live_executions_due",
        ),
        ("expiry", sql::EXPIRED, "0, 100", "live_executions_expiry"),
        ("next due", sql::NEXT_DUE, "", "task_schedules_due"),
        ("next due", sql::NEXT_DUE, "", "live_executions_due"),
        ("next due", sql::NEXT_DUE, "", "live_executions_expiry"),
        (
            "run keys",
            sql::RUNNING_OF_KEYS,
            keys,
            "live_executions_run_key",
        ),
        ("suspects", sql::SUSPECT_RUNS, "", "live_executions_suspect"),
        ("stuck keys", sql::STUCK_KEYS, "", "live_executions_blocked"),
        (
            "waiting for rates",
            sql::WAITING_FOR_RATES,
            "ARRAY[1]::bigint[], ARRAY['k2'], ARRAY[NULL]::text[]",
            "live_executions_throttled",
        ),
        ("configs", sql::CONFIGS_OF_LIVE, ids, "live_executions_pkey"),
        ("lock keys", sql::LOCK_KEYS, keys, "run_keys_pkey"),
        (
            "unblock",
            sql::UNBLOCK,
            unblock.as_str(),
            "live_executions_blocked",
        ),
        (
            "heartbeat",
            sql::HEARTBEAT,
            "1, 0",
            "live_executions_running",
        ),
        ("heartbeat's alerts", sql::HEARTBEAT, "1, 0", "alerts_due"),
        ("held", sql::HELD, "1", "live_executions_running"),
        (
            "overlap",
            sql::LIVE_COUNTS,
            "ARRAY[1,2]::bigint[]",
            "live_executions_config",
        ),
        ("known ids", sql::KNOWN_TASKS, known, "live_executions_task"),
        (
            "known ids",
            sql::KNOWN_TASKS,
            known,
            "task_id_tenant_id_completed_at_idx",
        ),
        (
            "enqueue in one",
            sql::INSERT_PLAIN,
            plain.as_str(),
            "live_executions_task",
        ),
        (
            "claim in one",
            sql::CLAIM_PLAIN,
            at_once.as_str(),
            "live_executions_claim",
        ),
        (
            "claim in one",
            sql::CLAIM_PLAIN,
            at_once.as_str(),
            "live_executions_pkey",
        ),
        (
            "record in one",
            sql::RECORD_PLAIN,
            record_plain.as_str(),
            "live_executions_pkey",
        ),
        ("complete", sql::LOCK_RUNNING, ids, "live_executions_pkey"),
        (
            "record",
            sql::RECORD,
            record.as_str(),
            "live_executions_pkey",
        ),
        (
            "start",
            sql::START,
            "ARRAY[1]::bigint[], 1, 1",
            "live_executions_pkey",
        ),
        (
            "news",
            sql::NEWS_RUNNING,
            "1, 10000",
            "live_executions_running",
        ),
        (
            "news",
            sql::NEWS_LIVE,
            "1, 2100000, 500",
            "live_executions_pkey",
        ),
        ("news", sql::NEWS_CREATED, "1, 999000, 0, 500", "_pkey"),
        (
            "news",
            sql::NEWS_ENDED,
            "1, 0, 0, 500",
            "tenant_id_completed_at_id_state_idx",
        ),
        (
            "news",
            sql::CHANGED_CONFIGS,
            "1, 0, 500",
            "task_configs_changed",
        ),
        (
            "show",
            sql::EXECUTION,
            task,
            "task_id_tenant_id_completed_at_idx",
        ),
        (
            "quotas",
            sql::QUOTAS_SPENT,
            "ARRAY[1]::bigint[], 5",
            "live_executions_running",
        ),
        (
            "prune",
            sql::PRUNE_BY_AGE,
            "1, 0, 0, 9000000000000000, 1000",
            "tenant_id_completed_at_id_",
        ),
        (
            "prune a task",
            sql::PRUNE_OF_CONFIG,
            "1, 0, 1000",
            "config_id_id_idx",
        ),
        (
            "prune",
            sql::PRUNE,
            "1, ARRAY[1,2]::bigint[], ARRAY[1,2]::bigint[]",
            "_pkey",
        ),
        (
            "the newest",
            sql::BEYOND_NEWEST,
            "1, 0, 10, 5",
            "config_id_id_idx",
        ),
        (
            "history",
            sql::HISTORY_COUNT,
            "1",
            "Index Cond: (tenant_id = $1)",
        ),
        (
            "attempts",
            sql::DELETE_ATTEMPTS,
            "ARRAY[1]::bigint[], ARRAY[1]::bigint[]",
            "task_attempts_pkey",
        ),
        ("usage", sql::UNFOLDED, "5, 10", "usage_days"),
    ] {
        let plan = plan(connection, statement, arguments).await;
        assert!(plan.contains(index), "{name} does not use {index}:\n{plan}");
        // Tables of a few rows are read whole, and nothing else.
        let few = [
            "on hosts",
            "on meta",
            "on type_breakers",
            "on tenants",
            "on usage_days",
            "_default",
        ];
        let scans: Vec<&str> = plan
            .lines()
            .filter(|line| line.contains("Seq Scan on "))
            .filter(|line| !few.iter().any(|table| line.contains(table)))
            .collect();
        assert!(scans.is_empty(), "{name} reads a whole table:\n{plan}");
    }
    // A page of the history costs its rows, not the table.
    let list = format!(
        "{} WHERE l.tenant_id = 1 AND l.id < 900000 ORDER BY l.id DESC LIMIT 51",
        sql::LIST_ENDED
    );
    // A page of what went wrong reads what went wrong.
    let trouble = format!(
        "{} WHERE l.tenant_id = 1 AND l.id < 900000 AND l.error_kind = 'trap' \
         AND strpos(lower(l.error_message COLLATE \"C\"), 'x') > 0 AND l.state <> 'succeeded' ORDER BY l.id DESC LIMIT 51",
        sql::LIST_ENDED
    );
    let trouble = plan(connection, &trouble, "").await;
    let reads = trouble.contains("tenant_id_id_idx") && !trouble.contains("Seq Scan");
    assert!(reads, "{trouble}");
    let plan = plan(connection, &list, "").await;
    assert!(
        plan.contains("Merge Append") && !plan.contains("->  Sort") && !plan.contains("Seq Scan"),
        "{plan}"
    );
}
