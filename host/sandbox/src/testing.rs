//! Guests for tests, written as text, and attempts to run them in.

use crate::Sandbox;
use crate::settings::{Pooling, SandboxSettings};
use horarium_core::clock::SystemClock;
use horarium_core::control::RunControl;
use horarium_core::runner::{Attempt, AttemptEnd, Failure, Intake, Outcome, Runner};
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{DEFAULT_TENANT_ID, Limits, Trigger};
use std::sync::Arc;
use std::time::Duration;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// The bytes of a component given as text.
pub(crate) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("valid component text")
}

/// Worlds of test guests, with the little of WASI they use.
const WORLDS: &str = r#"
package horarium:test;

world guest {
    import horarium:task/state@1.0.0;
    import horarium:task/log@1.0.0;
    import horarium:task/execution@1.0.0;
    import horarium:task/secrets@1.0.0;
    import wasi:random/random@0.2.0;
    import wasi:cli/exit@0.2.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    export horarium:task/run@1.0.0;
}
world described {
    export horarium:task/run@1.0.0;
    export horarium:task/describe@1.0.0;
}
world command {
    export wasi:cli/run@0.2.0;
}
world other {
    export greet: func();
}
world strange {
    import horarium:task/telepathy@1.0.0;
    export horarium:task/run@1.0.0;
}
world newer {
    import wasi:random/random@0.3.0;
    export horarium:task/run@1.0.0;
}
"#;

const WASI: &[&str] = &[
    "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }",
    "package wasi:random@0.2.0; interface random { get-random-bytes: func(len: u64) -> list<u8>; }",
    "package wasi:random@0.3.0; interface random { get-random-u64: func() -> u64; }",
    "package wasi:cli@0.2.0; interface exit { exit: func(status: result); } interface run { run: func() -> result; }",
    "package wasi:clocks@0.2.0; interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable}; subscribe-duration: func(when: u64) -> pollable; }",
];

/// A core module with the metadata of one of the worlds above.
pub(crate) fn module(world: &str, text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let mut contract = String::new();
    for file in ["types", "guest", "host"] {
        let path = format!("{}/../../wit/{file}.wit", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("the contract");
        contract.push_str(&text.replace("package horarium:task@1.0.0;", ""));
    }
    let extra = "interface telepathy { listen: func(); }";
    let contract = format!("package horarium:task@1.0.0;\n{contract}\n{extra}");
    resolve
        .push_str("contract.wit", &contract)
        .expect("the contract parses");
    for wasi in WASI {
        resolve.push_str("wasi.wit", wasi).expect("parses");
    }
    let package = resolve.push_str("test.wit", WORLDS).expect("parses");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("is there");
    let mut module = wat::parse_str(text).expect("valid text");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("embeds");
    module
}

/// A component of one of the worlds above.
pub(crate) fn encoded(world: &str, text: &str) -> Vec<u8> {
    ComponentEncoder::default()
        .module(&module(world, text))
        .and_then(|mut encoder| encoder.encode())
        .expect("encodes")
}

/// Parts of a guest's core module.
#[derive(Default)]
pub(crate) struct Guest<'t> {
    /// Imports.
    pub(crate) imports: &'t str,
    /// More functions and data.
    pub(crate) more: &'t str,
    /// The body of `run (param $ptr i32) (param $len i32) (result i32)`, with locals `$a` and `$b`.
    pub(crate) run: &'t str,
}

impl Guest<'_> {
    /// The core module as text. `$ok` answers a text; data from 2048 on is the guest's.
    pub(crate) fn text(&self) -> String {
        format!(
            r#"(module
  {imports}
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 8192))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16))))))
    (local.get $at))
  (func $ok (param i32 i32) (result i32)
    (i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1032) (local.get 0))
    (i32.store (i32.const 1036) (local.get 1))
    (i32.const 1024))
  (func $the_run (export "horarium:task/run@1.0.0#run") (param $ptr i32) (param $len i32) (result i32)
    (local $a i32) (local $b i32)
    {run})
  {more})"#,
            imports = self.imports,
            more = self.more,
            run = if self.run.is_empty() {
                "(call $ok (local.get $ptr) (local.get $len))"
            } else {
                self.run
            },
        )
    }

    /// The component.
    pub(crate) fn component(&self) -> Vec<u8> {
        encoded("guest", &self.text())
    }
}

/// Settings for tests: no pool, no child.
pub(crate) fn settings() -> SandboxSettings {
    SandboxSettings {
        pooling: Pooling::Off,
        ..SandboxSettings::new(4, "test")
    }
}

/// A sandbox with these settings on the real clock.
pub(crate) fn sandbox(settings: SandboxSettings) -> Sandbox {
    Sandbox::new(settings, Arc::new(SystemClock::new())).expect("a sandbox")
}

/// Takes a component in; what runs it.
pub(crate) async fn register(sandbox: &Sandbox, component: Vec<u8>) -> PluginVersion {
    let (inspection, compile) = sandbox.inspect(component).await.expect("accepted");
    compile.await.expect("compiles");
    PluginVersion {
        size_bytes: inspection.size_bytes,
        ..version(&inspection.digest)
    }
}

/// A version that asks for nothing.
pub(crate) fn version(digest: &str) -> PluginVersion {
    PluginVersion {
        tenant_id: DEFAULT_TENANT_ID,
        task_type: "guest".to_owned(),
        digest: digest.to_owned(),
        state: VersionState::Ready,
        error: None,
        size_bytes: 0,
        descriptor: Default::default(),
        grants: Vec::new(),
        limits: Default::default(),
        input: Default::default(),
        activate: true,
        grant_asked: false,
        warnings: Vec::new(),
        created_at: chrono::DateTime::UNIX_EPOCH,
    }
}

/// An attempt with default limits and nothing granted.
pub(crate) fn attempt(version: &PluginVersion, parameters: &str) -> Attempt {
    Attempt {
        task_id: uuid::Uuid::nil(),
        tenant_id: DEFAULT_TENANT_ID,
        config_id: Some(7),
        task_name: "a test".to_owned(),
        version: Arc::new(version.clone()),
        parameters: Arc::from(parameters),
        attempt: 1,
        max_attempts: 4,
        slot: None,
        trigger: Trigger::Manual,
        parent_task_id: None,
        retry_of: None,
        trace: None,
        timeout: Duration::from_secs(60),
        limits: Limits::default(),
        grants: Arc::from([]),
        state: None,
        given: Default::default(),
    }
}

/// Runs an attempt to its end.
pub(crate) async fn run(sandbox: &Sandbox, attempt: Attempt) -> (Outcome, Arc<RunControl>) {
    let control = Arc::new(RunControl::new(attempt.limits.log_bytes, attempt.attempt));
    let outcome = sandbox.run(attempt, control.clone()).await;
    (outcome, control)
}

/// The failure of an outcome.
pub(crate) fn failure(outcome: &Outcome) -> &Failure {
    match &outcome.end {
        AttemptEnd::Failed(failure) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}
