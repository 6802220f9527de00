//! How a task fails.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// What the host should do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAdvice {
    /// As the task config's retry policy says.
    ByPolicy,
    /// Never: the same input would fail again.
    Never,
    /// By the policy, but not before this much time has passed; the host caps it.
    NotBefore(Duration),
}

/// Why an attempt failed, and whether another one makes sense.
///
/// `?` turns any [`std::error::Error`] into one. What is known to be hopeless (a request the
/// operator has not granted, a refused state key) becomes permanent, everything else is tried again
/// as the config's retry policy says. Say otherwise with [`ResultExt`].
#[derive(Clone, Debug, PartialEq)]
pub struct TaskError {
    message: String,
    retry: RetryAdvice,
    code: Option<String>,
    details: Option<Value>,
}

impl TaskError {
    /// A failure that may pass: the host tries again as the config's retry policy says.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retry: RetryAdvice::ByPolicy,
            code: None,
            details: None,
        }
    }

    /// A failure that the same input would meet again: the host does not retry.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            retry: RetryAdvice::Never,
            ..Self::retryable(message)
        }
    }

    /// Makes it retryable, but not earlier than `delay` from now.
    #[must_use]
    pub fn not_before(mut self, delay: Duration) -> Self {
        self.retry = RetryAdvice::NotBefore(delay);
        self
    }

    /// Adds a word for machines, such as `rate-limited`.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds facts, kept with the attempt. What is no JSON object is kept under `value`.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(match details {
            object @ Value::Object(_) => object,
            value => serde_json::json!({ "value": value }),
        });
        self
    }

    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The line for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the host is told about trying again.
    pub fn retry(&self) -> RetryAdvice {
        self.retry
    }

    /// True when the host will not try again.
    pub fn is_permanent(&self) -> bool {
        self.retry == RetryAdvice::Never
    }

    /// The word for machines.
    pub fn error_code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The facts kept with the attempt: a JSON object.
    pub fn error_details(&self) -> Option<&Value> {
        self.details.as_ref()
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// `TaskError` itself must not implement `Error`: this conversion would overlap with `From<T> for T`.
impl<E: Error + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        #[cfg(feature = "http")]
        if let Some(http) = any.downcast_ref::<crate::http::Error>() {
            return http.to_task_error();
        }
        if let Some(refusal) = any.downcast_ref::<Refusal>() {
            return refusal.to_task_error();
        }
        Self::retryable(with_causes(&error))
    }
}

/// The error and its causes on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let source_text = source.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&source_text) {
            text.push_str(": ");
            text.push_str(&source_text);
        }
        cause = source.source();
    }
    text
}

/// Says the class of a foreign error where it appears.
///
/// ```
/// # use horarium_task::prelude::*;
/// fn parse(text: &str) -> Result<u32, TaskError> {
///     text.trim().parse().permanent("reading the counter")
/// }
/// assert_eq!(parse("x").unwrap_err().message(), "reading the counter: invalid digit found in string");
/// ```
pub trait ResultExt<T> {
    /// The error will meet the same input again: a permanent [`TaskError`].
    ///
    /// # Errors
    /// The error, with `doing` in front.
    fn permanent(self, doing: &str) -> Result<T, TaskError>;

    /// The error may pass: a retryable [`TaskError`].
    ///
    /// # Errors
    /// The error, with `doing` in front.
    fn retryable(self, doing: &str) -> Result<T, TaskError>;

    /// Only puts what was being done in front; the class stays.
    ///
    /// # Errors
    /// The error, with `doing` in front.
    fn context(self, doing: &str) -> Result<T, TaskError>;
}

impl<T, E: Into<TaskError>> ResultExt<T> for Result<T, E> {
    fn permanent(self, doing: &str) -> Result<T, TaskError> {
        self.map_err(|error| TaskError {
            retry: RetryAdvice::Never,
            ..error.into().context(doing)
        })
    }

    fn retryable(self, doing: &str) -> Result<T, TaskError> {
        self.map_err(|error| match error.into().context(doing) {
            error if error.is_permanent() => TaskError {
                retry: RetryAdvice::ByPolicy,
                ..error
            },
            error => error,
        })
    }

    fn context(self, doing: &str) -> Result<T, TaskError> {
        self.map_err(|error| error.into().context(doing))
    }
}

/// The host's no to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for machines: `not-granted`, `quota`, `invalid`, `not-found`, `unavailable`; more may come.
    pub code: String,
    /// Why, for a person.
    pub message: String,
}

impl Refusal {
    fn to_task_error(&self) -> TaskError {
        let error = match self.code.as_str() {
            "not-granted" | "quota" | "invalid" | "not-found" => {
                TaskError::permanent(&self.message)
            }
            _ => TaskError::retryable(&self.message),
        };
        error.code(&self.code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Error for Refusal {}

#[cfg(target_family = "wasm")]
impl From<TaskError> for crate::bindings::horarium::task::types::TaskError {
    fn from(error: TaskError) -> Self {
        use crate::bindings::horarium::task::types::RetryAdvice as Advice;
        Self {
            message: error.message,
            retry: match error.retry {
                RetryAdvice::ByPolicy => Advice::ByPolicy,
                RetryAdvice::Never => Advice::Never,
                RetryAdvice::NotBefore(delay) => {
                    Advice::NotBefore(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
                }
            },
            code: error.code,
            details: error.details.map(|details| details.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn outer() -> Result<(), Outer> {
        "x".parse::<u8>().map(|_| ()).map_err(Outer)
    }

    #[test]
    fn question_mark_keeps_the_causes_and_retries() {
        let run = || -> Result<(), TaskError> { Ok(outer()?) };
        let error = run().unwrap_err();
        assert_eq!(error.message(), "outer: invalid digit found in string");
        assert_eq!(error.retry(), RetryAdvice::ByPolicy);
    }

    #[test]
    fn the_class_can_be_said_in_passing() {
        let error = outer().permanent("reading").unwrap_err();
        assert_eq!(
            error.message(),
            "reading: outer: invalid digit found in string"
        );
        assert!(error.is_permanent());
        let error = Err::<(), _>(TaskError::permanent("no"))
            .retryable("trying")
            .unwrap_err();
        assert_eq!(error.retry(), RetryAdvice::ByPolicy);
        let wait = TaskError::retryable("no").not_before(Duration::from_secs(5));
        let error = Err::<(), _>(wait).retryable("trying").unwrap_err();
        assert_eq!(
            error.retry(),
            RetryAdvice::NotBefore(Duration::from_secs(5))
        );
    }

    #[test]
    fn refusals_are_classed_by_their_code() {
        let refusal = |code: &str| Refusal {
            code: code.into(),
            message: "no".into(),
        };
        let error = TaskError::from(refusal("not-granted"));
        assert!(error.is_permanent());
        assert_eq!(error.error_code(), Some("not-granted"));
        assert!(!TaskError::from(refusal("unavailable")).is_permanent());
    }

    #[test]
    fn details_are_always_an_object() {
        let error = TaskError::permanent("x").details(json!([1]));
        assert_eq!(error.error_details(), Some(&json!({"value": [1]})));
    }
}
