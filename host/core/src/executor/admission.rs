//! Admission: what a host has slots and memory for, settled before it claims anything (rule E2).

use super::Executor;
use crate::memory::Reservation;
use crate::store::Claimed;
use horarium_model::TenantId;
use horarium_model::task_type::PluginVersion;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Slots and memory for a number of runs of certain types.
pub(super) struct Room {
    permits: Vec<OwnedSemaphorePermit>,
    memory: Reservation,
    types: Arc<[(TenantId, String)]>,
    partial: bool,
}

/// One run's slot and memory.
pub(super) struct Seat {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) memory: Reservation,
}

/// Room for as many runs as there are slots, or as the memory that is free allows; none when there is
/// none for a single run of any type.
pub(super) fn room(executor: &Executor, permits: Vec<OwnedSemaphorePermit>) -> Option<Room> {
    let registry = &executor.parts.registry;
    let budget = &executor.settings.memory;
    let claimable = registry.claimable();
    let expected = |version: &PluginVersion| expected(executor, version);
    let free = budget.free();
    let memory = claimable.versions.iter().map(|v| expected(v));
    let fitting: Vec<(&(TenantId, String), u64)> = claimable
        .types
        .iter()
        .zip(memory)
        .filter(|(_, bytes)| *bytes <= free)
        .collect();
    if fitting.is_empty() && !claimable.types.is_empty() {
        return None;
    }
    let share = fitting.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    let most = match share {
        0 => permits.len(),
        share => usize::try_from(free / share).unwrap_or(usize::MAX),
    };
    let slots = permits.len();
    let mut permits = permits;
    permits.truncate(most.max(1));
    // What runs may have grown meanwhile: then there is room for fewer.
    let memory = loop {
        let wanted = share.saturating_mul(permits.len() as u64);
        match budget.reserve(wanted) {
            Some(memory) => break memory,
            None if permits.len() > 1 => permits.truncate(permits.len() / 2),
            None => return None,
        }
    };
    let all = fitting.len() == claimable.types.len();
    let types = match all {
        true => claimable.types.clone(),
        false => fitting.into_iter().map(|(lane, _)| lane.clone()).collect(),
    };
    Some(Room {
        partial: !all || permits.len() < slots,
        permits,
        memory,
        types,
    })
}

/// At most all there is: a version whose peak came near it can still run alone.
fn expected(executor: &Executor, version: &PluginVersion) -> u64 {
    let expected = executor.parts.registry.runner().expected_memory(version);
    expected.min(executor.settings.memory.total())
}

impl Room {
    /// How many runs there is room for.
    pub(super) fn runs(&self) -> usize {
        self.permits.len()
    }

    /// Whether slots or types were left out for want of memory.
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// The types there is room for.
    pub(super) fn types(&self) -> Arc<[(TenantId, String)]> {
        self.types.clone()
    }

    /// The slot and the memory of one claimed run; none when more were claimed than asked for.
    pub(super) fn seat(&mut self, executor: &Executor, claimed: &Claimed) -> Option<Seat> {
        let permit = self.permits.pop()?;
        let registry = &executor.parts.registry;
        let version = registry.active(claimed.tenant_id, &claimed.task_type);
        let bytes = version.map_or(0, |version| expected(executor, &version));
        Some(Seat {
            permit,
            memory: self.memory.split(bytes),
        })
    }
}
