//! A server of ours: the real binary in a data directory of its own.

use super::shell::{self, Output};
use super::{items, plugin, text, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;
use tempfile::TempDir;
use ureq::tls::TlsConfig;

/// How a server is started.
#[derive(Debug, Default)]
pub(crate) struct HostBuilder {
    listen: Option<String>,
    flags: Vec<String>,
    settings: Vec<(String, String)>,
}

impl HostBuilder {
    /// A flag of `serve`.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Another address than loopback.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// A setting, by its variable.
    pub(crate) fn setting(mut self, key: &str, value: &str) -> Self {
        let name = format!("HORARIUM__{}", key.replace('.', "__").to_uppercase());
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(self) -> Host {
        let mut host = Host {
            directory: tempfile::tempdir().expect("a temporary directory"),
            builder: self,
            child: None,
            url: String::new(),
            token: String::new(),
            agent: ureq::Agent::config_builder()
                // Certificates of the tests are made out for names, not for 127.0.0.1.
                .tls_config(TlsConfig::builder().disable_verification(true).build())
                .http_status_as_error(false)
                .max_redirects(0)
                .timeout_global(Some(Duration::from_secs(60)))
                .build()
                .into(),
        };
        host.start_again();
        host
    }
}

/// A server. Dropping it ends it.
pub(crate) struct Host {
    directory: TempDir,
    builder: HostBuilder,
    child: Option<Child>,
    url: String,
    token: String,
    agent: ureq::Agent,
}

/// What REST answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) etag: Option<String>,
    pub(crate) body: String,
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: no JSON in {self:#?}"))
    }

    /// Fails unless it has this status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// The problem document, its shape checked.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.content_type, "application/problem+json", "{self:#?}");
        let problem = self.json();
        super::has_keys(&problem, "type title status detail errors request_id");
        assert_eq!(problem["status"], self.status);
        problem
    }
}

impl Host {
    /// With the defaults.
    pub(crate) fn start() -> Self {
        HostBuilder::default().start()
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its database.
    pub(crate) fn database(&self) -> PathBuf {
        self.data_dir().join("horarium.db")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Starts it (again) on the same data directory and waits until it is ready.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let server_file = self.data_dir().join("server.json");
        // One that was killed leaves its file.
        let _ = std::fs::remove_file(&server_file);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log");
        let child = shell::binary()
            .args(["serve", "--listen"])
            .arg(self.builder.listen.as_deref().unwrap_or("127.0.0.1:0"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.builder.flags)
            .envs(self.builder.settings.iter().cloned())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
        let known: Value = until("server.json", || {
            self.check_alive();
            serde_json::from_slice(&std::fs::read(&server_file).ok()?).ok()
        });
        text(&known, "url").clone_into(&mut self.url);
        let token = std::fs::read_to_string(self.data_dir().join("admin-token")).expect("a token");
        token.trim().clone_into(&mut self.token);
        until("readiness", || {
            (self.get("/readyz").status == 200).then_some(())
        });
    }

    /// Lets it start on another database from now on.
    pub(crate) fn move_to(&mut self, database_url: &str) {
        let flag = ["--database-url", database_url].map(str::to_owned);
        self.builder.flags.extend(flag);
    }

    fn check_alive(&mut self) {
        let status = self
            .child
            .as_mut()
            .and_then(|child| child.try_wait().expect("asked"));
        if let Some(status) = status {
            self.child = None;
            panic!(
                "the server ended by itself ({status}):\n{}",
                self.last_words()
            );
        }
    }

    /// What it logged.
    pub(crate) fn last_words(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it can be signalled");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.take().expect("it runs").wait().expect("it ends");
    }

    /// Asks it to end with SIGTERM, waits for that, and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("it runs");
        until("end of the server", || child.try_wait().expect("asked")).code()
    }

    /// Runs `horarium LINE` on the server's machine.
    pub(crate) fn cli(&self, line: &str) -> Output {
        shell::horarium_in(&self.data_dir(), line)
    }

    /// Runs `horarium LINE --json`, which must end with 0, and returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Value {
        self.cli(&format!("{line} --json")).exits(0).json()
    }

    /// Registers a plugin of `target/plugins/` under the last part of its name.
    #[track_caller]
    pub(crate) fn register(&self, name: &str, flags: &str) -> Value {
        let file = plugin(name);
        let task_type = name.rsplit('/').next().unwrap_or(name);
        self.run(&format!(
            "plugin register {task_type} '{}' {flags}",
            file.display()
        ))
    }

    /// Creates a task and returns its id.
    #[track_caller]
    pub(crate) fn create(&self, flags: &str) -> i64 {
        let task = self.run(&format!("task create {flags}"));
        task["id"].as_i64().expect("an id")
    }

    /// Triggers a task and returns the new execution's `task_id`.
    #[track_caller]
    pub(crate) fn trigger(&self, task: i64) -> String {
        let reply = self
            .post(&format!("/v1/tasks/{task}/trigger"), &json!({}))
            .is(202);
        text(&reply.json(), "task_id").to_owned()
    }

    /// An execution as it stands.
    #[track_caller]
    pub(crate) fn execution(&self, task_id: &str) -> Value {
        self.get(&format!("/v1/executions/{task_id}"))
            .is(200)
            .json()
    }

    /// Waits until an execution is in a state.
    #[track_caller]
    pub(crate) fn reaches(&self, task_id: &str, state: &str) -> Value {
        until(&format!("{state} {task_id}"), || {
            Some(self.execution(task_id)).filter(|e| e["state"] == state)
        })
    }

    /// Waits until an execution has ended.
    #[track_caller]
    pub(crate) fn ended(&self, task_id: &str) -> Value {
        until(&format!("end of {task_id}"), || {
            let execution = self.execution(task_id);
            let ended = ["succeeded", "failed", "cancelled"].contains(&text(&execution, "state"));
            ended.then_some(execution)
        })
    }

    /// Creates a manual task, runs it once and returns the ended execution.
    #[track_caller]
    pub(crate) fn run_once(&self, flags: &str) -> Value {
        let task = self.create(&format!("--name once {flags}"));
        self.ended(&self.trigger(task))
    }

    /// The attempts of an execution.
    #[track_caller]
    pub(crate) fn attempts(&self, task_id: &str) -> Vec<Value> {
        items(
            &self
                .get(&format!("/v1/executions/{task_id}/attempts"))
                .is(200)
                .json(),
        )
    }

    /// The kept log lines of an execution, at most 1000.
    #[track_caller]
    pub(crate) fn logs(&self, task_id: &str) -> Vec<Value> {
        items(&self.run(&format!("execution logs {task_id} --limit 1000")))
    }

    /// Up to 1000 executions that fit a query string, newest first.
    #[track_caller]
    pub(crate) fn executions(&self, query: &str) -> Vec<Value> {
        items(
            &self
                .get(&format!("/v1/executions?limit=1000&{query}"))
                .is(200)
                .json(),
        )
    }

    /// GET with the admin token.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// POST of JSON with the admin token.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Any request with the admin token.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend(headers);
        self.send_bare(method, path, &all, body)
    }

    /// Any request, with no token unless a header brings one.
    pub(crate) fn send_bare(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.agent.run(request.body(body).expect("a request"));
        let mut answer = answer.unwrap_or_else(|error| {
            panic!("{method} {path}: {error}\n{}", self.last_words());
        });
        let header = |name: &str| {
            let value = answer.headers().get(name)?;
            Some(value.to_str().expect("a text").to_owned())
        };
        Reply {
            status: answer.status().as_u16(),
            content_type: header("content-type").unwrap_or_default(),
            etag: header("etag"),
            body: answer.body_mut().read_to_string().expect("a text"),
        }
    }

    /// The token in its data directory.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.last_words());
        }
    }
}
