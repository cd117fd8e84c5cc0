//! Fuzzing: every target in `fuzz/targets` for some seconds each, beginning with the inputs in `fuzz/corpus`.
//!
//! The targets are those of cargo-fuzz, and it runs them too. Here they are compiled by plain cargo on the stable toolchain, once for all: libFuzzer needs nothing of the compiler but
//! the counters that these flags put into every branch.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// In `fuzz/Cargo.toml` too.
const TARGETS: [&str; 2] = ["frame", "rows"];
/// How long each runs unless it is said.
pub(crate) const SECONDS: u64 = 5;

const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code";

/// Runs all targets; false if one found something, or cannot be run.
pub(crate) fn run(root: &Path, seconds: u64) -> bool {
    match try_all(root, seconds) {
        Ok(sound) => sound,
        Err(error) => {
            eprintln!("fuzz: {error}");
            false
        }
    }
}

fn try_all(root: &Path, seconds: u64) -> io::Result<bool> {
    let work = root.join("target/fuzz");
    let host = host()?;
    // With a target named, the flags are not those of build scripts.
    let built = Command::new("cargo")
        .args(["build", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", &host, "--target-dir"])
        .arg(&work)
        .env("RUSTFLAGS", RUSTFLAGS)
        .current_dir(root)
        .status()?;
    let mut sound = built.success();
    for target in TARGETS.iter().filter(|_| built.success()) {
        sound &= try_one(root, &work, &work.join(&host).join("release").join(target), target, seconds)?;
    }
    Ok(sound)
}

fn try_one(root: &Path, work: &Path, program: &Path, target: &str, seconds: u64) -> io::Result<bool> {
    // What is new goes to the first folder; the second, in the repository, stays as it is.
    let found = work.join("corpus").join(target);
    let artifacts = work.join("artifacts").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let output = Command::new(program)
        .arg(&found)
        .arg(root.join("fuzz/corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"])
        .stdout(Stdio::null())
        .output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // The end has the panic, the stack and the name of the file with the input.
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        eprintln!(
            "{target}: failed ({}); run {} with the file named above",
            output.status,
            program.display()
        );
        return Ok(false);
    }
    let executions = after(&log, "stat::number_of_executed_units:");
    println!("{target:10} {executions:>10} executions, {:>6} edges", after(&log, " cov:"));
    Ok(true)
}

/// The last number behind a word.
fn after<'a>(log: &'a str, word: &str) -> &'a str {
    log.rsplit_once(word).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?")
}

fn host() -> io::Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| io::Error::other("rustc -vV names no host"))
}
