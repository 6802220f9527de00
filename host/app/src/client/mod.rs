//! The remote verbs' way to a server: blocking requests, and what its answers mean here.

mod address;
mod events;
mod resolver;
mod upload;

pub(crate) use address::Address;
pub(crate) use events::Listener;

use crate::cli::failure::{Exit, Failure};
use address::no_server;
use resolver::NumbersFirst;
use serde_json::Value;
use std::time::Duration;
use ureq::http::{HeaderValue, Method, Response, request};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body};

/// Longest answer read.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
/// Longest wait for a whole answer; none of the verbs waits inside a request.
const PATIENCE: Duration = Duration::from_secs(120);

/// A successful answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The body as it came.
    pub(crate) text: String,
    /// The resource's version, for `If-Match`.
    pub(crate) etag: Option<String>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        if self.text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.text)
            .map_err(|error| Failure::failed(format!("the server's answer is not JSON: {error}")))
    }
}

/// Requests of one tenant to one server.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    address: Address,
    /// None: the token's own.
    tenant: Option<String>,
}

/// Query parameters.
pub(crate) type Query<'a> = Vec<(&'a str, String)>;

impl Client {
    /// A client; nothing is sent yet.
    pub(crate) fn new(address: Address, tenant: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .tls_config(address.tls.clone())
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("horarium/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = DefaultConnector::default();
        Self {
            agent: Agent::with_parts(config, connector, NumbersFirst::default()),
            address,
            tenant: tenant.map(str::to_owned),
        }
    }

    /// Where it goes.
    pub(crate) fn url(&self) -> &str {
        &self.address.url
    }

    /// GET.
    pub(crate) fn get(&self, path: &str, query: &Query<'_>) -> Result<Answer, Failure> {
        self.send(Method::GET, path, query, &[], ())
    }

    /// Every item of a list, page by page.
    pub(crate) fn every(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let (mut items, mut cursor) = (Vec::new(), None);
        loop {
            let mut query = vec![("limit", "1000".to_owned())];
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(path, &query)?.json()?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: &str, query: &Query<'_>) -> Result<Answer, Failure> {
        self.send(Method::DELETE, path, query, &[], ())
    }

    /// POST of a JSON document.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.json(Method::POST, path, "application/json", None, body)
    }

    /// POST of a JSON document that is carried out once, however often it is sent with the same key.
    pub(crate) fn post_once(
        &self,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = body.to_string();
        self.send(Method::POST, path, &Vec::new(), &headers, body.as_str())
    }

    /// PUT of a JSON document.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.json(Method::PUT, path, "application/json", None, body)
    }

    /// PATCH with a media type of its own, only if the resource still has `etag` where one is given.
    pub(crate) fn patch(
        &self,
        path: &str,
        media_type: &str,
        etag: Option<&str>,
        body: &Value,
    ) -> Result<Answer, Failure> {
        self.json(Method::PATCH, path, media_type, etag, body)
    }

    fn json(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        etag: Option<&str>,
        body: &Value,
    ) -> Result<Answer, Failure> {
        let mut headers = vec![("content-type", media_type)];
        headers.extend(etag.map(|etag| ("if-match", etag)));
        self.send(
            method,
            path,
            &Vec::new(),
            &headers,
            body.to_string().as_str(),
        )
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query<'_>,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Answer, Failure> {
        let request = self
            .head(method, path, query, headers)?
            .body(body)
            .map_err(|error| Failure::refused(format!("{path}: {error}")))?;
        let answer = self
            .agent
            .run(request)
            .map_err(|error| self.unreachable(&error))?;
        self.read(answer, path)
    }

    /// A request but for its body: where it goes, who asks and for which tenant.
    fn head(
        &self,
        method: Method,
        path: &str,
        query: &Query<'_>,
        headers: &[(&str, &str)],
    ) -> Result<request::Builder, Failure> {
        let mut url = format!("{}{path}", self.address.url);
        for (index, (key, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(&format!("{key}={}", segment(value)));
        }
        let mut request = request::Builder::new()
            .method(method)
            .uri(&url)
            .header("accept", "application/json");
        if let Some(tenant) = &self.tenant {
            let value = header_value("the name of the tenant", tenant)?;
            request = request.header("horarium-tenant", value);
        }
        if let Some(token) = &self.address.token {
            let value = header_value("the token", &format!("Bearer {token}"))?;
            request = request.header("authorization", value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request)
    }

    fn read(&self, mut answer: Response<Body>, path: &str) -> Result<Answer, Failure> {
        let status = answer.status().as_u16();
        let etag = answer
            .headers()
            .get("etag")
            .and_then(|etag| etag.to_str().ok())
            .map(str::to_owned);
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        match Exit::of_status(status) {
            Exit::Done => Ok(Answer { text, etag }),
            _ => {
                let failure = Failure::from_answer(status, &text);
                Err(match advice(failure.status(), path) {
                    Some(advice) => failure.hint(advice),
                    None => failure,
                })
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let refused = match error {
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
            ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            _ => false,
        };
        let source = &self.address.source;
        if refused {
            no_server(&format!("at {source}"))
        } else {
            Failure::unreachable(format!("{source} does not answer: {error}"))
        }
    }
}

/// A text as the value of a header; the error names what it is, and does not show it.
fn header_value(what: &str, text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| {
        Failure::refused(format!(
            "{what} cannot be sent: it holds a line break or another character that no header may have"
        ))
    })
}

/// What to do about a refusal that tells only what is wrong.
fn advice(status: Option<u64>, path: &str) -> Option<&'static str> {
    let list = |lists: &[(&str, &'static str)]| {
        let found = lists.iter().find(|(prefix, _)| path.starts_with(prefix));
        found.map(|(_, advice)| *advice)
    };
    match status? {
        404 => list(&[
            (
                "/v1/tasks/",
                "`horarium task list` shows the tasks; --tenant says whose are meant",
            ),
            (
                "/v1/task-types/",
                "`horarium plugin list` shows the plugins",
            ),
            (
                "/v1/executions/",
                "`horarium execution list` shows the executions",
            ),
            ("/v1/secrets/", "`horarium secret list` shows the secrets"),
            ("/v1/tokens/", "`horarium token list` shows the tokens"),
            ("/v1/tenants/", "`horarium tenant list` shows the tenants"),
        ]),
        412 => Some("somebody changed it in between; look at it again, then repeat"),
        503 => Some("`horarium doctor` looks for what is wrong"),
        _ => None,
    }
}

/// Text as one segment of a path, or a value of a query (RFC 3986): all but unreserved characters escaped.
pub(crate) fn segment(text: &str) -> String {
    horarium_core::secrets::percent_encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use ureq::tls::TlsConfig;

    /// A server that answers one request; returns its address and what it was asked.
    fn once(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a request");
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            while !asked.ends_with(b"--\r\n") {
                let read = stream.read(&mut buffer).expect("readable");
                asked.extend_from_slice(&buffer[..read]);
                let bodyless = asked.starts_with(b"GET") && asked.ends_with(b"\r\n\r\n");
                if read == 0 || bodyless {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).expect("writable");
            String::from_utf8_lossy(&asked).into_owned()
        });
        (url, thread)
    }

    pub(super) fn client(url: &str) -> Client {
        let address = Address {
            url: url.to_owned(),
            token: Some("secret".into()),
            source: url.to_owned(),
            tls: TlsConfig::default(),
        };
        Client::new(address, Some("default"))
    }

    #[test]
    fn requests_carry_token_tenant_and_escaped_queries() {
        let (url, server) = once("HTTP/1.1 200 OK\r\netag: \"7\"\r\ncontent-length: 2\r\n\r\n{}");
        let query = vec![("after", "2026-01-01T00:00:00+01:00".to_owned())];
        let answer = client(&url).get("/v1/tasks/a%2Fb", &query).expect("200");
        assert_eq!(
            (answer.text.as_str(), answer.etag.as_deref()),
            ("{}", Some("\"7\""))
        );
        let asked = server.join().expect("served").to_lowercase();
        assert!(asked.starts_with(
            "get /v1/tasks/a%2fb?after=2026-01-01t00%3a00%3a00%2b01%3a00 http/1.1\r\n"
        ));
        assert!(asked.contains("authorization: bearer secret\r\n"));
        assert!(asked.contains("horarium-tenant: default\r\n"));
    }

    #[test]
    fn what_no_header_can_carry_is_named() {
        let refusal = |token: &str, tenant| {
            let address = Address {
                url: "http://127.0.0.1:1".to_owned(),
                token: Some(token.into()),
                source: "here".into(),
                tls: TlsConfig::default(),
            };
            let answer = Client::new(address, Some(tenant)).get("/v1/me", &Vec::new());
            answer.expect_err("refused").render(false)
        };
        let told = refusal("se\ncret", "default");
        assert!(
            told.contains("the token cannot be sent") && !told.contains("cret"),
            "{told}"
        );
        let told = refusal("secret", "a\nb");
        assert!(
            told.contains("the name of the tenant cannot be sent"),
            "{told}"
        );
    }

    #[test]
    fn an_upload_has_two_parts() {
        let (url, server) = once("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}");
        let options = serde_json::json!({"activate": true});
        let mut told = Vec::new();
        let mut sent = |done, all| told.push((done, all));
        client(&url)
            .upload("/v1/task-types/a/versions", b"\0asm", &options, &mut sent)
            .expect("202");
        let asked = server.join().expect("served");
        let last = told.last().expect("told");
        assert!(last.0 == last.1 && asked.contains(&format!("content-length: {}", last.1)));
        assert!(
            asked
                .to_lowercase()
                .contains("content-type: multipart/form-data; boundary=")
        );
        assert!(asked.contains("name=\"component\"; filename=\"component.wasm\""));
        assert!(asked.contains("{\"activate\":true}") && asked.contains("\0asm"));
    }

    #[test]
    fn refusals_and_silence_have_their_codes() {
        let (url, server) = once(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 35\r\n\r\n{\"title\":\"Not found\",\"detail\":\"no\"}",
        );
        let failure = client(&url)
            .get("/v1/tasks/1", &Vec::new())
            .expect_err("404");
        assert_eq!(failure.exit, Exit::Refused);
        server.join().expect("served");

        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", free.local_addr().expect("an address"));
        drop(free);
        let failure = client(&url)
            .get("/v1/me", &Vec::new())
            .expect_err("refused");
        assert_eq!(failure.exit, Exit::Unreachable);
        let text = failure.render(false);
        assert!(
            text.contains("no server at") && text.contains("horarium serve"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_there_says_where_to_look() {
        let list = advice(Some(404), "/v1/tasks/nightly").expect("advice");
        assert!(list.contains("horarium task list"));
        assert_eq!(advice(Some(404), "/v1/apply"), None);
        assert_eq!(advice(Some(422), "/v1/tasks/1"), None);
        assert!(advice(Some(503), "/v1/me").is_some());
    }

    #[test]
    fn a_directory_without_a_server_says_what_to_do() {
        let failure = Address::find(None, Path::new("/nowhere")).expect_err("no server");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(Address::find(Some("ftp://x"), Path::new("/nowhere")).is_err());
    }
}
