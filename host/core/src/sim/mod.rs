//! The simulator: the real scheduler and executor on a simulated clock, over the memory store, with seeded
//! faults. One seed is one history; days pass in milliseconds; a failing seed repeats exactly.
//!
//! A [`World`] holds what survives a crash (the store, the clock, what guests really did); the hosts in it can be
//! killed at any instant and started again, stopped for longer than their lease, and cut off from the database.

mod checks;
mod clock;
mod faults;
mod gate;
#[cfg(test)]
mod histories;
mod host;
mod ledger;
mod mutants;
mod rules;
mod runner;
#[cfg(test)]
mod tests;
mod witness;
mod world;

pub use checks::{check, check_due};
pub use clock::{HostClock, SimClock};
pub use faults::{FaultPlan, FaultyStore, UNWRITABLE};
pub use gate::Gate;
pub use ledger::Ledger;
pub use mutants::{MutantStore, Mutation};
pub use rules::Rules;
pub use runner::{GuestRun, SimRunner};
pub use witness::{Testimony, WitnessStore};
pub use world::{Scenario, TYPE, World};
