//! Packages of PyPI, in environments of their own in the folder for temporary files of tests, where they stay.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Runs a command to its end, and answers what it said.
///
/// # Panics
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} can be started: {e}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}\n{complained}");
    said.trim_end().to_owned()
}

/// The folder of programs of an environment that has these packages, `python3` among them. `folder` is the `CARGO_TARGET_TMPDIR` of the test; only tests of one program may
/// name the same packages.
///
/// # Panics
/// If they cannot be installed.
pub fn python(folder: &Path, packages: &[&str]) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let environment = folder.join(packages.join("+"));
    let (programs, done) = (environment.join("bin"), environment.join("done"));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
        let mut pip = Command::new(programs.join("python3"));
        // Connections that fail are tried again for about two minutes: from 0.25 s on each pause is twice as long as the one before.
        run(pip
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "9"])
            .args(packages));
        // Last, so that half an environment is made anew.
        std::fs::write(done, "").expect("the folder is writable");
    }
    programs
}
