//! What is taken in and what is refused, with which words.

use super::*;
use crate::testing::{self, Guest};

fn refused(bytes: &[u8]) -> String {
    match check(bytes) {
        Ok(accepted) => panic!("accepted as {:?}", accepted.inspection),
        Err(sentence) => sentence,
    }
}

#[test]
fn files_that_are_no_component_are_named() {
    let component = Guest::default().component();
    let cut = &component[..component.len() / 2];
    let table: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"\x1f\x8b\x08\0\0\0", "gzip"),
        (b"\x7fELF\x02\x01\x01\0", "ELF"),
        (b"PK\x03\x04", "zip"),
        (b"MZ\x90", "Windows"),
        (b"#!/bin/sh\n", "script"),
        (b"(component)", "WebAssembly text"),
        (b"hello", "text"),
        (b"\x80\x81\x82\x83\x84", "not WebAssembly"),
        (b"\0asm", "truncated"),
        (b"\0asm\x0d\0", "truncated"),
        (b"\0asm\x02\0\0\0", "unknown version"),
        (b"\0asm\x01\0\0\0", "of no world"),
        (b"\0asm\x0d\0\x01\0", "empty component"),
        (cut, "truncated"),
    ];
    for (bytes, part) in table {
        let sentence = refused(bytes);
        assert!(sentence.contains(part), "{part}: {sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
    let sentence = check_size(100 << 20).expect_err("too large");
    assert!(sentence.contains("64 MiB"), "{sentence}");
}

#[test]
fn machine_code_is_refused_before_it_is_looked_at() {
    let engine = wasmtime::Engine::default();
    let artifact = engine.precompile_component(&testing::component("(component)"));
    let sentence = refused(&artifact.expect("compiles"));
    assert!(sentence.contains("precompiled artifact"), "{sentence}");
}

#[test]
fn other_worlds_and_imports_are_named() {
    let greet = testing::encoded("other", r#"(module (func (export "greet")))"#);
    let sentence = refused(&greet);
    assert!(
        sentence.contains("exports greet") && sentence.contains("horarium:task/run"),
        "{sentence}"
    );

    let guest = |import: &str| {
        let imports = format!("(import {import})");
        Guest {
            imports: &imports,
            run: "(call $it) (unreachable)",
            ..Guest::default()
        }
        .text()
    };
    let strange = guest(r#""horarium:task/telepathy@1.0.0" "listen" (func $it)"#);
    let sentence = refused(&testing::encoded("strange", &strange));
    assert!(
        sentence.contains("`horarium:task/telepathy@1.0.0`"),
        "{sentence}"
    );

    let newer = guest(r#""wasi:random/random@0.3.0" "get-random-u64" (func $it (result i64))"#)
        .replace("(call $it)", "(drop (call $it))");
    let sentence = refused(&testing::encoded("newer", &newer));
    assert!(sentence.contains("WASI 0.3 is not supported"), "{sentence}");
}

#[test]
fn core_modules_are_taken_when_they_name_their_world() {
    let module = testing::module("guest", &Guest::default().text());
    let accepted = check(&module).unwrap_or_else(|sentence| panic!("{sentence}"));
    assert_eq!(accepted.inspection.kind, "task");
    assert_eq!(accepted.inspection.digest, task_type::digest(&module));
    assert_eq!(accepted.inspection.warnings.len(), 1);
}

#[test]
fn programs_of_preview_1_are_wrapped() {
    for imports in [
        "",
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#,
    ] {
        let program =
            format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#);
        let program = testing::component(&program);
        let accepted = check(&program).unwrap_or_else(|sentence| panic!("{sentence}"));
        let inspection = accepted.inspection;
        assert_eq!(inspection.kind, "command");
        assert_eq!(
            inspection.digest,
            task_type::digest(&program),
            "of the bytes as they came"
        );
        assert_eq!(inspection.exports.len(), 1, "{inspection:?}");
        assert!(
            inspection.exports[0].starts_with("wasi:cli/run@0.2"),
            "{inspection:?}"
        );
        assert!(
            inspection.warnings[0].contains("preview 1"),
            "{inspection:?}"
        );
    }
}

#[test]
fn other_core_modules_are_refused_by_what_they_import_or_lack() {
    let import = |module: &str| {
        format!(r#"(module (import "{module}" "thing" (func)) (func (export "_start")))"#)
    };
    let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
    for (module, words) in [
        (import("env"), ["`env.thing`", "horarium:task/minimal-task"]),
        (
            import("wasi_unstable"),
            ["`wasi_unstable.thing`", "preview 0"],
        ),
        (import("wbg"), ["`wbg.thing`", "wasm-bindgen"]),
        (
            import("wasi_snapshot_preview1"),
            ["wasi_snapshot_preview1", "thing"],
        ),
        (
            format!("(module {exit})"),
            ["wasi_snapshot_preview1", "`_start`"],
        ),
        ("(module)".to_owned(), ["`_start`", "wasi:cli/command"]),
    ] {
        let sentence = refused(&testing::component(&module));
        for word in words {
            assert!(sentence.contains(word), "{module}: {sentence}");
        }
    }
    // A module that names a world and imports beyond it.
    let imports = r#"(import "env" "thing" (func $it))"#;
    let guest = Guest {
        imports,
        run: "(call $it) (unreachable)",
        ..Guest::default()
    };
    let sentence = refused(&testing::module("guest", &guest.text()));
    assert!(sentence.contains("env"), "{sentence}");
}

#[test]
fn commands_and_tasks_are_told_apart() {
    let command = r#"(module (func (export "wasi:cli/run@0.2.0#run") (result i32) (i32.const 0)))"#;
    let command = testing::encoded("command", command);
    let accepted = check(&command).unwrap_or_else(|sentence| panic!("{sentence}"));
    assert_eq!(accepted.inspection.kind, "command");
    let task = Guest::default().component();
    let accepted = check(&task).unwrap_or_else(|sentence| panic!("{sentence}"));
    assert_eq!(accepted.inspection.kind, "task");
    assert!(
        accepted
            .inspection
            .exports
            .contains(&"horarium:task/run@1.0.0".to_owned())
    );
    assert!(!exports_describe(&accepted.inspection.exports));
}
