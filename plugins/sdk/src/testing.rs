//! A fake host for unit tests of plugins, one per thread. Only off wasm.
//!
//! ```
//! use horarium_task::{execution, state};
//! use horarium_task::testing::Host;
//!
//! Host::new().attempt(2).state("seen", b"7").install();
//! assert_eq!(execution::attempt(), 2);
//! assert_eq!(state::get("seen").unwrap().as_deref(), Some(&b"7"[..]));
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use crate::error::Refusal;
#[cfg(feature = "http")]
use crate::http::{ErrorKind, Request};
use crate::log::Level;

#[cfg(feature = "http")]
type Responder = Rc<dyn Fn(&Request) -> Result<Reply, (ErrorKind, String)>>;

/// What the calls to the host see. Nothing is refused unless said so.
#[derive(Clone)]
pub struct Host {
    task_id: String,
    attempt: u32,
    max_attempts: u32,
    task_name: String,
    scheduled_for: Option<u64>,
    remaining: u64,
    stop_requested: bool,
    attributes: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    state: BTreeMap<String, Vec<u8>>,
    refuses_state: bool,
    logs: Vec<(Level, String, Option<Value>)>,
    progress: Vec<(Option<f64>, String)>,
    #[cfg(feature = "http")]
    responder: Option<Responder>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            task_id: "00000000-0000-7000-8000-000000000000".to_owned(),
            attempt: 1,
            max_attempts: 4,
            task_name: "test".to_owned(),
            scheduled_for: None,
            remaining: 60_000,
            stop_requested: false,
            attributes: BTreeMap::new(),
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            state: BTreeMap::new(),
            refuses_state: false,
            logs: Vec::new(),
            progress: Vec::new(),
            #[cfg(feature = "http")]
            responder: None,
        }
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

impl Host {
    /// A host in its first of four attempts, with an empty state and no network.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which attempt this is, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets the instant the schedule meant, in milliseconds since 1970.
    #[must_use]
    pub fn scheduled_for(mut self, milliseconds: u64) -> Self {
        self.scheduled_for = Some(milliseconds);
        self
    }

    /// Asks the attempt to stop.
    #[must_use]
    pub fn stop_requested(mut self) -> Self {
        self.stop_requested = true;
        self
    }

    /// Adds an attribute of the execution.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Grants a secret, seen as this placeholder.
    #[must_use]
    pub fn secret(mut self, name: &str, placeholder: &str) -> Self {
        self.secrets.insert(name.to_owned(), placeholder.to_owned());
        self
    }

    /// Puts a value into the state.
    #[must_use]
    pub fn state(mut self, key: &str, value: &[u8]) -> Self {
        self.state.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Withholds the grant `state`.
    #[must_use]
    pub fn refuse_state(mut self) -> Self {
        self.refuses_state = true;
        self
    }

    /// Answers every request.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        mut self,
        responder: impl Fn(&Request) -> Result<Reply, (ErrorKind, String)> + 'static,
    ) -> Self {
        self.responder = Some(Rc::new(responder));
        self
    }

    /// Makes it this thread's host, in place of the one before.
    pub fn install(self) {
        HOST.set(self);
    }
}

/// This thread's log lines so far: level, message, fields.
pub fn logs() -> Vec<(Level, String, Option<Value>)> {
    HOST.with_borrow(|host| host.logs.clone())
}

/// This thread's progress reports so far.
pub fn progress() -> Vec<(Option<f64>, String)> {
    HOST.with_borrow(|host| host.progress.clone())
}

/// An HTTP response of the fake host.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[cfg(feature = "http")]
impl Reply {
    /// An empty response.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a JSON value.
    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(value.to_string())
    }
}

/// The calls, as the module `sys` offers them.
pub(crate) mod calls {
    use super::*;

    fn with<T>(read: impl FnOnce(&mut Host) -> T) -> T {
        HOST.with_borrow_mut(read)
    }

    pub(crate) fn log(level: Level, message: &str, fields: Option<String>) {
        let fields = fields.and_then(|fields| serde_json::from_str(&fields).ok());
        with(|host| host.logs.push((level, message.to_owned(), fields)));
    }

    pub(crate) fn progress(fraction: Option<f64>, message: &str) {
        with(|host| host.progress.push((fraction, message.to_owned())));
    }

    pub(crate) fn config_get(key: &str) -> Option<String> {
        with(|host| host.config.get(key).cloned())
    }

    pub(crate) fn secret_get(name: &str) -> Result<String, Refusal> {
        with(|host| host.secrets.get(name).cloned())
            .ok_or_else(|| refusal(&format!("secret {name} is not granted")))
    }

    fn refusal(message: &str) -> Refusal {
        Refusal {
            code: "not-granted".to_owned(),
            message: message.to_owned(),
        }
    }

    fn with_state<T>(
        access: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T,
    ) -> Result<T, Refusal> {
        with(|host| {
            if host.refuses_state {
                Err(refusal("state is not granted"))
            } else {
                Ok(access(&mut host.state))
            }
        })
    }

    pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        with_state(|state| state.get(key).cloned())
    }

    pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), Refusal> {
        with_state(|state| {
            state.insert(key.to_owned(), value.to_owned());
        })
    }

    pub(crate) fn state_delete(key: &str) -> Result<(), Refusal> {
        with_state(|state| {
            state.remove(key);
        })
    }

    pub(crate) fn state_keys(
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Refusal> {
        with_state(|state| {
            let wanted = |key: &&String| {
                key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
            };
            state
                .keys()
                .filter(wanted)
                .take(limit as usize)
                .cloned()
                .collect()
        })
    }

    pub(crate) fn task_id() -> String {
        with(|host| host.task_id.clone())
    }

    pub(crate) fn attempt() -> u32 {
        with(|host| host.attempt)
    }

    pub(crate) fn max_attempts() -> u32 {
        with(|host| host.max_attempts)
    }

    pub(crate) fn task_name() -> String {
        with(|host| host.task_name.clone())
    }

    pub(crate) fn config_id() -> Option<String> {
        None
    }

    pub(crate) fn scheduled_for() -> Option<u64> {
        with(|host| host.scheduled_for)
    }

    pub(crate) fn remaining() -> u64 {
        with(|host| host.remaining)
    }

    pub(crate) fn stop_requested() -> bool {
        with(|host| host.stop_requested)
    }

    pub(crate) fn attribute(name: &str) -> Option<String> {
        with(|host| host.attributes.get(name).cloned())
    }

    #[cfg(feature = "http")]
    pub(crate) fn send(
        request: &Request,
        _target: &crate::http::Target,
    ) -> Result<crate::http::Response, crate::http::Error> {
        let Some(responder) = with(|host| host.responder.clone()) else {
            return Err(request.error(
                ErrorKind::Network,
                "the fake host has no network: give it one with Host::http",
            ));
        };
        let reply = responder(request).map_err(|(kind, detail)| request.error(kind, detail))?;
        if reply.body.len() > request.max_bytes_value() {
            return Err(request.error(ErrorKind::TooLarge, "the response body is too large"));
        }
        Ok(crate::http::Response::from_parts(
            request,
            reply.status,
            reply.headers,
            reply.body,
        ))
    }
}
