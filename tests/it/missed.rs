//! A host that was away.

use crate::support::{Host, text, until};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use horarium_core::store::{Catalog, ConfigUpdate, Reanchor};
use horarium_store::{SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use std::path::Path;

/// What a task of each `catch_up` makes of six missed slots: how many run, how many are skipped.
const RULES: [(&str, usize, i64); 3] = [("once", 1, 5), ("skip", 0, 6), ("all", 6, 0)];

#[test]
fn a_missed_hour_fires_once_or_as_it_was_told() {
    let mut host = Host::start();
    host.register("hello", "");
    let now = host_time(&host);
    // Every ten minutes, half-way between now and the next: six slots an hour, none of them soon.
    let minutes: Vec<String> = (0..6)
        .map(|n| ((now.minute() + 5) % 10 + n * 10).to_string())
        .collect();
    let expression = format!("{} * * * *", minutes.join(","));
    let tasks = RULES.map(|(catch_up, ..)| {
        let task = json!({"name": catch_up, "task_type": "hello", "scheduler_type": "cron",
            "schedule_config": {"cron_expression": expression, "catch_up": catch_up}});
        let created = host.post("/v1/tasks", &task).is(201).json();
        created["id"].as_i64().expect("an id")
    });
    assert_eq!(host.stop(), Some(0));
    away_since(&host.database(), &tasks, now - TimeDelta::hours(1));
    host.start_again();
    for (task, (catch_up, ran, skipped)) in tasks.into_iter().zip(RULES) {
        let done = until(&format!("the slots of {catch_up}"), || {
            let rows = host.executions(&format!("task={task}&state=succeeded"));
            (rows.len() >= ran).then_some(rows)
        });
        made_up(&done, now, ran);
        let left = until(&format!("what {catch_up} leaves out"), || {
            let rows = left_out(&host, task);
            (rows.len() >= usize::from(skipped > 0)).then_some(rows)
        });
        let span = TimeDelta::minutes(10 * (skipped - 1));
        let expected = (skipped > 0).then_some(("missed".to_owned(), skipped, span));
        assert_eq!(left, Vec::from_iter(expected), "{catch_up}");
    }

    // Nothing of it is made up again.
    let before = host.executions("");
    assert_eq!(host.stop(), Some(0));
    host.start_again();
    assert_eq!(host.executions(""), before);
}

/// Fails unless so many slots ran, each once and the newest among them.
fn made_up(ran: &[Value], now: DateTime<Utc>, count: usize) {
    assert_eq!(ran.len(), count, "{ran:#?}");
    for row in ran {
        assert_eq!(text(row, "trigger"), "catch_up", "{row:#}");
    }
    let slots: Vec<DateTime<Utc>> = ran.iter().map(|row| instant(row, "slot")).collect();
    assert!(
        slots.is_sorted_by(|newer, older| newer > older),
        "{slots:?}"
    );
    if let Some(newest) = slots.first() {
        let age = now.signed_duration_since(*newest);
        assert!(
            age < TimeDelta::minutes(10),
            "the newest is made up: {ran:#?}"
        );
    }
}

/// Reason, number and span of the skipped slots: rows of the history, and the streak that is still open.
fn left_out(host: &Host, task: i64) -> Vec<(String, i64, TimeDelta)> {
    let number = |value: &Value| value.as_i64().expect("a number");
    let rows = host.executions(&format!("task={task}&state=skipped"));
    let mut streaks: Vec<_> = rows
        .iter()
        .map(|row| {
            assert_eq!(row["is_success"], Value::Null, "{row:#}");
            let span = instant(row, "slot_last") - instant(row, "slot");
            (
                text(row, "skip_reason").to_owned(),
                number(&row["slot_count"]),
                span,
            )
        })
        .collect();
    let open = &host.run(&format!("task show {task}"))["open_skip"];
    if !open.is_null() {
        let span = instant(open, "last") - instant(open, "first");
        streaks.push((
            text(open, "reason").to_owned(),
            number(&open["count"]),
            span,
        ));
    }
    streaks
}

fn instant(row: &Value, key: &str) -> DateTime<Utc> {
    text(row, key).parse().expect("an instant")
}

/// What the server thinks the time is.
fn host_time(host: &Host) -> DateTime<Utc> {
    let hosts = host.get("/v1/hosts").is(200).json();
    text(&hosts["items"][0], "started_at")
        .parse()
        .expect("an instant")
}

/// Puts a schedule back, as if the host had been away since then. Only the store can do that: there is
/// no way to tell a server another time.
fn away_since(database: &Path, tasks: &[i64], since: DateTime<Utc>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let opened = SqliteStore::open(database, SqliteOptions::default()).await;
        let store = opened.expect("opened");
        let tenant = horarium_model::DEFAULT_TENANT_ID;
        for task in tasks {
            let config = store
                .config(tenant, *task)
                .await
                .expect("read")
                .expect("there");
            let update = ConfigUpdate {
                expected_version: config.version,
                spec: config.spec.clone(),
                reanchor: Some(Reanchor {
                    anchor_at: since,
                    next_fire_at: Some(since),
                    skipped: None,
                }),
            };
            let changed = store.update_config(since, tenant, config.id, update).await;
            changed.expect("changed");
        }
        store.close().await.expect("closed");
    });
}
