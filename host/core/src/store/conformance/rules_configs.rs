//! Task configs, their deletion, and state.

use super::lab::{Lab, TENANT, at, spec};
use crate::store::{
    ConfigFilter, ConfigUpdate, HistoryOnDelete, Page, Reanchor, Store, StoreError,
};
use horarium_model::config::SkipStreak;
use horarium_model::execution::SkipReason;
use horarium_model::schedule::{Overlap, SchedulerType};
use horarium_model::{ConfigId, TaskConfig, TaskSpec};
use serde_json::{Value, json};
use std::sync::Arc;

async fn update(
    lab: &Lab,
    id: ConfigId,
    version: i64,
    spec: TaskSpec,
    reanchor: Option<Reanchor>,
) -> Result<TaskConfig, StoreError> {
    let update = ConfigUpdate {
        expected_version: version,
        spec,
        reanchor,
    };
    lab.store.update_config(at(50), TENANT, id, update).await
}

/// Every field comes back as it went in, of every kind of schedule.
pub async fn configs_are_kept_as_written(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let full = json!({
        "key": "full", "name": "Ünïcode 名前", "scheduler_type": "cron",
        "parameters": {"deep": [{"a": null, "b": [1.5, -0.25, "\u{1F600}", u64::MAX, i64::MIN]}], "": {"é\"\\\n": 1}},
        "schedule_config": {"cron_expression": "0 9 * * 1-5", "timezone": "Europe/Berlin", "catch_up": "all",
            "catch_up_window_seconds": 7200, "misfire_grace_seconds": 5, "jitter_seconds": 30,
            "start_at": "2026-02-01T00:00:00.000001Z", "end_at": "2027-02-01T00:00:00+01:00"},
        "max_retries": 0, "timeout_seconds": 86400, "priority": -100,
        "limits": {"fuel": 1_000_000_000_000_000_u64, "http_calls": 3},
        "retry_policy": {"initial_seconds": 1.5, "factor": 3, "max_seconds": 60, "jitter": "none", "retry_on": ["trap", "out_of_fuel"]},
        "overlap": "queue_one", "concurrency": {"max": 3, "key": "/deep/0"},
        "plugin_version": format!("blake3:{}", "0".repeat(64)),
        "paused": true, "pause_reason": "because", "pause_after_failures": 5, "expires_after_seconds": 60,
    });
    let date = json!({"scheduler_type": "date", "schedule_config": {"run_at": "2026-06-01T12:00:00.123456Z"}});
    for changes in [full, date, json!({}), json!({"overlap": "allow"})] {
        let wanted = spec(changes.clone());
        let created = lab.config(changes).await;
        assert_eq!(created.spec, wanted);
        assert_eq!((created.version, created.tenant_id), (1, TENANT));
        assert_eq!((created.created_at, created.updated_at), (at(0), at(0)));
        let read = lab.read(created.id).await;
        assert_eq!(read, created);
        assert_eq!(read.to_json(), created.to_json());
        let by_ids = lab.store.configs_by_ids(&[created.id, 9999]).await;
        assert_eq!(by_ids.expect("answers"), [created]);
    }
    let by_key = lab.store.config_by_key(TENANT, "full").await;
    assert!(by_key.expect("answers").is_some());
    let foreign = lab.store.config_by_key(TENANT + 1, "full").await;
    assert!(foreign.expect("answers").is_none());
}

/// Anchored at now; paused and manual ones never fire by themselves.
pub async fn created_configs_have_their_next_fire(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = lab.cron().await;
    assert_eq!(first.schedule_state.next_fire_at, Some(at(600)));
    assert_eq!(first.schedule_state.anchor_at, at(0));
    assert_eq!(first.schedule_state.last_slot, None);
    let second = lab
        .config(json!({"scheduler_type": "date", "schedule_config": {"run_at": "2026-01-01T00:00:07Z"}}))
        .await;
    assert_eq!(second.schedule_state.next_fire_at, Some(at(7)));
    assert!(second.id > first.id);
    for changes in [
        json!({}),
        json!({"paused": true, "scheduler_type": "cron", "schedule_config": {"cron_expression": "* * * * *"}}),
    ] {
        let config = lab.config(changes).await;
        assert_eq!(config.schedule_state.next_fire_at, None);
    }
}

/// A key is free again once its config is deleted.
pub async fn keys_are_unique_while_they_live(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = lab.config(json!({"key": "k"})).await;
    let taken = lab
        .store
        .create_config(at(1), TENANT, spec(json!({"key": "k"})))
        .await;
    assert!(
        matches!(&taken, Err(StoreError::Conflict(m)) if m.contains("`k`")),
        "{taken:?}"
    );
    let other = lab.config(json!({})).await;
    let stolen = update(&lab, other.id, 1, spec(json!({"key": "k"})), None).await;
    assert!(matches!(stolen, Err(StoreError::Conflict(_))));
    assert_eq!(lab.read(other.id).await, other, "nothing was written");
    update(
        &lab,
        first.id,
        1,
        spec(json!({"key": "k", "name": "new"})),
        None,
    )
    .await
    .expect("its own key is no conflict");
    lab.store
        .delete_config(at(2), TENANT, first.id, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    let again = lab.config(json!({"key": "k"})).await;
    let found = lab.store.config_by_key(TENANT, "k").await.expect("answers");
    assert_eq!(found.map(|c| c.id), Some(again.id));
}

/// The version guards; unknown configs are not found.
pub async fn updates_are_compare_and_set(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let mut renamed = config.spec.clone();
    renamed.name = "renamed".into();
    let new = update(&lab, config.id, 1, renamed.clone(), None)
        .await
        .expect("updates");
    assert_eq!((new.version, new.updated_at), (2, at(50)));
    assert_eq!((new.created_at, &new.spec), (at(0), &renamed));
    assert_eq!(new.schedule_state, config.schedule_state);
    assert_eq!(lab.read(config.id).await, new);
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    let stale = update(&lab, config.id, 1, config.spec.clone(), None).await;
    assert!(matches!(stale, Err(StoreError::Conflict(_))));
    let missing = update(&lab, config.id + 999, 1, config.spec.clone(), None).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
    assert_eq!(lab.read(config.id).await.spec, renamed);
}

/// Writers that read, change and retry on conflict lose nothing.
pub async fn concurrent_updates_lose_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store.clone()).await;
    let id = lab.config(json!({"parameters": {"n": 0}})).await.id;
    let writers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < 10 {
                let config = store
                    .config(TENANT, id)
                    .await
                    .expect("answers")
                    .expect("is there");
                let mut spec = config.spec.clone();
                let n = spec.parameters["n"].as_i64().unwrap_or(0);
                spec.parameters.insert("n".into(), Value::from(n + 1));
                let update = ConfigUpdate {
                    expected_version: config.version,
                    spec,
                    reanchor: None,
                };
                match store.update_config(at(1), TENANT, id, update).await {
                    Ok(_) => done += 1,
                    Err(StoreError::Conflict(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let config = lab.read(id).await;
    assert_eq!(config.spec.parameters["n"], json!(80));
    assert_eq!(config.version, 81);
}

/// Rules S2 and S9: the open streak is written, then the slots of the pause, then the anchor moves.
pub async fn a_reanchor_writes_what_was_skipped(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let mut order = lab.order(config.id, &[600], Overlap::Skip).await;
    order.skip_all = Some(SkipReason::Quota);
    lab.fire(at(600), order).await;
    let paused = SkipStreak {
        reason: SkipReason::Paused,
        first: at(1200),
        last: at(2400),
        count: 3,
    };
    let reanchor = Reanchor {
        anchor_at: at(2500),
        next_fire_at: Some(at(3000)),
        skipped: Some(paused),
    };
    let new = update(&lab, config.id, 1, config.spec.clone(), Some(reanchor))
        .await
        .expect("updates");
    let state = new.schedule_state;
    assert_eq!(
        (state.anchor_at, state.next_fire_at),
        (at(2500), Some(at(3000)))
    );
    assert_eq!((state.last_slot, state.open_skip), (Some(at(600)), None));
    let rows = lab.skipped(config.id).await;
    let reasons: Vec<_> = rows.iter().map(|r| (r.skip_reason, r.slot_count)).collect();
    assert_eq!(
        reasons,
        [
            (Some(SkipReason::Quota), Some(1)),
            (Some(SkipReason::Paused), Some(3))
        ]
    );
    assert_eq!(rows[1].created_at, at(50));
    // Pausing wins over whatever next fire the update names.
    let mut spec = config.spec.clone();
    spec.paused = true;
    let reanchor = Reanchor {
        anchor_at: at(2500),
        next_fire_at: Some(at(3000)),
        skipped: None,
    };
    let new = update(&lab, config.id, 2, spec, Some(reanchor)).await;
    assert_eq!(new.expect("updates").schedule_state.next_fire_at, None);
}

/// Newest first, each filter, a cursor that neither repeats nor leaves out.
pub async fn configs_are_listed_by_filter_and_cursor(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let changes = match n % 3 {
            0 => json!({"name": format!("Straße {n}"), "task_type": "other"}),
            1 => json!({"name": format!("TASK {n} 100%"), "paused": true}),
            _ => {
                json!({"scheduler_type": "cron", "schedule_config": {"cron_expression": "@daily"}})
            }
        };
        ids.push(lab.config(changes).await.id);
    }
    ids.reverse();
    let list = |filter: ConfigFilter, page: Page| {
        let store = lab.store.clone();
        async move {
            let listing = store.configs(TENANT, &filter, &page).await.expect("lists");
            let ids: Vec<_> = listing.items.iter().map(|c| c.id).collect();
            (ids, listing.next)
        }
    };
    let mut seen = Vec::new();
    let mut page = Page::first(3);
    loop {
        let (items, next) = list(ConfigFilter::default(), page.clone()).await;
        seen.extend(items);
        page.after = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(list(ConfigFilter::default(), Page::first(7)).await.1, None);
    let count = |filter: ConfigFilter| {
        let list = &list;
        async move { list(filter, Page::first(100)).await.0.len() }
    };
    let by = ConfigFilter::default;
    assert_eq!(
        count(ConfigFilter {
            task_type: Some("other".into()),
            ..by()
        })
        .await,
        3
    );
    assert_eq!(
        count(ConfigFilter {
            scheduler_type: Some(SchedulerType::Cron),
            ..by()
        })
        .await,
        2
    );
    assert_eq!(
        count(ConfigFilter {
            paused: Some(true),
            ..by()
        })
        .await,
        2
    );
    assert_eq!(
        count(ConfigFilter {
            paused: Some(false),
            ..by()
        })
        .await,
        5
    );
    assert_eq!(
        count(ConfigFilter {
            name: Some("STRASSE".into()),
            ..by()
        })
        .await,
        0
    );
    assert_eq!(
        count(ConfigFilter {
            name: Some("TRAßE".into()),
            ..by()
        })
        .await,
        3
    );
    assert_eq!(
        count(ConfigFilter {
            name: Some("task".into()),
            paused: Some(true),
            ..by()
        })
        .await,
        2
    );
    assert_eq!(
        count(ConfigFilter {
            name: Some("%".into()),
            ..by()
        })
        .await,
        2
    );
    assert_eq!(
        count(ConfigFilter {
            name: Some("_".into()),
            ..by()
        })
        .await,
        0
    );
}
