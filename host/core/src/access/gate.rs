//! Tells tokens apart, and tenants by their names.

use super::Caller;
use super::secret::{is_hash_of, parse};
use crate::clock::Clock;
use crate::store::{Store, StoreError, StoreResult, Token, TokenId};
use crate::wake::Wakes;
use horarium_model::{TenantId, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Tokens and tenants kept in memory; when there are more, all are read anew.
const KEPT: usize = 10_000;
/// How exact the last use of a token is.
const USE_NOTED_EVERY: chrono::Duration = chrono::Duration::seconds(60);

/// Why a token is not taken.
#[derive(Debug)]
pub enum Denied {
    /// It is none, or none any more; the reason is for whoever sent it.
    Unknown(String),
    /// It is not kept in memory, and the store was not to be asked.
    NotAsked,
    /// The store cannot be asked.
    Store(StoreError),
}

/// A token in memory.
struct Kept {
    token: Arc<Token>,
    generation: u64,
    noted: Option<Timestamp>,
}

/// Tells tokens apart, and tenants by their names.
pub struct Gate {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    wakes: Arc<Wakes>,
    kept: Mutex<HashMap<TokenId, Kept>>,
    tenants: Mutex<HashMap<String, (TenantId, u64)>>,
}

impl Gate {
    /// A gate to what is in `store`, kept fresh by `wakes`.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, wakes: Arc<Wakes>) -> Self {
        Self {
            store,
            clock,
            wakes,
            kept: Mutex::default(),
            tenants: Mutex::default(),
        }
    }

    /// The tenant of this name; none = there is no such.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn tenant(&self, name: &str) -> StoreResult<Option<TenantId>> {
        let tenants = || self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tenants().get(name).copied();
        let now = self.clock.monotonic();
        if let Some((id, generation)) = known
            && self.wakes.access.holds(generation, now)
        {
            return Ok(Some(id));
        }
        // Before the read: what changes meanwhile is read again.
        let generation = self.wakes.access.generation();
        let found = self.store.tenant(name).await?;
        let mut tenants = tenants();
        match found {
            Some(id) => {
                if tenants.len() >= KEPT {
                    tenants.clear();
                }
                tenants.insert(name.to_owned(), (id, generation));
            }
            None => {
                tenants.remove(name);
            }
        }
        Ok(found)
    }

    /// Whose token this is. With `ask` false the store is left alone.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn caller(&self, text: &str, ask: bool) -> Result<Caller, Denied> {
        let unknown = || Denied::Unknown("this token is not known here".to_owned());
        let (id, secret) = parse(text).ok_or_else(unknown)?;
        let token = match self.remembered(id) {
            Some(token) => token,
            None if ask => self
                .read(id)
                .await
                .map_err(Denied::Store)?
                .ok_or_else(unknown)?,
            None => return Err(Denied::NotAsked),
        };
        let now = self.clock.now();
        let current = is_hash_of(&token.hash, secret);
        let previous = token
            .previous_hash
            .as_ref()
            .is_some_and(|hash| is_hash_of(hash, secret))
            && token.previous_until.is_some_and(|until| now < until);
        if !current && !previous {
            return Err(unknown());
        }
        if let Some(end) = token.expires_at.filter(|end| *end <= now) {
            let end = horarium_model::schedule::wire(end);
            return Err(Denied::Unknown(format!("this token expired at {end}")));
        }
        self.note_use(&token, now);
        Ok(Caller::of(&token))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<TokenId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, id: TokenId) -> Option<Arc<Token>> {
        let kept = self.kept();
        let entry = kept.get(&id)?;
        let now = self.clock.monotonic();
        let holds = self.wakes.access.holds(entry.generation, now);
        holds.then(|| entry.token.clone())
    }

    async fn read(&self, id: TokenId) -> StoreResult<Option<Arc<Token>>> {
        // Before the read: what changes meanwhile is read again.
        let generation = self.wakes.access.generation();
        let found = self.store.token(id).await?.map(Arc::new);
        let mut kept = self.kept();
        match &found {
            Some(token) => {
                if kept.len() >= KEPT {
                    kept.clear();
                }
                let noted = kept.get(&id).and_then(|entry| entry.noted);
                let entry = Kept {
                    token: token.clone(),
                    generation,
                    noted: noted.max(token.last_used_at),
                };
                kept.insert(id, entry);
            }
            None => {
                kept.remove(&id);
            }
        }
        Ok(found)
    }

    /// Notes that a token was used, once a minute.
    fn note_use(&self, token: &Token, now: Timestamp) {
        let due = {
            let mut kept = self.kept();
            let noted = kept.get_mut(&token.id).map(|entry| &mut entry.noted);
            noted.is_some_and(|noted| {
                let due = noted.is_none_or(|noted| now - noted >= USE_NOTED_EVERY);
                if due {
                    *noted = Some(now);
                }
                due
            })
        };
        if due {
            let (store, id) = (self.store.clone(), token.id);
            tokio::spawn(async move {
                if let Err(error) = store.touch_token(id, now).await {
                    tracing::debug!(%error, id, "the use of a token was not noted");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::{hash_of, new_secret, text_of};
    use super::*;
    use crate::executor::TRUST;
    use crate::store::memory::MemoryStore;
    use crate::store::{Access as _, NewToken};
    use horarium_model::access::Role;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
    use std::time::Duration;

    #[derive(Default)]
    struct TestClock {
        now: AtomicI64,
        monotonic: AtomicU64,
    }

    #[async_trait::async_trait]
    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_timestamp(self.now.load(Ordering::SeqCst), 0).expect("in range")
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.monotonic.load(Ordering::SeqCst))
        }
        async fn sleep(&self, _span: Duration) {
            std::future::pending().await
        }
    }

    struct Lab {
        store: Arc<MemoryStore>,
        clock: Arc<TestClock>,
        wakes: Arc<Wakes>,
        gate: Gate,
    }

    impl Lab {
        fn new() -> Self {
            let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(TestClock::default()));
            let wakes = Arc::new(Wakes::default());
            let gate = Gate::new(store.clone(), clock.clone(), wakes.clone());
            Self {
                store,
                clock,
                wakes,
                gate,
            }
        }

        async fn token(&self, expires_at: Option<i64>) -> (TokenId, String) {
            let secret = new_secret();
            let new = NewToken {
                tenant_id: Some(1),
                name: "a".into(),
                role: Role::Operator,
                scope: None,
                hash: hash_of(&secret),
                created_by: "b".into(),
                expires_at: expires_at.and_then(|at| Timestamp::from_timestamp(at, 0)),
            };
            let id = self
                .store
                .create_token(self.clock.now(), new)
                .await
                .expect("kept")
                .id;
            (id, text_of(id, &secret))
        }

        async fn is_known(&self, text: &str, ask: bool) -> bool {
            self.gate.caller(text, ask).await.is_ok()
        }
    }

    #[tokio::test]
    async fn tokens_are_told_apart_by_their_secret() {
        let lab = Lab::new();
        let (id, text) = lab.token(None).await;
        let caller = lab.gate.caller(&text, true).await.expect("known");
        assert_eq!((caller.token, caller.role), (Some(id), Role::Operator));
        assert_eq!(caller.tenant, Some((1, "default".into())));
        let other = text_of(id, &new_secret());
        for wrong in [
            "",
            "hor_",
            "hor_1_",
            &text[4..],
            &text[..text.len() - 1],
            other.as_str(),
        ] {
            assert!(!lab.is_known(wrong, true).await, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_holds_while_heartbeats_say_so() {
        let lab = Lab::new();
        let (id, text) = lab.token(None).await;
        assert!(lab.is_known(&text, true).await);
        assert!(
            !lab.is_known(&text, false).await,
            "no heartbeat vouched for it yet"
        );
        lab.wakes.access.confirm(1, Duration::ZERO);
        assert!(lab.is_known(&text, true).await);
        assert!(lab.is_known(&text, false).await);
        // Revoked on another host: a hint, or the epoch of a heartbeat, ends it.
        lab.store.delete_token(id).await.expect("gone");
        assert!(lab.is_known(&text, true).await, "nobody told yet");
        lab.wakes.access.changed();
        assert!(!lab.is_known(&text, true).await);
        let (id, text) = lab.token(None).await;
        assert!(lab.is_known(&text, true).await);
        lab.store.delete_token(id).await.expect("gone");
        lab.wakes.access.confirm(2, Duration::ZERO);
        assert!(!lab.is_known(&text, true).await);
        // And without either, the end of trust.
        let (id, text) = lab.token(None).await;
        assert!(lab.is_known(&text, true).await);
        lab.store.delete_token(id).await.expect("gone");
        lab.clock
            .monotonic
            .store(TRUST.as_secs() + 1, Ordering::SeqCst);
        assert!(!lab.is_known(&text, true).await);
    }

    #[tokio::test]
    async fn tenants_are_kept_as_long_as_tokens() {
        let lab = Lab::new();
        let named = |name: &'static str| async { lab.gate.tenant(name).await.expect("asked") };
        assert_eq!(named("acme").await, None);
        lab.wakes.access.confirm(1, Duration::ZERO);
        let now = lab.clock.now();
        let made = lab.store.create_tenant(now, "acme", 1).await.expect("made");
        assert_eq!(named("acme").await, Some(made.id), "no is never kept");
        lab.store.delete_tenant(now, made.id).await.expect("gone");
        assert_eq!(named("acme").await, Some(made.id), "nobody told yet");
        lab.wakes.access.changed();
        assert_eq!(named("acme").await, None);
    }

    #[tokio::test]
    async fn expiry_and_rotation() {
        let lab = Lab::new();
        let (id, text) = lab.token(Some(100)).await;
        lab.clock.now.store(99, Ordering::SeqCst);
        assert!(lab.is_known(&text, true).await);
        let secret = new_secret();
        let until = Timestamp::from_timestamp(105, 0);
        let (now, hash) = (lab.clock.now(), hash_of(&secret));
        let rotated = lab.store.rotate_token(now, id, &hash, until);
        rotated.await.expect("rotated");
        let (old, new) = (text, text_of(id, &secret));
        assert!(lab.is_known(&old, true).await && lab.is_known(&new, true).await);
        lab.clock.now.store(100, Ordering::SeqCst);
        let Err(Denied::Unknown(reason)) = lab.gate.caller(&new, true).await else {
            panic!("expired");
        };
        assert_eq!(reason, "this token expired at 1970-01-01T00:01:40Z");
        let (id, text) = lab.token(None).await;
        let rotated = lab.store.rotate_token(lab.clock.now(), id, &hash, None);
        rotated.await.expect("rotated");
        assert!(!lab.is_known(&text, true).await);
    }

    #[tokio::test]
    async fn the_last_use_is_noted_once_a_minute() {
        let lab = Lab::new();
        let (id, text) = lab.token(None).await;
        let noted = async || {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let token = lab.store.token(id).await.expect("read").expect("there");
            token.last_used_at.map(|at| at.timestamp())
        };
        for (now, seen) in [(0, 0), (59, 0), (60, 60), (61, 60)] {
            lab.clock.now.store(now, Ordering::SeqCst);
            assert!(lab.is_known(&text, true).await);
            assert_eq!(noted().await, Some(seen));
        }
    }
}
