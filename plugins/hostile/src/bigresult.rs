//! Returns a lot.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How long the text in the result is.
    bytes: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { bytes: 2 << 20 }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    text: String,
}

struct BigResult;

impl Task for BigResult {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Returns a lot";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        Ok(Done {
            text: "x".repeat(parameters.bytes),
        })
    }
}

horarium_task::export!(BigResult);
