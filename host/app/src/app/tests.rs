use super::*;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

fn settings(data_dir: &Path) -> Settings {
    let flags = [
        ("listen", "127.0.0.1:0".to_owned()),
        ("data_dir", data_dir.display().to_string()),
        ("executor.slots", "4".to_owned()),
        ("executor.grace_seconds", "0".to_owned()),
        ("engine.memory", "64 MiB".to_owned()),
        ("engine.pooling", "off".to_owned()),
    ];
    Settings::load(None, [], &flags).expect("accepted")
}

fn get(url: &str, path: &str, token: &str) -> String {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("connected");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn a_server_starts_serves_and_stops() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let running = App::build(settings(dir.path())).expect("started");
    let file = dir.path().join("server.json");
    let text = std::fs::read_to_string(&file).expect("written");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["url"], running.url());
    assert_eq!(told["pid"], std::process::id());
    assert!(get(&running.url(), "/readyz", "").starts_with("HTTP/1.1 200"));
    assert!(get(&running.url(), "/v1/tasks", "x").starts_with("HTTP/1.1 401"));
    let hosts = get(&running.url(), "/v1/hosts", running.token());
    assert!(hosts.contains("\"slots\":4"), "{hosts}");
    running.stop().expect("stopped");
    assert!(!file.exists());
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_opened() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = settings(dir.path());
    settings.listen = other.local_addr().expect("an address");
    let Err(error) = App::build(settings) else {
        panic!("two servers on one port");
    };
    assert!(error.to_string().contains("cannot listen on"), "{error}");
    assert!(!dir.path().join("horarium.db").exists());
}
