//! Everything hostile at once, on a server that has other work to do: eight innocent tasks on schedule. And
//! many runs of every kind, after which nothing is left.

use super::ends::nothing_is_held;
use super::written::{guest, register};
use crate::support::{Host, HostBuilder, Memory, text, until};
use serde_json::{Value, json};

/// `engine.memory` of the server.
const ENGINE: u64 = 512 << 20;
/// What the host itself may need beside it (issue: 300 MiB).
const BESIDE: u64 = 300 << 20;

/// Type and flags of each hostile task.
const HOSTILE: &[(&str, &str)] = &[
    ("spin", "--timeout 2"),
    ("burn", "--limit fuel=500000000"),
    ("hog", "--set bytes=1073741824"),
    ("hog", "--set bytes=1073741824 --limit memory_bytes=256MiB"),
    ("bigresult", "--set bytes=3000000"),
    (
        "chatty",
        "--set log_bytes=20000000 --set stderr_bytes=20000000 --timeout 20",
    ),
    ("deep", "--set json_depth=126"),
    ("exit", "--set code=0"),
    ("panic", ""),
    ("forge", ""),
    ("sleep", "--timeout 2"),
    ("hoard", "--set thing=timers"),
    ("hoard", "--set thing=headers"),
    ("hoard", "--set thing=methods"),
    ("hoard", "--set thing=bodies"),
    ("hoard", "--set thing=keys"),
    ("start_spin", "--timeout 2"),
    ("post_spin", "--timeout 2"),
    ("fill_spin", "--timeout 2"),
    ("grow", ""),
    ("memories_sum", ""),
    ("many_memories", ""),
    ("many_instances", ""),
    ("giant_return", ""),
    ("long_names", ""),
];

/// Built from Rust.
const BUILT: &[&str] = &[
    "spin",
    "burn",
    "hog",
    "bigresult",
    "chatty",
    "deep",
    "exit",
    "panic",
    "forge",
    "sleep",
    "hoard",
];

fn server() -> Host {
    let host = HostBuilder::default()
        .flag("--slots", "16")
        .setting("engine.memory", &ENGINE.to_string())
        .start();
    host.register("hello", "");
    for name in BUILT {
        let flags = if *name == "hoard" {
            "--grant state"
        } else {
            ""
        };
        host.register(&format!("hostile/{name}"), flags);
    }
    let mut written: Vec<&str> = HOSTILE.iter().map(|(name, _)| *name).collect();
    written.retain(|name| !BUILT.contains(name));
    for name in written {
        register(&host, name, &guest(name), "").exits(0);
    }
    host
}

fn tasks(host: &Host) -> Vec<i64> {
    let create = |(name, flags): &(&str, &str)| {
        host.create(&format!(
            "--name {name} --type {name} --max-retries 0 {flags}"
        ))
    };
    HOSTILE.iter().map(create).collect()
}

#[test]
fn innocent_neighbours_run_on_time_through_all_of_it() {
    let host = server();
    let innocents: Vec<i64> = (0..8)
        .map(|n| {
            host.create(&format!(
                "--name Innocent{n} --type hello --set n=10 --cron '* * * * * *' --timezone UTC --priority 10"
            ))
        })
        .collect();
    let hostile = tasks(&host);
    let triggered: Vec<String> = hostile.iter().map(|task| host.trigger(*task)).collect();
    for id in &triggered {
        let ended = host.ended(id);
        assert_ne!(ended["error_kind"], "host_error", "{ended:#}");
    }
    // A few more seconds, so that each innocent had its turns.
    until("twelve turns", || {
        (host
            .executions(&format!("config={}&state=succeeded", innocents[0]))
            .len()
            >= 12)
            .then_some(())
    });
    let mut late: Vec<f64> = Vec::new();
    for task in &innocents {
        host.run(&format!("task pause {task}"));
        for execution in host.executions(&format!("config={task}")) {
            let state = text(&execution, "state");
            assert!(state != "failed" && state != "cancelled", "{execution:#}");
            late.extend(lateness(&execution));
        }
    }
    late.sort_by(f64::total_cmp);
    let at = |part: f64| late[((late.len() - 1) as f64 * part) as usize] * 1e3;
    eprintln!(
        "lateness of {} innocent runs: p50 {:.0} ms, p90 {:.0} ms, max {:.0} ms (goal: under 250 ms)",
        late.len(),
        at(0.5),
        at(0.9),
        at(1.0)
    );
    let memory = host.memory();
    eprintln!(
        "resident: {} MiB now, {} MiB at most, of {} MiB allowed",
        memory.resident >> 20,
        memory.peak >> 20,
        (ENGINE + BESIDE) >> 20
    );
    assert!(memory.peak < ENGINE + BESIDE, "{memory:?}");
    nothing_is_held(&host);
    assert!(memory.resident < BESIDE, "it comes back: {memory:?}");
}

/// From the slot to the start, in seconds.
fn lateness(execution: &Value) -> Option<f64> {
    let micros = |key: &str| {
        let at = execution[key].as_str()?;
        chrono::DateTime::parse_from_rfc3339(at)
            .ok()
            .map(|at| at.timestamp_micros())
    };
    Some((micros("started_at")? - micros("slot")?) as f64 / 1e6)
}

#[test]
fn many_mixed_runs_leak_nothing() {
    // `cargo xtask soak hostile` asks for ten thousand.
    let runs: usize = std::env::var("HORARIUM_SOAK_RUNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(150);
    let host = server();
    let hello = host.create("--name Honest --type hello --set n=10");
    // Those that take their time would make ten thousand take a day.
    let quick = HOSTILE.iter().zip(tasks(&host));
    let (names, quick): (Vec<&str>, Vec<i64>) = quick
        .filter(|((name, flags), _)| !flags.contains("--timeout") && *name != "burn")
        .map(|((name, _), task)| (*name, task))
        .unzip();
    // Of plugins that keep failing the breaker would let one run every few minutes.
    let insist = || {
        for name in &names {
            host.post(&format!("/v1/task-types/{name}/breaker/reset"), &json!({}))
                .is(200);
        }
    };
    let round = |count: usize| {
        let mut waiting = Vec::new();
        for n in 0..count {
            let task = if n % 2 == 0 {
                hello
            } else {
                quick[(n / 2) % quick.len()]
            };
            waiting.push(host.trigger(task));
            if waiting.len() == 64 {
                for id in waiting.drain(..) {
                    host.ended(&id);
                }
                insist();
            }
        }
        for id in waiting {
            host.ended(&id);
        }
        insist();
        nothing_is_held(&host);
    };
    // The first rounds load code, start threads, fill pools.
    round(quick.len() * 2);
    let before = (
        host.descriptors(),
        host.threads(),
        host.files(),
        host.memory(),
    );
    round(runs);
    let after = (
        host.descriptors(),
        host.threads(),
        host.files(),
        host.memory(),
    );
    let told = |(descriptors, threads, files, memory): &(usize, usize, Vec<String>, Memory)| {
        let [resident, peak] = [memory.resident, memory.peak].map(|bytes| bytes >> 20);
        format!(
            "{descriptors} descriptors, {threads} threads, {} files, {resident} MiB resident, {peak} MiB at most",
            files.len()
        )
    };
    eprintln!(
        "before: {}\nafter {runs} runs: {}",
        told(&before),
        told(&after)
    );
    assert!(
        after.0 <= before.0 + 8,
        "descriptors: {} then {}",
        before.0,
        after.0
    );
    assert!(
        after.1 <= before.1 + 8,
        "threads: {} then {}",
        before.1,
        after.1
    );
    assert_eq!(after.2, before.2, "files");
    until("no process is left", || {
        (host.children() == 0).then_some(())
    });
    assert!(
        after.3.resident < before.3.resident + (96 << 20),
        "{:?} then {:?}",
        before.3,
        after.3
    );
}
