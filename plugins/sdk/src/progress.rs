//! How far the attempt has come. Only the latest report is kept.

/// Reports a fraction from 0 to 1, or `None` when unknown, and what is being done.
///
/// ```
/// # use horarium_task::progress;
/// progress::report(0.5, "half of the pages");
/// progress::report(None, "waiting for the server");
/// ```
pub fn report(fraction: impl Into<Option<f64>>, message: impl AsRef<str>) {
    crate::sys::progress(fraction.into(), message.as_ref());
}
