//! Guests of the simulator: each attempt takes a seeded time and ends in a seeded way. What really ran is
//! kept, so that the checks can hold it against what was recorded.

use super::clock::SimClock;
use super::gate::Gate;
use super::rules::Rules;
use super::world::SHAKY;
use crate::clock::Clock;
use crate::control::{RunControl, StopReason};
use crate::runner::{Attempt, AttemptEnd, ComponentSource, Failure, Outcome, Runner};
use horarium_model::task_type::PluginVersion;
use horarium_model::{ConfigId, ErrorKind, Invalid, TaskId, TenantId, Usage};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// One attempt that a guest really ran.
#[derive(Debug, Clone)]
pub struct GuestRun {
    /// Its execution.
    pub task_id: TaskId,
    /// Its config.
    pub config_id: Option<ConfigId>,
    /// The attempt it was told.
    pub attempt: u32,
}

/// The guests of one host process.
pub struct SimRunner {
    /// Seeds what becomes of them.
    pub(super) seed: u64,
    /// The longest an attempt takes.
    pub(super) longest: Duration,
    /// How long parameters are looked at.
    pub(super) checking: Duration,
    /// Marks the process's end.
    pub(super) dead: CancellationToken,
    /// Number of the process.
    pub(super) host: u64,
    /// Keeps it from going on.
    pub(super) gate: Arc<Gate>,
    /// What really happens.
    pub(super) diary: Arc<Mutex<Diary>>,
    /// What bounds them.
    pub(super) rules: Arc<Mutex<Rules>>,
    /// When shaky ones fail.
    pub(super) clock: Arc<SimClock>,
}

/// Whose guests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A host process's.
    Host(u64),
    /// A tenant's.
    Tenant(TenantId),
    /// A tenant's of a type.
    Type(TenantId, String),
    /// A config's.
    Config(ConfigId),
    /// A config's with a value at its key.
    Key(ConfigId, String),
}

/// What guests did over all host processes.
#[derive(Debug, Default)]
pub struct Diary {
    /// Every attempt that was started.
    pub runs: Vec<GuestRun>,
    /// Running now: scopes and host process of each seat.
    live: HashMap<u64, (Vec<Scope>, u64)>,
    /// Highest number that ran at once.
    pub peak: HashMap<Scope, u32>,
}

/// Shaky plugins fail for so long, then work for so long.
const SHAKES_FOR: Duration = Duration::from_secs(1200);

impl SimRunner {
    /// Whether shaky plugins fail now.
    fn shakes(&self) -> bool {
        let spell = self.clock.monotonic().as_secs() / SHAKES_FOR.as_secs();
        (spell + self.seed / 4).is_multiple_of(2)
    }

    fn scopes(&self, attempt: &Attempt) -> Vec<Scope> {
        let (tenant, task_type) = (attempt.tenant_id, attempt.version.task_type.clone());
        let mut scopes = vec![
            Scope::Host(self.host),
            Scope::Tenant(tenant),
            Scope::Type(tenant, task_type),
        ];
        if let Some(config) = attempt.config_id {
            let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            let parameters = serde_json::from_str(&attempt.parameters).unwrap_or_default();
            scopes.push(Scope::Config(config));
            scopes.push(Scope::Key(config, rules.key_of(config, &parameters)));
        }
        scopes
    }

    fn end(rng: &mut SmallRng) -> AttemptEnd {
        match rng.random_range(0..20) {
            0..=11 => AttemptEnd::Succeeded("null".into()),
            12..=15 => AttemptEnd::Failed(Failure::new(ErrorKind::Retryable, "try again")),
            16 => AttemptEnd::Failed(Failure::new(ErrorKind::Trap, "unreachable")),
            17 => AttemptEnd::Failed(Failure::new(ErrorKind::Permanent, "never")),
            18 => AttemptEnd::NoMemory("no memory".into()),
            _ => AttemptEnd::Failed(Failure {
                not_before: Some(Duration::from_secs(rng.random_range(1..600))),
                ..Failure::new(ErrorKind::Retryable, "later")
            }),
        }
    }
}

#[async_trait::async_trait]
impl Runner for SimRunner {
    async fn prepare(
        &self,
        _version: &PluginVersion,
        _bytes: ComponentSource,
    ) -> Result<(), String> {
        Ok(())
    }

    async fn check_parameters(
        &self,
        _version: &PluginVersion,
        parameters: Value,
    ) -> Result<Value, Invalid> {
        if !self.checking.is_zero() {
            tokio::time::sleep(self.checking).await;
        }
        Ok(parameters)
    }

    async fn run(&self, attempt: Attempt, control: Arc<RunControl>) -> Outcome {
        let (seat, runs) = Seat::take(&self.diary, &attempt, self.scopes(&attempt), self.host);
        let (high, low) = attempt.task_id.as_u64_pair();
        // By the number of runs, not the attempt: what was handed back must not be handed back for ever.
        let mut rng = SmallRng::seed_from_u64(self.seed ^ high ^ low.rotate_left(17) ^ runs);
        let span = self.longest.mul_f64(rng.random::<f64>().powi(3));
        let end = tokio::select! {
            biased;
            // A killed process neither answers nor goes on.
            () = self.dead.cancelled() => {
                drop(seat);
                std::future::pending().await
            }
            reason = control.stopped() => AttemptEnd::Stopped(reason),
            () = tokio::time::sleep(span.min(attempt.timeout)) => {
                self.gate.pass().await;
                if span > attempt.timeout {
                    AttemptEnd::Stopped(StopReason::Timeout)
                } else if attempt.version.task_type == SHAKY && self.shakes() {
                    AttemptEnd::Failed(Failure::new(ErrorKind::Trap, "unreachable"))
                } else {
                    Self::end(&mut rng)
                }
            }
        };
        Outcome {
            end,
            usage: Usage::default(),
            state: None,
        }
    }
}

impl Diary {
    /// A host process was stopped: what it ran does not run any more, and when it goes on it ends soon.
    pub fn write_off(&mut self, host: u64) {
        self.live.retain(|_, (_, of)| *of != host);
    }
}

/// Counts a running guest for as long as it lives.
struct Seat {
    diary: Arc<Mutex<Diary>>,
    number: u64,
}

impl Seat {
    /// The seat, and how many attempts ran before.
    fn take(
        diary: &Arc<Mutex<Diary>>,
        attempt: &Attempt,
        scopes: Vec<Scope>,
        host: u64,
    ) -> (Self, u64) {
        let mut open = diary.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.runs.len() as u64;
        open.runs.push(GuestRun {
            task_id: attempt.task_id,
            config_id: attempt.config_id,
            attempt: attempt.attempt,
        });
        for scope in &scopes {
            let beside = open.live.values().filter(|(of, _)| of.contains(scope));
            let now = u32::try_from(beside.count() + 1).unwrap_or(u32::MAX);
            let peak = open.peak.entry(scope.clone()).or_default();
            *peak = now.max(*peak);
        }
        open.live.insert(number, (scopes, host));
        drop(open);
        let diary = diary.clone();
        (Self { diary, number }, number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.diary.lock().unwrap_or_else(PoisonError::into_inner);
        open.live.remove(&self.number);
    }
}
