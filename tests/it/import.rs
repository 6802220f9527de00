//! Moving in: the tables of the Python system this one replaces, a crontab, and Celery beat's periodic tasks.

use crate::support::{Host, items, text};
use horarium_store::testing::Cluster;
use serde_json::{Value, json};

/// Tables as SQLAlchemy makes them, with rows as they are after some years.
const TABLES: &str = r#"
CREATE TYPE tasktype AS ENUM ('HELLO', 'hello', 'Old_Job');
CREATE TYPE schedulertype AS ENUM ('CRON', 'date', 'Manual', 'INTERVAL');
CREATE TABLE task_configs (
    id SERIAL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    task_type tasktype NOT NULL,
    scheduler_type schedulertype NOT NULL,
    parameters JSON,
    schedule_config JSON,
    max_retries INTEGER,
    timeout_seconds DOUBLE PRECISION,
    is_active BOOLEAN,
    owner VARCHAR(40),
    created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT now(),
    updated_at TIMESTAMP WITHOUT TIME ZONE
);
CREATE TABLE task_executions (
    id BIGSERIAL PRIMARY KEY,
    config_id INTEGER REFERENCES task_configs (id) ON DELETE SET NULL,
    task_id VARCHAR(255),
    is_success BOOLEAN,
    started_at TIMESTAMP WITHOUT TIME ZONE,
    completed_at TIMESTAMP WITHOUT TIME ZONE,
    duration_seconds DOUBLE PRECISION,
    result JSON,
    error_message TEXT,
    error_traceback TEXT
);
INSERT INTO task_configs (id, name, task_type, scheduler_type, parameters, schedule_config, max_retries, timeout_seconds, is_active, owner) VALUES
    (1, 'Greet Ada', 'HELLO', 'CRON', '{"name": "Ada"}', '{"cron_expression": "0 3 * * *", "timezone": "Europe/Berlin"}', 5, 30, true, 'ada'),
    (2, 'Greet by hand', 'hello', 'Manual', '{"name": "Grace"}', NULL, NULL, NULL, NULL, NULL),
    (3, 'Long gone', 'Old_Job', 'CRON', '{}', '{"cron_expression": "*/5 * * * *"}', 1000, 60.5, true, NULL),
    (4, 'Was once', 'hello', 'date', '{}', '{"run_at": "2020-01-01T09:00:00"}', 3, 60, true, NULL),
    (5, 'Will be', 'hello', 'date', '{}', '{"run_at": "2035-07-01T09:00:00"}', 3, 60, true, NULL),
    (6, 'Odd', 'HELLO', 'CRON', '{"name": "a", "name": "b"}', '{"cron_expression": "0 0 L * *", "coalesce": true}', 3, 60, false, NULL),
    (7, 'Every', 'HELLO', 'INTERVAL', '[1, 2]', '{"seconds": 30}', 3, 60, true, NULL);
INSERT INTO task_executions (config_id, task_id, is_success, started_at, completed_at, duration_seconds, result, error_message, error_traceback) VALUES
    (1, '4d7c2b1e-0d7f-4c6e-9a54-3f1f6b8f2c11', true, '2023-07-01 03:00:00', '2023-07-01 03:00:02.5', 2.5, '{"greeting": "Hello"}', NULL, NULL),
    (1, '4d7c2b1e0d7f4c6e9a543f1f6b8f2c12', false, '2023-12-01 03:00:00', '2023-12-01 03:00:01', NULL, NULL, E'first line\nsecond line', E'Traceback\n  file x'),
    (NULL, 'celery-task-7', true, '2021-02-03 04:05:06.000007', '2021-02-03 04:05:07', 1, '[1, 2.50, "x"]', NULL, NULL),
    (1, 'dup', true, '2022-01-01 00:00:00', '2022-01-01 00:00:01', 1, '1', NULL, NULL),
    (1, 'dup', true, '2022-01-02 00:00:00', '2022-01-02 00:00:01', 1, '2', NULL, NULL),
    (2, 'big-number', true, '2022-01-03 00:00:00', '2022-01-03 00:00:01', 1, '{"n": 123456789012345678901234567890}', NULL, NULL),
    (2, 'twice-a-key', true, '2022-01-04 00:00:00', '2022-01-04 00:00:01', 1, '{"a": 1, "a": 2}', NULL, NULL),
    (2, 'nul', true, '2022-01-05 00:00:00', '2022-01-05 00:00:01', 1, '"a\u0000b"', NULL, NULL),
    (2, 'running', NULL, '2022-01-06 00:00:00', NULL, NULL, NULL, NULL, NULL),
    (2, 'no-end', true, '2022-01-07 00:00:00', NULL, 3, NULL, NULL, NULL),
    (NULL, NULL, false, NULL, '2022-01-08 00:00:00', NULL, NULL, 'lost its id', NULL),
    (2, 'no-verdict', NULL, '2022-01-09 00:00:00', '2022-01-09 00:00:01', 1, NULL, 'broke', NULL),
    (2, 'beyond-time', true, '2022-01-10 00:00:00', NULL, 1e12, NULL, NULL, NULL),
    (2, 'beyond-size', false, '2022-01-11 00:00:00', '2022-01-11 00:00:01', 1, NULL, 'broke', repeat('"', 10000000));
"#;

fn counts(report: &Value) -> [&Value; 3] {
    ["created", "known", "paused"].map(|key| &report[key])
}

#[test]
fn the_python_system_moves_in() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let cluster = Cluster::start();
    let database = runtime.block_on(cluster.database());
    runtime.block_on(cluster.run(&database, TABLES));
    let url = cluster.url(&database);
    let host = Host::start();
    host.register("hello", "");
    let import = |more: &str| {
        let line =
            format!("import sqlalchemy --from '{url}' --naive-timezone Europe/Berlin {more}");
        host.cli(&line)
    };

    // A report first, which writes nothing.
    let told = import("").exits(0);
    for part in [
        "Old_Job",
        "not registered",
        "nothing was written",
        "11 to import",
        "1 have not ended there",
        "the column owner means nothing here",
        "read as Europe/Berlin",
        "which has passed",
    ] {
        assert!(told.stdout.contains(part), "{part} in\n{}", told.stdout);
    }
    assert_eq!(host.run("task list")["items"], json!([]));
    assert_eq!(host.executions(""), Vec::<Value>::new());

    let done = import("--apply --json").exits(0).json();
    assert_eq!(counts(&done), [&json!(7), &json!(0), &json!(4)]);
    let moved = &done["executions"];
    assert_eq!(
        (&moved["imported"], &moved["known"], &moved["unfinished"]),
        (&json!(11), &json!(0), &json!(1))
    );
    assert_eq!(moved["total"], 14);
    let left = moved["left"].to_string();
    for part in ["leads to no instant", "20000", "are the most that is taken"] {
        assert!(left.contains(part), "{part} not in {left}");
    }

    let ada = host.run("task show sqlalchemy-1");
    assert_eq!(
        (text(&ada, "task_type"), &ada["paused"], &ada["max_retries"]),
        ("hello", &json!(false), &json!(5))
    );
    assert_eq!(text(&ada["schedule_config"], "timezone"), "Europe/Berlin");
    assert_eq!(
        (&ada["timeout_seconds"], text(&ada, "declared_by")),
        (&json!(30), "import/sqlalchemy")
    );
    let paused = |key: &str, part: &str| {
        let task = host.run(&format!("task show {key}"));
        assert_eq!(task["paused"], true, "{task:#}");
        assert!(text(&task, "pause_reason").contains(part), "{task:#}");
        task
    };
    paused("sqlalchemy-3", "no plugin is registered as `old_job`");
    paused("sqlalchemy-4", "2020-01-01T08:00:00Z, which has passed");
    let odd = paused("sqlalchemy-6", "0 0 L * *");
    assert!(text(&odd, "pause_reason").contains("is_active was false"));
    assert_eq!(
        text(&odd["parameters"], "imported_text"),
        r#"{"name": "a", "name": "b"}"#
    );
    let every = paused("sqlalchemy-7", "scheduler_type interval is unknown here");
    assert_eq!(every["parameters"], json!({"value": [1, 2]}));
    let will = host.run("task show sqlalchemy-5");
    assert_eq!(
        text(&will["schedule_config"], "run_at"),
        "2035-07-01T07:00:00Z"
    );

    // The history: times, errors, results that JSON here is not, ids that are none.
    let first = host.execution("4d7c2b1e-0d7f-4c6e-9a54-3f1f6b8f2c11");
    assert_eq!(
        (text(&first, "started_at"), &first["config_id"]),
        ("2023-07-01T01:00:00Z", &ada["id"])
    );
    assert_eq!(
        (
            &first["duration_seconds"],
            text(&first["result"], "greeting")
        ),
        (&json!(2.5), "Hello")
    );
    let failed = host.execution("4d7c2b1e-0d7f-4c6e-9a54-3f1f6b8f2c12");
    assert_eq!(
        (text(&failed, "state"), text(&failed, "started_at")),
        ("failed", "2023-12-01T02:00:00Z")
    );
    assert!(
        text(&failed, "error_traceback").contains("second line\n\nTraceback"),
        "{failed:#}"
    );
    assert_eq!(failed["duration_seconds"], 1.0);
    let all = host.executions("");
    assert_eq!(all.len(), 11);
    let noted = |part: &str| {
        let found = all.iter().find(|e| {
            let lines = host.logs(text(e, "task_id"));
            lines
                .iter()
                .any(|line| text(line, "message").contains(part))
        });
        let found = found.unwrap_or_else(|| panic!("{part} in no log"));
        host.execution(text(found, "task_id"))
    };
    let celery = noted("`celery-task-7`");
    assert_eq!(
        (&celery["config_id"], text(&celery, "task_type")),
        (&Value::Null, "imported")
    );
    assert_eq!(celery["result"], json!([1, 2.5, "x"]));
    assert_eq!(text(&celery, "started_at"), "2021-02-03T03:05:06.000007Z");
    let lines = host.logs(text(&celery, "task_id"));
    assert_eq!(
        lines[0]["fields"],
        json!({"row": "3", "task_id": "celery-task-7"})
    );
    assert_eq!(noted("that of a later execution too")["result"], 1);
    for (part, kept) in [
        ("`big-number`", r#"{"n": 123456789012345678901234567890}"#),
        ("`twice-a-key`", r#"{"a": 1, "a": 2}"#),
        ("`nul`", r#""a\u0000b""#),
    ] {
        assert_eq!(noted(part)["result"], kept);
    }
    assert_eq!(
        text(&noted("worked out from its start"), "completed_at"),
        "2022-01-06T23:00:03Z"
    );
    assert_eq!(
        text(&noted("no task_id there"), "error_message"),
        "lost its id"
    );
    assert_eq!(
        noted("whether it succeeded was not kept")["is_success"],
        false
    );

    // Again: nothing is doubled, and what somebody changed here stays. What has ended meanwhile is taken.
    host.run("task update sqlalchemy-1 --name Mine");
    runtime.block_on(cluster.run(
        &database,
        "UPDATE task_executions SET is_success = true, completed_at = '2022-01-06 01:00:00' WHERE task_id = 'running'",
    ));
    let again = import("--apply --json").exits(0).json();
    assert_eq!(counts(&again), [&json!(0), &json!(7), &json!(0)]);
    let moved = &again["executions"];
    assert_eq!(
        (&moved["imported"], &moved["known"], &moved["unfinished"]),
        (&json!(1), &json!(11), &json!(0))
    );
    assert_eq!(host.executions("").len(), 12);
    assert_eq!(text(&host.run("task show sqlalchemy-1"), "name"), "Mine");

    // It works here.
    let by_hand = host.run("task show sqlalchemy-2")["id"]
        .as_i64()
        .expect("an id");
    assert_eq!(
        host.ended(&host.trigger(by_hand))["result"]["greeting"],
        "Hello, Grace!"
    );
    // Another database is told from this one.
    let empty = runtime.block_on(cluster.database());
    let line = format!("import sqlalchemy --from '{}'", cluster.url(&empty));
    host.cli(&line)
        .exits(2)
        .complains(&["there is no table task_configs"]);
}

#[test]
fn a_crontab_and_celery_beat_move_in() {
    let host = Host::start();
    host.register("hello", "");
    let directory = tempfile::tempdir().expect("a directory");
    let crontab = directory.path().join("crontab");
    let lines =
        "CRON_TZ=Europe/Berlin\n30 2 * * 1 /usr/local/bin/backup.sh --full\n@reboot /bin/start\n";
    std::fs::write(&crontab, lines).expect("written");
    let line = format!(
        "import crontab '{}' --map backup.sh=hello --map nothing=hello",
        crontab.display()
    );
    let told = host.cli(&line).exits(0);
    for part in [
        "backup.sh",
        "not registered",
        "--map met nothing for: nothing",
        "nothing was written",
    ] {
        assert!(told.stdout.contains(part), "{part} in\n{}", told.stdout);
    }
    let done = host.run(&format!("{line} --apply"));
    assert_eq!(
        (&done["created"], &done["executions"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(host.run(&format!("{line} --apply"))["created"], 0);
    let tasks = items(&host.run("task list --set import/crontab"));
    let backup = tasks
        .iter()
        .find(|task| task["task_type"] == "hello")
        .expect("the backup");
    assert_eq!(
        text(&backup["schedule_config"], "cron_expression"),
        "30 2 * * 1"
    );
    // The plugin's schema does not know a command: it waits for somebody to look.
    assert_eq!(backup["paused"], true, "{backup:#}");
    assert!(text(backup, "pause_reason").contains("/parameters"));

    let beat = directory.path().join("beat.json");
    let schedule = json!({"beat_schedule": {
        "greet": {"task": "app.greet", "schedule": {"minute": "*/10"}, "kwargs": {"name": "Ada"}},
        "poll": {"task": "app.poll", "schedule": 30.0},
    }});
    std::fs::write(&beat, schedule.to_string()).expect("written");
    let line = format!(
        "import celery-beat '{}' --map app.greet=hello --paused --apply",
        beat.display()
    );
    let done = host.run(&line);
    assert_eq!(counts(&done), [&json!(2), &json!(0), &json!(2)]);
    let tasks = items(&host.run("task list --set import/celery"));
    let greet = tasks
        .iter()
        .find(|task| task["name"] == "greet")
        .expect("the task");
    assert_eq!(
        (text(greet, "task_type"), text(greet, "pause_reason")),
        ("hello", "imported with --paused")
    );
    assert_eq!(text(&greet["parameters"], "name"), "Ada");
    std::fs::write(&beat, "{\"beat_schedule\": []}").expect("written");
    host.cli(&line)
        .exits(2)
        .complains(&["beat_schedule must be an object"]);
}
