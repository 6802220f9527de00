//! A host that was away.

use crate::support::{Host, text, until};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use horarium_core::store::{Catalog, ConfigUpdate, Reanchor};
use horarium_store::{SqliteOptions, SqliteStore};
use std::path::Path;

#[test]
fn a_missed_hour_fires_once_and_the_rest_is_one_skipped_row() {
    let mut host = Host::start();
    host.register("hello", "");
    let now = host_time(&host);
    // Every ten minutes, half-way between now and the next: six slots an hour, none of them soon.
    let minutes: Vec<String> = (0..6).map(|n| ((now.minute() + 5) % 10 + n * 10).to_string()).collect();
    let task = host.create(&format!("--name Often --type hello --cron '{} * * * *'", minutes.join(",")));
    assert_eq!(host.stop(), Some(0));
    away_since(&host.database(), task, now - TimeDelta::hours(1));
    host.start_again();

    let ran = until("the slot made up", 30, || host.executions(&format!("task={task}&state=succeeded")).pop());
    assert_eq!(text(&ran, "trigger"), "catch_up");
    let newest = text(&ran, "slot").parse::<DateTime<Utc>>().expect("an instant");
    assert!(now - newest < TimeDelta::minutes(10), "the newest is made up: {ran:#}");

    let skipped = until("skipped slots", 30, || host.executions(&format!("task={task}&state=skipped")).pop());
    assert_eq!((text(&skipped, "skip_reason"), skipped["slot_count"].as_i64()), ("missed", Some(5)));
    assert_eq!(skipped["is_success"], serde_json::Value::Null);
    let (first, last) = (text(&skipped, "slot"), text(&skipped, "slot_last"));
    let span = last.parse::<DateTime<Utc>>().expect("an instant") - first.parse::<DateTime<Utc>>().expect("an instant");
    assert_eq!(span, TimeDelta::minutes(40));
    assert_eq!(host.executions(&format!("task={task}")).len(), 2);

    // Nothing of it is made up again.
    assert_eq!(host.stop(), Some(0));
    host.start_again();
    assert_eq!(host.executions(&format!("task={task}")).len(), 2);
}

/// What the server thinks the time is.
fn host_time(host: &Host) -> DateTime<Utc> {
    let hosts = host.get("/v1/hosts").is(200).json();
    text(&hosts["items"][0], "started_at").parse().expect("an instant")
}

/// Puts a schedule back, as if the host had been away since then. Only the store can do that: there is
/// no way to tell a server another time.
fn away_since(database: &Path, task: i64, since: DateTime<Utc>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(database, SqliteOptions::default()).await.expect("opened");
        let tenant = horarium_model::DEFAULT_TENANT_ID;
        let config = store.config(tenant, task.into()).await.expect("read").expect("there");
        let update = ConfigUpdate {
            expected_version: config.version,
            spec: config.spec.clone(),
            reanchor: Some(Reanchor {
                anchor_at: since,
                next_fire_at: Some(since),
                skipped: None,
            }),
        };
        store.update_config(since, tenant, config.id, update).await.expect("changed");
        store.close().await.expect("closed");
    });
}
