//! WASI programs: what they are started with and how they end.

use crate::testing::{attempt, component, failure, register, run, sandbox, settings};
use horarium_core::runner::{AttemptEnd, Outcome, Runner};
use horarium_model::program::ProgramInput;
use horarium_model::{ErrorKind, Invalid};
use serde_json::{Value, json};

/// A program for preview 1 that prints what it reads, says two lines on stderr, and exits with a code.
fn cat(code: u32) -> Vec<u8> {
    component(&format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 200) "first\nlast words\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 60000))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 0) (i32.const 200))
    (i32.store (i32.const 4) (i32.const 17))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const {code}))))"#
    ))
}

/// Runs the program with these parameters as input alone.
async fn reads(code: u32, stdin_from: Option<&str>, parameters: &Value) -> Outcome {
    let sandbox = sandbox(settings());
    let mut version = register(&sandbox, cat(code)).await;
    version.input.stdin_from = stdin_from.map(str::to_owned);
    run(&sandbox, attempt(&version, &parameters.to_string()))
        .await
        .0
}

fn result(outcome: &Outcome) -> Value {
    match &outcome.end {
        AttemptEnd::Succeeded(text) => serde_json::from_str(text).expect("JSON"),
        other => panic!("no success: {other:?}"),
    }
}

#[tokio::test]
async fn what_a_program_prints_is_its_result() {
    let parameters = json!({"text": "no JSON", "json": [1, {"a": null}], "none": null, "bytes": {"base64": "/wA="}});
    for (stdin_from, wanted) in [
        (None, parameters.clone()),
        (Some(""), parameters.clone()),
        (Some("/text"), json!("no JSON")),
        (Some("/json"), json!([1, {"a": null}])),
        (Some("/json/1/a"), Value::Null),
        (Some("/none"), Value::Null),
        (Some("/missing"), Value::Null),
        (Some("/bytes"), json!({"base64": "/wA="})),
    ] {
        let outcome = reads(0, stdin_from, &parameters).await;
        assert_eq!(result(&outcome), wanted, "{stdin_from:?}");
        assert!(outcome.usage.fuel > 0 && outcome.usage.memory_peak_bytes >= 131_072);
        assert_eq!(outcome.usage.log_bytes, 15, "{:?}", outcome.usage);
    }
}

#[tokio::test]
async fn exit_codes_of_preview_1_arrive_as_they_are() {
    for (code, kind) in [
        (75, ErrorKind::Retryable),
        (1, ErrorKind::Exit),
        (200, ErrorKind::Exit),
        // Its last byte would say success, and 75.
        (256, ErrorKind::Exit),
        (331, ErrorKind::Exit),
        (u32::MAX, ErrorKind::Exit),
    ] {
        let outcome = reads(code, None, &json!({})).await;
        let failure = failure(&outcome);
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (kind, "last words")
        );
        let traceback = failure.traceback.as_deref().unwrap_or_default();
        assert!(traceback.contains("first\nlast words"), "{traceback}");
    }
}

#[tokio::test]
async fn parameters_that_cannot_start_a_program_are_refused_by_pointer() {
    let sandbox = sandbox(settings());
    let mut version = register(&sandbox, cat(0)).await;
    version.input = ProgramInput {
        args_from: Some("/args".into()),
        env_from: Some("/env".into()),
        stdin_from: Some("/bytes".into()),
    };
    let wrong = json!({"args": "-n", "env": {"A": []}});
    let saved = sandbox.check_parameters(&version, wrong.clone()).await;
    let Err(Invalid(problems)) = saved else {
        panic!("taken: {saved:?}");
    };
    let pointers: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
    assert_eq!(pointers, ["/args", "/env/A"]);
    for parameters in [wrong, json!({"bytes": {"base64": "?"}})] {
        let (outcome, _) = run(&sandbox, attempt(&version, &parameters.to_string())).await;
        assert_eq!(
            failure(&outcome).kind,
            ErrorKind::InvalidParameters,
            "{outcome:?}"
        );
    }
}
