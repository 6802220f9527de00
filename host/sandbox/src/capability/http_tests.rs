//! Requests through the hooks against servers on loopback.

use super::*;
use crate::testing;
use bytes::Bytes;
use horarium_core::clock::SystemClock;
use horarium_core::secrets::{RunSecret, SecretValue};
use horarium_model::execution::{LogLevel, LogSource};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Answers one connection with `answer`; what it was asked.
pub(crate) async fn server(answer: String) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") && !asked.ends_with(b"END") {
            let mut part = [0; 4096];
            match stream.read(&mut part).await.expect("reads") {
                0 => break,
                n => asked.extend_from_slice(&part[..n]),
            }
        }
        let _ = stream.write_all(answer.as_bytes()).await;
        String::from_utf8(asked).expect("text")
    });
    (port, asked)
}

pub(crate) fn answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nkeep-alive: timeout=5\r\nx-seen: 1\r\n\r\n{body}",
        body.len()
    )
}

/// A run's HTTP, with what it was denied and what it told.
pub(crate) struct Session {
    http: HttpSession,
    denials: Arc<Denials>,
    pub(crate) placeholders: Arc<Placeholders>,
    pub(crate) control: Arc<RunControl>,
}

fn session(grants: &[&str], change: impl FnOnce(&mut Limits)) -> (Session, Arc<RunControl>) {
    let session = session_with(grants, &[], change);
    let control = session.control.clone();
    (session, control)
}

/// With secrets, by name and value.
pub(crate) fn session_with(
    grants: &[&str],
    secrets: &[(&str, &str)],
    change: impl FnOnce(&mut Limits),
) -> Session {
    let loopback = vec!["127.0.0.0/8".parse().expect("a network")];
    let connector = Arc::new(Connector::new(None, loopback, &[]).expect("a connector"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let control = Arc::new(RunControl::new(64 << 10, 1));
    let mut attempt = testing::attempt(&testing::version("blake3:none"), "{}");
    attempt.grants = grants
        .iter()
        .map(|grant| grant.parse().expect("a grant"))
        .collect();
    attempt.given.secrets = secrets
        .iter()
        .map(|(name, value)| RunSecret {
            name: (*name).to_owned(),
            value: SecretValue::new((*value).to_owned()).expect("a value"),
        })
        .collect();
    change(&mut attempt.limits);
    let deadline = clock.monotonic() + Duration::from_secs(30);
    let denials = Arc::new(Denials::new(control.clone(), clock.clone()));
    let placeholders = Placeholders::new(&attempt);
    let parts = Parts {
        connector,
        control: control.clone(),
        clock,
        denials: denials.clone(),
        placeholders: placeholders.clone(),
    };
    Session {
        http: HttpSession::new(parts, &attempt, deadline),
        denials,
        placeholders,
        control,
    }
}

fn request(method: &str, uri: String, body: &str) -> Request<WasiBody> {
    let body = Full::new(Bytes::from(body.to_owned()))
        .map_err(Error::from)
        .boxed_unsync();
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "forged.example")
        .header("connection", "close, x-private")
        .header("x-private", "1")
        .header("x-kept", "1")
        .body(body)
        .expect("a request")
}

pub(crate) async fn send(
    session: &mut Session,
    request: Request<WasiBody>,
) -> Result<Response<WasiBody>, Error> {
    let sent = session
        .http
        .hooks
        .send_request(request, None, Box::new(async { Ok(()) }));
    Box::into_pin(sent).await.map(|(response, _)| response)
}

fn usage(session: &Session) -> (u64, u64, u64) {
    let mut usage = Usage::default();
    session.http.report(&mut usage);
    (
        usage.http_calls,
        usage.http_request_bytes,
        usage.http_response_bytes,
    )
}

#[tokio::test]
async fn a_granted_request_goes_out_clean_and_is_counted() {
    let (port, asked) = server(answer("hello")).await;
    let grant = format!("http POST http://127.0.0.1:{port}/api via 127.0.0.1/32");
    let (mut session, _) = session(&[&grant], |_| {});
    let uri = format!("http://127.0.0.1:{port}/api/x?q=1");
    let response = send(&mut session, request("POST", uri, "bodyEND"))
        .await
        .expect("answers");
    assert!(
        response.headers().contains_key("x-seen") && !response.headers().contains_key("keep-alive")
    );
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(&body[..], b"hello");
    let asked = asked.await.expect("asked").to_lowercase();
    assert!(asked.starts_with("post /api/x?q=1 http/1.1\r\n"), "{asked}");
    assert!(
        asked.contains(&format!("host: 127.0.0.1:{port}\r\n")) && !asked.contains("forged"),
        "{asked}"
    );
    assert!(
        asked.contains("x-kept: 1") && !asked.contains("x-private"),
        "{asked}"
    );
    assert_eq!(usage(&session), (1, 7, 5));
}

#[tokio::test]
async fn a_denial_is_logged_with_the_grant_and_nothing_leaves() {
    let (mut session, control) = session(&["http GET http://127.0.0.1:1/api"], |_| {});
    let denied = send(
        &mut session,
        request("GET", "http://127.0.0.1:1/other".into(), ""),
    )
    .await;
    assert!(matches!(denied, Err(Error::HttpRequestDenied)));
    let lines = control.log.lines_from(0);
    assert_eq!(
        (lines.len(), lines[0].source, lines[0].level),
        (1, LogSource::Host, LogLevel::Warn)
    );
    assert!(
        lines[0]
            .message
            .contains("--grant 'http GET http://127.0.0.1:1 via 127.0.0.1/32'")
    );
    assert_eq!(
        session.denials.last().as_deref(),
        Some(lines[0].message.as_str())
    );
    assert_eq!(usage(&session), (0, 0, 0));
    let connect = send(
        &mut session,
        request("CONNECT", "http://127.0.0.1:1/".into(), ""),
    )
    .await;
    assert!(matches!(connect, Err(Error::HttpRequestMethodInvalid)));
}

#[tokio::test]
async fn bodies_stop_at_the_runs_limits() {
    let (port, _asked) = server(answer(&"x".repeat(1000))).await;
    let grant = format!("http * http://127.0.0.1:{port} via 127.0.0.1/32");
    let (mut session, _) = session(&[&grant], |limits| limits.http_response_bytes = 999);
    let uri = format!("http://127.0.0.1:{port}/");
    let response = send(&mut session, request("GET", uri, ""))
        .await
        .expect("a head");
    let body = response.into_body().collect().await;
    assert!(matches!(body, Err(Error::HttpResponseBodySize(Some(999)))));

    let (port, _asked) = server(answer("")).await;
    let grant = format!("http * http://127.0.0.1:{port} via 127.0.0.1/32");
    let (mut session, _) = self::session(&[&grant], |limits| limits.http_request_bytes = 3);
    let uri = format!("http://127.0.0.1:{port}/");
    let refused = send(&mut session, request("POST", uri, "four")).await;
    let Err(Error::Hyper(error)) = refused else {
        panic!("sent")
    };
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    assert!(
        matches!(cause, Some(ErrorCode::HttpRequestBodySize(Some(3)))),
        "{error:?}"
    );
}

#[tokio::test]
async fn calls_and_concurrency_are_refusals_with_a_code() {
    let (port, _asked) = server(answer("x")).await;
    let grant = format!("http * http://127.0.0.1:{port} via 127.0.0.1/32");
    let (mut session, _) = session(&[&grant], |limits| {
        limits.http_calls = 2;
        limits.http_concurrent = 1;
    });
    let uri = || format!("http://127.0.0.1:{port}/");
    let held = send(&mut session, request("GET", uri(), ""))
        .await
        .expect("the first");
    let second = send(&mut session, request("GET", uri(), "")).await;
    assert!(matches!(second, Err(Error::ConnectionLimitReached)));
    drop(held);
    let third = send(&mut session, request("GET", uri(), "")).await;
    let Err(Error::InternalError(Some(text))) = third else {
        panic!("sent")
    };
    assert!(text.starts_with("http_calls: "), "{text}");
}

#[tokio::test]
async fn each_call_is_kept_with_status_bytes_and_time() {
    let (port, _asked) = server(answer("hello")).await;
    let grant = format!("http POST http://127.0.0.1:{port}/api via 127.0.0.1/32");
    let (mut session, control) = session(&[&grant], |_| {});
    let base = format!("http://127.0.0.1:{port}");
    let response = send(
        &mut session,
        request("POST", format!("{base}/api/x?q=1"), "bodyEND"),
    )
    .await
    .expect("answers");
    assert_eq!(
        control.calls()[0].duration_seconds,
        None,
        "its body is not read yet"
    );
    response.into_body().collect().await.expect("a body");
    let denied = send(&mut session, request("GET", format!("{base}/other"), "")).await;
    assert!(denied.is_err());
    let gone = send(&mut session, request("POST", format!("{base}/api"), "")).await;
    assert!(matches!(gone, Err(Error::ConnectionRefused)));
    let calls = control.calls();
    assert_eq!(calls.len(), 3);
    let (first, second, third) = (&calls[0], &calls[1], &calls[2]);
    assert_eq!((first.method.as_str(), first.status), ("POST", Some(200)));
    assert_eq!(first.url, format!("{base}/api/x?q=1"));
    assert_eq!((first.request_bytes, first.response_bytes), (7, 5));
    assert!(first.duration_seconds.is_some() && first.error.is_none());
    assert_eq!((second.call, second.status), (1, None));
    let why = second.error.as_deref().expect("denied");
    assert!(why.starts_with("denied: GET"), "{why}");
    let why = third.error.as_deref().expect("refused");
    assert!(why.contains("does not accept connections"), "{why}");
}

#[tokio::test]
async fn denials_without_end_do_not_fill_the_list() {
    let (mut session, control) = session(&[], |_| {});
    for _ in 0..DENIALS_KEPT + 50 {
        let denied = send(&mut session, request("GET", "http://a.example/".into(), "")).await;
        assert!(denied.is_err());
    }
    assert_eq!(control.calls().len() as u64, DENIALS_KEPT);
}
