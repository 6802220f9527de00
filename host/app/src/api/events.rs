//! `GET /v1/events`: what happens to a tenant's executions, tasks and plugins, as server-sent events. The store is the
//! buffer: a client that reads slowly is told at its own pace, and nothing is kept here for it but what is on its way.

use super::ApiState;
use super::auth::{Tenant, presented};
use super::error::ApiError;
use super::executions::{Asked, filter_query};
use super::query::Params;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use horarium_core::access::Denied;
use horarium_core::service::events::EVENT_KINDS;
use horarium_core::service::{Event, EventPlace, EventStream};
use horarium_core::store::ExecutionFilter;
use horarium_model::text::{nearest, one_line};
use horarium_model::{Problem, TenantId};
use serde_json::json;
use std::collections::HashMap;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{self, OwnedPermit};

type Api = State<Arc<ApiState>>;

/// Streams of one host at once, and of one tenant among them.
const MOST: (usize, usize) = (200, 50);
/// Seconds after which a refused client may try again.
const RETRY_AFTER: u32 = 10;
/// Between two looks at the store.
const LOOK: Duration = Duration::from_secs(1);
/// A stream that was silent for so long says that it lives.
const QUIET: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(30);
/// Chunks on their way to a client.
const ON_THE_WAY: usize = 8;
/// Looks in a row that may fail.
const FAILURES: u32 = 10;

/// Who follows.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<TenantId, usize>>>);

/// A place among the streams, given back when dropped.
#[derive(Debug)]
struct Seat {
    streams: Streams,
    tenant: TenantId,
}

impl Streams {
    fn of(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, tenant: TenantId) -> Result<Seat, ApiError> {
        let mut of = self.of();
        let all: usize = of.values().sum();
        let own = of.get(&tenant).copied().unwrap_or_default();
        if all >= MOST.0 || own >= MOST.1 {
            return Err(ApiError::too_many_streams(
                "as many streams of events are open as may; close one, or try again later",
                RETRY_AFTER,
            ));
        }
        of.insert(tenant, own + 1);
        Ok(Seat {
            streams: self.clone(),
            tenant,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut of = self.streams.of();
        if let Some(own) = of.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                of.remove(&self.tenant);
            }
        }
    }
}

/// `Last-Event-ID`: where a stream was left.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastEvent(Option<EventPlace>);

impl<S: Send + Sync> FromRequestParts<S> for LastEvent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("last-event-id") else {
            return Ok(Self(None));
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        // A client that has seen no id yet may send that it has none.
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        match EventPlace::parse(text.trim()) {
            Some(place) => Ok(Self(Some(place))),
            None => Err(ApiError::bad_request(format!(
                "Last-Event-ID is `{}`; send the id of an event as it came",
                one_line(&text, 60)
            ))),
        }
    }
}

/// A kind of event that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(&'static str);

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = EVENT_KINDS.iter().find(|kind| **kind == text);
        known.map(|kind| Self(kind)).ok_or_else(|| {
            let hint = nearest(text, EVENT_KINDS.iter().copied())
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            format!("`{}` is no kind of event{hint}", one_line(text, 40))
        })
    }
}

pub(super) fn query(params: &mut Params) -> (Vec<Kind>, Asked) {
    let kinds = params.words("kind", EVENT_KINDS.iter().copied());
    (kinds, filter_query(params))
}

pub(super) async fn follow(
    State(api): Api,
    Tenant(tenant): Tenant,
    LastEvent(after): LastEvent,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (kinds, asked) = query(&mut params);
    params.finish()?;
    let Some(filter) = asked.filter(&api, tenant).await? else {
        let detail = "`task` and `config` name different tasks: no execution is of both";
        return Err(ApiError::bad_input(vec![Problem::at("/task", detail)]));
    };
    let filter = Some(filter).filter(|filter| *filter != ExecutionFilter::default());
    let seat = api.streams.enter(tenant)?;
    let stream = api.services.events.follow(tenant, after, filter).await?;
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    let token = presented(&headers).map(str::to_owned);
    let teller = Teller {
        api,
        stream,
        kinds,
        token: token.unwrap_or_default(),
        sender,
        _seat: seat,
    };
    tokio::spawn(teller.tell());
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(chunk), receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// Tells one client.
struct Teller {
    api: Arc<ApiState>,
    stream: EventStream,
    /// What it asked for; empty = everything.
    kinds: Vec<Kind>,
    token: String,
    sender: mpsc::Sender<Bytes>,
    _seat: Seat,
}

/// Why a stream ends, as its last event says.
enum End {
    /// The client went away.
    Gone,
    /// It is told why.
    Because(&'static str),
}

impl Teller {
    async fn tell(mut self) {
        // Kept free from the start: who is cut off because nothing more fits is told so all the same.
        let Ok(last) = self.sender.clone().reserve_owned().await else {
            return;
        };
        if let Err(End::Because(reason)) = self.until_the_end().await {
            farewell(last, reason);
        }
    }

    async fn until_the_end(&mut self) -> Result<(), End> {
        let clock = self.api.clock.clone();
        // A client that loses the connection comes back after a second, with the id of its last event.
        self.send(format!(
            "retry: 1000\nid: {}\n\n",
            self.stream.place().to_text()
        ))
        .await?;
        let (mut told_at, mut failures) = (clock.monotonic(), 0);
        loop {
            self.may_go_on().await?;
            match self.stream.next().await {
                Ok(events) => {
                    failures = 0;
                    let text = self.written(&events);
                    if !text.is_empty() {
                        self.send(text).await?;
                        told_at = clock.monotonic();
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, "a stream of events cannot look");
                    if failures >= FAILURES {
                        return Err(End::Because("unavailable"));
                    }
                }
            }
            if self.stream.is_behind() && failures == 0 {
                continue;
            }
            if clock.monotonic().saturating_sub(told_at) >= QUIET {
                // With the place, so that who comes back later has less to be told again.
                let place = self.stream.place().to_text();
                self.send(format!(": still here\nid: {place}\n\n")).await?;
                told_at = clock.monotonic();
            }
            tokio::select! {
                () = clock.sleep(LOOK) => {}
                () = self.sender.closed() => return Err(End::Gone),
            }
        }
    }

    /// While the host runs and the token is good.
    async fn may_go_on(&self) -> Result<(), End> {
        if !self.api.ready.load(Ordering::Acquire) {
            return Err(End::Because("stopping"));
        }
        if self.api.token.matches(&self.token) {
            return Ok(());
        }
        match self.api.gate.caller(&self.token, true).await {
            Err(Denied::Unknown(_)) => Err(End::Because("token")),
            // While the store does not answer nobody learns anything.
            Ok(_) | Err(Denied::NotAsked | Denied::Store(_)) => Ok(()),
        }
    }

    fn written(&self, events: &[Event]) -> String {
        let wanted =
            |event: &&Event| self.kinds.is_empty() || self.kinds.contains(&Kind(event.kind));
        let mut text = String::new();
        for event in events.iter().filter(wanted) {
            let id = event.place.to_text();
            text.push_str(&format!(
                "id: {id}\nevent: {}\ndata: {}\n\n",
                event.kind, event.data
            ));
        }
        text
    }

    async fn send(&self, text: String) -> Result<(), End> {
        tokio::select! {
            sent = self.sender.send(text.into()) => sent.map_err(|_| End::Gone),
            () = self.api.clock.sleep(PATIENCE) => Err(End::Because("slow")),
        }
    }
}

fn farewell(last: OwnedPermit<Bytes>, reason: &str) {
    let data = json!({ "reason": reason });
    last.send(format!("event: end\ndata: {data}\n\n").into());
}
