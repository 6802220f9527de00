//! Durable truth, as seven traits: [`Queue`] (what waits and runs), [`Catalog`] (configs, plugins, state),
//! [`Vault`] (settings and secrets of plugins), [`History`] (what ended), [`Care`] (what of it is kept, what it
//! cost), [`Access`] (tenants, tokens, who did what) and [`Outbox`] (alerts). Each method is one atomic operation of the business. Every
//! implementation passes the same conformance suite ([`conformance`]).
//!
//! All operations run to their end once started, even if the caller's future is dropped.

mod access;
mod backlog;
mod breaker;
mod bucket;
mod care;
mod catalog;
pub mod chain;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::expect_used, reason = "a test, for other crates")]
pub mod conformance;
mod enqueue;
mod history;
mod hosts;
mod lanes;
mod measured;
pub mod memory;
pub(crate) mod operations;
mod outbox;
mod prune;
mod queue;
pub mod rules;
mod tally;
mod vault;

pub use access::*;
pub use backlog::*;
pub use breaker::*;
pub use bucket::*;
pub use care::*;
pub use catalog::*;
pub use enqueue::*;
pub use history::*;
pub use hosts::*;
pub use lanes::*;
pub use measured::MeasuredStore;
pub use outbox::*;
pub use prune::*;
pub use queue::*;
pub use tally::*;
pub use vault::*;

use horarium_model::Invalid;
use horarium_model::quota::QuotaHit;

/// All faces of one store.
pub trait Store: Queue + Catalog + Vault + History + Care + Access + Outbox {}
impl<T: Queue + Catalog + Vault + History + Care + Access + Outbox> Store for T {}

/// Why a store operation did not happen. Nothing of it was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No such thing in this tenant.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or changed meanwhile, or stands in a state that forbids this.
    #[error("{0}")]
    Conflict(String),
    /// The input is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A quota of the tenant is used up.
    #[error("{0}")]
    Quota(QuotaHit),
    /// The database cannot be reached or is busy; the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database refused or returned something it never should: a bug or a damaged file.
    #[error("database error: {0}")]
    Internal(String),
}

/// The answer of a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// Which part of a list to return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many items at most.
    pub limit: u32,
    /// Where the page before ended: an item's id; opaque to callers.
    pub after: Option<i64>,
}

impl Page {
    /// Items a list returns when nobody says.
    pub const DEFAULT: u32 = 50;
    /// Items a list returns at most.
    pub const MAX: u32 = 1000;

    /// The first `limit` items.
    pub fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; none when this was the last.
    pub next: Option<i64>,
}

/// Cuts `items` into parts whose sizes add up to `limit` at most, so that no statement becomes too long; each part
/// has at least one.
pub fn chunks<T>(items: Vec<T>, limit: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut bytes) = (Vec::<Vec<T>>::new(), usize::MAX);
    for item in items {
        let more = size(&item);
        match parts.last_mut() {
            Some(last) if bytes.saturating_add(more) <= limit => {
                bytes += more;
                last.push(item);
            }
            _ => {
                bytes = more;
                parts.push(vec![item]);
            }
        }
    }
    parts
}
