//! Guests that want to hurt the host or its neighbours. Each ends with its own kind, and the host lives.
//! docs/threat-model.md names these tests.

mod ends;
mod intake;
mod keeping;
mod memory;
mod neighbours;
mod network;
mod written;

use crate::support::{Host, text};
use serde_json::Value;

/// Fails unless an execution failed with this kind and these words.
#[track_caller]
fn failed_with(execution: &Value, kind: &str, words: &str) {
    let message = execution["error_message"].as_str().unwrap_or_default();
    let found = (
        text(execution, "state"),
        execution["error_kind"].as_str().unwrap_or_default(),
    );
    assert_eq!(found, ("failed", kind), "{execution:#}");
    assert!(message.contains(words), "no `{words}` in {execution:#}");
    assert!(!message.contains('\n'), "one line: {execution:#}");
}

/// A figure of `/metrics`.
fn figure(host: &Host, name: &str) -> f64 {
    let metrics = host.get("/metrics").is(200).body;
    let line = metrics
        .lines()
        .find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}
