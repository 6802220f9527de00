//! The heart of Horarium: the scheduler and the executor over three traits, [`store::Store`],
//! [`runner::Runner`] and [`clock::Clock`]. It links neither a database nor an engine, so its simulator
//! runs years in seconds.
//!
//! The way of one execution: [`scheduler`] fires -> `Queue::fire_due` -> [`executor`] claims ->
//! `Runner::run` -> `Queue::complete_many`.

// What users, guests, disks and databases bring ends in an error, never in a panic.
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod access;
pub mod caretaker;
pub mod clock;
pub mod config_cache;
pub mod control;
pub mod executor;
pub mod memory;
pub mod observe;
pub mod registry;
pub mod runner;
pub mod scheduler;
pub mod secrets;
pub mod service;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::expect_used, reason = "a test, for other crates")]
pub mod sim;
pub mod store;
pub mod trace;
pub mod wake;
