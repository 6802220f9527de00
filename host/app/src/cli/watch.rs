//! `--watch`: the same verb again and again, for verbs that only show something.

use super::failure::{Exit, Failure, Outcome};
use super::{
    Verb, audit, execution, host, is_read_no_more, plugin, print, quota, secret, task, tenant,
    token, words,
};
use std::io::IsTerminal;
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
    match verb {
        Verb::Task(verb) => matches!(
            verb,
            task::Verb::List(_) | task::Verb::Show(_) | task::Verb::Next(_) | task::Verb::Why(_)
        ),
        Verb::Execution(verb) => matches!(
            verb,
            execution::Verb::List(_)
                | execution::Verb::Show(_)
                | execution::Verb::Http(_)
                | execution::Verb::Why(_)
        ),
        Verb::Plugin(verb) => matches!(verb, plugin::Verb::List(_) | plugin::Verb::Show(_)),
        Verb::Secret(verb) => matches!(verb, secret::Verb::List(_)),
        Verb::Host(verb) => matches!(verb, host::Verb::List(_)),
        Verb::Tenant(verb) => matches!(verb, tenant::Verb::List(_) | tenant::Verb::Show(_)),
        Verb::Token(verb) => matches!(verb, token::Verb::List(_) | token::Verb::Show(_)),
        Verb::Audit(verb) => matches!(verb, audit::Verb::List(_)),
        Verb::Quota(verb) => matches!(verb, quota::Verb::Show),
        Verb::Usage(_) => true,
        _ => false,
    }
}

/// Shows it again and again, until it is interrupted or nobody reads any more. A server that is away for a while is
/// waited for.
pub(super) fn repeat(every: f64, json: bool, mut once: impl FnMut() -> Outcome) -> Outcome {
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

/// The refusal of a verb that does something.
pub(super) fn refuse() -> Failure {
    Failure::refused(
        "--watch repeats verbs that only show something, such as `task list`, `execution show` or `host list`",
    )
}
