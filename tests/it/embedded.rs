//! The components that the benchmarks embed are those of `plugins/`.

use crate::support::{plugin, root};
use std::collections::BTreeSet;
use std::process::Command;
use wasmparser::{KnownCustom, Parser, Payload};

/// What a component says of itself: names it imports and exports, and the compiler of its modules.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    names: BTreeSet<String>,
    compiler: Option<String>,
}

fn facts(bytes: &[u8]) -> Facts {
    let mut facts = Facts::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("a component") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                facts.names.extend(
                    section
                        .into_iter()
                        .flatten()
                        .map(|i| format!("import {}", i.name.name)),
                );
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                facts.names.extend(
                    section
                        .into_iter()
                        .flatten()
                        .map(|e| format!("export {}", e.name.name)),
                );
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    let values = fields
                        .into_iter()
                        .flatten()
                        .flat_map(|f| f.values.into_iter().flatten());
                    let rustc = values
                        .filter(|value| value.name == "rustc")
                        .map(|v| v.version.to_owned());
                    facts.compiler = facts.compiler.take().or(rustc.last());
                }
            }
            _ => {}
        }
    }
    facts
}

#[test]
fn the_embedded_plugins_are_those_of_plugins() {
    for name in ["hello", "http_request", "hostile/burn"] {
        is_embedded(name);
    }
}

fn is_embedded(name: &str) {
    let file = name.rsplit('/').next().unwrap_or(name);
    let asset = format!("host/app/assets/{file}.wasm");
    let embedded = std::fs::read(root().join(&asset)).expect("checked in");
    let built = std::fs::read(plugin(name)).expect("built");
    let (old, new) = (facts(&embedded), facts(&built));
    assert_eq!(old.names, new.names, "{asset}");
    assert!(
        old.names.contains("export horarium:task/run@1.0.0"),
        "{old:?}"
    );
    let compiler = old.compiler.expect("the producers section names rustc");
    // Another compiler makes other bytes of the same source.
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("rustc runs")
        .stdout;
    let version = String::from_utf8(version).expect("a text");
    if version.contains(&compiler) {
        assert!(
            embedded == built,
            "{asset} is not what plugins/{name} builds to; run `cargo xtask plugins --embed`"
        );
    }
}
