//! The execution's log. Writing never blocks and never fails; what is over the host's budget is
//! counted and dropped.
//!
//! ```
//! use horarium_task::log;
//!
//! log::info("starting");
//! log::at(log::Level::Warn).field("page", 3).field("url", "https://example.com").write("slow page");
//! ```

use serde::Serialize;
use serde_json::{Map, Value};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever debugs the plugin.
    Debug,
    /// For the operator, when all is well.
    Info,
    /// Something is odd; the run goes on.
    Warn,
    /// Something failed.
    Error,
}

/// Starts a line that carries fields.
pub fn at(level: Level) -> Entry {
    Entry {
        level,
        fields: Map::new(),
    }
}

/// A line in the making.
#[must_use = "nothing is logged before `write`"]
#[derive(Debug)]
pub struct Entry {
    level: Level,
    fields: Map<String, Value>,
}

impl Entry {
    /// Adds a fact. A value that cannot be JSON is left out.
    pub fn field(mut self, name: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.fields.insert(name.to_owned(), value);
        }
        self
    }

    /// Writes the line.
    pub fn write(self, message: impl AsRef<str>) {
        let fields = (!self.fields.is_empty()).then(|| Value::Object(self.fields).to_string());
        crate::sys::log(self.level, message.as_ref(), fields);
    }
}

/// Writes a line at [`Level::Trace`].
pub fn trace(message: impl AsRef<str>) {
    at(Level::Trace).write(message);
}

/// Writes a line at [`Level::Debug`].
pub fn debug(message: impl AsRef<str>) {
    at(Level::Debug).write(message);
}

/// Writes a line at [`Level::Info`].
pub fn info(message: impl AsRef<str>) {
    at(Level::Info).write(message);
}

/// Writes a line at [`Level::Warn`].
pub fn warn(message: impl AsRef<str>) {
    at(Level::Warn).write(message);
}

/// Writes a line at [`Level::Error`].
pub fn error(message: impl AsRef<str>) {
    at(Level::Error).write(message);
}
