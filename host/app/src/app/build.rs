//! Makes every part of a server and spawns its loops.

use super::database::Database;
use super::{AppError, Built, VERSION, WORKER_ARGUMENT, files, keys};
use crate::alerts::{self, Alerts};
use crate::api::{
    self, AdminToken, ApiState, Attempts, HostFacts, ServerSettings, Streams, Tls, Uploads,
};
use crate::settings::{PoolingSetting, Settings};
use crate::telemetry::{DatabaseFigures, EngineFigures, Export, Metrics};
use horarium_core::access::Gate;
use horarium_core::caretaker::Caretaker;
use horarium_core::config_cache::ConfigCache;
use horarium_core::executor::{Executor, ExecutorSettings, Parts};
use horarium_core::memory::MemoryBudget;
use horarium_core::registry::Registry;
use horarium_core::scheduler::Scheduler;
use horarium_core::service::{Context, HostPolicy, Services};
use horarium_core::store::{MeasuredStore, Store};
use horarium_core::wake::Wakes;
use horarium_sandbox::connector::Connector;
use horarium_sandbox::{ObserverRef, Pooling, Sandbox, SandboxSettings, WorkerCommand};
use horarium_store::Connections;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Opens everything, takes over what a dead predecessor left, and starts serving.
pub(super) async fn build(settings: Settings, guests: Handle) -> Result<Built, AppError> {
    files::make_data_dir(&settings.data_dir)?;
    let token = files::admin_token(&settings.data_dir)?;
    let tls = tls(&settings)?;
    let keyring = Arc::new(keys::keyring(&settings)?);
    let listener = listen(settings.listen).await?;
    let database = Database::open(&settings).await?;
    let clock = database.clock(&settings).await?;
    let metrics = Arc::new(Metrics::new(settings.metrics_task_types));
    let (export, tracer) = Export::start(&settings).map_err(AppError::System)?;
    if let Some(tracer) = tracer {
        metrics.trace_with(tracer);
    }
    let measured = MeasuredStore::new(database.store(), metrics.clone(), clock.clone());
    let store: Arc<dyn Store> = Arc::new(measured);
    let mut sandbox = sandbox_settings(&settings)?;
    sandbox.observer = ObserverRef(metrics.clone());
    let sandbox = Arc::new(Sandbox::new(sandbox, clock.clone())?);
    let registry = Arc::new(Registry::new(store.clone(), sandbox.clone()));
    registry.refresh().await?;
    let wakes = Arc::new(Wakes::default());
    let parts = Parts {
        store: store.clone(),
        registry: registry.clone(),
        configs: Arc::new(ConfigCache::new(store.clone())),
        clock: clock.clone(),
        wakes: wakes.clone(),
        observer: metrics.clone(),
        keyring: keyring.clone(),
    };
    let memory = sandbox.memory();
    let executor_settings = executor_settings(&settings, guests, memory);
    let executor = Executor::start(parts.clone(), executor_settings).await?;
    let services = Services::new(Context {
        store: store.clone(),
        registry,
        configs: parts.configs.clone(),
        intake: sandbox.clone(),
        clock: clock.clone(),
        wakes,
        policy: Arc::new(HostPolicy {
            limits: settings.limits,
            engine_memory: Some(settings.engine_memory),
        }),
        live: executor.clone(),
        keyring,
        requests: Arc::default(),
    });
    let ready = Arc::new(AtomicBool::new(false));
    let state = ApiState {
        services: services.clone(),
        store: store.clone(),
        token: AdminToken::new(&token),
        gate: Gate::new(store.clone(), clock.clone(), parts.wakes.clone()),
        attempts: Attempts::new(settings.failed_attempts),
        clock: clock.clone(),
        metrics,
        metrics_open: settings.metrics_open,
        host: HostFacts {
            name: settings.host_name.clone(),
            version: VERSION,
            memory_bytes: settings.engine_memory,
            started_at: clock.now(),
        },
        executor: Some(executor.clone()),
        compiled: Some(Box::new({
            let sandbox = sandbox.clone();
            move || sandbox.check_aot_store()
        })),
        engine: Some(Box::new(move || figures(&sandbox))),
        database: Some(Box::new({
            let database = database.clone();
            move || connections(&database)
        })),
        ready: ready.clone(),
        uploads: Uploads::default(),
        streams: Streams::default(),
    };
    let address = listener
        .local_addr()
        .map_err(|e| AppError::System(e.to_string()))?;
    let url = files::url_of(address, tls.is_some());
    let assembled = Assembled {
        export,
        tls,
        connector: Connector::for_operator(settings.alerts.allow_private.clone())?,
        settings,
        address,
        token,
        state,
        database,
        parts,
        executor,
    };
    let built = assembled.spawn(listener);
    files::write_server_file(&built.settings.data_dir, &url, clock.now())?;
    ready.store(true, Ordering::Release);
    tracing::info!(url, "serving");
    Ok(built)
}

/// Everything made, nothing spawned.
struct Assembled {
    export: Export,
    tls: Option<Arc<Tls>>,
    connector: Connector,
    settings: Settings,
    address: SocketAddr,
    token: String,
    state: ApiState,
    database: Database,
    parts: Parts,
    executor: Arc<Executor>,
}

impl Assembled {
    fn spawn(self, listener: TcpListener) -> Built {
        let Self {
            export,
            tls,
            connector,
            settings,
            address,
            token,
            state,
            database,
            parts,
            executor,
        } = self;
        let (work, api) = (CancellationToken::new(), CancellationToken::new());
        let (services, ready) = (state.services.clone(), state.ready.clone());
        let server = ServerSettings {
            max_connections: settings.max_connections,
            header_timeout: settings.header_timeout,
            tls: tls.clone(),
        };
        if let Some(tls) = tls {
            let (clock, stop) = (parts.clock.clone(), work.clone());
            tokio::spawn(async move { tls.watch(clock, stop).await });
        }
        let care = Caretaker {
            store: parts.store.clone(),
            clock: parts.clock.clone(),
        };
        let (kept, keeping) = watch::channel(super::reload::kept(&settings));
        let stop = work.clone();
        tokio::spawn(async move { care.run(keeping, stop).await });
        let alerts = Alerts {
            settings: settings.alerts.clone(),
            connector,
            store: parts.store.clone(),
            registry: parts.registry.clone(),
            executor: executor.clone(),
            clock: parts.clock.clone(),
            wakes: parts.wakes.clone(),
            metrics: state.metrics.clone(),
            host: settings.host_name.clone(),
        };
        let router = api::router(Arc::new(state));
        let serving = tokio::spawn(api::serve(listener, router, server, api.clone()));
        let scheduler = Scheduler::from(parts);
        let (plugins, stop_fires) = (services.plugins.clone(), work.clone());
        // Registrations that a stopped host left half-way; each is checked anew, which takes its time.
        tokio::spawn(async move {
            if let Err(error) = plugins.resume_registrations().await {
                tracing::warn!(%error, "registrations that were not finished wait for the next start");
            }
        });
        let (registry, wakes) = (scheduler.registry.clone(), scheduler.wakes.clone());
        let (clock, stop_loads) = (scheduler.clock.clone(), work.clone());
        let attending =
            database
                .clone()
                .attend(wakes.clone(), registry.clone(), clock.clone(), work.clone());
        let working = vec![
            tokio::spawn(attending),
            tokio::spawn(async move { registry.run(&wakes, &*clock, stop_loads).await }),
            tokio::spawn(async move { scheduler.run(stop_fires).await }),
            tokio::spawn(executor.clone().run(work.clone())),
            tokio::spawn(alerts.run(work.clone())),
        ];
        Built {
            address,
            token,
            settings,
            database,
            executor,
            services,
            export,
            ready,
            kept,
            work,
            api,
            working,
            serving,
        }
    }
}

/// The certificate that the settings name.
pub(super) fn tls(settings: &Settings) -> Result<Option<Arc<Tls>>, AppError> {
    let (Some(certificate), Some(key)) = (&settings.tls_certificate, &settings.tls_key) else {
        return Ok(None);
    };
    let tls =
        Tls::load(certificate, key).map_err(|error| AppError::System(format!("TLS: {error}")))?;
    Ok(Some(Arc::new(tls)))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .await
        .map_err(|e| AppError::Listen {
            address,
            reason: e.to_string(),
        })
}

fn executor_settings(
    settings: &Settings,
    guests: Handle,
    memory: Arc<MemoryBudget>,
) -> ExecutorSettings {
    ExecutorSettings {
        slots: settings.slots,
        host_name: settings.host_name.clone(),
        version: VERSION.to_owned(),
        memory,
        grace: settings.grace,
        limits: settings.limits,
        alerts: alerts::rules(&settings.alerts),
        trace_sample: settings.otlp.sample(),
        guests,
    }
}

fn sandbox_settings(settings: &Settings) -> Result<SandboxSettings, AppError> {
    let exe = std::env::current_exe()
        .map_err(|e| AppError::System(format!("cannot find this program's own file: {e}")))?;
    let mut sandbox = SandboxSettings::new(settings.slots as usize, VERSION);
    sandbox.memory_bytes = settings.engine_memory;
    sandbox.allow_private = settings.allow_private.clone();
    sandbox.aot_dir = Some(settings.data_dir.join("aot"));
    sandbox.aot_max_bytes = settings.aot_max;
    sandbox.pooling = match settings.pooling {
        PoolingSetting::Auto => Pooling::Auto,
        PoolingSetting::On => Pooling::On,
        PoolingSetting::Off => Pooling::Off,
    };
    sandbox.worker = Some(WorkerCommand {
        exe,
        args: vec![WORKER_ARGUMENT.to_owned()],
    });
    sandbox.compile_concurrency = settings.compile_concurrency;
    sandbox.compile_timeout = settings.compile_timeout;
    Ok(sandbox)
}

fn figures(sandbox: &Sandbox) -> EngineFigures {
    let stats = sandbox.stats();
    EngineFigures {
        epoch_lag: stats.epoch_lag,
        memory_used_bytes: stats.memory_used_bytes,
        memory_total_bytes: stats.memory_total_bytes,
        pooling: stats.pooling,
        loaded_versions: stats.loaded_versions,
        pool_instances: stats.pool.as_ref().map_or(0, |p| p.core_instances),
        pool_memories: stats.pool.as_ref().map_or(0, |p| p.memories),
        pool_tables: stats.pool.as_ref().map_or(0, |p| p.tables),
        pool_stacks: stats.pool.as_ref().map_or(0, |p| p.stacks),
        pool_warm_bytes: stats.pool.as_ref().map_or(0, |p| p.warm_resident_bytes),
    }
}

fn connections(database: &Database) -> DatabaseFigures {
    let Connections { open, idle, most } = database.connections();
    DatabaseFigures {
        busy: open.saturating_sub(idle),
        idle,
        most,
    }
}
