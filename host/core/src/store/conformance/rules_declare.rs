//! Declarations: plugins and configs changed together, or not at all.

use super::lab::{Lab, TENANT, at, spec};
use super::rules_catalog::{add, finish, ready};
use crate::store::{
    ConfigFilter, ConfigUpdate, Declaration, DeclaredVersion, Deleted, Page, Reanchor, Store,
    StoreError,
};
use horarium_model::execution::State;
use horarium_model::grant::Grant;
use horarium_model::limits::LimitOverrides;
use horarium_model::program::ProgramInput;
use horarium_model::quota::Quotas;
use horarium_model::task_type::digest;
use horarium_model::{ConfigId, TaskConfig};
use serde_json::{Value, json};
use std::sync::Arc;

const SET: &str = "team/tasks";

fn update(config: &TaskConfig, changes: Value) -> (ConfigId, ConfigUpdate) {
    let update = ConfigUpdate {
        expected_version: config.version,
        spec: spec(changes),
        reanchor: None,
    };
    (config.id, update)
}

fn version(bytes: &[u8], expected_active: Option<&[u8]>) -> DeclaredVersion {
    DeclaredVersion {
        task_type: "echo".to_owned(),
        digest: digest(bytes),
        expected_active: expected_active.map(digest),
        grants: vec!["http GET https://a.example".parse().expect("a grant")],
        limits: LimitOverrides {
            fuel: Some(9),
            ..LimitOverrides::default()
        },
        input: ProgramInput::default(),
    }
}

async fn of_set(lab: &Lab, set: &str) -> Vec<ConfigId> {
    let filter = ConfigFilter {
        declared_by: Some(set.to_owned()),
        ..ConfigFilter::default()
    };
    let page = Page::first(100);
    let listing = lab.store.configs(TENANT, &filter, &page).await;
    let items = listing.expect("answers").items;
    items.iter().map(|config| config.id).collect()
}

/// Everything at once: what is new, what changes, what goes, and the version that runs.
pub async fn a_declaration_is_written_whole(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    add(&lab, "echo", b"one").await;
    finish(&lab, "echo", b"one", ready(true))
        .await
        .expect("finishes");
    add(&lab, "echo", b"two").await;
    finish(&lab, "echo", b"two", ready(false))
        .await
        .expect("finishes");
    let kept = lab.config(json!({"key": "kept"})).await;
    let doomed = lab.config(json!({"key": "doomed"})).await;
    let waiting = lab.put_due(Some(doomed.id), at(1)).await;
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let cron = json!({"key": "cron", "scheduler_type": "cron", "schedule_config": {"cron_expression": "*/10 * * * *"}});
    let mut changed = update(&kept, cron.clone());
    changed.1.spec.key = Some("kept".to_owned());
    changed.1.reanchor = Some(Reanchor {
        anchor_at: at(5),
        next_fire_at: Some(at(600)),
        skipped: None,
    });
    let declaration = Declaration {
        set: SET.to_owned(),
        plugins: vec![version(b"two", Some(b"one"))],
        creates: vec![spec(cron), spec(json!({"key": "b"}))],
        updates: vec![changed],
        deletes: vec![(doomed.id, doomed.version)],
    };
    let declared = lab.store.declare(at(5), TENANT, declaration).await;
    let declared = declared.expect("is written");
    let once = Deleted {
        cancelled: 1,
        running: 0,
    };
    assert_eq!(declared.deleted, once);
    for (config, version) in declared
        .created
        .iter()
        .map(|c| (c, 1))
        .chain(declared.updated.iter().map(|c| (c, 2)))
    {
        assert_eq!(config.declared_by.as_deref(), Some(SET));
        assert_eq!(config.version, version);
        assert_eq!(lab.read(config.id).await, *config);
    }
    let fires = declared.created[0].schedule_state.next_fire_at;
    assert_eq!(fires, Some(at(600)));
    assert_eq!(declared.updated[0].id, kept.id);
    let ids = [
        declared.created[1].id,
        declared.created[0].id,
        declared.updated[0].id,
    ];
    assert_eq!(of_set(&lab, SET).await, ids, "newest first");
    assert!(of_set(&lab, "another").await.is_empty());
    let gone = lab.store.config(TENANT, doomed.id).await;
    assert_eq!(gone.expect("answers"), None);
    let ended = lab.store.execution(TENANT, waiting).await.expect("answers");
    assert_eq!(ended.map(|e| e.state), Some(State::Cancelled));
    let row = lab.store.task_type(TENANT, "echo").await.expect("answers");
    assert_eq!(row.and_then(|r| r.active_digest), Some(digest(b"two")));
    let versions = lab.store.versions(TENANT, "echo").await.expect("answers");
    let wanted = version(b"two", None);
    assert_eq!(versions[0].grants, wanted.grants);
    assert_eq!(versions[0].limits, wanted.limits);
    assert_eq!(versions[0].input, wanted.input);
    assert_eq!(versions[1].grants, [Grant::State], "the other one's stay");
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    // An ordinary change leaves the mark.
    let (id, later) = update(&declared.created[1], json!({"key": "b", "name": "by hand"}));
    let later = lab.store.update_config(at(6), TENANT, id, later).await;
    assert_eq!(later.expect("changes").declared_by.as_deref(), Some(SET));
}

/// One bad part, and nothing of the rest is there.
pub async fn a_declaration_that_fails_writes_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    add(&lab, "echo", b"one").await;
    finish(&lab, "echo", b"one", ready(true))
        .await
        .expect("finishes");
    add(&lab, "echo", b"late").await;
    let first = lab.config(json!({"key": "first"})).await;
    let second = lab.config(json!({"key": "second"})).await;
    let sound = Declaration {
        set: SET.to_owned(),
        plugins: vec![version(b"one", Some(b"one"))],
        creates: vec![spec(json!({"key": "new"}))],
        updates: vec![update(&first, json!({"key": "first", "name": "changed"}))],
        deletes: vec![(second.id, second.version)],
    };
    type Spoil = fn(&mut Declaration);
    let spoilt: [Spoil; 7] = [
        |d| d.updates[0].1.expected_version += 1,
        |d| d.deletes[0].1 += 1,
        |d| d.deletes.push((99_999, 1)),
        |d| d.creates.push(d.creates[0].clone()),
        |d| d.plugins[0].expected_active = None,
        |d| d.plugins[0].digest = digest(b"late"),
        |d| d.plugins[0].digest = digest(b"unknown"),
    ];
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    for (case, spoil) in spoilt.iter().enumerate() {
        let mut declaration = sound.clone();
        spoil(&mut declaration);
        let refused = lab.store.declare(at(5), TENANT, declaration).await;
        assert!(
            matches!(
                refused,
                Err(StoreError::Conflict(_) | StoreError::NotFound(_))
            ),
            "case {case}: {refused:?}"
        );
        assert_eq!(lab.read(first.id).await, first, "case {case}");
        assert_eq!(lab.read(second.id).await, second, "case {case}");
        let new = lab.store.config_by_key(TENANT, "new").await;
        assert_eq!(new.expect("answers"), None, "case {case}");
        let versions = lab.store.versions(TENANT, "echo").await.expect("answers");
        assert!(versions.iter().all(|v| v.grants == [Grant::State]));
        assert_eq!(lab.store.catalog_epoch().await.expect("answers"), epoch);
    }
    // Another tenant's are not there.
    let foreign = lab.store.declare(at(5), TENANT + 1, sound.clone()).await;
    assert!(
        matches!(foreign, Err(StoreError::NotFound(_))),
        "{foreign:?}"
    );
    lab.store
        .declare(at(5), TENANT, sound)
        .await
        .expect("is sound");
}

/// What goes makes room for what comes: tasks are swapped also where no more of them may be.
pub async fn a_declaration_swaps_tasks_at_a_full_quota(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let kept = lab.config(json!({"key": "kept"})).await;
    let doomed = lab.config(json!({"key": "doomed"})).await;
    let waiting = lab.put_due(Some(doomed.id), at(1)).await;
    let full = Quotas {
        configs: Some(2),
        ..Quotas::default()
    };
    lab.store.set_quotas(TENANT, full).await.expect("set");
    let declaration = |keys: &[&str]| Declaration {
        set: SET.to_owned(),
        plugins: Vec::new(),
        creates: keys.iter().map(|key| spec(json!({ "key": key }))).collect(),
        updates: vec![update(&kept, json!({"key": "kept", "priority": 3}))],
        deletes: vec![(doomed.id, doomed.version)],
    };
    // One more than goes: all stays as it was.
    let refused = lab.store.declare(at(2), TENANT, declaration(&["a", "b"]));
    let refused = refused.await.expect_err("too many");
    assert!(matches!(refused, StoreError::Quota(_)), "{refused}");
    let stays = lab.store.config(TENANT, doomed.id).await.expect("answers");
    assert_eq!(stays, Some(doomed.clone()));
    assert_eq!(lab.state(waiting).await, State::Available);
    let swapped = lab.store.declare(at(3), TENANT, declaration(&["a"])).await;
    let swapped = swapped.expect("declares");
    let gone = Deleted {
        cancelled: 1,
        running: 0,
    };
    assert_eq!((swapped.created.len(), swapped.deleted), (1, gone));
    assert_eq!(lab.state(waiting).await, State::Cancelled);
    let found = lab.store.config(TENANT, doomed.id).await;
    assert_eq!(found.expect("answers"), None);
}
