//! Tenants, tokens, and who did what.

use super::{Listing, Page, StoreResult, TenantBounds};
use horarium_model::access::{Permission, Role};
use horarium_model::{TenantId, Timestamp};
use std::sync::Arc;

/// All tenants, in the order of their ids.
///
/// # Errors
/// When the store cannot be read.
pub async fn every_tenant(store: &dyn super::Store) -> StoreResult<Vec<Tenant>> {
    let mut page = Page::first(Page::MAX);
    let mut all = Vec::new();
    loop {
        let listing = store.tenants(&page).await?;
        all.extend(listing.items);
        match listing.next {
            Some(next) => page.after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Row id of a token.
pub type TokenId = i64;

/// Who may use the store's things, and who did. Every change of tokens and tenants raises the access epoch, which
/// the heartbeat brings to every host.
#[async_trait::async_trait]
pub trait Access: Send + Sync + 'static {
    /// A new tenant without bounds. The catalog's epoch rises too: it may use what the host shares.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    async fn create_tenant(&self, now: Timestamp, name: &str, weight: u32) -> StoreResult<Tenant>;

    /// A tenant, by name.
    async fn tenant_named(&self, name: &str) -> StoreResult<Option<Tenant>>;

    /// Tenants, in the order of their ids; `page.after` is an id.
    async fn tenants(&self, page: &Page) -> StoreResult<Listing<Tenant>>;

    /// Deletes a tenant that has no tasks and nothing that lives: at once nobody finds it any more and its tokens
    /// are gone; its history and plugins go in batches, by [`super::Catalog::purge_deleted`].
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it has tasks or live executions.
    async fn delete_tenant(&self, now: Timestamp, tenant: TenantId) -> StoreResult<()>;

    /// Keeps a new token.
    ///
    /// # Errors
    /// `NotFound` when its tenant does not exist.
    async fn create_token(&self, now: Timestamp, token: NewToken) -> StoreResult<Token>;

    /// A token, whosever it is: for finding out who asks.
    async fn token(&self, id: TokenId) -> StoreResult<Option<Token>>;

    /// Tokens of a tenant and, `with_host`, of no tenant, oldest first; `page.after` is an id.
    async fn tokens(
        &self,
        tenant: TenantId,
        with_host: bool,
        page: &Page,
    ) -> StoreResult<Listing<Token>>;

    /// Gives a token another secret. The one before stays good until `previous_until`.
    ///
    /// # Errors
    /// `NotFound`.
    async fn rotate_token(
        &self,
        now: Timestamp,
        id: TokenId,
        hash: &str,
        previous_until: Option<Timestamp>,
    ) -> StoreResult<Token>;

    /// Forgets a token.
    ///
    /// # Errors
    /// `NotFound`.
    async fn delete_token(&self, id: TokenId) -> StoreResult<()>;

    /// Notes that a token was used; an instant that is not later changes nothing. Not worth an epoch.
    async fn touch_token(&self, id: TokenId, at: Timestamp) -> StoreResult<()>;

    /// Adds to the audit log, in this order.
    async fn record_audit(&self, entries: Arc<[AuditEntry]>) -> StoreResult<()>;

    /// The audit log, newest first; `page.after` is an id.
    async fn audit(&self, filter: &AuditFilter, page: &Page) -> StoreResult<Listing<AuditRow>>;

    /// Forgets up to `limit` entries from before an instant; returns how many.
    async fn purge_audit(&self, before: Timestamp, limit: u32) -> StoreResult<u64>;
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Row id.
    pub id: TenantId,
    /// Its name, unique.
    pub name: String,
    /// What it may use.
    pub bounds: TenantBounds,
    /// When it was created; none for the one that always was.
    pub created_at: Option<Timestamp>,
}

/// A token to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose; none = the host's.
    pub tenant_id: Option<TenantId>,
    /// For people.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Of that, only this; none = all.
    pub scope: Option<Vec<Permission>>,
    /// Hash of its secret, as hex.
    pub hash: String,
    /// Who created it.
    pub created_by: String,
    /// It is good before this instant only.
    pub expires_at: Option<Timestamp>,
}

/// A token as kept: never its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Row id.
    pub id: TokenId,
    /// Whose; none = the host's.
    pub tenant_id: Option<TenantId>,
    /// That tenant's name.
    pub tenant: Option<String>,
    /// For people.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Of that, only this; none = all.
    pub scope: Option<Vec<Permission>>,
    /// Hash of its secret, as hex.
    pub hash: String,
    /// Hash of the secret before the last rotation.
    pub previous_hash: Option<String>,
    /// That one is good before this instant.
    pub previous_until: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// It is good before this instant only.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it last got another secret.
    pub rotated_at: Option<Timestamp>,
}

/// What somebody did. Never with what: parameters, bodies and queries are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// In which tenant; none = the host as a whole.
    pub tenant_id: Option<TenantId>,
    /// By which token; none = the one in the host's data directory.
    pub token_id: Option<TokenId>,
    /// That token's name then.
    pub actor: String,
    /// Its role then.
    pub role: Role,
    /// What it took leave for.
    pub action: Permission,
    /// The HTTP method.
    pub method: String,
    /// What it was done to: the path of the request.
    pub target: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Id of the request, as in its answer.
    pub request_id: String,
    /// Address it came from.
    pub address: Option<String>,
    /// The host that answered.
    pub host: String,
}

/// An entry with its row id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Row id; later entries have higher ones.
    pub id: i64,
    /// What was done.
    pub entry: AuditEntry,
}

/// Which entries to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// In this tenant.
    pub tenant_id: TenantId,
    /// And of the host as a whole.
    pub with_host: bool,
    /// Only of this kind.
    pub action: Option<Permission>,
    /// Only by this token.
    pub token_id: Option<TokenId>,
    /// Only at or after.
    pub since: Option<Timestamp>,
    /// Only before.
    pub until: Option<Timestamp>,
}
