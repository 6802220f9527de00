//! The database of a server: which store it is, and what that store brings beside its traits.

use super::AppError;
use crate::settings::{DatabaseUrl, Durability, Settings};
use horarium_core::clock::{Clock, SystemClock};
use horarium_core::registry::Registry;
use horarium_core::store::{Store, StoreError};
use horarium_core::wake::{Hint, Wakes};
use horarium_store::{Connections, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Between two rounds of [`PostgresStore::tidy`].
const TIDY: Duration = Duration::from_secs(6 * 3600);

/// An open database.
#[derive(Debug, Clone)]
pub(super) enum Database {
    /// A file that is this process's alone.
    Sqlite(Arc<SqliteStore>),
    /// One that many hosts share.
    Postgres(Arc<PostgresStore>),
}

impl Database {
    /// Opens the database that the settings name.
    pub(super) async fn open(settings: &Settings) -> Result<Self, AppError> {
        match settings.database()? {
            DatabaseUrl::Sqlite(path) => {
                let options = SqliteOptions {
                    durability: match settings.durability {
                        Durability::Full => horarium_store::Durability::Full,
                        Durability::Relaxed => horarium_store::Durability::Normal,
                    },
                    ..SqliteOptions::default()
                };
                match SqliteStore::open(&path, options).await {
                    Ok(store) => Ok(Self::Sqlite(Arc::new(store))),
                    Err(error) => Err(named(&path.display().to_string(), &error)),
                }
            }
            DatabaseUrl::Postgres(url) => {
                let store = PostgresStore::connect(&url, postgres_options(settings)).await;
                let store = store.map_err(|error| named("database.url", &error))?;
                Ok(Self::Postgres(Arc::new(store)))
            }
        }
    }

    /// The store in it.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// The clock of a host on it: hosts that share a database follow the database's, from the start.
    pub(super) async fn clock(&self, settings: &Settings) -> Result<Arc<dyn Clock>, StoreError> {
        let Self::Postgres(store) = self else {
            return Ok(Arc::new(SystemClock::new()));
        };
        let clock = SystemClock::following(settings.clock_ahead);
        let sent = clock.monotonic();
        let database_now = store.database_now().await?;
        clock.meet(database_now, sent);
        Ok(Arc::new(clock))
    }

    /// What is open to it now.
    pub(super) fn connections(&self) -> Connections {
        match self {
            Self::Sqlite(store) => store.connections(),
            Self::Postgres(store) => store.connections(),
        }
    }

    /// Closes it in order.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => {
                store.close().await;
                Ok(())
            }
        }
    }

    /// Rings this host's bells for what other hosts did, and keeps the database tidy, until `shutdown`.
    pub(super) async fn attend(
        self,
        wakes: Arc<Wakes>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) {
        let Self::Postgres(store) = self else { return };
        let tidying = async {
            loop {
                clock.sleep(TIDY).await;
                if let Err(error) = store.tidy().await {
                    tracing::warn!(%error, "the database could not be tidied; trying again later");
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = relay(&store, &wakes, &registry) => {}
            () = tidying => {}
        }
    }
}

/// Passes on what other hosts did, as long as the store lives. A hint may be lost; the heartbeat and the loops
/// look again by themselves.
pub async fn relay(store: &PostgresStore, wakes: &Wakes, registry: &Registry) {
    let mut hints = store.hints();
    loop {
        let hint = match hints.recv().await {
            Ok(hint) => hint,
            Err(RecvError::Lagged(_)) => Hint::Missed,
            Err(RecvError::Closed) => return,
        };
        match hint {
            Hint::Enqueued => wakes.enqueued(),
            Hint::Schedule => wakes.rescheduled(),
            Hint::Cancel(task_id) => wakes.cancelled(task_id),
            Hint::Access => wakes.access.changed(),
            Hint::Catalog | Hint::Missed => {
                if hint == Hint::Missed {
                    wakes.access.changed();
                }
                if let Err(error) = registry.refresh().await {
                    tracing::warn!(%error, "cannot reread the registered plugins; the heartbeat tries again");
                }
                wakes.enqueued();
                wakes.rescheduled();
            }
        }
    }
}

/// How the settings want PostgreSQL to be used.
pub fn postgres_options(settings: &Settings) -> PostgresOptions {
    let told = &settings.postgres;
    PostgresOptions {
        connections: told.connections,
        migrate: told.migrate,
        pooler_transaction: told.pooler_transaction,
        listen_url: told.listen_url.clone(),
        statement_timeout: told.statement_timeout,
        lock_timeout: told.lock_timeout,
        idle_in_transaction_timeout: told.idle_in_transaction_timeout,
        ..PostgresOptions::default()
    }
}

/// An error of a database that says which; most name it themselves.
fn named(database: &str, error: &StoreError) -> AppError {
    let reason = error.to_string();
    AppError::Store(match reason.contains(database) {
        true => reason,
        false => format!("{database}: {reason}"),
    })
}
