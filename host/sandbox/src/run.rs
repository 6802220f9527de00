//! One attempt: a fresh store under every limit, instantiated, called, dropped.

use crate::bindings::describer::DescriberPre;
use crate::bindings::plugin::horarium::task::types::TaskError;
use crate::capability;
use crate::capability::denial::Denials;
use crate::capability::program::Program;
use crate::capability::secrets::Placeholders;
use crate::capability::state::StateSession;
use crate::connector::Connector;
use crate::cpu;
use crate::data::RunData;
use crate::epoch::EpochThread;
use crate::limiter::Limiter;
use crate::loaded::{Entry, Loaded};
use horarium_core::clock::Clock;
use horarium_core::control::{RunControl, StopReason};
use horarium_core::memory::MemoryBudget;
use horarium_core::runner::Attempt;
use horarium_core::secrets::Redactor;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};

/// Fuel between two moments at which a running guest tells what it used; a fraction of a millisecond's work, so that it
/// has told of most of what it did when the clock stops it, however slow the machine.
const FUEL_TOLD_EVERY: u64 = 1_000_000;

/// What runs share.
pub(crate) struct Env {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<RunData>,
    pub(crate) epoch: EpochThread,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) host_version: Arc<str>,
}

/// What a guest's call came to.
pub(crate) enum Returned {
    /// `run` returned.
    Task(Result<String, TaskError>),
    /// `wasi:cli/run` returned.
    Command(Result<(), ()>),
}

/// An instance as it was before its guest ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    /// How long making it took.
    pub(crate) took: Duration,
    /// Memory it had.
    pub(crate) memory: u64,
}

impl Begun {
    fn of(data: &RunData, asked: Duration) -> Self {
        Self {
            took: data.clock.monotonic().saturating_sub(asked),
            memory: data.limiter.used(),
        }
    }
}

/// The end of a call, before it is classified.
pub(crate) struct Ended {
    /// None when the guest was dropped in the middle of a wait.
    pub(crate) returned: Option<wasmtime::Result<Returned>>,
    /// None when the failure came before there was an instance.
    pub(crate) begun: Option<Begun>,
    /// What it held until the end.
    pub(crate) data: RunData,
    pub(crate) fuel: u64,
    pub(crate) cpu: Duration,
}

impl Env {
    /// Runs one attempt to its end. `program` is what a WASI program is started with.
    pub(crate) async fn call(
        &self,
        loaded: &Loaded,
        program: Option<Program>,
        attempt: Attempt,
        control: Arc<RunControl>,
        redactor: Option<Arc<Redactor>>,
    ) -> Ended {
        let _running = self.epoch.running();
        let mut store = self.store(attempt, control, program);
        store.data_mut().redactor = redactor;
        let (parameters, control) = {
            let data = store.data();
            (data.attempt.parameters.to_string(), data.control.clone())
        };
        let deadline = store.data().deadline;
        let mut begun = None;
        let (returned, cpu) = {
            let call = enter(loaded, &mut store, &parameters, &mut begun);
            self.drive(call, control, deadline).await
        };
        let fuel = store.data().attempt.limits.fuel;
        let left = store.get_fuel().unwrap_or(0);
        Ended {
            returned,
            begun,
            fuel: fuel.saturating_sub(left),
            cpu,
            data: store.into_data(),
        }
    }

    /// Calls `describe`, with whatever the attempt's limits and grants are.
    pub(crate) async fn describe(
        &self,
        pre: &DescriberPre<RunData>,
        attempt: Attempt,
        control: Arc<RunControl>,
    ) -> (Option<wasmtime::Result<String>>, RunData) {
        let _running = self.epoch.running();
        let mut store = self.store(attempt, control.clone(), None);
        let deadline = store.data().deadline;
        let returned = {
            let call = async {
                let describer = pre.instantiate_async(&mut store).await?;
                let describe = describer.horarium_task_describe();
                describe.call_describe(&mut store).await
            };
            self.drive(call, control, deadline).await.0
        };
        (returned, store.into_data())
    }

    fn store(
        &self,
        attempt: Attempt,
        control: Arc<RunControl>,
        program: Option<Program>,
    ) -> Store<RunData> {
        let limits = attempt.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(size(limits.handles));
        let memory = control
            .take_memory()
            .unwrap_or_else(|| self.budget.nothing());
        let mut attempt = attempt;
        let state = attempt
            .state
            .take()
            .map(|snapshot| StateSession::new(snapshot, limits.state_bytes));
        let denials = Arc::new(Denials::new(control.clone(), self.clock.clone()));
        let placeholders = Placeholders::new(&attempt);
        let data = RunData {
            deadline: self.clock.monotonic() + attempt.timeout,
            attempt,
            control,
            clock: self.clock.clone(),
            limiter: Limiter::new(memory, &limits),
            connector: self.connector.clone(),
            denials,
            placeholders,
            redactor: None,
            host_version: self.host_version.clone(),
            program,
            state,
            table,
            wasi: None,
            stdio: None,
            http: None,
        };
        let mut store = Store::new(&self.engine, data);
        store.limiter(|data| &mut data.limiter);
        store.set_hostcall_fuel(size(limits.hostcall_bytes));
        store.set_max_component_handles(size(limits.handles));
        // Cannot fail: fuel is on in every engine made here; without it the run would have none.
        let _ = store.set_fuel(limits.fuel);
        // Guests count in a register and tell it when they yield: a run that is stopped by the clock is billed to
        // within so much.
        let _ = store.fuel_async_yield_interval(Some(FUEL_TOLD_EVERY));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(on_tick);
        store
    }

    /// Drives a call until it returns, or until it must stop and does not: then it is dropped in the
    /// middle of its wait. Measures CPU time around each poll.
    async fn drive<T>(
        &self,
        call: impl Future<Output = T>,
        control: Arc<RunControl>,
        deadline: Duration,
    ) -> (Option<T>, Duration) {
        let mut call = pin!(call);
        let mut cpu = Duration::ZERO;
        // Most calls return from the first poll; the watch is made for those that do not.
        let mut watch = None;
        let returned = poll_fn(|cx| {
            let mut poll = |cx: &mut std::task::Context<'_>| {
                let (polled, used) = cpu::measured(|| call.as_mut().poll(cx));
                cpu += used;
                polled
            };
            if let Poll::Ready(value) = poll(cx) {
                return Poll::Ready(Some(value));
            }
            let stop = watch.get_or_insert_with(|| {
                Box::pin(watch_stop(control.clone(), self.clock.clone(), deadline))
            });
            if stop.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // A guest that computes is interrupted in this poll, by a tick of its own, and leaves its backtrace: without
            // one it could give way once more, and be taken for one that waits. One that waits on the host stays pending
            // and is dropped.
            self.engine.increment_epoch();
            match poll(cx) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await;
        (returned, cpu)
    }
}

#[allow(clippy::ptr_arg, reason = "the generated call takes a `&String`")]
async fn enter(
    loaded: &Loaded,
    store: &mut Store<RunData>,
    parameters: &String,
    begun: &mut Option<Begun>,
) -> wasmtime::Result<Returned> {
    let asked = store.data().clock.monotonic();
    match &loaded.entry {
        Entry::Task(pre) => {
            let plugin = pre.instantiate_async(&mut *store).await?;
            *begun = Some(Begun::of(store.data(), asked));
            let run = plugin.horarium_task_run();
            run.call_run(store, parameters).await.map(Returned::Task)
        }
        Entry::Command(pre) => {
            let command = pre.instantiate_async(&mut *store).await?;
            *begun = Some(Begun::of(store.data(), asked));
            let run = command.wasi_cli_run();
            run.call_run(store).await.map(Returned::Command)
        }
    }
}

/// The reason to stop lives in the control, not in the trap: cancel, lost lease, shutdown and timeout
/// all come through here. Otherwise the run gives way to others once a tick.
fn on_tick(mut store: StoreContextMut<'_, RunData>) -> wasmtime::Result<UpdateDeadline> {
    let data = store.data_mut();
    capability::http_held::check_held(data)?;
    if data.control.stop_reason().is_none() && data.remaining_time().is_zero() {
        data.control.stop(StopReason::Timeout);
    }
    Ok(match data.control.stop_reason() {
        Some(_) => UpdateDeadline::Interrupt,
        None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
    })
}

/// Ends when the run must stop; a deadline that passes becomes the reason.
async fn watch_stop(control: Arc<RunControl>, clock: Arc<dyn Clock>, deadline: Duration) {
    let left = deadline.saturating_sub(clock.monotonic());
    tokio::select! {
        _ = control.stopped() => {}
        () = clock.sleep(left) => control.stop(StopReason::Timeout),
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
