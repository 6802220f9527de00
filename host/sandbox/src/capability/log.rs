//! `log`: lines with a level and fields, under the same budget as stdout and stderr.

use crate::bindings::plugin::horarium::task::log;
use crate::data::RunData;
use horarium_model::execution::{LogLevel, LogSource};
use horarium_model::{Usage, json};
use serde_json::{Value, json};
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "log";
/// Fields longer than this are kept as text, cut; they count as written in full.
const MAX_FIELDS_BYTES: usize = 8 << 10;

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    log::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

impl log::Host for RunData {
    fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Option<String>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        let fields = fields.and_then(|text| read_fields(&text));
        let now = self.clock.now();
        let log = &self.control.log;
        log.write(now, level, LogSource::Log, &message, fields);
        Ok(())
    }
}

/// Fields that are no JSON object are kept as they are under one name: logging never fails.
fn read_fields(text: &str) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    if text.len() <= MAX_FIELDS_BYTES
        && let Ok(value @ Value::Object(_)) = json::parse(text.as_bytes())
    {
        return Some(value);
    }
    let mut cut = text.len().min(MAX_FIELDS_BYTES);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    Some(json!({"fields": horarium_model::text::sanitize(&text[..cut], true)}))
}

/// Log figures of the attempt.
pub(crate) fn report(data: &RunData, usage: &mut Usage) {
    (usage.log_bytes, usage.log_dropped_bytes) = data.control.log.totals();
}
