//! A store that breaks one rule on purpose: the simulator must notice each.

use crate::runner::{StateEntry, StateSnapshot};
use crate::scheduler::new_task_id;
use crate::store::operations::{
    access_operations, care_operations, catalog_operations, history_operations, outbox_operations,
    queue_operations, vault_operations,
};
use crate::store::*;
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine, State, Trigger};
use horarium_model::firing::Fire;
use horarium_model::grant::Grant;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange};
use horarium_model::{ConfigId, Execution, TaskConfig, TaskId, TaskSpec, TenantId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// S1: a slot that fires is enqueued twice.
    DoubleFire,
    /// S1: the schedule advances and the execution does not appear.
    LostFire,
    /// S4: a slot fires before its instant.
    EarlyFire,
    /// S1: after a fire nobody looks at the schedule again.
    NeverAgain,
    /// S5: missed slots leave no row.
    ForgottenSkip,
    /// S5: a row counts a slot too many.
    MiscountedSkip,
    /// S9: the slots of a pause leave no row.
    ForgottenPause,
    /// S2: slots from before a change of the expression fire.
    OldAnchor,
    /// S6: nothing bounds what of a config runs at once.
    NoBound,
    /// E5: what was claimed is handed out twice.
    ClaimedTwice,
    /// E4: a failed execution is tried again for ever.
    EndlessRetry,
    /// E5: an end is acknowledged and not kept, and its host never hears that the run still counts as its own.
    LostEnd,
    /// E4: a retry is put off for years.
    LateRetry,
    /// E5: what a dead host ran is not taken over.
    NoTakeOver,
    /// E2: tenants take no turns, the first is served first.
    NoTurns,
    /// E2: one is claimed where many could run.
    LeftWaiting,
    /// E3: nothing bounds what of a tenant runs at once.
    NoTenantBound,
    /// E3: nothing bounds what of a type runs at once.
    NoTypeBound,
    /// E3: attempts start as fast as they can.
    NoRate,
    /// E3: any number may wait.
    NoBacklog,
    /// A type that keeps failing is not held.
    NoBreaker,
    /// E7: an end sets off nothing.
    LostChain,
}

impl Mutation {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::DoubleFire,
        Self::LostFire,
        Self::EarlyFire,
        Self::NeverAgain,
        Self::ForgottenSkip,
        Self::MiscountedSkip,
        Self::ForgottenPause,
        Self::OldAnchor,
        Self::NoBound,
        Self::ClaimedTwice,
        Self::EndlessRetry,
        Self::LostEnd,
        Self::LateRetry,
        Self::NoTakeOver,
        Self::NoTurns,
        Self::LeftWaiting,
        Self::NoTenantBound,
        Self::NoTypeBound,
        Self::NoRate,
        Self::NoBacklog,
        Self::NoBreaker,
        Self::LostChain,
    ];
}

/// A store with or without a broken rule.
pub struct MutantStore {
    inner: Arc<dyn Store>,
    mutation: Option<Mutation>,
    completions: AtomicU64,
}

impl MutantStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Store>, mutation: Option<Mutation>) -> Self {
        Self {
            inner,
            mutation,
            completions: AtomicU64::new(0),
        }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn spoil_order(&self, now: Timestamp, order: &mut FireOrder) {
        let plan = &mut order.plan;
        match self.mutation {
            Some(Mutation::LostFire) => plan.fires.clear(),
            Some(Mutation::NeverAgain) => plan.next_fire_at = None,
            Some(Mutation::ForgottenSkip) => plan.skipped = None,
            Some(Mutation::MiscountedSkip) => {
                if let Some(skip) = &mut plan.skipped {
                    skip.count += 1;
                }
            }
            Some(Mutation::EarlyFire) => {
                if let Some(next) = plan.next_fire_at.filter(|_| !plan.fires.is_empty()) {
                    plan.fires.push(Fire {
                        slot: next,
                        fires_at: now,
                        trigger: Trigger::Schedule,
                    });
                    plan.last_slot = Some(next);
                    order.task_ids.push(new_task_id(now));
                }
            }
            _ => {
                if let Some(spoilt) = self.spoil(&order.template) {
                    order.template = Arc::new(spoilt);
                }
            }
        }
    }

    /// What an execution is enqueued as, if not as it should be.
    fn spoil(&self, new: &NewExecution) -> Option<NewExecution> {
        let mut new = new.clone();
        match self.mutation? {
            Mutation::NoBound => new.run_key = None,
            Mutation::NoRate => new.rate = None,
            Mutation::NoBacklog => new.backlog = None,
            Mutation::LostChain => new.chain = None,
            _ => return None,
        }
        Some(new)
    }

    /// Claims for one tenant after the other.
    async fn claim_in_order(&self, request: ClaimRequest) -> StoreResult<Claims> {
        let mut tenants: Vec<TenantId> = request.types.iter().map(|(tenant, _)| *tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut claims = Claims::default();
        for tenant in tenants {
            let types = request.types.iter().filter(|(of, _)| *of == tenant);
            let taken = u32::try_from(claims.claimed.len()).unwrap_or(u32::MAX);
            let request = ClaimRequest {
                types: types.cloned().collect(),
                limit: request.limit.saturating_sub(taken),
                ..request.clone()
            };
            let more = self.inner.claim(request).await?;
            claims.claimed.extend(more.claimed);
            claims.rates |= more.rates;
        }
        Ok(claims)
    }

    /// Closes every breaker that is open.
    async fn close_breakers(&self, request: &ClaimRequest) -> StoreResult<()> {
        for (tenant, name) in request.types.iter() {
            let of_type = self.inner.task_type(*tenant, name).await?;
            if of_type.is_some_and(|of_type| of_type.breaker.is_some()) {
                self.inner.reset_breaker(request.now, *tenant, name).await?;
            }
        }
        Ok(())
    }

    /// Enqueues again what an order fired.
    async fn fire_again(
        &self,
        now: Timestamp,
        orders: &[FireOrder],
        receipts: &[FireReceipt],
    ) -> StoreResult<()> {
        let applied = orders.iter().zip(receipts).filter(|(_, r)| r.applied);
        let copies = applied.flat_map(|(order, receipt)| {
            let fires = order.plan.fires.iter().take(receipt.enqueued.len());
            fires.map(|fire| NewExecution {
                task_id: new_task_id(now),
                slot: Some(fire.slot),
                trigger: fire.trigger,
                due_at: fire.fires_at,
                ..NewExecution::clone(&order.template)
            })
        });
        let copies: Vec<NewExecution> = copies.collect();
        self.inner.enqueue_many(now, copies).await.map(|_| ())
    }
}

macro_rules! mutant_queue {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Queue for MutantStore {
            fn gives_leases(&self) -> bool {
                self.inner.gives_leases()
            }

            async fn fire_due(
                &self,
                now: Timestamp,
                mut orders: Vec<FireOrder>,
            ) -> StoreResult<Vec<FireReceipt>> {
                orders.iter_mut().for_each(|order| self.spoil_order(now, order));
                let again = self.is(Mutation::DoubleFire).then(|| orders.clone());
                let receipts = self.inner.fire_due(now, orders).await?;
                if let Some(orders) = again {
                    self.fire_again(now, &orders, &receipts).await?;
                }
                Ok(receipts)
            }

            async fn enqueue(&self, now: Timestamp, mut batch: Enqueue) -> StoreResult<Enqueued> {
                for item in &mut batch.items {
                    if let Some(spoilt) = self.spoil(item) {
                        *item = spoilt;
                    }
                }
                self.inner.enqueue(now, batch).await
            }

            async fn claim(&self, mut request: ClaimRequest) -> StoreResult<Claims> {
                match self.mutation {
                    Some(Mutation::NoTurns) => return self.claim_in_order(request).await,
                    Some(Mutation::NoBreaker) => self.close_breakers(&request).await?,
                    Some(Mutation::LeftWaiting) => request.limit = request.limit.min(1),
                    _ => {}
                }
                let mut claims = self.inner.claim(request).await?;
                if self.is(Mutation::ClaimedTwice) {
                    claims.claimed.extend(claims.claimed.clone());
                }
                Ok(claims)
            }

            async fn take_over(&self, now: Timestamp, mine: i64) -> StoreResult<TakenOver> {
                if self.is(Mutation::NoTakeOver) {
                    return Ok(TakenOver::default());
                }
                self.inner.take_over(now, mine).await
            }

            async fn held(&self, incarnation: i64) -> StoreResult<Vec<Held>> {
                // Else its host finds out and runs it again.
                if self.is(Mutation::LostEnd) {
                    return Ok(Vec::new());
                }
                self.inner.held(incarnation).await
            }

            async fn complete_many(
                &self,
                now: Timestamp,
                items: Arc<[Completion]>,
            ) -> StoreResult<Vec<CompletionReceipt>> {
                let number = self.completions.fetch_add(1, Ordering::Relaxed);
                if self.is(Mutation::LostEnd) && number % 5 == 4 {
                    let told = |_: &Completion| CompletionReceipt::Recorded(State::Succeeded);
                    return Ok(items.iter().map(told).collect());
                }
                let mut items = items.to_vec();
                for item in &mut items {
                    if self.is(Mutation::EndlessRetry) && item.end == End::Failed {
                        item.end = End::Retry(now + chrono::Duration::minutes(1));
                    }
                    if let (Some(Mutation::LateRetry), End::Retry(at)) = (self.mutation, &mut item.end) {
                        *at += chrono::Duration::days(1000);
                    }
                }
                self.inner.complete_many(now, items.into()).await
            }

            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}
queue_operations! { mutant_queue; }

macro_rules! mutant_catalog {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Catalog for MutantStore {
            async fn update_config(
                &self,
                now: Timestamp,
                tenant: TenantId,
                id: ConfigId,
                mut update: ConfigUpdate,
            ) -> StoreResult<TaskConfig> {
                if let Some(reanchor) = &mut update.reanchor {
                    if self.is(Mutation::ForgottenPause) {
                        reanchor.skipped = None;
                    }
                    if self.is(Mutation::OldAnchor) && reanchor.anchor_at == now {
                        reanchor.anchor_at -= chrono::Duration::hours(1);
                        reanchor.next_fire_at = reanchor.next_fire_at.map(|_| now);
                    }
                }
                self.inner.update_config(now, tenant, id, update).await
            }

            async fn set_type_concurrency(
                &self,
                now: Timestamp,
                tenant: TenantId,
                task_type: &str,
                mut change: TypeConcurrencyChange,
            ) -> StoreResult<TaskType> {
                if self.is(Mutation::NoTypeBound) {
                    change.max = None;
                }
                self.inner.set_type_concurrency(now, tenant, task_type, change).await
            }

            async fn set_tenant_bounds(
                &self,
                tenant: TenantId,
                mut bounds: TenantBounds,
            ) -> StoreResult<()> {
                if self.is(Mutation::NoTenantBound) {
                    bounds.max = None;
                }
                self.inner.set_tenant_bounds(tenant, bounds).await
            }

            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}
catalog_operations! { mutant_catalog; }

macro_rules! untouched {
    ($trait:ident: $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl $trait for MutantStore {
            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}
history_operations! { untouched; History: }
vault_operations! { untouched; Vault: }
access_operations! { untouched; Access: }
outbox_operations! { untouched; Outbox: }
care_operations! { untouched; Care: }
