//! One plugin's endless loop is nobody else's business.

use crate::support::{HostBuilder, text, until};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[test]
fn an_endless_loop_is_stopped_while_eight_spin_and_the_server_answers() {
    let host = HostBuilder::default().flag("--slots", "16").start();
    host.register("hostile/spin", "");
    host.register("hello", "");
    let spinning = host.create(
        "--name Spinning --type spin --timeout 600 --limit fuel=1000000000000000 --max-retries 0",
    );
    let others: Vec<String> = (0..8).map(|_| host.trigger(spinning)).collect();
    for other in &others {
        host.reaches(other, "running");
    }

    let (done, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let reply = host.send_bare("GET", "/healthz", &[], b"");
                assert_eq!(reply.status, 200);
                answers.fetch_add(1, Ordering::AcqRel);
            }
        });
        let stopped = host.run_once("--type spin --timeout 1 --max-retries 0");
        // An ordinary task gets its turn between the loops.
        let greeted = host.run_once("--type hello");
        done.store(true, Ordering::Release);
        assert_eq!(
            (text(&stopped, "state"), text(&stopped, "error_kind")),
            ("failed", "timeout")
        );
        assert!(text(&stopped, "error_message").contains('1'), "{stopped:#}");
        let seconds = stopped["duration_seconds"].as_f64().expect("a number");
        // Generous: two cores that eight loops share.
        assert!((1.0..30.0).contains(&seconds), "stopped after {seconds} s");
        assert_eq!(greeted["state"], "succeeded", "{greeted:#}");
    });
    assert!(
        answers.load(Ordering::Acquire) >= 5,
        "{answers:?} answers in more than a second"
    );

    for other in &others {
        assert_eq!(
            host.execution(other)["state"],
            "running",
            "none of the eight was hit"
        );
        host.run(&format!("execution cancel {other}"));
    }
    until("end of the eight", || {
        host.executions("state=running").is_empty().then_some(())
    });
    for other in &others {
        assert_eq!(host.execution(other)["error_kind"], "cancelled");
    }
}
