//! The world outside: a loopback server with listings that grow, as Reddit shapes them, and a page that
//! fails twice before it works.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Posts that are there from the start, and how often another comes.
const FIRST_POSTS: u64 = 120;
const POST_EVERY: Duration = Duration::from_millis(1500);
/// How often the flaky page fails.
const FAILURES: u32 = 2;
/// Longest wait for a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running server; it ends with this process.
pub(super) struct World {
    address: SocketAddr,
}

struct Site {
    opened: Instant,
    opened_at: u64,
    failures: AtomicU32,
}

impl World {
    /// Serves on a free port.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port on 127.0.0.1 is free")?;
        let address = listener.local_addr()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let site = Arc::new(Site {
            opened: Instant::now(),
            opened_at: now.map_or(0, |now| now.as_secs()),
            failures: AtomicU32::new(0),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = site.clone();
                std::thread::spawn(move || {
                    // A client that went away is its own affair.
                    let _ = site.serve(stream);
                });
            }
        });
        Ok(Self { address })
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Site {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let target = request.split(' ').nth(1).unwrap_or("/");
        let (status, body) = self.answer(target);
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        )?;
        stream.flush()
    }

    fn answer(&self, target: &str) -> (&'static str, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/flaky" {
            return self.flaky();
        }
        let subreddit = path
            .strip_prefix("/r/")
            .and_then(|rest| rest.strip_suffix("/new.json"));
        match subreddit {
            Some(name) => {
                let grown = self.opened.elapsed().as_millis() / POST_EVERY.as_millis();
                let posts = FIRST_POSTS + u64::try_from(grown).unwrap_or(0);
                ("200 OK", listing(name, query, posts, self.opened_at))
            }
            None => ("404 Not Found", json!({"error": 404})),
        }
    }

    fn flaky(&self) -> (&'static str, Value) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        if before < FAILURES {
            let message = json!({"error": "overloaded, come back later"});
            return ("503 Service Unavailable", message);
        }
        ("200 OK", json!({"status": "fine again"}))
    }
}

/// One page, newest first; `after` names the last post of the page before.
fn listing(subreddit: &str, query: &str, posts: u64, opened_at: u64) -> Value {
    let parameter = |name: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let limit = parameter("limit").and_then(|limit| limit.parse::<u64>().ok());
    let limit = limit.unwrap_or(25).clamp(1, 100);
    let newest = parameter("after")
        .and_then(|after| after.strip_prefix("t3_p"))
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(posts, |last| last.saturating_sub(1).min(posts));
    let oldest = newest.saturating_sub(limit);
    let children: Vec<Value> = (oldest + 1..=newest)
        .rev()
        .map(|number| post(subreddit, number, opened_at))
        .collect();
    let after = (oldest > 0).then(|| format!("t3_p{}", oldest + 1));
    json!({"kind": "Listing", "data": {"after": after, "children": children}})
}

fn post(subreddit: &str, number: u64, opened_at: u64) -> Value {
    let id = format!("p{number}");
    let age = FIRST_POSTS.saturating_sub(number) * 60;
    let since = number.saturating_sub(FIRST_POSTS) * 3 / 2;
    json!({"kind": "t3", "data": {
        "name": format!("t3_{id}"),
        "id": id,
        "title": format!("Post number {number}"),
        "author": format!("user{}", number % 7),
        "score": number % 50,
        "num_comments": number % 11,
        "created_utc": (opened_at.saturating_sub(age) + since) as f64,
        "permalink": format!("/r/{subreddit}/comments/{id}/"),
        "url": format!("https://example.com/{number}"),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(page: &Value) -> Vec<&str> {
        let children = page["data"]["children"].as_array().into_iter().flatten();
        children
            .filter_map(|child| child["data"]["name"].as_str())
            .collect()
    }

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let first = listing("python", "limit=100&raw_json=1", 120, 1_000_000);
        let found = names(&first);
        assert_eq!(
            (found.len(), found[0], found[99]),
            (100, "t3_p120", "t3_p21")
        );
        assert_eq!(first["data"]["after"], "t3_p21");
        let second = listing("python", "limit=100&after=t3_p21", 125, 1_000_000);
        let found = names(&second);
        assert_eq!((found.len(), found[0], found[19]), (20, "t3_p20", "t3_p1"));
        assert_eq!(second["data"]["after"], Value::Null);
    }

    #[test]
    fn the_flaky_page_fails_twice() {
        let site = Site {
            opened: Instant::now(),
            opened_at: 0,
            failures: AtomicU32::new(0),
        };
        let statuses: Vec<&str> = (0..3).map(|_| site.answer("/flaky").0).collect();
        assert_eq!(
            statuses,
            [
                "503 Service Unavailable",
                "503 Service Unavailable",
                "200 OK"
            ]
        );
        assert_eq!(site.answer("/elsewhere").0, "404 Not Found");
    }
}
