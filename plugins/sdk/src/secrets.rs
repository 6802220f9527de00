//! Secrets, by name, without their values.
//!
//! ```no_run
//! # use horarium_task::{http, secrets, TaskError};
//! // Granted with: secret api-key in header:authorization to https://api.example.com
//! let answer = http::get("https://api.example.com/v1/me")
//!     .header("Authorization", secrets::bearer("api-key")?)
//!     .send()?;
//! # Ok::<(), TaskError>(())
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Refusal;

/// A placeholder for the secret: put it into a header, the query or the body of a request, and the
/// host replaces it on the way out, to the places the operator granted. It is another one in each run.
/// The value itself only where the operator granted `reveal`.
///
/// # Errors
/// The secret is not granted or does not exist.
pub fn get(name: &str) -> Result<String, Refusal> {
    crate::sys::secret_get(name)
}

/// The header `Authorization` with the secret as bearer token.
///
/// # Errors
/// As [`get`].
pub fn bearer(name: &str) -> Result<String, Refusal> {
    Ok(format!("Bearer {}", get(name)?))
}

/// The header `Authorization` with a user and the secret as password. The host replaces the placeholder
/// inside of the base64 too.
///
/// # Errors
/// As [`get`].
pub fn basic(user: &str, name: &str) -> Result<String, Refusal> {
    let credentials = format!("{user}:{}", get(name)?);
    Ok(format!("Basic {}", STANDARD.encode(credentials)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn credentials_hold_the_placeholder() {
        Host::new().secret("k", "placeholder").install();
        assert_eq!(bearer("k").unwrap(), "Bearer placeholder");
        assert_eq!(basic("u", "k").unwrap(), "Basic dTpwbGFjZWhvbGRlcg==");
        assert!(basic("u", "other").is_err());
    }
}
