//! The real binary, from outside: a server process, the command line and REST.
//!
//! The guests come from `cargo xtask plugins`; each test has a server and a data directory of its own.

mod harness;

mod architecture;
mod bad_components;
mod bad_input;
mod crash;
mod deletion;
mod endless;
mod main_path;
mod offline;
mod parameters;
mod retries;
mod surfaces;
