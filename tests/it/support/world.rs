//! The world outside, on loopback: listings as Reddit shapes them, a page that fails twice, a redirect, an
//! echo, and a count of who came.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Posts of every subreddit.
pub(crate) const POSTS: u64 = 130;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The header lines.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The value of a header that is there once.
    pub(crate) fn header(&self, wanted: &str) -> Option<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let value = found.next()?.1.trim().to_owned();
        assert!(
            found.next().is_none(),
            "{wanted} comes twice: {}",
            self.head
        );
        Some(value)
    }
}

/// By path.
type Visits = Mutex<HashMap<String, Vec<Received>>>;

/// A server of ours; it ends with the test's process.
pub(crate) struct World {
    address: SocketAddr,
    visits: Arc<Visits>,
}

impl World {
    /// Serves on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let visits = Arc::new(Mutex::new(HashMap::new()));
        let counted = visits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                // A client that went away is its own affair.
                std::thread::spawn(move || serve(stream, &counted));
            }
        });
        Self { address, visits }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often a path was asked for.
    pub(crate) fn visits(&self, path: &str) -> u32 {
        u32::try_from(self.received(path).len()).expect("few")
    }

    /// What came to a path, in order.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        let visits = self.visits.lock().expect("counted");
        visits.get(path).cloned().unwrap_or_default()
    }
}

fn serve(mut stream: TcpStream, visits: &Visits) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let sent = body(&mut reader, &head)?;
    let target = request.split(' ').nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let visit = {
        let mut visits = visits.lock().expect("counted");
        let of_path = visits.entry(path.to_owned()).or_default();
        of_path.push(Received {
            head: head.clone(),
            body: sent.clone(),
        });
        u32::try_from(of_path.len()).expect("few")
    };
    let (status, more, body) = match path {
        // What it was sent, as it came.
        "/echo" => {
            let sent = String::from_utf8_lossy(&sent);
            let whole = json!({"request": request.trim(), "head": head, "body": sent});
            ("200 OK", String::new(), whole)
        }
        _ => answer(path, query, visit),
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{more}\
         connection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

/// The body of a request, by its length or in chunks.
fn body(reader: &mut impl BufRead, head: &str) -> std::io::Result<Vec<u8>> {
    let header = |wanted: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let mut sent = Vec::new();
    let Some(length) = header("content-length") else {
        let mut line = String::new();
        while header("transfer-encoding").is_some() && reader.read_line(&mut line)? > 0 {
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let start = sent.len();
            sent.resize(start + size + 2, 0);
            reader.read_exact(&mut sent[start..])?;
            sent.truncate(start + size);
            if size == 0 {
                break;
            }
            line.clear();
        }
        return Ok(sent);
    };
    sent.resize(length.parse().unwrap_or(0), 0);
    reader.read_exact(&mut sent)?;
    Ok(sent)
}

fn answer(path: &str, query: &str, visit: u32) -> (&'static str, String, Value) {
    let subreddit = path
        .strip_prefix("/r/")
        .and_then(|rest| rest.strip_suffix("/new.json"));
    match (path, subreddit) {
        (_, Some(name)) => ("200 OK", String::new(), listing(name, query)),
        ("/broken_once", _) if visit == 1 => (
            "500 Internal Server Error",
            String::new(),
            json!({"visit": visit}),
        ),
        ("/flaky", _) if visit <= 2 => (
            "503 Service Unavailable",
            String::new(),
            json!({"visit": visit}),
        ),
        ("/redirect", _) => {
            // Where to is the query: hosts, schemes, anything.
            (
                "302 Found",
                format!("location: {query}\r\n"),
                json!({"visit": visit}),
            )
        }
        _ => (
            "200 OK",
            String::new(),
            json!({"path": path, "visit": visit}),
        ),
    }
}

/// One page, newest first; `after` names the last post of the page before.
fn listing(subreddit: &str, query: &str) -> Value {
    let number = |name: &str, prefix: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        value.strip_prefix(prefix)?.parse::<u64>().ok()
    };
    let limit = number("limit", "").unwrap_or(25).clamp(1, 100);
    let newest = number("after", "t3_p").map_or(POSTS, |last| last - 1);
    let oldest = newest.saturating_sub(limit);
    let children: Vec<Value> = (oldest + 1..=newest)
        .rev()
        .map(|n| {
            json!({"kind": "t3", "data": {
                "name": format!("t3_p{n}"), "id": format!("p{n}"), "title": format!("Post {n}"),
                "author": "somebody", "score": n, "num_comments": 1, "created_utc": n as f64,
                "permalink": format!("/r/{subreddit}/comments/p{n}/"), "url": "https://example.com/",
            }})
        })
        .collect();
    let after = (oldest > 0).then(|| format!("t3_p{}", oldest + 1));
    json!({"kind": "Listing", "data": {"after": after, "children": children}})
}
