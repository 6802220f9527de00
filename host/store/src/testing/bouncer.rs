//! The real pgbouncer in transaction mode, in front of a throwaway server.

use super::{Cluster, command_as_server};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Any port: only its number in the socket's name is used.
const PORT: u16 = 6432;
/// Looks for the socket before giving up, and between two.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// A running pgbouncer, gone when this is dropped or when its process ends.
#[derive(Debug)]
pub struct Bouncer {
    child: Child,
    folder: PathBuf,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bouncer {
    /// Starts one with so few connections to the server that clients must share them.
    ///
    /// # Panics
    /// When pgbouncer is not installed or does not start.
    pub fn start(cluster: &Cluster) -> Self {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::fs::metadata(path).is_ok());
        let Some(program) = program else {
            panic!("no pgbouncer found: apt-get install pgbouncer");
        };
        let folder = cluster.socket().join("bouncer");
        std::fs::create_dir(&folder).expect("made");
        // It runs as the server's user, and puts its socket here.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("ours");
        let shown = folder.display();
        let settings = format!(
            "[databases]\n* = host={}\n[pgbouncer]\npool_mode = transaction\nunix_socket_dir = {shown}\n\
             unix_socket_mode = 0777\nlisten_addr =\nlisten_port = {PORT}\nauth_type = trust\n\
             auth_file = {shown}/users\ndefault_pool_size = 2\nmax_client_conn = 500\n",
            cluster.socket().display()
        );
        std::fs::write(folder.join("users"), "\"postgres\" \"secret\"\n").expect("written");
        std::fs::write(folder.join("settings"), settings).expect("written");
        let mut child = command_as_server(program)
            .arg("-q")
            .arg(folder.join("settings"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv can be run");
        let socket = folder.join(format!(".s.PGSQL.{PORT}"));
        let up = (0..LOOKS).any(|_| {
            std::thread::park_timeout(PAUSE);
            UnixStream::connect(&socket).is_ok()
        });
        if !up {
            let _ = child.kill();
            let _ = child.wait();
            panic!("pgbouncer did not start");
        }
        Self { child, folder }
    }

    /// The URL of a database of the server behind it.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres:secret@localhost:{PORT}/{database}?host={folder}")
    }
}
