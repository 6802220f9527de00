//! Bodies that count what passes through them and stop at the run's limit.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, WasiBody};

/// Bytes of one direction, shared by all requests of a run.
pub(super) struct Limit {
    pub(super) counter: Arc<AtomicU64>,
    /// Bytes of this request alone.
    pub(super) own: Arc<AtomicU64>,
    pub(super) most: u64,
}

impl Limit {
    fn count(&self, frame: &Frame<Bytes>) -> bool {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.counter.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.most
    }
}

/// A body on its way out.
pub(super) struct CountedRequest {
    body: WasiBody,
    limit: Limit,
}

impl CountedRequest {
    pub(super) fn new(body: WasiBody, limit: Limit) -> Self {
        Self { body, limit }
    }
}

impl Body for CountedRequest {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) if self.limit.count(&frame) => Ok(frame),
                Ok(_) => Err(ErrorCode::HttpRequestBodySize(Some(self.limit.most))),
                Err(Error::HttpRequestDenied) => Err(ErrorCode::HttpRequestDenied),
                Err(_) => Err(ErrorCode::HttpProtocolError),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body on its way in; keeps what shall live as long as it does.
pub(super) struct CountedResponse<K> {
    body: Incoming,
    limit: Limit,
    between: Option<(Duration, Pin<Box<Sleep>>)>,
    _keep: K,
}

impl<K> CountedResponse<K> {
    pub(super) fn new(body: Incoming, limit: Limit, between: Option<Duration>, keep: K) -> Self {
        Self {
            body,
            limit,
            between: between.map(|span| (span, Box::pin(tokio::time::sleep(span)))),
            _keep: keep,
        }
    }
}

impl<K: Unpin> Body for CountedResponse<K> {
    type Data = Bytes;
    type Error = Error;

    #[allow(
        clippy::disallowed_methods,
        reason = "tokio's own timer, reset to its own clock"
    )]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some((span, sleep)) = &mut this.between {
                    sleep.as_mut().reset(Instant::now() + *span);
                }
                if this.limit.count(&frame) {
                    return Poll::Ready(Some(Ok(frame)));
                }
                let most = this.limit.most;
                Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(most)))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match &mut this.between {
                Some((_, sleep)) => sleep
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err(Error::ConnectionReadTimeout))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
