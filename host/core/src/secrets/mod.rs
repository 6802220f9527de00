//! Secrets: sealed at rest ([`Keyring`]), never shown by any `Debug` ([`SecretValue`]), taken out of what
//! runs leave behind ([`Redactor`]).

mod keyring;
mod redact;

pub use keyring::{KeyError, KeySource, Keyring, NoKeys, SecretKey};
pub use redact::{Redactor, mask, percent_encode};

use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Longest value of a secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// The value of a secret. Printing it says nothing, and its memory is wiped when the last copy goes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<Zeroizing<String>>);

impl SecretValue {
    /// Takes a value: 1 byte to 64 KiB of text without NUL.
    ///
    /// # Errors
    /// A sentence for the user that does not repeat the value.
    pub fn new(mut text: String) -> Result<Self, String> {
        let refused = if text.is_empty() {
            "is empty; a secret has a value".to_owned()
        } else if text.len() > MAX_SECRET_BYTES {
            format!(
                "has {} bytes; a secret has at most {MAX_SECRET_BYTES}",
                text.len()
            )
        } else if text.contains('\0') {
            "holds a NUL character, which a secret cannot".to_owned()
        } else {
            return Ok(Self(Arc::new(Zeroizing::new(text))));
        };
        text.zeroize();
        Err(refused)
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A secret that a run may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSecret {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SecretValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_never_printed() {
        let value = SecretValue::new("hunter2".into()).expect("a value");
        assert_eq!(value.expose(), "hunter2");
        let secret = RunSecret {
            name: "n".into(),
            value,
        };
        assert!(!format!("{secret:?}").contains("hunter2"));
        for wrong in [String::new(), "a\0b".into(), "x".repeat((64 << 10) + 1)] {
            let refused = SecretValue::new(wrong).expect_err("refused");
            assert!(!refused.contains("a\0b") && !refused.contains("xxx"));
        }
    }
}
