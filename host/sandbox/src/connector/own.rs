//! Requests of the host itself, to where an operator sent it.

use super::{ConnectError, Connector, Permission, Target};
use crate::settings::SandboxError;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use std::time::Duration;

/// Most of an answer's head that is read.
const HEAD_BYTES: usize = 64 << 10;

/// A request of the host.
#[derive(Debug, Clone)]
pub struct OwnRequest {
    /// GET, POST, …
    pub method: Method,
    /// Where to.
    pub url: Uri,
    /// Beside Host and Content-Length.
    pub headers: Vec<(String, String)>,
    /// Its body, which may be empty.
    pub body: Bytes,
}

impl Connector {
    /// A connector for addresses that an operator writes into the settings: public ones, and of private ones those
    /// in `networks`.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn for_operator(networks: Vec<IpNet>) -> Result<Self, SandboxError> {
        Self::new(None, networks, &[])
    }

    /// Makes a request within `limit` and answers its status. Redirects are not followed, the body of the answer
    /// is not read.
    ///
    /// # Errors
    /// A sentence on why there was no answer.
    pub async fn send(&self, request: OwnRequest, limit: Duration) -> Result<u16, String> {
        match tokio::time::timeout(limit, self.sent(request, limit)).await {
            Ok(done) => done,
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f32())),
        }
    }

    async fn sent(&self, request: OwnRequest, limit: Duration) -> Result<u16, String> {
        let target = Target::from_uri(&request.url).map_err(|error| error.to_string())?;
        let permission = Permission {
            via: self.allow_private.clone(),
        };
        let method = request.method.as_str();
        let stream = self.connect(method, &target, &permission, limit).await;
        let stream = stream.map_err(|error| match error {
            ConnectError::Denied(_) => format!(
                "{} has a private address that is not among those allowed",
                target.authority()
            ),
            other => other.to_string(),
        })?;
        let broken = |error: hyper::Error| format!("{}: {error}", target.authority());
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let request = written(request, &target)?;
            let response = sender.send_request(request).await.map_err(broken)?;
            Ok(response.status().as_u16())
        };
        let answer = answer.await;
        connection.abort();
        answer
    }
}

/// The request as it goes on the wire.
fn written(request: OwnRequest, target: &Target) -> Result<Request<Full<Bytes>>, String> {
    let path = request
        .url
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut written = Request::builder()
        .method(request.method)
        .uri(path)
        .header(header::HOST, target.authority());
    for (name, value) in request.headers {
        let value = HeaderValue::from_str(&value).map_err(|_| format!("a bad {name} header"))?;
        written = written.header(name, value);
    }
    written
        .body(Full::new(request.body))
        .map_err(|error| error.to_string())
}
