//! The child: limits itself before it reads a byte, does one job, and ends.

use super::protocol::{self, Described, Job, Kind};
use super::steps;
use crate::cpu;
use crate::intake;
use crate::schema;
use nix::sys::resource::{Resource, setrlimit};
use std::io::{self, Stdin, Stdout, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Writable memory; not address space, which engines reserve and do not use.
const DATA_BYTES: u64 = 3 << 30;
const CPU_SECONDS: u64 = 180;
const OPEN_FILES: u64 = 32;
/// How much it gives way to the host, as much as runs do: a schema is checked while somebody waits.
const NICENESS: i32 = 10;
/// How much more it gives way, to runs too, while it compiles: a large component takes every core there is.
const COMPILING: i32 = 5;
/// Largest file: `describe` runs from a memory image, which counts as one.
const FILE_BYTES: u64 = 64 << 20;
/// CPU time for checking documents against a schema.
const SCHEMA_CPU: Duration = Duration::from_millis(200);
/// Exit code of a child that used up [`SCHEMA_CPU`].
pub(super) const EXIT_SCHEMA_CPU: u8 = 9;

/// The whole life of the compile worker: the program in [`crate::WorkerCommand`] calls this first thing
/// and ends with the answer.
pub fn worker_main() -> ExitCode {
    match limit_self().and_then(|()| serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent reads the tail of stderr when frames stop early.
            let _ = writeln!(io::stderr(), "compile worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn limit_self() -> io::Result<()> {
    // A host that is killed takes its children with it.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let limits = [
        (Resource::RLIMIT_DATA, DATA_BYTES),
        (Resource::RLIMIT_CPU, CPU_SECONDS),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_FSIZE, FILE_BYTES),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, most) in limits {
        // Lower limits that were inherited stay.
        let inherited = nix::sys::resource::getrlimit(resource)?.1;
        let most = most.min(inherited);
        setrlimit(resource, most, most)?;
    }
    give_way(NICENESS);
    Ok(())
}

fn give_way(by: i32) {
    // SAFETY: it takes a number and touches no memory of ours.
    #[allow(unsafe_code)]
    unsafe {
        libc::nice(by);
    }
}

fn serve() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin(), io::stdout());
    let job = match protocol::read(&mut input)? {
        (Kind::Job, bytes) => serde_json::from_slice(&bytes)?,
        (kind, _) => return Err(io::Error::other(format!("expected a job, got {kind:?}"))),
    };
    match job {
        Job::Component { profile, describe } => {
            let bytes = expect(&mut input, Kind::Bytes)?;
            component(&mut input, &mut output, profile, describe, &bytes)
        }
        Job::Schema { schema, documents } => {
            watch_cpu()?;
            let verdict = schema::check_unweighed(&schema, &documents);
            reply(&mut output, Kind::Verdict, &verdict)
        }
    }
}

fn component(
    input: &mut Stdin,
    output: &mut Stdout,
    profile: crate::engine::CodeProfile,
    describe: bool,
    bytes: &[u8],
) -> io::Result<()> {
    let accepted = match intake::check(bytes) {
        Ok(accepted) => accepted,
        Err(refusal) => return protocol::write(output, Kind::Refused, refusal.as_bytes()),
    };
    reply(output, Kind::Checked, &accepted.inspection)?;
    expect(input, Kind::Go)?;
    let describes = describe && intake::exports_describe(&accepted.inspection.exports);
    // Before the first thread that compiles is made, which inherits it.
    give_way(COMPILING);
    let done = steps::compiler(profile).and_then(|engine| {
        let artifact = steps::compile(&engine, &accepted.component)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let described = runtime.block_on(steps::describe(&engine, &artifact, describes))?;
        Ok((artifact, described))
    });
    match done {
        Ok((artifact, described)) => {
            protocol::write(output, Kind::Artifact, &artifact)?;
            reply(output, Kind::Described, &Described(described))
        }
        Err(failure) => protocol::write(output, Kind::Failed, failure.as_bytes()),
    }
}

fn expect(input: &mut Stdin, kind: Kind) -> io::Result<Vec<u8>> {
    match protocol::read(input)? {
        (found, bytes) if found == kind => Ok(bytes),
        (found, _) => Err(io::Error::other(format!(
            "expected {kind:?}, got {found:?}"
        ))),
    }
}

fn reply(output: &mut Stdout, kind: Kind, value: &impl serde::Serialize) -> io::Result<()> {
    protocol::write(output, kind, &serde_json::to_vec(value)?)
}

/// Ends the process once it has used its CPU time: nothing in a validator can be asked to stop.
fn watch_cpu() -> io::Result<()> {
    let allowed = cpu::process_time() + SCHEMA_CPU;
    std::thread::Builder::new()
        .name("cpu-watch".to_owned())
        .spawn(move || {
            while cpu::process_time() < allowed {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            std::process::exit(i32::from(EXIT_SCHEMA_CPU));
        })
        .map(|_| ())
}
