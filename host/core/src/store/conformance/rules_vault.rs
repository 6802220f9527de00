//! Settings and secrets of plugins.

use super::lab::{Lab, TENANT, TYPE, at};
use super::rules_catalog::add;
use crate::store::{Page, SealedSecret, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Set, replaced, unset; of one type and tenant; each change moves the epoch.
pub async fn settings_of_a_type_are_kept(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let set = |task_type: &'static str, key: &'static str, value: Option<&'static str>| {
        let store = lab.store.clone();
        async move {
            let value = value.map(str::to_owned);
            store
                .set_plugin_config(at(5), TENANT, task_type, key, value)
                .await
        }
    };
    let unknown = set(TYPE, "a", Some("1")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
    add(&lab, TYPE, b"one").await;
    add(&lab, "other", b"two").await;
    let configured = lab.store.configured_types().await.expect("answers");
    assert!(configured.is_empty());
    let epoch = lab.store.catalog_epoch().await.expect("answers");
    for (key, value) in [("b", "zwölf\n"), ("a", "1"), ("B", ""), ("a", "2")] {
        set(TYPE, key, Some(value)).await.expect("sets");
    }
    set("other", "a", Some("9")).await.expect("sets");
    assert!(lab.store.catalog_epoch().await.expect("answers") > epoch);
    let config = lab.store.plugin_config(TENANT, TYPE).await;
    let expected = [("B", ""), ("a", "2"), ("b", "zwölf\n")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(config.expect("answers"), BTreeMap::from(expected));
    let foreign = lab.store.plugin_config(TENANT + 1, TYPE).await;
    assert!(foreign.expect("answers").is_empty());
    let configured = lab.store.configured_types().await.expect("answers");
    assert_eq!(
        configured,
        [(TENANT, TYPE.to_owned()), (TENANT, "other".to_owned())]
    );
    set("other", "a", None).await.expect("unsets");
    set("other", "never", None).await.expect("unsets nothing");
    let configured = lab.store.configured_types().await.expect("answers");
    assert_eq!(configured, [(TENANT, TYPE.to_owned())]);
}

fn sealed(tenant_id: i64, name: &str, key_id: &str, sealed: &[u8]) -> SealedSecret {
    SealedSecret {
        tenant_id,
        name: name.to_owned(),
        version: 77,
        key_id: key_id.to_owned(),
        sealed: sealed.to_owned(),
    }
}

/// Set, set again, listed by pages, read by name, forgotten.
pub async fn secrets_are_kept_sealed(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let put = |now: i64, secret: SealedSecret| {
        let store = lab.store.clone();
        async move { store.put_secret(at(now), secret).await.expect("keeps") }
    };
    let first = put(1, sealed(TENANT, "b", "k1", &[0, 255, 7])).await;
    assert_eq!(
        (first.version, first.created_at, first.updated_at),
        (1, at(1), at(1))
    );
    put(2, sealed(TENANT, "a", "k1", b"a")).await;
    put(2, sealed(TENANT, "B", "k1", &vec![9; 66_000])).await;
    put(2, sealed(TENANT + 1, "b", "k0", b"foreign")).await;
    let again = put(3, sealed(TENANT, "b", "k2", b"new")).await;
    assert_eq!(
        (again.version, again.created_at, again.updated_at),
        (2, at(1), at(3))
    );
    assert_eq!(again.key_id, "k2");
    let shown = lab.store.secret(TENANT, "b").await.expect("answers");
    assert_eq!(shown, Some(again));
    assert_eq!(lab.store.secret(TENANT, "c").await.expect("answers"), None);
    let (mut names, mut page) = (Vec::new(), Page::first(2));
    loop {
        let listing = lab.store.secrets(TENANT, &page).await.expect("lists");
        names.extend(listing.items.into_iter().map(|secret| secret.name));
        page.after = listing.next;
        if listing.next.is_none() {
            break;
        }
    }
    assert_eq!(names, ["B", "a", "b"]);
    let wanted = ["b", "missing", "B"].map(str::to_owned);
    let read = lab.store.sealed_secrets(TENANT, &wanted).await;
    let read = read.expect("answers");
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].name.as_str(), read[0].sealed.len()), ("B", 66_000));
    assert_eq!((read[1].version, &read[1].sealed[..]), (2, &b"new"[..]));
    let keys = lab.store.secret_keys().await.expect("answers");
    assert_eq!(keys, ["k0", "k1", "k2"]);
    assert!(lab.store.delete_secret(TENANT, "b").await.expect("deletes"));
    assert!(!lab.store.delete_secret(TENANT, "b").await.expect("answers"));
    let foreign = lab.store.secret(TENANT + 1, "b").await.expect("answers");
    assert_eq!(foreign.map(|secret| secret.version), Some(1));
}

/// Everything under another key is found by pages; one that was set meanwhile stays as it is.
pub async fn secrets_are_sealed_anew_under_compare_and_set(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for (tenant, name, key) in [
        (TENANT + 1, "a", "old"),
        (TENANT, "c", "old"),
        (TENANT, "b", "new"),
        (TENANT, "a", "older"),
    ] {
        let secret = sealed(tenant, name, key, b"x");
        lab.store.put_secret(at(1), secret).await.expect("keeps");
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = lab.store.secrets_under_other_keys("new", after, 2).await;
        let page = page.expect("answers");
        after = page.last().map(|last| (last.tenant_id, last.name.clone()));
        found.extend(page);
        if after.is_none() {
            break;
        }
    }
    let names: Vec<_> = found
        .iter()
        .map(|s| (s.tenant_id, s.name.as_str()))
        .collect();
    assert_eq!(names, [(TENANT, "a"), (TENANT, "c"), (TENANT + 1, "a")]);
    let newer = sealed(TENANT, "c", "new", b"set meanwhile");
    lab.store.put_secret(at(2), newer).await.expect("keeps");
    let mut taken = Vec::new();
    for secret in found {
        let anew = SealedSecret {
            key_id: "new".into(),
            sealed: b"anew".to_vec(),
            ..secret
        };
        taken.push(lab.store.reseal_secret(anew).await.expect("answers"));
    }
    assert_eq!(taken, [true, false, true]);
    assert_eq!(lab.store.secret_keys().await.expect("answers"), ["new"]);
    let shown = lab.store.secret(TENANT, "a").await.expect("answers");
    let shown = shown.expect("is there");
    assert_eq!(
        (shown.version, shown.updated_at),
        (1, at(1)),
        "only its key changed"
    );
    let wanted = ["c".to_owned()];
    let kept = lab.store.sealed_secrets(TENANT, &wanted).await;
    assert_eq!(kept.expect("answers")[0].sealed, b"set meanwhile");
}
