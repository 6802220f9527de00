//! The rules of the house that the compiler does not keep by itself (design section 1).

use crate::support::{root, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// `cargo metadata` of the workspace.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Our packages with the dependencies their manifests name, those for tests and builds aside.
fn manifests(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let packages = metadata["packages"].as_array().expect("a list");
    packages
        .iter()
        .filter(|package| members.contains(&text(package, "id")))
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            let named = dependencies
                .iter()
                .filter(|d| d["kind"].is_null())
                .map(|d| text(d, "name").to_owned());
            (text(package, "name").to_owned(), named.collect())
        })
        .collect()
}

#[test]
fn only_one_crate_knows_the_database_and_one_the_engine() {
    let manifests = manifests(&metadata());
    for (package, dependencies) in &manifests {
        for dependency in dependencies {
            if dependency.starts_with("sqlx") || dependency.starts_with("libsqlite3") {
                assert_eq!(package, "horarium-store", "{dependency}");
            }
            let chores = ["xtask", "horarium-soak"].contains(&package.as_str());
            if ["axum", "clap"].contains(&dependency.as_str()) && !chores {
                assert_eq!(package, "horarium", "{dependency}");
            }
            if dependency.starts_with("wasmtime") || dependency.starts_with("cranelift") {
                assert_eq!(package, "horarium-sandbox", "{dependency}");
            }
        }
    }
    assert!(manifests["horarium-store"].contains("sqlx"));
    assert!(manifests["horarium-sandbox"].contains("wasmtime"));
}

#[test]
fn the_arrows_point_one_way() {
    let manifests = manifests(&metadata());
    let ours = |package: &str| -> Vec<&str> {
        let named = manifests[package].iter().map(String::as_str);
        named.filter(|name| manifests.contains_key(*name)).collect()
    };
    assert_eq!(ours("horarium-model"), [""; 0]);
    assert_eq!(ours("horarium-core"), ["horarium-model"]);
    for implementor in ["horarium-store", "horarium-sandbox"] {
        assert_eq!(ours(implementor), ["horarium-core", "horarium-model"]);
    }
    assert_eq!(
        ours("horarium"),
        [
            "horarium-core",
            "horarium-model",
            "horarium-sandbox",
            "horarium-store"
        ]
    );
    assert_eq!(ours("xtask"), [""; 0], "xtask has no logic of the product");
    assert_eq!(
        ours("horarium-soak"),
        ["horarium-core", "horarium-model", "horarium-store"],
        "for its PostgreSQL, and to look at the stores themselves"
    );
    let model = &manifests["horarium-model"];
    assert!(!model.contains("tokio"), "the model does no I/O");
}

#[test]
fn core_links_neither_engine_nor_database() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a list");
    let nodes: BTreeMap<&str, &Value> = nodes.iter().map(|node| (text(node, "id"), node)).collect();
    let packages = metadata["packages"].as_array().expect("a list");
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|p| (text(p, "id"), text(p, "name")))
        .collect();
    let core = names
        .iter()
        .find(|(_, name)| **name == "horarium-core")
        .expect("there")
        .0;
    let (mut seen, mut open) = (BTreeSet::new(), vec![*core]);
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().expect("a list") {
            let kinds = dependency["dep_kinds"].as_array().expect("a list");
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(text(dependency, "pkg"));
            }
        }
    }
    let linked: Vec<&str> = seen.iter().map(|id| names[id]).collect();
    assert!(
        linked.contains(&"tokio"),
        "the walk went somewhere: {linked:?}"
    );
    for name in linked {
        let forbidden = [
            "wasmtime",
            "cranelift",
            "sqlx",
            "libsqlite3",
            "axum",
            "hyper",
        ];
        assert!(
            !forbidden.iter().any(|f| name.starts_with(f)),
            "core links {name}"
        );
    }
}
