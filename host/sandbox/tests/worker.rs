//! The compile worker as a real child process. This program is its own worker, so it has no test
//! harness (which would write to stdout) but speaks the little of its protocol that runners need.

use horarium_core::runner::{AttemptEnd, Intake};
use horarium_model::descriptor::Descriptor;
use horarium_sandbox::{Sandbox, SandboxSettings, WorkerCommand};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use testing::{Guest, encoded, register, run, sandbox, settings};

#[allow(dead_code, reason = "shared with the unit tests")]
#[path = "../src/testing.rs"]
mod testing;

/// What `testing` finds under this name in the crate itself.
mod settings {
    pub(crate) use horarium_sandbox::{Pooling, SandboxSettings};
}

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

const TESTS: &[(&str, Test)] = &[
    ("a_component_is_checked_compiled_and_described", || {
        Box::pin(a_component_is_checked_compiled_and_described())
    }),
    ("refusals_come_from_the_child_as_they_are", || {
        Box::pin(refusals_come_from_the_child_as_they_are())
    }),
    ("a_describe_that_fails_says_so", || {
        Box::pin(a_describe_that_fails_says_so())
    }),
    ("schemas_that_are_not_flat_get_little_time", || {
        Box::pin(schemas_that_are_not_flat_get_little_time())
    }),
    ("a_worker_that_does_not_start_or_talk_is_named", || {
        Box::pin(a_worker_that_does_not_start_or_talk_is_named())
    }),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args
        .first()
        .is_some_and(|first| first == "__compile-worker")
    {
        return horarium_sandbox::worker::worker_main();
    }
    let ignored = args.iter().any(|arg| arg == "--ignored");
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in TESTS.iter().filter(|_| !ignored) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let wanted = args.iter().find(|arg| !arg.starts_with("--"));
    for (name, test) in TESTS {
        if !ignored && wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(test());
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn with_worker() -> Sandbox {
    let exe = std::env::current_exe().expect("this program");
    let args = vec!["__compile-worker".to_owned()];
    sandbox(SandboxSettings {
        worker: Some(WorkerCommand { exe, args }),
        ..settings()
    })
}

/// A guest whose `describe` is this body, with 13 bytes of JSON at 2048.
fn describing(body: &str) -> Vec<u8> {
    let more = format!(
        r#"(data (i32.const 2048) "{{\22version\22:1}}")
           (func (export "horarium:task/describe@1.0.0#describe") (result i32) {body})"#
    );
    let guest = Guest {
        more: &more,
        ..Guest::default()
    };
    encoded("described", &guest.text())
}

async fn a_component_is_checked_compiled_and_described() {
    let sandbox = with_worker();
    let bytes = describing(
        "(i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 13)) (i32.const 1024)",
    );
    let (inspection, compile) = sandbox.inspect(bytes.clone()).await.expect("accepted");
    assert_eq!(inspection.kind, "task");
    assert_eq!(compile.await, Ok(Some(json!({"version": 1}))));
    let version = register(&sandbox, bytes).await;
    let (outcome, _) = run(&sandbox, testing::attempt(&version, "[1]")).await;
    assert_eq!(outcome.end, AttemptEnd::Succeeded("[1]".into()));
    let plain = Guest::default().component();
    let (_, compile) = sandbox.inspect(plain).await.expect("accepted");
    assert_eq!(compile.await, Ok(None));
}

async fn refusals_come_from_the_child_as_they_are() {
    let sandbox = with_worker();
    for (bytes, part) in [
        (&b""[..], "empty"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\0asm\x0d\0\x01\0", "empty component"),
    ] {
        let refused = sandbox
            .inspect(bytes.to_vec())
            .await
            .err()
            .expect("refused");
        assert!(refused.to_string().contains(part), "{refused}");
    }
}

async fn a_describe_that_fails_says_so() {
    let sandbox = with_worker();
    for (body, part) in [
        (
            "(unreachable)",
            "describe failed: wasm trap: wasm `unreachable`",
        ),
        (
            "(i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 3)) (i32.const 1024)",
            "no acceptable JSON",
        ),
    ] {
        let (_, compile) = sandbox.inspect(describing(body)).await.expect("accepted");
        let failed = compile.await.expect_err("fails");
        assert!(failed.contains(part), "{failed}");
    }
}

async fn schemas_that_are_not_flat_get_little_time() {
    let sandbox = with_worker();
    let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
    let ok = json!({"child": {"child": {}}});
    let descriptor = |schema: &Value, examples: Vec<Value>| Descriptor {
        parameters_schema: Some(schema.clone()),
        examples: examples
            .into_iter()
            .map(|parameters| json!({"parameters": parameters}))
            .collect(),
        ..Descriptor::default()
    };
    let checked = sandbox
        .check_descriptor(&descriptor(&tree, vec![ok, json!({"child": 1})]))
        .await;
    let problems = checked.expect_err("the second does not fit").0;
    assert_eq!(
        (problems.len(), problems[0].pointer.as_str()),
        (1, "/examples/1/parameters/child")
    );

    let item = json!({"type": "array", "items": {"$ref": "#"}});
    let bomb = json!({"anyOf": [item, item, item, item, {"const": 0}]});
    let deep = (0..24).fold(json!(1), |inner, _| json!([inner]));
    let refused = sandbox
        .check_descriptor(&descriptor(&bomb, vec![deep]))
        .await;
    let problem = refused.expect_err("takes for ever").to_string();
    assert!(problem.contains("more than 200 ms of CPU"), "{problem}");
}

async fn a_worker_that_does_not_start_or_talk_is_named() {
    for (exe, part) in [
        ("/nowhere/horarium", "does not start"),
        ("/bin/true", "checking failed"),
    ] {
        let worker = Some(WorkerCommand {
            exe: exe.into(),
            args: Vec::new(),
        });
        let sandbox = sandbox(SandboxSettings {
            worker,
            ..settings()
        });
        let refused = sandbox
            .inspect(Guest::default().component())
            .await
            .err()
            .expect("fails");
        assert!(refused.to_string().contains(part), "{refused}");
    }
}
