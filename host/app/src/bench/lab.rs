//! A whole host in a temporary directory: the sandbox, a store in a file, registry and executor, as the
//! server puts them together, without REST.

use super::{BenchError, Options, cores};
use crate::cli;
use horarium::app::relay;
use horarium::settings::DatabaseUrl;
use horarium_core::clock::SystemClock;
use horarium_core::config_cache::{CompiledConfig, ConfigCache};
use horarium_core::executor::{Executor, ExecutorSettings, Parts};
use horarium_core::observe::Observer;
use horarium_core::registry::Registry;
use horarium_core::runner::Runner;
use horarium_core::scheduler::Scheduler;
use horarium_core::service::{Context, HostPolicy, NoRuns, Once, Registration, Services, TaskRef};
use horarium_core::store::Store;
use horarium_core::wake::Wakes;
use horarium_model::limits::LimitOverrides;
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{ConfigId, DEFAULT_TENANT_ID};
use horarium_sandbox::{Sandbox, SandboxSettings};
use horarium_store::{Durability, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The name the guest is registered under.
pub(super) const TASK_TYPE: &str = "bench";
/// Longest wait for the guest to be compiled.
const COMPILE_PATIENCE: Duration = Duration::from_secs(300);

/// What outlives a single run: the runtimes, the sandbox with the guest's code, where files go.
pub(super) struct Lab {
    pub(super) control: Runtime,
    pub(super) guests: Runtime,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) component: Vec<u8>,
    pub(super) slots: u32,
    place: Place,
}

/// Where databases are made.
enum Place {
    /// A SQLite file for each run, in a directory that goes afterwards.
    Temporary(TempDir),
    /// This SQLite file, which must not exist and goes after each run.
    File(PathBuf),
    /// A schema of its own for each run, in the PostgreSQL at this URL; it goes after each run.
    Postgres(String),
}

impl Lab {
    /// Starts the runtimes and the sandbox; nothing is compiled yet.
    pub(super) fn new(options: &Options) -> Result<Self, BenchError> {
        let component = options.component()?;
        let place = place(options.database_url.as_deref())?;
        let slots = options.slots;
        let worker = cli::worker().map_err(|failure| BenchError::Failed(failure.render(false)))?;
        let mut settings = SandboxSettings::new(slots as usize, env!("CARGO_PKG_VERSION"));
        settings.worker = Some(worker);
        let control = runtime("horarium", 2.max(cores() / 2))?;
        let guests = runtime("guests", cores())?;
        let sandbox = {
            let _inside = control.enter();
            Sandbox::new(settings, Arc::new(SystemClock::new())).map_err(BenchError::failed)?
        };
        Ok(Self {
            control,
            guests,
            sandbox: Arc::new(sandbox),
            component,
            slots,
            place,
        })
    }

    /// What the store is, for the report.
    pub(super) fn store_name(&self) -> &'static str {
        match self.place {
            Place::Temporary(_) | Place::File(_) => "sqlite, synchronous=FULL",
            Place::Postgres(_) => "postgresql, its default durability",
        }
    }

    /// Makes the database of a run.
    async fn database(&self, run: usize) -> Result<Database, BenchError> {
        let file = match &self.place {
            Place::Temporary(directory) => directory.path().join(format!("run-{run}.db")),
            Place::File(file) => file.clone(),
            Place::Postgres(url) => return Ok(Database::Postgres(connect(url, run).await?)),
        };
        let options = SqliteOptions {
            durability: Durability::Full,
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(&file, options)
            .await
            .map_err(BenchError::failed)?;
        Ok(Database::Sqlite(Arc::new(store), file))
    }
}

/// Opens the schema of a run, which is made when it is not there.
async fn connect(url: &str, run: usize) -> Result<Arc<PostgresStore>, BenchError> {
    let options = PostgresOptions {
        schema: Some(format!("horarium_bench_{}_{run}", std::process::id())),
        migrate: true,
        ..PostgresOptions::default()
    };
    let store = PostgresStore::connect(url, options).await;
    let store = store.map_err(|error| BenchError::Refused(error.to_string()))?;
    Ok(Arc::new(store))
}

/// A database made for one run.
enum Database {
    Sqlite(Arc<SqliteStore>, PathBuf),
    Postgres(Arc<PostgresStore>),
}

impl Database {
    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store, _) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// Closes it and removes what was made.
    async fn remove(self) -> Result<(), BenchError> {
        let (store, file) = match self {
            Self::Sqlite(store, file) => (store, file),
            Self::Postgres(store) => {
                let store = PostgresStore::clone(&store);
                return store.remove().await.map_err(BenchError::failed);
            }
        };
        store.close().await.map_err(BenchError::failed)?;
        for ending in ["", "-wal", "-shm", ".lock"] {
            let mut name = file.clone().into_os_string();
            name.push(ending);
            // What is not there need not go.
            let _ = std::fs::remove_file(name);
        }
        Ok(())
    }
}

fn place(database_url: Option<&str>) -> Result<Place, BenchError> {
    let Some(url) = database_url else {
        let directory = tempfile::Builder::new().prefix("horarium-bench-").tempdir();
        return directory.map(Place::Temporary).map_err(BenchError::failed);
    };
    let path = match url.parse().map_err(BenchError::Refused)? {
        DatabaseUrl::Sqlite(path) => path,
        DatabaseUrl::Postgres(url) => return Ok(Place::Postgres(url)),
    };
    if path.exists() {
        return Err(BenchError::Refused(format!(
            "{} exists; the benchmark makes its database itself and removes it afterwards",
            path.display()
        )));
    }
    Ok(Place::File(path))
}

fn runtime(name: &str, threads: u32) -> Result<Runtime, BenchError> {
    Builder::new_multi_thread()
        .worker_threads(threads as usize)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(BenchError::failed)
}

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
}

impl LabHost {
    /// Opens a fresh database and registers the guest in it.
    pub(super) async fn open(lab: &Lab, run: usize) -> Result<Self, BenchError> {
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
        let version = register(&services, &lab.component).await?;
        registry.refresh().await.map_err(BenchError::failed)?;
        registry.prepare_missing(&wakes).await;
        let body = json!({"name": "bench", "task_type": TASK_TYPE, "scheduler_type": "manual", "max_retries": 0});
        let created = services.tasks.create(DEFAULT_TENANT_ID, &body, None).await;
        let config = match created.map_err(BenchError::failed)? {
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

    /// The same as a surface names it.
    pub(super) fn task_ref(&self) -> TaskRef {
        TaskRef::Id(self.task())
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
        let parts = self.parts(observer);
        let scheduler = Scheduler {
            store: parts.store,
            registry: parts.registry,
            configs: parts.configs,
            clock: parts.clock,
            wakes: parts.wakes,
            observer: parts.observer,
            chores: Default::default(),
        };
        let shutdown = executing.shutdown.clone();
        let firing = tokio::spawn(async move { scheduler.run(shutdown).await });
        executing.tasks.push(firing);
        Ok(executing)
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
        self.database.remove().await
    }
}

/// A second host that executes nothing.
pub(super) struct Neighbour {
    store: Arc<PostgresStore>,
    pub(super) services: Services,
}

impl Neighbour {
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

async fn register(services: &Services, component: &[u8]) -> Result<PluginVersion, BenchError> {
    let refused =
        |error: horarium_core::service::ServiceError| BenchError::Refused(error.to_string());
    let plugins = &services.plugins;
    let registered = plugins
        .register(
            DEFAULT_TENANT_ID,
            TASK_TYPE,
            component.to_vec(),
            Registration::default(),
        )
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
