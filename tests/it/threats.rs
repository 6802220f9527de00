//! docs/threat-model.md names a test for each attack: here they are held to exist.

use crate::support::root;
use std::path::Path;

#[test]
fn every_attack_names_a_test_that_exists() {
    let page = std::fs::read_to_string(root().join("docs/threat-model.md")).expect("the page");
    let (_, attacks) = page.split_once("## Attacks").expect("attacks");
    let (rows, _) = attacks
        .split_once("## Not stopped")
        .expect("what is not stopped");
    let mut sources = String::new();
    for directory in ["tests", "host", "fuzz"] {
        read(&root().join(directory), &mut sources);
    }
    let mut attacks = 0;
    for row in rows.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [attack, stopped_by, tests] = cells.as_slice() else {
            panic!("a row has an attack, what stops it, and tests: {row}");
        };
        if *attack == "Attack" || attack.starts_with("---") {
            continue;
        }
        attacks += 1;
        assert!(!stopped_by.is_empty(), "{row}");
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test is named: {row}");
        for name in named {
            let is_there = sources.contains(&format!("fn {name}("));
            assert!(is_there, "there is no test `{name}`: {row}");
        }
    }
    assert!(attacks >= 30, "{attacks} attacks");
}

fn read(directory: &Path, into: &mut String) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}
