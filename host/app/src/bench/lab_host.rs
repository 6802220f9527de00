//! A whole host in a temporary place: a store, registry, scheduler and executor, as the server puts them together,
//! without REST.

use super::BenchError;
use super::lab::{Database, Lab, Opened, Place, connect};
use horarium::app::relay;
use horarium_core::clock::SystemClock;
use horarium_core::config_cache::{CompiledConfig, ConfigCache};
use horarium_core::executor::{Executor, ExecutorSettings, Parts};
use horarium_core::observe::Observer;
use horarium_core::registry::Registry;
use horarium_core::runner::Runner;
use horarium_core::scheduler::Scheduler;
use horarium_core::service::{Context, HostPolicy, NoRuns, Once, Registration, Services};
use horarium_core::store::Store;
use horarium_core::wake::Wakes;
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{ConfigId, DEFAULT_TENANT_ID};
use horarium_store::PostgresStore;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The name the guest is registered under.
pub(super) const TASK_TYPE: &str = "bench";
/// Longest wait for the guest to be compiled.
const COMPILE_PATIENCE: Duration = Duration::from_secs(900);

/// A host over one store, its guest registered and one manual task written.
pub(super) struct LabHost {
    pub(super) store: Arc<dyn Store>,
    pub(super) services: Services,
    pub(super) version: Arc<PluginVersion>,
    pub(super) config: CompiledConfig,
    pub(super) registry: Arc<Registry>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) clock: Arc<SystemClock>,
    database: Database,
    run: usize,
    opened: Opened,
}

impl LabHost {
    /// Opens a fresh database and registers the guest in it.
    pub(super) async fn open(lab: &Lab, run: usize) -> Result<Self, BenchError> {
        Self::open_with(lab, run, Registration::default(), json!({})).await
    }

    /// The same with wishes for the guest's registration, and with more that the task's config says.
    ///
    /// # Errors
    /// Also when either is refused.
    pub(super) async fn open_with(
        lab: &Lab,
        run: usize,
        wish: Registration,
        more: Value,
    ) -> Result<Self, BenchError> {
        let database = lab.database(run).await?;
        let store = database.store();
        let runner: Arc<dyn Runner> = lab.sandbox.clone();
        let registry = Arc::new(Registry::new(store.clone(), runner));
        let (wakes, clock) = (Arc::new(Wakes::default()), Arc::new(SystemClock::new()));
        let services = Services::new(context(
            lab,
            store.clone(),
            registry.clone(),
            wakes.clone(),
            clock.clone(),
        ));
        let version = register(&services, &lab.component, wish).await?;
        registry.refresh().await.map_err(BenchError::failed)?;
        registry.prepare_missing(&wakes).await;
        let mut body = json!({"name": "bench", "task_type": TASK_TYPE, "scheduler_type": "manual", "max_retries": 0});
        json_patch::merge(&mut body, &more);
        let created = services.tasks.create(DEFAULT_TENANT_ID, &body, None).await;
        let config = match created.map_err(|error| BenchError::Refused(error.to_string()))? {
            Once::Done(config) => config,
            Once::Repeated(_) => return Err(BenchError::Failed("an answer without a key".into())),
        };
        Ok(Self {
            store,
            services,
            version: Arc::new(version),
            config: CompiledConfig::new(config),
            registry,
            wakes,
            clock,
            database,
            run,
            opened: lab.opened(),
        })
    }

    /// Another host on the same database, through which tasks can be triggered; none where a database has one host.
    pub(super) async fn neighbour(
        &self,
        lab: &Lab,
        run: usize,
    ) -> Result<Option<Neighbour>, BenchError> {
        let Place::Postgres(url) = &lab.place else {
            return Ok(None);
        };
        let store = connect(url, run).await?;
        let shared: Arc<dyn Store> = store.clone();
        let registry = Arc::new(Registry::new(shared.clone(), lab.sandbox.clone()));
        registry.refresh().await.map_err(BenchError::failed)?;
        let services = Services::new(context(
            lab,
            shared,
            registry,
            Arc::default(),
            self.clock.clone(),
        ));
        Ok(Some(Neighbour { store, services }))
    }

    /// Hears what other hosts do, as a server does, until the returned task is aborted.
    pub(super) fn listen(&self) -> Option<JoinHandle<()>> {
        let Database::Postgres(store) = &self.database else {
            return None;
        };
        let (store, wakes, registry) = (store.clone(), self.wakes.clone(), self.registry.clone());
        Some(tokio::spawn(async move {
            relay(&store, &wakes, &registry).await
        }))
    }

    /// The task's id.
    pub(super) fn task(&self) -> ConfigId {
        self.config.config.id
    }

    /// Starts executing; what happens is told to `observer`.
    pub(super) async fn execute(
        &self,
        lab: &Lab,
        observer: Arc<dyn Observer>,
    ) -> Result<Executing, BenchError> {
        let parts = self.parts(observer);
        let settings = ExecutorSettings {
            alerts: None,
            trace_sample: None,
            slots: lab.slots,
            host_name: "bench".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            memory: lab.sandbox.memory(),
            grace: Duration::from_secs(10),
            limits: LimitOverrides::default(),
            guests: lab.guests.handle().clone(),
        };
        let executor = Executor::start(parts, settings)
            .await
            .map_err(BenchError::failed)?;
        let shutdown = CancellationToken::new();
        let tasks = vec![tokio::spawn(executor.run(shutdown.clone()))];
        Ok(Executing { shutdown, tasks })
    }

    /// Starts firing and executing.
    pub(super) async fn fire_and_execute(
        &self,
        lab: &Lab,
        observer: Arc<dyn Observer>,
    ) -> Result<Executing, BenchError> {
        let mut executing = self.execute(lab, observer.clone()).await?;
        let scheduler = self.scheduler(observer);
        let shutdown = executing.shutdown.clone();
        let firing = tokio::spawn(async move { scheduler.run(shutdown).await });
        executing.tasks.push(firing);
        Ok(executing)
    }

    /// What fires the tasks.
    pub(super) fn scheduler(&self, observer: Arc<dyn Observer>) -> Scheduler {
        Scheduler::from(self.parts(observer))
    }

    fn parts(&self, observer: Arc<dyn Observer>) -> Parts {
        Parts {
            store: self.store.clone(),
            registry: self.registry.clone(),
            configs: Arc::new(ConfigCache::new(self.store.clone())),
            clock: self.clock.clone(),
            wakes: self.wakes.clone(),
            observer,
            keyring: Arc::default(),
        }
    }

    /// Closes the database and removes it.
    pub(super) async fn close(self) -> Result<(), BenchError> {
        self.opened.remove(self.run).await
    }
}

/// A second host that executes nothing.
pub(super) struct Neighbour {
    store: Arc<PostgresStore>,
    pub(super) services: Services,
}

impl Neighbour {
    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Leaves the database, which is the other's.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

fn context(
    lab: &Lab,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    wakes: Arc<Wakes>,
    clock: Arc<SystemClock>,
) -> Context {
    Context {
        configs: Arc::new(ConfigCache::new(store.clone())),
        store,
        registry,
        intake: lab.sandbox.clone(),
        clock,
        wakes,
        policy: Arc::new(HostPolicy::default()),
        live: Arc::new(NoRuns),
        keyring: Arc::default(),
        requests: Arc::default(),
    }
}

/// A host at work.
pub(super) struct Executing {
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Executing {
    /// Drains it.
    pub(super) async fn stop(self) -> Result<(), BenchError> {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.map_err(BenchError::failed)?;
        }
        Ok(())
    }
}

async fn register(
    services: &Services,
    component: &[u8],
    wish: Registration,
) -> Result<PluginVersion, BenchError> {
    let refused =
        |error: horarium_core::service::ServiceError| BenchError::Refused(error.to_string());
    let plugins = &services.plugins;
    let registered = plugins
        .register(DEFAULT_TENANT_ID, TASK_TYPE, component.to_vec(), wish)
        .await
        .map_err(refused)?;
    let started = super::Stopwatch::start();
    loop {
        let version = plugins
            .version(DEFAULT_TENANT_ID, TASK_TYPE, &registered.digest)
            .await
            .map_err(refused)?;
        match version.state {
            VersionState::Ready => return Ok(version),
            VersionState::Failed => {
                let error = version.error.unwrap_or_else(|| "it failed".to_owned());
                return Err(BenchError::Refused(format!("the plugin: {error}")));
            }
            VersionState::Compiling if started.elapsed() > COMPILE_PATIENCE => {
                return Err(BenchError::Failed(
                    "the plugin is not compiled in time".to_owned(),
                ));
            }
            VersionState::Compiling => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
