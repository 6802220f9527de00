//! Whoever watches is told: of failures, of streaks, that a host lives; signed, again when it did not arrive, and
//! once by all hosts together.

use crate::many_hosts::{database, member};
use crate::support::{Host, HostBuilder, World, text, until};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::HashSet;
use std::fmt::Write;

const SECRET: &str = "a secret for the alerts of a test";

fn telling(builder: HostBuilder, world: &World, path: &str) -> HostBuilder {
    builder
        .setting("alerts.url", &format!("{}{path}", world.url()))
        .setting("alerts.secret", SECRET)
        .setting("alerts.streak", "2")
        .setting("alerts.allow_private", "127.0.0.0/8")
}

/// What arrived at a path, each with its id, after its signature was checked as docs/observability.md says.
fn alerts(world: &World, path: &str) -> Vec<(String, Value)> {
    let received = world.received(path);
    let read = received.iter().map(|request| {
        let signature = request.header("horarium-signature").expect("signed");
        let (at, given) = signature.split_once(",v1=").expect(&signature);
        let at = at.strip_prefix("t=").expect(&signature);
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
        mac.update(at.as_bytes());
        mac.update(b".");
        mac.update(&request.body);
        let mut wanted = String::new();
        for byte in mac.finalize().into_bytes() {
            write!(wanted, "{byte:02x}").expect("a text");
        }
        assert_eq!(given, wanted, "{request:?}");
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let id = request.header("horarium-alert-id").expect("an id");
        assert_eq!(text(&body, "alert_id"), id);
        (id, body)
    });
    read.collect()
}

fn events(told: &[(String, Value)], event: &str) -> Vec<Value> {
    let bodies = told.iter().map(|(_, body)| body);
    bodies.filter(|b| b["event"] == event).cloned().collect()
}

#[test]
fn failures_and_streaks_are_told_and_successes_are_not() {
    let world = World::start();
    let host = telling(HostBuilder::default(), &world, "/hook")
        .setting(
            "alerts.dead_man_url",
            &format!("{}/alive/{{host}}", world.url()),
        )
        .setting("host.name", "the one")
        .start();
    host.register("hostile/exit", "");
    host.register("hello", "");
    host.run_once("--type hello");
    let task = host.create("--name 'Nightly sum' --key nightly --type exit --max-retries 0");
    let (first, second) = (host.trigger(task), host.trigger(task));
    for id in [&first, &second] {
        assert_eq!(host.ended(id)["state"], "failed");
    }
    let told = until("two failures and a streak", || {
        Some(alerts(&world, "/hook")).filter(|told| told.len() >= 3)
    });
    assert_eq!(told.len(), 3, "{told:#?}");
    let ids: HashSet<&String> = told.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3);
    let failed = events(&told, "execution_failed");
    let of = |body: &Value| text(&body["execution"], "task_id").to_owned();
    let tasks: HashSet<String> = failed.iter().map(of).collect();
    assert_eq!(tasks, HashSet::from([first, second]));
    for body in &failed {
        assert_eq!(body["task"]["key"], "nightly");
        assert_eq!(body["tenant"]["name"], "default");
        assert_eq!(
            (&body["task_type"], &body["host"]),
            (&"exit".into(), &"the one".into())
        );
        assert_eq!(body["execution"]["error_kind"], "exit", "{body:#}");
        let message = text(body, "message");
        assert!(
            message.contains("Nightly sum") && message.contains("exit"),
            "{message}"
        );
    }
    let streak = events(&told, "failure_streak");
    assert_eq!(streak.len(), 1, "{told:#?}");
    assert_eq!(streak[0]["streak"]["failures"], 2);
    // The dead-man's URL is told of the host by its name.
    until("a sign of life", || {
        (world.visits("/alive/the%20one") > 0).then_some(())
    });
    let metrics = host.get("/metrics").is(200).body;
    let line = "horarium_alerts_total{event=\"execution_failed\",outcome=\"sent\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn what_did_not_arrive_comes_again_under_the_same_id() {
    let world = World::start();
    let host = telling(HostBuilder::default(), &world, "/broken_once").start();
    host.register("hostile/exit", "");
    host.run_once("--type exit --max-retries 0");
    let told = until("another delivery", || {
        Some(alerts(&world, "/broken_once")).filter(|told| told.len() == 2)
    });
    assert_eq!(told[0].0, told[1].0);
    assert_eq!(told[0].1, told[1].1);
}

#[test]
fn a_private_address_is_not_reached_unless_it_is_named() {
    let world = World::start();
    let host = HostBuilder::default()
        .setting("alerts.url", &format!("{}/hook", world.url()))
        .setting("alerts.secret", SECRET)
        .start();
    host.register("hostile/exit", "");
    host.run_once("--type exit --max-retries 0");
    until("a word in the log", || {
        let log = host.last_words();
        log.contains("has a private address").then_some(())
    });
    assert_eq!(world.visits("/hook"), 0);
}

#[test]
fn many_hosts_tell_each_failure_once() {
    let (_cluster, url) = database();
    let world = World::start();
    let start = |name: &str| telling(member(name, &url, "2"), &world, "/hook").start();
    let hosts: [Host; 2] = [start("one"), start("two")];
    hosts[0].register("hostile/exit", "");
    let task = hosts[0].create("--name Many --type exit --max-retries 0");
    let ids: HashSet<String> = (0..16).map(|n| hosts[n % 2].trigger(task)).collect();
    for id in &ids {
        hosts[1].ended(id);
    }
    let told = until("all failures", || {
        let told = alerts(&world, "/hook");
        (events(&told, "execution_failed").len() >= ids.len()).then_some(told)
    });
    let failed = events(&told, "execution_failed");
    let of = |body: &Value| text(&body["execution"], "task_id").to_owned();
    let named: HashSet<String> = failed.iter().map(of).collect();
    assert_eq!((named, failed.len()), (ids, 16), "each once");
}
