//! What a guest's HTTP handles make the host keep, weighed.

use super::http::BODY_CHUNK_BYTES;
use crate::data::RunData;
use http::header::HeaderMap;
use std::any::Any;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::{Method, Scheme};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};

/// What a header costs beside its text.
const HEADER_COST: usize = 64;

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
    let entries = data.table.iter_mut().map(held);
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
