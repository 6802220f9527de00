//! Sends one HTTP request and checks the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use horarium_task::http::{Request, Response};
use horarium_task::prelude::*;

/// The request, and what is expected of the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// The method, in capitals.
    #[serde(default = "get")]
    #[schemars(regex(pattern = r"^[A-Z]{1,20}$"))]
    method: String,
    /// The absolute URL, percent-encoded.
    #[schemars(regex(pattern = r"^https?://"))]
    url: String,
    /// Headers to send. `{{secret:NAME}}` in a value stands for a granted secret.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A string is sent as it is, anything else as JSON.
    body: Option<Value>,
    /// The status or statuses that mean success; 200 to 299 when absent.
    expected_status: Option<Expected>,
    /// A JSON pointer into the answer: what it points to becomes `extracted`.
    #[schemars(regex(pattern = r"^(/.*)?$"))]
    extract: Option<String>,
    /// How long to wait for the connection, the first byte, and each further piece of the body.
    #[schemars(range(min = 1, max = 86400))]
    wait_seconds: Option<u32>,
}

fn get() -> String {
    "GET".to_owned()
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Expected {
    One(Status),
    Any(Vec<Status>),
}

#[derive(Deserialize, JsonSchema, PartialEq, Clone, Copy)]
struct Status(#[schemars(range(min = 100, max = 599))] u16);

impl Expected {
    fn allows(&self, status: u16) -> bool {
        match self {
            Self::One(one) => one.0 == status,
            Self::Any(any) => any.contains(&Status(status)),
        }
    }
}

/// The answer.
#[derive(Serialize, JsonSchema)]
struct Answer {
    /// The status.
    status: u16,
    /// The headers, names in lower case; repeated ones joined by a comma.
    headers: BTreeMap<String, String>,
    /// The body where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    /// The body as text where it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// What `extract` points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    extracted: Option<Value>,
}

struct HttpRequest;

impl Task for HttpRequest {
    type Parameters = Parameters;
    type Output = Answer;
    // It asks for nothing: which hosts it may reach depends on its parameters alone.
    const SUMMARY: &'static str = "Sends one HTTP request; grant it the hosts it may reach";

    fn run(parameters: Parameters) -> Result<Answer, TaskError> {
        let response = build(&parameters)?.send()?;
        log::at(log::Level::Info)
            .field("status", response.status())
            .field("bytes", response.bytes().len())
            .write("answered");
        let expected = match &parameters.expected_status {
            Some(expected) => expected.allows(response.status()),
            None => (200..300).contains(&response.status()),
        };
        if !expected {
            return Err(unexpected(&response));
        }
        answer(&response, parameters.extract.as_deref())
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(json!({"url": "https://example.com/health", "extract": "/status"}))
                .summary("Checks a health page"),
            Example::new(json!({
                "method": "POST",
                "url": "https://example.com/hooks",
                "headers": {"Authorization": "Bearer {{secret:HOOK_TOKEN}}"},
                "body": {"text": "done"},
                "expected_status": [200, 202],
            }))
            .summary("Calls a hook with a secret"),
        ]
    }
}

horarium_task::export!(HttpRequest);

fn build(parameters: &Parameters) -> Result<Request, TaskError> {
    let mut request = Request::new(&parameters.method, &parameters.url);
    for (name, value) in &parameters.headers {
        request = request.header(name, fill_in_secrets(value)?);
    }
    if let Some(seconds) = parameters.wait_seconds {
        request = request.timeout(Duration::from_secs(seconds.into()));
    }
    Ok(match &parameters.body {
        None | Some(Value::Null) => request,
        Some(Value::String(text)) => request.body(text.as_str()),
        Some(value) => request.json(value),
    })
}

/// Replaces every `{{secret:NAME}}` by the host's placeholder for that secret.
fn fill_in_secrets(value: &str) -> Result<String, TaskError> {
    let mut filled = String::new();
    let mut rest = value;
    while let Some((before, tail)) = rest.split_once("{{secret:") {
        let Some((name, after)) = tail.split_once("}}") else {
            break;
        };
        filled.push_str(before);
        filled.push_str(&secrets::get(name)?);
        rest = after;
    }
    Ok(filled + rest)
}

/// A status nobody asked for: retryable where the server may recover.
fn unexpected(response: &Response) -> TaskError {
    let excerpt: String = String::from_utf8_lossy(response.bytes())
        .chars()
        .take(500)
        .collect();
    response
        .status_error()
        .details(json!({ "status": response.status(), "body": excerpt }))
}

fn answer(response: &Response, extract: Option<&str>) -> Result<Answer, TaskError> {
    let json: Option<Value> = response.json().ok();
    let extracted = match (extract, &json) {
        (None, _) => None,
        (Some(pointer), Some(json)) => Some(json.pointer(pointer).cloned().ok_or_else(|| {
            TaskError::permanent(format!("the answer has nothing at {pointer:?}"))
                .code("nothing-to-extract")
        })?),
        (Some(pointer), None) => {
            let message = format!("the answer is not JSON, so there is nothing at {pointer:?}");
            return Err(TaskError::permanent(message).code("nothing-to-extract"));
        }
    };
    let body = json
        .is_none()
        .then(|| String::from_utf8_lossy(response.bytes()).into_owned());
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in response.headers() {
        let joined = headers.entry(name.to_ascii_lowercase()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value);
    }
    Ok(Answer {
        status: response.status(),
        headers,
        json,
        body,
        extracted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_task::http::ErrorKind;
    use horarium_task::testing::{Host, Reply};

    fn run(parameters: Value, reply: Reply) -> Result<Answer, TaskError> {
        Host::new()
            .secret("TOKEN", "placeholder")
            .http(move |_| Ok(reply.clone()))
            .install();
        HttpRequest::run(serde_json::from_value(parameters).unwrap())
    }

    #[test]
    fn sends_what_the_parameters_say() {
        Host::new()
            .secret("TOKEN", "placeholder")
            .http(|request| {
                assert_eq!(
                    (request.method(), request.body_bytes()),
                    ("PUT", &b"[1]"[..])
                );
                assert!(
                    request
                        .headers()
                        .contains(&("Auth".into(), "Bearer placeholder!".into()))
                );
                Ok(Reply::new(200)
                    .header("A", "1")
                    .header("a", "2")
                    .body("plain"))
            })
            .install();
        let parameters = json!({"method": "PUT", "url": "http://h/", "body": [1], "headers": {"Auth": "Bearer {{secret:TOKEN}}!"}});
        let answer = HttpRequest::run(serde_json::from_value(parameters).unwrap()).unwrap();
        assert_eq!(answer.headers["a"], "1, 2");
        assert_eq!((answer.json, answer.body.as_deref()), (None, Some("plain")));
    }

    #[test]
    fn extracts_or_says_why_not() {
        let parameters = json!({"url": "http://h/", "extract": "/a/0"});
        let answer = run(
            parameters.clone(),
            Reply::new(200).json(&json!({"a": [null]})),
        )
        .unwrap();
        assert_eq!(answer.extracted, Some(Value::Null));
        for reply in [
            Reply::new(200).json(&json!({"a": []})),
            Reply::new(200).body("x"),
        ] {
            assert!(run(parameters.clone(), reply).err().unwrap().is_permanent());
        }
    }

    #[test]
    fn statuses_are_expected_or_classed() {
        let with = |expected: Value, status| {
            run(
                json!({"url": "http://h/", "expected_status": expected}),
                Reply::new(status),
            )
        };
        assert!(with(json!(null), 299).is_ok());
        assert!(with(json!(404), 404).is_ok());
        assert!(with(json!([200, 503]), 503).is_ok());
        assert!(with(json!(201), 200).err().unwrap().is_permanent());
        assert!(with(json!(null), 302).err().unwrap().is_permanent());
        assert!(!with(json!(null), 503).err().unwrap().is_permanent());
        assert!(!with(json!(null), 429).err().unwrap().is_permanent());
    }

    #[test]
    fn a_secret_that_is_not_granted_is_permanent() {
        let parameters = json!({"url": "http://h/", "headers": {"A": "{{secret:OTHER}}"}});
        assert!(
            run(parameters, Reply::new(200))
                .err()
                .unwrap()
                .is_permanent()
        );
    }

    #[test]
    fn a_denial_keeps_the_hosts_words() {
        Host::new()
            .http(|_| Err((ErrorKind::Denied, "grant: http GET http://h".to_owned())))
            .install();
        let parameters = serde_json::from_value(json!({"url": "http://h/"})).unwrap();
        let error = HttpRequest::run(parameters).err().unwrap();
        assert!(error.is_permanent());
        assert!(error.message().contains("grant: http GET http://h"));
    }
}
