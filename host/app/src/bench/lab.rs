//! What the benchmarks of one process share: runtimes, a sandbox, and where their databases are.

use super::{BenchError, Options};
use crate::cli;
use horarium::app::threads;
use horarium::settings::DatabaseUrl;
use horarium_core::clock::SystemClock;
use horarium_core::store::Store;
use horarium_sandbox::{Sandbox, SandboxSettings};
use horarium_store::{Durability, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What outlives a single run: the runtimes, the sandbox with the guest's code, where files go.
pub(super) struct Lab {
    pub(super) control: Runtime,
    pub(super) guests: Runtime,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) component: Vec<u8>,
    pub(super) slots: u32,
    pub(super) place: Place,
    opened: Opened,
}

/// Databases that were made and are still to be removed, by run.
#[derive(Clone, Default)]
pub(super) struct Opened(Arc<Mutex<Vec<(usize, Database)>>>);

impl Opened {
    fn all(&self) -> MutexGuard<'_, Vec<(usize, Database)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes and removes the database of a run.
    pub(super) async fn remove(&self, run: usize) -> Result<(), BenchError> {
        let found = {
            let mut all = self.all();
            let at = all.iter().position(|(of, _)| *of == run);
            at.map(|at| all.swap_remove(at).1)
        };
        match found {
            Some(database) => database.remove().await,
            None => Ok(()),
        }
    }
}

/// Where databases are made.
pub(super) enum Place {
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
        Self::with(options, options.component()?, |_| {})
    }

    /// The same for a component at hand, with settings of the sandbox that are not a server's.
    pub(super) fn with(
        options: &Options,
        component: Vec<u8>,
        adapt: impl FnOnce(&mut SandboxSettings),
    ) -> Result<Self, BenchError> {
        let place = place(options.database_url.as_deref())?;
        let slots = options.slots;
        let worker = cli::worker().map_err(|failure| BenchError::Failed(failure.render(false)))?;
        let mut settings = SandboxSettings::new(slots as usize, env!("CARGO_PKG_VERSION"));
        settings.worker = Some(worker);
        adapt(&mut settings);
        let control = threads::control().map_err(BenchError::failed)?;
        let guests = threads::guests().map_err(BenchError::failed)?;
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
            opened: Opened::default(),
        })
    }

    /// Measures, until Ctrl-C. However that ends, no database that was made stays.
    pub(super) fn measured<T>(
        &self,
        measuring: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        self.control.block_on(async {
            let done = tokio::select! {
                done = measuring => done,
                _ = tokio::signal::ctrl_c() => Err(BenchError::Failed("interrupted".to_owned())),
            };
            let left: Vec<_> = self.opened.all().drain(..).collect();
            for (_, database) in left {
                let removed = database.remove().await;
                if done.is_ok() {
                    removed?;
                }
            }
            done
        })
    }

    /// What is still to be removed.
    pub(super) fn opened(&self) -> Opened {
        self.opened.clone()
    }

    /// What the store is, for the report.
    pub(super) fn store_name(&self) -> &'static str {
        match self.place {
            Place::Temporary(_) | Place::File(_) => "sqlite, synchronous=FULL",
            Place::Postgres(_) => "postgresql, its default durability",
        }
    }

    /// Whether databases are written by this process.
    pub(super) fn writes_itself(&self) -> bool {
        !matches!(self.place, Place::Postgres(_))
    }

    /// Makes the database of a run.
    pub(super) async fn database(&self, run: usize) -> Result<Database, BenchError> {
        let file = match &self.place {
            Place::Temporary(directory) => directory.path().join(format!("run-{run}.db")),
            Place::File(file) => file.clone(),
            Place::Postgres(url) => {
                let database = Database::Postgres(connect(url, run).await?);
                self.opened.all().push((run, database.clone()));
                return Ok(database);
            }
        };
        let options = SqliteOptions {
            durability: Durability::Full,
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(&file, options)
            .await
            .map_err(BenchError::failed)?;
        let database = Database::Sqlite(Arc::new(store), file);
        self.opened.all().push((run, database.clone()));
        Ok(database)
    }
}

/// Opens the schema of a run, which is made when it is not there.
pub(super) async fn connect(url: &str, run: usize) -> Result<Arc<PostgresStore>, BenchError> {
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
#[derive(Clone)]
pub(super) enum Database {
    Sqlite(Arc<SqliteStore>, PathBuf),
    Postgres(Arc<PostgresStore>),
}

impl Database {
    pub(super) fn store(&self) -> Arc<dyn Store> {
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
