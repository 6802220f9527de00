//! A server without sockets: memory store, fake sandbox, a clock that stands still.

use super::contract::Asked;
use crate::api::{AdminToken, ApiState, Attempts, HostFacts, Streams, Uploads, router};
use crate::telemetry::Metrics;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request};
use futures_util::StreamExt;
use horarium_core::access::Gate;
use horarium_core::clock::Clock;
use horarium_core::config_cache::ConfigCache;
use horarium_core::control::RunControl;
use horarium_core::registry::Registry;
use horarium_core::runner::{
    Attempt, AttemptEnd, ComponentSource, Inspection, Intake, Outcome, PendingCompile, Runner,
};
use horarium_core::secrets::{KeySource, Keyring, SecretKey};
use horarium_core::service::{
    Context, EventPlace, EventStream, Events, HostPolicy, LiveRuns, Plugins, Services,
};
use horarium_core::store::memory::MemoryStore;
use horarium_core::store::{ExecutionFilter, Store};
use horarium_core::wake::Wakes;
use horarium_model::descriptor::Descriptor;
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::PluginVersion;
use horarium_model::{DEFAULT_TENANT_ID, Invalid, TaskId, TenantId, Timestamp, Usage};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An instant, from its text.
pub(super) fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

/// A clock that stands still until it is set.
pub(super) struct StandingClock(AtomicI64);

#[async_trait::async_trait]
impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(self.0.load(Ordering::SeqCst)).expect("in range")
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    async fn sleep(&self, _span: Duration) {
        std::future::pending().await
    }
}

/// Keys that are kept nowhere.
#[derive(Default)]
struct KeyShelf(Mutex<Vec<SecretKey>>);

impl KeySource for KeyShelf {
    fn read(&self) -> Result<Vec<SecretKey>, String> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }

    fn write(&self, keys: &[SecretKey]) -> Result<(), String> {
        *self.0.lock().expect("not poisoned") = keys.to_vec();
        Ok(())
    }
}

/// Knows `required` and integer `properties` with defaults of a schema, and takes any "component" that is
/// the wasm magic and the JSON that its `describe` shall return (`fail` makes its compile fail).
struct FakeSandbox;

#[async_trait::async_trait]
impl Runner for FakeSandbox {
    async fn prepare(&self, _: &PluginVersion, _: ComponentSource) -> Result<(), String> {
        Ok(())
    }

    async fn check_parameters(
        &self,
        version: &PluginVersion,
        mut parameters: Value,
    ) -> Result<Value, Invalid> {
        let Some(schema) = &version.descriptor.parameters_schema else {
            return Ok(parameters);
        };
        for key in schema["required"].as_array().into_iter().flatten() {
            if parameters.get(key.as_str().expect("a key")).is_none() {
                return Err(Invalid::one("", format!("{key} is a required property")));
            }
        }
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            match parameters.get(key) {
                Some(value) if property["type"] == "integer" && !value.is_i64() => {
                    return Err(Invalid::one(format!("/{key}"), "is not of type integer"));
                }
                None if !property["default"].is_null() => {
                    parameters[key] = property["default"].clone();
                }
                _ => {}
            }
        }
        Ok(parameters)
    }

    async fn run(&self, _: Attempt, _: Arc<RunControl>) -> Outcome {
        Outcome {
            end: AttemptEnd::Succeeded("null".into()),
            usage: Usage::default(),
            state: None,
        }
    }
}

#[async_trait::async_trait]
impl Intake for FakeSandbox {
    async fn inspect(&self, bytes: Vec<u8>) -> Result<(Inspection, PendingCompile), Invalid> {
        let Some(described) = bytes.strip_prefix(b"\0asm") else {
            return Err(Invalid::one(
                "/component",
                "is not a WebAssembly component: no magic",
            ));
        };
        let inspection = Inspection {
            digest: horarium_model::task_type::digest(&bytes),
            size_bytes: bytes.len() as u64,
            kind: "task".into(),
            imports: Vec::new(),
            exports: Vec::new(),
            warnings: Vec::new(),
        };
        let described: Option<Value> = serde_json::from_slice(described).ok();
        let pending: PendingCompile = Box::pin(async move {
            match described {
                Some(Value::String(error)) => Err(error),
                other => Ok(other),
            }
        });
        Ok((inspection, pending))
    }

    async fn check_descriptor(&self, _: &Descriptor) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Runs in progress, put there by a test.
#[derive(Default)]
pub(super) struct PretendedRuns(pub(super) Mutex<HashMap<TaskId, Arc<RunControl>>>);

impl LiveRuns for PretendedRuns {
    fn control_of(&self, task_id: TaskId) -> Option<Arc<RunControl>> {
        self.0.lock().expect("not poisoned").get(&task_id).cloned()
    }
}

/// The server under test.
pub(super) struct Harness {
    pub(super) router: Router,
    pub(super) store: Arc<MemoryStore>,
    pub(super) clock: Arc<StandingClock>,
    pub(super) runs: Arc<PretendedRuns>,
    pub(super) ready: Arc<AtomicBool>,
    /// What trying the store of compiled plugins comes to.
    pub(super) compiled: Arc<Mutex<Result<(), String>>>,
    pub(super) plugins: Plugins,
    pub(super) events: Events,
    pub(super) registry: Arc<Registry>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) text: String,
}

impl Answer {
    /// The answer, which must have this status.
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// The problem, which must have this status and the contract's shape; returns "pointer: detail" of
    /// each error.
    #[track_caller]
    pub(super) fn problem(&self, status: u16) -> Vec<String> {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let map = self.body.as_object().expect("an object");
        let keys: Vec<&str> = map.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["detail", "errors", "request_id", "status", "title", "type"]
        );
        assert_eq!(map["status"], status);
        assert_eq!(
            map["request_id"],
            self.headers["x-request-id"].to_str().expect("text")
        );
        assert!(map["detail"].as_str().is_some_and(|d| !d.is_empty()));
        let errors = map["errors"].as_array().expect("a list");
        errors
            .iter()
            .map(|e| {
                let text = |key: &str| e[key].as_str().expect("a text").to_owned();
                format!("{}: {}", text("pointer"), text("detail"))
            })
            .collect()
    }
}

impl Harness {
    /// At 2026-01-01T00:00:30Z, with the host's maximum of `fuel` at 1000 and 64 MiB for all guests.
    pub(super) fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(StandingClock(AtomicI64::new(
            at("2026-01-01T00:00:30Z").timestamp_micros(),
        )));
        let runs = Arc::new(PretendedRuns::default());
        let dyn_store: Arc<dyn Store> = store.clone();
        let registry = Arc::new(Registry::new(dyn_store.clone(), Arc::new(FakeSandbox)));
        let limits = LimitOverrides {
            fuel: Some(1000),
            ..LimitOverrides::default()
        };
        let wakes = Arc::new(Wakes::default());
        let services = Services::new(Context {
            store: dyn_store.clone(),
            registry: registry.clone(),
            configs: Arc::new(ConfigCache::new(dyn_store.clone())),
            intake: Arc::new(FakeSandbox),
            clock: clock.clone(),
            wakes: wakes.clone(),
            policy: Arc::new(HostPolicy {
                limits,
                engine_memory: Some(64 << 20),
            }),
            live: runs.clone(),
            keyring: Arc::new(Keyring::open_source(KeyShelf::default()).expect("no keys yet")),
            requests: Arc::default(),
        });
        let ready = Arc::new(AtomicBool::new(true));
        let compiled = Arc::new(Mutex::new(Ok(())));
        let (plugins, events) = (services.plugins.clone(), services.events.clone());
        let state = ApiState {
            services,
            store: dyn_store.clone(),
            token: AdminToken::new(TOKEN),
            gate: Gate::new(dyn_store, clock.clone(), wakes),
            attempts: Attempts::new(60),
            clock: clock.clone(),
            metrics: Arc::new(Metrics::new(10)),
            metrics_open: false,
            host: HostFacts {
                name: "here".into(),
                version: "0",
                memory_bytes: 64 << 20,
                started_at: clock.now(),
            },
            executor: None,
            engine: None,
            database: None,
            compiled: Some(Box::new({
                let compiled = compiled.clone();
                move || compiled.lock().expect("not poisoned").clone()
            })),
            ready: ready.clone(),
            uploads: Uploads::default(),
            streams: Streams::default(),
        };
        let router = router(Arc::new(state));
        Self {
            router,
            store,
            clock,
            runs,
            ready,
            compiled,
            plugins,
            events,
            registry,
        }
    }

    /// A stream of a tenant's events.
    pub(super) async fn follow(&self, tenant: TenantId, after: Option<EventPlace>) -> EventStream {
        self.events
            .follow(tenant, after, None)
            .await
            .expect("a stream")
    }

    /// A stream of the executions that fit, from now on.
    pub(super) async fn follow_some(&self, filter: ExecutionFilter) -> EventStream {
        let stream = self.events.follow(DEFAULT_TENANT_ID, None, Some(filter));
        stream.await.expect("a stream")
    }

    /// A server with the ready plugin `hello`, which wants an integer `n` and has `m` default 7.
    pub(super) async fn with_plugin() -> Self {
        let harness = Self::new();
        harness
            .register(
                "hello",
                &json!({"parameters_schema": {"required": ["n"], "properties": {
                    "n": {"type": "integer"}, "m": {"type": "integer", "default": 7}}}}),
                &json!({}),
            )
            .await;
        harness
    }

    pub(super) fn set_now(&self, text: &str) {
        self.clock
            .0
            .store(at(text).timestamp_micros(), Ordering::SeqCst);
    }

    /// Sends a request as it is, and holds what comes back to the OpenAPI document.
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let asked = Asked::of(&parts, &body);
        let request = Request::from_parts(parts, Body::from(body));
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible");
        let (parts, body) = response.into_parts();
        let kind = parts.headers.get("content-type");
        let bytes = match kind.is_some_and(|kind| kind == "text/event-stream") {
            // It never ends by itself, and this clock stands still.
            true => first_chunk(body).await,
            false => to_bytes(body, usize::MAX).await.expect("a body"),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        };
        asked.holds(&answer);
        answer
    }

    /// Sends with the token, more headers, and a body.
    pub(super) async fn with_headers(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(path)
            .header("authorization", format!("Bearer {TOKEN}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).expect("a request"))
            .await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.with_headers("GET", path, &[], Body::empty()).await
    }

    /// Sends JSON.
    pub(super) async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.with_headers(method, path, &kind, body.to_string())
            .await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body).await
    }

    /// Registers a fake component and waits until it is not compiling any more.
    pub(super) async fn register(&self, name: &str, describe: &Value, options: &Value) -> Value {
        let answer = self.upload(name, describe, options).await.expect(202);
        let digest = answer.body["digest"].as_str().expect("a digest");
        self.finished(name, digest).await
    }

    /// A version, once it is not compiling any more.
    pub(super) async fn finished(&self, name: &str, digest: &str) -> Value {
        let path = format!("/v1/task-types/{name}/versions/{digest}");
        for _ in 0..1000 {
            let version = self.get(&path).await.expect(200).body;
            if version["state"] != "compiling" {
                return version;
            }
            tokio::task::yield_now().await;
        }
        panic!("{name} was never finished");
    }

    /// Uploads a fake component by multipart.
    pub(super) async fn upload(&self, name: &str, describe: &Value, options: &Value) -> Answer {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"component\"; filename=\"a.wasm\"\r\n\r\n\0asm{describe}\r\n\
             --x\r\nContent-Disposition: form-data; name=\"options\"\r\n\r\n{options}\r\n--x--\r\n"
        );
        let kind = [("content-type", "multipart/form-data; boundary=x")];
        let path = format!("/v1/task-types/{name}/versions");
        self.with_headers("POST", &path, &kind, body).await
    }

    /// Creates a task from what differs from a plain manual one; returns it.
    pub(super) async fn task(&self, differs: &Value) -> Value {
        self.post("/v1/tasks", &task(differs))
            .await
            .expect(201)
            .body
    }
}

async fn first_chunk(body: Body) -> axum::body::Bytes {
    let first = body.into_data_stream().next().await;
    first.expect("a chunk").expect("whole")
}

/// A plain manual task of `hello`, with `differs` over it; null removes a key.
pub(super) fn task(differs: &Value) -> Value {
    let mut task = json!({"name": "a task", "task_type": "hello", "scheduler_type": "manual",
        "parameters": {"n": 1}});
    let map = task.as_object_mut().expect("an object");
    for (key, value) in differs.as_object().expect("an object") {
        match value {
            Value::Null => map.remove(key),
            value => map.insert(key.clone(), value.clone()),
        };
    }
    task
}
