//! Values of labels, of which there are never more than somebody counted.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The value of a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Label {
    /// A word of the contract, or of this program.
    Word(&'static str),
    /// A name that was counted.
    Name(Arc<str>),
    /// A small number.
    Number(u16),
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Word(word) => EncodeLabelValue::encode(word, encoder),
            Self::Name(name) => EncodeLabelValue::encode(&&**name, encoder),
            Self::Number(number) => EncodeLabelValue::encode(number, encoder),
        }
    }
}

/// Names that may be labels: the first so many that come. All others share one, so that no tenant can make the
/// server tell more series than it has memory for.
#[derive(Debug)]
pub(super) struct Names {
    most: usize,
    known: RwLock<HashSet<Arc<str>>>,
}

/// Stands for every name beyond. No task type can be called so.
pub(super) const OTHER: Label = Label::Word("_other");

impl Names {
    /// At most `most` of them.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            known: RwLock::default(),
        }
    }

    /// The label of a name.
    pub(super) fn label(&self, name: &str) -> Label {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(name) {
            return Label::Name(name.clone());
        }
        let full = known.len() >= self.most;
        drop(known);
        if full {
            return OTHER;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if known.len() >= self.most && !known.contains(name) {
            return OTHER;
        }
        let name: Arc<str> = match known.get(name) {
            Some(name) => name.clone(),
            None => name.into(),
        };
        known.insert(name.clone());
        Label::Name(name)
    }
}
