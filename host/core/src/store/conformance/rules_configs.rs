//! Task configs, their deletion, and state.

use super::lab::{Lab, TENANT, at, ok, spec};
use crate::runner::StateCommit;
use crate::store::{
    CompletionReceipt, ConfigFilter, ConfigUpdate, End, ExecutionFilter, HistoryOnDelete, Page,
    Reanchor, Store, StoreError,
};
use horarium_model::config::SkipStreak;
use horarium_model::execution::{SkipReason, State};
use horarium_model::schedule::{Overlap, SchedulerType};
use horarium_model::{ConfigId, TaskConfig, TaskSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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

async fn all_executions(lab: &Lab, config: Option<ConfigId>) -> Vec<horarium_model::Execution> {
    let filter = ExecutionFilter {
        config_id: config,
        ..Default::default()
    };
    lab.store
        .executions(TENANT, &filter, &Page::first(1000))
        .await
        .expect("lists")
        .items
}

/// The default: the config is gone at once, its history stays with `config_id` null.
pub async fn deleting_keeps_the_history(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let ended = lab.running(Some(config.id), at(0)).await;
    lab.finish(at(1), &ended, ok()).await;
    let running = lab.running(Some(config.id), at(1)).await;
    let waiting = lab.put_due(Some(config.id), at(2)).await;
    let mut order = lab.order(config.id, &[600], Overlap::Allow).await;
    order.skip_all = Some(SkipReason::Quota);
    lab.fire(at(600), order).await;
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let deleted = lab
        .store
        .delete_config(at(700), TENANT, config.id, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    assert_eq!((deleted.cancelled, deleted.running), (1, 1));
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    for purged in [false, true] {
        let gone = lab.store.config(TENANT, config.id).await.expect("answers");
        assert!(gone.is_none());
        assert!(all_executions(&lab, Some(config.id)).await.is_empty());
        let kept = all_executions(&lab, None).await;
        assert_eq!(kept.len(), 4, "purged {purged}: the skipped streak too");
        assert!(kept.iter().all(|e| e.config_id.is_none()));
        assert_eq!(lab.show(ended.task_id).await.config_id, None);
        while lab.store.purge_deleted(1).await.expect("purges") {}
    }
    let shown = lab.show(waiting).await;
    assert_eq!(
        (shown.state, shown.is_success),
        (State::Cancelled, Some(false))
    );
    assert_eq!(shown.error_kind, Some(horarium_model::ErrorKind::Cancelled));
    assert!(
        shown
            .error_message
            .is_some_and(|m| m.starts_with("config_deleted"))
    );
    assert_eq!(lab.finish(at(701), &running, ok()).await, State::Succeeded);
    assert_eq!(lab.show(running.task_id).await.config_id, None);
    while lab.store.purge_deleted(1).await.expect("purges") {}
    assert_eq!(lab.show(running.task_id).await.config_id, None);
    let again = lab
        .store
        .delete_config(at(702), TENANT, config.id, HistoryOnDelete::Keep)
        .await;
    assert!(matches!(again, Err(StoreError::NotFound(_))));
    let refused = lab
        .enqueue(at(703), vec![lab.new_execution(Some(config.id), at(703))])
        .await;
    assert_eq!(refused, [crate::store::EnqueueReceipt::NoConfig]);
}

/// The cascade: its history is gone at once, and what runs when it ends.
pub async fn deleting_may_take_the_history(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.cron().await;
    let other = lab.cron().await;
    let ended = lab.running(Some(config.id), at(0)).await;
    let mut item = lab.completion(at(1), &ended, ok());
    item.logs = vec![super::lab::line(&ended, 0, "hello")];
    item.calls = vec![super::lab::call(&ended, 0, "https://a.example/")];
    lab.complete(at(1), item).await;
    let kept = lab.running(Some(other.id), at(1)).await;
    lab.finish(at(1), &kept, ok()).await;
    let retried = lab.running(Some(config.id), at(1)).await;
    lab.finish(at(1), &retried, End::Retry(at(2))).await;
    lab.store.sweep_due(at(2), 9).await.expect("sweeps");
    let running = lab.claim_one(at(2)).await;
    let waiting = lab.put_due(Some(config.id), at(2)).await;
    let deleted = lab
        .store
        .delete_config(at(3), TENANT, config.id, HistoryOnDelete::Delete)
        .await
        .expect("deletes");
    assert_eq!((deleted.cancelled, deleted.running), (1, 1));
    for gone in [ended.task_id, waiting] {
        assert_eq!(lab.find(gone).await, None);
        assert!(lab.attempts(gone).await.is_empty());
        let logs = lab.store.logs(TENANT, gone, &Page::first(9)).await;
        assert!(logs.expect("answers").items.is_empty());
        let calls = lab.store.http_calls(TENANT, gone, &Page::first(9)).await;
        assert!(calls.expect("answers").items.is_empty());
        assert_eq!(
            lab.cancel(at(4), gone).await,
            crate::store::CancelReceipt::NotFound
        );
    }
    let left = lab.show(running.task_id).await;
    assert_eq!((left.state, left.config_id), (State::Running, None));
    assert_eq!(all_executions(&lab, None).await.len(), 2);
    while lab.store.purge_deleted(1).await.expect("purges") {}
    assert_eq!(
        lab.finish(at(5), &running, End::Failed).await,
        State::Failed
    );
    assert_eq!(lab.find(running.task_id).await, None);
    while lab.store.purge_deleted(1).await.expect("purges") {}
    let left = all_executions(&lab, None).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].config_id, Some(other.id));
    // Ids go on rising after the newest rows are gone.
    let (id, _) = lab.put(at(6), lab.new_execution(None, at(6))).await;
    assert!(id > running.id);
}

/// Running ones finish, are recorded, and retry no more.
pub async fn a_deleted_config_retries_no_more(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let running = lab.running(Some(config.id), at(0)).await;
    lab.store
        .delete_config(at(1), TENANT, config.id, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    while lab.store.purge_deleted(10).await.expect("purges") {}
    assert_eq!(
        lab.finish(at(2), &running, End::Retry(at(12))).await,
        State::Failed
    );
    let shown = lab.show(running.task_id).await;
    assert_eq!(shown.error_kind, Some(horarium_model::ErrorKind::Trap));
    assert_eq!(lab.attempts(running.task_id).await.len(), 1);
}

/// A batch at a time until nothing is left.
pub async fn purging_goes_in_batches(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for history in [HistoryOnDelete::Keep, HistoryOnDelete::Delete] {
        let config = lab.config(json!({})).await;
        for _ in 0..5 {
            let claimed = lab.running(Some(config.id), at(0)).await;
            lab.finish(at(1), &claimed, ok()).await;
        }
        lab.store
            .delete_config(at(2), TENANT, config.id, history)
            .await
            .expect("deletes");
    }
    let mut batches = 0;
    while lab.store.purge_deleted(2).await.expect("purges") {
        batches += 1;
        assert!(batches < 20, "it must come to an end");
    }
    assert!(batches >= 4, "{batches} batches for ten rows by two");
    assert_eq!(all_executions(&lab, None).await.len(), 5);
    assert!(!lab.store.purge_deleted(2).await.expect("purges"));
}

fn commit(expected: &[(&str, i64)], writes: &[(&str, Option<&str>)]) -> StateCommit {
    StateCommit {
        expected: expected
            .iter()
            .map(|(k, v)| ((*k).to_owned(), *v))
            .collect(),
        writes: writes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.map(|v| v.as_bytes().to_vec())))
            .collect(),
    }
}

async fn snapshot(lab: &Lab, config: ConfigId) -> BTreeMap<String, (String, i64)> {
    let snapshot = lab.store.state_snapshot(config).await.expect("answers");
    snapshot
        .entries
        .into_iter()
        .map(|(k, e)| {
            (
                k,
                (String::from_utf8_lossy(&e.value).into_owned(), e.version),
            )
        })
        .collect()
}

/// Writes come with the recorded success and only then; versions rise, also over a deletion.
pub async fn state_is_committed_with_success_only(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let run = |end: End, state: StateCommit| {
        let lab = &lab;
        async move {
            let claimed = lab.running(Some(config), at(1)).await;
            let mut item = lab.completion(at(2), &claimed, end);
            item.state = Some(state);
            lab.complete(at(2), item).await
        }
    };
    for end in [End::Failed, End::Cancelled] {
        run(end, commit(&[("a", 0)], &[("a", Some("x"))])).await;
        assert!(snapshot(&lab, config).await.is_empty());
    }
    let state = commit(&[("a", 0), ("b", 0)], &[("a", Some("1")), ("b", Some("2"))]);
    let receipt = run(ok(), state).await;
    assert_eq!(receipt, CompletionReceipt::Recorded(State::Succeeded));
    let first = snapshot(&lab, config).await;
    assert_eq!(first["a"].0, "1");
    assert!(first["a"].1 > 0);
    let expected = [("a", first["a"].1), ("b", first["b"].1)];
    run(ok(), commit(&expected, &[("a", Some("3")), ("b", None)])).await;
    let second = snapshot(&lab, config).await;
    assert_eq!(second.len(), 1);
    assert_eq!(second["a"].0, "3");
    assert!(second["a"].1 > first["a"].1);
    run(ok(), commit(&[("b", 0)], &[("b", Some("back"))])).await;
    let third = snapshot(&lab, config).await;
    assert!(third["b"].1 > first["b"].1, "a version is never used again");
    let shown = lab.store.task_state(TENANT, config).await.expect("answers");
    assert_eq!(shown["b"].value, b"back");
}

/// A key read or written that changed meanwhile: nothing is written, not even the end.
pub async fn state_conflicts_write_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let claimed = lab.running(Some(config), at(0)).await;
    lab.store
        .set_task_state(at(1), TENANT, config, "k", Some(b"op".to_vec()))
        .await
        .expect("writes");
    let before = snapshot(&lab, config).await;
    let mut item = lab.completion(at(2), &claimed, ok());
    item.logs = vec![super::lab::line(&claimed, 0, "x")];
    item.state = Some(commit(&[("j", 0), ("k", 0)], &[("j", Some("1"))]));
    match lab.complete(at(2), item.clone()).await {
        CompletionReceipt::StateConflict(message) => assert!(message.contains("`k`"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(snapshot(&lab, config).await, before);
    assert_eq!(lab.state(claimed.task_id).await, State::Running);
    assert!(lab.attempts(claimed.task_id).await.is_empty());
    let logs = lab
        .store
        .logs(TENANT, claimed.task_id, &Page::first(9))
        .await;
    assert!(logs.expect("answers").items.is_empty());
    // Two ends of one batch that expect the same version: the second conflicts.
    let other = lab.running(Some(config), at(3)).await;
    let version = before["k"].1;
    item.state = Some(commit(&[("k", version)], &[("k", Some("first"))]));
    let mut second = lab.completion(at(3), &other, ok());
    second.state = Some(commit(&[("k", version)], &[("k", Some("second"))]));
    let receipts = lab
        .store
        .complete_many(at(3), vec![item, second])
        .await
        .expect("answers");
    assert_eq!(receipts[0], CompletionReceipt::Recorded(State::Succeeded));
    assert!(matches!(receipts[1], CompletionReceipt::StateConflict(_)));
    assert_eq!(snapshot(&lab, config).await["k"].0, "first");
    assert_eq!(lab.state(other.task_id).await, State::Running);
}

/// State dies with its config; a late success writes none.
pub async fn state_of_a_deleted_config_is_not_written(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    lab.store
        .set_task_state(at(0), TENANT, config, "k", Some(b"v".to_vec()))
        .await
        .expect("writes");
    let claimed = lab.running(Some(config), at(1)).await;
    lab.store
        .delete_config(at(2), TENANT, config, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    assert!(snapshot(&lab, config).await.is_empty());
    let gone = lab.store.task_state(TENANT, config).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))));
    let mut item = lab.completion(at(3), &claimed, ok());
    item.state = Some(commit(&[("k", 77)], &[("k", Some("late"))]));
    assert_eq!(
        lab.complete(at(3), item).await,
        CompletionReceipt::Recorded(State::Succeeded)
    );
    assert!(snapshot(&lab, config).await.is_empty());
}

/// Operators set, delete and reset; each write is a new version.
pub async fn operators_write_state(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let set = |key: &'static str, value: Option<Vec<u8>>| {
        let store = lab.store.clone();
        async move {
            store
                .set_task_state(at(1), TENANT, config, key, value)
                .await
        }
    };
    let binary = vec![0, 255, 128, 0];
    set("k", Some(binary.clone())).await.expect("writes");
    let first = lab.store.task_state(TENANT, config).await.expect("answers")["k"].clone();
    assert_eq!(first.value, binary);
    set("k", Some(Vec::new())).await.expect("writes");
    let second = lab.store.task_state(TENANT, config).await.expect("answers")["k"].clone();
    assert!(second.value.is_empty() && second.version > first.version);
    set("missing", None)
        .await
        .expect("deleting nothing is fine");
    set("l", Some(b"1".to_vec())).await.expect("writes");
    set("k", None).await.expect("deletes");
    let left = lab.store.task_state(TENANT, config).await.expect("answers");
    assert_eq!(left.keys().collect::<Vec<_>>(), ["l"]);
    let forgotten = lab.store.reset_task_state(TENANT, config).await;
    assert_eq!(forgotten.expect("answers"), 1);
    let foreign = lab.store.reset_task_state(TENANT + 1, config).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))));
    let missing = lab
        .store
        .set_task_state(at(1), TENANT, config + 99, "k", None)
        .await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
}
