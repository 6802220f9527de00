//! The keys that seal secrets: the first is the current one, the others still open what they sealed.

use super::SecretValue;
use crate::store::SealedSecret;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use horarium_model::TenantId;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use zeroize::{Zeroize, Zeroizing};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Hexadecimal digits of a key's id.
const ID_DIGITS: usize = 16;

/// A key and the id by which secrets name it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl SecretKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_bytes(Zeroizing::new(rand::random()))
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// A sentence that does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || {
            format!(
                "a key is {} hexadecimal digits, this has {} characters",
                2 * KEY_BYTES,
                text.chars().count()
            )
        };
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self::from_bytes(bytes))
    }

    fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        // One-way: the id stands in the database, beside what the key seals.
        let mut derived = blake3::derive_key("horarium 2026 id of a secrets key", &*bytes);
        let mut id: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
        id.truncate(ID_DIGITS);
        derived.zeroize();
        Self { id, bytes }
    }

    /// What secrets call it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its 64 hexadecimal digits.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
        for byte in self.bytes.iter() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        text
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

/// Where keys come from.
pub trait KeySource: Send + Sync {
    /// All keys, the current one first; none when there are none yet.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn read(&self) -> Result<Vec<SecretKey>, String>;

    /// Replaces the keys. When there were none and another process made some meanwhile, those stay.
    ///
    /// # Errors
    /// Why it cannot, and what to do instead.
    fn write(&self, keys: &[SecretKey]) -> Result<(), String>;
}

/// No keys, and nowhere to put one.
#[derive(Debug, Default)]
pub struct NoKeys;

impl KeySource for NoKeys {
    fn read(&self) -> Result<Vec<SecretKey>, String> {
        Ok(Vec::new())
    }

    fn write(&self, _keys: &[SecretKey]) -> Result<(), String> {
        Err("this process keeps no secrets".to_owned())
    }
}

/// Why a secret cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no key here.
    #[error("this host has no key for secrets")]
    NoKey,
    /// It was sealed with a key that is not here.
    #[error("the secret `{name}` is sealed with key {key_id}, which this host does not have")]
    UnknownKey {
        /// The secret.
        name: String,
        /// The key's id.
        key_id: String,
    },
    /// It is not what was sealed, or was sealed for another tenant or name.
    #[error("the stored form of the secret `{0}` is damaged; set it again")]
    Damaged(String),
    /// The keys cannot be read or written.
    #[error("{0}")]
    Source(String),
}

/// The keys of a host.
pub struct Keyring {
    source: Box<dyn KeySource>,
    keys: RwLock<Vec<SecretKey>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Default for Keyring {
    /// Without keys.
    fn default() -> Self {
        Self {
            source: Box::new(NoKeys),
            keys: RwLock::default(),
        }
    }
}

impl Keyring {
    /// Reads the keys of a source.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn open_source(source: impl KeySource + 'static) -> Result<Self, String> {
        let keys = source.read()?;
        Ok(Self {
            source: Box::new(source),
            keys: RwLock::new(keys),
        })
    }

    fn with<T>(&self, look: impl FnOnce(&[SecretKey]) -> T) -> T {
        look(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, keys: Vec<SecretKey>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> Vec<String> {
        self.with(|keys| keys.iter().map(|key| key.id.clone()).collect())
    }

    /// The id of the key that seals.
    pub fn current(&self) -> Option<String> {
        self.with(|keys| keys.first().map(|key| key.id.clone()))
    }

    /// Reads the keys anew: an operator may have added one.
    ///
    /// # Errors
    /// Why they cannot be read; the known ones stay.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = self.source.read().map_err(KeyError::Source)?;
        self.replace(keys);
        Ok(())
    }

    /// The first of `ids` that is not here, after a second look at where keys come from.
    pub fn missing<'a>(&self, ids: &'a [String]) -> Option<&'a String> {
        let find = || self.with(|keys| ids.iter().find(|id| keys.iter().all(|k| k.id != **id)));
        find()?;
        if let Err(error) = self.reload() {
            tracing::warn!(%error, "the keys of secrets cannot be read again");
        }
        find()
    }

    /// Puts a new key before the others; it seals from now on.
    ///
    /// # Errors
    /// When the source cannot keep it.
    pub fn add_key(&self) -> Result<(), KeyError> {
        let mut keys = vec![SecretKey::generate()];
        self.with(|old| keys.extend_from_slice(old));
        self.source.write(&keys).map_err(KeyError::Source)?;
        // Another process may have been faster: what is kept counts.
        self.reload()
    }

    /// Forgets all keys but the current one.
    ///
    /// # Errors
    /// When the source cannot be changed.
    pub fn drop_old_keys(&self) -> Result<(), KeyError> {
        let mut keys = self.with(<[SecretKey]>::to_vec);
        keys.truncate(1);
        self.source.write(&keys).map_err(KeyError::Source)?;
        self.replace(keys);
        Ok(())
    }

    /// Seals a value for a tenant and a name: the id of the key, and nonce and ciphertext.
    ///
    /// # Errors
    /// [`KeyError::NoKey`].
    pub fn seal(
        &self,
        tenant: TenantId,
        name: &str,
        value: &SecretValue,
    ) -> Result<(String, Vec<u8>), KeyError> {
        let key = self
            .with(|keys| keys.first().cloned())
            .ok_or(KeyError::NoKey)?;
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: value.expose().as_bytes(),
            aad: &bound_to(tenant, name),
        };
        let sealed = key.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| KeyError::Damaged(name.to_owned()))?;
        Ok((key.id, [&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed, for the tenant and name it was sealed for.
    ///
    /// # Errors
    /// [`KeyError::UnknownKey`], [`KeyError::Damaged`].
    pub fn open(&self, secret: &SealedSecret) -> Result<SecretValue, KeyError> {
        let wanted = std::slice::from_ref(&secret.key_id);
        let find = || self.with(|keys| keys.iter().find(|k| k.id == secret.key_id).cloned());
        let key = match find() {
            Some(key) => Some(key),
            None => self.missing(wanted).is_none().then(find).flatten(),
        };
        let key = key.ok_or_else(|| KeyError::UnknownKey {
            name: secret.name.clone(),
            key_id: secret.key_id.clone(),
        })?;
        let damaged = || KeyError::Damaged(secret.name.clone());
        let (nonce, sealed) = secret
            .sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(damaged)?;
        let payload = Payload {
            msg: sealed,
            aad: &bound_to(secret.tenant_id, &secret.name),
        };
        let opened = key.cipher().decrypt(&XNonce::from(*nonce), payload);
        let text = String::from_utf8(opened.map_err(|_| damaged())?).map_err(|error| {
            error.into_bytes().zeroize();
            damaged()
        })?;
        SecretValue::new(text).map_err(|_| damaged())
    }
}

/// What a sealed value belongs to: moved to another row it does not open.
fn bound_to(tenant: TenantId, name: &str) -> Vec<u8> {
    [
        b"horarium secret 1\0",
        &tenant.to_be_bytes()[..],
        name.as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<SecretKey>>>);

    impl KeySource for Shelf {
        fn read(&self) -> Result<Vec<SecretKey>, String> {
            Ok(self.0.lock().expect("a shelf").clone())
        }

        fn write(&self, keys: &[SecretKey]) -> Result<(), String> {
            *self.0.lock().expect("a shelf") = keys.to_vec();
            Ok(())
        }
    }

    fn sealed(ring: &Keyring, tenant: TenantId, name: &str, text: &str) -> SealedSecret {
        let value = SecretValue::new(text.into()).expect("a value");
        let (key_id, sealed) = ring.seal(tenant, name, &value).expect("seals");
        SealedSecret {
            tenant_id: tenant,
            name: name.to_owned(),
            version: 1,
            key_id,
            sealed,
        }
    }

    #[test]
    fn what_is_sealed_opens_only_where_it_belongs() {
        let ring = Keyring::open_source(Shelf::default()).expect("read");
        let value = SecretValue::new("v".into()).expect("a value");
        assert_eq!(ring.seal(1, "a", &value), Err(KeyError::NoKey));
        ring.add_key().expect("made");
        let secret = sealed(&ring, 1, "a", "the canary");
        assert_eq!(ring.open(&secret).expect("opens").expose(), "the canary");
        assert!(!secret.sealed.windows(6).any(|part| part == b"canary"));
        let same = sealed(&ring, 1, "a", "the canary");
        assert_ne!(same.sealed, secret.sealed, "a nonce of its own");
        let mut bent = secret.clone();
        bent.sealed[30] ^= 1;
        for moved in [
            SealedSecret {
                tenant_id: 2,
                ..secret.clone()
            },
            SealedSecret {
                name: "b".into(),
                ..secret.clone()
            },
            SealedSecret {
                sealed: secret.sealed[..20].to_vec(),
                ..secret.clone()
            },
            bent,
        ] {
            assert!(matches!(ring.open(&moved), Err(KeyError::Damaged(_))));
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let shelf = Shelf::default();
        let ring = Keyring::open_source(shelf.clone()).expect("read");
        let other = Keyring::open_source(shelf.clone()).expect("read");
        ring.add_key().expect("made");
        let old = sealed(&ring, 1, "a", "one");
        ring.add_key().expect("made");
        let new = sealed(&ring, 1, "a", "two");
        assert_ne!(old.key_id, new.key_id);
        assert_eq!(ring.open(&old).expect("opens").expose(), "one");
        // It looks again when it meets a key it does not know.
        assert_eq!(other.open(&new).expect("opens").expose(), "two");
        ring.drop_old_keys().expect("dropped");
        assert_eq!(ring.ids(), std::slice::from_ref(&new.key_id));
        let gone = ring.open(&old).expect_err("refused").to_string();
        assert!(gone.contains(&old.key_id), "{gone}");
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_never_printed() {
        let key = SecretKey::generate();
        let text = key.to_text();
        assert_eq!(SecretKey::parse(&text), Ok(key.clone()));
        assert!(!format!("{key:?}").contains(&text[..20]));
        for wrong in ["", "abc", &"g".repeat(64), &"é".repeat(32)] {
            let refused = SecretKey::parse(wrong).expect_err("refused");
            assert!(refused.contains("64 hexadecimal digits"), "{refused}");
        }
    }
}
