//! The seven fields of an expression: their names, ranges and parsed values.

use super::CronError;

/// First and last year an expression can name: the range of the `cron` crate.
pub(super) const FIRST_YEAR: u32 = 1970;
pub(super) const LAST_YEAR: u32 = 2100;

const MONTH_NAMES: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAY_NAMES: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What a field may contain.
#[derive(Debug)]
pub(super) struct FieldSpec {
    pub(super) name: &'static str,
    pub(super) low: u32,
    pub(super) high: u32,
    /// Last value that a bare `H` may choose; `None` where `H` has no meaning.
    pub(super) hash_high: Option<u32>,
    /// Three-letter names, the first standing for `low`.
    names: &'static [&'static str],
}

pub(super) static SECOND: FieldSpec = FieldSpec::plain("second", 0, 59);
pub(super) static MINUTE: FieldSpec = FieldSpec::plain("minute", 0, 59);
pub(super) static HOUR: FieldSpec = FieldSpec::plain("hour", 0, 23);
pub(super) static DAY_OF_MONTH: FieldSpec = FieldSpec {
    // Every month has a day 28: `H` must not lose the short months.
    hash_high: Some(28),
    ..FieldSpec::plain("day-of-month", 1, 31)
};
pub(super) static MONTH: FieldSpec = FieldSpec {
    names: MONTH_NAMES,
    ..FieldSpec::plain("month", 1, 12)
};
pub(super) static DAY_OF_WEEK: FieldSpec = FieldSpec {
    hash_high: Some(6),
    names: DAY_NAMES,
    ..FieldSpec::plain("day-of-week", 0, 7)
};
pub(super) static YEAR: FieldSpec = FieldSpec {
    hash_high: None,
    ..FieldSpec::plain("year", FIRST_YEAR, LAST_YEAR)
};

impl FieldSpec {
    const fn plain(name: &'static str, low: u32, high: u32) -> Self {
        FieldSpec {
            name,
            low,
            high,
            hash_high: Some(high),
            names: &[],
        }
    }

    /// The value a name stands for, in any case.
    pub(super) fn named(&self, name: &str) -> Option<u32> {
        let index = self
            .names
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))?;
        Some(self.low + index as u32)
    }

    /// The name a longer spelling begins with (`monday`: `MON`).
    pub(super) fn abbreviation(&self, word: &str) -> Option<&'static str> {
        let head = word.get(..3)?;
        self.names
            .iter()
            .find(|known| known.eq_ignore_ascii_case(head))
            .copied()
    }

    /// The highest value that is not a second spelling of another one.
    pub(super) fn last_distinct(&self) -> u32 {
        if self.name == DAY_OF_WEEK.name {
            6
        } else {
            self.high
        }
    }

    /// The allowed values in words: `0-7 or SUN-SAT`.
    pub(super) fn allowed(&self) -> String {
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => {
                format!("{}-{} or {first}-{last}", self.low, self.high)
            }
            _ => format!("{}-{}", self.low, self.high),
        }
    }

    /// An error in this field at `position`; `problem` follows the field's name.
    pub(super) fn error(&self, position: usize, problem: impl std::fmt::Display) -> CronError {
        CronError {
            field: Some(self.name),
            position: Some(position),
            message: format!("{} {problem}", self.name),
        }
    }
}

/// One parsed field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) spec: &'static FieldSpec,
    /// As written; empty when the field was omitted.
    pub(super) text: String,
    /// Index of its first character in the expression.
    pub(super) position: usize,
    /// Whether it starts with `*`, which decides both the day rule and the DST rule.
    pub(super) starred: bool,
    /// Ascending, without doubles; Sunday is 0.
    pub(super) values: Vec<u32>,
}

impl Field {
    /// A parsed field; `values` in any order.
    pub(super) fn new(
        spec: &'static FieldSpec,
        text: String,
        position: usize,
        mut values: Vec<u32>,
    ) -> Self {
        for value in &mut values {
            if *value > spec.last_distinct() {
                *value = spec.low;
            }
        }
        values.sort_unstable();
        values.dedup();
        Field {
            spec,
            starred: text.starts_with('*'),
            text,
            position,
            values,
        }
    }

    /// The second of an expression that has no such field: fixed at 0.
    pub(super) fn zero(spec: &'static FieldSpec) -> Self {
        Field::new(spec, String::new(), 0, vec![0])
    }

    /// A field that allows every value.
    pub(super) fn every(spec: &'static FieldSpec) -> Self {
        let values = (spec.low..=spec.last_distinct()).collect();
        Field {
            starred: true,
            ..Field::new(spec, String::new(), 0, values)
        }
    }

    /// Whether every value of the field is allowed.
    pub(super) fn is_every(&self) -> bool {
        self.values.len() as u32 == self.spec.last_distinct() - self.spec.low + 1
    }

    /// Whether `value` is allowed.
    pub(super) fn allows(&self, value: u32) -> bool {
        self.values.binary_search(&value).is_ok()
    }
}

/// All fields of an expression.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day_of_month: Field,
    pub(super) month: Field,
    pub(super) day_of_week: Field,
    pub(super) year: Field,
}

impl Fields {
    /// Whether real time is followed through both folds: a `*` in second, minute or hour.
    pub(super) fn follows_real_time(&self) -> bool {
        self.second.starred || self.minute.starred || self.hour.starred
    }

    /// Whether a day needs only one of day-of-month and day-of-week to match.
    pub(super) fn either_day(&self) -> bool {
        !self.day_of_month.starred && !self.day_of_week.starred
    }
}
