//! Counts its successes in its state.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// Under which key.
    key: String,
    /// Fail after counting: the count must not be kept.
    fail: bool,
    /// How long to wait between reading and writing.
    sleep_milliseconds: u64,
    /// How many bytes to put under the key `value` besides.
    value_bytes: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            key: "count".to_owned(),
            fail: false,
            sleep_milliseconds: 0,
            value_bytes: 0,
        }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    count: u64,
    keys: Vec<String>,
}

struct Stateful;

impl Task for Stateful {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Counts in its state";
    const CAPABILITIES: &'static [&'static str] = &["state"];

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let count = state::get_json::<u64>(&parameters.key)?.unwrap_or(0) + 1;
        std::thread::sleep(std::time::Duration::from_millis(
            parameters.sleep_milliseconds,
        ));
        state::set_json(&parameters.key, &count)?;
        if parameters.value_bytes > 0 {
            state::set("value", &vec![b'x'; parameters.value_bytes])?;
        }
        if parameters.fail {
            return Err(TaskError::permanent("told to fail after counting"));
        }
        Ok(Done {
            count,
            keys: state::keys("")?,
        })
    }
}

horarium_task::export!(Stateful);
