//! `state`: a snapshot in, tracked reads and writes out; the store commits them with the recorded
//! success and only then.

use super::refusal;
use crate::bindings::plugin::horarium::task::state;
use crate::bindings::plugin::horarium::task::types::Refusal;
use crate::data::RunData;
use horarium_core::runner::{StateCommit, StateSnapshot};
use horarium_core::secrets::Redactor;
use horarium_model::Usage;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "state";
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 512;
/// Bytes of keys a run may ask for beyond those it has room to keep: each is remembered for the commit.
const TOUCHED_BYTES: u64 = 1 << 20;
/// What a remembered key costs beside its text.
const TOUCH_COST: u64 = 64;
/// Most keys listed by one call.
const MAX_LISTED: usize = 1000;

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    state::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

/// The state of one run.
#[derive(Debug)]
pub(crate) struct StateSession {
    snapshot: StateSnapshot,
    commit: StateCommit,
    bytes: u64,
    touched: u64,
    limit: u64,
}

impl StateSession {
    /// Prepares a run: the snapshot is what reads see until the run writes.
    pub(crate) fn new(snapshot: StateSnapshot, limit: u64) -> Self {
        let bytes = snapshot
            .entries
            .iter()
            .map(|(key, entry)| (key.len() + entry.value.len()) as u64)
            .sum();
        Self {
            snapshot,
            commit: StateCommit::default(),
            bytes,
            touched: 0,
            limit,
        }
    }

    /// Reports: what to commit with a success, none when no key was touched.
    pub(crate) fn into_commit(self) -> Option<StateCommit> {
        (!self.commit.expected.is_empty()).then_some(self.commit)
    }

    /// Notes that the outcome depends on the version of this key.
    fn touch(&mut self, key: &str) -> Result<(), Refusal> {
        if self.commit.expected.contains_key(key) {
            return Ok(());
        }
        let touched = self.touched + key.len() as u64 + TOUCH_COST;
        let entry = self.snapshot.entries.get(key);
        // Keys that are there are few enough by `state_bytes`; absent ones can be made up without end.
        if entry.is_none() && touched > self.limit.saturating_add(TOUCHED_BYTES) {
            return Err(refusal(
                "quota",
                "this run has asked for too many different keys of its state",
            ));
        }
        let version = entry.map_or(0, |e| e.version);
        self.touched = touched;
        self.commit.expected.insert(key.to_owned(), version);
        Ok(())
    }

    fn current(&self, key: &str) -> Option<&Vec<u8>> {
        match self.commit.writes.get(key) {
            Some(written) => written.as_ref(),
            None => self.snapshot.entries.get(key).map(|entry| &entry.value),
        }
    }

    fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        check_key(key)?;
        self.touch(key)?;
        Ok(self.current(key).cloned())
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), Refusal> {
        check_key(&key)?;
        let size = |value: Option<&Vec<u8>>| value.map_or(0, |v| (key.len() + v.len()) as u64);
        let after = self.bytes - size(self.current(&key)) + size(value.as_ref());
        if value.is_some() && after > self.limit && after > self.bytes {
            return Err(refusal(
                "quota",
                format!(
                    "the state would have {after} bytes; state_bytes allows {}",
                    self.limit
                ),
            ));
        }
        self.touch(&key)?;
        self.bytes = after;
        self.commit.writes.insert(key, value);
        Ok(())
    }

    fn keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Refusal> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = (start, Bound::Unbounded);
        let mut found: BTreeMap<&str, bool> = BTreeMap::new();
        let kept = self
            .snapshot
            .entries
            .range::<str, _>(range)
            .map(|(k, _)| (k, true));
        let written = self
            .commit
            .writes
            .range::<str, _>(range)
            .map(|(k, v)| (k, v.is_some()));
        for (key, present) in kept.chain(written) {
            if key.starts_with(prefix) {
                found.insert(key, present);
            }
        }
        let keys: Vec<String> = found
            .into_iter()
            .filter(|(_, present)| *present)
            .take(limit)
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in &keys {
            self.touch(key)?;
        }
        Ok(keys)
    }
}

/// Reports: the size of the state as the run leaves it.
pub(crate) fn report(data: &RunData, usage: &mut Usage) {
    usage.state_bytes = data.state.as_ref().map_or(0, |state| state.bytes);
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
        return Err(refusal(
            "invalid",
            format!("a key has 1 to {MAX_KEY_BYTES} bytes and no control characters"),
        ));
    }
    Ok(())
}

impl RunData {
    fn state(&mut self) -> Result<&mut StateSession, Refusal> {
        self.state.as_mut().ok_or_else(|| {
            let sentence = "the plugin may not keep state; allow it with --grant state";
            self.denials.note(&format!("denied: {sentence}"));
            refusal("not-granted", sentence)
        })
    }

    /// State is kept as it is, for everybody who may read it: no place for a secret.
    fn refuse_secrets(&self, key: &str, value: &[u8]) -> Result<(), Refusal> {
        let finds = |r: &Arc<Redactor>| r.finds(value) || r.finds(key.as_bytes());
        if !self.redactor.as_ref().is_some_and(finds) {
            return Ok(());
        }
        let sentence = "the value of a secret cannot be kept in the state, which is not encrypted";
        self.denials.note(&format!("denied: {sentence}"));
        Err(refusal("invalid", sentence))
    }
}

impl state::Host for RunData {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Refusal>> {
        Ok(self.state().and_then(|state| state.get(&key)))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Refusal>> {
        Ok(self
            .refuse_secrets(&key, &value)
            .and_then(|()| self.state()?.write(key, Some(value))))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Refusal>> {
        Ok(self.state().and_then(|state| state.write(key, None)))
    }

    fn keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<String>, Refusal>> {
        let limit = usize::try_from(limit).unwrap_or(MAX_LISTED).min(MAX_LISTED);
        let list = |state: &mut StateSession| state.keys(&prefix, after.as_deref(), limit);
        Ok(self.state().and_then(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_core::runner::StateEntry;

    fn session(limit: u64) -> StateSession {
        let mut snapshot = StateSnapshot::default();
        for (key, value, version) in [("a/1", "one", 3), ("a/2", "two", 5), ("b", "bee", 7)] {
            let value = value.as_bytes().to_vec();
            let entry = StateEntry { value, version };
            snapshot.entries.insert(key.to_owned(), entry);
        }
        StateSession::new(snapshot, limit)
    }

    #[test]
    fn reads_see_the_snapshot_and_own_writes() {
        let mut state = session(1000);
        assert_eq!(state.get("a/1").unwrap(), Some(b"one".to_vec()));
        state.write("a/1".into(), Some(b"new".to_vec())).unwrap();
        state.write("a/2".into(), None).unwrap();
        assert_eq!(state.get("a/1").unwrap(), Some(b"new".to_vec()));
        assert_eq!(state.get("a/2").unwrap(), None);
        assert_eq!(state.keys("a/", None, 10).unwrap(), ["a/1"]);
        assert_eq!(state.bytes, 6 + 4);
    }

    #[test]
    fn a_commit_names_every_key_that_was_read_or_written() {
        let mut state = session(1000);
        state.get("b").unwrap();
        state.get("missing").unwrap();
        state.write("a/2".into(), Some(b"x".to_vec())).unwrap();
        let commit = state.into_commit().expect("touched");
        let expected = [("a/2", 5), ("b", 7), ("missing", 0)];
        let expected = expected.map(|(key, version)| (key.to_owned(), version));
        assert_eq!(commit.expected, BTreeMap::from(expected));
        assert_eq!(commit.writes.len(), 1);
        assert!(session(1000).into_commit().is_none());
    }

    #[test]
    fn listing_pages_in_byte_order() {
        let mut state = session(1000);
        state.write("a/3".into(), Some(vec![])).unwrap();
        assert_eq!(state.keys("a/", None, 2).unwrap(), ["a/1", "a/2"]);
        assert_eq!(state.keys("a/", Some("a/2"), 2).unwrap(), ["a/3"]);
        assert_eq!(state.keys("a/", Some("0"), 1).unwrap(), ["a/1"]);
        assert!(state.keys("c", None, 5).unwrap().is_empty());
    }

    #[test]
    fn keys_that_are_not_there_cannot_be_asked_for_without_end() {
        let mut state = session(1000);
        let asked = (0..1_000_000).find_map(|n| state.get(&format!("made up {n}")).err());
        assert_eq!(asked.expect("refused").code, "quota");
        assert!(state.touched <= 1000 + TOUCHED_BYTES);
        assert!(state.get("made up 0").is_ok() && state.get("b").is_ok());
        let deleted = (0..).find_map(|n| state.write(format!("gone {n}"), None).err());
        assert_eq!(deleted.expect("refused").code, "quota");
    }

    #[test]
    fn the_quota_refuses_growth_but_lets_state_shrink() {
        let mut state = session(20);
        let refused = state.write("c".into(), Some(vec![0; 20])).unwrap_err();
        assert_eq!(refused.code, "quota");
        let mut full = session(5);
        full.write("b".into(), Some(vec![])).unwrap();
        full.write("a/1".into(), None).unwrap();
        assert_eq!(full.write("".into(), None).unwrap_err().code, "invalid");
        assert_eq!(full.write("a\0".into(), None).unwrap_err().code, "invalid");
    }
}
