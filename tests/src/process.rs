//! A child process whose output goes to a file and who never outlives its handle.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

use crate::usage::{has_thread, is_stopped};
use crate::{Usage, wait_for};

/// How long the threads of a process may take to be stopped: each stops when it is next on a processor.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How long the memory of zones may take to be touched.
const PREFAULT_LIMIT: Duration = Duration::from_secs(60);

/// The signals that nodes and servers of the tests understand.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// Graceful stop.
    Quit,
    /// Fast stop.
    Terminate,
    /// Fast stop, from the terminal.
    Interrupt,
    /// Reload.
    HangUp,
    /// Death without warning.
    Kill,
    /// Stopped, as by a debugger: it holds what it has and does nothing.
    Stop,
    /// Goes on after [`Signal::Stop`].
    Continue,
}

/// A running child. Dropping it kills it, by its id, and prints the end of its log if the test is failing.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` without input; standard output and standard error go to the file `log`, which is emptied.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::create(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let again = file.try_clone().expect("a second handle of the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), ended: None }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it uses, once the memory of its zones is touched, which counts as its from then on.
    ///
    /// # Panics
    /// If it has ended.
    pub fn usage(&self) -> Usage {
        wait_for("the memory of zones to be touched", PREFAULT_LIMIT, || {
            if has_thread(self.child.id(), "prefault") { Err("it is not yet".to_owned()) } else { Ok(()) }
        });
        self.try_usage().unwrap_or_else(|| panic!("{} has ended:\n{}", self.name, self.log_end()))
    }

    /// What it uses; `None` if it has ended.
    pub fn try_usage(&self) -> Option<Usage> {
        Usage::of(self.child.id())
    }

    /// Sends a signal. [`Signal::Stop`] has had its effect then.
    ///
    /// # Panics
    /// If the process has already ended: a test that signals a dead process has misunderstood something.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.status().is_none(), "{} has already ended:\n{}", self.name, self.log_end());
        let pid = Pid::from_child(&self.child);
        let number = match signal {
            Signal::Quit => rustix::process::Signal::QUIT,
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::HangUp => rustix::process::Signal::HUP,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
        };
        kill_process(pid, number).unwrap_or_else(|e| panic!("{signal:?} to {}: {e}", self.name));
        if matches!(signal, Signal::Stop) {
            let id = self.child.id();
            wait_for("the process to be stopped", STOP_LIMIT, || {
                if is_stopped(id) { Ok(()) } else { Err(format!("{} runs", self.name)) }
            });
        }
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it has not within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let log = self.log.clone();
        wait_for(&what, limit, || self.status().ok_or_else(|| format!("it runs; its log:\n{}", end_of(&log))))
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log, for messages.
    pub fn log_end(&self) -> String {
        end_of(&self.log)
    }

    /// Waits for a line of the log that satisfies `wanted`, and returns it.
    ///
    /// # Panics
    /// If there is none within `limit`: with `what` and the end of the log.
    pub fn wait_log(&mut self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let what = format!("a line in the log of {}: {what}", self.name);
        wait_for(&what, limit, || {
            let log = self.log();
            log.lines().find(|line| wanted(line)).map(str::to_owned).ok_or_else(|| end_of(&self.log))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the log of {} ---\n{}", self.name, self.log_end());
        }
        if self.status().is_none() {
            // It may end in this very moment: then there is nothing left to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn end_of(log: &Path) -> String {
    const LINES: usize = 40;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
