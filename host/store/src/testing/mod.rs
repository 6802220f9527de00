//! A PostgreSQL of one's own for tests: a throwaway cluster from the installed binaries, on a socket in a
//! temporary folder. It ends with the process that started it, however that ends: a watching shell holds
//! the other end of a pipe, and when that closes, it stops the server and removes the folder.

mod bouncer;

pub use bouncer::Bouncer;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Brings the server up, says so, waits for the end of its input, and cleans up.
const WATCH: &str = r#"
if [ "$(id -u)" = 0 ]; then
    # The server refuses root.
    chown postgres "$DIR"; RUN="runuser -u postgres --"
fi
$RUN "$BIN/initdb" -D "$DIR/data" -U postgres -A "$AUTH" --pwfile="$DIR/password" --no-sync -E UTF8 \
    --locale=C.UTF-8 --no-instructions >"$DIR/log" 2>&1 \
    && $RUN "$BIN/pg_ctl" -D "$DIR/data" -w -t 60 -l "$DIR/server.log" -o "$OPTIONS" start >>"$DIR/log" 2>&1 \
    && echo ready || echo "failed: $(tail -n 3 "$DIR/log" | tr '\n' ' ')"
cat >/dev/null
$RUN "$BIN/pg_ctl" -D "$DIR/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$DIR"
"#;

/// A running server, gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    watcher: Child,
    bin: PathBuf,
    folder: PathBuf,
    options: String,
    databases: AtomicU32,
    /// Where it listens beside its socket, if it does.
    port: Option<u16>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its end of input; then it stops the server and ends.
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// A connection beside the store, for tests that do not know its driver.
#[derive(Debug)]
pub struct Looker(PgConnection);

impl Looker {
    /// The rows of a query, each an object of its columns.
    ///
    /// # Errors
    /// What the server, or the lack of one, says. The connection may be of no use afterwards.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<serde_json::Value>, String> {
        let sql = format!("SELECT to_jsonb(q)::text FROM ({sql}) q");
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false);
        let rows: Vec<String> = rows
            .fetch_all(&mut self.0)
            .await
            .map_err(|error| error.to_string())?;
        let parsed = rows.iter().map(|row| serde_json::from_str(row));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    }
}

/// Where the server's programs are: `PG_BIN`, Debian's folders (the newest), the `PATH`.
fn find_bin() -> Option<PathBuf> {
    let has_server =
        |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    if let Some(folder) = std::env::var_os("PG_BIN").map(PathBuf::from) {
        return Some(folder).filter(has_server);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut debian: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, folder)| has_server(folder))
        .collect();
    debian.sort_unstable();
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .pop()
        .map(|(_, folder)| folder)
        .or_else(|| std::env::split_paths(&path).find(has_server))
}

/// Writes a file that only the server's user may read, as it wants its key.
fn install(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    if is_root() {
        let owned = Command::new("chown").arg("postgres").arg(path).status();
        assert!(owned.is_ok_and(|status| status.success()), "chown");
    }
}

/// A program as the server's user, which ends when this process does.
fn command_as_server(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--", program]);
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    })
}

/// As whom the server runs: it refuses root.
fn command(program: &str) -> Command {
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    }
}

impl Cluster {
    /// Starts a server that trusts everybody on its socket.
    ///
    /// # Panics
    /// When no server is installed, or it does not start.
    pub fn start() -> Self {
        Self::start_with("trust", "")
    }

    /// Starts a server with an authentication method of `pg_hba.conf` (the password of `postgres` is
    /// `secret`) and more options for the server.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(auth: &str, more: &str) -> Self {
        let Some(bin) = find_bin() else {
            panic!(
                "no PostgreSQL server found (PG_BIN, /usr/lib/postgresql/*/bin, PATH): apt-get install postgresql"
            );
        };
        let folder = tempfile::Builder::new()
            .prefix("horarium-pg-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        // The server may run as another user.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("ours");
        std::fs::write(folder.join("password"), "secret").expect("written");
        let options = format!(
            "-k {} -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=200 \
             -c shared_buffers=128MB -c max_wal_size=4GB -c unix_socket_permissions=0777 {more}",
            folder.display()
        );
        let mut watcher = Command::new("sh")
            .args(["-c", WATCH])
            .env("BIN", &bin)
            .env("DIR", &folder)
            .env("AUTH", auth)
            .env("OPTIONS", &options)
            .current_dir("/")
            // A group of its own: what is sent to the tests' group must not end it before it cleaned up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh (and, as root, runuser) can be run");
        let mut said = String::new();
        if let Some(out) = watcher.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut said);
        }
        let cluster = Self {
            watcher,
            bin,
            folder,
            options,
            databases: AtomicU32::new(0),
            port: None,
        };
        assert!(said.trim() == "ready", "PostgreSQL did not start: {said}");
        cluster
    }

    /// Starts a server that also listens on 127.0.0.1, with TLS if it is given a certificate and its key
    /// (PEM). `rules` are the lines of its `pg_hba.conf` for 127.0.0.1.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_on_tcp(tls: Option<(&str, &str)>, rules: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let more = format!("-c listen_addresses=127.0.0.1 -c port={port}");
        let mut cluster = Self::start_with("trust", &more);
        cluster.port = Some(port);
        cluster.stop("fast");
        let data = cluster.folder.join("data");
        let rules = format!("local all all trust\n{rules}\n");
        std::fs::write(data.join("pg_hba.conf"), rules).expect("written");
        if let Some((certificate, key)) = tls {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                install(&data.join(name), text);
            }
            cluster.options.push_str(" -c ssl=on");
        }
        cluster.resume();
        cluster
    }

    /// The URL of a database of this server over TCP, by this name of it, with more parameters.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn tcp_url(&self, host: &str, database: &str, more: &str) -> String {
        let port = self.port.expect("it listens");
        format!("postgres://postgres:secret@{host}:{port}/{database}?{more}")
    }

    /// The folder of the socket.
    pub fn socket(&self) -> &Path {
        &self.folder
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.to_string_lossy().replace('/', "%2F");
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("postgres://postgres:secret@localhost{port}/{database}?host={folder}")
    }

    fn target(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(self.port.unwrap_or(5432))
            .username("postgres")
            .password("secret")
            .database(database)
            .disable_statement_logging()
    }

    /// A connection beside the store, to look and to interfere.
    ///
    /// # Panics
    /// When there is none.
    pub async fn connect(&self, database: &str) -> PgConnection {
        let connection = self.target(database).connect().await;
        connection.expect("a connection")
    }

    /// Runs statements in a database.
    ///
    /// # Panics
    /// When one fails.
    pub async fn run(&self, database: &str, sql: &str) {
        let mut connection = self.connect(database).await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .expect("runs");
        let _ = connection.close().await;
    }

    /// A connection for whoever asks in SQL and wants JSON.
    ///
    /// # Errors
    /// What the server, or the lack of one, says.
    pub async fn look(&self, database: &str) -> Result<Looker, String> {
        let connection = self.target(database).connect().await;
        connection.map(Looker).map_err(|error| error.to_string())
    }

    /// The server's socket, for what forwards to it.
    pub fn socket_file(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// The one number that a query answers.
    ///
    /// # Panics
    /// When it answers anything else.
    pub async fn number(&self, database: &str, sql: &str) -> i64 {
        let mut connection = self.connect(database).await;
        let number = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .expect("a number");
        let _ = connection.close().await;
        number
    }

    /// Runs statements in a transaction that lasts, with its locks, as long as what this returns.
    ///
    /// # Panics
    /// When one fails.
    pub async fn hold(&self, database: &str, sql: &str) -> PgConnection {
        let mut connection = self.connect(database).await;
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {sql}")))
            .execute(&mut connection)
            .await
            .expect("runs");
        connection
    }

    /// Creates an empty database; its name.
    ///
    /// # Panics
    /// When it cannot be created.
    pub async fn database(&self) -> String {
        self.copy_of("template0").await
    }

    /// Creates a database that is a copy of another one nobody uses; its name.
    ///
    /// # Panics
    /// When it cannot be created.
    pub async fn copy_of(&self, template: &str) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {template}"),
        )
        .await;
        name
    }

    /// Removes a database, whoever uses it.
    ///
    /// # Panics
    /// When it cannot be removed.
    pub async fn drop_database(&self, name: &str) {
        self.run("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"))
            .await;
    }

    /// Stops the server: `fast` ends the sessions, `immediate` is a crash.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&self, mode: &str) {
        self.control(&["-m", mode, "stop"]);
    }

    /// Starts the server again as it was.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&self) {
        let log = self.folder.join("server.log");
        let log = log.to_string_lossy();
        self.control(&["-l", &log, "-o", &self.options, "start"]);
    }

    fn control(&self, arguments: &[&str]) {
        let done = command(&self.bin.join("pg_ctl").to_string_lossy())
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-w", "-t", "60"])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "pg_ctl {arguments:?}"
        );
    }
}

/// Ends what [`Cluster::hold`] began. Only after the server said so are its locks gone: closing a connection does not
/// wait for that.
///
/// # Panics
/// When the connection is gone.
pub async fn let_go(mut connection: PgConnection) {
    let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut connection).await;
    rollback.expect("rolls back");
    connection.close().await.expect("closes");
}
