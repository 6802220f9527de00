//! Panics: a trap, with the message on stderr and its own functions in the backtrace.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// What to say.
    message: String,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            message: "told to panic".to_owned(),
        }
    }
}

/// Never comes.
#[derive(Serialize, JsonSchema)]
struct Done {}

struct Panic;

impl Task for Panic {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Panics";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        outer_function(&parameters.message)
    }
}

horarium_task::export!(Panic);

#[inline(never)]
fn outer_function(message: &str) -> ! {
    inner_function(std::hint::black_box(message))
}

#[inline(never)]
fn inner_function(message: &str) -> ! {
    panic!("{message}")
}
