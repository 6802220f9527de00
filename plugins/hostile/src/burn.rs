//! Burns a known amount of work.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How often to go round, at a few units of fuel each.
    iterations: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            iterations: 1_000_000_000,
        }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    iterations: u64,
    hash: u64,
}

struct Burn;

impl Task for Burn {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Burns fuel";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for n in 0..parameters.iterations {
            hash = std::hint::black_box((hash ^ n).wrapping_mul(0x0100_0000_01b3));
        }
        Ok(Done {
            iterations: parameters.iterations,
            hash,
        })
    }
}

horarium_task::export!(Burn);
