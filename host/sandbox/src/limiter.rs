//! Memory: one sum over all memories and tables of a run, drawn from what the host has for all runs.

use horarium_core::memory::Reservation;
use wasmtime::ResourceLimiter;

/// Bytes of one table element in this engine.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Raised into the guest when the host's budget is empty: the run is handed back.
#[derive(Debug, thiserror::Error)]
#[error("the host's memory for guests is used up")]
pub(crate) struct HostMemoryEmpty;

/// The limits of one run on memory and on the number of things.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// What is held of the host's budget: what was reserved, or more.
    held: Reservation,
    /// What was reserved stays so until the end.
    reserved: u64,
    limit: u64,
    used: u64,
    peak: u64,
    wanted: u64,
    /// The last growth that was allowed, taken back when the engine cannot do it.
    last: u64,
    /// Whether memory was refused: the guest may end in an unrelated trap later.
    refused: bool,
    instances: usize,
    tables: usize,
    memories: usize,
}

impl Limiter {
    /// Limits for a run that begins with `reserved`.
    pub(crate) fn new(reserved: Reservation, limits: &horarium_model::Limits) -> Self {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            reserved: reserved.bytes(),
            held: reserved,
            limit: limits.memory_bytes,
            used: 0,
            peak: 0,
            wanted: 0,
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

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// What it would have needed when the host's memory was used up, else its peak.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.max(self.peak)
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
        if !self.held.cover(self.used + bytes) {
            self.wanted = self.used + bytes;
            return Err(HostMemoryEmpty.into());
        }
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        self.last = bytes;
        Ok(true)
    }

    fn undo(&mut self) {
        self.used -= self.last;
        self.last = 0;
        self.held.shrink(self.used.max(self.reserved));
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
    use horarium_core::memory::MemoryBudget;
    use horarium_model::Limits;
    use std::sync::Arc;

    fn limiter(budget: &Arc<MemoryBudget>, memory_bytes: u64) -> Limiter {
        let limits = Limits {
            memory_bytes,
            ..Limits::default()
        };
        Limiter::new(budget.nothing(), &limits)
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
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_was_reserved_is_used_first_and_kept() {
        let budget = MemoryBudget::new(150_000);
        let limits = Limits::default();
        let mut run = Limiter::new(budget.reserve(100_000).expect("fits"), &limits);
        assert!(run.memory_growing(0, 65_536, None).unwrap());
        assert_eq!((run.used(), budget.held()), (65_536, 100_000));
        assert!(run.memory_growing(65_536, 131_072, None).unwrap());
        assert_eq!(budget.held(), 131_072);
        run.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(budget.held(), 100_000);
        let refused = run.memory_growing(65_536, 200_000, None).unwrap_err();
        assert!(refused.is::<HostMemoryEmpty>());
        assert_eq!((run.wanted(), run.peak()), (200_000, 131_072));
        drop(run);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn growth_the_engine_cannot_do_is_given_back() {
        let budget = MemoryBudget::new(1 << 30);
        let mut limiter = limiter(&budget, 1 << 20);
        assert!(limiter.memory_growing(0, 65_536, Some(1)).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert_eq!((limiter.used, budget.held()), (0, 0));
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
