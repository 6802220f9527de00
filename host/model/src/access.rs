//! Who may do what: roles, permissions, and the table that joins them.

use crate::problem::Invalid;
use crate::text::{nearest, one_line};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest name of a tenant.
pub const MAX_TENANT_NAME: usize = 64;

/// An enum of words that are the same on the wire, in databases and on the command line.
macro_rules! words {
    ($(#[$outer:meta])* $what:literal $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let known = || Self::ALL.iter().map(|word| word.as_str());
                Self::ALL
                    .iter()
                    .copied()
                    .find(|word| word.as_str() == text)
                    .ok_or_else(|| match nearest(text, known()) {
                        Some(near) => format!(
                            "`{}` is no {}; did you mean `{near}`?",
                            one_line(text, 40), $what
                        ),
                        None => format!(
                            "`{}` is no {}; there are {}",
                            one_line(text, 40), $what, known().collect::<Vec<_>>().join(", ")
                        ),
                    })
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for &'static str {
            fn from(word: $name) -> Self {
                word.as_str()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words: Vec<&str> = Self::ALL.iter().map(|word| word.as_str()).collect();
                schemars::json_schema!({ "type": "string", "enum": words })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a token may do at most. Each may do what those before it may.
    "role" Role {
        /// Reads its tenant's things.
        Viewer = "viewer",
        /// Starts its tenant's tasks.
        Trigger = "trigger",
        /// Writes tasks, registers plugins and grants them what they need, steers executions.
        Operator = "operator",
        /// Also gives out its tenant's tokens and secrets, and reads who did what.
        Admin = "admin",
        /// Belongs to no tenant: does everything in each of them, and looks after the hosts.
        HostAdmin = "host-admin",
    }
}

words! {
    /// What a request needs leave for.
    "permission" Permission {
        /// See tasks, their parameters and state.
        TasksRead = "tasks:read",
        /// Start tasks, one or many.
        TasksTrigger = "tasks:trigger",
        /// Create, change, pause and delete tasks, and write their state.
        TasksWrite = "tasks:write",
        /// See executions and their logs.
        ExecutionsRead = "executions:read",
        /// Cancel executions and run them again.
        ExecutionsWrite = "executions:write",
        /// See plugins and what they are granted.
        PluginsRead = "plugins:read",
        /// Register, activate, disable and bound plugins.
        PluginsWrite = "plugins:write",
        /// Grant plugins what they ask for, and set their configuration.
        PluginsGrant = "plugins:grant",
        /// See the names of secrets; values are never shown.
        SecretsRead = "secrets:read",
        /// Set and delete secrets.
        SecretsWrite = "secrets:write",
        /// See what the tenant may use and does use.
        QuotasRead = "quotas:read",
        /// See the tenant.
        TenantsRead = "tenants:read",
        /// See the tenant's tokens; their text is never shown again.
        TokensRead = "tokens:read",
        /// Create, rotate and revoke tokens.
        TokensWrite = "tokens:write",
        /// Read who did what, and when.
        AuditRead = "audit:read",
        /// Set what a tenant may use.
        QuotasWrite = "quotas:write",
        /// Create, change and delete tenants.
        TenantsWrite = "tenants:write",
        /// See the hosts and all that runs on them.
        HostsRead = "hosts:read",
        /// Seal all secrets with another key.
        HostsWrite = "hosts:write",
        /// Read the metrics.
        MetricsRead = "metrics:read",
    }
}

impl Permission {
    /// The least role that has it.
    pub const fn least_role(self) -> Role {
        match self {
            Self::TasksRead
            | Self::ExecutionsRead
            | Self::PluginsRead
            | Self::QuotasRead
            | Self::TenantsRead => Role::Viewer,
            Self::TasksTrigger => Role::Trigger,
            Self::TasksWrite
            | Self::ExecutionsWrite
            | Self::PluginsWrite
            | Self::PluginsGrant
            | Self::SecretsRead => Role::Operator,
            Self::SecretsWrite | Self::TokensRead | Self::TokensWrite | Self::AuditRead => {
                Role::Admin
            }
            Self::QuotasWrite
            | Self::TenantsWrite
            | Self::HostsRead
            | Self::HostsWrite
            | Self::MetricsRead => Role::HostAdmin,
        }
    }
}

impl Role {
    /// Whether the role has a permission.
    pub fn may(self, permission: Permission) -> bool {
        self >= permission.least_role()
    }
}

/// Whether a text can be a tenant's name: lower-case letters, digits, `-` and `_`, a letter or digit first.
///
/// # Errors
/// What is wrong with it.
pub fn check_tenant_name(name: &str) -> Result<(), Invalid> {
    let first = name.bytes().next();
    let fits = name.len() <= MAX_TENANT_NAME
        && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if fits {
        return Ok(());
    }
    Err(Invalid::one(
        "/name",
        format!(
            "`{}` cannot be a tenant's name; it has 1 to {MAX_TENANT_NAME} lower-case letters, digits, `-` and `_`, \
             and begins with a letter or digit",
            one_line(name, 70)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, cell by cell: `x` where the role has the permission. Order: viewer, trigger, operator,
    /// admin, host-admin.
    const TABLE: &str = "
        tasks:read        x x x x x
        tasks:trigger     - x x x x
        tasks:write       - - x x x
        executions:read   x x x x x
        executions:write  - - x x x
        plugins:read      x x x x x
        plugins:write     - - x x x
        plugins:grant     - - x x x
        secrets:read      - - x x x
        secrets:write     - - - x x
        quotas:read       x x x x x
        tenants:read      x x x x x
        tokens:read       - - - x x
        tokens:write      - - - x x
        audit:read        - - - x x
        quotas:write      - - - - x
        tenants:write     - - - - x
        hosts:read        - - - - x
        hosts:write       - - - - x
        metrics:read      - - - - x
    ";

    #[test]
    fn the_table_of_permissions_and_roles() {
        let mut seen = Vec::new();
        for line in TABLE.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let permission: Permission = words.next().expect("a word").parse().expect(line);
            let cells: Vec<bool> = words.map(|cell| cell == "x").collect();
            let may: Vec<bool> = Role::ALL.iter().map(|role| role.may(permission)).collect();
            assert_eq!(cells, may, "{line}");
            seen.push(permission);
        }
        assert_eq!(seen, Permission::ALL, "every permission has its line");
    }

    #[test]
    fn words_come_back_and_wrong_ones_name_the_nearest() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
        }
        for permission in Permission::ALL {
            let text = serde_json::to_string(permission).expect("a word");
            assert_eq!(
                serde_json::from_str::<Permission>(&text).expect("read"),
                *permission
            );
        }
        let wrong = "oprator".parse::<Role>().expect_err("no role");
        assert_eq!(wrong, "`oprator` is no role; did you mean `operator`?");
        assert!(
            "zzz"
                .parse::<Role>()
                .expect_err("no role")
                .contains("there are viewer, trigger")
        );
    }

    #[test]
    fn names_of_tenants() {
        for good in ["a", "acme", "team-1", "0_x", &"x".repeat(64)] {
            assert!(check_tenant_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "-a",
            "_a",
            "a b",
            "ä",
            "a/b",
            "#2",
            &"x".repeat(65),
        ] {
            assert!(check_tenant_name(bad).is_err(), "{bad}");
        }
    }
}
