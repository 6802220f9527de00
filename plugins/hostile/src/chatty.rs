//! Writes a lot, everywhere.
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How much to log.
    log_bytes: u64,
    /// How much to print.
    stdout_bytes: u64,
    /// How much to print on stderr.
    stderr_bytes: u64,
    /// How long a line is, its end included.
    line: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            log_bytes: 0,
            stdout_bytes: 0,
            stderr_bytes: 0,
            line: 100,
        }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    lines: u64,
}

struct Chatty;

impl Task for Chatty {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Writes a lot";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let length = parameters.line.max(1);
        let text = |number: u64| {
            let mut line = format!("line {number} ");
            line.extend(std::iter::repeat_n(
                'x',
                (length as usize).saturating_sub(line.len() + 1),
            ));
            line.truncate(length as usize - 1);
            line
        };
        let mut lines = 0;
        for n in 0..parameters.log_bytes.div_ceil(length) {
            log::info(text(n));
            lines += 1;
        }
        for n in 0..parameters.stdout_bytes.div_ceil(length) {
            println!("{}", text(n));
            lines += 1;
        }
        for n in 0..parameters.stderr_bytes.div_ceil(length) {
            eprintln!("{}", text(n));
            lines += 1;
        }
        Ok(Done { lines })
    }
}

horarium_task::export!(Chatty);
