//! Processor time, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// A tick of `/proc/PID/stat`: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Time of all threads of a process, and of its children that have ended. To the nanosecond for the threads, see
/// proc_pid_schedstat in the kernel's documentation.
pub(crate) fn of_process(pid: u32) -> Result<Duration> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // proc_pid_stat(5): fields are counted from 1, and the second, in brackets, may contain anything.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(16 - 3));
    let children: u64 =
        fields.into_iter().flatten().take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(of_threads(&format!("/proc/{pid}/task"), "")? + TICK * children as u32)
}

/// Time of the threads of this process whose names begin so.
pub(crate) fn of_own_threads(prefix: &str) -> Result<Duration> {
    of_threads("/proc/self/task", prefix)
}

fn of_threads(tasks: &str, prefix: &str) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(tasks).with_context(|| format!("cannot read {tasks}"))? {
        let task = task.with_context(|| format!("cannot read {tasks}"))?.path();
        // A thread may end between two looks.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let Ok(times) = fs::read_to_string(task.join("schedstat")) else { continue };
        if name.starts_with(prefix) {
            nanos += times
                .split_whitespace()
                .next()
                .and_then(|nanos| nanos.parse::<u64>().ok())
                .unwrap_or_default();
        }
    }
    Ok(Duration::from_nanos(nanos))
}
