//! The accept loop over real loopback sockets.

use super::harness::TOKEN;
use super::*;
use crate::api::{ServerSettings, serve};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

async fn start(header_timeout: Duration) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = ServerSettings {
        max_connections: 2,
        header_timeout,
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
