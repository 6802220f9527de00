//! Greets somebody.
use horarium_task::prelude::*;

/// Whom to greet, and a little work for benchmarks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Whom to greet.
    #[serde(default = "world")]
    name: String,
    /// Which Fibonacci number to work out, to have something to measure.
    #[serde(default = "fifty")]
    #[schemars(range(max = 90))]
    n: u32,
}

fn world() -> String {
    "world".to_owned()
}

fn fifty() -> u32 {
    50
}

/// The greeting, and the number.
#[derive(Serialize, JsonSchema)]
struct Greeting {
    greeting: String,
    fib: u64,
}

struct Hello;

impl Task for Hello {
    type Parameters = Parameters;
    type Output = Greeting;
    const SUMMARY: &'static str = "Greets somebody";

    fn run(parameters: Parameters) -> Result<Greeting, TaskError> {
        if parameters.n > 90 {
            return Err(TaskError::permanent(
                "invalid parameters: /n: must be at most 90",
            ));
        }
        Ok(Greeting {
            greeting: format!("Hello, {}!", parameters.name),
            fib: fib(parameters.n),
        })
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(json!({"name": "Ada"}))
                .summary("A greeting")
                .result(json!({"greeting": "Hello, Ada!", "fib": 12_586_269_025_u64})),
        ]
    }
}

horarium_task::export!(Hello);

fn fib(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_and_counts() {
        let greeting = Hello::run(Parameters {
            name: "Ada".to_owned(),
            n: 10,
        })
        .unwrap();
        assert_eq!(
            (greeting.greeting.as_str(), greeting.fib),
            ("Hello, Ada!", 55)
        );
        assert!(
            Hello::run(Parameters {
                name: world(),
                n: 91
            })
            .is_err_and(|error| error.is_permanent())
        );
    }
}
