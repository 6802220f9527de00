//! What is fed with random input: by `fuzz/` for hours, by the tests here within bounds in every CI run. Each
//! panics when something that must always hold does not.

use crate::intake;
use crate::schema::{Checked, Schema};
use horarium_model::json;
use serde_json::Value;

/// The checks of a component end, and a refusal is one line.
pub fn component(bytes: &[u8]) {
    match intake::check(bytes) {
        Ok(accepted) => assert!(!accepted.inspection.exports.is_empty()),
        Err(refusal) => assert_line(&refusal),
    }
}

/// A schema is refused with its place, or weighed; checking here is bounded by what it weighs.
pub fn schema(bytes: &[u8]) {
    let Ok(source) = json::parse(bytes) else {
        return;
    };
    let schema = match Schema::new(&source) {
        Ok(schema) => schema,
        Err(problem) => return assert_line(&problem.detail),
    };
    for document in [
        Value::Null,
        source.clone(),
        serde_json::json!({"a": [1, "x", {}]}),
    ] {
        let filled = schema.with_defaults(document);
        if let Checked::Here(problems) = schema.check(&filled) {
            for problem in problems {
                assert_line(&problem.detail);
            }
        }
    }
}

fn assert_line(text: &str) {
    assert!(!text.is_empty() && text.len() < 8_000, "{text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Guest;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Components and modules: ours, and some that wasm-smith made (`fuzz/seeds/component/smith-*`).
    fn components() -> Vec<Vec<u8>> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/component");
        let entries = std::fs::read_dir(directory).expect("seeds");
        let read = |entry: std::fs::DirEntry| std::fs::read(entry.path()).expect("read");
        let mut all: Vec<Vec<u8>> = entries.flatten().map(read).collect();
        all.push(Guest::default().component());
        all
    }

    fn bent() -> impl Strategy<Value = Vec<u8>> {
        let wholes = prop::sample::select(components());
        let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
        (wholes, edits, any::<bool>()).prop_map(|(mut bytes, edits, cut)| {
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            if cut {
                bytes.truncate(edits[0].0.index(bytes.len()));
            }
            bytes
        })
    }

    fn seeds() -> Vec<String> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/schema");
        let entries = std::fs::read_dir(directory).expect("seeds");
        let read = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path()).expect("text");
        entries.flatten().map(read).collect()
    }

    #[test]
    fn generated_components_and_modules_are_checked() {
        let all = components();
        assert!(all.len() >= 20, "{}", all.len());
        all.iter().for_each(|bytes| component(bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bent_components_are_refused_or_accepted_and_nothing_else(bytes in bent()) {
            component(&bytes);
        }

        #[test]
        fn random_bytes_are_no_component(bytes in vec(any::<u8>(), 0..2_000)) {
            component(&[b"\0asm\x0d\0\x01\0", &bytes[..]].concat());
            component(&bytes);
        }

        #[test]
        fn bent_schemas_are_weighed_or_refused(
            seed in prop::sample::select(seeds()),
            at in any::<prop::sample::Index>(),
            with in prop::sample::select(vec!["", "{}", "[]", "1", "\"#\"", "null", "\"a\":", ","]),
        ) {
            let at = at.index(seed.len());
            let at = (0..=at).rev().find(|at| seed.is_char_boundary(*at)).unwrap_or(0);
            schema(seed.as_bytes());
            schema(format!("{}{with}{}", &seed[..at], &seed[at..]).as_bytes());
            schema(seed.replacen("\"a\"", with, 1).as_bytes());
        }
    }
}
