//! The two runtimes of a host.

use crate::settings::cores;
use std::io;
use tokio::runtime::{Builder, Runtime};

/// Threads of the control plane.
const CONTROL: usize = 2;
/// How much nicer (`nice(2)`) the threads of guests are than whoever starts them.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// The one of the control plane.
///
/// # Errors
/// When the system gives no threads.
pub fn control() -> io::Result<Runtime> {
    builder("control", CONTROL).build()
}

/// The one guests run on, with a thread a core. Its threads give way to those of the control plane: these run for
/// microseconds between waits, on work that the next guests wait for, and would wait for a turn of milliseconds each
/// time.
///
/// # Errors
/// When the system gives no threads.
pub fn guests() -> io::Result<Runtime> {
    let mut builder = builder("guests", cores());
    // Elsewhere priorities are those of whole processes.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // Not relative to what a thread inherits: those that block are started by those that run guests.
        let nice = (getpriority_process(None)? + NICER).min(19);
        builder.on_thread_start(move || {
            if let Err(error) = setpriority_process(None, nice) {
                tracing::debug!(%error, "guests run at the priority of the rest");
            }
        });
    }
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
        let nice = || getpriority_process(None).expect("a priority");
        let of = |runtime: io::Result<Runtime>| {
            let runtime = runtime.expect("threads");
            let both = async move {
                let blocking = tokio::task::spawn_blocking(nice);
                (nice(), blocking.await.expect("ends"))
            };
            runtime.block_on(runtime.spawn(both)).expect("ends")
        };
        let (own, nicer) = (nice(), (nice() + NICER).min(19));
        assert_eq!(of(control()), (own, own));
        assert_eq!(of(guests()), (nicer, nicer));
    }
}
