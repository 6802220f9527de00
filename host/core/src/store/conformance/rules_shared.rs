//! Task types that the host shares with every tenant.

use super::lab::{Lab, TENANT, TYPE, at, ok};
use super::rules_breaker::fail;
use super::rules_catalog::{ready, version};
use super::rules_limits::claim;
use crate::config_cache::{Overrides, new_execution};
use crate::store::{
    BacklogOf, Declaration, DeclaredVersion, EnqueueReceipt, FullBacklog, HistoryOnDelete,
    NewExecution, Page, Store, StoreError, StoreResult, TenantBounds,
};
use horarium_model::execution::{SkipReason, State, Trigger};
use horarium_model::limits::LimitOverrides;
use horarium_model::quota::Quotas;
use horarium_model::task_type::{Breaker, PluginVersion, TypeConcurrency, digest};
use horarium_model::{ErrorKind, HOST_TENANT_ID, TenantId};
use serde_json::json;
use std::sync::Arc;

/// The shared type of every rule.
const COMMON: &str = "common";

fn owned(owner: TenantId, name: &str, bytes: &[u8]) -> PluginVersion {
    PluginVersion {
        tenant_id: owner,
        ..version(name, bytes)
    }
}

impl Lab {
    async fn register(&self, owner: TenantId, name: &str) -> StoreResult<PluginVersion> {
        let version = owned(owner, name, b"x");
        self.store.add_version(at(0), version, b"x".to_vec()).await
    }

    /// Registers a shared type with an active version, and makes a second tenant.
    async fn share(store: Arc<dyn Store>) -> (Self, TenantId) {
        let lab = Self::new(store).await;
        lab.register(HOST_TENANT_ID, COMMON).await.expect("shared");
        let (owner, digest) = (HOST_TENANT_ID, digest(b"x"));
        let finishing = lab
            .store
            .finish_version(at(1), owner, COMMON, &digest, ready(true));
        finishing.await.expect("finished");
        let made = lab.store.create_tenant(at(1), "other", 1).await;
        (lab, made.expect("made").id)
    }

    fn common(&self, tenant: TenantId, due: i64) -> NewExecution {
        NewExecution {
            tenant_id: tenant,
            task_type: COMMON.to_owned(),
            ..self.new_execution(None, at(due))
        }
    }

    async fn bound(&self, concurrency: TypeConcurrency) {
        let setting =
            self.store
                .set_type_concurrency(at(1), HOST_TENANT_ID, COMMON, concurrency.into());
        setting.await.expect("set");
    }

    async fn breaker_of(&self, tenant: TenantId) -> Option<Breaker> {
        let shown = self.store.task_type(tenant, COMMON).await.expect("answers");
        shown.expect("there").breaker
    }
}

fn refusal<T: std::fmt::Debug>(refused: StoreResult<T>) -> String {
    match refused {
        Err(StoreError::Conflict(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

/// Every tenant reads a shared type, its versions and its settings beside its own; a tenant writes none of them.
pub async fn a_shared_type_is_every_tenants_to_use(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    lab.register(TENANT, "aaa").await.expect("its own");
    lab.register(TENANT, "zzz").await.expect("its own");
    let set = lab.store.set_plugin_config(
        at(2),
        HOST_TENANT_ID,
        COMMON,
        "url",
        Some("https://a.example".into()),
    );
    set.await.expect("set");
    for (tenant, names) in [
        (TENANT, &["aaa", COMMON, "zzz"][..]),
        (other, &[COMMON]),
        (HOST_TENANT_ID, &[COMMON]),
    ] {
        let shown = lab.store.task_type(tenant, COMMON).await.expect("answers");
        let shown = shown.expect("there");
        assert!(shown.is_shared());
        assert_eq!(shown.active_digest, Some(digest(b"x")));
        let versions = lab.store.versions(tenant, COMMON).await.expect("answers");
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].tenant_id, HOST_TENANT_ID);
        let settings = lab.store.plugin_config(tenant, COMMON).await;
        assert_eq!(settings.expect("answers").len(), 1);
        let (mut page, mut listed) = (Page::first(2), Vec::new());
        loop {
            let listing = lab.store.task_types(tenant, &page).await.expect("lists");
            listed.extend(listing.items.into_iter().map(|t| t.task_type));
            page.after = listing.next;
            if listing.next.is_none() {
                break;
            }
        }
        assert_eq!(listed, names);
    }
    assert_eq!(lab.store.all_task_types().await.expect("lists").len(), 3);
    let configured = lab.store.configured_types().await.expect("answers");
    assert_eq!(configured, [(HOST_TENANT_ID, COMMON.to_owned())]);
    let store = &lab.store;
    let digest = digest(b"x");
    let declaration = Declaration {
        plugins: vec![DeclaredVersion {
            task_type: COMMON.into(),
            digest: digest.clone(),
            expected_active: Some(digest.clone()),
            grants: Vec::new(),
            limits: LimitOverrides::default(),
            input: Default::default(),
        }],
        ..Declaration::default()
    };
    let bounds = TypeConcurrency::default().into();
    for refused in [
        store.set_disabled(at(3), TENANT, COMMON, true).await.err(),
        store
            .activate_version(at(3), TENANT, COMMON, &digest)
            .await
            .err(),
        store
            .set_type_concurrency(at(3), TENANT, COMMON, bounds)
            .await
            .err(),
        store
            .finish_version(at(3), TENANT, COMMON, &digest, ready(true))
            .await
            .err(),
        store
            .set_plugin_config(at(3), TENANT, COMMON, "url", None)
            .await
            .err(),
        store.remove_type(TENANT, COMMON).await.err(),
        store.declare(at(3), TENANT, declaration).await.err(),
    ] {
        assert!(
            matches!(refused, Some(StoreError::NotFound(_))),
            "{refused:?}"
        );
    }
    let held = store.set_disabled(at(3), HOST_TENANT_ID, COMMON, true);
    assert!(held.await.expect("held").disabled);
    let seen = store.task_type(other, COMMON).await.expect("answers");
    assert!(seen.expect("there").disabled);
}

/// A name is a tenant's or shared: whoever comes second is refused, and a tenant is told of no other. What is shared
/// counts against nobody's quota.
pub async fn a_name_is_a_tenants_or_shared(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    let one = Quotas::from_json(&json!({"plugins": 1})).expect("quotas");
    lab.store.set_quotas(TENANT, one).await.expect("set");
    let told = refusal(lab.register(TENANT, COMMON).await);
    assert!(
        told.contains("host shares") && !told.contains("`other`"),
        "{told}"
    );
    for tenant in [TENANT, other] {
        lab.register(tenant, "own").await.expect("its own");
    }
    let used = lab.store.quota_use(at(2), TENANT).await.expect("counted");
    assert_eq!(used.plugins, 1);
    let told = refusal(lab.register(HOST_TENANT_ID, "own").await);
    assert!(told.contains("`default`, `other`"), "{told}");
    lab.store.remove_type(other, "own").await.expect("removed");
    let told = refusal(lab.register(HOST_TENANT_ID, "own").await);
    assert!(
        told.contains("`default`") && !told.contains("other`"),
        "{told}"
    );
    lab.store.remove_type(TENANT, "own").await.expect("removed");
    lab.register(HOST_TENANT_ID, "own").await.expect("shared");
    lab.register(HOST_TENANT_ID, "own")
        .await
        .expect("and again");
    refusal(lab.register(other, "own").await);
    assert_eq!(lab.store.all_task_types().await.expect("lists").len(), 2);
    lab.store
        .remove_type(HOST_TENANT_ID, "own")
        .await
        .expect("removed");
    lab.register(other, "own").await.expect("free again");
}

/// Of a shared type each tenant has the bounds to itself.
pub async fn bounds_of_a_shared_type_are_each_tenants(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    lab.bound(TypeConcurrency {
        max: Some(1),
        backlog: Some(2),
    })
    .await;
    for tenant in [TENANT, other] {
        let items = (0..3).map(|due| lab.common(tenant, due)).collect();
        let receipts = lab.enqueue(at(3), items).await;
        let full = FullBacklog {
            of: BacklogOf::Type,
            backlog: 2,
        };
        assert!(matches!(receipts[1], EnqueueReceipt::Enqueued { .. }));
        assert_eq!(receipts[2], EnqueueReceipt::Full(full));
    }
    let lanes = &[(TENANT, COMMON), (other, COMMON)];
    let claimed = claim(&lab, at(4), 9, lanes).await;
    let mut tenants: Vec<TenantId> = claimed.iter().map(|one| one.tenant_id).collect();
    tenants.sort_unstable();
    assert_eq!(tenants, [TENANT, other]);
    assert!(claim(&lab, at(4), 9, lanes).await.is_empty());
    let filter = Default::default();
    let listed = lab.store.executions(other, &filter, &Page::first(9)).await;
    let listed = listed.expect("lists").items;
    let waiting = listed.iter().find(|one| one.state == State::Available);
    let waits = lab.store.waits(other, waiting.expect("waits").task_id);
    let waits = waits.await.expect("answers").expect("waits");
    assert_eq!(waits.of_type, Some((1, 1)));
    // What one tenant may run at once in all takes nothing from another.
    let none = TenantBounds {
        max: Some(1),
        ..TenantBounds::default()
    };
    let set = lab.store.set_tenant_bounds(TENANT, none).await;
    set.expect("set");
    let of_other = claimed.iter().find(|one| one.tenant_id == other);
    lab.finish(at(5), of_other.expect("runs"), ok()).await;
    let next = claim(&lab, at(5), 9, lanes).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].tenant_id, other);
}

/// What a version of a shared type asks for is reserved of the quota of the tenant that runs it.
pub async fn quotas_meet_a_shared_type(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    let limited = PluginVersion {
        limits: LimitOverrides {
            memory_bytes: Some(60),
            ..LimitOverrides::default()
        },
        ..owned(HOST_TENANT_ID, COMMON, b"x")
    };
    let again = lab.store.add_version(at(2), limited, b"x".to_vec()).await;
    again.expect("registered");
    let quotas = Quotas::from_json(&json!({"memory_bytes": 100})).expect("quotas");
    lab.store.set_quotas(TENANT, quotas).await.expect("set");
    for tenant in [TENANT, TENANT, other, other] {
        lab.put(at(3), lab.common(tenant, 3)).await;
    }
    let lanes = &[(TENANT, COMMON), (other, COMMON)];
    let claimed = claim(&lab, at(4), 9, lanes).await;
    let of = |tenant| claimed.iter().filter(move |one| one.tenant_id == tenant);
    assert_eq!((of(TENANT).count(), of(other).count()), (1, 2));
    let allowed = of(TENANT).next().map(|one| one.allowance.memory_bytes);
    assert_eq!(allowed, Some(Some(60)));
}

/// A shared type that keeps failing for one tenant is held for that one alone, which may close its breaker itself.
pub async fn a_breaker_of_a_shared_type_is_the_tenants(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    for tenant in [TENANT, other] {
        let items = (0..30).map(|n| lab.common(tenant, n - 99)).collect();
        lab.enqueue(at(1), items).await;
    }
    let sick: &[(TenantId, &str)] = &[(TENANT, COMMON)];
    for _ in 0..Breaker::OPENS_AFTER {
        let claimed = claim(&lab, at(2), 1, sick).await;
        fail(&lab, at(2), &claimed[0], ErrorKind::Trap).await;
    }
    assert!(lab.breaker_of(TENANT).await.is_some());
    assert_eq!(lab.breaker_of(other).await, None);
    assert_eq!(lab.breaker_of(HOST_TENANT_ID).await, None);
    let listed = lab.store.task_types(TENANT, &Page::first(9)).await;
    assert!(listed.expect("lists").items[0].breaker.is_some());
    let all = lab.store.all_task_types().await.expect("lists");
    assert_eq!(all[0].breaker, None, "the host runs nothing");
    let lanes = &[(TENANT, COMMON), (other, COMMON)];
    let next = claim(&lab, at(3), 2, lanes).await;
    assert!(next.iter().all(|one| one.tenant_id == other) && next.len() == 2);
    let reset = lab.store.reset_breaker(at(4), TENANT, COMMON).await;
    let reset = reset.expect("reset");
    assert!(reset.is_shared() && reset.breaker.is_none());
    assert_eq!(claim(&lab, at(4), 1, sick).await.len(), 1);
}

/// A shared type goes when no tenant uses it any more, with what it was to each of them.
pub async fn a_shared_type_in_use_stays(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    let remove = || lab.store.remove_type(HOST_TENANT_ID, COMMON);
    let spec = super::lab::spec(json!({"task_type": COMMON}));
    let config = lab.store.create_config(at(1), other, spec).await;
    let config = config.expect("stored").id;
    let told = refusal(remove().await);
    assert!(told.contains("1 tasks name it"), "{told}");
    let deleted = lab
        .store
        .delete_config(at(1), other, config, HistoryOnDelete::Keep);
    deleted.await.expect("deleted");
    let lanes: &[(TenantId, &str)] = &[(other, COMMON)];
    for _ in 0..Breaker::OPENS_AFTER {
        lab.put(at(2), lab.common(other, 2)).await;
        let told = refusal(remove().await);
        assert!(told.contains("1 executions of it wait"), "{told}");
        let claimed = claim(&lab, at(2), 1, lanes).await;
        let told = refusal(remove().await);
        assert!(told.contains("1 executions of it run"), "{told}");
        fail(&lab, at(2), &claimed[0], ErrorKind::Trap).await;
    }
    assert!(lab.breaker_of(other).await.is_some());
    remove().await.expect("removed");
    let gone = lab.store.task_type(other, COMMON).await.expect("answers");
    assert_eq!(gone, None);
    let bytes = lab.store.component_bytes(&digest(b"x")).await;
    assert_eq!(bytes.expect("answers"), None);
    lab.register(HOST_TENANT_ID, COMMON).await.expect("shared");
    assert_eq!(lab.breaker_of(other).await, None, "nothing is left of it");
}

/// A chain meets a shared type as it is: held, its step is skipped.
pub async fn chains_meet_a_shared_type(store: Arc<dyn Store>) {
    let (lab, _) = Lab::share(store).await;
    let target = lab
        .config(json!({"key": "then", "task_type": COMMON}))
        .await;
    let first = lab
        .config(json!({"key": "first", "chain": [{"task": "then"}]}))
        .await;
    for (now, disabled) in [(5, false), (9, true)] {
        let holding = lab
            .store
            .set_disabled(at(now), HOST_TENANT_ID, COMMON, disabled);
        holding.await.expect("set");
        let (id, by) = (lab.task_id(), Trigger::Manual);
        let new = new_execution(&first, false, id, by, at(now), Overrides::default());
        lab.put(at(now), new).await;
        let claimed = claim(&lab, at(now), 1, &[(TENANT, TYPE)]).await;
        lab.finish(at(now), &claimed[0], ok()).await;
        // Its plugin keeps state: one at a time, so the first goes before the second comes.
        for child in claim(&lab, at(now), 1, &[(TENANT, COMMON)]).await {
            lab.finish(at(now), &child, ok()).await;
        }
    }
    let filter = crate::store::ExecutionFilter {
        config_id: Some(target.id),
        ..Default::default()
    };
    let listed = lab.store.executions(TENANT, &filter, &Page::first(9)).await;
    let listed = listed.expect("lists").items;
    let ends: Vec<_> = listed.iter().map(|e| (e.state, e.skip_reason)).collect();
    assert_eq!(
        ends,
        [
            (State::Skipped, Some(SkipReason::TypeDisabled)),
            (State::Succeeded, None)
        ]
    );
}

/// Which lanes there are follows the tenants: every host is told when one comes or goes.
pub async fn tenants_change_the_catalog(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let epoch = async || lab.store.catalog_epoch().await.expect("answers");
    let before = epoch().await;
    let made = lab
        .store
        .create_tenant(at(1), "new", 1)
        .await
        .expect("made");
    let between = epoch().await;
    assert!(between > before);
    let deleted = lab.store.delete_tenant(at(2), made.id).await;
    deleted.expect("deleted");
    assert!(epoch().await > between);
}

/// A claim of hundreds of lanes, of which few are busy, takes what it would take of those alone: also what waits for a
/// run key, what comes due later, and what is of other lanes is left.
pub async fn one_of_very_many_lanes_is_found(store: Arc<dyn Store>) {
    let (lab, other) = Lab::share(store).await;
    let names: Vec<String> = (0..300).map(|n| format!("t{n:03}")).collect();
    let mut lanes: Vec<(TenantId, &str)> =
        names.iter().map(|name| (TENANT, name.as_str())).collect();
    lanes.extend([(TENANT, COMMON), (other, COMMON)]);
    let of = |tenant, name: &str, key: Option<&str>, due| NewExecution {
        task_type: name.to_owned(),
        run_key: key.map(str::to_owned),
        ..lab.common(tenant, due)
    };
    let ended = claim(&lab, at(0), 10, &lanes).await;
    assert!(ended.is_empty(), "nothing waits");
    let mut wanted = Vec::new();
    for item in [
        of(TENANT, "t000", Some("k"), 0),
        of(TENANT, "t299", None, 0),
        of(other, COMMON, None, 0),
    ] {
        wanted.push(lab.put(at(0), item).await.1);
    }
    let behind = lab.put(at(0), of(TENANT, "t150", Some("k"), 0)).await.1;
    let later = lab.put(at(0), of(TENANT, "t151", None, 50)).await.1;
    lab.put(at(0), of(TENANT, "unwanted", None, 0)).await;
    let mut claimed = claim(&lab, at(0), 10, &lanes).await;
    claimed.sort_by_key(|one| one.id);
    let found: Vec<_> = claimed.iter().map(|one| one.task_id).collect();
    assert_eq!(found, wanted);
    assert!(claim(&lab, at(0), 10, &lanes).await.is_empty());
    // The key is free again, the other is due.
    lab.finish(at(60), &claimed[0], ok()).await;
    lab.sweep(at(60)).await;
    let mut found: Vec<_> = claim(&lab, at(60), 10, &lanes).await;
    found.sort_by_key(|one| one.id);
    let found: Vec<_> = found.iter().map(|one| one.task_id).collect();
    assert_eq!(found, [behind, later]);
}
