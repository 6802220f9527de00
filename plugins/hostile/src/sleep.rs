//! Waits in the host, at no fuel.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How long to wait.
    milliseconds: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            milliseconds: 3_600_000,
        }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    slept_milliseconds: u64,
}

struct Sleep;

impl Task for Sleep {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Sleeps";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        log::info("sleeping");
        progress::report(0.5, "sleeping");
        std::thread::sleep(std::time::Duration::from_millis(parameters.milliseconds));
        Ok(Done {
            slept_milliseconds: parameters.milliseconds,
        })
    }
}

horarium_task::export!(Sleep);
