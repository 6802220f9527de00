//! Tenants, tokens, and who did what.

use super::lab::{Lab, TENANT, TYPE, at, spec};
use crate::store::{
    AuditEntry, AuditFilter, NewToken, Page, Store, StoreError, TenantBounds, Token,
};
use horarium_model::TenantId;
use horarium_model::access::{Permission, Role};
use serde_json::json;
use std::sync::Arc;

fn new_token(tenant: Option<TenantId>, name: &str) -> NewToken {
    NewToken {
        tenant_id: tenant,
        name: name.into(),
        role: if tenant.is_some() {
            Role::Operator
        } else {
            Role::HostAdmin
        },
        scope: None,
        hash: "00".into(),
        created_by: "lab".into(),
        expires_at: None,
    }
}

async fn names(lab: &Lab) -> Vec<String> {
    let listing = lab.store.tenants(&Page::first(100)).await.expect("listed");
    listing
        .items
        .into_iter()
        .map(|tenant| tenant.name)
        .collect()
}

/// Tenants are created, found, bounded, listed page by page and deleted; a name is one tenant's at a time.
pub async fn tenants_live_their_life(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = lab
        .store
        .tenant_named("default")
        .await
        .expect("read")
        .expect("there");
    assert_eq!((first.id, first.created_at), (TENANT, None));
    assert_eq!(first.bounds, TenantBounds::default());
    let acme = lab
        .store
        .create_tenant(at(5), "acme", 3)
        .await
        .expect("created");
    assert_eq!(
        (acme.name.as_str(), acme.created_at, acme.bounds.weight),
        ("acme", Some(at(5)), 3)
    );
    assert_eq!(lab.store.tenant("acme").await.expect("read"), Some(acme.id));
    let taken = lab.store.create_tenant(at(6), "acme", 1).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
    let bounds = TenantBounds {
        weight: 7,
        max: Some(2),
        backlog: Some(9),
    };
    lab.store
        .set_tenant_bounds(acme.id, bounds)
        .await
        .expect("set");
    let shown = lab
        .store
        .tenant_named("acme")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(shown.bounds, bounds);
    lab.store
        .create_tenant(at(7), "b-2", 1)
        .await
        .expect("created");
    let page = Page::first(2);
    let page = lab.store.tenants(&page).await.expect("listed");
    assert_eq!(page.items.len(), 2);
    let rest = Page {
        limit: 2,
        after: page.next,
    };
    let rest = lab.store.tenants(&rest).await.expect("listed");
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("b-2", None));
    lab.store
        .delete_tenant(at(8), acme.id)
        .await
        .expect("deleted");
    assert_eq!(names(&lab).await, ["default", "b-2"]);
    assert_eq!(lab.store.tenant("acme").await.expect("read"), None);
    assert_eq!(lab.store.tenant_named("acme").await.expect("read"), None);
    let gone = lab.store.delete_tenant(at(9), acme.id).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    let gone = lab.store.set_tenant_bounds(acme.id, bounds).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    let again = lab
        .store
        .create_tenant(at(9), "acme", 1)
        .await
        .expect("the name is free");
    assert_ne!(again.id, acme.id, "while something of the first is left");
}

/// A tenant in use is not deleted; a deleted one loses its tokens at once, takes nothing new, and leaves nothing.
pub async fn a_deleted_tenant_leaves_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let tenant = lab
        .store
        .create_tenant(at(0), "acme", 1)
        .await
        .expect("created")
        .id;
    let config = lab
        .store
        .create_config(at(0), tenant, spec(json!({})))
        .await
        .expect("created");
    let mut execution = lab.new_execution(None, at(0));
    execution.tenant_id = tenant;
    let task_id = execution.task_id;
    lab.store
        .enqueue_many(at(0), vec![execution])
        .await
        .expect("enqueued");
    let token = lab
        .store
        .create_token(at(0), new_token(Some(tenant), "t"))
        .await
        .expect("kept");
    let busy = lab.store.delete_tenant(at(1), tenant).await;
    let Err(StoreError::Conflict(detail)) = busy else {
        panic!("{busy:?}");
    };
    assert!(detail.contains("1 tasks and 1 executions"), "{detail}");
    let keep = Default::default();
    lab.store
        .delete_config(at(2), tenant, config.id, keep)
        .await
        .expect("deleted");
    assert!(
        lab.store.delete_tenant(at(2), tenant).await.is_err(),
        "an execution lives"
    );
    lab.store
        .cancel(at(3), tenant, task_id)
        .await
        .expect("cancelled");
    lab.store
        .delete_tenant(at(4), tenant)
        .await
        .expect("deleted");
    assert_eq!(lab.store.token(token.id).await.expect("read"), None);
    let late = lab
        .store
        .create_config(at(5), tenant, spec(json!({})))
        .await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    let late = lab
        .store
        .create_token(at(5), new_token(Some(tenant), "t"))
        .await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    while lab.store.purge_deleted(1).await.expect("purges") {}
    assert_eq!(
        lab.store.execution(tenant, task_id).await.expect("read"),
        None
    );
    // Nothing is left, so its id may come again.
    let next = lab
        .store
        .create_tenant(at(6), "next", 1)
        .await
        .expect("created")
        .id;
    let filter = Default::default();
    let left = lab
        .store
        .executions(next, &filter, &Page::first(10))
        .await
        .expect("listed");
    assert!(left.items.is_empty());
    assert!(
        lab.store
            .task_type(next, TYPE)
            .await
            .expect("read")
            .is_none()
    );
}

/// A token is kept without its text, rotated, noted as used, and revoked.
pub async fn tokens_live_their_life(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let new = NewToken {
        scope: Some(vec![Permission::TasksRead, Permission::TasksTrigger]),
        expires_at: Some(at(1000)),
        ..new_token(Some(TENANT), "ci\u{1F680}")
    };
    let token = lab
        .store
        .create_token(at(1), new.clone())
        .await
        .expect("kept");
    let expected = Token {
        id: token.id,
        tenant_id: Some(TENANT),
        tenant: Some("default".into()),
        name: new.name,
        role: Role::Operator,
        scope: new.scope,
        hash: "00".into(),
        previous_hash: None,
        previous_until: None,
        created_at: at(1),
        created_by: "lab".into(),
        expires_at: Some(at(1000)),
        last_used_at: None,
        rotated_at: None,
    };
    assert_eq!(token, expected);
    assert!(token.id > 0 && token.id < 1 << 53);
    let shown = async || {
        lab.store
            .token(token.id)
            .await
            .expect("read")
            .expect("there")
    };
    assert_eq!(shown().await, expected);
    let rotated = lab
        .store
        .rotate_token(at(2), token.id, "11", Some(at(60)))
        .await;
    let rotated = rotated.expect("rotated");
    let previous = (rotated.previous_hash.as_deref(), rotated.previous_until);
    assert_eq!(previous, (Some("00"), Some(at(60))));
    assert_eq!(
        (rotated.hash.as_str(), rotated.rotated_at),
        ("11", Some(at(2)))
    );
    let rotated = lab
        .store
        .rotate_token(at(3), token.id, "22", None)
        .await
        .expect("rotated");
    assert_eq!(
        (rotated.previous_hash.as_deref(), rotated.previous_until),
        (None, None)
    );
    for (used, noted) in [(10, 10), (9, 10), (11, 11)] {
        lab.store
            .touch_token(token.id, at(used))
            .await
            .expect("noted");
        assert_eq!(shown().await.last_used_at, Some(at(noted)));
    }
    lab.store.delete_token(token.id).await.expect("gone");
    assert_eq!(lab.store.token(token.id).await.expect("read"), None);
    lab.store
        .touch_token(token.id, at(12))
        .await
        .expect("nothing to note");
    for gone in [
        lab.store.delete_token(token.id).await.err(),
        lab.store
            .rotate_token(at(4), token.id, "33", None)
            .await
            .err(),
    ] {
        assert!(matches!(gone, Some(StoreError::NotFound(_))), "{gone:?}");
    }
}

/// A list has the tokens of a tenant, and those of no tenant where that is asked for.
pub async fn tokens_belong_to_a_tenant_or_the_host(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let other = lab
        .store
        .create_tenant(at(0), "other", 1)
        .await
        .expect("created")
        .id;
    for (n, owner) in [Some(TENANT), Some(other), None, Some(TENANT)]
        .into_iter()
        .enumerate()
    {
        // In the same instant: ids differ all the same.
        let new = new_token(owner, &format!("t{n}"));
        lab.store.create_token(at(1), new).await.expect("kept");
    }
    let list = async |tenant: TenantId, with_host: bool| -> Vec<String> {
        let mut page = Page::first(1);
        let mut names = Vec::new();
        loop {
            let listing = lab
                .store
                .tokens(tenant, with_host, &page)
                .await
                .expect("listed");
            names.extend(listing.items.into_iter().map(|token| token.name));
            match listing.next {
                Some(next) => page.after = Some(next),
                None => return names,
            }
        }
    };
    assert_eq!(list(TENANT, false).await, ["t0", "t3"]);
    assert_eq!(list(TENANT, true).await, ["t0", "t2", "t3"]);
    assert_eq!(list(other, false).await, ["t1"]);
    let nobody = lab
        .store
        .create_token(at(2), new_token(Some(4711), "t"))
        .await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))), "{nobody:?}");
}

/// Every change of tokens and tenants raises the epoch that heartbeats bring; their use does not.
pub async fn heartbeats_bring_the_access_epoch(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let epoch = async || {
        let beat = lab.store.heartbeat(at(1), lab.host).await;
        beat.expect("a heartbeat").access_epoch
    };
    let mut last = epoch().await;
    let mut rose = async |what: &str| {
        let now = epoch().await;
        let rises = now > last;
        last = now;
        assert!(rises, "{what}");
    };
    let tenant = lab
        .store
        .create_tenant(at(0), "a", 1)
        .await
        .expect("created")
        .id;
    rose("a tenant").await;
    let token = lab
        .store
        .create_token(at(0), new_token(Some(tenant), "t"))
        .await;
    let token = token.expect("kept").id;
    rose("a token").await;
    lab.store
        .rotate_token(at(0), token, "11", None)
        .await
        .expect("rotated");
    rose("a rotation").await;
    lab.store.delete_token(token).await.expect("gone");
    rose("a revocation").await;
    lab.store
        .delete_tenant(at(0), tenant)
        .await
        .expect("deleted");
    rose("a deletion").await;
    let before = epoch().await;
    lab.store.touch_token(token, at(5)).await.expect("noted");
    assert_eq!(epoch().await, before);
}

/// Entries come back whole, newest first, by tenant and filter; old ones go in batches.
pub async fn the_audit_log_is_kept_in_order(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let entry = |second: i64, tenant: Option<TenantId>, action: Permission| AuditEntry {
        at: at(second),
        tenant_id: tenant,
        token_id: tenant.map(|id| id + 100),
        actor: "somebody".into(),
        role: Role::Admin,
        action,
        method: "POST".into(),
        target: format!("/v1/x/{second}"),
        status: 202,
        request_id: "r".into(),
        address: tenant.map(|_| "::1".into()),
        host: "here".into(),
    };
    let (one, write) = (Some(TENANT), Permission::TasksWrite);
    // The second began earlier than the first: an order of its own.
    let batch = vec![
        entry(10, one, write),
        entry(9, None, write),
        entry(11, Some(2), write),
    ];
    lab.store.record_audit(batch.into()).await.expect("kept");
    let batch = vec![entry(8, one, Permission::TasksTrigger)];
    lab.store.record_audit(batch.into()).await.expect("kept");
    lab.store
        .record_audit(Arc::new([]))
        .await
        .expect("nothing to keep");
    let list = async |filter: &AuditFilter| -> Vec<String> {
        let mut page = Page::first(1);
        let mut targets = Vec::new();
        loop {
            let listing = lab.store.audit(filter, &page).await.expect("listed");
            targets.extend(listing.items.into_iter().map(|row| row.entry.target));
            match listing.next {
                Some(next) => page.after = Some(next),
                None => return targets,
            }
        }
    };
    let all = AuditFilter {
        tenant_id: TENANT,
        with_host: true,
        ..AuditFilter::default()
    };
    assert_eq!(list(&all).await, ["/v1/x/8", "/v1/x/9", "/v1/x/10"]);
    let whole = lab
        .store
        .audit(&all, &Page::first(2))
        .await
        .expect("listed");
    assert_eq!(
        whole.items[0].entry,
        entry(8, one, Permission::TasksTrigger)
    );
    assert_eq!(whole.items[1].entry, entry(9, None, write));
    let own = AuditFilter {
        with_host: false,
        ..all.clone()
    };
    assert_eq!(list(&own).await, ["/v1/x/8", "/v1/x/10"]);
    for (filter, expected) in [
        (
            AuditFilter {
                action: Some(write),
                ..own.clone()
            },
            "/v1/x/10",
        ),
        (
            AuditFilter {
                since: Some(at(10)),
                ..own.clone()
            },
            "/v1/x/10",
        ),
        (
            AuditFilter {
                until: Some(at(10)),
                ..own.clone()
            },
            "/v1/x/8",
        ),
    ] {
        assert_eq!(list(&filter).await, [expected], "{filter:?}");
    }
    let nobody = AuditFilter {
        token_id: Some(5),
        ..all.clone()
    };
    assert!(list(&nobody).await.is_empty());
    let purge = async |limit: u32| {
        let gone = lab.store.purge_audit(at(10), limit).await;
        gone.expect("purged")
    };
    assert_eq!(
        (purge(1).await, purge(10).await, purge(10).await),
        (1, 1, 0)
    );
    assert_eq!(list(&all).await, ["/v1/x/10"]);
}
