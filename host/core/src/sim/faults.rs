//! A store that fails by a seeded plan: before an operation (nothing happened) or after it (it happened, but
//! the caller is told it failed), as a database does when its connection breaks at the wrong moment.

use super::gate::Gate;
use crate::runner::{StateEntry, StateSnapshot};
use crate::store::operations::{
    access_operations, care_operations, catalog_operations, history_operations, outbox_operations,
    queue_operations, vault_operations,
};
use crate::store::*;
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine};
use horarium_model::grant::Grant;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange};
use horarium_model::{
    ConfigId, ErrorKind, Execution, TaskConfig, TaskId, TaskSpec, TenantId, Timestamp,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a store fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultPlan {
    /// Probability that an operation fails with nothing done.
    pub before: f64,
    /// Probability that an operation is done and reported as failed.
    pub after: f64,
    /// Probability that ends are reported as failed and arrive all the same, up to a minute later: after the
    /// host tried again, or after others took over.
    pub late: f64,
    /// Whether the ends of some executions and what says [`UNWRITABLE`] can never be written, and several schedules only
    /// one by one: as what no database takes.
    pub unwritable: bool,
}

impl FaultPlan {
    /// A store that never fails.
    pub const NONE: Self = Self {
        before: 0.0,
        after: 0.0,
        late: 0.0,
        unwritable: false,
    };
}

/// A store as one host process reaches it: with faults in its queue operations, and not at all while the
/// process is stopped or cut off.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: FaultPlan,
    gate: Arc<Gate>,
    rng: Mutex<SmallRng>,
}

impl FaultyStore {
    /// Wraps `inner` for the host process behind `gate`.
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan, gate: Arc<Gate>, seed: u64) -> Self {
        Self {
            inner,
            plan,
            gate,
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Whether the database can be reached: asked before and after, since either may be lost.
    async fn reach(&self) -> StoreResult<()> {
        self.gate.pass().await;
        if self.gate.is_cut() {
            return Err(StoreError::Unavailable("cut off".into()));
        }
        Ok(())
    }

    fn hits(&self, probability: f64) -> bool {
        probability > 0.0
            && self
                .rng
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .random_bool(probability)
    }

    /// Keeps ends on their way for a while, if this is one of the times.
    fn delay(&self, now: Timestamp, items: &Arc<[Completion]>) -> StoreResult<()> {
        if !self.hits(self.plan.late) {
            return Ok(());
        }
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = Duration::from_millis(rng.random_range(0..60_000));
        drop(rng);
        let (inner, items) = (self.inner.clone(), items.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Nobody waits for the answer any more.
            let _ = inner.complete_many(now, items).await;
        });
        Err(StoreError::Unavailable("injected, on its way".into()))
    }

    async fn before(&self) -> StoreResult<()> {
        self.reach().await?;
        if self.hits(self.plan.before) {
            Err(StoreError::Unavailable("injected, before".into()))
        } else {
            Ok(())
        }
    }

    async fn after<T>(&self, value: StoreResult<T>) -> StoreResult<T> {
        self.reach().await?;
        if self.hits(self.plan.after) {
            Err(StoreError::Unavailable("injected, after".into()))
        } else {
            value
        }
    }
}

/// What no database takes that takes not all: a schedule whose parameters say this never fires.
pub const UNWRITABLE: &str = "no database takes this";

/// Orders that such a database takes at once.
const MOST_ORDERS: usize = 3;

fn cannot_be_fired(order: &FireOrder) -> bool {
    order.template.parameters.contains(UNWRITABLE)
}

/// One execution of sixteen, unless its end is told as a failure of the host.
fn cannot_be_written(item: &Completion) -> bool {
    item.task_id.as_u128() % 16 == 3 && item.record.error_kind != Some(ErrorKind::HostError)
}

macro_rules! faulty {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Queue for FaultyStore {
            fn gives_leases(&self) -> bool {
                self.inner.gives_leases()
            }

            async fn fire_due(
                &self,
                now: Timestamp,
                orders: Vec<FireOrder>,
            ) -> StoreResult<Vec<FireReceipt>> {
                self.before().await?;
                if self.plan.unwritable && orders.len() > MOST_ORDERS {
                    return Err(StoreError::Internal("injected, too long".into()));
                }
                if self.plan.unwritable && orders.iter().any(cannot_be_fired) {
                    return Err(StoreError::Internal("injected, for ever".into()));
                }
                self.after(self.inner.fire_due(now, orders).await).await
            }

            async fn complete_many(
                &self,
                now: Timestamp,
                items: Arc<[Completion]>,
            ) -> StoreResult<Vec<CompletionReceipt>> {
                self.before().await?;
                if self.plan.unwritable && items.iter().any(cannot_be_written) {
                    return Err(StoreError::Internal("injected, for ever".into()));
                }
                self.delay(now, &items)?;
                self.after(self.inner.complete_many(now, items).await).await
            }

            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.before().await?;
                self.after(self.inner.$name($($arg),*).await).await
            })*
        }
    };
}

queue_operations! { faulty;
    enqueue(now: Timestamp, batch: Enqueue) -> Enqueued;
    claim(request: ClaimRequest) -> Claims;
    held(incarnation: i64) -> Vec<Held>;
    take_over(now: Timestamp, mine: i64) -> TakenOver;
}

macro_rules! delegate {
    ($trait:ident: $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl $trait for FaultyStore {
            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.reach().await?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

catalog_operations! { delegate; Catalog:
    update_config(now: Timestamp, tenant: TenantId, id: ConfigId, update: ConfigUpdate) -> TaskConfig;
    set_type_concurrency(now: Timestamp, tenant: TenantId, task_type: &str, change: TypeConcurrencyChange) -> TaskType;
    set_tenant_bounds(tenant: TenantId, bounds: TenantBounds) -> ();
}

history_operations! { delegate; History: }

access_operations! { delegate; Access: }
outbox_operations! { delegate; Outbox: }
care_operations! { delegate; Care: }
vault_operations! { delegate; Vault: }
