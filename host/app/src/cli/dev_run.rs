//! `dev run`: one attempt of a component in the sandbox, without a server.

use super::dev::{Taken, take_in};
use super::execution_show::{log_line, said, usage};
use super::failure::{Exit, Failure, Outcome};
use super::plugin_register::ProgramInputArguments;
use super::render::{Paint, Style, pretty};
use super::secret::secret_value;
use super::{Global, now, print, values, words};
use clap::Args;
use horarium_core::control::{RunControl, StopReason};
use horarium_core::runner::{
    Attempt, AttemptEnd, COMMAND, Fixed, Given, Outcome as RunOutcome, Runner, StateSnapshot,
};
use horarium_core::scheduler::new_task_id;
use horarium_core::secrets::RunSecret;
use horarium_model::execution::LogLine;
use horarium_model::grant::{Grant, secret_name};
use horarium_model::input::Fields;
use horarium_model::limits::{DEFAULT_TIMEOUT_SECONDS, LimitOverrides};
use horarium_model::program::ProgramInput;
use horarium_model::task_type::{PluginVersion, VersionState};
use horarium_model::{DEFAULT_TENANT_ID, ErrorKind, Invalid, Limits, Problem, TaskId, Trigger};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Parameters, a JSON object, or @FILE (@- for standard input)
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    params: String,
    /// Allow it something, such as 'http GET https://example.com/api' or 'state'
    #[arg(long, value_name = "GRANT")]
    grant: Vec<String>,
    /// A setting it finds, as `plugin config set` would give it
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A secret that a grant names, its value from a file
    #[arg(long, value_name = "NAME=FILE")]
    secret: Vec<String>,
    /// The instant its clocks begin at, the same each time
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// Where its randomness begins, the same each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seconds it may take
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_SECONDS,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
    /// A limit of the run, such as fuel=1000000000 or memory_bytes=16MiB
    #[arg(long, value_name = "NAME=N", value_parser = values::limit)]
    limit: Vec<(String, u64)>,
    #[command(flatten)]
    input: ProgramInputArguments,
    /// Which attempt it shall think it is
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=101))]
    attempt: u32,
}

/// What an attempt gets, however it was said.
pub(crate) struct Case {
    pub(crate) parameters: Map<String, Value>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) given: Given,
    pub(crate) limits: LimitOverrides,
    pub(crate) input: ProgramInput,
    /// Seconds it may take.
    pub(crate) timeout: u32,
    pub(crate) attempt: u32,
}

impl Case {
    fn of(arguments: &Arguments) -> Result<Self, Failure> {
        let grants = grants(&arguments.grant)?;
        let limits = limits(&arguments.limit)?;
        let input = arguments.input.read()?;
        let parameters = values::object_argument("--params", &arguments.params)?;
        let given = given(arguments, &grants)?;
        Ok(Self {
            parameters,
            grants,
            given,
            limits,
            input,
            timeout: arguments.timeout,
            attempt: arguments.attempt,
        })
    }

    /// Networks its grants name. Whoever runs this decides what it may reach: there is no other operator here.
    pub(crate) fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.grants.iter().filter_map(|grant| match grant {
            Grant::Http(grant) => grant.via,
            _ => None,
        })
    }

    /// Runs it once; its document as the contract has it (design section 8), and its log with all fields.
    pub(crate) fn run(&self, taken: &Taken) -> Result<(Value, Vec<LogLine>), Failure> {
        if !self.input.is_default() && taken.inspection.kind != COMMAND {
            let detail =
                "--args-from, --env-from and --stdin-from are for WASI programs; this is a task";
            return Err(Failure::refused(detail));
        }
        let version = Arc::new(self.version(taken));
        let limits = self.limits.complete();
        let control = Arc::new(RunControl::new(limits.log_bytes, self.attempt));
        let (outcome, spent) = attempt(taken, &version, self, &control)?;
        let logs = control.log.lines_from(0);
        Ok((document(outcome, spent, &logs), logs))
    }

    /// The component as if it had been registered.
    fn version(&self, taken: &Taken) -> PluginVersion {
        PluginVersion {
            tenant_id: DEFAULT_TENANT_ID,
            task_type: "dev".to_owned(),
            digest: taken.inspection.digest.clone(),
            state: VersionState::Ready,
            error: None,
            size_bytes: taken.inspection.size_bytes,
            descriptor: taken.descriptor.clone(),
            grants: self.grants.clone(),
            limits: self.limits,
            input: self.input.clone(),
            activate: true,
            grant_asked: false,
            warnings: Vec::new(),
            created_at: now(),
        }
    }
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let case = Case::of(arguments)?;
    let taken = take_in(&arguments.file, case.networks().collect())?;
    let (body, logs) = case.run(&taken)?;
    report(global, &body, &logs, &case.limits.complete())
}

/// Grants as `--grant` takes them.
pub(crate) fn grants(texts: &[String]) -> Result<Vec<Grant>, Failure> {
    let mut problems = Vec::new();
    let mut grants = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(grant) => grants.push(grant),
            Err(detail) => problems.push(Problem::at(format!("/grants/{index}"), detail)),
        }
    }
    match problems.is_empty() {
        true => Ok(grants),
        false => Err(Invalid(problems).into()),
    }
}

/// What an operator would have given it, by flags.
fn given(arguments: &Arguments, grants: &[Grant]) -> Result<Given, Failure> {
    let mut config = BTreeMap::new();
    for text in &arguments.config {
        let (key, value) = pair("--config", text, "KEY=VALUE")?;
        config.insert(key.to_owned(), value.to_owned());
    }
    let mut secrets = Vec::new();
    for text in &arguments.secret {
        let (name, file) = pair("--secret", text, "NAME=FILE")?;
        secrets.push((name.to_owned(), values::read_file(Path::new(file))?));
    }
    let at = arguments.at.as_deref();
    let at = at.map(|text| values::instant(text, now())).transpose();
    Ok(Given {
        config: Arc::new(config),
        secrets: run_secrets(secrets, grants)?.into(),
        fixed: Fixed {
            at: at.map_err(|detail| Failure::refused(format!("--at: {detail}")))?,
            seed: arguments.seed,
        },
    })
}

/// Secrets with their values: each must be granted, and what is granted must have one.
pub(crate) fn run_secrets(
    values: Vec<(String, Vec<u8>)>,
    grants: &[Grant],
) -> Result<Vec<RunSecret>, Failure> {
    let mut secrets = Vec::new();
    for (name, value) in values {
        let name = secret_name(&name).map_err(Failure::refused)?;
        if !grants
            .iter()
            .any(|grant| grant.secret() == Some(name.as_str()))
        {
            return Err(Failure::refused(format!(
                "--secret {name}: no grant names it; add --grant 'secret {name} in header:NAME to ORIGIN' or --grant 'secret {name} reveal'"
            )));
        }
        let value = secret_value(&value)
            .map_err(|detail| Failure::refused(format!("--secret {name}: the value {detail}")))?;
        secrets.push(RunSecret { name, value });
    }
    let mut named = grants.iter().filter_map(Grant::secret);
    if let Some(name) = named.find(|name| secrets.iter().all(|s| s.name != **name)) {
        return Err(Failure::refused(format!(
            "the grant of the secret `{name}` needs its value: --secret {name}=FILE"
        )));
    }
    Ok(secrets)
}

fn pair<'t>(flag: &str, text: &'t str, like: &str) -> Result<(&'t str, &'t str), Failure> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Failure::refused(format!("{flag} takes {like}")))
}

/// A new id; the same each time for a run that is to be repeated.
fn task_id(fixed: Fixed) -> TaskId {
    let id = new_task_id(fixed.at.unwrap_or_else(now));
    match fixed.seed {
        None => id,
        Some(seed) => {
            let (high, _) = id.as_u64_pair();
            // The random part: 12 bits of the upper half, 62 of the lower one.
            let high = high & !0xfff | seed >> 52;
            TaskId::from_u64_pair(high, 1 << 63 | seed & !(3 << 62))
        }
    }
}

fn limits(pairs: &[(String, u64)]) -> Result<LimitOverrides, Failure> {
    let document: Map<String, Value> = pairs
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()))
        .collect();
    Ok(Fields::read(
        &Value::Object(document),
        "/limits",
        LimitOverrides::read,
    )?)
}

fn attempt(
    taken: &Taken,
    version: &Arc<PluginVersion>,
    case: &Case,
    control: &Arc<RunControl>,
) -> Result<(RunOutcome, Duration), Failure> {
    let sandbox = &taken.sandbox;
    let bytes = taken.bytes.clone();
    let source = move || -> futures_util::future::BoxFuture<'static, Result<Vec<u8>, String>> {
        let bytes = bytes.clone();
        Box::pin(async move { Ok(bytes) })
    };
    taken.runtime.block_on(async {
        let parameters = sandbox
            .check_parameters(version, case.parameters.clone().into())
            .await
            .map_err(|Invalid(problems)| {
                let under = |problem: Problem| Problem {
                    pointer: format!("/parameters{}", problem.pointer),
                    ..problem
                };
                Failure::from(Invalid(problems.into_iter().map(under).collect()))
            })?;
        sandbox
            .prepare(version, Arc::new(source))
            .await
            .map_err(Failure::refused)?;
        let attempt = Attempt {
            task_id: task_id(case.given.fixed),
            tenant_id: DEFAULT_TENANT_ID,
            config_id: None,
            task_name: "dev run".to_owned(),
            version: version.clone(),
            parameters: Arc::from(parameters.to_string()),
            attempt: case.attempt,
            max_attempts: case.attempt.max(1),
            slot: None,
            trigger: Trigger::Manual,
            parent_task_id: None,
            retry_of: None,
            trace: None,
            timeout: Duration::from_secs(case.timeout.into()),
            limits: version.limits.complete(),
            grants: version.grants.as_slice().into(),
            state: version.uses_state().then(StateSnapshot::default),
            given: case.given.clone(),
        };
        let stop = stop_on_interrupt(control.clone());
        let clock = horarium_core::clock::SystemClock::new();
        let outcome = sandbox.run(attempt, control.clone()).await;
        stop.abort();
        Ok((outcome, horarium_core::clock::Clock::monotonic(&clock)))
    })
}

/// Ctrl-C cancels the run, so that its logs are still shown.
fn stop_on_interrupt(control: Arc<RunControl>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            control.stop(StopReason::Cancel);
        }
    })
}

fn report(global: &Global, body: &Value, logs: &[LogLine], limits: &Limits) -> Outcome {
    if global.json {
        print(&format!("{body}\n"))?;
    } else {
        print_human(body, logs, limits)?;
    }
    Ok(match body["is_success"] == true {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

/// The document of the contract (design section 8).
fn document(outcome: RunOutcome, spent: Duration, logs: &[LogLine]) -> Value {
    let mut used = outcome.usage;
    used.duration_seconds = spent.as_secs_f64();
    let error = |kind: ErrorKind, message: &str, traceback: Option<String>| json!({"kind": kind, "message": message, "traceback": traceback});
    let (result, error) = match outcome.end {
        AttemptEnd::Succeeded(text) => (
            serde_json::from_str(&text).unwrap_or(Value::String(text.to_string())),
            Value::Null,
        ),
        AttemptEnd::Failed(failure) => (
            Value::Null,
            error(failure.kind, &failure.message, failure.traceback),
        ),
        AttemptEnd::Stopped(StopReason::Timeout) => (
            Value::Null,
            error(ErrorKind::Timeout, "stopped by timeout_seconds", None),
        ),
        AttemptEnd::Stopped(_) => (
            Value::Null,
            error(ErrorKind::Cancelled, "cancelled while it ran", None),
        ),
        AttemptEnd::HandedBack(reason) | AttemptEnd::NoMemory(reason) => {
            (Value::Null, error(ErrorKind::HostMemory, &reason, None))
        }
    };
    let logs: Vec<Value> = logs
        .iter()
        .map(|line| json!({"level": line.level, "message": line.message}))
        .collect();
    json!({
        "is_success": error.is_null(),
        "result": result,
        "error": error,
        "usage": used,
        "logs": logs,
    })
}

/// The result on stdout; everything about the run on stderr.
fn print_human(body: &Value, logs: &[LogLine], limits: &Limits) -> Result<(), Failure> {
    let style = Style::of_stderr();
    for line in logs {
        let line = serde_json::to_value(line).unwrap_or_default();
        eprintln!("{}", log_line(&line, style));
    }
    if body["error"].is_object() {
        let text = |key: &str| body["error"][key].as_str().unwrap_or_default();
        let head = said(text("kind"), text("message"));
        eprintln!("{}", style.paint(Paint::Bad, &head));
        let traceback = horarium_model::text::sanitize(text("traceback"), true);
        if !traceback.is_empty() {
            eprintln!("{}", traceback.trim_end());
        }
    } else {
        print(&format!("{}\n", pretty(&body["result"])))?;
    }
    let limits = serde_json::to_value(limits).unwrap_or_default();
    let used = usage(&body["usage"], &limits).replace('\n', ", ");
    let took = body["usage"]["duration_seconds"].as_f64();
    let took = took.map(words::span).unwrap_or_default();
    eprintln!(
        "{}",
        style.paint(Paint::Dim, &format!("took {took}, {used}"))
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_core::runner::Failure as RunFailure;
    use horarium_model::Usage;

    fn outcome(end: AttemptEnd) -> Value {
        let outcome = RunOutcome {
            end,
            usage: Usage::default(),
            state: None,
        };
        document(outcome, Duration::from_millis(1500), &[])
    }

    #[test]
    fn the_document_has_the_contracts_keys() {
        let body = outcome(AttemptEnd::Succeeded(Arc::from(r#"{"a":1}"#)));
        let keys: Vec<&String> = body
            .as_object()
            .map(|map| map.keys().collect())
            .unwrap_or_default();
        assert_eq!(keys, ["error", "is_success", "logs", "result", "usage"]);
        assert_eq!(
            (&body["result"], &body["error"]),
            (&json!({"a": 1}), &Value::Null)
        );
        assert_eq!(body["usage"]["duration_seconds"], 1.5);
    }

    #[test]
    fn every_end_but_a_result_is_an_error() {
        let failed = RunFailure::new(ErrorKind::Trap, "unreachable");
        for (end, kind) in [
            (AttemptEnd::Failed(failed), "trap"),
            (AttemptEnd::Stopped(StopReason::Timeout), "timeout"),
            (AttemptEnd::Stopped(StopReason::Cancel), "cancelled"),
            (AttemptEnd::NoMemory("no memory".into()), "host_memory"),
        ] {
            let body = outcome(end);
            assert_eq!(body["is_success"], false);
            assert_eq!(body["error"]["kind"], kind);
            assert!(body["error"].get("traceback").is_some());
        }
    }

    #[test]
    fn wrong_grants_and_limits_are_named() {
        let wrong = grants(&["state".into(), "http everything".into()]).expect_err("refused");
        assert!(wrong.render(false).contains("/grants/1"), "{wrong:?}");
        let wrong = limits(&[("fule".into(), 1)]).expect_err("refused");
        assert!(
            wrong.render(false).contains("did you mean `fuel`"),
            "{wrong:?}"
        );
    }
}
