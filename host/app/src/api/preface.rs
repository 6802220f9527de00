//! A client that says nothing: hyper waits for ever for the bytes that tell HTTP/2 from HTTP/1, and its own patience
//! begins only behind them.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What every connection of HTTP/2 begins with, and none of HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that ends unless its client shows in time which HTTP it speaks.
#[derive(Debug)]
pub(super) struct Awaited<S> {
    stream: S,
    /// None once it is known.
    patience: Option<Pin<Box<Sleep>>>,
    /// How much of the preface was read.
    seen: usize,
}

impl<S> Awaited<S> {
    /// A connection on which nothing was read yet.
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience: Some(Box::pin(tokio::time::sleep(patience))),
            seen: 0,
        }
    }

    fn look_at(&mut self, read: &[u8]) {
        let rest = &PREFACE[self.seen..];
        let both = read.len().min(rest.len());
        let may_be_either = !read.is_empty() && read[..both] == rest[..both] && both < rest.len();
        match may_be_either {
            true => self.seen += both,
            false => self.patience = None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Awaited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Error::from(ErrorKind::TimedOut)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.patience.is_some() {
            self.look_at(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Awaited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
