//! Loops for ever: only the clock or the fuel ends it.
use horarium_task::prelude::*;

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Parameters {}

/// Never comes.
#[derive(Serialize, JsonSchema)]
struct Done {}

struct Spin;

impl Task for Spin {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Loops for ever";

    fn run(_parameters: Parameters) -> Result<Done, TaskError> {
        log::info("spinning");
        let mut n = 0_u64;
        loop {
            n = std::hint::black_box(n.wrapping_add(1));
        }
    }
}

horarium_task::export!(Spin);
