//! Tokens: who may ask, seen and handed out. Their text is shown once.

use super::{Context, ServiceError, ServiceResult};
use crate::access::{Caller, hash_of, new_secret, text_of};
use crate::store::{Listing, NewToken, Page, Token, TokenId, rules};
use horarium_model::access::{Permission, Role};
use horarium_model::input::{Fields, type_name};
use horarium_model::{Invalid, TenantId, Timestamp};
use serde_json::{Value, json};

/// Longest name.
const MAX_NAME: usize = 200;
/// Longest time the secret before a rotation stays good, in seconds: a month.
const MAX_KEEP: u64 = 31 * 86_400;

/// Tokens of one host's store.
#[derive(Clone)]
pub struct Tokens(pub(super) Context);

/// A token with its text, which is not kept anywhere.
#[derive(Debug, Clone)]
pub struct FreshToken {
    /// As kept.
    pub token: Token,
    /// What to send.
    pub text: String,
}

impl Tokens {
    /// Creates a token from `{"name", "role", "scope", "expires_at"}`: in `tenant`, or in none for the role
    /// host-admin. Nobody gives more than they have.
    ///
    /// # Errors
    /// `Invalid`.
    pub async fn create(
        &self,
        caller: &Caller,
        tenant: TenantId,
        body: &Value,
    ) -> ServiceResult<FreshToken> {
        let now = self.0.clock.now();
        let new = Fields::read(body, "", |fields| read_new(fields, now))?;
        let (name, Some(role), scope, expires_at) = new else {
            return Err(Invalid::one("/role", "is missing").into());
        };
        refuse_more_than(caller, role, scope.as_deref())?;
        let secret = new_secret();
        let new = NewToken {
            tenant_id: (role != Role::HostAdmin).then_some(tenant),
            name,
            role,
            scope,
            hash: hash_of(&secret),
            created_by: caller.actor(),
            expires_at,
        };
        let token = self.0.store.create_token(now, new).await?;
        self.0.wakes.access.changed();
        let text = text_of(token.id, &secret);
        Ok(FreshToken { token, text })
    }

    /// Tokens of a tenant; for a host-admin, the host's too.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        caller: &Caller,
        tenant: TenantId,
        page: &Page,
    ) -> ServiceResult<Listing<Token>> {
        let with_host = caller.tenant.is_none();
        Ok(self.0.store.tokens(tenant, with_host, page).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn show(
        &self,
        caller: &Caller,
        tenant: TenantId,
        id: TokenId,
    ) -> ServiceResult<Token> {
        let found = self.0.store.token(id).await?;
        let seen = |token: &Token| match token.tenant_id {
            Some(of) => of == tenant,
            None => caller.tenant.is_none(),
        };
        found
            .filter(seen)
            .ok_or_else(|| ServiceError::NotFound(rules::no_token(id)))
    }

    /// Gives a token another secret. The one before stays good for `keep_seconds` of the body (0).
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn rotate(
        &self,
        caller: &Caller,
        tenant: TenantId,
        id: TokenId,
        body: &Value,
    ) -> ServiceResult<FreshToken> {
        let token = self.show(caller, tenant, id).await?;
        let keep = Fields::read(body, "", read_keep)?;
        // Whoever rotates a token has it afterwards.
        refuse_more_than(caller, token.role, token.scope.as_deref())?;
        let now = self.0.clock.now();
        let keep = keep.filter(|seconds| *seconds > 0);
        let until = keep.map(|seconds| now + chrono::Duration::seconds(seconds as i64));
        let secret = new_secret();
        let hash = hash_of(&secret);
        let token = self.0.store.rotate_token(now, id, &hash, until).await?;
        self.0.wakes.access.changed();
        let text = text_of(id, &secret);
        Ok(FreshToken { token, text })
    }

    /// Revokes a token: here at once, on other hosts as fresh as the store's hints.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke(
        &self,
        caller: &Caller,
        tenant: TenantId,
        id: TokenId,
    ) -> ServiceResult<()> {
        self.show(caller, tenant, id).await?;
        self.0.store.delete_token(id).await?;
        self.0.wakes.access.changed();
        Ok(())
    }
}

/// What [`Tokens::create`] takes, as a JSON Schema.
pub fn describe_new() -> Value {
    Fields::describe(|fields| read_new(fields, Timestamp::UNIX_EPOCH))
}

/// What [`Tokens::rotate`] takes, as a JSON Schema.
pub fn describe_rotation() -> Value {
    Fields::describe(read_keep)
}

type Asked = (
    String,
    Option<Role>,
    Option<Vec<Permission>>,
    Option<Timestamp>,
);

fn read_new(fields: &mut Fields<'_>, now: Timestamp) -> Asked {
    let roles: Vec<_> = Role::ALL
        .iter()
        .map(|role| (role.as_str(), *role))
        .collect();
    let name = fields.text("name", 1, MAX_NAME);
    let role = fields.choice("role", &roles);
    let scope = fields.list("scope", Permission::ALL.len(), permission);
    fields.shape("scope", || {
        let words: Vec<&str> = Permission::ALL.iter().map(|word| word.as_str()).collect();
        json!({ "items": { "type": "string", "enum": words }, "minItems": 1 })
    });
    let expires_at = fields.instant("expires_at");
    for (key, missing) in [("name", name.is_none()), ("role", role.is_none())] {
        if missing && !fields.has_problems() {
            fields.missing(key, "is missing");
        }
    }
    if name
        .as_ref()
        .is_some_and(|name| name.chars().any(char::is_control))
    {
        fields.problem("name", "has control characters");
    }
    if expires_at.is_some_and(|end| end <= now) {
        fields.problem("expires_at", "is in the past");
    }
    (name.unwrap_or_default(), role, scope, expires_at)
}

fn read_keep(fields: &mut Fields<'_>) -> Option<u64> {
    fields.unsigned("keep_seconds", 0, MAX_KEEP)
}

fn permission(item: &Value) -> Result<Permission, String> {
    match item {
        Value::String(text) => text.parse(),
        other => Err(format!("must be a permission, not {}", type_name(other))),
    }
}

/// A token of this role and scope must not be able to do what its giver cannot.
fn refuse_more_than(
    caller: &Caller,
    role: Role,
    scope: Option<&[Permission]>,
) -> Result<(), Invalid> {
    if role == Role::HostAdmin && caller.tenant.is_some() {
        return Err(Invalid::one(
            "/role",
            "only a host-admin gives out tokens of the role host-admin",
        ));
    }
    if let Some(scope) = scope {
        if scope.is_empty() {
            let detail =
                "is empty: such a token could do nothing; leave it out for all of the role";
            return Err(Invalid::one("/scope", detail));
        }
        if let Some(beyond) = scope.iter().position(|permission| !role.may(*permission)) {
            let detail = format!("the role {role} does not have {}", scope[beyond]);
            return Err(Invalid::one(format!("/scope/{beyond}"), detail));
        }
    }
    let has = |permission: &Permission| {
        role.may(*permission) && scope.is_none_or(|scope| scope.contains(permission))
    };
    let all = Permission::ALL.iter();
    match all.copied().find(|p| has(p) && !caller.may(*p)) {
        Some(more) => Err(Invalid::one(
            "/role",
            format!("the token would have {more}, which yours does not; name a `scope` without it"),
        )),
        None => Ok(()),
    }
}
