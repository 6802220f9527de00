//! Blocking HTTP, through the host and only where the operator granted it.
//!
//! ```no_run
//! use horarium_task::prelude::*;
//!
//! fn title(url: &str) -> Result<String, TaskError> {
//!     let response = http::get(url).header("Accept", "application/json").send()?;
//!     let page: Value = response.error_for_status()?.json()?;
//!     Ok(page["title"].as_str().unwrap_or_default().to_owned())
//! }
//! ```
//!
//! Redirects are not followed: a 3xx comes back as it is.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TaskError;

mod retry_after;
mod url;

pub(crate) use url::Target;
pub use url::encode;

/// The most of a response body that is read unless [`Request::max_bytes`] says otherwise: 16 MiB.
pub const DEFAULT_MAX_BYTES: usize = 16 << 20;

/// Starts a GET request.
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// Starts a POST request.
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}

/// Starts a PUT request.
pub fn put(url: impl Into<String>) -> Request {
    Request::new("PUT", url)
}

/// Starts a PATCH request.
pub fn patch(url: impl Into<String>) -> Request {
    Request::new("PATCH", url)
}

/// Starts a DELETE request.
pub fn delete(url: impl Into<String>) -> Request {
    Request::new("DELETE", url)
}

/// Starts a HEAD request.
pub fn head(url: impl Into<String>) -> Request {
    Request::new("HEAD", url)
}

/// A request in the making.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `send`"]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
    max_bytes: usize,
    /// A body that could not be made; told by `send`.
    broken: Option<String>,
}

impl Request {
    /// Starts a request of any method. The URL must be absolute and percent-encoded.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
            max_bytes: DEFAULT_MAX_BYTES,
            broken: None,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds `name=value` to the query, both percent-encoded here.
    pub fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        let fragment = self.url.find('#').map(|at| self.url.split_off(at));
        self.url
            .push(if self.url.contains('?') { '&' } else { '?' });
        self.url
            .push_str(&format!("{}={}", encode(name), encode(&value.to_string())));
        self.url.extend(fragment);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to the value's JSON, and `Content-Type` unless there is one.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body = body,
            Err(error) => self.broken = Some(format!("the body cannot be JSON: {error}")),
        }
        if find_header(&self.headers, "content-type").is_none() {
            self = self.header("Content-Type", "application/json");
        }
        self
    }

    /// How long to wait for each of: the connection, the first byte, every next piece of the body.
    /// Without it, the attempt's own timeout is the only bound.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The largest response body taken; a larger one is an error.
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sends the request and reads the whole response. Any status is a response.
    ///
    /// # Errors
    /// The request is not valid or not granted, the network failed, the response is too large.
    pub fn send(self) -> Result<Response, Error> {
        if let Some(broken) = &self.broken {
            return Err(self.error(ErrorKind::InvalidRequest, broken.clone()));
        }
        let target =
            Target::parse(&self.url).map_err(|text| self.error(ErrorKind::InvalidRequest, text))?;
        crate::sys::send(&self, &target)
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The whole URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers in the order they were added.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn timeout_value(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn max_bytes_value(&self) -> usize {
        self.max_bytes
    }

    /// `GET https://host/path`: the query is left out of texts, since keys travel there.
    fn label(&self) -> String {
        let end = self.url.find(['?', '#']).unwrap_or(self.url.len());
        format!("{} {}", self.method, &self.url[..end])
    }

    pub(crate) fn error(&self, kind: ErrorKind, detail: impl Into<String>) -> Error {
        Error {
            kind,
            request: self.label(),
            detail: detail.into(),
        }
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    request: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    pub(crate) fn from_parts(
        request: &Request,
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> Self {
        Self {
            request: request.label(),
            status,
            headers,
            body,
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// All headers.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.body)
            .map_err(|error| self.bad_body(format!("is not UTF-8: {error}")))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON, or not of that type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| self.bad_body(format!("is not the expected JSON: {error}")))
    }

    /// The wait the server asked for in `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after::parse(self.header("retry-after")?, SystemTime::now())
    }

    /// The response itself if its status is 2xx.
    ///
    /// # Errors
    /// For any other status: retryable for 408, 429 and 5xx (not before `Retry-After`), else
    /// permanent.
    pub fn error_for_status(self) -> Result<Self, TaskError> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(self.status_error())
        }
    }

    /// The [`TaskError`] this status makes where it was not wanted; see [`Self::error_for_status`].
    pub fn status_error(&self) -> TaskError {
        let message = format!("{}: the server answered {}", self.request, self.status);
        let error = match self.status {
            429 => TaskError::retryable(message).code("rate-limited"),
            408 | 500..=599 => TaskError::retryable(message).code(format!("http-{}", self.status)),
            status => TaskError::permanent(message).code(format!("http-{status}")),
        };
        let error = error.details(serde_json::json!({ "status": self.status }));
        match self.retry_after() {
            Some(delay) if !error.is_permanent() => error.not_before(delay),
            _ => error,
        }
    }

    fn bad_body(&self, what: String) -> Error {
        Error {
            kind: ErrorKind::InvalidResponse,
            request: self.request.clone(),
            detail: format!("the response body {what}"),
        }
    }
}

fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong.
    InvalidRequest,
    /// The operator has not granted it.
    Denied,
    /// Nothing came in time.
    Timeout,
    /// The connection failed.
    Network,
    /// The response is larger than allowed.
    TooLarge,
    /// The run has used up what the host allows it.
    Limit,
    /// The response is not what was expected.
    InvalidResponse,
}

/// Why there is no usable response.
///
/// As a [`TaskError`], a timeout, a network failure and an invalid response are retryable, the rest
/// is permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    request: String,
    detail: String,
}

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn to_task_error(&self) -> TaskError {
        let (code, may_pass) = match self.kind {
            ErrorKind::InvalidRequest => ("invalid-request", false),
            ErrorKind::Denied => ("not-granted", false),
            ErrorKind::Timeout => ("timeout", true),
            ErrorKind::Network => ("network", true),
            ErrorKind::TooLarge => ("too-large", false),
            ErrorKind::Limit => ("quota", false),
            ErrorKind::InvalidResponse => ("invalid-response", true),
        };
        let message = self.to_string();
        let error = if may_pass {
            TaskError::retryable(message)
        } else {
            TaskError::permanent(message)
        };
        error.code(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.request, self.detail)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RetryAdvice;
    use crate::testing::{Host, Reply};
    use serde_json::{Value, json};

    #[test]
    fn sends_what_was_asked_and_reads_json() {
        Host::new()
            .http(|request| {
                assert_eq!(request.method(), "POST");
                assert_eq!(request.url(), "http://example.com/a?b=c%20d#e");
                assert_eq!(
                    request.headers()[0],
                    ("Content-Type".into(), "application/json".into())
                );
                assert_eq!(request.body_bytes(), br#"{"x":1}"#);
                Ok(Reply::new(201)
                    .header("X-Id", "7")
                    .json(&json!({"ok": true})))
            })
            .install();
        let request = post("http://example.com/a#e")
            .query("b", "c d")
            .json(&json!({"x": 1}));
        let response = request.send().unwrap();
        assert_eq!(
            (response.status(), response.header("x-id")),
            (201, Some("7"))
        );
        assert_eq!(response.json::<Value>().unwrap(), json!({"ok": true}));
    }

    fn answer(reply: Reply) -> Response {
        Host::new().http(move |_| Ok(reply.clone())).install();
        get("https://example.com/x?key=hidden").send().unwrap()
    }

    #[test]
    fn statuses_are_classed() {
        assert!(answer(Reply::new(204)).error_for_status().is_ok());
        let error = answer(Reply::new(404)).error_for_status().unwrap_err();
        assert!(error.is_permanent());
        assert_eq!(
            error.message(),
            "GET https://example.com/x: the server answered 404"
        );
        let error = answer(Reply::new(429).header("Retry-After", "7"))
            .error_for_status()
            .unwrap_err();
        assert_eq!(
            error.retry(),
            RetryAdvice::NotBefore(Duration::from_secs(7))
        );
        assert_eq!(error.error_code(), Some("rate-limited"));
        let error = answer(Reply::new(503)).error_for_status().unwrap_err();
        assert_eq!(error.retry(), RetryAdvice::ByPolicy);
        let error = answer(Reply::new(403).header("Retry-After", "7"))
            .error_for_status()
            .unwrap_err();
        assert!(error.is_permanent());
    }

    #[test]
    fn failures_are_classed_and_keep_the_hosts_words() {
        let fail = |kind| {
            Host::new()
                .http(move |_| Err((kind, "words of the host".to_owned())))
                .install();
            TaskError::from(get("https://example.com/x?key=hidden").send().unwrap_err())
        };
        let denied = fail(ErrorKind::Denied);
        assert!(denied.is_permanent());
        assert_eq!(
            denied.message(),
            "GET https://example.com/x: words of the host"
        );
        assert_eq!(denied.error_code(), Some("not-granted"));
        assert!(!fail(ErrorKind::Network).is_permanent());
        assert!(!fail(ErrorKind::Timeout).is_permanent());
    }

    #[test]
    fn bad_requests_and_bodies_are_told() {
        Host::new()
            .http(|_| Ok(Reply::new(200).body("nope")))
            .install();
        let error = get("example.com").send().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        let response = get("http://example.com").send().unwrap();
        assert_eq!(
            response.json::<Value>().unwrap_err().kind(),
            ErrorKind::InvalidResponse
        );
        let error = get("http://example.com").max_bytes(3).send().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}
