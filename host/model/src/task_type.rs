//! Registered plugins: a name (`task_type`), its versions, and which one is active.

use crate::descriptor::Descriptor;
use crate::error_kind::ErrorKind;
use crate::grant::Grant;
use crate::input::Fields;
use crate::limits::LimitOverrides;
use crate::problem::Invalid;
use crate::program::ProgramInput;
use crate::schedule::wire_time;
use crate::{HOST_TENANT_ID, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a task type's name looks like, as a regular expression.
pub const NAME: &str = "^[a-z][a-z0-9_.-]*$";
/// What a digest looks like, as a regular expression.
pub const DIGEST: &str = "^blake3:[0-9a-f]{64}$";

/// Checks a task type's name: `[a-z][a-z0-9_.-]*`, at most 64 characters.
///
/// # Errors
/// A sentence for the user.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-')
        });
    if fits {
        Ok(())
    } else {
        Err(format!(
            "`{}` is not a task type; it starts with a-z, holds only a-z, 0-9, _ . -, at most 64 characters",
            crate::text::one_line(name, 70)
        ))
    }
}

/// Whether `text` is a component digest as Horarium writes it: `blake3:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("blake3:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The digest of a component's bytes as they were registered.
pub fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Checked; being compiled and described.
    Compiling,
    /// May run.
    Ready,
    /// Refused after the check; its bytes are dropped, the error is kept.
    Failed,
}

impl VersionState {
    /// The stored and shown word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compiling => "compiling",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for VersionState {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Compiling, Self::Ready, Self::Failed]
            .into_iter()
            .find(|v| v.as_str() == s)
            .ok_or_else(|| format!("unknown version state `{s}`"))
    }
}

/// An owner on the wire: null is the host, which shares what it owns with every tenant.
mod owner {
    use super::{HOST_TENANT_ID, TenantId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(owner: &TenantId, to: S) -> Result<S::Ok, S::Error> {
        let tenant = Some(*owner).filter(|owner| *owner != HOST_TENANT_ID);
        tenant.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TenantId, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(HOST_TENANT_ID))
    }
}

/// One version of a plugin; its digest is its identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PluginVersion {
    /// Owner; null for the host, which shares it with every tenant.
    #[serde(with = "owner")]
    #[schemars(with = "Option<TenantId>")]
    pub tenant_id: TenantId,
    /// The name it is registered under.
    pub task_type: String,
    /// `blake3:` and 64 hexadecimal digits over the registered bytes.
    pub digest: String,
    /// Where it stands.
    pub state: VersionState,
    /// Why it failed.
    pub error: Option<String>,
    /// Size of the component in bytes.
    pub size_bytes: u64,
    /// What the plugin says of itself.
    pub descriptor: Descriptor,
    /// What the operator allows it.
    #[schemars(with = "Vec<String>")]
    pub grants: Vec<Grant>,
    /// Limits of this plugin, between the host's and the config's.
    pub limits: LimitOverrides,
    /// Of a WASI program: what of the parameters it is started with.
    #[serde(flatten)]
    pub input: ProgramInput,
    /// Whether to make it active once ready.
    pub activate: bool,
    /// Whether to grant it what its description asks for, once that is known.
    pub grant_asked: bool,
    /// Why it was not made active by itself, and other remarks from registration.
    pub warnings: Vec<String>,
    /// When it was registered.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub created_at: Timestamp,
}

impl PluginVersion {
    /// Whether the plugin keeps state: it was granted.
    pub fn uses_state(&self) -> bool {
        self.grants.contains(&Grant::State)
    }
}

/// Bounds on all executions of a type together (rule E3); of a shared type, on those of each tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypeConcurrency {
    /// How many run at once, over all hosts.
    pub max: Option<u32>,
    /// How many may wait.
    pub backlog: Option<u32>,
}

/// A change of what bounds a type: what is not named stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeConcurrencyChange {
    /// How many run at once from now on, none for no bound.
    pub max: Option<Option<u32>>,
    /// How many may wait from now on, none for no bound.
    pub backlog: Option<Option<u32>>,
}

impl TypeConcurrencyChange {
    /// Reads `{"max", "backlog"}`, null for no bound; a key that is absent stays.
    ///
    /// # Errors
    /// Every problem found.
    pub fn read(body: &serde_json::Value, at: &str) -> Result<Self, Invalid> {
        Fields::read(body, at, |fields| Self::fields(fields, body))
    }

    fn fields(fields: &mut Fields<'_>, body: &serde_json::Value) -> Self {
        let mut bound = |key, most| {
            let bound = fields.integer(key, 1, most).map(|n| n as u32);
            body.get(key).is_some().then_some(bound)
        };
        Self {
            max: bound("max", 100_000),
            backlog: bound("backlog", 10_000_000),
        }
    }

    /// What [`Self::read`] takes, as a JSON Schema.
    pub fn describe() -> serde_json::Value {
        Fields::describe(|fields| Self::fields(fields, &serde_json::Value::Null))
    }

    /// What is in force after the change.
    pub fn of(self, old: TypeConcurrency) -> TypeConcurrency {
        TypeConcurrency {
            max: self.max.unwrap_or(old.max),
            backlog: self.backlog.unwrap_or(old.backlog),
        }
    }
}

impl From<TypeConcurrency> for TypeConcurrencyChange {
    fn from(all: TypeConcurrency) -> Self {
        Self {
            max: Some(all.max),
            backlog: Some(all.backlog),
        }
    }
}

/// The circuit breaker of a type that keeps failing, once it opened. See docs/limits.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Breaker {
    /// Attempts that failed in a row when it opened, and since.
    pub failures: u32,
    /// When it opened.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub opened_at: Timestamp,
    /// When the next attempt is let through to see whether the type works again.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub probe_at: Timestamp,
    /// How long it waits before that.
    pub pause_seconds: u32,
    /// Class of the last failure.
    pub error_kind: Option<ErrorKind>,
    /// Message of the last failure.
    pub error_message: Option<String>,
}

impl Breaker {
    /// Failures in a row that open it.
    pub const OPENS_AFTER: u32 = 20;
    /// The first pause in seconds; each probe that fails doubles it.
    pub const FIRST_PAUSE_SECONDS: u32 = 30;
    /// The longest pause in seconds.
    pub const LONGEST_PAUSE_SECONDS: u32 = 3600;

    /// The pause after a probe failed.
    pub fn next_pause(pause_seconds: u32) -> u32 {
        pause_seconds
            .saturating_mul(2)
            .clamp(Self::FIRST_PAUSE_SECONDS, Self::LONGEST_PAUSE_SECONDS)
    }
}

/// A registered name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskType {
    /// Owner; null for the host, which shares it with every tenant.
    #[serde(with = "owner")]
    #[schemars(with = "Option<TenantId>")]
    pub tenant_id: TenantId,
    /// The name.
    pub task_type: String,
    /// Digest of the version that runs, null until one is active.
    pub active_digest: Option<String>,
    /// Digest of the version that was active before it, which a rollback makes active again.
    pub previous_digest: Option<String>,
    /// While true nothing of it is claimed and slots are skipped.
    pub disabled: bool,
    /// How many of the type run and wait; of a shared type, of each tenant.
    pub concurrency: TypeConcurrency,
    /// What holds it because it kept failing; null while nothing does. Of a shared type it is the asking tenant's.
    pub breaker: Option<Breaker>,
    /// When the name was first registered.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(with = "wire_time")]
    #[schemars(with = "Timestamp")]
    pub updated_at: Timestamp,
}

impl TaskType {
    /// Whether the host shares it with every tenant.
    pub fn is_shared(&self) -> bool {
        self.tenant_id == HOST_TENANT_ID
    }

    /// Another version is the one that runs.
    pub fn activate(&mut self, digest: &str) {
        if self.active_digest.as_deref() != Some(digest) {
            self.previous_digest = self.active_digest.replace(digest.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Owned {
        #[serde(with = "owner")]
        tenant_id: TenantId,
    }

    #[test]
    fn the_hosts_own_is_nobodys_on_the_wire() {
        for (tenant_id, text) in [
            (HOST_TENANT_ID, r#"{"tenant_id":null}"#),
            (7, r#"{"tenant_id":7}"#),
        ] {
            let owned = Owned { tenant_id };
            assert_eq!(serde_json::to_string(&owned).ok().as_deref(), Some(text));
            assert_eq!(serde_json::from_str::<Owned>(text).ok(), Some(owned));
        }
    }
}
