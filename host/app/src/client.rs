//! The remote verbs' way to a server: blocking requests, and what its answers mean here.

use crate::cli::failure::{Exit, Failure};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::multipart::{Form, Part};
use ureq::{Agent, AsSendBody, Body, SendBody};

/// Longest answer read.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
/// Longest wait for a whole answer; none of the verbs waits inside a request.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the server is and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// `http://HOST:PORT`, no slash at the end.
    pub(crate) url: String,
    /// The token, if there is one at hand.
    pub(crate) token: Option<String>,
    /// Where the address came from, for messages.
    pub(crate) source: String,
    /// Whose certificates are trusted.
    pub(crate) tls: TlsConfig,
}

impl Address {
    /// `HORARIUM_URL` and `HORARIUM_TOKEN` (or `--url`), else what the local server left in its data
    /// directory.
    pub(crate) fn find(url: Option<&str>, data_dir: &Path) -> Result<Self, Failure> {
        let token = std::env::var("HORARIUM_TOKEN")
            .ok()
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        if let Some(url) = url {
            let url = url.trim_end_matches('/').to_owned();
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Failure::refused(format!(
                    "`{url}` is not the address of a server; write it like http://127.0.0.1:7411"
                )));
            }
            return Ok(Self {
                token,
                source: url.clone(),
                url,
                tls: trusted()?,
            });
        }
        let file = data_dir.join("server.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Err(no_server(&format!("in {}", data_dir.display())));
        };
        let known: Option<Value> = serde_json::from_str(&text).ok();
        let url = known
            .as_ref()
            .and_then(|known| known.get("url")?.as_str())
            .ok_or_else(|| {
                Failure::unreachable(format!("{} has no url: is it damaged?", file.display()))
            })?;
        let token_file = data_dir.join("admin-token");
        let token = token.or_else(|| {
            let text = std::fs::read_to_string(&token_file).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        });
        // What is on this machine's loopback cannot be listened to on the way, and its certificate is for another name.
        let tls = match is_loopback(url) {
            true => TlsConfig::builder().disable_verification(true).build(),
            false => trusted()?,
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            tls,
            source: format!("{} ({})", url, file.display()),
        })
    }
}

/// Whether an address of `server.json` is of this machine alone.
fn is_loopback(url: &str) -> bool {
    let address = url.trim_start_matches("https://").trim_end_matches('/');
    let address: Result<std::net::SocketAddr, _> = address.parse();
    address.is_ok_and(|address| address.ip().is_loopback())
}

/// The public CAs, or those of the file that `HORARIUM_CA_FILE` names.
fn trusted() -> Result<TlsConfig, Failure> {
    let Some(file) = std::env::var_os("HORARIUM_CA_FILE").filter(|file| !file.is_empty()) else {
        return Ok(TlsConfig::default());
    };
    let wrong = |detail: String| {
        Failure::refused(format!("HORARIUM_CA_FILE: {}: {detail}", file.display()))
    };
    let text = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
    let items = parse_pem(&text).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|error| wrong(error.to_string()))?;
    let roots: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Err(wrong("holds no certificate in PEM".into()));
    }
    let roots = RootCerts::Specific(Arc::new(roots));
    Ok(TlsConfig::builder().root_certs(roots).build())
}

fn no_server(place: &str) -> Failure {
    Failure::unreachable(format!("no server {place}"))
        .hint("start one with `horarium serve`, or set HORARIUM_URL and HORARIUM_TOKEN")
}

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
        Self {
            agent: config.into(),
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

    /// Registers a component: the file, and the options as JSON. `sent` is told the bytes sent so far
    /// and all there are.
    pub(crate) fn upload(
        &self,
        path: &str,
        component: &[u8],
        options: &Value,
        sent: &mut dyn FnMut(u64, u64),
    ) -> Result<Answer, Failure> {
        let options = options.to_string();
        let mut form = Form::new()
            .part("options", typed(Part::text(&options), "application/json")?)
            .part(
                "component",
                typed(Part::bytes(component), "application/wasm")?.file_name("component.wasm"),
            );
        // The builder would set it; a request sent as it is needs it said.
        let kind = format!("multipart/form-data; boundary={}", form.boundary());
        let mut body = Vec::new();
        form.read_to_end(&mut body)
            .map_err(|error| Failure::failed(format!("the request cannot be built: {error}")))?;
        let length = body.len().to_string();
        let headers = [
            ("content-type", kind.as_str()),
            ("content-length", length.as_str()),
        ];
        let mut body = Told {
            body: &body,
            at: 0,
            sent,
        };
        let body = SendBody::from_reader(&mut body);
        self.send(Method::POST, path, &Vec::new(), &headers, body)
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
        let mut url = format!("{}{path}", self.address.url);
        for (index, (key, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(&format!("{key}={}", segment(value)));
        }
        let mut request = Request::builder()
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
        let request = request
            .body(body)
            .map_err(|error| Failure::refused(format!("{url}: {error}")))?;
        let answer = self
            .agent
            .run(request)
            .map_err(|error| self.unreachable(&error))?;
        self.read(answer)
            .map_err(|failure| match advice(failure.status(), path) {
                Some(advice) => failure.hint(advice),
                None => failure,
            })
    }

    fn read(&self, mut answer: Response<Body>) -> Result<Answer, Failure> {
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
            _ => Err(Failure::from_answer(status, &text)),
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

/// A body that tells how much of it was read.
struct Told<'b> {
    body: &'b [u8],
    at: usize,
    sent: &'b mut dyn FnMut(u64, u64),
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = (&self.body[self.at..]).read(buffer)?;
        self.at += read;
        (self.sent)(self.at as u64, self.body.len() as u64);
        Ok(read)
    }
}

fn typed<'a>(part: Part<'a>, media_type: &str) -> Result<Part<'a>, Failure> {
    part.mime_str(media_type)
        .map_err(|error| Failure::failed(format!("the request cannot be built: {error}")))
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

    fn client(url: &str) -> Client {
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
