//! The host's side: starts children, feeds them, and believes nothing but well-formed frames.

use super::child::EXIT_SCHEMA_CPU;
use super::protocol::{self, CheckAnswer, Described, Job, Kind, Verdict};
use super::steps;
use crate::engine::CodeProfile;
use crate::intake;
use crate::settings::WorkerCommand;
use horarium_core::runner::Inspection;
use horarium_model::{Problem, text};
use serde::Serialize;
use serde_json::Value;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

/// Time for the checks, and for a schema.
const CHECK_TIME: Duration = Duration::from_secs(30);
const SCHEMA_TIME: Duration = Duration::from_secs(10);
/// Children that check at the same time, beside those that compile.
const CHECKS: usize = 4;

/// Starts workers.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    command: Option<WorkerCommand>,
    profile: CodeProfile,
    checks: Arc<Semaphore>,
    compiles: Arc<Semaphore>,
    compile_time: Duration,
}

/// A component that passed the checks; compiling it is still to do.
pub(crate) struct Pending(Stage);

enum Stage {
    Child {
        child: Box<Worker>,
        compiles: Arc<Semaphore>,
        compile_time: Duration,
    },
    Here {
        bytes: Vec<u8>,
        profile: CodeProfile,
        describe: bool,
    },
}

/// Compiled code and what `describe` answered.
pub(crate) struct Compiled {
    pub(crate) artifact: Vec<u8>,
    pub(crate) described: Option<Value>,
}

struct Worker {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Workers {
    pub(crate) fn new(
        command: Option<WorkerCommand>,
        profile: CodeProfile,
        compiles: usize,
        compile_time: Duration,
    ) -> Self {
        Self {
            command,
            profile,
            checks: Arc::new(Semaphore::new(CHECKS)),
            compiles: Arc::new(Semaphore::new(compiles.max(1))),
            compile_time,
        }
    }

    /// Checks a component.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) async fn check(
        &self,
        bytes: Vec<u8>,
        describe: bool,
    ) -> Result<(Inspection, Pending), String> {
        intake::check_size(bytes.len() as u64)?;
        let profile = self.profile;
        let Some(command) = &self.command else {
            let (bytes, inspection) = blocking(move || {
                let inspection = intake::check(&bytes)?.inspection;
                Ok((bytes, inspection))
            })
            .await?;
            return Ok((
                inspection,
                Pending(Stage::Here {
                    bytes,
                    profile,
                    describe,
                }),
            ));
        };
        let _permit = self
            .checks
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let mut worker = Worker::start(command).map_err(|error| not_started(command, &error))?;
        let checked = async {
            worker
                .send_job(&Job::Component { profile, describe })
                .await?;
            protocol::send(&mut worker.input, Kind::Bytes, &bytes).await?;
            worker.check_answer().await
        };
        let answer = match tokio::time::timeout(CHECK_TIME, checked).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) => return Err(worker.obituary("checking").await),
            Err(_) => {
                return Err(format!(
                    "checking the component took longer than {CHECK_TIME:?}"
                ));
            }
        };
        let compiles = self.compiles.clone();
        Ok((
            answer,
            Pending(Stage::Child {
                child: Box::new(worker),
                compiles,
                compile_time: self.compile_time,
            }),
        ))
    }

    /// Checks documents against a schema that cannot be weighed.
    ///
    /// # Errors
    /// Why the schema cannot be used.
    pub(crate) async fn check_schema(&self, schema: &Value, documents: Vec<Value>) -> Verdict {
        let refused = |detail: String| Problem::at("", detail);
        let Some(command) = &self.command else {
            return Err(refused(
                "the schema refers to itself or unfolds beyond 10000 nodes; it can only be checked by the compile worker, which is not set up here".to_owned(),
            ));
        };
        let _permit = self
            .checks
            .acquire()
            .await
            .map_err(|error| refused(error.to_string()))?;
        let mut worker =
            Worker::start(command).map_err(|error| refused(not_started(command, &error)))?;
        let job = Job::Schema {
            schema: schema.clone(),
            documents,
        };
        let exchange = async {
            worker.send_job(&job).await?;
            protocol::receive(&mut worker.output).await
        };
        match tokio::time::timeout(SCHEMA_TIME, exchange).await {
            Ok(Ok((Kind::Verdict, bytes))) => serde_json::from_slice(&bytes).map_err(|error| {
                refused(format!("the compile worker answered nonsense: {error}"))
            })?,
            Ok(Ok((kind, _))) => Err(refused(format!("the compile worker answered {kind:?}"))),
            Ok(Err(_)) => Err(refused(worker.obituary("checking the schema").await)),
            Err(_) => Err(refused(format!(
                "checking against the schema took longer than {SCHEMA_TIME:?}"
            ))),
        }
    }
}

impl Pending {
    /// Compiles and describes.
    ///
    /// # Errors
    /// A sentence on what failed.
    pub(crate) async fn finish(self) -> Result<Compiled, String> {
        let (mut worker, compiles, compile_time) = match self.0 {
            Stage::Child {
                child,
                compiles,
                compile_time,
            } => (child, compiles, compile_time),
            Stage::Here {
                bytes,
                profile,
                describe,
            } => return here(bytes, profile, describe).await,
        };
        let _permit = compiles
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        match tokio::time::timeout(compile_time, worker.compile()).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(worker.obituary("compiling").await),
            Err(_) => Err(format!(
                "compiling took longer than {compile_time:?} (engine.compile_timeout_seconds)"
            )),
        }
    }
}

impl Worker {
    fn start(command: &WorkerCommand) -> std::io::Result<Self> {
        let mut process = Command::new(&command.exe)
            .args(&command.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || std::io::Error::other("no pipe");
        let input = process.stdin.take().ok_or_else(missing)?;
        let output = process.stdout.take().ok_or_else(missing)?;
        Ok(Self {
            process,
            input,
            output,
        })
    }

    async fn send_job(&mut self, job: &(impl Serialize + Sync)) -> std::io::Result<()> {
        protocol::send(&mut self.input, Kind::Job, &serde_json::to_vec(job)?).await
    }

    async fn check_answer(&mut self) -> std::io::Result<CheckAnswer> {
        match protocol::receive(&mut self.output).await? {
            (Kind::Checked, bytes) => Ok(Ok(serde_json::from_slice(&bytes)?)),
            (Kind::Refused, bytes) => Ok(Err(sentence(&bytes))),
            (kind, _) => Err(std::io::Error::other(format!("unexpected {kind:?}"))),
        }
    }

    async fn compile(&mut self) -> std::io::Result<Result<Compiled, String>> {
        protocol::send(&mut self.input, Kind::Go, &[]).await?;
        let artifact = match protocol::receive(&mut self.output).await? {
            (Kind::Artifact, artifact) => artifact,
            (Kind::Failed, bytes) => return Ok(Err(sentence(&bytes))),
            (kind, _) => return Err(std::io::Error::other(format!("unexpected {kind:?}"))),
        };
        match protocol::receive(&mut self.output).await? {
            (Kind::Described, bytes) => {
                let Described(described) = serde_json::from_slice(&bytes)?;
                Ok(Ok(Compiled {
                    artifact,
                    described,
                }))
            }
            (kind, _) => Err(std::io::Error::other(format!("unexpected {kind:?}"))),
        }
    }

    /// Why the child stopped talking, in one sentence.
    async fn obituary(&mut self, doing: &str) -> String {
        use std::os::unix::process::ExitStatusExt;
        let end = tokio::time::timeout(Duration::from_secs(1), self.process.wait()).await;
        let Ok(Ok(status)) = end else {
            return format!("{doing} failed: the compile worker stopped answering");
        };
        if status.code() == Some(i32::from(EXIT_SCHEMA_CPU)) {
            return "checking against this schema takes more than 200 ms of CPU; make it flat (no recursion, at most 10000 nodes)".to_owned();
        }
        let mut said = String::new();
        if let Some(stderr) = &mut self.process.stderr {
            let mut limited = stderr.take(4 << 10);
            let _ = limited.read_to_string(&mut said).await;
        }
        let said = text::one_line(&said, 300);
        match status.signal() {
            Some(signal) if signal == nix::sys::signal::Signal::SIGXCPU as i32 => {
                format!("{doing} used up the CPU time of the compile worker")
            }
            Some(signal) if signal == nix::sys::signal::Signal::SIGABRT as i32 => format!(
                "{doing} needed more memory than the compile worker has, or crashed it{}{said}",
                if said.is_empty() { "" } else { ": " }
            ),
            Some(signal) => format!("{doing} failed: signal {signal} ended the compile worker"),
            None => format!("{doing} failed: the compile worker ended with {status}: {said}"),
        }
    }
}

/// The steps without a child.
async fn here(bytes: Vec<u8>, profile: CodeProfile, describe: bool) -> Result<Compiled, String> {
    let (engine, artifact, describes) = blocking(move || {
        let accepted = intake::check(&bytes)?;
        let engine = steps::compiler(profile)?;
        let artifact = steps::compile(&engine, &accepted.component)?;
        let describes = describe && intake::exports_describe(&accepted.inspection.exports);
        Ok((engine, artifact, describes))
    })
    .await?;
    let described = steps::describe(&engine, &artifact, describes).await?;
    Ok(Compiled {
        artifact,
        described,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(format!("the component crashed the check: {error}")))
}

fn sentence(bytes: &[u8]) -> String {
    text::one_line(&String::from_utf8_lossy(bytes), 1000)
}

fn not_started(command: &WorkerCommand, error: &std::io::Error) -> String {
    format!(
        "the compile worker {} does not start: {error}",
        command.exe.display()
    )
}
