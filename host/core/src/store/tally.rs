//! What attempts used, as sums that outlive the history.

use super::{Completion, End};
use horarium_model::execution::{AttemptRecord, State};
use horarium_model::{TenantId, Usage};

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What attempts used, added up.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Tally {
            /// How many numbers it has.
            pub const LEN: usize = [$(stringify!($name)),*].len();

            /// The numbers, in the order of the fields.
            pub fn numbers(&self) -> [u64; Self::LEN] {
                [$(self.$name),*]
            }

            /// From [`Self::numbers`].
            pub fn from_numbers(numbers: [u64; Self::LEN]) -> Self {
                let [$($name),*] = numbers;
                Self { $($name),* }
            }
        }
    };
}

tally! {
    /// Attempts that ended; those that were handed back unfinished are not among them.
    runs,
    /// Executions that an attempt ended, by how.
    succeeded,
    /// Executions that failed.
    failed,
    /// Executions that were cancelled while they ran.
    cancelled,
    /// Fuel burnt.
    fuel,
    /// Microseconds of CPU time.
    cpu_micros,
    /// Microseconds between the start and the end of attempts.
    wall_micros,
    /// HTTP requests that left the host.
    http_calls,
    /// Bytes of request bodies.
    http_request_bytes,
    /// Bytes of response bodies.
    http_response_bytes,
    /// Bytes of log kept.
    log_bytes,
    /// Bytes of results.
    result_bytes,
}

impl Tally {
    /// Of the end of an attempt that left its execution in `state`.
    pub fn of_end(item: &Completion, state: State) -> Self {
        let result = match &item.end {
            End::Succeeded(text) if state == State::Succeeded => text.len() as u64,
            _ => 0,
        };
        Self {
            runs: 1,
            succeeded: u64::from(state == State::Succeeded),
            failed: u64::from(state == State::Failed),
            cancelled: u64::from(state == State::Cancelled),
            result_bytes: result,
            ..Self::of_record(&item.record)
        }
    }

    /// Of an attempt that was handed back: what it used, but no run.
    pub fn of_record(record: &AttemptRecord) -> Self {
        let Some(usage) = &record.usage else {
            return Self::default();
        };
        let Usage {
            fuel,
            duration_seconds,
            cpu_seconds,
            http_calls,
            http_request_bytes,
            http_response_bytes,
            log_bytes,
            log_dropped_bytes,
            ..
        } = usage;
        Self {
            fuel: *fuel,
            cpu_micros: micros(*cpu_seconds),
            wall_micros: micros(*duration_seconds),
            http_calls: *http_calls,
            http_request_bytes: *http_request_bytes,
            http_response_bytes: *http_response_bytes,
            log_bytes: log_bytes.saturating_sub(*log_dropped_bytes),
            ..Self::default()
        }
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        let mut sums = self.numbers();
        for (sum, more) in sums.iter_mut().zip(other.numbers()) {
            *sum = sum.saturating_add(more);
        }
        *self = Self::from_numbers(sums);
    }
}

/// Whole microseconds of a number of seconds.
fn micros(seconds: f64) -> u64 {
    // What is negative or no number becomes zero.
    (seconds * 1e6).round() as u64
}

/// What a tenant's attempts of one task type used on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Whose.
    pub tenant_id: TenantId,
    /// The UTC day on which they were recorded, counted from 1970.
    pub day: i64,
    /// The plugin.
    pub task_type: String,
    /// What they used.
    pub tally: Tally,
}
