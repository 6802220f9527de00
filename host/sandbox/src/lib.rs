//! Runs Horarium's guests: WebAssembly components, each attempt in a fresh sandbox under fuel, time
//! and memory limits, with no more than what was granted. The only crate that knows the engine.
//!
//! The way of one attempt: [`Sandbox`] loads the version's code (`versions`, `aot`), `run` makes a store
//! under every limit and calls the guest, `classify` says how it ended. The way of a new component:
//! `worker` starts a child in which `intake` checks it and the compiler and `describe` run.

// What users, guests, disks and databases bring ends in an error, never in a panic.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod aot;
mod artifact;
mod bindings;
mod capability;
mod classify;
pub mod connector;
mod cpu;
mod data;
mod engine;
mod epoch;
#[doc(hidden)]
pub mod fuzz;
mod intake;
mod limiter;
mod loaded;
#[cfg(test)]
mod program_tests;
mod run;
mod sandbox;
mod schema;
mod schemas;
mod settings;
mod stats;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod versions;
pub mod worker;
pub mod yardstick;

pub use engine::ENGINE_VERSION;
pub use sandbox::Sandbox;
pub use settings::{ObserverRef, Pooling, SandboxError, SandboxSettings, WorkerCommand};
pub use stats::{PoolStats, Stats};
