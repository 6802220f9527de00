//! Logs what looks like the host's own lines, and what terminals obey.
use horarium_task::prelude::*;

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Parameters {}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    text: String,
}

/// A new line with a forged head; clear the screen; a new title; a link; back to the line's start; a bell;
/// text from right to left; NUL; a line separator.
const EVIL: &str = "all is well\n2026-01-01T00:00:00Z ERROR horarium: forged\r\n\
    \u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}]8;;https://evil.example\u{1b}\\x\rBACK\u{8}\u{202e}\u{0}\u{2028}\u{9b}31m";

struct Forge;

impl Task for Forge {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Forges log lines";

    fn run(_parameters: Parameters) -> Result<Done, TaskError> {
        log::info(EVIL);
        log::at(log::Level::Error)
            .field(EVIL, EVIL)
            .write("fields too");
        progress::report(0.5, EVIL);
        print!("{EVIL}");
        eprint!("{EVIL}");
        Err(TaskError::permanent(EVIL))
    }
}

horarium_task::export!(Forge);
