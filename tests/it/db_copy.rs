//! `db copy`: a user outgrew one machine and moves to PostgreSQL, with everything.

use crate::support::{Host, HostBuilder, Output, binary, horarium, items, text, until};
use horarium_store::testing::Cluster;
use serde_json::Value;
use std::collections::HashSet;
use std::process::Stdio;

/// Every slot that a task's executions stand for: one that ran, or all of a skipped streak.
fn slots(host: &Host, task: i64) -> Vec<i64> {
    let seconds = |e: &Value, key: &str| {
        let at: chrono::DateTime<chrono::Utc> = text(e, key).parse().expect("an instant");
        at.timestamp()
    };
    let all = host.executions(&format!("task={task}"));
    let slots = all.iter().flat_map(|e| {
        let first = seconds(e, "slot");
        let last = e["slot_last"]
            .as_str()
            .map_or(first, |_| seconds(e, "slot_last"));
        first..=last
    });
    slots.collect()
}

fn waiting_or_running(host: &Host, task: i64) -> usize {
    let live = "scheduled,available,running,retryable";
    host.executions(&format!("task={task}&state={live}")).len()
}

fn copy(from: &str, to: &str, more: &str) -> Output {
    horarium(&format!("db copy --from '{from}' --to '{to}' {more}"))
}

#[test]
fn a_busy_database_moves_to_postgres_and_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let cluster = Cluster::start();
    let database = runtime.block_on(cluster.database());
    let url = cluster.url(&database);

    // A server in the middle of everything.
    let mut host = HostBuilder::default().flag("--slots", "4").start();
    host.register("hello", "");
    host.register("hostile/sleep", "");
    host.register("hostile/stateful", "--grant state");
    let clock = host
        .create("--name Clock --type hello --cron '* * * * * *' --overlap allow --priority 100");
    let nap = host.create("--name Nap --type sleep --cron '* * * * * *' --set milliseconds=2500");
    let counter = host.create("--name Counter --type stateful");
    let long = host
        .create("--name Long --type sleep --overlap allow --max-retries 0 --set milliseconds=2500");
    let big = host.create(&format!(
        "--name Big --type hello --overlap allow --set name={}",
        "x".repeat(2000)
    ));
    let gone = host.create("--name Gone --type hello");
    let counted = host.ended(&host.trigger(counter));
    assert_eq!(counted["result"]["count"], 1, "{counted:#}");
    let forgotten = host.ended(&host.trigger(gone));
    host.run(&format!("task delete {gone}"));
    let ids: Vec<String> = (0..6)
        .flat_map(|_| [host.trigger(long), host.trigger(big)])
        .collect();
    until("runs, waits and a streak of skipped slots", || {
        let running = host.executions("state=running").len() >= 3;
        let skipped = host.run(&format!("task show {nap}"))["open_skip"].is_object();
        (running && skipped && slots(&host, clock).len() >= 2).then_some(())
    });
    let source = format!("sqlite:{}", host.database().display());
    copy(&source, &url, "")
        .exits(2)
        .complains(&["in use by process", "stop that server"]);
    host.kill();

    // Interrupted when the history's turn has come, because somebody holds its table.
    horarium(&format!("db migrate --database-url '{url}'")).exits(0);
    let holder =
        runtime.block_on(cluster.hold(&database, "LOCK TABLE task_executions IN EXCLUSIVE MODE"));
    let mut first = binary()
        .args(["db", "copy", "--from", &source, "--to", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    until("all before the history is over", || {
        let begun = runtime.block_on(cluster.number(
            &database,
            "SELECT (to_regclass('horarium_copy') IS NOT NULL)::int::bigint",
        ));
        let query = "SELECT rows FROM horarium_copy WHERE name = 'usage_days'";
        (begun == 1 && runtime.block_on(cluster.number(&database, query)) > 0).then_some(())
    });
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    drop(holder);
    let status = horarium(&format!("db status --json --database-url '{url}'"));
    assert_eq!(status.exits(0).json()["unfinished_copy"], true);
    for check in ["--check", ""] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let directory = directory.path().display();
        let line = format!(
            "serve --listen 127.0.0.1:0 --data-dir {directory} --database-url '{url}' {check}"
        );
        horarium(&line)
            .exits(2)
            .complains(&["copy", "not finished"]);
    }
    // The file is as it was: nothing was taken from it.
    let done = copy(&source, &url, "--json").exits(0);
    assert_eq!(done.stderr, "", "no bar where there is no terminal");
    // The password of the address; `secrets` is a table.
    assert!(!done.stdout.contains(":secret@"), "{}", done.stdout);
    let report = done.json();
    assert_eq!(report["resumed"], true, "{report:#}");
    for table in report["tables"].as_array().expect("tables") {
        // Those that come last.
        let late = [
            "task_attempts",
            "execution_logs",
            "task_executions",
            "hosts",
            "alerts",
        ];
        let early = !late.contains(&text(table, "table"));
        if early {
            assert_eq!(table["copied"], 0, "{report:#}");
        }
        assert_eq!(text(table, "checksum").len(), 32);
    }
    copy(&source, &url, "")
        .exits(2)
        .complains(&["not empty", "empty database"]);

    // The first host on the copy takes over what the dead one ran, and everything ends.
    host.move_to(&url);
    host.start_again();
    let mut lost = 0;
    for id in &ids {
        let ended = host.ended(id);
        assert_eq!(
            (text(&ended, "state"), &ended["attempt"]),
            ("succeeded", &1.into()),
            "{ended:#}"
        );
        let times = ended["lost"].as_u64().expect("a count");
        let attempts = host.attempts(id);
        let outcomes = |word: &str| attempts.iter().filter(|a| a["outcome"] == word).count();
        assert_eq!(
            (outcomes("succeeded"), outcomes("lost") as u64),
            (1, times),
            "{attempts:#?}"
        );
        lost += times;
    }
    assert!(lost > 0, "nothing ran when the server died");
    let at_move = slots(&host, clock).len();
    until("schedules go on", || {
        (slots(&host, clock).len() > at_move + 1).then_some(())
    });
    for task in [clock, nap] {
        host.run(&format!("task pause {task}"));
        until("its last run ends", || {
            (waiting_or_running(&host, task) == 0).then_some(())
        });
        let slots = slots(&host, task);
        let distinct: HashSet<&i64> = slots.iter().collect();
        assert_eq!(distinct.len(), slots.len(), "a slot fired twice: {slots:?}");
    }

    // Ids, state, plugins and history are those of before, and new ids come after them.
    let again = host.ended(&host.trigger(counter));
    assert_eq!(again["result"]["count"], 2, "{again:#}");
    assert!(again["id"].as_i64() > counted["id"].as_i64());
    let old = host.execution(text(&counted, "task_id"));
    assert_eq!(old, counted);
    let orphan = host.execution(text(&forgotten, "task_id"));
    assert_eq!(
        (&orphan["id"], &orphan["config_id"]),
        (&forgotten["id"], &Value::Null)
    );
    assert!(!host.logs(&ids[0]).is_empty());
    assert!(
        host.create("--name New --type hello") > gone,
        "ids are never given again"
    );
    assert_eq!(items(&host.run("plugin list")).len(), 3);
}

#[test]
fn wrong_copies_are_refused_in_one_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| format!("sqlite:{}", directory.path().join(name).display());
    for (from, to, words) in [
        (
            "mysql://x/y",
            file("b.db"),
            "--from: `mysql` is no kind of database",
        ),
        (
            &file("none.db"),
            file("b.db"),
            "there is no database to copy",
        ),
        (
            "postgres://nobody@127.0.0.1:1/x",
            file("b.db"),
            "127.0.0.1:1",
        ),
    ] {
        let refused = copy(from, &to, "").exits(2).complains(&[words]);
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:#?}");
    }
    horarium(&format!("db migrate --database-url '{}'", file("a.db"))).exits(0);
    copy(&file("a.db"), &file("a.db"), "")
        .exits(2)
        .complains(&["same file"]);
    // An empty database is one too.
    let report = copy(&file("a.db"), &file("b.db"), "--json").exits(0).json();
    assert_eq!(
        (&report["resumed"], &report["rows"]),
        (&false.into(), &1.into()),
        "{report:#}"
    );
    let told = copy(&file("a.db"), &file("c.db"), "").exits(0).stdout;
    assert!(
        told.contains("task_configs") && told.contains("none on the old database"),
        "{told}"
    );
}
