//! Standard streams. What a task prints is log; of a command, stdin is the parameters and stdout the
//! result.

use crate::data::RunData;
use bytes::Bytes;
use horarium_core::clock::Clock;
use horarium_core::control::{MAX_LINE_BYTES, RunControl};
use horarium_core::secrets::MAX_SECRET_BYTES;
use horarium_model::execution::{LogLevel, LogSource};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

/// Bytes of stderr kept for the traceback.
pub(crate) const STDERR_TAIL_BYTES: usize = 4 << 10;
/// Bytes of a line that are looked through for secrets: what the log keeps, and the longest secret.
const LOOKED_THROUGH_BYTES: usize = MAX_LINE_BYTES + MAX_SECRET_BYTES;
/// Bytes a guest may write in one call.
const WRITE_BUDGET: usize = 64 << 10;

/// Raised into a command that prints more than `result_bytes`.
#[derive(Debug, thiserror::Error)]
#[error("stdout went beyond result_bytes")]
pub(crate) struct ResultTooLarge;

/// The streams of one run; made when the guest first asks WASI for anything.
#[derive(Clone)]
pub(crate) struct Stdio {
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

struct Output {
    control: Arc<RunControl>,
    clock: Arc<dyn Clock>,
    source: LogSource,
    sink: Mutex<Sink>,
}

enum Sink {
    Lines {
        partial: Vec<u8>,
        tail: Vec<u8>,
        /// The rest of a line that is too long to be looked through for secrets.
        skips: bool,
    },
    Result {
        bytes: Vec<u8>,
        limit: usize,
    },
}

impl Stdio {
    /// The streams of this run.
    pub(crate) fn get(data: &mut RunData) -> &Self {
        let (control, clock) = (&data.control, &data.clock);
        let output = |source, sink| {
            Arc::new(Output {
                control: control.clone(),
                clock: clock.clone(),
                source,
                sink: Mutex::new(sink),
            })
        };
        let lines = || Sink::Lines {
            partial: Vec::new(),
            tail: Vec::new(),
            skips: false,
        };
        let result = || Sink::Result {
            bytes: Vec::new(),
            limit: usize::try_from(data.attempt.limits.result_bytes).unwrap_or(usize::MAX),
        };
        let command = data.program.is_some();
        data.stdio.get_or_insert_with(|| Self {
            stdout: output(LogSource::Stdout, if command { result() } else { lines() }),
            stderr: output(LogSource::Stderr, lines()),
        })
    }

    pub(super) fn stdout(&self) -> Handle {
        Handle(self.stdout.clone())
    }

    pub(super) fn stderr(&self) -> Handle {
        Handle(self.stderr.clone())
    }

    /// Writes lines that lack their end to the log.
    pub(crate) fn finish(&self) {
        self.stdout.finish();
        self.stderr.finish();
    }

    /// The end of what was written to stderr, sanitised.
    pub(crate) fn stderr_tail(&self) -> String {
        match &*self.stderr.sink() {
            Sink::Lines { tail, .. } => {
                // Before the cut, which could leave a part of a secret's value.
                let whole = String::from_utf8_lossy(tail);
                let whole = self.stderr.control.log.redacted(&whole);
                let start = whole.ceil_char_boundary(whole.len().saturating_sub(STDERR_TAIL_BYTES));
                horarium_model::text::sanitize(&whole[start..], true)
            }
            Sink::Result { .. } => String::new(),
        }
    }

    /// What a command printed as its result.
    pub(crate) fn take_result(&self) -> Vec<u8> {
        match &mut *self.stdout.sink() {
            Sink::Result { bytes, .. } => std::mem::take(bytes),
            Sink::Lines { .. } => Vec::new(),
        }
    }
}

impl Output {
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, data: &[u8]) -> Result<(), ResultTooLarge> {
        match &mut *self.sink() {
            Sink::Result { bytes, limit } => {
                if bytes.len().saturating_add(data.len()) > *limit {
                    return Err(ResultTooLarge);
                }
                bytes.extend_from_slice(data);
            }
            Sink::Lines {
                partial,
                tail,
                skips,
            } => {
                if self.source == LogSource::Stderr {
                    keep_tail(tail, data);
                }
                if self.control.log.redacts() {
                    self.whole_lines(partial, skips, data);
                } else {
                    self.lines(partial, data);
                }
            }
        }
        Ok(())
    }

    /// Cuts into lines; longer ones are cut at what the log keeps of a line.
    fn lines(&self, partial: &mut Vec<u8>, mut data: &[u8]) {
        while !data.is_empty() {
            let room = MAX_LINE_BYTES - partial.len().min(MAX_LINE_BYTES);
            let newline = data.iter().position(|b| *b == b'\n');
            match newline {
                Some(end) if end <= room => {
                    partial.extend_from_slice(&data[..end]);
                    self.line(partial);
                    partial.clear();
                    data = &data[end + 1..];
                }
                _ if data.len() < room => {
                    partial.extend_from_slice(data);
                    return;
                }
                _ => {
                    partial.extend_from_slice(&data[..room]);
                    let rest = partial.split_off(whole_characters(partial));
                    self.line(partial);
                    *partial = rest;
                    data = &data[room..];
                }
            }
        }
    }

    /// Lines of a run with secrets: cut by the log, once it has looked at all of them, so that no value is
    /// split. What goes beyond is counted and dropped.
    fn whole_lines(&self, partial: &mut Vec<u8>, skips: &mut bool, data: &[u8]) {
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LOOKED_THROUGH_BYTES - partial.len();
            if *skips {
                self.control.log.skipped(text.len());
            } else if text.len() > room {
                partial.extend_from_slice(&text[..room]);
                self.control.log.skipped(text.len() - room);
                self.line(partial);
                partial.clear();
                *skips = true;
            } else {
                partial.extend_from_slice(text);
            }
            if ended {
                if !*skips {
                    self.line(partial);
                }
                partial.clear();
                *skips = false;
            }
        }
    }

    fn line(&self, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let level = match self.source {
            LogSource::Stderr => LogLevel::Warn,
            _ => LogLevel::Info,
        };
        let text = String::from_utf8_lossy(bytes);
        let log = &self.control.log;
        log.write(self.clock.now(), level, self.source, &text, None);
    }

    fn finish(&self) {
        if let Sink::Lines { partial, .. } = &mut *self.sink()
            && !partial.is_empty()
        {
            self.line(partial);
            partial.clear();
        }
    }
}

fn keep_tail(tail: &mut Vec<u8>, data: &[u8]) {
    // Twice of what is shown, so that a value that is cut at the front is not shown.
    let kept = 2 * STDERR_TAIL_BYTES;
    tail.extend_from_slice(&data[data.len().saturating_sub(kept)..]);
    if tail.len() > 2 * kept {
        tail.drain(..tail.len() - kept);
    }
}

/// Length of `bytes` without a character that is cut in the middle.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes
        .iter()
        .rev()
        .take(4)
        .position(|b| !(0x80..0xc0).contains(b));
    match last {
        Some(back) => {
            let lead = bytes.len() - 1 - back;
            let needed = match bytes[lead] {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf7 => 4,
                _ => 1,
            };
            if back + 1 < needed && lead > 0 {
                lead
            } else {
                bytes.len()
            }
        }
        None => bytes.len(),
    }
}

/// One guest handle to a stream.
pub(super) struct Handle(Arc<Output>);

impl IsTerminal for Handle {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Handle {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Self(self.0.clone()))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(self.0.clone()))
    }
}

#[async_trait::async_trait]
impl Pollable for Handle {
    async fn ready(&mut self) {}
}

impl OutputStream for Handle {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.0
            .write(&bytes)
            .map_err(|error| StreamError::Trap(error.into()))
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BUDGET)
    }
}

impl AsyncWrite for Handle {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = self.0.write(data).map(|()| data.len());
        Poll::Ready(written.map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a program reads.
pub(super) struct Stdin(MemoryInputPipe);

impl Stdin {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(MemoryInputPipe::new(bytes))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.0.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.0.p2_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_core::clock::SystemClock;

    fn output(source: LogSource) -> Output {
        Output {
            control: Arc::new(RunControl::new(128 << 10, 1)),
            clock: Arc::new(SystemClock::new()),
            source,
            sink: Mutex::new(Sink::Lines {
                partial: Vec::new(),
                tail: Vec::new(),
                skips: false,
            }),
        }
    }

    fn messages(output: &Output) -> Vec<String> {
        let lines = output.control.log.lines_from(0);
        lines.into_iter().map(|line| line.message).collect()
    }

    #[test]
    fn lines_come_whole_however_they_were_written() {
        let output = output(LogSource::Stdout);
        for part in ["one\ntw", "o\r\n", "", "\nlast"] {
            output.write(part.as_bytes()).unwrap();
        }
        output.finish();
        assert_eq!(messages(&output), ["one", "two", "", "last"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let output = output(LogSource::Stdout);
        let text = format!("a{}", "é".repeat(5000));
        output.write(text.as_bytes()).unwrap();
        output.finish();
        assert_eq!(messages(&output).concat(), text);
        assert!(messages(&output).iter().all(|m| m.len() <= MAX_LINE_BYTES));
    }

    #[test]
    fn a_flood_keeps_head_and_tail_and_counts_the_rest() {
        let output = output(LogSource::Stderr);
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        for _ in 0..10_000 {
            output.write(&line).unwrap();
        }
        let (written, dropped) = output.control.log.totals();
        assert_eq!(written, 990_000);
        assert!(dropped > 800_000 && dropped < written);
        let stdio = Stdio {
            stdout: Arc::new(self::output(LogSource::Stdout)),
            stderr: Arc::new(output),
        };
        assert_eq!(stdio.stderr_tail().len(), STDERR_TAIL_BYTES);
    }
}
