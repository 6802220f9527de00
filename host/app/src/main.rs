//! The program `horarium`: server, command line and compile worker in one binary.

// What users, guests, disks and databases bring ends in an error, never in a panic.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod cli;
mod client;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The child that parses strangers' components starts with nothing done and nothing read.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == horarium::app::WORKER_ARGUMENT)
    {
        return horarium_sandbox::worker::worker_main();
    }
    cli::main()
}
