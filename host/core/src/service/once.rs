//! Requests that may be repeated (rule E8): the first of a key is carried out and its answer kept with what
//! it did, in one transaction; whoever repeats it gets that answer.

use super::{Context, ServiceError, ServiceResult};
use crate::store::{
    Answer, Enqueue, EnqueueReceipt, Enqueued, KeptAnswer, KeyedRequest, NewExecution,
};
use horarium_model::text::one_line;
use horarium_model::{Invalid, TenantId, Timestamp};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest key, in characters.
const MAX_KEY: usize = 255;

/// The key of a request and what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    key: String,
    hash: String,
}

impl RequestKey {
    /// A key for a request that consists of these `parts` (what is asked of what, and the body).
    ///
    /// # Errors
    /// When the key is empty, too long or not printable ASCII.
    pub fn new(key: &str, parts: &[&str]) -> Result<Self, Invalid> {
        let fits = (1..=MAX_KEY).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if !fits {
            let detail = format!(
                "the idempotency key `{}` must have 1 to {MAX_KEY} printable ASCII characters",
                one_line(key, 60)
            );
            return Err(Invalid::one("", detail));
        }
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Ok(Self {
            key: key.to_owned(),
            hash: hasher.finalize().to_hex().to_string(),
        })
    }
}

/// What became of a request that may be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<T> {
    /// It was carried out now.
    Done(T),
    /// It was carried out before; this was its answer.
    Repeated(Answer),
}

/// The keyed requests that this host is carrying out.
#[derive(Debug, Default)]
pub struct Requests(Mutex<HashSet<(TenantId, String)>>);

/// One of them; ends when dropped.
pub(super) struct InFlight {
    requests: Arc<Requests>,
    key: (TenantId, String),
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut keys = self
            .requests
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}

/// How a keyed request begins.
pub(super) enum Begun {
    /// It is to be carried out, while this is held.
    Fresh(Option<InFlight>),
    /// It was answered before.
    Repeated(Answer),
}

impl Context {
    /// Begins a request, which has a key or not.
    pub(super) async fn begin(
        &self,
        tenant: TenantId,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Begun> {
        let Some(request) = key else {
            return Ok(Begun::Fresh(None));
        };
        let entry = (tenant, request.key.clone());
        let fresh = {
            let mut keys = self
                .requests
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            keys.insert(entry.clone())
        };
        if !fresh {
            return Err(ServiceError::Conflict(format!(
                "a request with the idempotency key `{}` is being carried out; ask again when it is done",
                one_line(&request.key, 60)
            )));
        }
        let in_flight = InFlight {
            requests: self.requests.clone(),
            key: entry,
        };
        let now = self.clock.now();
        match self.store.kept_answer(now, tenant, &request.key).await? {
            Some(kept) => Ok(Begun::Repeated(repeated(request, kept)?)),
            None => Ok(Begun::Fresh(Some(in_flight))),
        }
    }
}

impl Context {
    /// Has the store enqueue, and rings. The receipts; or the kept answer, when the request was carried out before.
    pub(super) async fn enqueue(
        &self,
        now: Timestamp,
        batch: Enqueue,
        key: Option<&RequestKey>,
    ) -> ServiceResult<Once<Vec<EnqueueReceipt>>> {
        let by_time = |item: &NewExecution| item.due_at > now || item.expires_at.is_some();
        let waits_for_time = batch.items.iter().any(by_time);
        let write = self.store.enqueue(now, batch);
        let in_order = self.store.is_in_order();
        let done = self.wakes.enqueued_by(in_order, write).await?;
        if waits_for_time {
            self.wakes.rescheduled();
        }
        Ok(match (done, key) {
            (Enqueued::Done(receipts), _) => Once::Done(receipts),
            (Enqueued::Repeated(kept), Some(key)) => Once::Repeated(repeated(key, kept)?),
            (Enqueued::Repeated(_), None) => Once::Done(Vec::new()),
        })
    }
}

/// The kept answer, if it was given to this very request.
pub(super) fn repeated(request: &RequestKey, kept: KeptAnswer) -> ServiceResult<Answer> {
    if kept.hash == request.hash {
        return Ok(kept.answer);
    }
    Err(Invalid::one(
        "",
        format!(
            "the idempotency key `{}` was used within the last 24 hours for another request; send this one with a key of its own",
            one_line(&request.key, 60)
        ),
    )
    .into())
}

/// A request as the store keeps it.
pub(super) fn keyed<T>(
    tenant: TenantId,
    key: Option<&RequestKey>,
    answer: impl Fn(&T) -> Option<Answer> + Send + Sync + 'static,
) -> Option<KeyedRequest<T>> {
    key.map(|request| KeyedRequest {
        tenant_id: tenant,
        key: request.key.clone(),
        hash: request.hash.clone(),
        answer: Arc::new(answer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded_and_hashes_tell_requests_apart() {
        for bad in ["", "a\nb", "é", &"x".repeat(256)] {
            assert!(RequestKey::new(bad, &[]).is_err(), "{bad:?}");
        }
        let key = |parts: &[&str]| RequestKey::new("k", parts).expect("a key");
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["ab", ""]));
    }
}
