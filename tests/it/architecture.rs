//! The rooms of the house: who may depend on what (ARCHITECTURE.md).

use crate::harness::root;

fn manifest(name: &str) -> toml::Table {
    let path = root().join("host").join(name).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).expect("a manifest");
    text.parse().expect("TOML")
}

/// The crates whose manifest names a dependency that begins with `prefix`.
fn users(prefix: &str) -> Vec<String> {
    let mut users: Vec<String> = std::fs::read_dir(root().join("host"))
        .expect("host/")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| {
            let manifest = manifest(name);
            ["dependencies", "dev-dependencies", "build-dependencies"]
                .iter()
                .filter_map(|section| manifest.get(*section)?.as_table())
                .any(|table| table.keys().any(|key| key.starts_with(prefix)))
        })
        .collect();
    users.sort();
    users
}

#[test]
fn only_the_store_knows_sql_and_only_the_sandbox_knows_wasmtime() {
    assert_eq!(users("sqlx"), ["store"]);
    assert_eq!(users("wasmtime"), ["sandbox"]);
}

#[test]
fn the_app_alone_knows_all_rooms() {
    assert_eq!(users("axum"), ["app"]);
    assert_eq!(users("clap"), ["app"]);
    assert_eq!(users("horarium-sandbox"), ["app"]);
}
