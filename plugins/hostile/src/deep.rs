//! Calls itself too deep for any stack.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How deep.
    depth: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { depth: 100_000_000 }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    sum: u64,
}

struct Deep;

impl Task for Deep {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Overflows the stack";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        Ok(Done {
            sum: descend(parameters.depth),
        })
    }
}

horarium_task::export!(Deep);

#[inline(never)]
fn descend(depth: u64) -> u64 {
    if std::hint::black_box(depth) == 0 {
        0
    } else {
        1 + std::hint::black_box(descend(depth - 1))
    }
}
