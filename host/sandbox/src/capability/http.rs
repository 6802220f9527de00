//! `wasi:http`: every request goes through grants, budgets and the host's own connector. Linked for
//! all, because JavaScript components always import it: importing is not asking.

use super::denial::Denials;
use super::http_body::{CountedRequest, CountedResponse, Limit};
use super::http_secrets::fill_body;
use super::secrets::Placeholders;
use crate::connector::{ConnectError, Connector, Permission, Target};
use crate::data::RunData;
use horarium_core::clock::Clock;
use horarium_core::control::RunControl;
use horarium_core::runner::Attempt;
use horarium_core::trace::RunTrace;
use horarium_model::execution::HttpCall;
use horarium_model::grant::{Grant, origin};
use horarium_model::{Limits, Usage, text};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Bytes of all headers of one message, counted as they lie in memory.
pub(crate) const FIELD_BYTES: usize = 64 << 10;
/// Requests kept with the attempt that were denied before anything was sent.
const DENIALS_KEPT: u64 = 200;
/// Bytes a request's body may have waiting in the host.
pub(super) const BODY_CHUNK_BYTES: usize = 64 << 10;
/// Most of a response's head that is read.
const RESPONSE_HEAD_BYTES: usize = 128 << 10;

/// The headers of W3C trace context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

type SendResult = Result<
    (
        Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

impl WasiHttpView for RunData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let make = || {
            HttpSession::new(
                Parts {
                    connector: self.connector.clone(),
                    control: self.control.clone(),
                    clock: self.clock.clone(),
                    denials: self.denials.clone(),
                    placeholders: self.placeholders.clone(),
                },
                &self.attempt,
                self.deadline,
            )
        };
        let session = self.http.get_or_insert_with(make);
        WasiHttpCtxView {
            ctx: &mut session.ctx,
            table: &mut self.table,
            hooks: &mut session.hooks,
        }
    }
}

/// HTTP of one run; made when the guest first touches `wasi:http`.
pub(crate) struct HttpSession {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

/// What requests of a run share with the rest of it.
struct Parts {
    connector: Arc<Connector>,
    control: Arc<RunControl>,
    clock: Arc<dyn Clock>,
    denials: Arc<Denials>,
    placeholders: Arc<Placeholders>,
}

impl HttpSession {
    fn new(parts: Parts, attempt: &Attempt, deadline: Duration) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELD_BYTES);
        let concurrent = usize::try_from(attempt.limits.http_concurrent).unwrap_or(usize::MAX >> 4);
        let hooks = Hooks(Arc::new(Shared {
            parts,
            grants: attempt.grants.clone(),
            trace: attempt.trace.clone(),
            limits: attempt.limits,
            deadline,
            concurrent: Arc::new(Semaphore::new(concurrent)),
            asked: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            request_bytes: Arc::new(AtomicU64::new(0)),
            response_bytes: Arc::new(AtomicU64::new(0)),
        }));
        Self { ctx, hooks }
    }

    fn report(&self, usage: &mut Usage) {
        let shared = &self.hooks.0;
        usage.http_calls = shared.sent.load(Ordering::Relaxed);
        usage.http_request_bytes = shared.request_bytes.load(Ordering::Relaxed);
        usage.http_response_bytes = shared.response_bytes.load(Ordering::Relaxed);
    }
}

/// Reports: the run's figures. Each request is kept by the run's control as it goes on.
pub(crate) fn report(data: &RunData, usage: &mut Usage) {
    if let Some(session) = &data.http {
        session.report(usage);
    }
}

struct Hooks(Arc<Shared>);

struct Shared {
    parts: Parts,
    grants: Arc<[Grant]>,
    trace: Option<RunTrace>,
    limits: Limits,
    deadline: Duration,
    concurrent: Arc<Semaphore>,
    asked: AtomicU64,
    denied: AtomicU64,
    sent: AtomicU64,
    request_bytes: Arc<AtomicU64>,
    response_bytes: Arc<AtomicU64>,
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _finished: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let shared = self.0.clone();
        let (head, body) = request.into_parts();
        match shared.admit(&head) {
            Ok(admitted) => {
                let call = Call::begin(&shared, &head);
                let options = options.unwrap_or_default();
                let request = Request::from_parts(head, body);
                Box::new(shared.call(request, admitted, options, call))
            }
            Err((error, sentence)) => {
                // A guest that asks in vain over and over shall not fill the list.
                if shared.denied.fetch_add(1, Ordering::Relaxed) < DENIALS_KEPT {
                    Call::begin(&shared, &head).fail(&sentence);
                }
                Box::new(std::future::ready(Err(error)))
            }
        }
    }

    /// A body is sent as it is written; more than this need not wait in the host.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_timeout() {
            ErrorCode::HttpResponseTimeout
        } else if error.is_parse_too_large() {
            ErrorCode::HttpResponseHeaderSectionSize(None)
        } else if error.is_incomplete_message() {
            ErrorCode::HttpResponseIncomplete
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    fn p2_error_from_connect(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

/// A request that may be made.
struct Admitted {
    target: Target,
    permission: Permission,
    /// `scheme://host[:port]`, as grants of secrets write it.
    origin: String,
}

impl Shared {
    /// Everything that is known before a name is resolved; else what the guest is told, and a sentence.
    fn admit(&self, head: &http::request::Parts) -> Result<Admitted, (Error, String)> {
        let method = head.method.as_str();
        if head.method == http::Method::CONNECT || method.len() > 32 {
            let sentence = "denied: the method is CONNECT, or too long".to_owned();
            return Err((Error::HttpRequestMethodInvalid, sentence));
        }
        let denied = |error: Error, sentence: String| {
            self.parts.denials.note(&sentence);
            (error, sentence)
        };
        let target = Target::from_uri(&head.uri).map_err(|error| {
            let sentence = format!("denied: a request whose URI is refused: {error}");
            denied(Error::HttpRequestUriInvalid, sentence)
        })?;
        let permission = self
            .parts
            .connector
            .authorise(&self.grants, method, &target)
            .map_err(|error| denied(Error::HttpRequestDenied, error.to_string()))?;
        let origin = origin(target.scheme(), target.host(), target.port());
        self.parts
            .placeholders
            .head(head, &origin)
            .map_err(|sentence| denied(Error::HttpRequestDenied, sentence))?;
        let allowed = self.limits.http_calls;
        if self.asked.fetch_add(1, Ordering::Relaxed) >= allowed {
            let sentence = format!("http_calls: this run already made its {allowed} requests");
            return Err(denied(
                Error::InternalError(Some(sentence.clone())),
                sentence,
            ));
        }
        Ok(Admitted {
            target,
            permission,
            origin,
        })
    }

    /// Makes a request and keeps how it went.
    async fn call(
        self: Arc<Self>,
        request: Request<WasiBody>,
        admitted: Admitted,
        options: RequestOptions,
        call: Call,
    ) -> SendResult {
        match self.send(request, &admitted, &options, &call).await {
            Ok((response, keep)) => {
                let response = self.incoming(response, options, keep, call);
                Ok((response, Box::new(std::future::ready(Ok(())))))
            }
            Err((error, sentence)) => {
                call.fail(&sentence);
                Err(error)
            }
        }
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        admitted: &Admitted,
        options: &RequestOptions,
        call: &Call,
    ) -> Result<(Response<hyper::body::Incoming>, Keep), (Error, String)> {
        let permit = self.concurrent.clone().try_acquire_owned().map_err(|_| {
            let most = self.limits.http_concurrent;
            let sentence = format!("http_concurrent: {most} requests are under way already");
            (Error::ConnectionLimitReached, sentence)
        })?;
        let left = self.deadline.saturating_sub(self.parts.clock.monotonic());
        let limit = options.connect_timeout.map_or(left, |own| own.min(left));
        let connector = &self.parts.connector;
        let (target, permission) = (&admitted.target, &admitted.permission);
        let stream = connector
            .connect(request.method().as_str(), target, permission, limit)
            .await
            .map_err(|error| self.refused(error))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(from_hyper)?;
        // Ends when the response's body is dropped, at the latest with the run.
        let connection = wasmtime_wasi::runtime::spawn(async move {
            let _ = connection.await;
        });
        let request = self
            .outgoing(request, admitted, call)
            .await
            .map_err(|error| {
                let sentence = self.parts.denials.last().unwrap_or_default();
                (error, sentence)
            })?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let first_byte = options.first_byte_timeout.unwrap_or(left).min(left);
        let response = tokio::time::timeout(first_byte, sender.send_request(request))
            .await
            .map_err(|_| {
                let sentence = "no answer came in time".to_owned();
                (Error::ConnectionReadTimeout, sentence)
            })?
            .map_err(from_hyper)?;
        call.answered(response.status().as_u16());
        Ok((response, (permit, connection)))
    }

    /// The request as it goes on the wire: origin form, our Host, no hop-by-hop headers, secrets in their
    /// places, body counted.
    async fn outgoing(
        &self,
        request: Request<WasiBody>,
        admitted: &Admitted,
        call: &Call,
    ) -> Result<Request<CountedRequest>, Error> {
        let (mut head, body) = request.into_parts();
        let Parts {
            placeholders,
            denials,
            ..
        } = &self.parts;
        let filled = placeholders.head(&head, &admitted.origin);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = Uri::try_from(path).map_err(|_| Error::HttpRequestUriInvalid)?;
        strip_hop_by_hop(&mut head.headers);
        let host = HeaderValue::from_str(&admitted.target.authority())
            .map_err(|_| Error::HttpRequestUriInvalid)?;
        head.headers.insert(header::HOST, host);
        self.set_trace(&mut head.headers, call);
        let origin = admitted.origin.as_str();
        let body = fill_body(placeholders, denials, origin, &mut head.headers, body).await?;
        filled
            .map_err(|_| Error::HttpRequestDenied)?
            .apply(&mut head)?;
        let limit = Limit {
            counter: self.request_bytes.clone(),
            own: call.sent.clone(),
            most: self.limits.http_request_bytes,
        };
        Ok(Request::from_parts(head, CountedRequest::new(body, limit)))
    }

    /// The trace goes on with the request. A guest has no say in it: what it wrote there itself is taken out.
    fn set_trace(&self, headers: &mut HeaderMap, call: &Call) {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
        let Some(trace) = &self.trace else { return };
        // One that is not kept has no span; its place is behind all others.
        let place = call.place.map_or(u64::MAX - 1, |place| place as u64);
        let context = trace.outgoing(place);
        if let Ok(value) = HeaderValue::from_str(&context.traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
        let state = context
            .state
            .and_then(|state| HeaderValue::from_str(&state).ok());
        if let Some(value) = state {
            headers.insert(TRACESTATE, value);
        }
    }

    fn incoming(
        &self,
        response: Response<hyper::body::Incoming>,
        options: RequestOptions,
        keep: Keep,
        call: Call,
    ) -> Response<WasiBody> {
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let limit = Limit {
            counter: self.response_bytes.clone(),
            own: call.received.clone(),
            most: self.limits.http_response_bytes,
        };
        let between = options.between_bytes_timeout;
        let body = CountedResponse::new(body, limit, between, (keep, call));
        Response::from_parts(parts, body.boxed_unsync())
    }

    /// What the guest is told of a connection that was not made, and a sentence.
    fn refused(&self, error: ConnectError) -> (Error, String) {
        let sentence = error.to_string();
        let told = match error {
            ConnectError::Denied(_) => {
                self.parts.denials.note(&sentence);
                Error::HttpRequestDenied
            }
            ConnectError::Resolve(..) => Error::DnsError {
                rcode: Some("name not resolved".to_owned()),
                info_code: None,
            },
            ConnectError::ResolveTimeout(..) => Error::DnsTimeout,
            ConnectError::Connect(..) => Error::ConnectionRefused,
            ConnectError::ConnectTimeout(..) => Error::ConnectionTimeout,
            ConnectError::Tls(_, error) => match error.get_ref() {
                Some(inner) if inner.to_string().contains("certificate") => {
                    Error::TlsCertificateError
                }
                _ => Error::TlsProtocolError,
            },
        };
        (told, sentence)
    }
}

fn from_hyper(error: hyper::Error) -> (Error, String) {
    let cause = std::error::Error::source(&error);
    let sentence = match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    (Error::from(error), sentence)
}

/// What lives as long as an answer: its place among the concurrent requests, and its connection.
type Keep = (OwnedSemaphorePermit, AbortOnDropJoinHandle<()>);

/// One request as it is kept with the attempt; dropped when it is over.
pub(super) struct Call {
    shared: Arc<Shared>,
    /// None when no more are kept.
    place: Option<usize>,
    begun: Duration,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Call {
    fn begin(shared: &Arc<Shared>, head: &http::request::Parts) -> Self {
        let parts = &shared.parts;
        let call = HttpCall {
            call: 0,
            attempt: 0,
            at: parts.clock.now(),
            method: text::one_line(head.method.as_str(), 32),
            url: parts.placeholders.masked(&head.uri.to_string()),
            status: None,
            request_bytes: 0,
            response_bytes: 0,
            duration_seconds: None,
            error: None,
        };
        Self {
            place: parts.control.call_begun(call),
            begun: parts.clock.monotonic(),
            shared: shared.clone(),
            sent: Arc::default(),
            received: Arc::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut HttpCall)) {
        if let Some(place) = self.place {
            self.shared.parts.control.call_changed(place, change);
        }
    }

    fn answered(&self, status: u16) {
        self.change(|call| call.status = Some(status));
    }

    /// Keeps why it failed.
    fn fail(&self, sentence: &str) {
        let control = &self.shared.parts.control;
        let sentence = text::one_line(&control.log.redacted(sentence), 800);
        self.change(|call| call.error = Some(sentence));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let lasted = self
            .shared
            .parts
            .clock
            .monotonic()
            .saturating_sub(self.begun);
        self.change(|call| {
            call.request_bytes = self.sent.load(Ordering::Relaxed);
            call.response_bytes = self.received.load(Ordering::Relaxed);
            call.duration_seconds = Some(lasted.as_secs_f64());
        });
    }
}

/// Headers that concern one connection only, and those that the Connection header names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    const NAMES: [HeaderName; 8] = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NAMES.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("proxy-connection");
}

#[cfg(test)]
#[path = "http_tests.rs"]
pub(crate) mod tests;
