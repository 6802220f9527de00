//! Settings the operator gave this task type. Not secret.

/// The setting of that name, if there is one.
pub fn get(key: &str) -> Option<String> {
    crate::sys::config_get(key)
}
