//! What a process uses, as the kernel tells it: CPU time, memory, bytes written.

use super::BenchError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A mebibyte, for figures.
pub(super) const MIB: f64 = 1_048_576.0;

/// CPU time this process has used.
pub(super) fn cpu_time() -> Result<Duration, BenchError> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map(Duration::from).map_err(BenchError::failed)
}

/// CPU time another process of this user has used, to the nanosecond: `/proc` counts in hundredths of a second, which an
/// idle process needs many of.
#[cfg(target_os = "linux")]
pub(super) fn cpu_time_of(pid: u32) -> Result<Duration, BenchError> {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    let clock = nix::time::clock_getcpuclockid(pid).map_err(BenchError::failed)?;
    let time = clock_gettime(clock);
    time.map(Duration::from).map_err(BenchError::failed)
}

/// The same where the system does not say.
#[cfg(not(target_os = "linux"))]
pub(super) fn cpu_time_of(_pid: u32) -> Result<Duration, BenchError> {
    Err(BenchError::Failed(
        "CPU time of another process is known on Linux only".to_owned(),
    ))
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: u64,
    /// The most that was resident since the start, or since [`forget_peak`].
    pub(super) peak: u64,
}

impl Memory {
    /// Of this process.
    pub(super) fn own() -> Result<Self, BenchError> {
        Self::read("self")
    }

    /// Of another.
    pub(super) fn of(pid: u32) -> Result<Self, BenchError> {
        Self::read(&pid.to_string())
    }

    fn read(process: &str) -> Result<Self, BenchError> {
        let path = format!("/proc/{process}/status");
        let text = read(&path)?;
        let figure = |key: &str| line(&text, key).map(|kib| kib * 1024);
        match (figure("VmRSS:"), figure("VmHWM:")) {
            (Some(resident), Some(peak)) => Ok(Self { resident, peak }),
            _ => Err(BenchError::Failed(format!("{path} tells no memory"))),
        }
    }
}

/// Lets [`Memory::peak`] of this process begin anew. Where that is not allowed the peak stays the one since the start.
pub(super) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Bytes this process has handed to the kernel to write, wherever to.
pub(super) fn written() -> Result<u64, BenchError> {
    let path = "/proc/self/io";
    let told = line(&read(path)?, "wchar:");
    told.ok_or_else(|| BenchError::Failed(format!("{path} does not tell what was written")))
}

/// Makes room for so many open files at once, as far as this process may.
pub(super) fn open_files(wanted: u64) -> Result<(), BenchError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(BenchError::failed)?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        return Err(BenchError::Refused(format!(
            "{wanted} open files are wanted and {hard} allowed; raise it: ulimit -Hn {wanted}, or ask for fewer slots"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(BenchError::failed)
}

fn read(path: &str) -> Result<String, BenchError> {
    std::fs::read_to_string(path)
        .map_err(|error| BenchError::Failed(format!("{path}: {error}; this needs Linux")))
}

/// The number behind a key at the beginning of a line.
fn line(text: &str, key: &str) -> Option<u64> {
    let found = text.lines().find_map(|line| line.strip_prefix(key))?;
    found.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_is_told() {
        let before = (
            cpu_time().expect("a time"),
            cpu_time_of(std::process::id()).expect("a time"),
        );
        assert!(before.0 > Duration::ZERO && before.1 > Duration::ZERO);
        let block = vec![1_u8; 32 << 20];
        let memory = Memory::own().expect("memory");
        assert!(memory.resident >= block.len() as u64 && memory.peak >= memory.resident);
        assert_eq!(
            Memory::of(std::process::id())
                .map(|memory| memory.peak >= memory.resident)
                .ok(),
            Some(true)
        );
        let written_before = written().expect("bytes");
        let mut file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut file, &block).expect("written");
        assert!(written().expect("bytes") >= written_before + block.len() as u64);
        assert!(cpu_time().expect("a time") > before.0);
        open_files(16).expect("are allowed");
    }

    #[test]
    fn a_line_is_found_by_its_whole_key() {
        let text = "VmPeak:\t 9 kB\nVmRSS:\t  1234 kB\n";
        assert_eq!(line(text, "VmRSS:"), Some(1234));
        assert_eq!(line(text, "VmHWM:"), None);
    }
}
