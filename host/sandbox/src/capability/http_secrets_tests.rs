//! Placeholders on their way out, against servers on loopback.

use super::super::http::tests::{Session, answer, send, server, session_with};
use super::*;
use bytes::Bytes;
use http::Request;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;

const VALUE: &str = "s3cr3t\"&+/=ü";

/// A session that may POST to the port, with the secret `k` granted in these places.
fn session(port: u16, places: &[&str]) -> (Session, String) {
    let http = format!("http * http://127.0.0.1:{port} via 127.0.0.1/32");
    let places = places.iter();
    let secrets = places.map(|place| format!("secret k in {place} to http://127.0.0.1:{port}"));
    let grants: Vec<String> = std::iter::once(http).chain(secrets).collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let session = session_with(&grants, &[("k", VALUE)], |_| {});
    let token = session.placeholders.0[0].token.clone();
    (session, token)
}

fn request(port: u16, rest: &str) -> http::request::Builder {
    Request::builder()
        .method("POST")
        .uri(format!("http://127.0.0.1:{port}{rest}"))
}

fn whole(text: &str) -> WasiBody {
    Full::new(Bytes::from(text.to_owned()))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// What the server got, in small letters up to the body.
async fn got(
    places: &[&str],
    build: impl FnOnce(http::request::Builder, &str) -> Request<WasiBody>,
    rest: impl FnOnce(&str) -> String,
) -> Result<String, Vec<String>> {
    let (port, asked) = server(answer("ok")).await;
    let (mut session, token) = session(port, places);
    let request = build(request(port, &rest(&token)), &token);
    let sent = send(&mut session, request).await;
    let lines = session.control.log.lines_from(0);
    match sent {
        Ok(response) => {
            drop(response);
            let asked = asked.await.expect("asked");
            assert!(!asked.contains(&token), "{asked}");
            let calls = session.control.calls();
            assert!(
                !format!("{calls:?}{lines:?}").contains("s3cr3t"),
                "{calls:?}"
            );
            Ok(asked)
        }
        Err(_) => {
            asked.abort();
            Err(lines.into_iter().map(|line| line.message).collect())
        }
    }
}

fn no_path(_: &str) -> String {
    "/".to_owned()
}

#[tokio::test]
async fn a_header_carries_the_value_also_inside_of_basic_credentials() {
    let plain = "secret-value-7";
    let (port, asked) = server(answer("ok")).await;
    let to = format!("http://127.0.0.1:{port}");
    let grants = [
        format!("http * {to} via 127.0.0.1/32"),
        format!("secret k in header:authorization to https://other.example,{to}"),
    ];
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let mut session = session_with(&grants, &[("k", plain)], |_| {});
    let token = session.placeholders.0[0].token.clone();
    let basic = STANDARD.encode(format!("user:{token}"));
    let request = request(port, "/")
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("basic {basic}"))
        .header("x-other", "kept")
        .body(whole("END"))
        .expect("a request");
    send(&mut session, request).await.expect("answers");
    let asked = asked.await.expect("asked");
    assert!(
        asked.contains(&format!("authorization: Bearer {plain}\r\n")),
        "{asked}"
    );
    let basic = STANDARD.encode(format!("user:{plain}"));
    assert!(
        asked.contains(&format!("authorization: Basic {basic}\r\n")),
        "{asked}"
    );
    assert!(asked.contains("x-other: kept"), "{asked}");
}

#[tokio::test]
async fn the_query_carries_the_value_escaped_and_the_list_of_calls_does_not() {
    let asked = got(
        &["query:api.key"],
        |builder, _| builder.body(whole("END")).expect("a request"),
        |token| format!("/p?a=1&api%2Ekey=x{token}&b"),
    )
    .await
    .expect("sent");
    let expected = format!("POST /p?a=1&api%2Ekey=x{}&b HTTP", percent_encode(VALUE));
    assert!(asked.starts_with(&expected), "{asked}");
}

#[tokio::test]
async fn a_body_carries_the_value_as_its_type_writes_it() {
    for (kind, written) in [
        (
            "application/json; charset=utf-8",
            "s3cr3t\\\"&+/=ü".to_owned(),
        ),
        ("application/x-www-form-urlencoded", percent_encode(VALUE)),
        ("text/plain", VALUE.to_owned()),
    ] {
        let asked = got(
            &["body"],
            |builder, token| {
                let body = format!("{{\"key\": \"{token}\", \"again\": \"{token}\"}}END");
                builder
                    .header("content-type", kind)
                    .header("content-length", body.len())
                    .body(whole(&body))
                    .expect("a request")
            },
            no_path,
        )
        .await
        .expect("sent");
        let (head, body) = asked.split_once("\r\n\r\n").expect("a body");
        assert_eq!(
            body,
            format!("{{\"key\": \"{written}\", \"again\": \"{written}\"}}END")
        );
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_long_body_is_filled_in_chunks_wherever_its_pieces_are_cut() {
    let filler = "y".repeat(KNOWN_LENGTH_BYTES);
    let asked = got(
        &["body"],
        |builder, token| {
            let text = format!("{token}{filler}{token}END");
            let pieces: Vec<Result<Frame<Bytes>, Error>> = text
                .as_bytes()
                .chunks(7001)
                .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
                .collect();
            let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
            builder.body(body).expect("a request")
        },
        no_path,
    )
    .await
    .expect("sent");
    assert!(asked.to_lowercase().contains("transfer-encoding: chunked"));
    let counted = asked.matches(VALUE).count();
    assert_eq!(counted, 2, "the server saw both");
}

#[tokio::test]
async fn anywhere_else_the_request_is_refused_and_the_sentence_names_the_grant() {
    type Build = fn(http::request::Builder, &str) -> Request<WasiBody>;
    let plain: Build = |builder, _| builder.body(whole("END")).expect("a request");
    let header: Build = |builder, token| {
        builder
            .header("x-key", format!("k={token}"))
            .body(whole("END"))
            .expect("a request")
    };
    let basic: Build = |builder, token| {
        let credentials = STANDARD.encode(format!("{token}:x"));
        builder
            .header("authorization", format!("Basic {credentials}"))
            .body(whole("END"))
            .expect("a request")
    };
    let body: Build = |builder, token| {
        let text = format!("a={token}END");
        builder.body(whole(&text)).expect("a request")
    };
    type Rest = fn(&str) -> String;
    let cases: [(Build, Rest, &str); 6] = [
        (
            header,
            no_path,
            "--grant 'secret k in header:x-key to http://127.0.0.1:",
        ),
        (
            basic,
            no_path,
            "--grant 'secret k in header:authorization to http",
        ),
        (body, no_path, "--grant 'secret k in body to http"),
        (
            plain,
            |t| format!("/?key={t}"),
            "--grant 'secret k in query:key to http",
        ),
        (plain, |t| format!("/{t}/x"), "in the path of a request"),
        (
            plain,
            |t| format!("/?{t}=1"),
            "the name of a query parameter",
        ),
    ];
    for (build, rest, part) in cases {
        let refused = got(&["header:x-other"], build, rest).await.expect_err(part);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].starts_with("denied: the secret `k` stands in "),
            "{refused:?}"
        );
        assert!(refused[0].contains(part), "{refused:?} has no {part}");
    }
}

#[tokio::test]
async fn another_host_gets_nothing() {
    let (port, asked) = server(answer("ok")).await;
    let http = format!("http * http://127.0.0.1:{port} via 127.0.0.1/32");
    let secret = "secret k in header:authorization to https://api.example";
    let mut session = session_with(&[&http, secret], &[("k", VALUE)], |_| {});
    let token = session.placeholders.0[0].token.clone();
    let request = request(port, "/")
        .header("authorization", token)
        .body(whole("END"))
        .expect("a request");
    assert!(matches!(
        send(&mut session, request).await,
        Err(Error::HttpRequestDenied)
    ));
    assert!(!asked.is_finished(), "nobody connected");
    asked.abort();
}

#[tokio::test]
async fn what_a_header_cannot_hold_is_refused() {
    let (port, asked) = server(answer("ok")).await;
    let to = format!("http://127.0.0.1:{port}");
    let grants = [
        format!("http * {to} via 127.0.0.1/32"),
        format!("secret k in header:x-key to {to}"),
    ];
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let mut session = session_with(&grants, &[("k", "one\r\nx-forged: 1")], |_| {});
    let token = session.placeholders.0[0].token.clone();
    let request = request(port, "/").header("x-key", token).body(whole("END"));
    let refused = send(&mut session, request.expect("a request")).await;
    assert!(matches!(refused, Err(Error::HttpRequestDenied)));
    asked.abort();
    let lines = session.control.log.lines_from(0);
    assert!(lines[0].message.contains("line break"), "{lines:?}");
}
