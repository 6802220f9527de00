//! How each hostile guest ends: its exact kind, and nothing of it left behind.

use super::written::{guest, register};
use super::{failed_with, figure};
use crate::support::{Host, HostBuilder, until};

/// Guest, kind, and words of the message.
const WRITTEN: &[(&str, &str, &str)] = &[
    ("start_spin", "timeout", "1 s"),
    ("start_trap", "trap", "unreachable"),
    ("post_spin", "timeout", "1 s"),
    ("post_trap", "trap", "unreachable"),
    ("fill_spin", "timeout", "1 s"),
    ("realloc_spin", "timeout", "1 s"),
    ("realloc_lies", "trap", "realloc"),
    ("string_lies", "trap", "out of bounds"),
    ("not_utf8", "trap", "utf-8"),
    ("bad_case", "trap", "discriminant"),
    ("deep", "trap", "call stack exhausted"),
    ("long_names", "trap", "unreachable"),
    ("grow", "memory_limit", "memory_bytes"),
    ("memories_sum", "memory_limit", "memory_bytes"),
    ("tables_sum", "memory_limit", "memory_bytes"),
    ("many_memories", "host_limit", "16 memories"),
    ("many_tables", "host_limit", "64 tables"),
    ("many_instances", "host_limit", "64 instances"),
    ("giant_return", "output_limit", "result_bytes"),
];

#[test]
fn every_written_guest_ends_with_its_kind() {
    let host = HostBuilder::default().flag("--slots", "4").start();
    let mut started = Vec::new();
    for (name, ..) in WRITTEN {
        register(&host, name, &guest(name), "").exits(0);
        let task = host.create(&format!(
            "--name {name} --type {name} --timeout 1 --max-retries 0"
        ));
        started.push(host.trigger(task));
    }
    for ((name, kind, words), id) in WRITTEN.iter().zip(&started) {
        let ended = host.ended(id);
        failed_with(&ended, kind, words);
        let seconds = ended["duration_seconds"].as_f64().expect("a number");
        // Generous: four at once on a machine that does other things too.
        assert!(seconds < 30.0, "{name} took {seconds} s");
        if let Some(traceback) = ended["error_traceback"].as_str() {
            assert!(
                traceback.len() < 32 << 10,
                "{name}: {} bytes",
                traceback.len()
            );
        }
    }
    // The usage says so beside what was allowed, for each attempt too.
    let grown = host.execution(&started[12]);
    assert_eq!(grown["limits"]["memory_bytes"], 64 << 20, "{grown:#}");
    assert_eq!(grown["timeout_seconds"], 1);
    let attempt = &host.attempts(&started[12])[0];
    assert_eq!(attempt["limits"], grown["limits"], "{attempt:#}");
    let shown = host
        .cli(&format!("execution show {}", started[12]))
        .exits(0);
    assert!(shown.stdout.contains(" / 64 MiB"), "{shown:#?}");
    nothing_is_held(&host);
}

#[test]
fn what_no_limit_could_allow_is_refused_at_registration() {
    let host = Host::start();
    for (name, words) in [("huge_table", "table"), ("huge_memory", "memory")] {
        let refused = register(&host, name, &guest(name), "").exits(2);
        refused.complains(&["cannot be loaded", words]);
    }
}

#[test]
fn guests_that_hoard_the_hosts_memory_are_stopped() {
    let host = HostBuilder::default().flag("--slots", "4").start();
    host.register("hostile/hoard", "--grant-asked");
    for (thing, words) in [
        ("timers", "10000 handles"),
        ("headers", "hostcall_bytes"),
        ("methods", "hostcall_bytes"),
        ("bodies", "hostcall_bytes"),
        ("fields", "headers"),
    ] {
        let ended = host.run_once(&format!("--type hoard --set thing={thing} --max-retries 0"));
        failed_with(&ended, "host_limit", words);
    }
    for thing in ["keys", "state"] {
        let ended = host.run_once(&format!("--type hoard --set thing={thing} --max-retries 0"));
        assert_eq!(ended["result"]["refusal"], "quota", "{ended:#}");
    }
    nothing_is_held(&host);
}

#[test]
fn deep_json_handed_over_on_a_full_stack_is_the_guests_own_problem() {
    let host = Host::start();
    host.register("hostile/deep", "");
    for depth in [126, 4000] {
        let ended = host.run_once(&format!(
            "--type deep --set json_depth={depth} --max-retries 0"
        ));
        failed_with(&ended, "trap", "call stack exhausted");
    }
    assert_eq!(host.get("/healthz").status, 200);
}

/// All memory, instances and stacks are given back.
pub(super) fn nothing_is_held(host: &Host) {
    for name in [
        "horarium_guest_memory_bytes",
        "horarium_pool_memories",
        "horarium_pool_stacks",
        "horarium_executor_running",
    ] {
        until(&format!("{name} to be 0"), || {
            (figure(host, name) == 0.0).then_some(())
        });
    }
}
