//! Settings the operator gave this task type (`horarium plugin config set TYPE KEY VALUE`). Not secret.
//!
//! ```
//! # use horarium_task::{config, testing::Host};
//! Host::new().config("base_url", "https://api.example.com").config("pages", "3").install();
//! let base = config::require("base_url")?;
//! let pages: u32 = config::parsed("pages")?.unwrap_or(1);
//! # assert_eq!((base.as_str(), pages), ("https://api.example.com", 3));
//! # Ok::<(), horarium_task::TaskError>(())
//! ```

use std::fmt::Display;
use std::str::FromStr;

use crate::error::TaskError;

/// The setting of that name, if there is one.
pub fn get(key: &str) -> Option<String> {
    crate::sys::config_get(key)
}

/// The setting of that name.
///
/// # Errors
/// Permanent when the operator did not set it; the message says how.
pub fn require(key: &str) -> Result<String, TaskError> {
    get(key).ok_or_else(|| {
        TaskError::permanent(format!(
            "the setting {key:?} is missing; set it with: horarium plugin config set TYPE {key} VALUE"
        ))
        .code("not-configured")
    })
}

/// The setting of that name, read as something else than text.
///
/// # Errors
/// Permanent when it cannot be read so.
pub fn parsed<T: FromStr<Err: Display>>(key: &str) -> Result<Option<T>, TaskError> {
    let Some(text) = get(key) else {
        return Ok(None);
    };
    text.trim().parse().map(Some).map_err(|error| {
        TaskError::permanent(format!("the setting {key:?} cannot be used: {error}"))
            .code("not-configured")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn what_is_missing_or_wrong_is_permanent_and_named() {
        Host::new().config("pages", "many").install();
        assert_eq!(parsed::<u32>("absent").unwrap(), None);
        for error in [
            require("url").unwrap_err(),
            parsed::<u32>("pages").unwrap_err(),
        ] {
            assert!(error.is_permanent());
            assert_eq!(error.error_code(), Some("not-configured"));
        }
        assert!(
            require("url")
                .unwrap_err()
                .message()
                .contains("plugin config set")
        );
    }
}
