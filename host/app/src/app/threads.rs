//! The two runtimes of a host.

use crate::settings::cores;
use std::io;
use tokio::runtime::{Builder, Runtime};

/// Threads of the control plane.
const CONTROL: usize = 2;
/// How much nicer (`nice(2)`) the threads of guests are than the rest of the process.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// The one of the control plane.
///
/// # Errors
/// When the system gives no threads.
pub fn control() -> io::Result<Runtime> {
    builder("control", CONTROL).build()
}

/// The one guests run on, with a thread a core. Its threads give way to all others: those run for microseconds
/// between waits, on work that the next guests wait for, and would wait for a turn of milliseconds each time.
///
/// # Errors
/// When the system gives no threads.
pub fn guests() -> io::Result<Runtime> {
    let mut builder = builder("guests", cores());
    // Elsewhere priorities are those of whole processes.
    #[cfg(target_os = "linux")]
    builder.on_thread_start(|| {
        if let Err(error) = rustix::process::nice(NICER) {
            tracing::debug!(%error, "guests run at the priority of the rest");
        }
    });
    builder.build()
}

fn builder(name: &str, threads: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .thread_name(name)
        .enable_all();
    builder
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn guests_give_way_to_the_control_plane() {
        let of = |runtime: io::Result<Runtime>| {
            let runtime = runtime.expect("threads");
            let priority = async { getpriority_process(None).expect("a priority") };
            runtime.block_on(runtime.spawn(priority)).expect("ends")
        };
        let own = getpriority_process(None).expect("a priority");
        assert_eq!(of(control()), own);
        assert_eq!(of(guests()), (own + NICER).min(19));
    }
}
