//! `wasi:http`: every request goes through grants, budgets and the host's own connector. Linked for
//! all, because JavaScript components always import it: importing is not asking.

use super::http_body::{CountedRequest, CountedResponse, Limit};
use crate::connector::{ConnectError, Connector, Permission, Target};
use crate::data::RunData;
use horarium_core::clock::Clock;
use horarium_core::control::RunControl;
use horarium_core::runner::Attempt;
use horarium_model::execution::{LogLevel, LogSource};
use horarium_model::grant::Grant;
use horarium_model::{Limits, Usage, text};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Method, Scheme};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{
    Error, FieldMap, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

/// Bytes of all headers of one message, counted as they lie in memory.
pub(crate) const FIELD_BYTES: usize = 64 << 10;
/// What a header costs beside its text.
const HEADER_COST: usize = 64;
/// Bytes a request's body may have waiting in the host.
const BODY_CHUNK_BYTES: usize = 64 << 10;
/// Most of a response's head that is read.
const RESPONSE_HEAD_BYTES: usize = 128 << 10;

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
                self.connector.clone(),
                &self.attempt,
                &self.control,
                &self.clock,
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

impl HttpSession {
    fn new(
        connector: Arc<Connector>,
        attempt: &Attempt,
        control: &Arc<RunControl>,
        clock: &Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELD_BYTES);
        let concurrent = usize::try_from(attempt.limits.http_concurrent).unwrap_or(usize::MAX >> 4);
        let hooks = Hooks(Arc::new(Shared {
            connector,
            grants: attempt.grants.clone(),
            limits: attempt.limits,
            control: control.clone(),
            clock: clock.clone(),
            deadline,
            concurrent: Arc::new(Semaphore::new(concurrent)),
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            request_bytes: Arc::new(AtomicU64::new(0)),
            response_bytes: Arc::new(AtomicU64::new(0)),
            denial: Mutex::new(None),
        }));
        Self { ctx, hooks }
    }

    /// Reports the run's figures.
    pub(crate) fn report(&self, usage: &mut Usage) {
        let shared = &self.hooks.0;
        usage.http_calls = shared.sent.load(Ordering::Relaxed);
        usage.http_request_bytes = shared.request_bytes.load(Ordering::Relaxed);
        usage.http_response_bytes = shared.response_bytes.load(Ordering::Relaxed);
    }

    /// The last request that was denied, as a sentence.
    pub(crate) fn denial(&self) -> Option<String> {
        let denial = &self.hooks.0.denial;
        denial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Raised into a guest whose handles make the host keep too much.
#[derive(Debug, thiserror::Error)]
#[error("its requests and headers hold more than {0} hostcall_bytes of the host's memory")]
pub(crate) struct HeldTooMuch(u64);

/// Entries of the handle table that are not worth weighing.
const FEW_HANDLES: usize = 32;

/// Headers, URIs and request bodies lie in the host's memory, not the guest's: a guest that makes thousands
/// of handles could fill it. Looked at on every tick, so what can be added in between is little.
pub(crate) fn check_held(data: &mut RunData) -> Result<(), HeldTooMuch> {
    if data.http.is_none() {
        return Ok(());
    }
    let allowed = data.attempt.limits.hostcall_bytes;
    let entries = data.table.iter_mut().map(|entry| held(entry));
    let (count, bytes) = entries.fold((0, 0_u64), |(count, sum), bytes| {
        (count + 1, sum.saturating_add(bytes as u64))
    });
    if count > FEW_HANDLES && bytes > allowed {
        return Err(HeldTooMuch(allowed));
    }
    Ok(())
}

/// About the bytes one handle holds.
fn held(entry: &mut (dyn Any + Send)) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        return headers(fields);
    }
    if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let method = match &request.method {
            Method::Other(method) => method.len(),
            _ => 0,
        };
        let scheme = match &request.scheme {
            Some(Scheme::Other(scheme)) => scheme.len(),
            _ => 0,
        };
        let body = request.body.as_ref().map_or(0, |_| BODY_CHUNK_BYTES);
        let uri = text(&request.authority) + text(&request.path_with_query);
        return method + scheme + uri + body + headers(&request.headers);
    }
    if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        let body = response.body.as_ref().map_or(0, |_| BODY_CHUNK_BYTES);
        return body + headers(&response.headers);
    }
    if entry.is::<HostOutgoingBody>() {
        return BODY_CHUNK_BYTES;
    }
    0
}

fn headers(map: &HeaderMap) -> usize {
    map.iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER_COST)
        .sum()
}

struct Hooks(Arc<Shared>);

struct Shared {
    connector: Arc<Connector>,
    grants: Arc<[Grant]>,
    limits: Limits,
    control: Arc<RunControl>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    concurrent: Arc<Semaphore>,
    asked: AtomicU64,
    sent: AtomicU64,
    request_bytes: Arc<AtomicU64>,
    response_bytes: Arc<AtomicU64>,
    denial: Mutex<Option<String>>,
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _finished: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let shared = self.0.clone();
        match shared.admit(&request) {
            Ok((target, permission)) => {
                let options = options.unwrap_or_default();
                Box::new(shared.send(request, target, permission, options))
            }
            Err(error) => Box::new(std::future::ready(Err(error))),
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

impl Shared {
    /// Everything that is known before a name is resolved.
    fn admit(&self, request: &Request<WasiBody>) -> Result<(Target, Permission), Error> {
        let method = request.method().as_str();
        if request.method() == http::Method::CONNECT || method.len() > 32 {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let target = Target::from_uri(request.uri()).map_err(|error| {
            self.remark(format!("denied: a request whose URI is refused: {error}"));
            Error::HttpRequestUriInvalid
        })?;
        let permission = self
            .connector
            .authorise(&self.grants, method, &target)
            .map_err(|error| self.refused(error))?;
        let allowed = self.limits.http_calls;
        if self.asked.fetch_add(1, Ordering::Relaxed) >= allowed {
            let sentence = format!("http_calls: this run already made its {allowed} requests");
            self.remark(sentence.clone());
            return Err(Error::InternalError(Some(sentence)));
        }
        Ok((target, permission))
    }

    async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        target: Target,
        permission: Permission,
        options: RequestOptions,
    ) -> SendResult {
        let permit = self
            .concurrent
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::ConnectionLimitReached)?;
        let method = request.method().clone();
        let left = self.deadline.saturating_sub(self.clock.monotonic());
        let limit = options.connect_timeout.map_or(left, |own| own.min(left));
        let stream = self
            .connector
            .connect(method.as_str(), &target, &permission, limit)
            .await
            .map_err(|error| self.refused(error))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        // Ends when the response's body is dropped, at the latest with the run.
        let connection = wasmtime_wasi::runtime::spawn(async move {
            let _ = connection.await;
        });
        let request = self.outgoing(request, &target)?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let first_byte = options.first_byte_timeout.unwrap_or(left).min(left);
        let response = tokio::time::timeout(first_byte, sender.send_request(request))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)??;
        let response = self.incoming(response, options, (permit, connection));
        Ok((response, Box::new(std::future::ready(Ok(())))))
    }

    /// The request as it goes on the wire: origin form, our Host, no hop-by-hop headers, body counted.
    fn outgoing(
        &self,
        request: Request<WasiBody>,
        target: &Target,
    ) -> Result<Request<CountedRequest>, Error> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = Uri::try_from(path).map_err(|_| Error::HttpRequestUriInvalid)?;
        strip_hop_by_hop(&mut parts.headers);
        let host =
            HeaderValue::from_str(&target.authority()).map_err(|_| Error::HttpRequestUriInvalid)?;
        parts.headers.insert(header::HOST, host);
        let limit = Limit {
            counter: self.request_bytes.clone(),
            most: self.limits.http_request_bytes,
        };
        Ok(Request::from_parts(parts, CountedRequest::new(body, limit)))
    }

    fn incoming(
        &self,
        response: Response<hyper::body::Incoming>,
        options: RequestOptions,
        keep: (
            tokio::sync::OwnedSemaphorePermit,
            wasmtime_wasi::runtime::AbortOnDropJoinHandle<()>,
        ),
    ) -> Response<WasiBody> {
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let limit = Limit {
            counter: self.response_bytes.clone(),
            most: self.limits.http_response_bytes,
        };
        let body = CountedResponse::new(body, limit, options.between_bytes_timeout, keep);
        Response::from_parts(parts, body.boxed_unsync())
    }

    /// What the guest is told of a connection that was not made.
    fn refused(&self, error: ConnectError) -> Error {
        match error {
            ConnectError::Denied(sentence) => {
                self.remark(sentence);
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
        }
    }

    /// One line in the run's log, remembered for its error message.
    fn remark(&self, sentence: String) {
        let sentence = text::one_line(&sentence, 800);
        let (now, log) = (self.clock.now(), &self.control.log);
        log.write(now, LogLevel::Warn, LogSource::Host, &sentence, None);
        *self.denial.lock().unwrap_or_else(PoisonError::into_inner) = Some(sentence);
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
mod tests;
