//! Versions this host knows: where their bytes come from, and their code once it was used.

use crate::loaded::Loaded;
use horarium_core::runner::ComponentSource;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::OnceCell;

/// Versions by digest.
#[derive(Default)]
pub(crate) struct Versions(RwLock<HashMap<String, Arc<Slot>>>);

/// One version.
#[derive(Default)]
pub(crate) struct Slot {
    /// Its code, loaded at its first use.
    pub(crate) loaded: OnceCell<Arc<Loaded>>,
    /// Held while it is compiled, so that it is compiled once.
    pub(crate) compiling: tokio::sync::Mutex<()>,
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
