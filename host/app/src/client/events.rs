//! `GET /v1/events`, followed for longer than a connection lasts.

use super::{Client, Query};
use crate::cli::failure::{Exit, Failure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::time::Duration;
use ureq::http::Method;

/// A connection on which nothing came for so long is lost: a server says every 15 seconds that it lives.
const SILENCE: Duration = Duration::from_secs(45);
/// Before the first attempt to come back, and at most before any other.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Who follows.
pub(crate) trait Listener {
    /// Takes an event's kind and data; breaks to hear no more.
    fn hear(&mut self, kind: &str, data: Value) -> Result<ControlFlow<()>, Failure>;

    /// The server listens to us.
    fn connected(&mut self);

    /// The server was lost; it is asked again when this returns, best after this pause.
    fn lost(&mut self, why: &Failure, pause: Duration);
}

impl Client {
    /// Follows what happens from now on, over connections that are lost, until the listener breaks or the server does not
    /// let us any more. What happens meanwhile is heard afterwards; some of it may be heard twice.
    pub(crate) fn follow(
        &self,
        query: &Query<'_>,
        listener: &mut dyn Listener,
    ) -> Result<(), Failure> {
        let mut stream = Stream::default();
        let mut pause = PAUSES.0;
        loop {
            let last = stream.last.clone();
            let lost = match self.stream(query, &mut stream, listener) {
                Ok(()) => return Ok(()),
                // The first time it is not that something was lost.
                Err(failure) if stream.last.is_none() || !will_pass(&failure) => {
                    return Err(failure);
                }
                Err(failure) => failure,
            };
            if stream.last != last {
                pause = PAUSES.0;
            }
            listener.lost(&lost, pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// One connection, from the last event heard on. Ends well only because the listener wants it.
    fn stream(
        &self,
        query: &Query<'_>,
        stream: &mut Stream,
        listener: &mut dyn Listener,
    ) -> Result<(), Failure> {
        const PATH: &str = "/v1/events";
        let last = stream.last.clone();
        let last = last.as_deref().map(|id| ("last-event-id", id));
        let head = self.head(Method::GET, PATH, query, last.as_slice())?;
        let request = head
            .body(())
            .map_err(|error| Failure::refused(format!("{PATH}: {error}")))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(None)
            .timeout_per_read(Some(SILENCE))
            .build();
        let answer = self.agent.run(request);
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return self.read(answer, PATH).map(|_| ());
        }
        listener.connected();
        stream.begin();
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        for line in lines {
            let line = line.map_err(|error| self.unreachable(&error.into()))?;
            let Some((kind, data)) = stream.take(&line) else {
                continue;
            };
            if kind == "end" {
                return Err(ended(&data));
            }
            if listener.hear(&kind, data)?.is_break() {
                return Ok(());
            }
        }
        Err(Failure::unreachable("the server closed the stream"))
    }
}

/// Why a server ends a stream.
fn ended(data: &Value) -> Failure {
    match data["reason"].as_str() {
        Some("token") => Failure::from_answer(
            401,
            r#"{"title": "Unauthorized", "status": 401, "detail": "the token is not good any more"}"#,
        ),
        reason => {
            let reason = reason.unwrap_or("no reason told");
            Failure::unreachable(format!("the server ended the stream ({reason})"))
        }
    }
}

/// Whether it is worth asking again.
fn will_pass(failure: &Failure) -> bool {
    match failure.status() {
        None => failure.exit == Exit::Unreachable,
        Some(status) => status == 429 || status >= 500,
    }
}

/// What was read of a stream of server-sent events.
#[derive(Debug, Default)]
struct Stream {
    /// The id of the newest that is whole.
    last: Option<String>,
    id: Option<String>,
    kind: String,
    data: String,
}

impl Stream {
    /// A new connection: what came of an event on the one before comes again.
    fn begin(&mut self) {
        let last = self.last.take();
        *self = Self {
            last,
            ..Self::default()
        };
    }

    /// Takes a line; an event is whole with the empty line at its end.
    fn take(&mut self, line: &str) -> Option<(String, Value)> {
        if line.is_empty() {
            self.last = self.id.take().or(self.last.take());
            let (kind, data) = (
                std::mem::take(&mut self.kind),
                std::mem::take(&mut self.data),
            );
            return Some((kind, serde_json::from_str(&data).ok()?));
        }
        let (field, value) = line.split_once(':')?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data.push_str(value),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::client;
    use super::*;
    use serde_json::json;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[derive(Default)]
    struct Heard(Vec<(String, Value)>, usize);

    impl Listener for Heard {
        fn hear(&mut self, kind: &str, data: Value) -> Result<ControlFlow<()>, Failure> {
            self.0.push((kind.to_owned(), data));
            Ok(match kind {
                "last" => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        }

        fn connected(&mut self) {}

        fn lost(&mut self, _why: &Failure, _pause: Duration) {
            self.1 += 1;
        }
    }

    /// A server that gives these answers, a connection each; returns its address and what it was asked.
    fn answers(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            let asked = answers.iter().map(|answer| {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("readable");
                    asked.extend(byte);
                }
                stream.write_all(answer.as_bytes()).expect("writable");
                String::from_utf8_lossy(&asked).to_lowercase()
            });
            asked.collect()
        });
        (url, thread)
    }

    #[test]
    fn a_stream_goes_on_where_the_connection_was_lost() {
        let (url, server) = answers(&[
            "HTTP/1.1 200 OK\r\n\r\nretry: 1000\nid: 1-a\n\n: still here\nid: 2-b\n\nid: 3-c\nevent: first\ndata: {\"n\": 1}\n\nid: 4-d\nevent: lost\nda",
            // Else the client may keep the connection, and lose it once more when it asks again.
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nid: 5-e\nevent: last\ndata: {\"n\": 2}\n\n",
        ]);
        let mut heard = Heard::default();
        let done = client(&url).follow(&vec![("kind", "first".to_owned())], &mut heard);
        done.expect("as the listener wants it");
        let told = [("first", json!({"n": 1})), ("last", json!({"n": 2}))];
        assert_eq!(heard.0, told.map(|(kind, data)| (kind.to_owned(), data)));
        assert_eq!(heard.1, 2);
        let asked = server.join().expect("served");
        assert!(
            asked[0].starts_with("get /v1/events?kind=first "),
            "{asked:?}"
        );
        assert!(!asked[0].contains("last-event-id"), "{asked:?}");
        // What was not whole does not count.
        for again in &asked[1..] {
            assert!(again.contains("last-event-id: 3-c\r\n"), "{asked:?}");
        }
    }

    #[test]
    fn what_will_not_pass_ends_it() {
        const STOPS: &str =
            "HTTP/1.1 200 OK\r\n\r\nid: 1-a\n\nevent: end\ndata: {\"reason\": \"token\"}\n\n";
        let (url, server) = answers(&[STOPS]);
        let failure = client(&url).follow(&Vec::new(), &mut Heard::default());
        assert_eq!(failure.expect_err("over").exit, Exit::Unreachable);
        server.join().expect("served");
        let (url, server) = answers(&["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]);
        let failure = client(&url).follow(&Vec::new(), &mut Heard::default());
        assert_eq!(failure.expect_err("refused").exit, Exit::Refused);
        server.join().expect("served");
    }
}
