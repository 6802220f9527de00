//! Settings: TOML, `HORARIUM__SECTION__KEY` over it, flags over both. [`table::TABLE`] is the one place
//! that knows the keys: it gives parsing, messages and `docs/settings.md`.

mod alerts;
mod docs;
mod log;
mod otlp;
mod read;
mod table;

pub use alerts::{AlertSecret, AlertSettings};
pub use docs::markdown;
pub use otlp::OtlpSettings;
pub(crate) use table::{MAX_TASK_TYPES, cores};
pub use table::{Setting, TABLE};

use horarium_core::secrets::SecretKey;
use horarium_model::limits::LimitOverrides;
use horarium_model::retention::Retention;
use horarium_model::text::{nearest, one_line};
use ipnet::IpNet;
use read::Raw;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What begins the name of every environment variable that is a setting.
const ENV_PREFIX: &str = "HORARIUM__";

/// Everything the server can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `listen`: where REST is served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `danger_listen_without_tls`: allows other addresses than loopback.
    pub danger_listen_without_tls: bool,
    /// `tls.certificate`: PEM file; none = plain HTTP.
    pub tls_certificate: Option<PathBuf>,
    /// `tls.key`: PEM file.
    pub tls_key: Option<PathBuf>,
    /// `data_dir`: where the database, the token and compiled components are.
    pub data_dir: PathBuf,
    /// `host.name`: recorded with each attempt.
    pub host_name: String,
    /// `database.url`; none = `horarium.db` in the data directory.
    pub database_url: Option<String>,
    /// `database.durability`.
    pub durability: Durability,
    /// `database.*` of PostgreSQL.
    pub postgres: PostgresSettings,
    /// How far this host's clock is ahead of the truth: for tests of what happens when clocks are wrong.
    pub clock_ahead: chrono::Duration,
    /// `executor.slots`: executions that run at once.
    pub slots: u32,
    /// `executor.grace_seconds`: how long what runs may finish at a shutdown.
    pub grace: Duration,
    /// `engine.memory`: bytes all guests together may hold.
    pub engine_memory: u64,
    /// `engine.pooling`.
    pub pooling: PoolingSetting,
    /// `engine.aot_max`: bytes of compiled components kept.
    pub aot_max: u64,
    /// `engine.compile_concurrency`: components compiled at the same time.
    pub compile_concurrency: usize,
    /// `engine.compile_timeout_seconds`: the longest compiling and describing may take.
    pub compile_timeout: Duration,
    /// `limits.*`: the host's own maxima.
    pub limits: LimitOverrides,
    /// `network.allow_private`: private networks that grants with `via` may reach.
    pub allow_private: Vec<IpNet>,
    /// `secrets.key`: keys for secrets, the current one first; none = those of the file.
    pub secret_keys: Vec<SecretKey>,
    /// `secrets.key_file`; none = `secrets.key` in the data directory.
    pub secret_key_file: Option<PathBuf>,
    /// `log.format`.
    pub log_format: LogFormat,
    /// `log.level`: a level, or directives as tracing takes them.
    pub log_level: String,
    /// `retention.*`: what is kept of the history of every tenant.
    pub retention: Retention,
    /// `audit.keep_days`.
    pub audit_keep: chrono::Duration,
    /// `metrics.open`: `/metrics` without a token.
    pub metrics_open: bool,
    /// `metrics.task_types`: how many are told apart.
    pub metrics_task_types: usize,
    /// `otlp.*`.
    pub otlp: OtlpSettings,
    /// `alerts.*`.
    pub alerts: AlertSettings,
    /// `api.max_connections`.
    pub max_connections: usize,
    /// `api.failed_attempts_per_minute`: wrong tokens from one address.
    pub failed_attempts: u32,
    /// `api.header_timeout_seconds`: how long a client may take for a request's head.
    pub header_timeout: Duration,
    /// A hash of what was written for each key that was, so that changes can be told; never the text, which may be
    /// secret.
    #[doc(hidden)]
    pub given: BTreeMap<&'static str, u64>,
}

/// How safe a recorded end is from a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power cut (`synchronous=FULL`).
    Full,
    /// Survives a crash of the process; a power cut may lose the last moments (`synchronous=NORMAL`).
    Relaxed,
}

/// The database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server's database, as its URL.
    Postgres(String),
}

impl std::str::FromStr for DatabaseUrl {
    type Err = String;

    /// Reads `sqlite:FILE` or `postgres://…`; the error says what would be right.
    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        let Some(path) = url.strip_prefix("sqlite:") else {
            // Only its scheme is repeated: what follows may hold a password.
            let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
            return Err(format!(
                "`{}` is no kind of database; write sqlite:/var/lib/horarium.db or postgres://USER@HOST/NAME",
                one_line(scheme, 20)
            ));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', '#']) {
            return Err(format!(
                "`{}` names no file; write it like sqlite:/var/lib/horarium.db",
                one_line(url, 80)
            ));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// How connections to PostgreSQL are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// `database.connections`: most at once.
    pub connections: u32,
    /// `database.pooler`: whether the URL leads to a pooler in transaction mode.
    pub pooler_transaction: bool,
    /// `database.listen_url`: where to LISTEN, if not at the URL.
    pub listen_url: Option<String>,
    /// `database.statement_timeout_seconds`.
    pub statement_timeout: Duration,
    /// `database.lock_timeout_seconds`.
    pub lock_timeout: Duration,
    /// `database.idle_in_transaction_timeout_seconds`.
    pub idle_in_transaction_timeout: Duration,
    /// `database.migrate`: bring the schema up to date at the start.
    pub migrate: bool,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            connections: 16,
            pooler_transaction: false,
            listen_url: None,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(10),
            migrate: false,
        }
    }
}

/// Whether guests' memory comes from a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingSetting {
    /// Where the address space allows it.
    Auto,
    /// Always, or the server does not start.
    On,
    /// Never.
    Off,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {detail}")]
pub struct SettingsError {
    /// Where it came from: a file, a variable, a flag.
    pub origin: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl Settings {
    /// Reads settings: `file` (which must exist when named), then the variables of `env` that begin with
    /// `HORARIUM__`, then `flags` as (key, text) pairs such as `("executor.slots", "200")`.
    ///
    /// # Errors
    /// The first setting that is unknown (with the nearest name) or has no usable value.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        if let Some(path) = file {
            settings.read_file(path)?;
        }
        settings.read_env(env)?;
        for (key, text) in flags {
            settings.set(key, &Raw::Text(text), &format!("--{}", flag_name(key)))?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// Which database it is.
    ///
    /// # Errors
    /// When `database.url` is neither of SQLite nor of PostgreSQL.
    pub fn database(&self) -> Result<DatabaseUrl, SettingsError> {
        let Some(url) = &self.database_url else {
            return Ok(DatabaseUrl::Sqlite(self.data_dir.join("horarium.db")));
        };
        url.parse().map_err(|detail| SettingsError {
            origin: "database.url".to_owned(),
            detail,
        })
    }

    fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let origin = path.display().to_string();
        let error = |detail: String| SettingsError {
            origin: origin.clone(),
            detail,
        };
        let text =
            std::fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| error(format!("not TOML: {}", e.message())))?;
        for (key, value) in &table {
            match value {
                toml::Value::Table(section) => {
                    for (name, value) in section {
                        self.set(&format!("{key}.{name}"), &Raw::Toml(value), &origin)?;
                    }
                    if section.is_empty() && !is_section(key) {
                        return Err(error(unknown(key)));
                    }
                }
                value => self.set(key, &Raw::Toml(value), &origin)?,
            }
        }
        Ok(())
    }

    fn read_env(
        &mut self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), SettingsError> {
        let mut set: Vec<(String, String)> = env
            .into_iter()
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect();
        set.sort();
        for (name, text) in set {
            let key = name[ENV_PREFIX.len()..]
                .to_ascii_lowercase()
                .replace("__", ".");
            self.set(&key, &Raw::Text(&text), &name)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, raw: &Raw<'_>, origin: &str) -> Result<(), SettingsError> {
        let error = |detail: String| SettingsError {
            origin: origin.to_owned(),
            detail,
        };
        let setting = TABLE
            .iter()
            .chain(table::HIDDEN)
            .find(|setting| setting.key == key)
            .ok_or_else(|| error(unknown(key)))?;
        let mut hasher = DefaultHasher::new();
        raw.hash(&mut hasher);
        self.given.insert(setting.key, hasher.finish());
        (setting.set)(self, raw).map_err(|detail| error(format!("`{key}` {detail}")))
    }

    /// These settings with what `new` says of the keys that need no restart, `adopted` among them.
    #[must_use]
    pub(crate) fn with(&self, new: &Self, adopted: &[&'static str]) -> Self {
        let mut settings = Self {
            log_level: new.log_level.clone(),
            retention: new.retention,
            audit_keep: new.audit_keep,
            ..self.clone()
        };
        for key in adopted {
            match new.given.get(key) {
                Some(hash) => settings.given.insert(key, *hash),
                None => settings.given.remove(key),
            };
        }
        settings
    }

    /// The keys that were written otherwise for `other`, or for one of them alone.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let keys: BTreeSet<&'static str> = self
            .given
            .keys()
            .chain(other.given.keys())
            .copied()
            .collect();
        let differs = |key: &&str| self.given.get(*key) != other.given.get(*key);
        keys.into_iter().filter(differs).collect()
    }

    fn check(&self) -> Result<(), SettingsError> {
        if let Some((set, missing)) = self.half_tls() {
            return Err(SettingsError {
                origin: set.to_owned(),
                detail: format!("is set and `{missing}` is not; TLS needs both"),
            });
        }
        if self.alerts.url.is_some() && self.alerts.secret.is_none() {
            return Err(SettingsError {
                origin: "alerts.url".to_owned(),
                detail: "is set and `alerts.secret` is not; alerts are signed, so that whoever gets them can tell \
                         them from others"
                    .to_owned(),
            });
        }
        let open = self.tls_certificate.is_none() && !self.danger_listen_without_tls;
        if !self.listen.ip().is_loopback() && open {
            return Err(SettingsError {
                origin: "listen".to_owned(),
                detail: format!(
                    "`{}` is reachable from other machines, and without TLS tokens and data travel in the open; \
                     set tls.certificate and tls.key, listen on 127.0.0.1 behind a proxy that does TLS, \
                     or set danger_listen_without_tls = true",
                    self.listen
                ),
            });
        }
        self.database().map(|_| ())
    }
}

impl Settings {
    /// Of the two files that TLS needs, the one that is set alone and the one that is missing.
    fn half_tls(&self) -> Option<(&'static str, &'static str)> {
        let (certificate, key) = ("tls.certificate", "tls.key");
        match (&self.tls_certificate, &self.tls_key) {
            (Some(_), None) => Some((certificate, key)),
            (None, Some(_)) => Some((key, certificate)),
            _ => None,
        }
    }
}

fn is_section(name: &str) -> bool {
    TABLE.iter().any(|s| {
        s.key
            .split_once('.')
            .is_some_and(|(section, _)| section == name)
    })
}

fn unknown(key: &str) -> String {
    let shown = one_line(key, 60);
    match nearest(key, TABLE.iter().map(|s| s.key)) {
        Some(near) => format!("unknown setting `{shown}`; did you mean `{near}`?"),
        None => format!("unknown setting `{shown}`; docs/settings.md lists them"),
    }
}

/// The flag of a key: its last part, where one exists on the command line.
fn flag_name(key: &str) -> String {
    match key {
        "database.url" => "database-url".to_owned(),
        other => other.rsplit('.').next().unwrap_or(other).replace('_', "-"),
    }
}

#[cfg(test)]
mod tests;
