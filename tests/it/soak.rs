//! Short forms of the long tests: `cargo xtask soak` runs the same for longer.

use crate::support::{plugin, root};
use horarium_soak::{Build, chaos, idle, prune};
use std::path::PathBuf;
use std::time::Duration;

fn build() -> Build {
    // Says what to do when they are not built.
    plugin("hostile/sleep");
    Build {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_horarium")),
        plugins: root().join("target/plugins"),
    }
}

#[test]
fn chaos_loses_and_doubles_nothing() {
    let options = chaos::Options {
        build: build(),
        seed: 3,
        span: Duration::from_secs(40),
        executions: 1200,
        slots_per_minute: 500,
        hosts: 4,
        slots: 16,
    };
    let report = chaos::run(&options, &|line| eprintln!("{line}"))
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert!(report.holds(), "{}", report.table());
}

#[test]
fn idle_hosts_leave_the_database_alone() {
    let options = idle::Options {
        build: build(),
        span: Duration::from_secs(25),
        configs: 100_000,
        types: 50,
    };
    let report = idle::run(&options, &|line| eprintln!("{line}"))
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert!(report.holds(), "{}", report.table());
}

/// How long anything took is no matter here: other tests run beside it.
#[test]
fn pruning_removes_what_is_old_from_both_databases() {
    let options = prune::Options {
        rows: 3000,
        span: Duration::from_millis(300),
    };
    let report = prune::run(&options, &|line| eprintln!("{line}"))
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert!(report.is_complete(), "{}", report.table());
}
