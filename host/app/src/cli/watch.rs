//! `--watch`: the same verb again and again, for verbs that only show something.

use super::failure::{Exit, Failure, Outcome};
use super::next::{self, Next};
use super::{Verb, is_read_no_more, print, words};
use signal_hook::consts::SIGINT;
use signal_hook::flag::register_conditional_shutdown;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Clears the screen and goes to its start.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Seconds between two looks.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.trim_end_matches('s').parse().ok();
    match seconds {
        Some(seconds) if (0.2..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be seconds from 0.2 to 86400".to_owned()),
    }
}

/// Whether a verb changes nothing, so that it may be repeated.
pub(super) fn only_shows(verb: &Verb) -> bool {
    matches!(next::after(verb), Next::Shows(_))
}

/// Shows it again and again, until it is interrupted or nobody reads any more. A server that is away for a while is
/// waited for.
pub(super) fn repeat(every: f64, json: bool, mut once: impl FnMut() -> Outcome) -> Outcome {
    ends_by_interrupt()?;
    let terminal = std::io::stdout().is_terminal();
    let line: Vec<String> = std::env::args().skip(1).collect();
    let head = format!("Every {}: horarium {}", words::span(every), line.join(" "));
    let mut first = true;
    loop {
        match (json, terminal) {
            (true, _) => {}
            (false, true) => print(&format!("{CLEAR}{head}\n\n"))?,
            (false, false) if !first => print("\n")?,
            (false, false) => {}
        }
        first = false;
        match once() {
            Ok(_) => {}
            Err(failure) if failure.exit == Exit::Unreachable && terminal => {
                print(&format!("{}\n", failure.render(false)))?;
            }
            Err(failure) => return Err(failure),
        }
        if is_read_no_more() {
            return Ok(Exit::Done);
        }
        std::thread::sleep(Duration::from_secs_f64(every));
    }
}

/// To interrupt what goes on for ever is the way to end it: it did what was asked. What was printed has left already.
pub(super) fn ends_by_interrupt() -> Result<(), Failure> {
    register_conditional_shutdown(SIGINT, 0, Arc::new(AtomicBool::new(true)))
        .map(|_| ())
        .map_err(|error| Failure::failed(format!("signals cannot be caught: {error}")))
}

/// The refusal of a verb that does something.
pub(super) fn refuse() -> Failure {
    Failure::refused(
        "--watch repeats verbs that only show something, such as `task list`, `execution show` or `host list`",
    )
}
