//! A store that tells an observer of its operations: how long each took, and what a host learns from the answers.

use super::operations::{
    access_operations, care_operations, catalog_operations, history_operations, outbox_operations,
    queue_operations, vault_operations,
};
use super::*;
use crate::clock::Clock;
use crate::observe::Observer;
use crate::runner::{StateEntry, StateSnapshot};
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine};
use horarium_model::grant::Grant;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange};
use horarium_model::{ConfigId, Execution, TaskConfig, TaskId, TaskSpec, TenantId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A store whose operations are measured. Changes nothing of what they do.
pub struct MeasuredStore {
    inner: Arc<dyn Store>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
}

impl MeasuredStore {
    /// Measures `inner` on `clock`.
    pub fn new(inner: Arc<dyn Store>, observer: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            observer,
            clock,
        }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        let begun = self.clock.monotonic();
        let answer = answer.await;
        let took = self.clock.monotonic().saturating_sub(begun);
        // A refusal is an answer; what fails is the database.
        let failed = matches!(
            answer,
            Err(StoreError::Unavailable(_) | StoreError::Internal(_))
        );
        self.observer.stored(operation, took, !failed);
        answer
    }
}

macro_rules! measured_queue {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl Queue for MeasuredStore {
            fn gives_leases(&self) -> bool {
                self.inner.gives_leases()
            }

            fn is_in_order(&self) -> bool {
                self.inner.is_in_order()
            }

            async fn enqueue(&self, now: Timestamp, batch: Enqueue) -> StoreResult<Enqueued> {
                let answer = self.measure("enqueue", self.inner.enqueue(now, batch)).await?;
                if let Enqueued::Done(receipts) = &answer {
                    for receipt in receipts {
                        if let EnqueueReceipt::Full(full) = receipt {
                            self.observer.refused(full.of);
                        }
                    }
                }
                Ok(answer)
            }

            async fn claim(&self, request: ClaimRequest) -> StoreResult<Claims> {
                let answer = self.measure("claim", self.inner.claim(request)).await?;
                self.observer.claimed(answer.claimed.len());
                Ok(answer)
            }

            async fn take_over(&self, now: Timestamp, mine: i64) -> StoreResult<TakenOver> {
                let answer = self.measure("take_over", self.inner.take_over(now, mine)).await?;
                self.observer.taken_over(&answer);
                Ok(answer)
            }

            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.measure(stringify!($name), self.inner.$name($($arg),*)).await
            })*
        }
    };
}

queue_operations! { measured_queue;
    fire_due(now: Timestamp, orders: Vec<FireOrder>) -> Vec<FireReceipt>;
    complete_many(now: Timestamp, items: Arc<[Completion]>) -> Vec<CompletionReceipt>;
    held(incarnation: i64) -> Vec<Held>;
}

macro_rules! measured {
    ($trait:ident: $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl $trait for MeasuredStore {
            $(async fn $name(&self, $($arg: $ty),*) -> StoreResult<$out> {
                self.measure(stringify!($name), self.inner.$name($($arg),*)).await
            })*
        }
    };
}

catalog_operations! { measured; Catalog:
    update_config(now: Timestamp, tenant: TenantId, id: ConfigId, update: ConfigUpdate) -> TaskConfig;
    set_type_concurrency(now: Timestamp, tenant: TenantId, task_type: &str, change: TypeConcurrencyChange) -> TaskType;
    set_tenant_bounds(tenant: TenantId, bounds: TenantBounds) -> ();
}
history_operations! { measured; History: }
vault_operations! { measured; Vault: }
access_operations! { measured; Access: }
outbox_operations! { measured; Outbox: }
care_operations! { measured; Care: }

#[cfg(test)]
mod tests {
    use super::memory::MemoryStore;
    use super::*;
    use crate::clock::SystemClock;
    use std::sync::Mutex;
    use std::time::Duration;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(&'static str, bool)>>);

    impl Observer for Heard {
        fn stored(&self, operation: &'static str, _took: Duration, succeeded: bool) {
            let mut heard = self.0.lock().expect("not poisoned");
            heard.push((operation, succeeded));
        }
    }

    #[tokio::test]
    async fn answers_pass_and_each_operation_is_told_once() {
        let (heard, clock) = (Arc::new(Heard::default()), Arc::new(SystemClock::new()));
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = MeasuredStore::new(inner.clone(), heard.clone(), clock.clone());
        let host = store.start_host(clock.now(), "h").await.expect("started");
        assert_eq!(inner.hosts().await.expect("read")[0].incarnation, host);
        // Refused, which is no failure of the store.
        store
            .rotate_token(clock.now(), 7, "x", None)
            .await
            .expect_err("no such token");
        let heard = heard.0.lock().expect("not poisoned");
        assert_eq!(*heard, [("start_host", true), ("rotate_token", true)]);
    }
}
