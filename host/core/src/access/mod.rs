//! Who asks: tokens, told apart by their hashes, kept in memory as long as the store is known not to have changed
//! its mind.

mod fresh;
mod gate;
mod secret;

pub use fresh::Freshness;
pub use gate::{Denied, Gate};
pub use secret::{hash_of, new_secret, text_of};

use crate::store::{Token, TokenId};
use horarium_model::access::{Permission, Role};
use horarium_model::{TenantId, Timestamp};

/// Who asks, and what they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token; none = the one in the host's data directory.
    pub token: Option<TokenId>,
    /// Its name.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Of that, only this; none = all.
    pub scope: Option<Vec<Permission>>,
    /// Its tenant, by id and name; none = it names one with each request.
    pub tenant: Option<(TenantId, String)>,
    /// It is good before this instant only.
    pub expires_at: Option<Timestamp>,
}

impl Caller {
    /// Whoever may read the data directory of a host.
    pub fn of_this_host() -> Self {
        Self {
            token: None,
            name: "admin-token".to_owned(),
            role: Role::HostAdmin,
            scope: None,
            tenant: None,
            expires_at: None,
        }
    }

    fn of(token: &Token) -> Self {
        let name = token.tenant.clone().unwrap_or_default();
        Self {
            token: Some(token.id),
            name: token.name.clone(),
            role: token.role,
            scope: token.scope.clone(),
            tenant: token.tenant_id.map(|id| (id, name)),
            expires_at: token.expires_at,
        }
    }

    /// Whether it may.
    pub fn may(&self, permission: Permission) -> bool {
        let in_scope = |scope: &Vec<Permission>| scope.contains(&permission);
        self.role.may(permission) && self.scope.as_ref().is_none_or(in_scope)
    }

    /// All that it may.
    pub fn permissions(&self) -> Vec<Permission> {
        let all = Permission::ALL.iter().copied();
        all.filter(|permission| self.may(*permission)).collect()
    }

    /// How the audit log and `created_by` name it.
    pub fn actor(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_narrows_a_role() {
        let mut caller = Caller::of_this_host();
        assert_eq!(caller.permissions(), Permission::ALL);
        caller.role = Role::Trigger;
        caller.scope = Some(vec![Permission::TasksTrigger, Permission::TasksWrite]);
        assert_eq!(caller.permissions(), [Permission::TasksTrigger]);
    }
}
