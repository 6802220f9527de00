//! Bytes that want to hurt whoever reads, compiles or describes them.

use super::written::{describing, of_fields, register};
use crate::support::{Host, HostBuilder, plugin, root, until};
use serde_json::{Value, json};
use std::fmt::Write as _;

#[test]
fn damaged_components_are_refused_or_harmless() {
    let host = Host::start();
    let hello = std::fs::read(plugin("hello")).expect("read");
    // A generator of our own, so that a failure can be repeated.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut pick = move |below: usize| usize::try_from(random() % below as u64).expect("fits");
    let mut refused = 0;
    for round in 0..60 {
        let mut bytes = hello.clone();
        match round % 3 {
            0 => bytes.truncate(pick(hello.len())),
            1 => {
                let at = pick(bytes.len());
                bytes[at] ^= 1 << pick(8);
            }
            _ => {
                let from = 8 + pick(64);
                for byte in &mut bytes[from..] {
                    *byte = u8::try_from(pick(256)).expect("a byte");
                }
            }
        }
        let headers = [("content-type", "application/wasm")];
        let path = format!("/v1/task-types/damaged-{round}/versions");
        let reply = host.send("POST", &path, &headers, &bytes);
        match reply.status {
            202 => {}
            422 => refused += 1,
            _ => panic!("{reply:#?}"),
        }
    }
    assert!(refused >= 40, "{refused} of 60 refused");
    assert_eq!(host.get("/healthz").status, 200);
    assert!(!host.last_words().contains("panicked"));
}

#[test]
fn a_compile_bomb_is_stopped_and_others_go_on() {
    let host = HostBuilder::default()
        .setting("engine.compile_timeout_seconds", "5")
        .start();
    // Small enough to be compiled in time on any machine.
    let fine = of_fields(
        r#"(func (export "run") (param i32 i32) (result i32) (call $ok))"#,
        "",
    );
    register(&host, "fine", &fine, "").exits(0);
    // A few hundred kilobytes that keep a compiler busy for minutes.
    let mut body = String::new();
    for n in 0..400_000 {
        let _ = write!(
            body,
            "(local.set {} (i64.mul (local.get {}) (i64.add (local.get {}) (i64.const {n}))))",
            n % 400,
            (n * 7) % 400,
            (n * 13) % 400
        );
    }
    let fields = format!(
        r#"(func $bomb (local {}) {body})
           (func (export "run") (param i32 i32) (result i32) (call $bomb) (call $ok))"#,
        "i64 ".repeat(400)
    );
    let bomb = of_fields(&fields, "");
    let before = host.memory();
    let refused = register(&host, "bomb", &bomb, "").exits(2);
    refused.complains(&["longer than 5s", "engine.compile_timeout_seconds"]);
    assert_eq!(
        host.get("/v1/task-types/bomb/versions").json()["items"][0]["state"],
        "failed"
    );
    let ran = host.run_once("--type fine");
    assert_eq!(ran["state"], "succeeded", "{ran:#}");
    let after = host.memory();
    assert!(
        after.resident < before.resident + (200 << 20),
        "{before:?} {after:?}"
    );
    // The kernel tells of its end in its own time.
    until("the worker is gone", || {
        (host.children() == 0).then_some(())
    });
}

#[test]
fn types_that_double_and_code_that_nests_are_refused() {
    let host = Host::start();
    let mut doubling = String::from("(component (type $t0 (tuple u8 u8))");
    for n in 1..40 {
        let _ = write!(doubling, "(type $t{n} (tuple $t{0} $t{0}))", n - 1);
    }
    doubling.push(')');
    let nested = "(component ".repeat(90) + &")".repeat(90);
    let blocks = "(block ".repeat(20_000) + &")".repeat(20_000);
    let deep = of_fields(
        &format!(r#"(func (export "run") (param i32 i32) (result i32) {blocks} (call $ok))"#),
        "",
    );
    let locals = format!(
        r#"(func $f (local {})) (func (export "run") (param i32 i32) (result i32) (call $ok))"#,
        "i64 ".repeat(60_000)
    );
    let module = |text: &str| wat::parse_str(text).expect("parses");
    for (name, bytes) in [
        ("doubling", module(&doubling)),
        ("nested", module(&nested)),
        ("locals", of_fields(&locals, "")),
    ] {
        register(&host, name, &bytes, "")
            .exits(2)
            .complains(&["/component"]);
    }
    // Deep blocks are legal; whatever becomes of them, the host answers.
    let output = register(&host, "deep", &deep, "");
    assert!([0, 2].contains(&output.status), "{output:#?}");
    assert_eq!(host.get("/healthz").status, 200);
    assert!(!host.last_words().contains("panicked"));
}

#[test]
fn a_describe_that_misbehaves_fails_the_registration() {
    let host = Host::start();
    let answer = |json: &str, length: usize| {
        let escaped = json.replace('"', "\\22");
        (
            format!(
                "(i32.store (i32.const 1024) (i32.const 3000)) (i32.store (i32.const 1028) (i32.const {length})) (i32.const 1024)"
            ),
            format!("(data (i32.const 3000) \"{escaped}\")"),
        )
    };
    let said = |json: &str| {
        let (body, data) = answer(json, json.len());
        describing(&format!("{body}) {data} (func (result i32) (i32.const 0)"))
    };
    for (name, bytes, words) in [
        ("panics", describing("unreachable"), "describe failed"),
        (
            "spins",
            describing("(loop $l (br $l)) unreachable"),
            "describe",
        ),
        (
            "eats",
            describing(
                "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            ),
            "memory",
        ),
        ("list", said("[]"), "object"),
        ("twice", said(r#"{"summary":"a","summary":"b"}"#), "twice"),
        ("unknown", said(r#"{"summery":"a"}"#), "summary"),
        (
            "outside",
            said(r#"{"parameters_schema":{"$ref":"https://e.example/s"}}"#),
            "outside the schema",
        ),
        (
            "type",
            said(r#"{"result_schema":{"type":"objekt"}}"#),
            "result_schema",
        ),
        (
            "liar",
            said(r#"{"parameters_schema":{"required":["a"]},"examples":[{"parameters":{}}]}"#),
            "/examples/0",
        ),
    ] {
        let refused = register(&host, name, &bytes, "").exits(2);
        refused.complains(&[words]);
        let versions = host.get(&format!("/v1/task-types/{name}/versions")).json();
        assert_eq!(versions["items"][0]["state"], "failed", "{versions:#}");
    }
}

#[test]
fn schemas_that_never_end_are_stopped_in_time() {
    let host = Host::start();
    let item = json!({"type": "array", "items": {"$ref": "#/properties/x"}});
    let recursive = json!({"anyOf": [item, item, item, item, {"const": 0}]});
    let mut definitions = serde_json::Map::new();
    for n in 0..40 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"anyOf": [next, next]}));
    }
    definitions.insert("d40".into(), json!({"const": 1}));
    let doubling = json!({"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": definitions});
    let wide: Vec<Value> = (0..3_000)
        .map(|n| json!({"pattern": format!("^({n}a*)*$")}))
        .collect();
    let patterns = json!({"properties": {"x": {"anyOf": wide}}});
    let nest = (0..24).fold(json!(1), |inner, _| json!([inner]));
    for (name, schema, parameters) in [
        (
            "recursive",
            json!({"properties": {"x": recursive}}),
            json!({"x": nest}),
        ),
        ("doubling", doubling, json!({"x": 2})),
        (
            "patterns",
            patterns,
            json!({"x": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}),
        ),
    ] {
        let descriptor =
            json!({"parameters_schema": schema, "examples": [{"parameters": parameters}]});
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), descriptor.to_string()).expect("written");
        let refused = host.cli(&format!(
            "plugin register {name} '{}' --descriptor '{}'",
            plugin("hello").display(),
            file.path().display()
        ));
        assert_eq!(refused.status, 2, "{refused:#?}");
        assert!(refused.stderr.contains("/descriptor"), "{refused:#?}");
    }
    assert_eq!(host.get("/healthz").status, 200);
}

/// Core modules that wasm-smith made: any code that is valid, start functions included.
#[test]
fn generated_code_runs_and_hurts_nobody() {
    let host = HostBuilder::default().flag("--slots", "4").start();
    let seeds = std::fs::read_dir(root().join("fuzz/seeds/component")).expect("seeds");
    let mut modules: Vec<_> = seeds.flatten().map(|entry| entry.path()).collect();
    modules.retain(|path| path.to_string_lossy().contains("smith-module"));
    modules.sort();
    assert!(modules.len() >= 8, "{modules:?}");
    let run = r#"(func (export "run") (param i32 i32) (result i32) (call $ok))"#;
    let harmless = of_fields(run, "");
    let mut started = Vec::new();
    for (n, path) in modules.iter().enumerate() {
        let bytes = std::fs::read(path).expect("read");
        let bytes = beside(&harmless, &bytes);
        let name = format!("smith-{n}");
        let output = register(&host, &name, &bytes, "");
        // What cannot be loaded is refused with a reason; what can is run.
        if output.status == 0 {
            let line = format!("--name {name} --type {name} --timeout 1 --max-retries 0");
            started.push(host.trigger(host.create(&line)));
        } else {
            output.exits(2);
        }
    }
    assert!(!started.is_empty());
    for id in started {
        let ended = host.ended(&id);
        assert_ne!(ended["error_kind"], "host_error", "{ended:#}");
    }
    assert!(!host.last_words().contains("panicked"));
    super::ends::nothing_is_held(&host);
}

/// A component with one more core module, the second, which is instantiated too.
fn beside(component: &[u8], module: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    let mut left = module.len();
    while left >= 0x80 {
        length.push(u8::try_from(left & 0x7f).expect("seven bits") | 0x80);
        left >>= 7;
    }
    length.push(u8::try_from(left).expect("seven bits"));
    // Section 1: a core module. Section 2: one core instance, of module 1 with no arguments.
    let instance = [2, 4, 1, 0, 1, 0];
    [component, &[1], &length, module, &instance].concat()
}
