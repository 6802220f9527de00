//! Tells everything that could differ between two runs.
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use horarium_task::prelude::*;

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {}

/// What it saw.
#[derive(Serialize, JsonSchema)]
struct Seen {
    task_id: String,
    unix_microseconds: u128,
    passed_nanoseconds: u128,
    random: u64,
    order: Vec<u32>,
    remaining: u64,
}

struct Clocks;

impl Task for Clocks {
    type Parameters = Parameters;
    type Output = Seen;
    const SUMMARY: &'static str = "Tells clocks and randomness";

    fn run(_: Parameters) -> Result<Seen, TaskError> {
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(3));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let map: HashMap<u32, ()> = (0..20).map(|n| (n, ())).collect();
        Ok(Seen {
            task_id: execution::task_id(),
            unix_microseconds: now.unwrap_or_default().as_micros(),
            passed_nanoseconds: begun.elapsed().as_nanos(),
            random: RandomState::new().hash_one(7),
            order: map.into_keys().collect(),
            remaining: u64::try_from(execution::remaining().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

horarium_task::export!(Clocks);
