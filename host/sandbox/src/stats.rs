//! Figures of the sandbox.

use std::time::Duration;
use wasmtime::Engine;

/// Figures for `/metrics` and `doctor`, as of now.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Version of the WebAssembly engine.
    pub engine_version: &'static str,
    /// Whether instances come from a pool.
    pub pooling: bool,
    /// Why not, where that was not asked for.
    pub fallback: Option<String>,
    /// Runs in progress.
    pub running: usize,
    /// How much later than planned the last epoch tick came.
    pub epoch_lag: Duration,
    /// Bytes that guests hold.
    pub memory_used_bytes: u64,
    /// Bytes that guests may hold.
    pub memory_total_bytes: u64,
    /// Versions whose code is in memory.
    pub loaded_versions: usize,
    /// The pool, if there is one.
    pub pool: Option<PoolStats>,
}

/// Figures of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Core instances in use.
    pub core_instances: u64,
    /// Component instances in use.
    pub component_instances: u64,
    /// Memories in use.
    pub memories: u64,
    /// Tables in use.
    pub tables: u64,
    /// Stacks in use.
    pub stacks: u64,
    /// Free memories that are kept warm.
    pub warm_memories: u64,
    /// Bytes resident in them.
    pub warm_resident_bytes: u64,
}

pub(crate) fn pool(engine: &Engine) -> Option<PoolStats> {
    let metrics = engine.pooling_allocator_metrics()?;
    Some(PoolStats {
        core_instances: metrics.core_instances(),
        component_instances: metrics.component_instances(),
        memories: metrics.memories() as u64,
        tables: metrics.tables() as u64,
        stacks: metrics.stacks() as u64,
        warm_memories: u64::from(metrics.unused_warm_memories()),
        warm_resident_bytes: metrics.unused_memory_bytes_resident() as u64,
    })
}
