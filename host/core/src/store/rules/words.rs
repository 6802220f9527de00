//! The words that are written: messages of ends, and the sentences of refusals.

use crate::store::{StoreError, StoreResult, TokenId};
use horarium_model::quota::QuotaHit;
use horarium_model::{ConfigId, TenantId};
use std::collections::BTreeMap;

/// Message of an execution that was cancelled while it waited.
pub const CANCELLED_WAITING: &str = "cancelled while it waited";
/// Message of an execution that was to be tried again, but whose cancel had been asked for.
pub const CANCELLED_RETRY: &str = "cancelled before its next attempt";
/// Message of an execution that a newer slot replaced (overlap `cancel_running`).
pub const CANCELLED_OVERLAP: &str = "cancelled: a newer slot came while it waited";
/// Message of an execution whose config was deleted while it waited.
pub const CONFIG_DELETED: &str = "config_deleted: its task config was deleted while it waited";
/// Message of an execution that waited too long.
pub const EXPIRED: &str = "expired: it did not start before its expires_at";
/// Message of an attempt whose host was lost.
pub const LOST: &str = "the host that ran it was lost";
/// Message of an execution that lost its host too often.
pub const LOST_TOO_OFTEN: &str = "its host was lost 5 times while running it";

/// The first key whose version is not the expected one, as a sentence.
pub fn state_conflict(
    expected: &BTreeMap<String, i64>,
    version: impl Fn(&str) -> i64,
) -> Option<String> {
    expected.iter().find_map(|(key, seen)| {
        let found = version(key);
        (found != *seen).then(|| {
            format!("state key `{key}` changed during the run: version {found}, expected {seen}")
        })
    })
}

/// Why a config paused by itself.
pub fn pause_reason(failures: u32) -> String {
    format!("paused by itself: {failures} executions in a row failed")
}

/// The sentence of a version that is not the expected one.
pub fn version_conflict(id: ConfigId, found: i64, expected: i64) -> String {
    format!(
        "task {id} changed meanwhile: it has version {found}, the change was made from version {expected}; read it again"
    )
}

/// The sentence of a key that is taken.
pub fn key_taken(key: &str) -> String {
    format!("the key `{key}` belongs to another task; keys are unique")
}

/// The sentence of a config that does not exist.
pub fn no_config(id: ConfigId) -> String {
    format!("there is no task {id}")
}

/// The sentence of a tenant that does not exist.
pub fn no_tenant(tenant: TenantId) -> String {
    format!("there is no tenant {tenant}")
}

/// Refuses one more where there are as many as a quota allows.
///
/// # Errors
/// `Quota`.
pub fn refuse_beyond(quota: &'static str, limit: Option<u64>, used: u64) -> StoreResult<()> {
    let Some(limit) = limit.filter(|limit| used >= *limit) else {
        return Ok(());
    };
    Err(StoreError::Quota(QuotaHit {
        quota,
        used,
        limit,
        resets_at: None,
    }))
}

/// Refuses state that would grow beyond a quota; `grows` is by how much.
///
/// # Errors
/// The hit.
pub fn refuse_state(limit: Option<u64>, used: u64, grows: i64) -> Result<(), QuotaHit> {
    let Some(limit) = limit.filter(|_| grows > 0) else {
        return Ok(());
    };
    match used.saturating_add_signed(grows) > limit {
        true => Err(QuotaHit {
            quota: "state_bytes",
            used,
            limit,
            resets_at: None,
        }),
        false => Ok(()),
    }
}

/// The sentence of a tenant's name that is in use.
pub fn tenant_taken(name: &str) -> String {
    format!("there is a tenant `{name}` already")
}

/// The sentence of a token that does not exist.
pub fn no_token(id: TokenId) -> String {
    format!("there is no token {id}")
}

/// A tenant is deleted only when nothing in it can start any more.
///
/// # Errors
/// `Conflict` naming what it still has.
pub fn refuse_busy_tenant(tasks: u64, live: u64) -> StoreResult<()> {
    if tasks == 0 && live == 0 {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "the tenant still has {tasks} tasks and {live} executions that have not ended; delete its tasks first"
    )))
}

/// The sentence of a type that does not exist.
pub fn no_type(task_type: &str) -> String {
    format!("no plugin is registered as `{task_type}`")
}

/// The sentence of a tenant's plugin whose name the host shares.
pub fn name_is_shared(task_type: &str) -> String {
    format!("`{task_type}` is a plugin that the host shares with every tenant; take another name")
}

/// A name that some tenant uses cannot be shared.
///
/// # Errors
/// `Conflict` naming those tenants, which a host-admin may know.
pub fn refuse_taken_name(task_type: &str, tenants: &[String]) -> StoreResult<()> {
    let named: Vec<String> = tenants
        .iter()
        .take(5)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match tenants.len().saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match named[..] {
        [] => Ok(()),
        _ => Err(StoreError::Conflict(format!(
            "`{task_type}` is a plugin of its own for {}{more}; a name is a tenant's or shared, never both: \
             remove it there first, or share it under another name",
            named.join(", ")
        ))),
    }
}

/// A type is removed only when nothing of it can start or end any more.
///
/// # Errors
/// `Conflict` naming what there still is.
pub fn refuse_used_type(
    task_type: &str,
    tasks: u64,
    waiting: u64,
    running: u64,
) -> StoreResult<()> {
    let (found, advice) = match (tasks, waiting, running) {
        (0, 0, 0) => return Ok(()),
        (0, 0, _) => (
            format!("{running} executions of it run"),
            "wait for them or cancel them",
        ),
        (0, ..) => (
            format!("{waiting} executions of it wait"),
            "let them run, or say that they be cancelled (`--cancel-waiting`, `cancel_waiting=true`)",
        ),
        _ => (format!("{tasks} tasks name it"), "delete them first"),
    };
    Err(StoreError::Conflict(format!(
        "`{task_type}` is in use: {found}; {advice}"
    )))
}

/// The sentence of a version that does not exist.
pub fn no_version(task_type: &str, digest: &str) -> String {
    format!("`{task_type}` has no version {digest}")
}

/// The sentence of a version in a state that forbids the wish.
pub fn version_not(task_type: &str, digest: &str, found: &str, wanted: &str) -> String {
    format!("version {digest} of `{task_type}` is {found}, not {wanted}")
}

/// The sentence of a declaration that was made from another active version.
pub fn other_active(task_type: &str) -> String {
    format!("another version of `{task_type}` was made active meanwhile")
}

/// The sentence of a fire order without an id for each of its fires.
pub fn too_few_ids(config: ConfigId) -> String {
    format!("the order for task {config} has fewer task ids than slots that fire")
}
