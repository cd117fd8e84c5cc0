//! What a process uses, as the kernel counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A reading of `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Time on a processor since its start.
    pub processor: Duration,
}

impl Usage {
    /// Reads what the process `pid` uses; `None` if there is none, or it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let figure = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        // proc_pid_stat(5): fields are counted from 1, and the second, in brackets, may contain anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(14 - 3);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let (user, system) = (ticks()?, ticks()?);
        Some(Self {
            memory_bytes: figure("VmRSS:")? << 10,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            threads: figure("Threads:")?,
            processor: Duration::from_millis(
                (user + system) * 1_000 / rustix::param::clock_ticks_per_second(),
            ),
        })
    }
}

/// Whether all threads of the process `pid` are stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    // One that ends meanwhile does nothing any more.
    threads(pid).all(|thread| {
        let stat = fs::read_to_string(thread.join("stat"));
        stat.map_or(true, |stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")))
    })
}

/// Whether a thread of that name is in the process `pid` now.
pub(crate) fn has_thread(pid: u32, name: &str) -> bool {
    // One that ends meanwhile has no name any more.
    let mut names = threads(pid).filter_map(|thread| fs::read_to_string(thread.join("comm")).ok());
    names.any(|known| known.trim_end() == name)
}

/// Where the kernel tells of the threads of the process `pid`; none if there is no such process.
fn threads(pid: u32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}
