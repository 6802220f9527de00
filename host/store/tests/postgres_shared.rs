//! Shared task types on several hosts: a name is a tenant's or shared whoever is faster, and bounds are each tenant's.

use horarium_core::store::conformance::{at, version};
use horarium_core::store::{
    Access, Catalog, ClaimRequest, Claimed, EnqueueReceipt, NewExecution, Queue, StoreError,
};
use horarium_model::task_type::{PluginVersion, TypeConcurrency};
use horarium_model::{DEFAULT_TENANT_ID, HOST_TENANT_ID, TenantId};
use horarium_store::PostgresStore;
use horarium_store::testing::{Cluster, let_go};
use std::sync::Arc;

mod hosts;
use hosts::{lab, no_deadlocks, open, options, success};

const COMMON: &str = "common";

async fn register(
    store: &PostgresStore,
    owner: TenantId,
    name: &str,
) -> Result<PluginVersion, StoreError> {
    let version = PluginVersion {
        tenant_id: owner,
        ..version(name, b"x")
    };
    store.add_version(at(0), version, b"x".to_vec()).await
}

/// One host shares a name while others register it for tenants: it becomes the one or the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_becomes_shared_or_a_tenants_never_both() {
    let cluster = Cluster::start();
    let (database, first, _) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    let other = first.create_tenant(at(0), "other", 1).await.expect("made");
    let mut shared = 0;
    for n in 0..60 {
        let name = format!("name{n}");
        let owned = async {
            let of_default = register(&second, DEFAULT_TENANT_ID, &name);
            let of_other = register(&second, other.id, &name);
            tokio::join!(of_default, of_other)
        };
        // Neither is always the first to ask.
        let (host, (one, two)) = match n % 2 {
            0 => tokio::join!(register(&first, HOST_TENANT_ID, &name), owned),
            _ => {
                let (owned, host) = tokio::join!(owned, register(&first, HOST_TENANT_ID, &name));
                (host, owned)
            }
        };
        let refused = |done: &Result<PluginVersion, StoreError>| match done {
            Ok(_) => false,
            Err(StoreError::Conflict(_)) => true,
            Err(other) => panic!("{other}"),
        };
        let all = [refused(&host), refused(&one), refused(&two)];
        assert!(
            all == [false, true, true] || all[0] && !(all[1] && all[2]),
            "{name}: {all:?}"
        );
        shared += u32::from(!all[0]);
    }
    let both = "SELECT count(*) FROM task_types a JOIN task_types b USING (task_type) \
        WHERE a.tenant_id = 0 AND b.tenant_id <> 0";
    assert_eq!(cluster.number(&database, both).await, 0);
    let owners = "SELECT count(*) FROM task_types WHERE tenant_id = 0";
    assert_eq!(cluster.number(&database, owners).await, i64::from(shared));
    no_deadlocks(&cluster, &database).await;
}

/// One host removes a type while another registers a version of it: there is no version without its type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_is_removed_leaves_no_version() {
    let cluster = Cluster::start();
    let (database, first, _) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    for _ in 0..60 {
        let there = register(&first, DEFAULT_TENANT_ID, COMMON).await;
        there.expect("registered");
        let newer = version(COMMON, b"y");
        let (removed, registered) = tokio::join!(
            first.remove_type(DEFAULT_TENANT_ID, COMMON),
            second.add_version(at(0), newer, b"y".to_vec())
        );
        removed.expect("removed");
        registered.expect("registered");
    }
    let orphans = "SELECT count(*) FROM plugin_versions v WHERE NOT EXISTS (SELECT 1 FROM task_types y \
        WHERE y.tenant_id = v.tenant_id AND y.task_type = v.task_type)";
    assert_eq!(cluster.number(&database, orphans).await, 0);
    no_deadlocks(&cluster, &database).await;
}

/// Two hosts claim and enqueue at once: a shared type has as many of each tenant as it allows, and no tenant waits for
/// another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_of_a_shared_type_are_exact_for_each_tenant() {
    let cluster = Cluster::start();
    let (database, first, lab) = lab(&cluster, options()).await;
    let second = open(&cluster, &database, options()).await;
    let other = first.create_tenant(at(0), "other", 1).await.expect("made");
    register(&first, HOST_TENANT_ID, COMMON)
        .await
        .expect("shared");
    let bounds = TypeConcurrency {
        max: Some(2),
        backlog: Some(30),
    };
    let bounding = first.set_type_concurrency(at(0), HOST_TENANT_ID, COMMON, bounds.into());
    bounding.await.expect("set");
    let tenants = [DEFAULT_TENANT_ID, other.id];
    let items = |tenant: TenantId| -> Vec<NewExecution> {
        let item = |_| NewExecution {
            tenant_id: tenant,
            task_type: COMMON.to_owned(),
            ..lab.new_execution(None, at(0))
        };
        (0..20).map(item).collect()
    };
    for tenant in tenants {
        let (one, two) = (items(tenant), items(tenant));
        let (one, two) = tokio::join!(
            first.enqueue_many(at(0), one),
            second.enqueue_many(at(0), two)
        );
        let mut receipts = one.expect("answers");
        receipts.extend(two.expect("answers"));
        let taken = |receipt: &&EnqueueReceipt| matches!(receipt, EnqueueReceipt::Enqueued { .. });
        assert_eq!(receipts.iter().filter(taken).count(), 30);
    }
    let (one, two) = (
        first.start_host(at(0), "one").await.expect("starts"),
        second.start_host(at(0), "two").await.expect("starts"),
    );
    let request = |incarnation| ClaimRequest {
        now: at(100),
        incarnation,
        types: tenants.map(|tenant| (tenant, COMMON.to_owned())).into(),
        limit: 10,
    };
    for _ in 0..15 {
        let (a, b) = tokio::join!(first.claim(request(one)), second.claim(request(two)));
        let (a, b) = (a.expect("claims").claimed, b.expect("claims").claimed);
        let of = |claimed: &[Claimed], tenant| {
            claimed.iter().filter(|one| one.tenant_id == tenant).count()
        };
        for tenant in tenants {
            assert_eq!(of(&a, tenant) + of(&b, tenant), 2);
        }
        for (store, host, claimed) in [(&first, one, a), (&second, two, b)] {
            let ends = claimed.iter().map(|claimed| success(claimed, host));
            let done = store.complete_many(at(101), ends.collect()).await;
            done.expect("completes");
        }
    }
    // While somebody holds all of one tenant, the other goes on.
    let held = "SELECT 1 FROM tenants WHERE id = 1 FOR NO KEY UPDATE";
    let holder = cluster.hold(&database, held).await;
    let placed = second.enqueue_many(at(0), items(other.id)).await;
    assert_eq!(placed.expect("nobody has what it needs").len(), 20);
    let lane = ClaimRequest {
        types: Arc::from([(other.id, COMMON.to_owned())]),
        ..request(two)
    };
    assert_eq!(second.claim(lane).await.expect("claims").claimed.len(), 2);
    let_go(holder).await;
    no_deadlocks(&cluster, &database).await;
}
