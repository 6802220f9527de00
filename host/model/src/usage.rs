//! What one attempt used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Measured use of one attempt; the names are a contract (design section 3).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Usage {
    /// Fuel units burnt by the guest.
    pub fuel: u64,
    /// Highest sum of all memories and tables, in bytes.
    pub memory_peak_bytes: u64,
    /// Wall-clock time of the attempt.
    pub duration_seconds: f64,
    /// CPU time spent in the guest and its host calls.
    pub cpu_seconds: f64,
    /// From due to started.
    pub queued_seconds: f64,
    /// HTTP requests that left the host.
    pub http_calls: u64,
    /// Bytes of request bodies sent.
    pub http_request_bytes: u64,
    /// Bytes of response bodies received.
    pub http_response_bytes: u64,
    /// Bytes of log, stdout and stderr written by the guest.
    pub log_bytes: u64,
    /// The part of `log_bytes` that was not kept.
    pub log_dropped_bytes: u64,
    /// Size of the task's state after this attempt.
    pub state_bytes: u64,
    /// Version of Horarium.
    pub host_version: String,
    /// Version of the WebAssembly engine.
    pub engine_version: String,
}
