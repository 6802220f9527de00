//! The imports of world `task`.

use crate::bindings::horarium::task as host;
use crate::error::Refusal;
use crate::log::Level;

impl From<host::types::Refusal> for Refusal {
    fn from(refusal: host::types::Refusal) -> Self {
        Self {
            code: refusal.code,
            message: refusal.message,
        }
    }
}

pub(crate) fn log(level: Level, message: &str, fields: Option<String>) {
    let level = match level {
        Level::Trace => host::log::Level::Trace,
        Level::Debug => host::log::Level::Debug,
        Level::Info => host::log::Level::Info,
        Level::Warn => host::log::Level::Warn,
        Level::Error => host::log::Level::Error,
    };
    host::log::write(level, message, fields.as_deref());
}

pub(crate) fn progress(fraction: Option<f64>, message: &str) {
    host::progress::report(fraction, message);
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    host::config::get(key)
}

pub(crate) fn secret_get(name: &str) -> Result<String, Refusal> {
    Ok(host::secrets::get(name)?)
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, Refusal> {
    Ok(host::state::get(key)?)
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), Refusal> {
    Ok(host::state::set(key, value)?)
}

pub(crate) fn state_delete(key: &str) -> Result<(), Refusal> {
    Ok(host::state::delete(key)?)
}

pub(crate) fn state_keys(
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, Refusal> {
    Ok(host::state::keys(prefix, after, limit)?)
}

pub(crate) fn task_id() -> String {
    host::execution::task_id()
}

pub(crate) fn attempt() -> u32 {
    host::execution::attempt()
}

pub(crate) fn max_attempts() -> u32 {
    host::execution::max_attempts()
}

pub(crate) fn task_name() -> String {
    host::execution::task_name()
}

pub(crate) fn config_id() -> Option<String> {
    host::execution::config_id()
}

pub(crate) fn scheduled_for() -> Option<u64> {
    host::execution::scheduled_for()
}

pub(crate) fn remaining() -> u64 {
    host::execution::remaining()
}

pub(crate) fn stop_requested() -> bool {
    host::execution::stop_requested()
}

pub(crate) fn attribute(name: &str) -> Option<String> {
    host::execution::attribute(name)
}
