//! Several real servers on one PostgreSQL of the test's own.

use crate::support::{Host, HostBuilder, items, text, until};
use chrono::{DateTime, Utc};
use horarium_store::testing::{Bouncer, Cluster};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// An empty database on a server of its own.
pub(crate) fn database() -> (Cluster, String) {
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let name = runtime.block_on(cluster.database());
    let url = cluster.url(&name);
    (cluster, url)
}

pub(crate) fn member(name: &str, url: &str, slots: &str) -> HostBuilder {
    HostBuilder::default()
        .flag("--database-url", url)
        .flag("--slots", slots)
        .setting("host.name", name)
        .setting("database.migrate", "true")
}

pub(crate) fn loads(host: &Host, task_type: &str) {
    until("every host has loaded it", || {
        let hosts = items(&host.get("/v1/hosts").is(200).json());
        let loaded = |h: &Value| {
            h["loaded"]
                .as_array()
                .is_some_and(|l| l.iter().any(|t| t == task_type))
        };
        hosts.iter().all(loaded).then_some(())
    });
}

#[test]
fn what_one_host_is_told_all_hosts_do() {
    let (_cluster, url) = database();
    // Both start at once on an empty database: one makes the schema, the other waits for it.
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| member("one", &url, "2").start());
        // This one's clock is wrong by a minute: it follows the database's.
        let two = member("two", &url, "2")
            .setting("host.clock_ahead_seconds", "60")
            .start();
        (one.join().expect("starts"), two)
    });
    one.register("hello", "");
    one.register("hostile/sleep", "");
    loads(&two, "sleep");
    let hosts = items(&one.get("/v1/hosts").is(200).json());
    let names: HashSet<&str> = hosts.iter().map(|h| text(h, "name")).collect();
    assert_eq!(names, HashSet::from(["one", "two"]));
    let answering = |h: &&Value| h["is_answering"] == true;
    assert_eq!(hosts.iter().filter(answering).count(), 1);

    // A config of one, changed by the other, fires once a slot whoever looks.
    let clock = one.create("--name Clock --type hello --cron '* * * * * *' --overlap allow");
    let many = one.create("--name Many --type sleep --overlap allow --set milliseconds=300");
    let ids: Vec<String> = (0..24).map(|_| two.trigger(many)).collect();
    let mut on: BTreeMap<String, u32> = BTreeMap::new();
    for id in &ids {
        let ended = one.ended(id);
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        *on.entry(text(&ended, "host").to_owned()).or_default() += 1;
    }
    assert_eq!(on.len(), 2, "both hosts work: {on:?}");
    until("five slots", || {
        let done = two.executions(&format!("task={clock}&state=succeeded"));
        (done.len() >= 5).then_some(())
    });
    two.run(&format!("task pause {clock}"));
    let fired = one.executions(&format!("task={clock}"));
    let slots: HashSet<&str> = fired.iter().map(|e| text(e, "slot")).collect();
    assert_eq!(slots.len(), fired.len(), "a slot fired twice");
    for execution in &fired {
        assert!(
            instant(execution, "created_at") >= instant(execution, "slot"),
            "fired before its time: {execution:#}"
        );
    }

    // What it reports and a cancel pass between hosts.
    let long = one.create("--name Long --type sleep");
    let id = two.trigger(long);
    let running = one.reaches(&id, "running");
    let other = if on_host(&one, &id) { &two } else { &one };
    let progress = until("progress, from the other host", || {
        let execution = other.execution(&id);
        execution["progress"].as_object().cloned()
    });
    assert_eq!(progress["message"], "sleeping");
    other.run(&format!("execution cancel {id}"));
    let ended = other.ended(&id);
    assert_eq!(ended["state"], "cancelled", "{running:#} {ended:#}");
}

fn instant(document: &Value, key: &str) -> DateTime<Utc> {
    text(document, key).parse().expect("an instant")
}

/// Whether an execution runs on this host.
fn on_host(host: &Host, task_id: &str) -> bool {
    let hosts = items(&host.get("/v1/hosts").is(200).json());
    hosts.iter().filter(|h| h["is_answering"] == true).any(|h| {
        h["executions"]
            .as_array()
            .is_some_and(|e| e.iter().any(|e| e["task_id"] == task_id))
    })
}

#[test]
fn what_dead_stopped_and_cut_off_hosts_ran_ends_once() {
    let (cluster, url) = database();
    let survivor = member("survivor", &url, "4").start();
    survivor.register("hostile/sleep", "");
    let mut killed = member("killed", &url, "8").start();
    let stopped = member("stopped", &url, "8").start();
    loads(&survivor, "sleep");
    let long = survivor
        .create("--name Long --type sleep --overlap allow --set milliseconds=5000 --max-retries 0");
    let ids: Vec<String> = (0..20).map(|_| survivor.trigger(long)).collect();
    until("every host runs some", || {
        let hosts = items(&survivor.get("/v1/hosts").is(200).json());
        hosts
            .iter()
            .all(|h| h["running"].as_u64() > Some(0))
            .then_some(())
    });
    killed.kill();
    stopped.signal(Signal::SIGSTOP);
    // Both leases run out; what they ran runs again on the survivor.
    until("the survivor alone is alive", || {
        let hosts = items(&survivor.get("/v1/hosts").is(200).json());
        (hosts.len() == 1).then_some(())
    });
    stopped.signal(Signal::SIGCONT);
    until("the stopped one is back as another incarnation", || {
        let hosts = items(&survivor.get("/v1/hosts").is(200).json());
        (hosts.len() == 2).then_some(())
    });
    // The database goes away for a moment; nothing is lost by that.
    cluster.stop("fast");
    cluster.resume();
    let mut lost = 0;
    for id in &ids {
        let ended = survivor.ended(id);
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        assert_eq!(ended["attempt"], 1, "a loss uses no attempt: {ended:#}");
        lost += ended["lost"].as_u64().expect("a count");
        let attempts = survivor.attempts(id);
        let ends = attempts.iter().filter(|a| a["outcome"] == "succeeded");
        assert_eq!(ends.count(), 1, "{attempts:#?}");
    }
    assert!(lost > 0, "nothing was running on the hosts that went away");
    let all = survivor.executions(&format!("task={long}"));
    assert_eq!(all.len(), ids.len());
}

/// Two hosts that reach the database by a pooler in transaction mode.
fn behind_a_pooler(listen: bool) {
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let database = runtime.block_on(cluster.database());
    let bouncer = Bouncer::start(&cluster);
    let start = |name: &str| {
        let host =
            member(name, &bouncer.url(&database), "2").setting("database.pooler", "transaction");
        match listen {
            true => host.setting("database.listen_url", &cluster.url(&database)),
            false => host,
        }
        .start()
    };
    let (one, two) = (start("one"), start("two"));
    one.register("hello", "");
    one.register("hostile/sleep", "");
    loads(&two, "sleep");
    // What is enqueued through one is run by both, at the latest when they look by themselves.
    let nap = one.create("--name Nap --type sleep --overlap allow --set milliseconds=2500");
    let ids: Vec<String> = (0..12).map(|_| one.trigger(nap)).collect();
    let mut on = HashSet::new();
    for id in &ids {
        let ended = two.ended(id);
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        on.insert(text(&ended, "host").to_owned());
    }
    assert_eq!(on.len(), 2, "both hosts work: {on:?}");
    // Slots fire once; a cancel reaches the host that runs it.
    let clock = two.create("--name Clock --type hello --cron '* * * * * *' --overlap allow");
    until("three slots", || {
        let done = one.executions(&format!("task={clock}&state=succeeded"));
        (done.len() >= 3).then_some(())
    });
    one.run(&format!("task delete {clock}"));
    let fired = two.executions("task_type=hello");
    let slots: HashSet<&str> = fired.iter().map(|e| text(e, "slot")).collect();
    assert_eq!(slots.len(), fired.len(), "a slot fired twice");
    let long = one.create("--name Long --type sleep");
    let id = two.trigger(long);
    one.reaches(&id, "running");
    let other = if on_host(&one, &id) { &two } else { &one };
    other.run(&format!("execution cancel {id}"));
    assert_eq!(other.ended(&id)["state"], "cancelled");
}

#[test]
fn hosts_work_behind_a_pooler_that_brings_no_hints() {
    behind_a_pooler(false);
}

#[test]
fn hosts_work_behind_a_pooler_and_listen_beside_it() {
    behind_a_pooler(true);
}

#[test]
fn a_database_that_cannot_be_used_is_refused_in_one_line() {
    let (cluster, url) = database();
    let told = |url: &str, more: &str| {
        let line = format!(
            "serve --listen 127.0.0.1:0 --data-dir /nonexistent/x --check --database-url '{url}' {more}"
        );
        crate::support::horarium(&line)
            .exits(2)
            .complains(&["database"])
    };
    for wrong in [
        cluster.url("nobody"),
        "postgres://nobody@127.0.0.1:1/none".to_owned(),
        "postgres://".to_owned(),
    ] {
        let refused = told(&wrong, "");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:#?}");
        assert!(!refused.stderr.contains("secret"), "{refused:#?}");
    }
    // Its schema is not there yet; only a start that migrates makes it.
    let status = crate::support::horarium(&format!("db status --json --database-url '{url}'"));
    assert_eq!(status.exits(0).json()["schema_version"], 0);
    let made = crate::support::horarium(&format!("db migrate --json --database-url '{url}'"));
    let made = made.exits(0).json();
    assert_eq!(made["pending"], 0);
    assert!(!text(&made, "database").contains("secret"));
    // A role that does not own the tables, and a schema that a newer binary made.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let database = "t0";
    runtime.block_on(cluster.run(database, "CREATE ROLE guest LOGIN"));
    let guest = url.replace("postgres:secret@", "guest@");
    let newer = "INSERT INTO horarium_schema (version, name, runs_from) VALUES (99, 'later', 99)";
    for (url, change, words) in [
        (&guest, "SELECT 1", "belong to `postgres`"),
        (
            &url,
            newer,
            "schema version 99, written by a newer Horarium",
        ),
    ] {
        runtime.block_on(cluster.run(database, change));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let directory = directory.path().display();
        let start =
            format!("serve --listen 127.0.0.1:0 --data-dir {directory} --database-url '{url}'");
        for refused in [told(url, ""), crate::support::horarium(&start).exits(2)] {
            assert!(refused.stderr.contains(words), "{refused:#?}");
            assert_eq!(refused.stderr.lines().count(), 1, "{refused:#?}");
        }
    }
}
