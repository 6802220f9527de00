//! What every test here stands on: the real binary, a world outside it, and one place that waits.

mod host;
mod process;
mod shell;
mod wait;
mod world;

pub(crate) use host::{Host, HostBuilder, Reply};
pub(crate) use process::Memory;
pub(crate) use shell::{Output, binary, horarium, horarium_as, horarium_fed};
pub(crate) use wait::until;
pub(crate) use world::World;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A plugin that is built to `target/plugins/`, such as `hello` or `hostile/spin`.
///
/// # Panics
/// When it is not built: a test that silently did nothing would be worse.
pub(crate) fn plugin(name: &str) -> PathBuf {
    let path = root().join(format!("target/plugins/{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is not built; run `cargo xtask plugins` first (`cargo xtask test` does)",
        path.display()
    );
    path
}

/// The keys of an object.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let map = object
        .as_object()
        .unwrap_or_else(|| panic!("no object: {object}"));
    map.keys().map(String::as_str).collect()
}

/// Fails unless `object` has every one of `wanted`, named in one text.
pub(crate) fn has_keys(object: &Value, wanted: &str) {
    let there = keys(object);
    let missing: Vec<&str> = wanted
        .split([',', ' ', '\n'])
        .filter(|key| !key.is_empty() && !there.contains(key))
        .collect();
    assert!(missing.is_empty(), "{missing:?} missing in {object:#}");
}

/// A text of a document.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value:#}"))
}

/// The items of a list document, whose shape is checked on the way.
pub(crate) fn items(list: &Value) -> Vec<Value> {
    assert_eq!(keys(list), ["items", "next_cursor"], "a list: {list:#}");
    list["items"].as_array().expect("items is a list").clone()
}
