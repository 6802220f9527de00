//! The accept loop over real loopback sockets.

use super::harness::TOKEN;
use super::*;
use crate::api::{ServerSettings, Tls, serve};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

async fn start(header_timeout: Duration) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    start_with(header_timeout, None).await
}

async fn start_with(
    header_timeout: Duration,
    tls: Option<Arc<Tls>>,
) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = ServerSettings {
        max_connections: 2,
        header_timeout,
        tls,
    };
    let shutdown = CancellationToken::new();
    let router = Harness::new().router;
    let serving = tokio::spawn(serve(listener, router, settings, shutdown.clone()));
    (address, shutdown, serving)
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_sent_away() {
    let (address, _shutdown, _serving) = start(Duration::from_millis(50)).await;
    let mut client = TcpStream::connect(address).await.expect("connected");
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    // Ends only because the server closes; without the timeout this would wait for ever.
    let _ = client.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_says_nothing_or_not_what_it_speaks_is_sent_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, trusted) = tls_for(folder.path(), "one.example");
    let patience = Duration::from_millis(300);
    let (plain, _shutdown, _serving) = start(patience).await;
    let (secure, _also, _too) = start_with(patience, Some(tls)).await;
    // The second could become either HTTP.
    for said in [&b""[..], b"PRI * HTTP/2"] {
        let mut client = TcpStream::connect(plain).await.expect("connected");
        client.write_all(said).await.expect("sent");
        let mut answer = Vec::new();
        // Ends only because the server closes.
        let _ = client.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        let connector = tokio_rustls::TlsConnector::from(trusted.clone());
        let name = rustls::pki_types::ServerName::try_from("one.example").expect("a name");
        let stream = TcpStream::connect(secure).await.expect("connected");
        let mut client = connector.connect(name, stream).await.expect("shaken");
        client.write_all(said).await.expect("sent");
        let _ = client.read_to_end(&mut answer).await;
    }
    // Who has said what it speaks is not hurried by it: a short head of HTTP/1 in two pieces.
    let mut client = TcpStream::connect(plain).await.expect("connected");
    client.write_all(b"G").await.expect("sent");
    client
        .write_all(b"ET /healthz HTTP/1.0\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("answered");
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_sends_before_it_listens_still_hears_why_it_was_refused() {
    let (address, _shutdown, _serving) = start(Duration::from_secs(60)).await;
    for (query, mebibytes, status) in [("", 100, 413), ("?shard=true", 8, 400)] {
        let mut client = TcpStream::connect(address).await.expect("connected");
        let size = mebibytes << 20;
        let head = format!(
            "POST /v1/task-types/x/versions{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/wasm\r\nContent-Length: {size}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.expect("sent");
        let piece = vec![0; 1 << 20];
        for _ in 0..mebibytes {
            client.write_all(&piece).await.expect("taken");
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("read");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(answer.contains(&format!("\"status\":{status}")), "{answer}");
    }
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_and_the_loop() {
    let (address, shutdown, serving) = start(Duration::from_secs(60)).await;
    let mut client = TcpStream::connect(address).await.expect("connected");
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut first = [0; 12];
    client.read_exact(&mut first).await.expect("answered");
    assert_eq!(&first, b"HTTP/1.1 200");
    shutdown.cancel();
    serving.await.expect("no panic");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("closed");
}

/// Asks on a connection that stays open, and reads the head of the answer.
async fn hold(address: SocketAddr) -> std::io::Result<(TcpStream, String)> {
    let mut client = TcpStream::connect(address).await?;
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok((client, String::from_utf8_lossy(&head).to_lowercase()))
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_is_told_so() {
    let (address, shutdown, serving) = start(Duration::from_secs(60)).await;
    let (first, head) = hold(address).await.expect("answered");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (_second, head) = hold(address).await.expect("answered");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    // Also who brings a body, which is not read.
    for request in [
        "GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!(
            "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{}",
            "x".repeat(9000)
        ),
    ] {
        let mut third = TcpStream::connect(address).await.expect("connected");
        third.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        third.read_to_string(&mut answer).await.expect("closed");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let head = head.to_lowercase();
        for part in [
            "http/1.1 503",
            "retry-after: 2",
            "connection: close",
            "content-type: application/problem+json",
            "x-request-id: ",
        ] {
            assert!(head.contains(part), "no {part} in {head}");
        }
        let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["type"], "urn:horarium:problem:too_many_connections");
    }
    // Those that ask nothing hold a place of their own for a moment, and nobody else up for longer than that.
    let silent = (0..2 * crate::api::TURNED_AWAY_AT_ONCE).map(|_| TcpStream::connect(address));
    let silent: Vec<_> = futures_util::future::join_all(silent).await;
    let (_, head) = hold(address).await.expect("answered");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    for client in silent {
        let mut answer = Vec::new();
        let _ = client.expect("connected").read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    // A place that was given back is taken again.
    drop(first);
    loop {
        let (_client, head) = hold(address).await.expect("answered");
        if head.starts_with("http/1.1 200") {
            break;
        }
    }
    shutdown.cancel();
    serving.await.expect("no panic");
}

/// A server's side of TLS with a certificate for `name` in a folder, and what a client trusts.
fn tls_for(folder: &std::path::Path, name: &str) -> (Arc<Tls>, Arc<rustls::ClientConfig>) {
    let trusted = certificate(folder, name);
    let tls = Tls::load(&folder.join("cert.pem"), &folder.join("key.pem"));
    (Arc::new(tls.expect("loads")), trusted)
}

/// A certificate for `name` in a folder, written over the one before; returns what a client trusts.
fn certificate(folder: &std::path::Path, name: &str) -> Arc<rustls::ClientConfig> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("made");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client)
}

async fn ask(
    address: SocketAddr,
    client: &Arc<rustls::ClientConfig>,
    name: &'static str,
) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
    let connector = tokio_rustls::TlsConnector::from(client.clone());
    let mut stream = connector.connect(name, stream).await?;
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn tls_is_spoken_and_follows_its_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, first) = tls_for(folder.path(), "one.example");
    let serving = start_with(Duration::from_secs(60), Some(tls.clone())).await;
    let (address, shutdown, serving) = serving;
    let answer = ask(address, &first, "one.example").await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // One that never shakes hands does not hold up the end.
    let _silent = TcpStream::connect(address).await.expect("connected");
    let second = certificate(folder.path(), "two.example");
    assert!(
        ask(address, &second, "two.example").await.is_err(),
        "not read again yet"
    );
    assert_eq!(tls.reload(), Ok(true));
    let answer = ask(address, &second, "two.example")
        .await
        .expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        ask(address, &first, "one.example").await.is_err(),
        "another certificate"
    );
    // Plain HTTP is no way in.
    let mut plain = TcpStream::connect(address).await.expect("connected");
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    shutdown.cancel();
    serving.await.expect("ends");
}
