//! Memory: one sum over all memories and tables of a run, drawn from what the host has for all runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Bytes of one table element in this engine.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// What all guests together may hold.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    total: u64,
    used: AtomicU64,
}

impl MemoryBudget {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            used: AtomicU64::new(0),
        })
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.total)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Raised into the guest when the host's budget is empty: the run is handed back.
#[derive(Debug, thiserror::Error)]
#[error("the host's memory for guests is used up")]
pub(crate) struct HostMemoryEmpty;

/// The limits of one run on memory and on the number of things.
#[derive(Debug)]
pub(crate) struct Limiter {
    budget: Arc<MemoryBudget>,
    limit: u64,
    used: u64,
    peak: u64,
    /// The last growth that was allowed, taken back when the engine cannot do it.
    last: u64,
    /// Whether memory was refused: the guest may end in an unrelated trap later.
    refused: bool,
    instances: usize,
    tables: usize,
    memories: usize,
}

impl Limiter {
    pub(crate) fn new(budget: Arc<MemoryBudget>, limits: &horarium_model::Limits) -> Self {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            budget,
            limit: limits.memory_bytes,
            used: 0,
            peak: 0,
            last: 0,
            refused: false,
            instances: count(limits.instances),
            tables: count(limits.tables),
            memories: count(limits.memories),
        }
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let bytes = bytes as u64;
        self.last = 0;
        if self.used.saturating_add(bytes) > self.limit {
            self.refused = true;
            return Ok(false);
        }
        if !self.budget.take(bytes) {
            return Err(HostMemoryEmpty.into());
        }
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        self.last = bytes;
        Ok(true)
    }

    fn undo(&mut self) {
        self.budget.give_back(self.last);
        self.used -= self.last;
        self.last = 0;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give_back(self.used);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current);
        self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_model::Limits;

    fn limiter(budget: &Arc<MemoryBudget>, memory_bytes: u64) -> Limiter {
        let limits = Limits {
            memory_bytes,
            ..Limits::default()
        };
        Limiter::new(budget.clone(), &limits)
    }

    #[test]
    fn memories_and_tables_share_one_limit() {
        let budget = MemoryBudget::new(1 << 30);
        let mut limiter = limiter(&budget, 200_000);
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.table_growing(0, 1_000, None).unwrap());
        assert!(!limiter.memory_growing(65_536, 131_072, None).unwrap());
        assert!(limiter.refused());
        assert_eq!(limiter.peak(), 131_072 + 8_000);
        drop(limiter);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn growth_the_engine_cannot_do_is_given_back() {
        let budget = MemoryBudget::new(1 << 30);
        let mut limiter = limiter(&budget, 1 << 20);
        assert!(limiter.memory_growing(0, 65_536, Some(1)).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert_eq!((limiter.used, budget.used()), (0, 0));
    }

    #[test]
    fn an_empty_host_budget_ends_the_run_rather_than_the_growth() {
        let budget = MemoryBudget::new(100_000);
        let mut first = limiter(&budget, 1 << 20);
        let mut second = limiter(&budget, 1 << 20);
        assert!(first.memory_growing(0, 65_536, None).unwrap());
        let refused = second.memory_growing(0, 65_536, None).unwrap_err();
        assert!(refused.is::<HostMemoryEmpty>() && !second.refused());
        drop(first);
        assert!(second.memory_growing(0, 65_536, None).unwrap());
    }
}
