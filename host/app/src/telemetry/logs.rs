//! Log lines of the server as OTLP log records.

use super::otlp::{Queue, attribute, text, whole};
use horarium_core::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Puts each line that is logged into the queue of the exporter.
pub(super) struct LogLayer {
    queue: Queue,
    clock: SystemClock,
}

impl LogLayer {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            clock: SystemClock::new(),
        }
    }
}

/// The number that OTLP gives a severity.
fn severity(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 17,
        Level::WARN => 13,
        Level::INFO => 9,
        Level::DEBUG => 5,
        Level::TRACE => 1,
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    attributes: Vec<Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.attributes.push(attribute(field.name(), value));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!({"doubleValue": value}));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, whole(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, whole(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!({"boolValue": value}));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field, text(value));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        fields
            .attributes
            .push(attribute("log.target", text(metadata.target())));
        let nanos = self.clock.now().timestamp_nanos_opt().unwrap_or_default();
        self.queue.put(json!({
            "timeUnixNano": nanos.to_string(),
            "severityNumber": severity(metadata.level()),
            "severityText": metadata.level().as_str(),
            "body": text(fields.message),
            "attributes": fields.attributes,
        }));
    }
}
