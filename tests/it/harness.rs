//! A server process of its own for each test, and ways to ask it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(100);

/// Asks again until there is an answer. The only place that waits.
#[allow(clippy::disallowed_methods)] // real processes run on real time
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(25));
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A built guest, such as `hello` or `hostile/spin`.
#[track_caller]
pub(crate) fn guest(name: &str) -> PathBuf {
    let path = root().join(format!("target/plugins/{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask plugins` first",
        path.display()
    );
    path
}

/// What a verb came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The answer of a verb that succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.json()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// The problem of a verb that refused its input; `part` must be in it.
    #[track_caller]
    pub(crate) fn refused(&self, part: &str) {
        assert_eq!(self.code, Some(2), "{}{}", self.stdout, self.stderr);
        assert!(
            self.stderr.contains(part),
            "{part} is not named in {}",
            self.stderr
        );
    }
}

/// The binary, with nothing of this machine's environment that it reads.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_horarium"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HORARIUM") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs a verb to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().expect("runs");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A server on a data directory of its own, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    dir: TempDir,
    slots: usize,
    child: Child,
    url: String,
    token: String,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(slots: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let child = spawn(dir.path(), slots);
        let mut server = Self {
            dir,
            slots,
            child,
            url: String::new(),
            token: String::new(),
        };
        server.wait_ready();
        server
    }

    /// Starts it again on the same directory, after its end.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.dir(), self.slots);
        self.wait_ready();
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the server's end", || child.try_wait().expect("our child"))
    }

    fn wait_ready(&mut self) {
        let (pid, file) = (self.pid(), self.dir().join("server.json"));
        let log = self.dir().join("server.log");
        let child = &mut self.child;
        self.url = until("server.json", || {
            if let Some(status) = child.try_wait().expect("our child") {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the server ended with {status}: {log}");
            }
            let text = std::fs::read_to_string(&file).ok()?;
            let known: Value = serde_json::from_str(&text).ok()?;
            (known["pid"] == pid).then(|| known["url"].as_str().expect("a url").to_owned())
        });
        let token = std::fs::read_to_string(self.dir().join("admin-token")).expect("a token");
        self.token = token.trim().to_owned();
        until("/readyz", || {
            (self.raw("GET", "/readyz", &[], b"").0 == 200).then_some(())
        });
    }

    /// Runs a verb against this server.
    pub(crate) fn cli(&self, args: &[&str]) -> Outcome {
        run(binary()
            .args(args)
            .env("HORARIUM_URL", &self.url)
            .env("HORARIUM_TOKEN", &self.token))
    }

    /// Sends a request without a token of its own accord.
    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Value) {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .allow_non_standard_methods(true)
            .build()
            .into();
        let request = request.body(body).expect("a request");
        let Ok(mut answer) = agent.run(request) else {
            return (0, Value::Null);
        };
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Sends a JSON text with the admin's token.
    pub(crate) fn text(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        self.raw(method, path, &headers, body.as_bytes())
    }

    /// Sends JSON and expects success.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.text(method, path, &body.to_string());
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// Reads a resource.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.text("GET", path, "");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The items of a list.
    #[track_caller]
    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        let list = self.get(path);
        assert_eq!(list["next_cursor"], Value::Null, "{path} has more pages");
        list["items"].as_array().expect("items").clone()
    }

    /// Registers a guest under a type.
    #[track_caller]
    pub(crate) fn register(&self, task_type: &str, guest_name: &str) -> Value {
        let file = guest(guest_name);
        let file = file.to_str().expect("a path");
        self.cli(&[
            "plugin",
            "register",
            task_type,
            file,
            "--grant-asked",
            "--json",
        ])
        .ok()
    }

    /// Creates a manual task and answers its id.
    #[track_caller]
    pub(crate) fn task(&self, task: &Value) -> i64 {
        let mut task = task.clone();
        task["scheduler_type"] = json!("manual");
        self.send("POST", "/v1/tasks", &task)["id"]
            .as_i64()
            .expect("an id")
    }

    /// Triggers a task and answers the execution's `task_id`.
    #[track_caller]
    pub(crate) fn trigger(&self, task: i64) -> String {
        let answer = self.send("POST", &format!("/v1/tasks/{task}/trigger"), &json!({}));
        answer["task_id"].as_str().expect("a task_id").to_owned()
    }

    /// Waits until an execution ended and answers it.
    #[track_caller]
    pub(crate) fn end_of(&self, task_id: &str) -> Value {
        until("the execution's end", || {
            let execution = self.get(&format!("/v1/executions/{task_id}"));
            ended(&execution).then_some(execution)
        })
    }
}

/// Whether a state is one of the ends.
pub(crate) fn ended(execution: &Value) -> bool {
    ["succeeded", "failed", "cancelled", "skipped"].contains(&state(execution))
}

/// An execution's state.
pub(crate) fn state(execution: &Value) -> &str {
    execution["state"].as_str().expect("a state")
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, slots: usize) -> Child {
    let log = std::fs::File::create(dir.join("server.log")).expect("a log file");
    binary()
        .args(["serve", "--listen", "127.0.0.1:0", "--slots"])
        .arg(slots.to_string())
        .arg("--data-dir")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary starts")
}
