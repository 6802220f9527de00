//! Secrets, by name, without their values.

use crate::error::Refusal;

/// A placeholder for the secret: put it into a header, the query or the body of a request, and the
/// host replaces it on the way out, to the places the operator granted. The value itself only where
/// the operator granted `reveal`.
///
/// # Errors
/// The secret is not granted or does not exist.
pub fn get(name: &str) -> Result<String, Refusal> {
    crate::sys::secret_get(name)
}
