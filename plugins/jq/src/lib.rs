//! Runs a jq filter over JSON.

mod convert;
mod filter;

use horarium_task::prelude::*;

/// The filter and what it reads.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// A filter in the jq language, as jaq understands it.
    filter: String,
    /// What the filter reads as `.`; null when absent.
    #[serde(default)]
    input: Value,
}

/// What the filter put out.
#[derive(Serialize, JsonSchema)]
struct Outputs {
    /// Every output in order; a filter may have none or many.
    outputs: Vec<Value>,
}

struct Jq;

impl Task for Jq {
    type Parameters = Parameters;
    type Output = Outputs;
    const SUMMARY: &'static str = "Runs a jq filter over JSON";

    fn run(parameters: Parameters) -> Result<Outputs, TaskError> {
        let outputs = filter::run(&parameters.filter, parameters.input)?;
        Ok(Outputs { outputs })
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(json!({"filter": ".a", "input": {"a": 1}})).result(json!({"outputs": [1]})),
            Example::new(json!({"filter": ".[] | select(.ok) | .id", "input": [{"id": 1, "ok": true}, {"id": 2}]}))
                .summary("Picks from a list")
                .result(json!({"outputs": [1]})),
        ]
    }
}

horarium_task::export!(Jq);
