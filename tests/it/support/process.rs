//! What the kernel says of a server's process.

use super::Host;
use std::fs;

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: u64,
    /// At most, since it started.
    pub(crate) peak: u64,
}

impl Host {
    /// Its memory.
    pub(crate) fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kilobytes =
                line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kilobytes.unwrap_or_else(|| panic!("no {key} in {status}")) << 10
        };
        Memory {
            resident: of("VmRSS:"),
            peak: of("VmHWM:"),
        }
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        entries(&format!("/proc/{}/fd", self.pid()))
    }

    /// Threads.
    pub(crate) fn threads(&self) -> usize {
        entries(&format!("/proc/{}/task", self.pid()))
    }

    /// Processes it started that are still there.
    pub(crate) fn children(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let children = tasks.flatten().map(|task| {
            // A thread may end meanwhile.
            fs::read_to_string(task.path().join("children")).unwrap_or_default()
        });
        children.map(|list| list.split_whitespace().count()).sum()
    }

    /// Files in its data directory, by path.
    pub(crate) fn files(&self) -> Vec<String> {
        let (mut found, mut left) = (Vec::new(), vec![self.data_dir()]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).expect("listed").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    found.push(path.display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).expect("it runs").count()
}
