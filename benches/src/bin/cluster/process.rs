//! Processes that a run starts, and stops again.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A child of ours; killed, by its id, when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: std::path::PathBuf,
}

impl Process {
    /// Starts it without input; what it says goes to `NAME.log` in `folder`.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).current_dir(folder);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({command:?})"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log, if it has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().with_context(|| format!("cannot watch {}", self.name))? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(5).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            bail!("{} has ended ({status}); the end of its log:\n{}", self.name, end.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something that was stopped, and goes on when this is dropped.
#[derive(Debug)]
pub(crate) enum Stopped {
    Process(Pid),
    /// Threads that go on when this is true.
    Threads(Arc<AtomicBool>),
}

impl Stopped {
    pub(crate) fn process(process: &Process) -> Result<Self> {
        let pid = Pid::from_raw(process.id() as i32).context("a process without an id")?;
        kill_process(pid, Signal::STOP).with_context(|| format!("cannot stop {}", process.name))?;
        Ok(Self::Process(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        match self {
            // An error says that it is gone.
            Self::Process(pid) => _ = kill_process(*pid, Signal::CONT),
            Self::Threads(go_on) => go_on.store(true, Ordering::Relaxed),
        }
    }
}

/// A program of Debian, or how to get it.
pub(crate) fn require(program: &str, package: &str) -> Result<Command> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    match found {
        Some(file) => Ok(Command::new(file)),
        None => bail!("{program} is not installed; to compare with it: apt-get install {package}"),
    }
}

/// A port of the loopback that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port of the loopback is free")?;
    Ok(listener.local_addr().context("a listener without an address")?.port())
}
