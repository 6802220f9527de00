//! Versions this host knows: where their bytes come from, and their code once it was used.

use crate::loaded::Loaded;
use horarium_core::runner::ComponentSource;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::OnceCell;

/// Versions by digest.
#[derive(Default)]
pub(crate) struct Versions(RwLock<HashMap<String, Arc<Slot>>>);

/// Memory that runs of a version need, as seen so far.
#[derive(Default)]
pub(crate) struct MemoryFigures {
    initial: AtomicU64,
    peak: AtomicU64,
}

impl MemoryFigures {
    /// What one run is expected to need: the larger of what it has at its start and 1.25 times the recent
    /// peak; the start alone while there is none.
    pub(crate) fn expected(&self) -> u64 {
        let peak = self.peak.load(Ordering::Relaxed);
        let initial = self.initial.load(Ordering::Relaxed);
        initial.max(peak.saturating_add(peak / 4))
    }

    /// The least a run can begin with, known from the code alone.
    pub(crate) fn starts_with(&self, bytes: u64) {
        self.initial.store(bytes, Ordering::Relaxed);
    }

    /// A run was seen to need this much. A peak is forgotten slowly: an eighth of the difference a run.
    pub(crate) fn seen(&self, initial: Option<u64>, peak: u64) {
        if let Some(initial) = initial {
            self.initial.store(initial, Ordering::Relaxed);
        }
        let old = self.peak.load(Ordering::Relaxed);
        let recent = peak.max(old - old.saturating_sub(peak).div_ceil(8));
        self.peak.store(recent, Ordering::Relaxed);
    }
}

/// One version.
#[derive(Default)]
pub(crate) struct Slot {
    /// Its code, loaded at its first use.
    pub(crate) loaded: OnceCell<Arc<Loaded>>,
    /// Held while it is compiled, so that it is compiled once.
    pub(crate) compiling: tokio::sync::Mutex<()>,
    /// What its runs need.
    pub(crate) memory: MemoryFigures,
    source: Mutex<Option<ComponentSource>>,
}

impl Slot {
    /// Where to get the bytes, should they have to be compiled.
    pub(crate) fn source(&self) -> Option<ComponentSource> {
        self.source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Remembers where the bytes come from.
    pub(crate) fn remember(&self, source: ComponentSource) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

impl Versions {
    /// The slot of a version, made if it is new.
    pub(crate) fn slot(&self, digest: &str) -> Arc<Slot> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(digest) {
            return slot.clone();
        }
        drop(slots);
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slots.entry(digest.to_owned()).or_default().clone()
    }

    /// Drops a version; whoever runs it keeps its code until the end.
    pub(crate) fn forget(&self, digest: &str) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slots.remove(digest);
    }

    /// Versions whose code is in memory.
    pub(crate) fn loaded(&self) -> usize {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots
            .values()
            .filter(|slot| slot.loaded.initialized())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_expected_to_need_its_start_or_a_quarter_more_than_the_recent_peak() {
        let memory = MemoryFigures::default();
        memory.starts_with(100);
        assert_eq!(memory.expected(), 100);
        memory.seen(Some(200), 200);
        assert_eq!(memory.expected(), 250);
        memory.seen(Some(200), 1000);
        assert_eq!(memory.expected(), 1250);
        memory.seen(None, 200);
        assert_eq!(
            memory.expected(),
            1125,
            "one small run does not hide the peak"
        );
        for _ in 0..100 {
            memory.seen(Some(200), 200);
        }
        assert_eq!(memory.expected(), 250, "but many do");
    }
}
