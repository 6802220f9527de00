//! Guests against the network: smuggled requests, swarms, answers that never end or never come.

use crate::support::{Host, HostBuilder, text};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server that keeps every byte it gets, a list of connections.
struct Wire {
    address: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
}

impl Wire {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                // A client that goes away ends its own thread.
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { address, got }
    }

    fn host(&self) -> Host {
        let host = HostBuilder::default()
            .setting("network.allow_private", "127.0.0.0/8")
            .start();
        let grant = format!("--grant 'http * http://{} via 127.0.0.0/8'", self.address);
        host.register("hostile/smuggle", &grant);
        host.register("hostile/swarm", &grant);
        host
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().expect("kept").clone()
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    // Until the client has said all it has to say.
    while let Ok(count) = stream.read(&mut part) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..count]);
        if bytes.ends_with(b"\r\n\r\n") && bytes.starts_with(b"GET ") {
            break;
        }
    }
    let asked = String::from_utf8_lossy(&bytes).into_owned();
    let endless = asked.starts_with("GET /endless");
    let silent = asked.starts_with("GET /silent");
    kept.lock().expect("kept").push(asked);
    if silent {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        while stream.read(&mut part)? > 0 {}
        return Ok(());
    }
    if endless {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
        loop {
            stream.write_all(chunk.as_bytes())?;
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
}

#[test]
fn no_part_of_a_request_carries_a_second_one() {
    let wire = Wire::start();
    let host = wire.host();
    let ran = host.run_once(&format!(
        "--type smuggle --set authority={} --max-retries 0",
        wire.address
    ));
    assert_eq!(ran["state"], "succeeded", "{ran:#}");
    let tries = ran["result"]["tries"].as_array().expect("a list");
    assert_eq!(tries.len(), 20);
    // A connection that was given up before anything was sent carries nothing.
    for asked in wire.got().into_iter().filter(|asked| !asked.is_empty()) {
        let (head, body) = asked.split_once("\r\n\r\n").unwrap_or((&asked, ""));
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        assert_eq!(first.split(' ').count(), 3, "{asked:?}\n{tries:#?}");
        assert!(
            !first.contains("smuggled") || !first.contains("GET"),
            "{asked:?}"
        );
        let headers: Vec<&str> = lines.collect();
        let named = |name: &str| {
            headers
                .iter()
                .filter(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))
                .count()
        };
        // One host, ours; one way to tell where the body ends, and it ends there.
        assert_eq!(named("host"), 1, "{asked:?}");
        assert!(
            headers.contains(&&*format!("host: {}", wire.address)),
            "{asked:?}"
        );
        assert!(
            named("content-length") + named("transfer-encoding") <= 1,
            "{asked:?}"
        );
        let length = headers
            .iter()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if let Some(length) = length {
            assert!(body.len() <= length, "{asked:?}");
        }
        if named("content-length") + named("transfer-encoding") == 0 {
            assert_eq!(body, "", "{asked:?}");
        }
        assert_eq!(named("connection") + named("upgrade"), 0, "{asked:?}");
    }
}

#[test]
fn hundreds_of_parallel_calls_are_held_to_the_limits() {
    let wire = Wire::start();
    let host = wire.host();
    let swarm = |flags: &str| {
        let ran = host.run_once(&format!(
            "--type swarm --set authority={} --set path=/x --max-retries 0 {flags}",
            wire.address
        ));
        assert_eq!(ran["state"], "succeeded", "{ran:#}");
        ran
    };
    let ran = swarm("--set count=500");
    let answers = ran["result"]["answers"].as_object().expect("counted");
    let count = |word: &str| -> u64 {
        answers
            .iter()
            .filter(|(answer, _)| answer.contains(word))
            .filter_map(|(_, n)| n.as_u64())
            .sum()
    };
    assert!((1..=8).contains(&count("200")), "eight at once: {ran:#}");
    assert!(count("http_calls") >= 400, "a hundred in all: {ran:#}");
    assert!(ran["usage"]["http_calls"].as_u64() <= Some(8), "{ran:#}");
    assert_eq!(ran["limits"]["http_concurrent"], 8, "{ran:#}");
}

#[test]
fn an_endless_body_and_an_answer_that_never_comes_end_at_the_limits() {
    let wire = Wire::start();
    let host = wire.host();
    let ask = |path: &str, flags: &str| -> Value {
        host.run_once(&format!(
            "--type swarm --set authority={} --set path={path} --max-retries 0 {flags}",
            wire.address
        ))
    };
    let endless = ask("/endless", "--limit http_response_bytes=1MiB");
    assert_eq!(endless["state"], "succeeded", "{endless:#}");
    let read = endless["result"]["bytes"].as_u64().expect("counted");
    assert!(read <= 1 << 20, "{endless:#}");
    assert!(endless["result"]["answers"]["cut off"] == 1, "{endless:#}");
    let silent = ask("/silent", "--timeout 1");
    assert_eq!(
        (text(&silent, "state"), text(&silent, "error_kind")),
        ("failed", "timeout"),
        "{silent:#}"
    );
    assert!(
        silent["usage"]["cpu_seconds"].as_f64() < Some(0.9),
        "waiting is no work: {silent:#}"
    );
}
