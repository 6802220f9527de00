//! Runs of real components through the whole sandbox.

use crate::Sandbox;
use crate::testing::{Guest, attempt, failure, register, run, sandbox, settings};
use horarium_core::clock::{Clock, SystemClock};
use horarium_core::control::{RunControl, StopReason};
use horarium_core::runner::{AttemptEnd, Outcome, Runner, StateEntry, StateSnapshot};
use horarium_model::{ErrorKind, Limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Runs a guest with default limits changed by `change`.
async fn limited(guest: Guest<'_>, change: impl FnOnce(&mut Limits)) -> Outcome {
    let sandbox = sandbox(settings());
    let version = register(&sandbox, guest.component()).await;
    let mut attempt = attempt(&version, r#"{"a":1}"#);
    change(&mut attempt.limits);
    run(&sandbox, attempt).await.0
}

fn kind(outcome: &Outcome) -> ErrorKind {
    failure(outcome).kind
}

const LOOP: &str = "(loop $again (br $again)) (unreachable)";

#[tokio::test]
async fn a_task_gets_its_parameters_and_answers() {
    let outcome = limited(Guest::default(), |_| {}).await;
    assert_eq!(outcome.end, AttemptEnd::Succeeded(Arc::from(r#"{"a":1}"#)));
    let usage = outcome.usage;
    assert!(
        usage.fuel > 0 && usage.memory_peak_bytes >= 65_536,
        "{usage:?}"
    );
    assert_eq!(
        (usage.host_version.as_str(), usage.engine_version.as_str()),
        ("test", "48.0.8")
    );
    assert_eq!(outcome.state, None);
}

#[tokio::test]
async fn a_loop_is_interrupted_at_the_deadline_with_its_backtrace() {
    let guest = Guest {
        run: LOOP,
        ..Guest::default()
    };
    let sandbox = sandbox(settings());
    let version = register(&sandbox, guest.component()).await;
    let mut attempt = attempt(&version, "{}");
    attempt.timeout = Duration::from_millis(500);
    let (outcome, _) = run(&sandbox, attempt).await;
    let failure = failure(&outcome);
    assert_eq!(failure.kind, ErrorKind::Timeout);
    assert_eq!(failure.message, "timeout: still running after 0.5 s");
    let traceback = failure.traceback.as_deref().expect("a backtrace");
    assert!(traceback.contains("the_run"), "{traceback}");
    assert!(outcome.usage.cpu_seconds > 0.0);
    // Not only what it burnt before it began to loop.
    assert!(outcome.usage.fuel >= 10_000_000, "{:?}", outcome.usage);
}

#[tokio::test]
async fn a_loop_lets_others_run_and_stops_when_cancelled() {
    let guest = Guest {
        run: LOOP,
        ..Guest::default()
    };
    let sandbox = sandbox(settings());
    let version = register(&sandbox, guest.component()).await;
    let control = Arc::new(RunControl::new(1024, 1));
    let running = tokio::spawn({
        let (sandbox, control, attempt) =
            (sandbox.clone(), control.clone(), attempt(&version, "{}"));
        async move { sandbox.run(attempt, control).await }
    });
    // On a runtime of one thread, this ends only because the guest gives way.
    while sandbox.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    control.stop(StopReason::Cancel);
    let outcome = running.await.expect("no panic");
    assert_eq!(outcome.end, AttemptEnd::Stopped(StopReason::Cancel));
}

#[tokio::test]
async fn a_wait_on_the_host_ends_at_the_deadline() {
    let guest = Guest {
        imports: r#"
            (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $wait (param i64) (result i32)))
            (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#,
        run: "(call $block (call $wait (i64.const 3600000000000))) (unreachable)",
        ..Guest::default()
    };
    let sandbox = sandbox(settings());
    let version = register(&sandbox, guest.component()).await;
    let mut attempt = attempt(&version, "{}");
    attempt.timeout = Duration::from_millis(50);
    let (outcome, _) = run(&sandbox, attempt).await;
    assert_eq!(kind(&outcome), ErrorKind::Timeout);
    assert!(outcome.usage.fuel > 0);
}

#[tokio::test]
async fn fuel_is_the_budget() {
    let guest = Guest {
        run: LOOP,
        ..Guest::default()
    };
    let outcome = limited(guest, |limits| limits.fuel = 1_000_000).await;
    assert_eq!(kind(&outcome), ErrorKind::OutOfFuel);
    assert_eq!(outcome.usage.fuel, 1_000_000);
}

#[tokio::test]
async fn memory_is_one_sum_and_its_refusal_is_remembered() {
    // Grows until refused, then traps on something else.
    let guest = Guest {
        run: "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)",
        ..Guest::default()
    };
    let outcome = limited(guest, |limits| limits.memory_bytes = 1 << 20).await;
    assert_eq!(kind(&outcome), ErrorKind::MemoryLimit);
    assert!(
        failure(&outcome).message.contains("1048576"),
        "{:?}",
        failure(&outcome)
    );
    assert_eq!(outcome.usage.memory_peak_bytes, 1 << 20);
    let outcome = limited(Guest::default(), |limits| limits.memory_bytes = 1000).await;
    assert_eq!(kind(&outcome), ErrorKind::MemoryLimit);
}

#[tokio::test]
async fn an_empty_host_budget_hands_the_run_back() {
    let mut settings = settings();
    settings.memory_bytes = 1000;
    let sandbox = sandbox(settings);
    let version = register(&sandbox, Guest::default().component()).await;
    let (outcome, _) = run(&sandbox, attempt(&version, "{}")).await;
    assert!(
        matches!(&outcome.end, AttemptEnd::NoMemory(reason) if reason.starts_with("host_memory: ")),
        "{:?}",
        outcome.end
    );
    assert_eq!(sandbox.stats().memory_used_bytes, 0);
    // What it would have needed is what is reserved for the next.
    assert_eq!(sandbox.expected_memory(&version), 65_536 + 65_536 / 4);
}

#[tokio::test]
async fn traps_name_themselves_and_their_function() {
    let guest = Guest {
        run: "(i32.div_u (i32.const 1) (i32.const 0))",
        ..Guest::default()
    };
    let outcome = limited(guest, |_| {}).await;
    let failed = failure(&outcome);
    assert_eq!(
        (failed.kind, failed.message.as_str()),
        (ErrorKind::Trap, "trap: integer divide by zero")
    );
    assert!(
        failed
            .traceback
            .as_deref()
            .is_some_and(|t| t.contains("the_run"))
    );
    let deep = Guest {
        run: "(call $the_run (local.get $ptr) (local.get $len))",
        ..Guest::default()
    };
    let outcome = limited(deep, |_| {}).await;
    assert_eq!(failure(&outcome).message, "trap: call stack exhausted");
}

#[tokio::test]
async fn results_pass_their_size_and_the_door() {
    let outcome = limited(Guest::default(), |limits| limits.result_bytes = 3).await;
    assert_eq!(kind(&outcome), ErrorKind::OutputLimit);
    for (text, part) in [
        ("{\\22a\\22:1,\\22a\\22:2}", "twice"),
        ("nope", "not valid JSON"),
        ("\\ff", "UTF-8"),
    ] {
        let more = format!("(data (i32.const 2048) \"{text}\")");
        let len = text.replace("\\22", "'").replace("\\ff", "f").len();
        let body = format!("(call $ok (i32.const 2048) (i32.const {len}))");
        let guest = Guest {
            more: &more,
            run: &body,
            ..Guest::default()
        };
        let outcome = limited(guest, |_| {}).await;
        let failed = failure(&outcome);
        if text == "\\ff" {
            // The component model itself refuses such a string.
            assert_eq!(failed.kind, ErrorKind::Trap);
        } else {
            assert_eq!(failed.kind, ErrorKind::InvalidResult);
            assert!(failed.message.contains(part), "{}", failed.message);
        }
    }
    let mut oversized = limited(Guest::default(), |limits| limits.parameters_bytes = 3).await;
    assert_eq!(kind(&oversized), ErrorKind::InvalidParameters);
    oversized = limited(Guest::default(), |limits| limits.hostcall_bytes = 3).await;
    assert_eq!(kind(&oversized), ErrorKind::HostLimit);
    assert!(failure(&oversized).message.contains("hostcall_bytes"));
}

#[tokio::test]
async fn task_errors_keep_their_class_code_and_details() {
    let more = r#"(data (i32.const 2048) "no\1b[31m luck" "slow" "{\22n\22:1}")"#;
    let body = |retry: u32| {
        format!(
            "(i32.store8 (i32.const 1024) (i32.const 1))
             (i32.store (i32.const 1032) (i32.const 2048)) (i32.store (i32.const 1036) (i32.const 12))
             (i32.store8 (i32.const 1040) (i32.const {retry})) (i64.store (i32.const 1048) (i64.const 1500))
             (i32.store8 (i32.const 1056) (i32.const 1))
             (i32.store (i32.const 1060) (i32.const 2060)) (i32.store (i32.const 1064) (i32.const 4))
             (i32.store8 (i32.const 1068) (i32.const 1))
             (i32.store (i32.const 1072) (i32.const 2064)) (i32.store (i32.const 1076) (i32.const 7))
             (i32.const 1024)"
        )
    };
    let expected = [
        (ErrorKind::Retryable, None),
        (ErrorKind::Permanent, None),
        (ErrorKind::Retryable, Some(Duration::from_millis(1500))),
    ];
    for (retry, (kind, not_before)) in (0..).zip(expected) {
        let run = body(retry);
        let outcome = limited(
            Guest {
                more,
                run: &run,
                ..Guest::default()
            },
            |_| {},
        )
        .await;
        let failed = failure(&outcome);
        assert_eq!((failed.kind, failed.not_before), (kind, not_before));
        assert_eq!(failed.message, "no\u{FFFD}[31m luck");
        assert_eq!(failed.code.as_deref(), Some("slow"));
        assert_eq!(failed.details, Some(serde_json::json!({"n": 1})));
    }
}

#[tokio::test]
async fn host_limits_are_told_apart_by_the_engines_words() {
    let random = Guest {
        imports: r#"(import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))"#,
        run: "(call $random (i64.const 2000000) (i32.const 1200)) (unreachable)",
        ..Guest::default()
    };
    let handles = Guest {
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $wait (param i64) (result i32)))"#,
        run: "(loop $more (drop (call $wait (i64.const 1))) (br $more)) (unreachable)",
        ..Guest::default()
    };
    for (guest, name) in [(random, "random_bytes"), (handles, "handles")] {
        let outcome = limited(guest, |limits| limits.handles = 20).await;
        let failed = failure(&outcome);
        assert_eq!(failed.kind, ErrorKind::HostLimit, "{failed:?}");
        assert!(failed.message.contains(name), "{}", failed.message);
    }
    for name in ["memories", "instances"] {
        let outcome = limited(Guest::default(), |limits| match name {
            "memories" => limits.memories = 0,
            _ => limits.instances = 0,
        })
        .await;
        assert_eq!(
            kind(&outcome),
            ErrorKind::HostLimit,
            "{:?}",
            failure(&outcome)
        );
        assert!(failure(&outcome).message.contains(name));
    }
}

#[tokio::test]
async fn exit_inside_run_is_no_way_to_return() {
    let guest = Guest {
        imports: r#"(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))"#,
        run: "(call $exit (i32.const 0)) (unreachable)",
        ..Guest::default()
    };
    let outcome = limited(guest, |_| {}).await;
    assert_eq!(kind(&outcome), ErrorKind::Exit);
    assert!(failure(&outcome).message.contains("exit(0)"));
}

/// Sets state key `k` to the parameters; answers its first byte as a number of the outcome.
const SETS_STATE: Guest<'_> = Guest {
    imports: r#"(import "horarium:task/state@1.0.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#,
    more: r#"(data (i32.const 2048) "k01")"#,
    run: "(call $set (i32.const 2048) (i32.const 1) (local.get $ptr) (local.get $len) (i32.const 1200))
          (call $ok (i32.add (i32.const 2049) (i32.load8_u (i32.const 1200))) (i32.const 1))",
};

#[tokio::test]
async fn state_is_committed_with_success_and_refused_without_grant() {
    let sandbox = sandbox(settings());
    let version = register(&sandbox, SETS_STATE.component()).await;
    let (refused, _) = run(&sandbox, attempt(&version, "{}")).await;
    assert_eq!(refused.end, AttemptEnd::Succeeded(Arc::from("1")));
    assert_eq!(refused.state, None);

    let mut granted = attempt(&version, "{}");
    let entry = StateEntry {
        value: b"old".to_vec(),
        version: 4,
    };
    let snapshot = StateSnapshot {
        entries: [("k".to_owned(), entry)].into(),
    };
    granted.state = Some(snapshot);
    let (outcome, _) = run(&sandbox, granted.clone()).await;
    assert_eq!(outcome.end, AttemptEnd::Succeeded(Arc::from("0")));
    let commit = outcome.state.expect("a commit");
    assert_eq!(commit.expected["k"], 4);
    assert_eq!(commit.writes["k"], Some(b"{}".to_vec()));
    assert_eq!(outcome.usage.state_bytes, 3);

    granted.limits.state_bytes = 2;
    granted.state = Some(StateSnapshot::default());
    let (over, _) = run(&sandbox, granted).await;
    assert_eq!(
        (over.end, over.state),
        (AttemptEnd::Succeeded(Arc::from("1")), None)
    );
}

#[tokio::test]
async fn results_and_parameters_are_held_against_the_schemas() {
    let sandbox = sandbox(settings());
    let mut version = register(&sandbox, Guest::default().component()).await;
    version.descriptor.result_schema = Some(serde_json::json!({"required": ["b"]}));
    version.descriptor.parameters_schema =
        Some(serde_json::json!({"properties": {"n": {"type": "integer", "default": 3}}}));
    let (outcome, _) = run(&sandbox, attempt(&version, "{}")).await;
    assert_eq!(kind(&outcome), ErrorKind::InvalidResult);
    let filled = sandbox
        .check_parameters(&version, serde_json::json!({}))
        .await;
    assert_eq!(filled.expect("fits"), serde_json::json!({"n": 3}));
    let wrong = sandbox
        .check_parameters(&version, serde_json::json!({"n": "x"}))
        .await;
    assert_eq!(wrong.expect_err("refused").0[0].pointer, "/n");
}

#[tokio::test]
async fn a_log_flood_is_kept_within_its_budget() {
    let guest = Guest {
        imports: r#"(import "horarium:task/log@1.0.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))"#,
        run: "(local.set $a (i32.const 10000))
              (loop $more
                (call $log (i32.const 2) (i32.const 0) (i32.const 100) (i32.const 0) (i32.const 0) (i32.const 0))
                (br_if $more (local.tee $a (i32.sub (local.get $a) (i32.const 1)))))
              (call $ok (local.get $ptr) (local.get $len))",
        ..Guest::default()
    };
    let outcome = limited(guest, |_| {}).await;
    assert!(
        matches!(outcome.end, AttemptEnd::Succeeded(_)),
        "{:?}",
        outcome.end
    );
    assert_eq!(outcome.usage.log_bytes, 1_000_000);
    assert!(outcome.usage.log_dropped_bytes > 870_000);
}

#[tokio::test]
async fn compiled_code_is_found_again_and_damage_is_mended() {
    let dir = tempfile::tempdir().expect("a directory");
    let aot = || {
        let mut settings = settings();
        settings.aot_dir = Some(dir.path().to_owned());
        sandbox(settings)
    };
    let bytes = Guest::default().component();
    let version = register(&aot(), bytes.clone()).await;
    let (outcome, _) = run(&aot(), attempt(&version, "{}")).await;
    assert!(
        matches!(outcome.end, AttemptEnd::Succeeded(_)),
        "{:?}",
        outcome.end
    );

    let files = std::fs::read_dir(dir.path()).expect("lists");
    let paths = files.map(|entry| entry.expect("an entry").path());
    let path = paths
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "aot"));
    let path = path.expect("an artifact");
    let mut artifact = std::fs::read(&path).expect("reads");
    let middle = artifact.len() / 2;
    artifact[middle] ^= 1;
    std::fs::write(&path, &artifact).expect("writes");

    let again = aot();
    let source: horarium_core::runner::ComponentSource = Arc::new(move || {
        let bytes = bytes.clone();
        Box::pin(async move { Ok(bytes) })
    });
    again.prepare(&version, source).await.expect("prepares");
    let (outcome, _) = run(&again, attempt(&version, "{}")).await;
    assert!(
        matches!(outcome.end, AttemptEnd::Succeeded(_)),
        "{:?}",
        outcome.end
    );
    assert_ne!(std::fs::read(&path).expect("written anew"), artifact);
    assert_eq!(again.stats().loaded_versions, 1);

    std::fs::remove_file(&path).expect("removes");
    let (outcome, _) = run(&aot(), attempt(&version, "{}")).await;
    assert_eq!(kind(&outcome), ErrorKind::LoadFailed);
}

/// A clock whose wall time fails once it is told to: every log line asks for it.
struct Broken(SystemClock, AtomicBool);

#[async_trait::async_trait]
impl Clock for Broken {
    fn now(&self) -> horarium_model::Timestamp {
        assert!(
            !self.1.load(Ordering::SeqCst),
            "the clock fell off the wall"
        );
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    async fn sleep(&self, span: Duration) {
        self.0.sleep(span).await;
    }
}

#[tokio::test]
async fn a_host_call_that_panics_ends_its_own_run_only() {
    let logs = Guest {
        imports: r#"(import "horarium:task/log@1.0.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))"#,
        run: "(call $log (i32.const 2) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0))
              (call $ok (local.get $ptr) (local.get $len))",
        ..Guest::default()
    };
    let clock = Arc::new(Broken(SystemClock::new(), AtomicBool::new(false)));
    let sandbox = Sandbox::new(settings(), clock.clone()).expect("a sandbox");
    let version = register(&sandbox, logs.component()).await;
    clock.1.store(true, Ordering::SeqCst);
    let (outcome, _) = run(&sandbox, attempt(&version, "{}")).await;
    let failed = failure(&outcome);
    assert_eq!(failed.kind, ErrorKind::HostError);
    assert!(failed.message.contains("fell off the wall"), "{failed:?}");
    assert_eq!(sandbox.stats().memory_used_bytes, 0);
    clock.1.store(false, Ordering::SeqCst);
    let (outcome, _) = run(&sandbox, attempt(&version, "{}")).await;
    assert!(
        matches!(outcome.end, AttemptEnd::Succeeded(_)),
        "{:?}",
        outcome.end
    );
}

#[tokio::test]
async fn memory_that_was_reserved_is_the_runs_own() {
    let mut settings = settings();
    settings.memory_bytes = 200_000;
    let sandbox = sandbox(settings);
    let version = register(&sandbox, Guest::default().component()).await;
    let reserved = sandbox.memory().reserve(100_000).expect("fits");
    let rest = sandbox.memory().reserve(100_000).expect("fits");
    let control = Arc::new(RunControl::new(1024, 1).with_memory(reserved));
    let outcome = sandbox.run(attempt(&version, "{}"), control).await;
    assert!(
        matches!(outcome.end, AttemptEnd::Succeeded(_)),
        "{:?}",
        outcome.end
    );
    assert_eq!(sandbox.memory().held(), 100_000, "given back with the run");
    drop(rest);
    assert_eq!(sandbox.expected_memory(&version), 65_536 + 65_536 / 4);
}
