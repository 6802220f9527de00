//! Program code that only the start needed is let go of.
//!
//! A start runs through a good part of a large program once (settings, migrations, the engine, the compiled
//! components), and the kernel maps what lies beside each page that was touched as well. Of the 43 MiB a host with 50
//! plugins had resident at rest, 26 were code, most of which did not run again.

use std::time::Duration;

/// By then what is registered is loaded, and what was due has run: at once, nearly all of it would be mapped again.
const SETTLED: Duration = Duration::from_secs(5);

/// Waits until the start is over, and lets go of what only it needed.
pub(super) async fn release_once_settled() {
    tokio::time::sleep(SETTLED).await;
    release();
}

/// Takes the pages of this program's code out of this process's memory. They stay in the kernel's page cache, and each
/// that runs again is mapped anew, with those beside it, in a microsecond.
#[cfg(target_os = "linux")]
fn release() {
    match linux::release() {
        Ok(Some(bytes)) => tracing::debug!(bytes, "code that only the start needed is let go of"),
        Ok(None) => tracing::debug!("where this program's code is mapped is not told"),
        Err(error) => tracing::debug!(%error, "code that only the start needed stays in memory"),
    }
}

/// Elsewhere the system does so when it needs the memory.
#[cfg(not(target_os = "linux"))]
fn release() {}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::mm::{Advice, madvise};
    use std::io;
    use std::ops::Range;

    /// How many bytes of code are mapped, where that is told.
    pub(super) fn release() -> io::Result<Option<usize>> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let Some(code) = code_around(&maps, release as *const () as usize) else {
            return Ok(None);
        };
        // SAFETY: these are whole pages of a file, mapped without leave to write: nothing of this process is in them,
        // and what is read there afterwards comes from the file again. The kernel lets nobody write to a program that
        // runs, and may drop such pages at any time by itself.
        #[allow(unsafe_code)]
        unsafe {
            madvise(
                std::ptr::with_exposed_provenance_mut(code.start),
                code.len(),
                Advice::LinuxDontNeed,
            )?;
        }
        Ok(Some(code.len()))
    }

    /// The mapping `address` lies in, of those in the form of `/proc/self/maps`, if it is code of a file that this
    /// process cannot write to.
    fn code_around(maps: &str, address: usize) -> Option<Range<usize>> {
        maps.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            let rights = fields.next()?;
            let inode = fields.nth(2)?;
            let range = start..end;
            (range.contains(&address) && rights == "r-xp" && inode != "0").then_some(range)
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const MAPS: &str = "\
55d0a0000000-55d0a1000000 r--p 00000000 fe:00 1001 /usr/bin/horarium
55d0a1000000-55d0a4000000 r-xp 01000000 fe:00 1001 /usr/bin/horarium (deleted)
55d0a4000000-55d0a4100000 rwxp 04000000 fe:00 1001 /usr/bin/horarium
7f0000000000-7f0000100000 r-xp 00000000 00:00 0
7f0000100000-7f0000200000 r-xp 00000000 fe:00 7 /usr/lib/libc.so.6
";

        #[test]
        fn only_code_of_a_file_that_cannot_be_written_to_is_let_go_of() {
            let found = |address| code_around(MAPS, address);
            assert_eq!(
                found(0x55d0_a1ff_ffff),
                Some(0x55d0_a100_0000..0x55d0_a400_0000)
            );
            assert_eq!(found(0x55d0_a0ff_ffff), None, "not code");
            assert_eq!(found(0x55d0_a400_0000), None, "may be written to");
            assert_eq!(found(0x7f00_0000_0010), None, "of no file");
            assert_eq!(found(0x1000), None, "not mapped");
            assert_eq!(code_around("what is this?\n\n55d0-\n", 0x55d0), None);
        }

        #[test]
        fn code_runs_again_after_it_was_let_go_of() {
            for _ in 0..3 {
                let bytes = release().expect("the kernel takes it");
                assert!(bytes.is_some_and(|bytes| bytes > 0), "{bytes:?}");
            }
        }
    }
}
