//! Ends the process instead of returning.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// The exit code.
    code: i32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { code: 3 }
    }
}

/// Never comes.
#[derive(Serialize, JsonSchema)]
struct Done {}

struct Exit;

impl Task for Exit {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Calls exit";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        eprintln!("leaving with {}", parameters.code);
        std::process::exit(parameters.code)
    }
}

horarium_task::export!(Exit);
