//! Parsing, compiling and describing untrusted components, and checking schemas that cannot be
//! weighed: in a child process with nothing to steal and hard limits, or in this process for trusted
//! components and tests.

mod child;
mod parent;
mod protocol;
mod steps;

pub use child::worker_main;
pub(crate) use parent::{Compiled, Pending, Workers};
