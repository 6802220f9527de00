//! The memory that guests of one host may hold together (`engine.memory`), as one budget: runs reserve
//! before they are claimed, and what they grow beyond it is drawn from the same sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// What all guests together may hold.
#[derive(Debug)]
pub struct MemoryBudget {
    total: u64,
    held: AtomicU64,
    /// Somebody waits for memory: who gives some back must tell.
    wanted: AtomicBool,
    freed: Notify,
}

impl MemoryBudget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            held: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            freed: Notify::new(),
        })
    }

    /// Bytes there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes reserved or in use.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// Bytes that can be reserved now.
    pub fn free(&self) -> u64 {
        self.total.saturating_sub(self.held())
    }

    /// Takes `bytes` until the answer is dropped; none when there are not as many.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        self.take(bytes).then(|| Reservation {
            budget: self.clone(),
            bytes,
        })
    }

    /// A reservation of nothing, to be grown.
    pub fn nothing(self: &Arc<Self>) -> Reservation {
        Reservation {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Waits until somebody gives memory back after this was called.
    pub async fn freed(&self) {
        let freed = self.freed.notified();
        self.wanted.store(true, Ordering::Release);
        freed.await;
    }

    fn take(&self, bytes: u64) -> bool {
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= self.total)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.held.fetch_sub(bytes, Ordering::AcqRel);
        if self.wanted.swap(false, Ordering::AcqRel) {
            self.freed.notify_one();
        }
    }
}

/// Bytes taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds at least `bytes` from here on; false, and nothing changed, when the budget has not as many.
    pub fn cover(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.budget.take(more) {
            return false;
        }
        self.bytes += more;
        true
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.budget.give_back(less);
    }

    /// A part of it, at most what it has, as a reservation of its own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: self.budget.clone(),
            bytes,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_grows_splits_and_comes_back() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.reserve(40).expect("fits");
        assert!(budget.reserve(61).is_none());
        assert!(first.cover(30) && first.bytes() == 40, "it has that much");
        assert!(first.cover(70) && !first.cover(101));
        assert_eq!((first.bytes(), budget.free()), (70, 30));
        let part = first.split(50);
        assert_eq!((first.bytes(), part.bytes(), budget.held()), (20, 50, 70));
        first.shrink(5);
        drop(part);
        assert_eq!(budget.held(), 5);
        drop(first);
        assert_eq!(budget.held(), 0);
        assert!(budget.reserve(u64::MAX).is_none());
    }

    #[tokio::test]
    async fn who_waits_for_memory_is_told() {
        let budget = MemoryBudget::new(10);
        let all = budget.reserve(10).expect("fits");
        let freed = budget.freed();
        tokio::pin!(freed);
        assert!(futures_util::poll!(&mut freed).is_pending());
        drop(all);
        freed.await;
        assert_eq!(budget.free(), 10);
    }
}
