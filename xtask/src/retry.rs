//! Tests that failed, once more.
//!
//! Many tests here are whole clusters of real processes with real time-outs, on machines whose other guests nobody knows: of a thousand such tests one fails now and then although
//! nothing is broken, and another one each time. A target that fails is run again as a whole, by itself. If it fails again, the step fails. If it passes, that is said at the end,
//! for it is a defect still: of the test, or one of ours that shows once in a while. More than a few at once are no coincidence, and are not run again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::{command, is_success};

/// Targets that are run again at the most.
const TARGETS_MAX: usize = 3;
/// How long the last of what cargo has said may be under way to us.
const REST: Duration = Duration::from_secs(2);

/// Runs `line`, a `cargo test`, to its end. Whether all passed, and the command for each target that did so the second time only.
pub(crate) fn run(line: &str, environment: &[(&str, &str)]) -> (bool, Vec<String>) {
    let (passed, mut failed) = once(&format!("{line} --no-fail-fast"), environment);
    if passed || failed.is_empty() || failed.len() > TARGETS_MAX {
        return (passed, Vec::new());
    }
    failed.sort();
    failed.dedup();
    // With the same packages, and so with the same features: of one package alone tests may be missing.
    let again: Vec<_> = failed.iter().map(|target| format!("{line} {target}")).collect();
    (again.iter().all(|line| once(line, environment).0), again)
}

/// Whether the command passed, and the targets that cargo says have failed; none if not all of them were heard of.
fn once(line: &str, environment: &[(&str, &str)]) -> (bool, Vec<String>) {
    let mut child = match command(line, environment).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return (is_success(line, Err(e)), Vec::new()),
    };
    let (sender, lines) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let _ = sender.send(line.clone());
                eprintln!("{line}");
            }
        });
    }
    let status = child.wait();
    // Not to the end of the pipe: a process that a test has left behind would hold it open.
    let (mut count, mut failed) = (None, Vec::new());
    for line in std::iter::from_fn(|| lines.recv_timeout(REST).ok()) {
        count = failures(&line).or(count);
        failed.extend(target(&line));
    }
    // What was not heard of would not be run again, and so count as passed.
    if count != Some(failed.len()) {
        failed.clear();
    }
    (is_success(line, status), failed)
}

/// How many targets have failed, as cargo says before it lists them.
fn failures(line: &str) -> Option<usize> {
    let line = line.strip_suffix(" targets failed:").or_else(|| line.strip_suffix(" target failed:"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// What selects the target of a line in that list.
fn target(line: &str) -> Option<String> {
    let target = line.strip_prefix("    `-p ")?.strip_suffix('`')?;
    target.split_once(' ').map(|(_package, target)| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_in_what_cargo_says() {
        assert_eq!(target("    `-p tests --test faults`").as_deref(), Some("--test faults"));
        assert_eq!(target("    `-p sync-node --lib`").as_deref(), Some("--lib"));
        for other in
            ["error: 1 target failed:", "    `faults`", "-p tests --lib", "    Running `target/debug/x`"]
        {
            assert_eq!(target(other), None, "{other}");
        }
        assert_eq!(
            ["error: 1 target failed:", "error: 12 targets failed:"].map(failures),
            [Some(1), Some(12)]
        );
        assert_eq!(failures("error: test failed, to rerun pass `-p tests --test faults`"), None);
    }
}
