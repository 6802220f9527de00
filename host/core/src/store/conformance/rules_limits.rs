//! Who is next and what bounds it (rules E2 and E3).

use super::lab::{Lab, TENANT, TYPE, at, ok};
use crate::store::{
    ClaimRequest, Claimed, EnqueueReceipt, NewExecution, RateBound, Store, TenantBounds,
};
use horarium_model::concurrency::Rate;
use horarium_model::task_type::{TypeConcurrency, TypeConcurrencyChange};
use horarium_model::{TaskId, TenantId, Timestamp};
use std::sync::Arc;

pub(super) const OTHER: TenantId = TENANT + 1;

/// Claims of several tenants and types.
pub(super) async fn claim(
    lab: &Lab,
    now: Timestamp,
    limit: u32,
    types: &[(TenantId, &str)],
) -> Vec<Claimed> {
    let request = ClaimRequest {
        now,
        incarnation: lab.host,
        types: types
            .iter()
            .map(|(tenant, name)| (*tenant, (*name).to_owned()))
            .collect(),
        limit,
    };
    let claims = lab.store.claim(request).await;
    claims.expect("claim answers").claimed
}

const BOTH: &[(TenantId, &str)] = &[(TENANT, TYPE), (OTHER, TYPE)];

fn of(lab: &Lab, tenant: TenantId, due: i64) -> NewExecution {
    NewExecution {
        tenant_id: tenant,
        ..lab.new_execution(None, at(due))
    }
}

pub(super) fn of_type(lab: &Lab, task_type: &str, due: i64) -> NewExecution {
    NewExecution {
        task_type: task_type.to_owned(),
        ..lab.new_execution(None, at(due))
    }
}

fn rated(lab: &Lab, key: &str, count: u32, seconds: u32) -> NewExecution {
    NewExecution {
        rate: Some(RateBound::of(key, Rate { count, seconds })),
        ..lab.new_execution(None, at(0))
    }
}

fn tenants(claimed: &[Claimed]) -> Vec<TenantId> {
    claimed.iter().map(|one| one.tenant_id).collect()
}

/// However much one tenant has waiting, another's is next when it has less running; priorities compare within a
/// tenant only.
pub async fn tenants_take_turns(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let flood = (0..300).map(|n| NewExecution {
        priority: 100,
        ..of(&lab, TENANT, n - 1000)
    });
    lab.enqueue(at(0), flood.collect()).await;
    let running = claim(&lab, at(0), 4, BOTH).await;
    assert_eq!(tenants(&running), [TENANT; 4]);
    let single = lab.put(at(1), of(&lab, OTHER, 1)).await.1;
    // It waits for one running slot to end, no longer.
    lab.finish(at(2), &running[0], ok()).await;
    let next = claim(&lab, at(2), 1, BOTH).await;
    assert_eq!(next[0].task_id, single);
    for due in 3..9 {
        lab.put(at(9), of(&lab, OTHER, due)).await;
    }
    // Three of one and one of the other run; four more make it four each.
    let next = claim(&lab, at(9), 4, BOTH).await;
    assert_eq!(
        tenants(&next),
        [OTHER, OTHER, TENANT, OTHER],
        "fewest running first, the older one where that is equal"
    );
}

/// A tenant with a weight gets that many times the share of one without.
pub async fn weights_share_out_the_turns(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let bounds = TenantBounds {
        weight: 3,
        ..TenantBounds::default()
    };
    let set = lab.store.set_tenant_bounds(TENANT, bounds).await;
    set.expect("set");
    assert!(lab.store.set_tenant_bounds(99, bounds).await.is_err());
    for n in 0..40 {
        let items = vec![of(&lab, OTHER, n - 100), of(&lab, TENANT, n)];
        lab.enqueue(at(100), items).await;
    }
    let claimed = claim(&lab, at(100), 20, BOTH).await;
    let heavy = claimed.iter().filter(|one| one.tenant_id == TENANT).count();
    assert_eq!(heavy, 15);
    // So it stays, whatever ends.
    for one in claimed.iter().filter(|one| one.tenant_id == TENANT).take(6) {
        lab.finish(at(101), one, ok()).await;
    }
    let next = claim(&lab, at(101), 6, BOTH).await;
    assert_eq!(tenants(&next), [TENANT; 6]);
}

/// Several types of a tenant are one queue.
pub async fn types_of_a_tenant_are_one_queue(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut put = Vec::new();
    for n in 0..12 {
        let item = of_type(&lab, ["a", "b", "c"][n as usize % 3], n);
        put.push(lab.put(at(20), item).await.1);
    }
    let types = &[(TENANT, "a"), (TENANT, "b"), (TENANT, "c")];
    let mut order: Vec<TaskId> = Vec::new();
    for limit in [5, 1, 6] {
        let claimed = claim(&lab, at(20), limit, types).await;
        assert_eq!(claimed.len(), limit as usize);
        order.extend(claimed.iter().map(|one| one.task_id));
    }
    assert_eq!(order, put);
}

pub(super) async fn register(lab: &Lab, task_type: &str) {
    let version = super::rules_catalog::version(task_type, b"x");
    let added = lab.store.add_version(at(0), version, b"x".to_vec()).await;
    added.expect("registered");
}

/// Never more of a type than it allows, over claims and whatever ends; its backlog hides nothing, and a bound
/// that is changed holds for the claims that follow.
pub async fn a_type_is_bounded(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    register(&lab, "few").await;
    let set = |max| {
        let concurrency = TypeConcurrency { max, backlog: None };
        lab.store
            .set_type_concurrency(at(0), TENANT, "few", concurrency.into())
    };
    let shown = set(Some(2)).await.expect("set");
    assert_eq!(shown.concurrency.max, Some(2));
    let known = lab.store.task_type(TENANT, "few").await.expect("answers");
    assert_eq!(known.expect("there").concurrency.max, Some(2));
    let backlog = (0..200).map(|n| of_type(&lab, "few", n - 500));
    lab.enqueue(at(0), backlog.collect()).await;
    let free = lab.put_due(None, at(0)).await;
    let types = &[(TENANT, "few"), (TENANT, TYPE)];
    let claimed = claim(&lab, at(0), 50, types).await;
    assert_eq!(claimed.len(), 3);
    assert_eq!(claimed[2].task_id, free);
    assert!(claim(&lab, at(0), 50, types).await.is_empty());
    lab.finish(at(1), &claimed[0], ok()).await;
    let next = claim(&lab, at(1), 50, types).await;
    assert_eq!(next.len(), 1);
    // A retry and a hand-back leave their place too.
    let retry = crate::store::End::Retry(at(900));
    lab.finish(at(2), &claimed[1], retry).await;
    assert_eq!(lab.release(at(2), &next[0], None, Some(at(900))).await, 1);
    assert_eq!(claim(&lab, at(2), 50, types).await.len(), 2);
    set(Some(5)).await.expect("set");
    assert_eq!(claim(&lab, at(3), 50, types).await.len(), 3);
    set(None).await.expect("set");
    assert_eq!(claim(&lab, at(3), 50, types).await.len(), 50);
    // Each bound is changed by itself: of two changes at once none is lost.
    for change in [
        TypeConcurrencyChange {
            max: Some(Some(9)),
            ..TypeConcurrencyChange::default()
        },
        TypeConcurrencyChange {
            backlog: Some(Some(1000)),
            ..TypeConcurrencyChange::default()
        },
    ] {
        let changed = lab
            .store
            .set_type_concurrency(at(4), TENANT, "few", change)
            .await;
        changed.expect("set");
    }
    let known = lab.store.task_type(TENANT, "few").await.expect("answers");
    let known = known.expect("there").concurrency;
    assert_eq!((known.max, known.backlog), (Some(9), Some(1000)));
    let unknown = lab
        .store
        .set_type_concurrency(at(0), TENANT, "nothing", TypeConcurrency::default().into())
        .await;
    assert!(unknown.is_err());
}

/// Never more of a tenant than it allows, over all its types.
pub async fn a_tenant_is_bounded(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let bounds = TenantBounds {
        max: Some(3),
        ..TenantBounds::default()
    };
    let set = lab.store.set_tenant_bounds(TENANT, bounds).await;
    set.expect("set");
    for n in 0..10 {
        let items = vec![
            of_type(&lab, "a", n),
            of_type(&lab, "b", n),
            of(&lab, OTHER, 50 + n),
        ];
        lab.enqueue(at(99), items).await;
    }
    let types = &[(TENANT, "a"), (TENANT, "b"), (OTHER, TYPE)];
    let claimed = claim(&lab, at(99), 10, types).await;
    let bounded = tenants(&claimed).iter().filter(|t| **t == TENANT).count();
    assert_eq!((bounded, claimed.len()), (3, 10));
    assert!(
        claim(&lab, at(99), 10, &types[..2]).await.is_empty(),
        "it has no room"
    );
}

/// A bucket gives what it holds at once, then as it fills. What waits for it hides nothing, and time brings it
/// back: `next_due` says when, and the sweep lets it on.
pub async fn a_rate_is_a_bucket(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let items = (0..40).map(|_| rated(&lab, "k", 2, 20)).collect();
    lab.enqueue(at(0), items).await;
    let free = lab.put_due(None, at(0)).await;
    let first = lab.claim(at(0), 10).await;
    assert_eq!(first.len(), 3);
    assert_eq!(first[2].task_id, free);
    assert!(lab.claim(at(0), 10).await.is_empty());
    // That they end changes nothing.
    lab.finish(at(1), &first[0], ok()).await;
    assert!(lab.claim(at(1), 10).await.is_empty());
    for round in 1..=3 {
        let due = lab.store.next_due().await.expect("answers");
        assert_eq!(due, Some(at(10 * round)), "round {round}");
        let early = at(10 * round) - chrono::Duration::microseconds(1);
        lab.sweep(early).await;
        assert!(lab.claim(early, 10).await.is_empty(), "round {round}");
        assert_eq!(lab.sweep(at(10 * round)).await.refilled, 1);
        assert_eq!(lab.claim(at(10 * round), 10).await.len(), 1);
    }
    // Nobody looked for long: no more than the bucket holds.
    lab.sweep(at(500)).await;
    assert_eq!(lab.claim(at(500), 10).await.len(), 2);
    // A retry takes a token as it starts again.
    lab.sweep(at(520)).await;
    let claimed = lab.claim(at(520), 10).await;
    assert_eq!(claimed.len(), 2);
}

/// Each key has its own bucket, in each tenant.
pub async fn rates_are_by_key_and_tenant(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for key in ["a", "b"] {
        for tenant in [TENANT, OTHER] {
            let item = || NewExecution {
                tenant_id: tenant,
                ..rated(&lab, key, 1, 60)
            };
            lab.enqueue(at(0), vec![item(), item()]).await;
        }
    }
    assert_eq!(claim(&lab, at(0), 10, BOTH).await.len(), 4);
    assert!(claim(&lab, at(0), 10, BOTH).await.is_empty());
    let swept = lab.sweep(at(60)).await;
    assert_eq!(swept.refilled, 4);
    assert_eq!(claim(&lab, at(60), 10, BOTH).await.len(), 4);
}

/// A token that its first in line does not take is for the next, and a place of a run key that a rate keeps
/// empty is for others.
pub async fn rates_and_run_keys_leave_nothing_unused(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut put = Vec::new();
    for _ in 0..4 {
        put.push(lab.put(at(0), rated(&lab, "k", 1, 10)).await.1);
    }
    assert_eq!(lab.claim(at(0), 9).await[0].task_id, put[0]);
    // It got its turn and is cancelled before a claim takes it.
    lab.sweep(at(10)).await;
    lab.cancel(at(10), put[1]).await;
    lab.sweep(at(12)).await;
    assert_eq!(lab.claim(at(12), 9).await[0].task_id, put[2]);

    lab.cancel(at(12), put[3]).await;
    // One at a time of the config, and one a minute of each site.
    let mut sites = Vec::new();
    for site in ["x", "x", "y"] {
        let item = NewExecution {
            run_key: Some("config".to_owned()),
            run_max: 1,
            ..rated(&lab, site, 1, 60)
        };
        sites.push(lab.put(at(20), item).await.1);
    }
    let running = lab.claim(at(20), 9).await;
    assert_eq!(running.len(), 1);
    assert!(lab.claim(at(20), 9).await.is_empty());
    lab.finish(at(21), &running[0], ok()).await;
    let next = lab.claim(at(21), 9).await;
    assert_eq!(next.len(), 1, "the other site may");
    assert_eq!(next[0].task_id, sites[2]);
    lab.finish(at(22), &next[0], ok()).await;
    assert!(lab.claim(at(22), 9).await.is_empty());
    lab.sweep(at(80)).await;
    assert_eq!(lab.claim(at(80), 9).await[0].task_id, sites[1]);
}

/// Places and tokens of one key are both used to the full.
pub async fn a_key_with_both_bounds_uses_both(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let item = || NewExecution {
        run_key: Some("k".to_owned()),
        run_max: 3,
        ..rated(&lab, "k", 5, 50)
    };
    lab.enqueue(at(0), (0..60).map(|_| item()).collect()).await;
    let mut running = lab.claim(at(0), 20).await;
    assert_eq!(running.len(), 3, "places");
    for one in running.drain(..) {
        lab.finish(at(1), &one, ok()).await;
    }
    let running = lab.claim(at(1), 20).await;
    assert_eq!(running.len(), 2, "tokens");
    for one in &running {
        lab.finish(at(2), one, ok()).await;
    }
    lab.sweep(at(40)).await;
    assert_eq!(lab.claim(at(40), 20).await.len(), 3, "places again");
}

/// What waits is told what bounds it.
pub async fn waits_tell_the_bounds(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    register(&lab, "few").await;
    let concurrency = TypeConcurrency {
        max: Some(1),
        backlog: None,
    };
    let set = lab
        .store
        .set_type_concurrency(at(0), TENANT, "few", concurrency.into());
    set.await.expect("set");
    let bounds = TenantBounds {
        max: Some(4),
        ..TenantBounds::default()
    };
    let set = lab.store.set_tenant_bounds(TENANT, bounds).await;
    set.expect("set");
    let free = lab.put_due(None, at(0)).await;
    let waits = lab.store.waits(TENANT, free).await;
    let waits = waits.expect("answers").expect("waits");
    assert_eq!(waits.of_type, None);
    assert_eq!((waits.of_tenant, waits.bucket), (Some((0, 4)), None));
    let item = || NewExecution {
        task_type: "few".to_owned(),
        ..rated(&lab, "k", 1, 10)
    };
    lab.put(at(0), item()).await;
    let (_, waiting) = lab.put(at(0), item()).await;
    assert_eq!(claim(&lab, at(0), 5, &[(TENANT, "few")]).await.len(), 1);
    let waits = lab.store.waits(TENANT, waiting).await;
    let waits = waits.expect("answers").expect("waits");
    assert_eq!(waits.of_type, Some((1, 1)));
    assert_eq!(waits.of_tenant, Some((1, 4)));
    let bucket = waits.bucket.expect("a rate");
    assert_eq!((bucket.tokens(at(9)), bucket.tokens(at(10))), (0, 1));
}

/// What a claim hands to the sweep is not lost when the enqueue comes later.
pub async fn an_enqueue_meets_an_empty_bucket(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    lab.put(at(0), rated(&lab, "k", 1, 10)).await;
    assert_eq!(lab.claim(at(0), 5).await.len(), 1);
    let receipts = lab.enqueue(at(1), vec![rated(&lab, "k", 1, 10)]).await;
    assert!(matches!(receipts[0], EnqueueReceipt::Enqueued { .. }));
    assert!(lab.claim(at(1), 5).await.is_empty());
    lab.sweep(at(10)).await;
    assert_eq!(lab.claim(at(10), 5).await.len(), 1);
}
