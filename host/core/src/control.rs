//! What the host and one run in progress tell each other while it runs.

use crate::memory::Reservation;
use crate::secrets::Redactor;
use horarium_model::execution::{HttpCall, LogLevel, LogLine, LogSource, Progress};
use horarium_model::{Timestamp, text};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

/// Why a run was stopped from outside. The first reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StopReason {
    /// `timeout_seconds` passed.
    Timeout = 1,
    /// Somebody cancelled it.
    Cancel = 2,
    /// This host no longer owns it: nothing of it may be written.
    LeaseLost = 3,
    /// The host shuts down: the run is handed back.
    Shutdown = 4,
}

/// The shared half of one run: the executor stops it through this, the sandbox reports through it.
#[derive(Debug)]
pub struct RunControl {
    stop: AtomicU8,
    stop_requested: AtomicBool,
    stopped: Notify,
    progress: Mutex<Option<Progress>>,
    progress_changes: AtomicU64,
    calls: Mutex<Vec<HttpCall>>,
    /// What was reserved for it before it was claimed.
    memory: Mutex<Option<Reservation>>,
    /// The run's log.
    pub log: LogBook,
}

impl RunControl {
    /// Control of a fresh run that keeps at most `log_bytes` of log; `attempt` marks its lines.
    pub fn new(log_bytes: u64, attempt: u32) -> Self {
        Self {
            stop: AtomicU8::new(0),
            stop_requested: AtomicBool::new(false),
            stopped: Notify::new(),
            progress: Mutex::new(None),
            progress_changes: AtomicU64::new(0),
            calls: Mutex::new(Vec::new()),
            memory: Mutex::new(None),
            log: LogBook::new(log_bytes, attempt),
        }
    }

    /// The same, with the memory that was reserved for the run.
    #[must_use]
    pub fn with_memory(self, memory: Reservation) -> Self {
        Self {
            memory: Mutex::new(Some(memory)),
            ..self
        }
    }

    /// Hands over what was reserved for the run, once.
    pub fn take_memory(&self) -> Option<Reservation> {
        lock(&self.memory).take()
    }

    /// Stops the run for `reason`, unless it was stopped before.
    pub fn stop(&self, reason: StopReason) {
        let _ = self
            .stop
            .compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        self.stop_requested.store(true, Ordering::Release);
        self.stopped.notify_waiters();
    }

    /// Why the run must end, if it must.
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.stop.load(Ordering::Acquire) {
            1 => Some(StopReason::Timeout),
            2 => Some(StopReason::Cancel),
            3 => Some(StopReason::LeaseLost),
            4 => Some(StopReason::Shutdown),
            _ => None,
        }
    }

    /// Waits until the run is stopped.
    pub async fn stopped(&self) -> StopReason {
        loop {
            let notified = self.stopped.notified();
            tokio::pin!(notified);
            // Registered before the check, so that a stop in between is not missed.
            notified.as_mut().enable();
            if let Some(reason) = self.stop_reason() {
                return reason;
            }
            notified.await;
        }
    }

    /// Asks the guest to end by itself soon (`execution.stop-requested`).
    pub fn request_stop(&self) {
        self.stop_requested.store(true, Ordering::Release);
    }

    /// Whether the guest was asked to end by itself.
    pub fn stop_requested(&self) -> bool {
        self.stop_requested.load(Ordering::Acquire)
    }

    /// Keeps the latest progress report, sanitised.
    pub fn report_progress(&self, fraction: Option<f64>, message: &str) {
        let fraction = fraction
            .filter(|f| f.is_finite())
            .map(|f| f.clamp(0.0, 1.0));
        let message = self.log.redacted(message);
        *lock(&self.progress) = Some(Progress {
            fraction,
            message: text::one_line(&message, 500),
        });
        self.progress_changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The latest progress report.
    pub fn progress(&self) -> Option<Progress> {
        lock(&self.progress).clone()
    }

    /// Keeps an outgoing request, of which there are `MAX_CALLS` at most; its place, to tell more of it later.
    pub fn call_begun(&self, mut call: HttpCall) -> Option<usize> {
        let mut calls = lock(&self.calls);
        if calls.len() == MAX_CALLS {
            return None;
        }
        call.call = calls.len() as u64;
        call.attempt = self.log.attempt;
        call.url = text::one_line(&self.log.redacted(&call.url), MAX_URL_CHARS);
        calls.push(call);
        Some(calls.len() - 1)
    }

    /// Tells more of a request that was kept.
    pub fn call_changed(&self, place: usize, change: impl FnOnce(&mut HttpCall)) {
        if let Some(call) = lock(&self.calls).get_mut(place) {
            change(call);
        }
    }

    /// The requests so far.
    pub fn calls(&self) -> Vec<HttpCall> {
        lock(&self.calls).clone()
    }

    /// Counts reports, so that an observer sees whether there is a new one.
    pub fn progress_changes(&self) -> u64 {
        self.progress_changes.load(Ordering::Acquire)
    }
}

/// A poisoned lock still guards plain data here: a panicking run must not take others with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most requests kept of a run; the usage counts them all.
pub const MAX_CALLS: usize = 10_000;
/// Longest address kept, in characters.
const MAX_URL_CHARS: usize = 1000;
/// Longest line kept, in bytes; the rest of the line is counted as dropped.
pub const MAX_LINE_BYTES: usize = 4096;
/// What a line costs beside its text, so that a flood of empty lines is bounded too.
const LINE_COST: usize = 48;

/// The log of one run: head and tail are kept within a budget, what lies between is counted. Writing
/// never blocks and never fails.
#[derive(Debug)]
pub struct LogBook {
    attempt: u32,
    redactor: OnceLock<Arc<Redactor>>,
    inner: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    half: usize,
    next_line: u64,
    head: Vec<LogLine>,
    head_cost: usize,
    tail: VecDeque<LogLine>,
    tail_cost: usize,
    written: u64,
    dropped: u64,
}

impl LogBook {
    /// A book that keeps at most `bytes`: half of it from the start, half from the end.
    pub fn new(bytes: u64, attempt: u32) -> Self {
        let inner = Book {
            half: half(bytes),
            next_line: 0,
            head: Vec::new(),
            head_cost: 0,
            tail: VecDeque::new(),
            tail_cost: 0,
            written: 0,
            dropped: 0,
        };
        Self {
            attempt,
            redactor: OnceLock::new(),
            inner: Mutex::new(inner),
        }
    }

    /// Keeps at most `bytes` from here on. Meant for before the first line, when a limit becomes known.
    pub fn set_budget(&self, bytes: u64) {
        lock(&self.inner).half = half(bytes);
    }

    /// Takes the values of the run's secrets out of everything that is kept from here on. The first
    /// redactor stays.
    pub fn redact_with(&self, redactor: Arc<Redactor>) {
        let _ = self.redactor.set(redactor);
    }

    /// The text as it may be kept: without the values of the run's secrets.
    pub fn redacted<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redactor.get() {
            Some(redactor) => redactor.text(text),
            None => Cow::Borrowed(text),
        }
    }

    /// Whether values of secrets are looked for.
    pub fn redacts(&self) -> bool {
        self.redactor.get().is_some()
    }

    /// Counts bytes that were written and are not kept.
    pub fn skipped(&self, bytes: usize) {
        let mut book = lock(&self.inner);
        book.written += bytes as u64;
        book.dropped += bytes as u64;
    }

    /// Adds one line, the text as it came.
    pub fn write(
        &self,
        at: Timestamp,
        level: LogLevel,
        source: LogSource,
        message: &str,
        mut fields: Option<Value>,
    ) {
        if let (Some(redactor), Some(fields)) = (self.redactor.get(), &mut fields) {
            redactor.json(fields);
        }
        // Before the cut, which could leave a part of a value.
        let message = self.redacted(message);
        let mut cut = message.len().min(MAX_LINE_BYTES);
        while !message.is_char_boundary(cut) {
            cut -= 1;
        }
        let fields_bytes = fields.as_ref().map_or(0, |f| f.to_string().len());
        let mut book = lock(&self.inner);
        let book = &mut *book;
        book.written += (message.len() + fields_bytes) as u64;
        book.dropped += (message.len() - cut) as u64;
        let line = LogLine {
            line: book.next_line,
            attempt: self.attempt,
            at,
            level,
            source,
            message: text::sanitize(&message[..cut], false),
            fields,
        };
        book.next_line += 1;
        book.keep(line);
    }

    /// The lines kept so far, from `from_line` on.
    pub fn lines_from(&self, from_line: u64) -> Vec<LogLine> {
        let book = lock(&self.inner);
        book.head
            .iter()
            .chain(&book.tail)
            .filter(|line| line.line >= from_line)
            .cloned()
            .collect()
    }

    /// (bytes written by the guest, bytes of it not kept).
    pub fn totals(&self) -> (u64, u64) {
        let book = lock(&self.inner);
        (book.written, book.dropped)
    }

    /// The end of what was written to stderr, at most `bytes`.
    pub fn stderr_tail(&self, bytes: usize) -> String {
        let book = lock(&self.inner);
        let mut lines: Vec<&str> = Vec::new();
        let mut size = 0;
        let kept = book.head.iter().chain(&book.tail);
        for line in kept.rev().filter(|line| line.source == LogSource::Stderr) {
            size += line.message.len() + 1;
            if size > bytes {
                break;
            }
            lines.push(&line.message);
        }
        lines.reverse();
        lines.join("\n")
    }
}

impl Book {
    fn keep(&mut self, line: LogLine) {
        let cost = cost(&line);
        if self.tail.is_empty() && self.head_cost + cost <= self.half {
            self.head_cost += cost;
            self.head.push(line);
            return;
        }
        self.tail_cost += cost;
        self.tail.push_back(line);
        while self.tail_cost > self.half {
            let Some(oldest) = self.tail.pop_front() else {
                break;
            };
            self.tail_cost -= self::cost(&oldest);
            self.dropped += (self::cost(&oldest) - LINE_COST) as u64;
        }
    }
}

/// Half of a budget: the head's share, and the tail's.
fn half(bytes: u64) -> usize {
    usize::try_from(bytes / 2).unwrap_or(usize::MAX / 4)
}

fn cost(line: &LogLine) -> usize {
    LINE_COST + line.message.len() + line.fields.as_ref().map_or(0, |f| f.to_string().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000, 0).expect("in range")
    }

    #[test]
    fn the_first_reason_stands() {
        let control = RunControl::new(1024, 1);
        control.stop(StopReason::Cancel);
        control.stop(StopReason::Timeout);
        assert_eq!(control.stop_reason(), Some(StopReason::Cancel));
        assert!(control.stop_requested());
    }

    #[test]
    fn head_and_tail_are_kept_and_the_rest_is_counted() {
        let book = LogBook::new(2000, 1);
        for i in 0..1000 {
            book.write(
                at(),
                LogLevel::Info,
                LogSource::Stdout,
                &format!("line {i:04}"),
                None,
            );
        }
        let lines = book.lines_from(0);
        assert_eq!(lines.first().map(|l| l.line), Some(0));
        assert_eq!(lines.last().map(|l| l.line), Some(999));
        let kept: usize = lines.iter().map(|l| l.message.len()).sum();
        assert!(lines.iter().map(cost).sum::<usize>() <= 2000);
        assert_eq!(book.totals(), (9000, 9000 - kept as u64));
    }

    #[test]
    fn long_and_forged_lines_are_cut_and_sanitised() {
        let book = LogBook::new(64 << 10, 1);
        book.write(
            at(),
            LogLevel::Error,
            LogSource::Stderr,
            &"é".repeat(4000),
            None,
        );
        book.write(
            at(),
            LogLevel::Error,
            LogSource::Stderr,
            "a\u{1b}[31mb",
            None,
        );
        let lines = book.lines_from(0);
        assert!(lines[0].message.len() <= MAX_LINE_BYTES && book.totals().1 == 8000 - 4096);
        assert_eq!(lines[1].message, "a\u{FFFD}[31mb");
        assert_eq!(book.stderr_tail(20), "a\u{FFFD}[31mb");
    }

    #[tokio::test]
    async fn a_stop_before_the_wait_is_not_missed() {
        let control = RunControl::new(1024, 1);
        control.stop(StopReason::Shutdown);
        assert_eq!(control.stopped().await, StopReason::Shutdown);
    }
}
