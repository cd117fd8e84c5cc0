//! Directories, children and how to talk to them, waiting with a deadline.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

/// How long anything may take before a test gives up. Far longer than it ever does.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where a child finds what it is to do, and its argument.
const ROLE: &str = "SHARED_ROLE";
const ARGUMENT: &str = "SHARED_ARGUMENT";
/// What begins a line that a child says, since the test harness writes on the same pipe.
const SAID: &str = "@@ ";

/// A directory of a test, in shared memory if there is any, gone with all files when dropped.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        let shared_memory = Path::new("/dev/shm");
        let base = if shared_memory.is_dir() { shared_memory.to_owned() } else { std::env::temp_dir() };
        Self(tempfile::Builder::new().prefix("zone-tests-").tempdir_in(base).expect("a new directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The names of the files in which guests hold their locks.
    pub(crate) fn guest_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path()).expect("the directory");
        let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(".guest-")).collect()
    }
}

/// Time until which something is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
    pub(crate) fn new() -> Self {
        Self(Instant::now() + LIMIT)
    }

    #[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Calls `look` until it finds something, and returns that.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::new();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!deadline.left().is_zero(), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process started by a test: this binary, in a role of [`crate::child`]. Killed when dropped.
pub(crate) struct Child {
    role: String,
    process: std::process::Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Child {
    pub(crate) fn start(role: &str, argument: impl AsRef<Path>) -> Self {
        Self::start_by(Command::new(std::env::current_exe().expect("this binary")), role, argument)
    }

    /// By a command that ends with starting this binary.
    pub(crate) fn start_by(mut command: Command, role: &str, argument: impl AsRef<Path>) -> Self {
        command
            .args(["--exact", "shared_child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGUMENT, argument.as_ref())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("a child");
        let input = process.stdin.take();
        let output = process.stdout.take().expect("a pipe");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(SAID) {
                    // A test that has ended does not listen any more.
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Self { role: role.to_owned(), process, input, said }
    }

    /// The next thing that it says; `None` if it has ended.
    pub(crate) fn hear(&self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.said.recv_timeout(LIMIT) {
            Ok(said) => Some(said),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} says nothing", self.role),
        }
    }

    /// Waits until it says exactly this.
    pub(crate) fn expect(&self, what: &str) {
        assert_eq!(self.hear().as_deref(), Some(what), "{}", self.role);
    }

    /// Says something to it.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("not ended yet");
        writeln!(input, "{line}").expect("it listens");
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        assert_eq!(self.ended(), None, "{} has ended by itself", self.role);
        kill_process(Pid::from_child(&self.process), signal).expect("it is there");
    }

    /// Stops it, and waits until it has stopped.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.process)), WaitOptions::UNTRACED);
        assert!(stopped.expect("a child").expect("it was waited for").1.stopped());
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child can be waited for")
    }

    /// Kills it. It must not have ended before: whatever it does, it does for ever, unless it has found something wrong.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.process.wait().expect("it is dead");
    }

    /// Closes its input, on which every role ends, and waits for that.
    pub(crate) fn end(mut self) {
        self.close();
    }

    /// The same, and what it says last.
    pub(crate) fn end_saying(mut self) -> String {
        self.close();
        self.hear().expect("a last word")
    }

    fn close(&mut self) {
        drop(self.input.take());
        let role = self.role.clone();
        let status = wait_for(&format!("the end of {role}"), || self.ended());
        assert!(status.success(), "{role}: {status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What this process is to do, if it is a child.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// What it is to do that with.
pub(crate) fn argument() -> PathBuf {
    std::env::var_os(ARGUMENT).map(PathBuf::from).expect("an argument")
}

/// Child: says something to the test.
pub(crate) fn say(line: &str) {
    // The test may be gone; then this process is about to end, too.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{SAID}{line}").and_then(|()| out.flush());
}

/// Child: the next thing that the test says; `None` if it says nothing any more.
pub(crate) fn hear() -> Option<String> {
    std::io::stdin().lines().next()?.ok()
}

static ENDED: AtomicBool = AtomicBool::new(false);

/// Child: from here on [`has_ended`] answers whether the test has closed the pipe, or is dead.
pub(crate) fn watch() {
    std::thread::spawn(|| {
        while hear().is_some() {}
        ENDED.store(true, Ordering::Relaxed);
    });
}

pub(crate) fn has_ended() -> bool {
    ENDED.load(Ordering::Relaxed)
}
