//! Why a verb did not do its work: one exit code, one problem document, one hint.

use horarium_model::{Invalid, Problem};
use serde_json::{Value, json};
use std::fmt::Display;
use std::process::ExitCode;

/// The exit codes of the contract (design section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done,
    /// The task or the check failed.
    Failed,
    /// Bad usage, or the input was refused; nothing was written.
    Refused,
    /// The server cannot be reached, or does not let us.
    Unreachable,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Refused => 2,
            Self::Unreachable => 3,
        }
    }

    /// What an HTTP status of the server means for the exit code.
    pub(crate) const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Done,
            401 | 403 => Self::Unreachable,
            400..=499 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A verb that did not do its work. The document is problem+json, as REST answers it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    document: Value,
    hint: Option<String>,
}

/// What a verb returns.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Input refused on this side, for one reason.
    pub(crate) fn refused(detail: impl Display) -> Self {
        Self::new(Exit::Refused, "Refused", &detail.to_string(), &[])
    }

    /// Input refused on this side, with the place of each fault.
    pub(crate) fn invalid(invalid: &Invalid) -> Self {
        Self::new(
            Exit::Refused,
            "Invalid input",
            &invalid.to_string(),
            &invalid.0,
        )
    }

    /// The work itself failed.
    pub(crate) fn failed(detail: impl Display) -> Self {
        Self::new(Exit::Failed, "Failed", &detail.to_string(), &[])
    }

    /// The server cannot be reached.
    pub(crate) fn unreachable(detail: impl Display) -> Self {
        Self::new(Exit::Unreachable, "Unreachable", &detail.to_string(), &[])
    }

    fn new(exit: Exit, title: &str, detail: &str, errors: &[Problem]) -> Self {
        let document = json!({
            "type": "about:blank",
            "title": title,
            "detail": detail,
            "errors": errors,
        });
        Self {
            exit,
            document,
            hint: None,
        }
    }

    /// What the server answered instead of doing it. A body that is no problem document (a proxy's page)
    /// is shown as far as a line goes.
    pub(crate) fn from_answer(status: u16, body: &str) -> Self {
        let document = match serde_json::from_str::<Value>(body) {
            Ok(document @ Value::Object(_)) if document.get("title").is_some() => document,
            _ => json!({
                "type": "about:blank",
                "title": format!("HTTP status {status}"),
                "status": status,
                "detail": horarium_model::text::one_line(body, 200),
                "errors": [],
            }),
        };
        let hint = match status {
            401 => Some(
                "set HORARIUM_TOKEN to a token this server knows (its data directory has the file admin-token)",
            ),
            403 => Some("`horarium token whoami` says what this token may do"),
            _ => None,
        };
        Self {
            exit: Exit::of_status(status),
            document,
            hint: hint.map(str::to_owned),
        }
    }

    /// The same with a line on what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the place of each fault told by another name.
    #[must_use]
    pub(crate) fn relocate(mut self, place: impl Fn(&str) -> String) -> Self {
        let errors = self
            .document
            .get_mut("errors")
            .and_then(Value::as_array_mut);
        let Some(errors) = errors.filter(|errors| !errors.is_empty()) else {
            return self;
        };
        for error in &mut *errors {
            let pointer = error["pointer"].as_str().unwrap_or_default();
            error["pointer"] = place(pointer).into();
        }
        let lines: Vec<String> = errors.iter().map(problem_line).collect();
        self.document["detail"] = lines.join("; ").into();
        self
    }

    /// What went wrong, in one text.
    pub(crate) fn detail(&self) -> String {
        let part = |key| self.document.get(key).and_then(Value::as_str);
        part("detail")
            .or(part("title"))
            .unwrap_or("failed")
            .to_owned()
    }

    /// The status the server answered, if it was the server.
    pub(crate) fn status(&self) -> Option<u64> {
        self.document.get("status").and_then(Value::as_u64)
    }

    /// What goes to stderr: one line for each problem and a hint, or the document where JSON was asked for.
    pub(crate) fn render(&self, json: bool) -> String {
        if json {
            return self.document.to_string();
        }
        let mut lines: Vec<String> = self
            .document
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(problem_line)
            .collect();
        if lines.is_empty() {
            let part = |key| self.document.get(key).and_then(Value::as_str);
            let detail = part("detail").filter(|detail| !detail.is_empty());
            lines.push(detail.or(part("title")).unwrap_or("failed").to_owned());
        }
        let mut text: String = lines
            .iter()
            .map(|line| format!("error: {}\n", horarium_model::text::sanitize(line, false)))
            .collect();
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// `/pointer: detail`, the position behind it unless the sentence has it already.
fn problem_line(problem: &Value) -> String {
    let text = |key| problem.get(key).and_then(Value::as_str).unwrap_or_default();
    let (pointer, detail) = (text("pointer"), text("detail"));
    let mut line = match pointer {
        "" => detail.to_owned(),
        pointer => format!("{pointer}: {detail}"),
    };
    if let Some(position) = problem.get("position").and_then(Value::as_u64)
        && !detail.contains("position")
        && !detail.contains(" at byte ")
    {
        line.push_str(&format!(" (at position {position})"));
    }
    line
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(&invalid)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::invalid(&Invalid(vec![problem]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_the_contracts_codes() {
        let codes = |statuses: &[u16]| -> Vec<u8> {
            statuses
                .iter()
                .map(|status| Exit::of_status(*status).code())
                .collect()
        };
        assert_eq!(codes(&[200, 201, 202, 204]), [0, 0, 0, 0]);
        assert_eq!(codes(&[400, 404, 409, 412, 413, 422, 428]), [2; 7]);
        assert_eq!(codes(&[401, 403]), [3, 3]);
        assert_eq!(codes(&[500, 503, 302]), [1, 1, 1]);
    }

    #[test]
    fn each_problem_is_a_line_and_the_document_is_kept() {
        let body = json!({
            "type": "about:blank", "title": "Unprocessable", "status": 422, "detail": "two faults",
            "errors": [
                {"pointer": "/name", "detail": "is missing"},
                {"pointer": "/schedule_config/cron_expression", "detail": "bad minute", "position": 3},
            ],
            "request_id": "r",
        });
        let failure = Failure::from_answer(422, &body.to_string());
        assert_eq!(
            failure.render(false),
            "error: /name: is missing\nerror: /schedule_config/cron_expression: bad minute (at position 3)"
        );
        assert_eq!(
            serde_json::from_str::<Value>(&failure.render(true)).expect("JSON"),
            body
        );
        assert_eq!((failure.exit, failure.status()), (Exit::Refused, Some(422)));
    }

    #[test]
    fn a_page_of_somebody_else_is_cut_to_a_line() {
        let failure = Failure::from_answer(502, "<html>\u{1b}[2J\nBad gateway</html>");
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.render(false), "error: <html>\u{FFFD}[2J");
        let empty = Failure::from_answer(401, "");
        assert!(
            empty
                .render(false)
                .starts_with("error: HTTP status 401\nhint: set HORARIUM_TOKEN")
        );
    }
}
