//! What a run was denied: a line in its log that names what would allow it, and a part of its error message
//! when it fails.

use horarium_core::clock::Clock;
use horarium_core::control::RunControl;
use horarium_model::execution::{LogLevel, LogSource};
use horarium_model::text::one_line;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest sentence kept, in characters.
const MAX_CHARS: usize = 800;

/// The denials of one run.
pub(crate) struct Denials {
    control: Arc<RunControl>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<String>>,
}

impl Denials {
    /// None so far.
    pub(crate) fn new(control: Arc<RunControl>, clock: Arc<dyn Clock>) -> Self {
        Self {
            control,
            clock,
            last: Mutex::new(None),
        }
    }

    /// Logs a denial and remembers it for the error message.
    pub(crate) fn note(&self, sentence: &str) {
        let sentence = one_line(sentence, MAX_CHARS);
        let (now, log) = (self.clock.now(), &self.control.log);
        log.write(now, LogLevel::Warn, LogSource::Host, &sentence, None);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(sentence);
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<String> {
        let last = self.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
