//! How the database is reached: the URL, the session's settings, and what a refusal means.

use super::tx::{Fault, db};
use super::{PostgresOptions, tls};
use horarium_core::store::{StoreError, StoreResult};
use horarium_model::Invalid;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use std::str::FromStr;
use std::time::Duration;

/// Connections that rested longer are asked whether they live, and have this long to answer.
const RESTED: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(2);

/// A database and how to get there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) options: PgConnectOptions,
    /// Where to LISTEN, if anywhere.
    pub(super) listen: Option<PgConnectOptions>,
    listens_at_url: bool,
    pub(super) schema: Option<String>,
    connect_timeout: Duration,
}

impl Target {
    pub(super) fn parse(url: &str, options: &PostgresOptions) -> StoreResult<Self> {
        if options.schema.as_ref().is_some_and(|name| !is_plain(name)) {
            return Err(refuse(format_args!(
                "the schema's name must be letters, digits and `_`, not beginning with a digit, at most 63"
            )));
        }
        let target = parse(url)?;
        let listen = match (&options.listen_url, options.pooler_transaction) {
            (Some(url), _) => Some(tls::not_plain_alone(parse(url)?)),
            (None, false) => Some(target.clone()),
            (None, true) => None,
        };
        Ok(Self {
            options: if options.pooler_transaction {
                target.statement_cache_capacity(0)
            } else {
                session(target, options)
            },
            listen: listen.filter(|_| options.notify),
            listens_at_url: options.listen_url.is_none(),
            schema: options.schema.clone(),
            connect_timeout: options.connect_timeout,
        })
    }

    /// Where it leads, without the password.
    fn place(&self) -> String {
        let options = &self.options;
        match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
    }

    fn database(&self) -> &str {
        let options = &self.options;
        options.get_database().unwrap_or(options.get_username())
    }

    /// One connection outside the pool, its refusals explained.
    pub(super) async fn connect(&self) -> StoreResult<PgConnection> {
        self.try_connect(self.options.get_ssl_mode())
            .await?
            .map_err(|error| self.explain(&error))
    }

    /// One connection with this of the TLS modes; inside, what refused it.
    async fn try_connect(&self, mode: PgSslMode) -> StoreResult<Result<PgConnection, sqlx::Error>> {
        let options = self.options.clone().ssl_mode(mode);
        let connecting = tokio::time::timeout(self.connect_timeout, options.connect());
        connecting.await.map_err(|_| {
            StoreError::Unavailable(format!(
                "no PostgreSQL answered at {} within {} s",
                self.place(),
                self.connect_timeout.as_secs_f32()
            ))
        })
    }

    /// The same, where `allow` and `prefer` became what the server takes: the second way is tried when the
    /// first one is refused.
    pub(super) async fn settled(mut self) -> StoreResult<Self> {
        let Some(ways) = tls::ways(self.options.get_ssl_mode()) else {
            return Ok(self);
        };
        let mut first = None;
        for mode in ways {
            match self.try_connect(mode).await? {
                Ok(connection) => {
                    let _ = connection.close().await;
                    self.options = self.options.ssl_mode(mode);
                    if self.listens_at_url {
                        self.listen = self.listen.map(|listen| listen.ssl_mode(mode));
                    }
                    return Ok(self);
                }
                Err(error) if first.is_none() && tls::may_go_otherwise(&error) => {
                    first = Some(error);
                }
                Err(error) => return Err(self.explain(first.as_ref().unwrap_or(&error))),
            }
        }
        Ok(self)
    }

    /// The tables belong to somebody else.
    pub(super) fn not_owner(&self, owner: &str) -> StoreError {
        let user = self.options.get_username();
        refuse(format_args!(
            "the tables in database `{}` at {} belong to `{owner}`, and `{user}` is no member of that role; \
             connect as `{owner}`, or let it run: GRANT {owner} TO {user}",
            self.database(),
            self.place()
        ))
    }

    /// What a failed operation of the start means.
    pub(super) fn explain_fault(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Db(error) => self.explain(&error),
            other => other.into(),
        }
    }

    /// What a refusal means, in one line with what would be right.
    pub(super) fn explain(&self, error: &sqlx::Error) -> StoreError {
        let (place, database) = (self.place(), self.database());
        let user = self.options.get_username();
        let code = error.as_database_error().and_then(DatabaseError::code);
        match (code.as_deref(), error) {
            (Some("3D000"), _) => refuse(format_args!(
                "there is no database `{database}` at {place}; create it: createdb -h HOST {database}"
            )),
            (Some("28P01" | "28000"), _) => refuse(format_args!(
                "PostgreSQL at {place} does not let `{user}` in: {error}; check user, password and pg_hba.conf"
            )),
            (Some("42501"), _) => refuse(format_args!(
                "`{user}` lacks rights in database `{database}`: {error}; {}",
                self.grant(&error.to_string())
            )),
            (_, sqlx::Error::Tls(error)) => refuse(format_args!(
                "no TLS with PostgreSQL at {place}: {error}; see sslmode in the URL"
            )),
            (_, sqlx::Error::Io(error)) if error.to_string().contains("certificate") => {
                refuse(format_args!(
                    "the certificate of PostgreSQL at {place} is not accepted: {}",
                    tls::advise(error)
                ))
            }
            (_, sqlx::Error::Io(_)) => {
                StoreError::Unavailable(format!("no PostgreSQL answers at {place}: {error}"))
            }
            _ => db(error),
        }
    }
}

impl Target {
    /// What would give the rights that a refusal misses.
    fn grant(&self, refusal: &str) -> String {
        let (user, database) = (self.options.get_username(), self.database());
        if refusal.contains("for database") {
            return format!(
                "let its owner run: GRANT CONNECT, CREATE ON DATABASE {database} TO {user}"
            );
        }
        if refusal.contains("for schema") {
            let schema = self.schema.as_deref().unwrap_or("public");
            return format!("let its owner run: GRANT CREATE, USAGE ON SCHEMA {schema} TO {user}");
        }
        "connect as the role that owns the tables".to_owned()
    }
}

fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(good)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

pub(super) fn refuse(what: impl std::fmt::Display) -> StoreError {
    StoreError::Invalid(Invalid::one("", what.to_string()))
}

fn parse(url: &str) -> StoreResult<PgConnectOptions> {
    const SHAPE: &str = "write postgres://user:password@host:5432/database";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(refuse(format_args!("not a PostgreSQL URL; {SHAPE}")));
    }
    let (url, trusts_public) = tls::take_system(url);
    let options = PgConnectOptions::from_str(&url).map_err(|error| {
        // It is said at each level once more.
        let said = error.to_string().replace("error with configuration: ", "");
        refuse(format_args!("the PostgreSQL URL is wrong: {said}; {SHAPE}"))
    })?;
    Ok(tls::as_libpq(options, trusts_public)?
        .application_name("horarium")
        .extra_float_digits(None))
}

/// Every statement reads a few rows by an index. Where many wait the planner believes that claims read them all, and
/// would have them compiled each time, which takes a hundred times as long as reading what they need.
const JIT: &str = "off";

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}

/// The settings of a session, as they are sent when it begins.
fn session(target: PgConnectOptions, options: &PostgresOptions) -> PgConnectOptions {
    let target = target.options([
        (
            "statement_timeout",
            millis(options.statement_timeout).to_string(),
        ),
        ("lock_timeout", millis(options.lock_timeout).to_string()),
        (
            "idle_in_transaction_session_timeout",
            millis(options.idle_in_transaction_timeout).to_string(),
        ),
        ("jit", JIT.to_owned()),
        // Of statements without a BEGIN, whatever the role or the database has for a default.
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_read_only", "off".to_owned()),
    ]);
    match &options.schema {
        Some(schema) => target.options([("search_path", format!("\"{schema}\""))]),
        None => target,
    }
}

/// What opens a transaction: under a transaction pooler the session's settings come with it.
pub(super) fn begin(options: &PostgresOptions) -> String {
    let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE".to_owned();
    if options.pooler_transaction {
        begin.push_str(&format!(
            "; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL jit = {JIT}",
            millis(options.statement_timeout),
            millis(options.lock_timeout),
            millis(options.idle_in_transaction_timeout)
        ));
        if let Some(schema) = &options.schema {
            begin.push_str(&format!("; SET LOCAL search_path = \"{schema}\""));
        }
    }
    begin
}

/// The connections that operations share.
pub(super) fn pool(target: &Target, options: &PostgresOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(options.connections.max(1))
        .min_connections(0)
        .acquire_timeout(options.connect_timeout)
        // A dead connection is found by the BEGIN that uses it; one that nobody used for a while may lead to a
        // machine that is no more, which never answers.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for < RESTED {
                    return Ok(true);
                }
                let answered = tokio::time::timeout(PING, connection.ping()).await;
                Ok(matches!(answered, Ok(Ok(()))))
            })
        })
        .idle_timeout(Duration::from_secs(600))
        .max_lifetime(Duration::from_secs(3600))
        .connect_lazy_with(target.options.clone().disable_statement_logging())
}
