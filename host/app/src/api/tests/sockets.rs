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
async fn a_client_that_sends_before_it_listens_still_hears_that_it_was_too_much() {
    let (address, _shutdown, _serving) = start(Duration::from_secs(60)).await;
    let mut client = TcpStream::connect(address).await.expect("connected");
    let size = 100 << 20;
    let head = format!(
        "POST /v1/task-types/x/versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Type: application/wasm\r\nContent-Length: {size}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.expect("sent");
    let piece = vec![0; 1 << 20];
    for _ in 0..100 {
        client.write_all(&piece).await.expect("taken");
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"status\":413"), "{answer}");
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
    let first = certificate(folder.path(), "one.example");
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let tls = Arc::new(Tls::load(&cert, &key).expect("loads"));
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
