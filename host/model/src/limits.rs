//! Every limit of a run, its unit, its default and its highest value (design section 3).

use crate::input::Fields;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: default $default:expr, max $max:expr;)*) => {
        /// The limits of one run, complete.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub struct Limits { $($(#[doc = $doc])* pub $name: u64,)* }

        impl Limits {
            /// What differs from the default: enough to tell the rest, since defaults do not change.
            pub fn stated(&self) -> LimitOverrides {
                let default = Self::default();
                LimitOverrides { $($name: (self.$name != default.$name).then_some(self.$name),)* }
            }
        }

        impl Default for Limits {
            fn default() -> Self { Self { $($name: $default,)* } }
        }

        /// Limits as a level (host, plugin, config) states them: what is absent is left to the others.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct LimitOverrides {
            $($(#[doc = $doc])* #[serde(skip_serializing_if = "Option::is_none", default)] pub $name: Option<u64>,)*
        }

        impl LimitOverrides {
            /// The names of all limits.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Reads the object; problems are collected in `fields`.
            pub fn read(fields: &mut Fields<'_>) -> Self {
                let read = Self { $($name: fields.unsigned(stringify!($name), 1, $max),)* };
                $(fields.shape(
                    stringify!($name),
                    || serde_json::json!({ "description": concat!($($doc),*).trim() }),
                );)*
                read
            }

            /// Whether no limit is stated.
            pub fn is_empty(&self) -> bool { true $(&& self.$name.is_none())* }

            /// The tighter of both, limit by limit.
            #[must_use]
            pub fn tightest(&self, other: &Self) -> Self {
                Self { $($name: match (self.$name, other.$name) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                },)* }
            }

            /// The limits of `self` that ask for more than `above` allows: (name, asked, allowed).
            pub fn beyond(&self, above: &Self) -> Vec<(&'static str, u64, u64)> {
                let mut out = Vec::new();
                $(if let (Some(asked), Some(allowed)) = (self.$name, above.$name) && asked > allowed {
                    out.push((stringify!($name), asked, allowed));
                })*
                out
            }

            /// Complete limits: what is stated here, else the default.
            pub fn complete(&self) -> Limits {
                let default = Limits::default();
                Limits { $($name: self.$name.unwrap_or(default.$name),)* }
            }
        }
    };
}

limits! {
    /// Fuel units; about 10^9 burn in 0.1 to 0.3 s.
    fuel: default 1_000_000_000_000, max 1_000_000_000_000_000;
    /// Bytes of all memories and tables together.
    memory_bytes: default 64 * MIB, max 4 * GIB;
    /// Bytes of the parameters as JSON.
    parameters_bytes: default MIB, max 16 * MIB;
    /// Bytes of the result as JSON; beyond it the attempt ends `output_limit`.
    result_bytes: default MIB, max 16 * MIB;
    /// Bytes of log kept (half from the start, half from the end); the rest is counted.
    log_bytes: default 128 * KIB, max 16 * MIB;
    /// HTTP requests of one run.
    http_calls: default 100, max 1_000_000;
    /// Bytes of request bodies of one run.
    http_request_bytes: default 16 * MIB, max 16 * GIB;
    /// Bytes of response bodies of one run.
    http_response_bytes: default 16 * MIB, max 16 * GIB;
    /// HTTP requests in flight at once.
    http_concurrent: default 8, max 256;
    /// Bytes of keys and values of a task's state.
    state_bytes: default MIB, max 64 * MIB;
    /// Component-model handles alive at once.
    handles: default 10_000, max 100_000;
    /// Core instances.
    instances: default 64, max 1_000;
    /// Tables.
    tables: default 64, max 1_000;
    /// Linear memories.
    memories: default 16, max 100;
    /// Random bytes handed out in one call.
    random_bytes: default MIB, max 64 * MIB;
    /// Bytes copied between guest and host in one call.
    hostcall_bytes: default 16 * MIB, max 128 * MIB;
}

/// The levels a limit is stated at, the widest first: each may only narrow what those above it allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level<'a> {
    /// The host's settings `limits.*`.
    Host,
    /// `engine.memory`: what all guests of the host have together.
    Engine,
    /// The quota of the tenant of this name.
    Tenant(&'a str),
    /// The registered plugin of this name.
    Plugin(&'a str),
    /// The task config.
    Task,
}

impl std::fmt::Display for Level<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("the host (settings `limits`)"),
            Self::Engine => f.write_str("the host (setting `engine.memory`)"),
            Self::Tenant(name) => write!(f, "the tenant `{name}`"),
            Self::Plugin(name) => write!(f, "the plugin `{name}`"),
            Self::Task => f.write_str("the task"),
        }
    }
}

/// What each level states.
#[derive(Debug, Clone, Default)]
pub struct Levels<'a>(Vec<(Level<'a>, LimitOverrides)>);

impl<'a> Levels<'a> {
    /// No level yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next narrower level.
    #[must_use]
    pub fn and(mut self, level: Level<'a>, limits: LimitOverrides) -> Self {
        self.0.push((level, limits));
        self
    }

    /// The limits that hold: the tightest of all levels, else the default.
    pub fn effective(&self) -> Limits {
        let all = self.0.iter().map(|(_, limits)| limits);
        let tightest = all.fold(LimitOverrides::default(), |sum, limits| {
            sum.tightest(limits)
        });
        tightest.complete()
    }

    /// What `asked` wants beyond each of the levels: name, and a sentence that names the level.
    pub fn beyond(&self, asked: &LimitOverrides) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        for (level, above) in &self.0 {
            for (name, asked, allowed) in asked.beyond(above) {
                problems.push((
                    name,
                    format!("is {asked}; {level} allows {allowed} at most"),
                ));
            }
        }
        problems
    }
}

/// What an attempt was allowed: read at its claim and recorded with its end (rule E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Limits, complete.
    pub limits: Limits,
    /// Wall-clock limit.
    pub timeout_seconds: u32,
}

/// Default of `timeout_seconds`.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 60;
/// Highest `timeout_seconds`.
pub const MAX_TIMEOUT_SECONDS: u32 = 86_400;
/// Largest component accepted, in bytes.
pub const MAX_COMPONENT_BYTES: u64 = 64 * MIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_level_wins_and_the_rest_is_default() {
        let host = LimitOverrides {
            fuel: Some(100),
            memory_bytes: Some(10),
            ..Default::default()
        };
        let config = LimitOverrides {
            fuel: Some(50),
            http_calls: Some(3),
            ..Default::default()
        };
        let tenant = LimitOverrides {
            memory_bytes: Some(5),
            ..Default::default()
        };
        let levels = Levels::new()
            .and(Level::Host, host)
            .and(Level::Tenant("acme"), tenant)
            .and(Level::Task, config);
        let effective = levels.effective();
        assert_eq!(
            (effective.fuel, effective.memory_bytes, effective.http_calls),
            (50, 5, 3)
        );
        assert_eq!(effective.result_bytes, Limits::default().result_bytes);
    }

    #[test]
    fn asking_for_more_than_above_is_named() {
        let above = LimitOverrides {
            fuel: Some(10),
            ..Default::default()
        };
        let asked = LimitOverrides {
            fuel: Some(11),
            handles: Some(5),
            ..Default::default()
        };
        assert_eq!(asked.beyond(&above), [("fuel", 11, 10)]);
        let levels = Levels::new()
            .and(Level::Host, LimitOverrides::default())
            .and(Level::Tenant("acme"), above)
            .and(Level::Plugin("p"), above);
        let problems: Vec<String> = levels.beyond(&asked).into_iter().map(|(_, p)| p).collect();
        assert_eq!(
            problems,
            [
                "is 11; the tenant `acme` allows 10 at most",
                "is 11; the plugin `p` allows 10 at most"
            ]
        );
    }

    #[test]
    fn only_what_differs_from_the_default_is_written_down() {
        let limits = Limits {
            fuel: 5,
            ..Limits::default()
        };
        let stated = limits.stated();
        assert_eq!(serde_json::to_string(&stated).unwrap(), r#"{"fuel":5}"#);
        assert_eq!(stated.complete(), limits);
        assert!(Limits::default().stated().is_empty());
    }
}
