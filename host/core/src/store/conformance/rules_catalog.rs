//! Plugins: versions, types, bytes.

use super::lab::{Lab, TENANT, at, ok};
use crate::store::{FinishVersion, HistoryOnDelete, Page, Store, StoreError};
use horarium_model::descriptor::Descriptor;
use horarium_model::execution::State;
use horarium_model::grant::Grant;
use horarium_model::limits::LimitOverrides;
use horarium_model::program::ProgramInput;
use horarium_model::task_type::{PluginVersion, VersionState, digest};
use serde_json::json;
use std::sync::Arc;

/// A version to register.
pub fn version(task_type: &str, bytes: &[u8]) -> PluginVersion {
    PluginVersion {
        tenant_id: TENANT,
        task_type: task_type.to_owned(),
        digest: digest(bytes),
        state: VersionState::Compiling,
        error: None,
        size_bytes: bytes.len() as u64,
        descriptor: Descriptor::default(),
        grants: vec![Grant::State],
        limits: LimitOverrides {
            fuel: Some(7),
            ..Default::default()
        },
        input: ProgramInput {
            args_from: Some("/a~1é".into()),
            stdin_from: Some(String::new()),
            ..ProgramInput::default()
        },
        activate: true,
        grant_asked: false,
        warnings: vec!["odd".into()],
        created_at: at(3),
    }
}

pub(super) fn ready(activate: bool) -> FinishVersion {
    let descriptor = Descriptor {
        version: Some("1.2.3".into()),
        parameters_schema: Some(json!({"type": "object", "é": [u64::MAX]})),
        examples: vec![json!({"a": 1})],
        ..Descriptor::default()
    };
    FinishVersion::Ready {
        descriptor: Box::new(descriptor),
        warnings: vec!["late".into()],
        activate,
    }
}

pub(super) async fn add(lab: &Lab, task_type: &str, bytes: &[u8]) -> PluginVersion {
    lab.store
        .add_version(at(3), version(task_type, bytes), bytes.to_vec())
        .await
        .expect("registers")
}

pub(super) async fn finish(
    lab: &Lab,
    task_type: &str,
    bytes: &[u8],
    finish: FinishVersion,
) -> Result<PluginVersion, StoreError> {
    lab.store
        .finish_version(at(4), TENANT, task_type, &digest(bytes), finish)
        .await
}

/// compiling, ready, active; each change moves the epoch.
pub async fn versions_live_their_life(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let added = add(&lab, "echo", b"one").await;
    assert_eq!(added, version("echo", b"one"));
    let row = lab.store.task_type(TENANT, "echo").await.expect("answers");
    let row = row.expect("the name exists");
    assert_eq!((row.active_digest, row.disabled), (None, false));
    assert_eq!(row.created_at, at(3));
    let early = lab
        .store
        .activate_version(at(4), TENANT, "echo", &digest(b"one"))
        .await;
    assert!(matches!(early, Err(StoreError::Conflict(_))));
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let done = finish(&lab, "echo", b"one", ready(true))
        .await
        .expect("finishes");
    assert_eq!((done.state, done.warnings.len()), (VersionState::Ready, 1));
    assert_eq!(done.descriptor.version.as_deref(), Some("1.2.3"));
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    let row = lab.store.task_type(TENANT, "echo").await.expect("answers");
    let row = row.expect("the name exists");
    assert_eq!(row.active_digest, Some(digest(b"one")));
    assert_eq!(row.previous_digest, None);
    let twice = finish(&lab, "echo", b"one", ready(true)).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))));
    add(&lab, "echo", b"two").await;
    finish(&lab, "echo", b"two", ready(false))
        .await
        .expect("finishes");
    let versions = lab.store.versions(TENANT, "echo").await.expect("answers");
    let digests: Vec<_> = versions.iter().map(|v| v.digest.clone()).collect();
    assert_eq!(digests, [digest(b"two"), digest(b"one")], "newest first");
    assert_eq!(versions[1], done, "as it was answered");
    let row = lab
        .store
        .activate_version(at(6), TENANT, "echo", &digest(b"two"))
        .await
        .expect("activates");
    assert_eq!(row.active_digest, Some(digest(b"two")));
    assert_eq!(row.previous_digest, Some(digest(b"one")));
    let again = lab
        .store
        .activate_version(at(6), TENANT, "echo", &digest(b"two"))
        .await
        .expect("activates");
    assert_eq!(again, row, "what is active already came after the same one");
    assert_eq!((row.created_at, row.updated_at), (at(3), at(6)));
    let row = lab.store.set_disabled(at(7), TENANT, "echo", true).await;
    assert!(row.expect("disables").disabled);
    for missing in [
        lab.store.set_disabled(at(7), TENANT, "nope", true).await,
        lab.store
            .activate_version(at(7), TENANT, "echo", &digest(b"x"))
            .await,
        lab.store
            .activate_version(at(7), TENANT + 1, "echo", &digest(b"one"))
            .await,
    ] {
        assert!(matches!(missing, Err(StoreError::NotFound(_))));
    }
    let missing = finish(&lab, "echo", b"x", ready(true)).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
}

/// A type goes with all that is its own, once nothing names it; bytes that another type has too stay.
pub async fn a_type_that_nothing_uses_is_removed(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let remove = || lab.store.remove_type(TENANT, "echo");
    assert!(matches!(remove().await, Err(StoreError::NotFound(_))));
    for (name, bytes) in [("echo", b"one"), ("echo", b"two"), ("other", b"two")] {
        add(&lab, name, bytes).await;
        finish(&lab, name, bytes, ready(true))
            .await
            .expect("finishes");
    }
    lab.store
        .set_plugin_config(at(5), TENANT, "echo", "k", Some("v".into()))
        .await
        .expect("is set");
    let config = lab.config(json!({})).await;
    let refusal = |refused: Result<(), StoreError>| match refused {
        Err(StoreError::Conflict(detail)) => detail,
        other => panic!("{other:?}"),
    };
    let told = refusal(remove().await);
    assert!(told.contains("1 tasks name it"), "{told}");
    lab.store
        .delete_config(at(5), TENANT, config.id, HistoryOnDelete::Keep)
        .await
        .expect("deletes");
    lab.put_due(None, at(6)).await;
    let told = refusal(remove().await);
    assert!(told.contains("1 executions of it wait"), "{told}");
    let running = lab.claim_one(at(6)).await;
    let told = refusal(remove().await);
    assert!(told.contains("1 executions of it run"), "{told}");
    lab.finish(at(7), &running, ok()).await;
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    remove().await.expect("is removed");
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    let row = lab.store.task_type(TENANT, "echo").await;
    assert_eq!(row.expect("answers"), None);
    let ended = lab.state(running.task_id).await;
    assert_eq!(ended, State::Succeeded, "history stays");
    let versions = lab.store.all_versions().await.expect("answers");
    let names: Vec<&str> = versions.iter().map(|v| v.task_type.as_str()).collect();
    assert_eq!(names, ["other"]);
    let settings = lab.store.plugin_config(TENANT, "echo").await;
    assert!(settings.expect("answers").is_empty());
    for (bytes, kept) in [(b"one", false), (b"two", true)] {
        let found = lab.store.component_bytes(&digest(bytes)).await;
        assert_eq!(found.expect("answers").is_some(), kept);
    }
    assert!(matches!(remove().await, Err(StoreError::NotFound(_))));
}

/// Registering a version that is there keeps it and takes the new grants and the new input.
pub async fn registering_again_replaces_grants(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    add(&lab, "echo", b"one").await;
    finish(&lab, "echo", b"one", ready(true))
        .await
        .expect("finishes");
    let grants = vec![
        "http GET https://example.com/"
            .parse::<Grant>()
            .expect("a grant"),
    ];
    let again = PluginVersion {
        grants: grants.clone(),
        limits: LimitOverrides {
            fuel: Some(8),
            ..LimitOverrides::default()
        },
        input: ProgramInput::default(),
        descriptor: Descriptor {
            summary: Some("says it again".into()),
            ..Descriptor::default()
        },
        ..version("echo", b"one")
    };
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let kept = lab
        .store
        .add_version(at(9), again, b"one".to_vec())
        .await
        .expect("registers");
    assert_eq!(kept.state, VersionState::Ready);
    assert_eq!((kept.grants, kept.limits.fuel), (grants, Some(8)));
    assert_eq!(kept.descriptor.summary.as_deref(), Some("says it again"));
    assert!(kept.input.is_default(), "{:?}", kept.input);
    assert_eq!(kept.created_at, at(3));
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    assert_eq!(lab.store.all_versions().await.expect("answers").len(), 1);
}

/// Grants change alone, which caches hear of; those of a version that is gone are nobody's.
pub async fn grants_change_and_bring_nothing_back(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let added = add(&lab, "echo", b"one").await;
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    let grants = vec![Grant::State];
    let set = |name, bytes| {
        let (store, grants) = (lab.store.clone(), grants.clone());
        async move { store.set_grants(TENANT, name, &digest(bytes), grants).await }
    };
    let changed = set("echo", b"one").await.expect("changes");
    let expected = PluginVersion {
        grants: grants.clone(),
        ..added
    };
    assert_eq!(changed, expected);
    let kept = lab.store.versions(TENANT, "echo").await.expect("answers");
    assert_eq!(kept, [expected]);
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    lab.store
        .remove_type(TENANT, "echo")
        .await
        .expect("removed");
    let late = set("echo", b"one").await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    let found = lab.store.task_type(TENANT, "echo").await.expect("answers");
    assert_eq!(found, None);
}

/// A failed version keeps its error and loses its bytes, unless another version has the same; it may be
/// registered anew.
pub async fn a_failed_version_drops_its_bytes(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let bytes = |content: &'static [u8]| {
        let store = lab.store.clone();
        async move {
            store
                .component_bytes(&digest(content))
                .await
                .expect("answers")
        }
    };
    let big = vec![7; 300_000];
    let failed = || FinishVersion::Failed {
        error: "does not compile".into(),
    };
    add(&lab, "echo", b"one").await;
    add(&lab, "twin", b"one").await;
    add(&lab, "big", &big).await;
    let stored = lab.store.component_bytes(&digest(&big)).await;
    assert_eq!(stored.expect("answers"), Some(big));
    let done = finish(&lab, "echo", b"one", failed())
        .await
        .expect("finishes");
    assert_eq!(done.state, VersionState::Failed);
    assert_eq!(done.error.as_deref(), Some("does not compile"));
    assert_eq!(
        bytes(b"one").await.as_deref(),
        Some(&b"one"[..]),
        "twin has them"
    );
    finish(&lab, "twin", b"one", failed())
        .await
        .expect("finishes");
    assert_eq!(bytes(b"one").await, None);
    let live = lab.store.all_versions().await.expect("answers");
    assert_eq!(live.len(), 1, "only what compiles or is ready");
    let again = add(&lab, "echo", b"one").await;
    assert_eq!((again.state, again.error), (VersionState::Compiling, None));
    assert!(bytes(b"one").await.is_some());
    assert_eq!(
        lab.store
            .versions(TENANT, "echo")
            .await
            .expect("answers")
            .len(),
        1
    );
}

/// In the order of their names, by pages.
pub async fn types_are_listed_by_name(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for name in ["b", "a", "d.x", "c", "d-x"] {
        add(&lab, name, name.as_bytes()).await;
    }
    let mut names = Vec::new();
    let mut page = Page::first(2);
    loop {
        let listing = lab.store.task_types(TENANT, &page).await.expect("lists");
        names.extend(listing.items.into_iter().map(|t| t.task_type));
        page.after = listing.next;
        if listing.next.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "d-x", "d.x"]);
    assert_eq!(lab.store.all_task_types().await.expect("lists").len(), 5);
    let foreign = lab.store.task_types(TENANT + 1, &Page::first(9)).await;
    assert!(foreign.expect("lists").items.is_empty());
    let missing = lab.store.task_type(TENANT, "zzz").await;
    assert!(missing.expect("answers").is_none());
}
