//! Tries to put a second request into the first, through every part of it.
use horarium_task::prelude::*;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme};

/// Where to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// `host:port` of a plain HTTP server that is granted.
    authority: String,
}

/// What each try came to.
#[derive(Serialize, JsonSchema)]
struct Done {
    tries: Vec<String>,
}

const INNER: &str = " HTTP/1.1\r\nhost: evil.example\r\n\r\nGET /smuggled HTTP/1.1\r\nx: ";

/// One request with something evil in one place.
#[derive(Default)]
struct Try {
    header: Option<(&'static str, &'static str)>,
    more: Option<(&'static str, &'static str)>,
    method: Option<&'static str>,
    path: Option<String>,
    authority: Option<String>,
    body: &'static str,
}

struct Smuggle;

impl Task for Smuggle {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Smuggles requests";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let header = |name, value| Try {
            header: Some((name, value)),
            body: "GET /smuggled HTTP/1.1\r\n\r\n",
            ..Try::default()
        };
        let tries = [
            header("x", "1\r\n\r\nGET /smuggled HTTP/1.1"),
            header("x\r\ny", "1"),
            header("x: y", "1"),
            header("", "1"),
            header("host", "evil.example"),
            header("transfer-encoding", "chunked"),
            header("Transfer-Encoding", "chunked, identity"),
            header("connection", "upgrade"),
            header("content-length", "0"),
            header("content-length", "5"),
            header("content-length", "-1"),
            header("content-length", "0, 26"),
            Try {
                header: Some(("content-length", "0")),
                more: Some(("content-length", "26")),
                body: "GET /smuggled HTTP/1.1\r\n\r\n",
                ..Try::default()
            },
            Try {
                method: Some("GET /smuggled HTTP/1.1\r\nx:"),
                ..Try::default()
            },
            Try {
                method: Some("CONNECT"),
                ..Try::default()
            },
            Try {
                path: Some(format!("/{INNER}")),
                ..Try::default()
            },
            Try {
                path: Some("http://evil.example/smuggled".to_owned()),
                ..Try::default()
            },
            Try {
                path: Some("/a b".to_owned()),
                ..Try::default()
            },
            Try {
                authority: Some(format!("{}\r\nx: y", parameters.authority)),
                ..Try::default()
            },
            Try {
                authority: Some(format!("user:pass@{}", parameters.authority)),
                ..Try::default()
            },
        ];
        let send = |it: &Try| match request(it, &parameters.authority) {
            Ok(status) => format!("sent: {status}"),
            Err(refusal) => format!("refused: {refusal}"),
        };
        Ok(Done {
            tries: tries.iter().map(send).collect(),
        })
    }
}

horarium_task::export!(Smuggle);

fn request(it: &Try, authority: &str) -> Result<u16, String> {
    let list: Vec<(String, Vec<u8>)> = [it.header, it.more]
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .collect();
    let fields = Fields::from_list(&list).map_err(|error| error.to_string())?;
    let request = OutgoingRequest::new(fields);
    let method = match it.method {
        Some("CONNECT") => Method::Connect,
        Some(other) => Method::Other(other.to_owned()),
        None => Method::Post,
    };
    let part = |name: &'static str| move |()| format!("{name} not accepted");
    request.set_method(&method).map_err(part("method"))?;
    request
        .set_scheme(Some(&Scheme::Http))
        .map_err(part("scheme"))?;
    request
        .set_authority(Some(it.authority.as_deref().unwrap_or(authority)))
        .map_err(part("authority"))?;
    request
        .set_path_with_query(Some(it.path.as_deref().unwrap_or("/front")))
        .map_err(part("path"))?;
    let body = request.body().map_err(part("body"))?;
    let future = handle(request, None).map_err(|error| error.to_string())?;
    if !it.body.is_empty() {
        let stream = body.write().map_err(part("stream"))?;
        stream
            .blocking_write_and_flush(it.body.as_bytes())
            .map_err(|error| error.to_string())?;
        drop(stream);
    }
    OutgoingBody::finish(body, None).map_err(|error| error.to_string())?;
    loop {
        match future.get() {
            Some(Ok(Ok(response))) => return Ok(response.status()),
            Some(Ok(Err(error))) => return Err(error.to_string()),
            Some(Err(())) => return Err("taken".to_owned()),
            None => future.subscribe().block(),
        }
    }
}
