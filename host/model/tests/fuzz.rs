//! A bounded run of the functions that `fuzz/` runs without end. Seeds of both are in `fuzz/seeds/`.

use horarium_model::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::PathBuf;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let entries = std::fs::read_dir(&directory).expect("seeds");
    let seeds: Vec<_> = entries
        .flatten()
        .map(|entry| std::fs::read(entry.path()).expect("read"))
        .collect();
    assert!(!seeds.is_empty(), "{}", directory.display());
    seeds
}

/// A seed with some bytes changed, cut out or put in; or nothing but random bytes.
fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds = seeds(target);
    let edits = vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 0..6);
    let bent = (prop::sample::select(seeds), edits).prop_map(|(mut bytes, edits)| {
        for (at, how, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    });
    prop_oneof![4 => bent, 1 => vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_comes_through_unchanged_or_not_at_all(bytes in mutated("json")) {
        fuzz::json_door(&bytes);
    }

    #[test]
    fn grants_are_written_as_they_are_read(bytes in mutated("grant")) {
        fuzz::grant(&bytes);
    }

    #[test]
    fn cron_expressions_have_rising_slots_or_are_refused(bytes in mutated("cron")) {
        fuzz::cron(&bytes);
    }
}
