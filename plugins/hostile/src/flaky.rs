//! Fails its first attempts, then succeeds.
use horarium_task::prelude::*;

/// A way to fail.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Class {
    Retryable,
    Permanent,
    Trap,
    Exit,
}

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How many attempts fail.
    fail_times: u32,
    /// How they fail.
    class: Class,
    /// The wait a retryable failure asks for.
    not_before_seconds: Option<u64>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            fail_times: 2,
            class: Class::Retryable,
            not_before_seconds: None,
        }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    attempt: u32,
    task_id: String,
}

struct Flaky;

impl Task for Flaky {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Fails some times";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let attempt = execution::attempt();
        if attempt > parameters.fail_times {
            return Ok(Done {
                attempt,
                task_id: execution::task_id(),
            });
        }
        let message = format!("attempt {attempt} fails as it was told to");
        match parameters.class {
            Class::Retryable => {
                let error = TaskError::retryable(message)
                    .code("flaky")
                    .details(json!({"attempt": attempt}));
                Err(match parameters.not_before_seconds {
                    Some(seconds) => error.not_before(std::time::Duration::from_secs(seconds)),
                    None => error,
                })
            }
            Class::Permanent => Err(TaskError::permanent(message).code("flaky")),
            Class::Trap => panic!("{message}"),
            Class::Exit => std::process::exit(3),
        }
    }
}

horarium_task::export!(Flaky);
