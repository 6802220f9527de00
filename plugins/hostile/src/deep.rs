//! Calls itself too deep for any stack, and on the way down hands the host deep JSON.
use horarium_task::bindings::horarium::task::log::{Level, write};
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How deep.
    depth: u64,
    /// How deep the JSON is that the host is given at each step; 0 = none.
    json_depth: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            depth: 100_000_000,
            json_depth: 0,
        }
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
        let mut json = String::new();
        if parameters.json_depth > 0 {
            let (open, close) = (r#"{"a":["#, "]}");
            json =
                open.repeat(parameters.json_depth / 2) + &close.repeat(parameters.json_depth / 2);
        }
        Ok(Done {
            sum: descend(parameters.depth, &json),
        })
    }
}

horarium_task::export!(Deep);

#[inline(never)]
fn descend(depth: u64, json: &str) -> u64 {
    if !json.is_empty() {
        write(Level::Trace, "deeper", Some(json));
    }
    if std::hint::black_box(depth) == 0 {
        0
    } else {
        1 + std::hint::black_box(descend(depth - 1, json))
    }
}
