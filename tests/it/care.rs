//! What an operator keeps an eye on: how long history stays, what was used, settings read again, service managers.

use crate::support::{Host, HostBuilder, binary, horarium, items, text, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

#[test]
fn what_ran_is_billed_and_the_bill_outlives_the_history() {
    let mut host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Hello --type hello --key hello");
    let ran: Vec<String> = (0..3).map(|_| host.trigger(task)).collect();
    for task_id in &ran {
        host.reaches(task_id, "succeeded");
    }
    let bill = host.run("usage");
    let item = &bill["items"][0];
    assert_eq!(
        (text(item, "tenant"), text(item, "task_type")),
        ("default", "hello")
    );
    assert_eq!(bill["total"]["runs"], 3, "{bill:#}");
    assert_eq!(
        (&bill["total"]["succeeded"], &bill["total"]["failed"]),
        (&json!(3), &json!(0))
    );
    assert!(bill["total"]["fuel"].as_u64() > Some(0), "{bill:#}");
    assert!(bill["total"]["result_bytes"].as_u64() > Some(0), "{bill:#}");
    host.cli("usage --from 2026-02-30")
        .exits(2)
        .complains(&["not a day"]);
    host.cli("usage --from 2030-01-02 --to 2030-01-01")
        .exits(2)
        .complains(&["1 to 3660 days"]);
    let table = host.cli("usage").exits(0).stdout;
    assert!(
        table.contains("hello") && table.contains("total"),
        "{table}"
    );

    let kept = host.run("task retention hello --keep 1 --skipped 7d");
    assert_eq!(
        (&kept["keep"], &kept["skipped_seconds"]),
        (&json!(1), &json!(604_800))
    );
    let kept = host.run("task retention hello --skipped all");
    assert_eq!(
        (&kept["keep"], &kept["skipped_seconds"]),
        (&json!(1), &json!(null))
    );
    host.cli("task retention hello --failed 3s")
        .exits(2)
        .complains(&["/failed_seconds"]);
    host.cli("db prune")
        .exits(2)
        .complains(&["in use by process", "prunes by itself"]);
    host.stop();
    let would = host.run("db prune --dry-run");
    assert_eq!(
        (&would["executions"], &would["dry_run"]),
        (&json!(2), &json!(true))
    );
    let did = host.run("db prune");
    assert_eq!(did["tenants"], json!({"default": 2}));
    assert_eq!(host.run("db prune")["executions"], 0);
    host.start_again();
    let left: Vec<_> = host.executions("");
    assert_eq!(left.len(), 1);
    assert_eq!(text(&left[0], "task_id"), ran[2]);
    host.get(&format!("/v1/executions/{}", ran[0])).is(404);
    assert_eq!(host.run("usage")["total"], bill["total"]);
    host.stop();
    let all = host.run("db prune --older-than 0s --state succeeded");
    assert_eq!(all["executions"], 1);
}

#[test]
fn settings_are_read_again_on_sighup() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("horarium.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write("[log]\nlevel = \"info\"\n");
    let host = HostBuilder::default()
        .flag("--config", &file.display().to_string())
        .start();
    host.register("hello", "");
    let task = host.create("--name Hello --type hello");
    let ran: Vec<String> = (0..3).map(|_| host.trigger(task)).collect();
    for task_id in &ran {
        host.reaches(task_id, "succeeded");
    }
    write("[log]\nlevel = \"debug\"\n[retention]\nkeep = 1\n[api]\nmax_connections = 9\n");
    host.signal(Signal::SIGHUP);
    let line = until("the settings in the log", || {
        let log = host.last_words();
        let line = log.lines().find(|line| line.contains("were read again"))?;
        Some(line.to_owned())
    });
    let (now, later) = line.split_once("after_restart").expect("both");
    assert!(now.contains("log.level, retention.keep"), "{line}");
    assert!(later.contains("api.max_connections"), "{line}");
    // What is kept by the new settings goes at once, by the server itself.
    until("the end of two old executions", || {
        let left = host.executions("");
        (left.len() == 1 && text(&left[0], "task_id") == ran[2]).then_some(())
    });
    write("[log]\nlevel = 7\n");
    host.signal(Signal::SIGHUP);
    until("the refusal in the log", || {
        host.last_words()
            .contains("cannot be read; those in force stay")
            .then_some(())
    });
    host.get("/v1/me").is(200);
    horarium(&format!("serve --check --config '{}'", file.display()))
        .exits(2)
        .complains(&["log.level"]);
}

#[test]
fn a_service_manager_is_told() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("bound");
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let hears = || {
        let mut message = [0; 512];
        let length = manager.recv(&mut message).expect("told");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut server = binary()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .env("NOTIFY_SOCKET", &socket)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = Pid::from_raw(i32::try_from(server.id()).expect("a process id"));
    let heard = hears();
    kill(pid, Signal::SIGHUP).expect("signalled");
    let (reloading, ready) = (hears(), hears());
    kill(pid, Signal::SIGTERM).expect("signalled");
    let stopping = hears();
    assert!(server.wait().expect("it ends").success());
    assert!(heard.contains("READY=1"), "{heard}");
    assert!(
        reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="),
        "{reloading}"
    );
    assert!(ready.contains("READY=1"), "{ready}");
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
}

#[test]
fn a_quota_that_is_used_up_says_so() {
    let host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Hello --type hello");
    let quota = |name: &str| -> Value {
        let all = items(&host.run("quota show"));
        let found = all.into_iter().find(|quota| quota["quota"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(quota("configs")["limit"], json!(null));
    host.cli("quota set config=1")
        .exits(2)
        .complains(&["did you mean `configs`"]);
    host.run("quota set configs=1 fuel_per_day=1000");
    let refused = host.post(
        "/v1/tasks",
        &json!({"name": "b", "task_type": "hello", "scheduler_type": "manual"}),
    );
    assert_eq!(refused.status, 429, "{refused:#?}");
    let problem = refused.json();
    assert_eq!(
        (&problem["quota"], &problem["used"], &problem["limit"]),
        (&json!("configs"), &json!(1), &json!(1))
    );
    // More in one run than there is in a day.
    host.cli(&format!("task update {task} --limit fuel=2000"))
        .exits(2)
        .complains(&["the tenant `default`", "fuel"]);

    let first = host.trigger(task);
    let ended = host.reaches(&first, "failed");
    assert_eq!(text(&ended, "error_kind"), "quota", "{ended:#}");
    assert!(
        text(&ended, "error_message").contains("fuel_per_day"),
        "{ended:#}"
    );
    assert!(ended["usage"]["fuel"].as_u64() <= Some(1000), "{ended:#}");
    let fuel = quota("fuel_per_day");
    assert!(
        fuel["used"].as_u64() <= Some(1000) && !fuel["resets_at"].is_null(),
        "{fuel:#}"
    );
    host.run("quota set fuel_per_day=none executions_per_minute=0");
    let second = host.trigger(task);
    // A host that just loaded the plugin says so with its next heartbeat.
    let why = until("a quota as the reason", || {
        let why = host.run(&format!("execution why {second}"));
        (text(&why, "reason") != "no_host").then_some(why)
    });
    assert_eq!(text(&why, "reason"), "quota", "{why:#}");
    assert!(!why["until"].is_null(), "{why:#}");
    host.run("quota set executions_per_minute=none");
    host.reaches(&second, "succeeded");
}
