//! Files that are no plugins: each is refused with a sentence that says why, and nothing is written.

use crate::support::{Host, plugin, text};
use serde_json::json;
use std::path::Path;

/// Name, bytes, and words of the refusal.
type Case = (&'static str, Vec<u8>, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let hello = std::fs::read(plugin("hello")).expect("read");
    let own_binary = {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(env!("CARGO_BIN_EXE_horarium")).expect("opened");
        std::io::Read::read_to_end(&mut std::io::Read::take(file, 100_000), &mut bytes)
            .expect("read");
        bytes
    };
    let component = |text: &str| wat::parse_str(text).expect("a component");
    vec![
        ("empty.wasm", Vec::new(), &["/component", "empty"]),
        (
            "text.wasm",
            b"just some text".to_vec(),
            &["/component", "text", ".wasm"],
        ),
        (
            "truncated.wasm",
            hello[..hello.len() / 2].to_vec(),
            &["/component"],
        ),
        (
            "cut.wasm",
            hello[..hello.len() - 1].to_vec(),
            &["/component"],
        ),
        (
            "gzip.wasm",
            [b"\x1f\x8b\x08\0".as_slice(), &[0; 60]].concat(),
            &["/component", "gzip"],
        ),
        ("elf.wasm", own_binary, &["/component", "ELF"]),
        (
            "nothing.wasm",
            component("(component)"),
            &["/component", "export", "horarium:task/run"],
        ),
        (
            "other.wasm",
            component(
                r#"(component (instance $i) (export "acme:thing/handler@1.0.0" (instance $i)))"#,
            ),
            &["/component", "acme:thing/handler", "horarium:task/run"],
        ),
        (
            "command.wasm",
            component(
                r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#,
            ),
            &["/component", "wasi_snapshot_preview1", "wasm32-wasip2"],
        ),
        (
            "newer.wasm",
            component(r#"(component (import "wasi:random/random@0.3.0" (instance)))"#),
            &["/component", "WASI 0.3"],
        ),
        (
            "module.wasm",
            component("(module (func (export \"main\")))"),
            &["/component", "module"],
        ),
    ]
}

#[test]
fn what_is_no_plugin_is_refused_and_nothing_is_written() {
    let host = Host::start();
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes, wanted) in cases() {
        let file = dir.path().join(name);
        std::fs::write(&file, &bytes).expect("written");
        refused(&host, &file, wanted);
        let reply = host.send(
            "POST",
            "/v1/task-types/bad/versions",
            &[("content-type", "application/wasm")],
            &bytes,
        );
        assert!((400..500).contains(&reply.status), "{name}: {reply:#?}");
        assert_eq!(
            reply.problem()["errors"][0]["pointer"],
            "/component",
            "{name}: {reply:#?}"
        );
    }
    nothing_written(&host);
}

#[test]
fn a_precompiled_artifact_is_refused() {
    let host = Host::start();
    host.register("hello", "");
    let aot = std::fs::read_dir(host.data_dir().join("aot")).expect("listed");
    let artifact = aot
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "aot"))
        .expect("hello was compiled");
    let stored = std::fs::read(artifact).expect("read");
    let start = stored
        .windows(4)
        .position(|w| w == b"\x7fELF")
        .expect("machine code within");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("hello.cwasm");
    for bytes in [&stored[start..], &stored[..]] {
        std::fs::write(&file, bytes).expect("written");
        let refusal = register(&host, &file).exits(2).complains(&["/component"]);
        assert!(!refusal.stderr.contains("panicked"), "{refusal:#?}");
    }
    std::fs::write(&file, &stored[start..]).expect("written");
    refused(&host, &file, &["/component", "compiled"]);
    let types = host.run("plugin list");
    assert_eq!(
        types["items"].as_array().map(Vec::len),
        Some(1),
        "{types:#}"
    );
}

#[test]
fn a_hundred_megabytes_are_refused() {
    let host = Host::start();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("huge.wasm");
    let mut bytes = std::fs::read(plugin("hello")).expect("read");
    bytes.resize(100 << 20, 0);
    std::fs::write(&file, &bytes).expect("written");
    refused(&host, &file, &["/component", "64 MiB"]);
    let headers = [("content-type", "application/wasm")];
    let reply = host
        .send("POST", "/v1/task-types/bad/versions", &headers, &bytes)
        .is(413);
    let problem = reply.problem();
    assert_eq!(problem["errors"][0]["pointer"], "/component", "{reply:#?}");
    assert!(text(&problem, "detail").contains("larger"), "{reply:#?}");
    nothing_written(&host);
}

#[test]
fn bad_wishes_are_refused_by_name() {
    let host = Host::start();
    let hello = plugin("hello");
    let hello = hello.display();
    for (arguments, wanted) in [
        (format!("Bad-Name '{hello}'"), &["/task_type"][..]),
        (
            format!("hello '{hello}' --grant 'http everything'"),
            &["/grants/0"],
        ),
        (
            format!("hello '{hello}' --grant state --grant 'files /etc'"),
            &["/grants/1"],
        ),
        (format!("hello '{hello}' --limit fule=5"), &["fule", "fuel"]),
        (format!("hello '{hello}.gone'"), &["gone"]),
    ] {
        let refused = host.cli(&format!("plugin register {arguments}")).exits(2);
        refused.complains(wanted);
    }
    let descriptor = tempfile::NamedTempFile::new().expect("a file");
    for (text, wanted) in [
        (r#"{"summery": "x"}"#, &["summery", "summary"][..]),
        (
            r#"{"parameters_schema": {"type": "objekt"}}"#,
            &["/descriptor/parameters_schema"],
        ),
        (
            r#"{"parameters_schema": {"$ref": "https://example.com/s.json"}}"#,
            &["/descriptor/parameters_schema"],
        ),
        (r#"{"a": 1, "a": 2}"#, &["a"]),
    ] {
        std::fs::write(descriptor.path(), text).expect("written");
        let line = format!(
            "plugin register hello '{hello}' --descriptor '{}'",
            descriptor.path().display()
        );
        host.cli(&line).exits(2).complains(wanted);
    }
    nothing_written(&host);
}

fn register(host: &Host, file: &Path) -> crate::support::Output {
    host.cli(&format!("plugin register bad '{}'", file.display()))
}

fn refused(host: &Host, file: &Path, wanted: &[&str]) {
    register(host, file).exits(2).complains(wanted);
    let json = host
        .cli(&format!("plugin register bad '{}' --json", file.display()))
        .exits(2);
    assert_eq!(json.stdout, "", "{json:#?}");
    let inspected = crate::support::horarium(&format!("dev inspect '{}'", file.display()));
    inspected.exits(2).complains(&wanted[1..]);
}

fn nothing_written(host: &Host) {
    assert_eq!(
        host.run("plugin list"),
        json!({"items": [], "next_cursor": null})
    );
    host.get("/v1/task-types/bad").is(404);
}
