//! One blocking request over `wasi:http`.

use std::time::Duration;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::http::{Error, ErrorKind, Request, Response, Target};

/// How much is asked of a response's stream at once.
const CHUNK: u64 = 64 * 1024;

type Failure = (ErrorKind, String);

pub(crate) fn send(request: &Request, target: &Target) -> Result<Response, Error> {
    exchange(request, target).map_err(|(kind, detail)| request.error(kind, detail))
}

fn exchange(request: &Request, target: &Target) -> Result<Response, Failure> {
    let outgoing = prepare(request, target)?;
    let body = outgoing
        .body()
        .map_err(|()| invalid("the host gave no request body"))?;
    let options = options(request.timeout_value())?;
    let future = handle(outgoing, options).map_err(failure)?;
    // A server may answer before it has read all: what counts is the answer, not the unsent rest.
    let sent = write_body(body, request.body_bytes());
    let response = loop {
        match future.get() {
            Some(Ok(answer)) => break answer.map_err(failure)?,
            Some(Err(())) => return Err(network("the response was already taken")),
            None => future.subscribe().block(),
        }
    };
    if let Err(error) = sent
        && response.status() < 300
    {
        return Err(error);
    }
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let status = response.status();
    let body = read_body(&response, request.max_bytes_value())?;
    Ok(Response::from_parts(request, status, headers, body))
}

fn prepare(request: &Request, target: &Target) -> Result<OutgoingRequest, Failure> {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    let fields = Fields::from_list(&headers)
        .map_err(|error| invalid(&format!("the host refused the headers: {error}")))?;
    let outgoing = OutgoingRequest::new(fields);
    let scheme = if target.is_https {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let set = outgoing
        .set_method(&method(request.method()))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(&target.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&target.path_with_query)));
    set.map_err(|()| invalid("the method, host or path is not valid HTTP"))?;
    Ok(outgoing)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Option<Duration>) -> Result<Option<RequestOptions>, Failure> {
    let Some(timeout) = timeout else {
        return Ok(None);
    };
    let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    let options = RequestOptions::new();
    options
        .set_connect_timeout(Some(nanoseconds))
        .and_then(|()| options.set_first_byte_timeout(Some(nanoseconds)))
        .and_then(|()| options.set_between_bytes_timeout(Some(nanoseconds)))
        .map_err(|()| invalid("the host takes no such timeout"))?;
    Ok(Some(options))
}

fn write_body(body: OutgoingBody, bytes: &[u8]) -> Result<(), Failure> {
    if !bytes.is_empty() {
        let stream = body
            .write()
            .map_err(|()| network("the request body cannot be written"))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = stream.check_write().map_err(stream_failure)?;
            if room == 0 {
                stream.subscribe().block();
                continue;
            }
            let (now, later) =
                rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            stream.write(now).map_err(stream_failure)?;
            rest = later;
        }
        stream.blocking_flush().map_err(stream_failure)?;
    }
    OutgoingBody::finish(body, None).map_err(failure)
}

fn read_body(response: &IncomingResponse, max_bytes: usize) -> Result<Vec<u8>, Failure> {
    let body = response
        .consume()
        .map_err(|()| network("the response body was already taken"))?;
    let stream = body
        .stream()
        .map_err(|()| network("the response body was already taken"))?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) if bytes.len() + chunk.len() > max_bytes => {
                return Err((
                    ErrorKind::TooLarge,
                    format!("the response body is larger than {max_bytes} bytes"),
                ));
            }
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(stream_failure(error)),
        }
    }
    drop(stream);
    // Trailers are nobody's here; dropping their future ends the exchange.
    drop(IncomingBody::finish(body));
    Ok(bytes)
}

fn stream_failure(error: StreamError) -> Failure {
    match error {
        StreamError::Closed => network("the connection was closed while the body was under way"),
        StreamError::LastOperationFailed(error) => {
            match wasip2::http::types::http_error_code(&error) {
                Some(code) => failure(code),
                None => network(&error.to_debug_string()),
            }
        }
    }
}

fn invalid(detail: &str) -> Failure {
    (ErrorKind::InvalidRequest, detail.to_owned())
}

fn network(detail: &str) -> Failure {
    (ErrorKind::Network, detail.to_owned())
}

/// The host's error code as a class and a sentence.
fn failure(code: ErrorCode) -> Failure {
    match code {
        // The code carries no text; the host adds to the run's error message what would allow it.
        ErrorCode::HttpRequestDenied => {
            (ErrorKind::Denied, "the host denied the request".to_owned())
        }
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => (ErrorKind::Timeout, words(&code)),
        ErrorCode::HttpResponseBodySize(_) => (
            ErrorKind::TooLarge,
            "the response is larger than the host allows this run".to_owned(),
        ),
        ErrorCode::HttpRequestBodySize(_) => (
            ErrorKind::InvalidRequest,
            "the request body is larger than the host allows this run".to_owned(),
        ),
        ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestLengthRequired => (ErrorKind::InvalidRequest, words(&code)),
        ErrorCode::DnsError(_) => (
            ErrorKind::Network,
            "the host name cannot be resolved".to_owned(),
        ),
        // A limit of the run, told by its name.
        ErrorCode::InternalError(Some(text)) if text.starts_with("http_") => {
            (ErrorKind::Limit, text)
        }
        ErrorCode::InternalError(Some(text)) => (ErrorKind::Network, text),
        code => (ErrorKind::Network, words(&code)),
    }
}

/// `ErrorCode::ConnectionRefused` as "connection refused", with what it carries.
fn words(code: &ErrorCode) -> String {
    let debug = format!("{code:?}");
    let debug = debug.strip_prefix("ErrorCode::").unwrap_or(&debug);
    let name_end = debug.find(['(', ' ', '{']).unwrap_or(debug.len());
    let (name, rest) = debug.split_at(name_end);
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text + rest
}
