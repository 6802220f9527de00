//! The engine: the same code-generation settings everywhere, so that what the compile worker makes
//! runs here; instances from a pool where the address space allows it.

use crate::settings::{Pooling, SandboxError};
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Memory, MemoryType, OptLevel,
    PoolingAllocationConfig, Store, WasmBacktraceDetails,
};

/// Version of the engine, recorded with each attempt.
pub const ENGINE_VERSION: &str = "48.0.8";

/// Core instances, memories and tables one component may have at all: more cannot be allowed by any limit.
/// How many a run may have is told by its limits.
const CORE_INSTANCES_PER_COMPONENT: u32 = 1000;
const MEMORIES_PER_COMPONENT: u32 = 100;
const TABLES_PER_COMPONENT: u32 = 1000;
/// Elements of one table in the pool; where `memory_bytes` would allow more, growth is refused all the same.
const TABLE_ELEMENTS: usize = 100_000;
/// What runs with default limits may have, so that they never find the pool empty. Only address space.
const MEMORIES_PER_SLOT: u32 = 16;
const INSTANCES_PER_SLOT: u32 = 64;
const TABLES_PER_SLOT: u32 = 64;
/// Free memories that keep up to 2 MiB resident each: 128 MiB for the whole host.
const WARM_MEMORIES: u32 = 64;
/// Address space of one memory slot: 4 GiB, and the guard behind it.
const MEMORY_SLOT_BYTES: u64 = (4 << 30) + GUARD_BYTES;
const GUARD_BYTES: u64 = 32 << 20;
/// The pool never reserves more than this much address space (64 TiB of the 128 there are).
const MAX_RESERVED_BITS: u32 = 46;

/// What code generation depends on beside the fixed settings. The parent decides it and the compile
/// worker is told, so that both have the same compatibility hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeProfile {
    /// Memories do not reserve 4 GiB of address space each; accesses are checked explicitly. For
    /// machines and containers with little address space.
    pub(crate) small_address_space: bool,
}

/// An engine and how it allocates.
#[derive(Clone)]
pub(crate) struct HostEngine {
    pub(crate) engine: Engine,
    pub(crate) profile: CodeProfile,
    /// Whether instances come from a pool.
    pub(crate) pooling: bool,
    /// Why not, where that was not asked for.
    pub(crate) fallback: Option<String>,
}

impl HostEngine {
    /// The engine that runs guests.
    pub(crate) fn for_runs(pooling: Pooling, slots: usize) -> Result<Self, SandboxError> {
        let normal = CodeProfile {
            small_address_space: false,
        };
        let reserved_bits = pool_bits(slots);
        let roomy = address_space_allows(reserved_bits.max(38));
        let attempt = match pooling {
            Pooling::Off => Err(None),
            Pooling::Auto if !roomy => Err(Some(format!(
                "2^{reserved_bits} bytes of address space cannot be reserved"
            ))),
            Pooling::Auto | Pooling::On => {
                pooled(normal, slots).map_err(|error| Some(format!("{error:#}")))
            }
        };
        let fallback = match attempt {
            Ok(engine) => {
                return Ok(Self {
                    engine,
                    profile: normal,
                    pooling: true,
                    fallback: None,
                });
            }
            Err(Some(reason)) if pooling == Pooling::On => {
                return Err(SandboxError::Engine(reason));
            }
            Err(reason) => reason,
        };
        let profile = CodeProfile {
            small_address_space: !roomy,
        };
        let engine = on_demand(profile)?;
        Ok(Self {
            engine,
            profile,
            pooling: false,
            fallback,
        })
    }
}

/// An engine with the code-generation settings of `profile` that allocates on demand: for the compile
/// worker and where there is no room for a pool.
pub(crate) fn on_demand(profile: CodeProfile) -> Result<Engine, SandboxError> {
    Engine::new(&config(profile)).map_err(|error| SandboxError::Engine(format!("{error:#}")))
}

fn config(profile: CodeProfile) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .parallel_compilation(true)
        .memory_init_cow(true)
        .memory_guard_size(GUARD_BYTES)
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        // Set, because the default asks an environment variable. Function names come from the name
        // section; DWARF of strangers is not parsed in this process.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    if profile.small_address_space {
        config
            .memory_reservation(0)
            .memory_reservation_for_growth(1 << 20)
            .memory_guard_size(64 << 10)
            .memory_may_move(true);
    }
    config
}

fn pooled(profile: CodeProfile, slots: usize) -> wasmtime::Result<Engine> {
    let slots = pool_slots(slots);
    let memories = pool_memories(slots);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_core_instances(slots.saturating_mul(INSTANCES_PER_SLOT))
        .total_memories(memories)
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(memories.min(WARM_MEMORIES))
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes);
    }
    let mut config = config(profile);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// A few more than may run, so that runs being dropped do not hold up new ones.
fn pool_slots(slots: usize) -> u32 {
    u32::try_from(slots).unwrap_or(u32::MAX / 64).min(100_000) + 8
}

fn pool_memories(slots: u32) -> u32 {
    let most = (1_u64 << MAX_RESERVED_BITS) / MEMORY_SLOT_BYTES;
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    (slots.saturating_mul(MEMORIES_PER_SLOT)).min(most.max(slots))
}

fn pool_bits(slots: usize) -> u32 {
    let memories = pool_memories(pool_slots(slots));
    (u64::from(memories) * MEMORY_SLOT_BYTES)
        .next_power_of_two()
        .trailing_zeros()
}

/// Whether 2^`bits` bytes of address space can be reserved, found out by reserving them.
fn address_space_allows(bits: u32) -> bool {
    let mut config = Config::new();
    config.wasm_memory64(true).memory_reservation(1_u64 << bits);
    let Ok(engine) = Engine::new(&config) else {
        return false;
    };
    let mut store = Store::new(&engine, ());
    // The maximum is in pages of 64 KiB.
    let memory = MemoryType::new64(0, Some(1_u64 << (bits - 16)));
    Memory::new(&mut store, memory).is_ok()
}

/// A name for the engine's version and code-generation settings: artifacts made under one name cannot
/// be used under another.
pub(crate) fn compatibility(engine: &Engine) -> String {
    let mut hasher = Blake3Hasher(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().to_hex()[..16].to_owned()
}

/// `std::hash::Hash` fed into BLAKE3, so that the name is stable between processes.
struct Blake3Hasher(blake3::Hasher);

impl Hasher for Blake3Hasher {
    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes()[..8]
            .iter()
            .fold(0, |n, byte| (n << 8) | u64::from(*byte))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: CodeProfile = CodeProfile {
        small_address_space: false,
    };

    #[test]
    fn pool_and_worker_make_the_same_code() {
        let pool = pooled(NORMAL, 4).expect("a pool of 12");
        let worker = on_demand(NORMAL).expect("an engine");
        assert_eq!(compatibility(&pool), compatibility(&worker));
        let small = on_demand(CodeProfile {
            small_address_space: true,
        });
        assert_ne!(
            compatibility(&small.expect("an engine")),
            compatibility(&worker)
        );
        let component = crate::testing::component("(component)");
        let from_pool = pool.precompile_component(&component).expect("compiles");
        let from_worker = worker.precompile_component(&component).expect("compiles");
        assert!(from_pool == from_worker, "artifacts differ");
    }

    #[test]
    fn a_pool_that_does_not_fit_falls_back_and_says_why() {
        assert!(!address_space_allows(50));
        let auto = HostEngine::for_runs(Pooling::Auto, 2).expect("an engine");
        assert!(auto.pooling || auto.fallback.is_some());
        let off = HostEngine::for_runs(Pooling::Off, 2).expect("an engine");
        assert!(!off.pooling && off.fallback.is_none());
    }

    #[test]
    fn a_pool_of_thousands_fits_where_one_of_a_hundred_does() {
        assert_eq!(pool_bits(2000), MAX_RESERVED_BITS);
        if address_space_allows(MAX_RESERVED_BITS) {
            for slots in [256, 512, 2000] {
                let host = HostEngine::for_runs(Pooling::Auto, slots).expect("an engine");
                assert!(host.pooling, "{slots}: {:?}", host.fallback);
            }
        }
    }

    #[test]
    fn the_version_named_is_the_one_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let linked = format!("name = \"wasmtime\"\nversion = \"{ENGINE_VERSION}\"");
        assert!(lock.contains(&linked));
    }
}
