//! Why an attempt or an execution did not succeed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, retried $retried:literal;)*) => {
        /// Why an attempt or an execution did not succeed (design section 3). The text form is a
        /// contract: it is stored, shown, and named in `retry_on`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }
        impl ErrorKind {
            /// Every kind, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The stored and shown name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
            /// Whether the default retry policy tries again.
            pub const fn retried_by_default(self) -> bool {
                match self { $(Self::$variant => $retried),* }
            }
        }
    };
}

error_kinds! {
    /// The guest reported a failure that may pass.
    Retryable = "retryable", retried true;
    /// The guest reported that the same input would fail again.
    Permanent = "permanent", retried false;
    /// `timeout_seconds` passed.
    Timeout = "timeout", retried true;
    /// The guest trapped (panicked, divided by zero, ran out of stack, …).
    Trap = "trap", retried true;
    /// The guest called exit, or a command exited with a code that is not 0 or 75.
    Exit = "exit", retried true;
    /// The fuel budget was used up.
    OutOfFuel = "out_of_fuel", retried false;
    /// `memory_bytes` was exceeded.
    MemoryLimit = "memory_limit", retried false;
    /// `result_bytes` was exceeded.
    OutputLimit = "output_limit", retried false;
    /// One of handles, instances, tables, memories, random_bytes, hostcall_bytes was exceeded.
    HostLimit = "host_limit", retried false;
    /// The parameters do not fit the schema of the plugin version that would run.
    InvalidParameters = "invalid_parameters", retried false;
    /// The result is not JSON, or does not fit the result schema.
    InvalidResult = "invalid_result", retried false;
    /// A state key that was read or written changed meanwhile.
    StateConflict = "state_conflict", retried true;
    /// The component could not be loaded or instantiated.
    LoadFailed = "load_failed", retried true;
    /// Somebody cancelled it, or its config was deleted while it waited.
    Cancelled = "cancelled", retried false;
    /// It waited longer than `expires_after_seconds`.
    Expired = "expired", retried false;
    /// No plugin is registered under its task type.
    UnknownTaskType = "unknown_task_type", retried false;
    /// A granted secret has no value.
    SecretMissing = "secret_missing", retried false;
    /// A running attempt used up what its tenant had left.
    Quota = "quota", retried false;
    /// A bug of the host: this attempt failed, the host lives.
    HostError = "host_error", retried true;
    /// The host's memory budget was empty; runs again without using an attempt.
    HostMemory = "host_memory", retried true;
    /// The host that ran it was lost too often.
    HostLost = "host_lost", retried true;
}

impl ErrorKind {
    /// Whether it speaks against the plugin as a whole: the host saw it break, it did not report a failure
    /// itself. Many in a row open the breaker of its type.
    pub const fn breaks(self) -> bool {
        matches!(
            self,
            Self::Trap
                | Self::Timeout
                | Self::OutOfFuel
                | Self::MemoryLimit
                | Self::OutputLimit
                | Self::HostLimit
                | Self::Exit
                | Self::InvalidResult
                | Self::LoadFailed
                | Self::HostError
        )
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ErrorKind {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| {
                let known = Self::ALL.iter().map(|k| k.as_str());
                match crate::text::nearest(s, known) {
                    Some(near) => format!(
                        "unknown error kind `{}`; did you mean `{near}`?",
                        crate::text::one_line(s, 40)
                    ),
                    None => format!("unknown error kind `{}`", crate::text::one_line(s, 40)),
                }
            })
    }
}
