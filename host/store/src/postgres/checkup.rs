//! How a PostgreSQL is, for an operator who asks.

use super::connect::Target;
use super::tx::{PgResult, query_as, query_scalar};
use super::{PostgresOptions, PostgresStore, sql};
use horarium_core::clock::Clock;
use horarium_core::store::StoreResult;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use std::time::Duration;

/// How long a notification may take.
const NOTIFICATION: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkup {
    /// The server's version.
    pub version: String,
    /// How far this machine's clock is ahead of the database's, give or take half of `round_trip`.
    pub clock_ahead: chrono::Duration,
    /// From asking to the answer.
    pub round_trip: Duration,
    /// Whether the server cleans up by itself.
    pub autovacuum: bool,
    /// Tables of ours whose own cleaning is switched off.
    pub uncleaned: Vec<String>,
    /// Tables with far more dead rows than living ones, and how many those are.
    pub bloated: Vec<(String, i64)>,
    /// Whether what was committed survives a power cut: `fsync` and `synchronous_commit`.
    pub durable: bool,
    /// How long a notification took; none when it did not arrive. Not asked behind a pooler without `listen_url`.
    pub notification: Option<Option<Duration>>,
}

impl PostgresStore {
    /// Looks at the server, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn checkup(
        url: &str,
        options: &PostgresOptions,
        clock: &dyn Clock,
    ) -> StoreResult<Checkup> {
        let target = Target::parse(url, options)?.settled().await?;
        let mut connection = target.connect().await?;
        let looked = look(&mut connection, clock).await;
        let mut checkup = looked.map_err(|fault| target.explain_fault(fault))?;
        if let Some(listen) = &target.listen {
            let took = hear(&mut connection, listen, clock).await;
            checkup.notification = Some(took.ok().flatten());
        }
        let _ = connection.close().await;
        Ok(checkup)
    }
}

async fn look(connection: &mut PgConnection, clock: &dyn Clock) -> PgResult<Checkup> {
    // Once for the connection's own beginnings, once to be measured.
    query_scalar::<i32>(sql::STILL_THERE)
        .fetch_one(&mut *connection)
        .await?;
    let begun = clock.monotonic();
    let (there, version, autovacuum, durable): (i64, String, bool, bool) =
        query_as(sql::CHECKUP).fetch_one(&mut *connection).await?;
    let round_trip = clock.monotonic().saturating_sub(begun);
    let half = i64::try_from(round_trip.as_micros() / 2).unwrap_or(0);
    let ahead = clock.now().timestamp_micros() - half - there;
    Ok(Checkup {
        version,
        clock_ahead: chrono::Duration::microseconds(ahead),
        round_trip,
        autovacuum,
        durable,
        uncleaned: query_scalar(sql::UNCLEANED)
            .fetch_all(&mut *connection)
            .await?,
        bloated: query_as(sql::BLOATED).fetch_all(connection).await?,
        notification: None,
    })
}

/// Says something and listens to it; none when it did not arrive.
async fn hear(
    connection: &mut PgConnection,
    listen: &PgConnectOptions,
    clock: &dyn Clock,
) -> Result<Option<Duration>, sqlx::Error> {
    let channel = format!("horarium_checkup_{}", uuid::Uuid::now_v7().simple());
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(NOTIFICATION)
        .connect_lazy_with(listen.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel).await?;
    let begun = clock.monotonic();
    super::tx::query(sql::NOTIFY)
        .bind(&channel)
        .bind("")
        .execute(connection)
        .await?;
    let heard = tokio::time::timeout(NOTIFICATION, listener.recv()).await;
    Ok(heard
        .ok()
        .and_then(Result::ok)
        .map(|_| clock.monotonic().saturating_sub(begun)))
}
