//! A small store of bytes by key, one per task config, behind the grant `state`.
//!
//! Reads see what was there when the attempt started, and its own writes. Writes are kept if and only
//! if the attempt succeeds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Refusal, TaskError};
use crate::sys;

/// How many keys are asked of the host at once.
const PAGE: u32 = 1000;

/// The bytes under `key`, if any.
///
/// # Errors
/// `state` is not granted, or the key is invalid.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Refusal> {
    sys::state_get(key)
}

/// Puts bytes under `key`.
///
/// # Errors
/// `state` is not granted, the key is invalid, or `state_bytes` would be exceeded.
pub fn set(key: &str, value: &[u8]) -> Result<(), Refusal> {
    sys::state_set(key, value)
}

/// Removes `key`; a key that is not there is no error.
///
/// # Errors
/// `state` is not granted, or the key is invalid.
pub fn delete(key: &str) -> Result<(), Refusal> {
    sys::state_delete(key)
}

/// All keys that start with `prefix`, in byte order.
///
/// # Errors
/// `state` is not granted.
pub fn keys(prefix: &str) -> Result<Vec<String>, Refusal> {
    let mut all = Vec::new();
    loop {
        let page = sys::state_keys(prefix, all.last().map(String::as_str), PAGE)?;
        let complete = page.len() < PAGE as usize;
        all.extend(page);
        if complete {
            return Ok(all);
        }
    }
}

/// The JSON value under `key`, if any.
///
/// # Errors
/// As [`get`]; permanent when the bytes are not that type's JSON.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, TaskError> {
    let Some(bytes) = get(key)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        TaskError::permanent(format!("state key {key:?} holds something else: {error}"))
            .code("bad-state")
    })
}

/// Puts a value under `key` as JSON.
///
/// # Errors
/// As [`set`]; permanent when the value cannot be JSON.
pub fn set_json<T: Serialize>(key: &str, value: &T) -> Result<(), TaskError> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        TaskError::permanent(format!(
            "the value for state key {key:?} cannot be JSON: {error}"
        ))
    })?;
    Ok(set(key, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn typed_values_round_trip_and_bad_ones_are_named() {
        Host::new().state("odd", b"[1,").install();
        set_json("seen", &vec!["a", "b"]).unwrap();
        assert_eq!(
            get_json::<Vec<String>>("seen").unwrap().unwrap(),
            ["a", "b"]
        );
        assert_eq!(get_json::<u8>("absent").unwrap(), None);
        let error = get_json::<Vec<u8>>("odd").unwrap_err();
        assert!(error.is_permanent());
        assert!(
            error.message().starts_with("state key \"odd\""),
            "{}",
            error.message()
        );
    }

    #[test]
    fn keys_come_in_order_over_several_pages() {
        let mut host = Host::new().state("other", b"");
        for n in 0..2500 {
            host = host.state(&format!("k{n:04}"), b"");
        }
        host.install();
        let keys = keys("k").unwrap();
        assert_eq!(keys.len(), 2500);
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_host_that_grants_nothing_refuses() {
        Host::new().refuse_state().install();
        let error = TaskError::from(get("a").unwrap_err());
        assert!(error.is_permanent());
        assert_eq!(error.error_code(), Some("not-granted"));
    }
}
