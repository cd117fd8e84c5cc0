//! Fuzzing: every target in `fuzz/targets` for some seconds each, beginning with the inputs in `fuzz/corpus`.
//!
//! The targets are those of cargo-fuzz, and it runs them too. Here they are compiled by plain cargo on the stable toolchain, once for all: libFuzzer needs nothing of the compiler but
//! the counters that these flags put into every branch. Of our own crates only, or what the others are made of would take minutes and lead
//! the search into their code: cargo is told to call this program in place of rustc, and [`compile`] adds the flags where they belong.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// In `fuzz/Cargo.toml` too.
const TARGETS: [&str; 7] = ["frame", "rows", "handshake", "links", "config", "api", "state"];
/// Crates that are compiled with counters, beside the targets.
const COUNTED: [&str; 4] = ["sync_proto", "sync_store", "sync_transport", "sync_node"];
/// How long each runs unless it is said.
pub(crate) const SECONDS: u64 = 5;

const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
];
/// Set for cargo while it compiles the targets, and so for this program in the place of rustc.
const IN_PLACE_OF_RUSTC: &str = "ZONE_SYNC_FUZZ_RUSTC";

/// Whether cargo calls this program in place of rustc.
pub(crate) fn is_rustc() -> bool {
    env::var_os(IN_PLACE_OF_RUSTC).is_some()
}

/// Does what rustc would, with counters where they belong. The first argument is rustc itself.
pub(crate) fn compile() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let Some((rustc, arguments)) = arguments.split_first() else { return ExitCode::FAILURE };
    let mut names = arguments.iter().skip_while(|argument| *argument != "--crate-name").skip(1);
    let name = names.next().and_then(|name| name.to_str()).unwrap_or_default();
    let is_counted = COUNTED.contains(&name) || TARGETS.contains(&name);
    let flags: &[&str] = if is_counted { &FLAGS } else { &[] };
    match Command::new(rustc).args(arguments).args(flags).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error}", rustc.display());
            ExitCode::FAILURE
        }
    }
}

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
    let built = Command::new("cargo")
        .args(["build", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(&work)
        .env("RUSTC_WRAPPER", env::current_exe()?)
        .env(IN_PLACE_OF_RUSTC, "yes")
        .current_dir(root)
        .status()?;
    let mut sound = built.success();
    for target in TARGETS.iter().filter(|_| built.success()) {
        sound &= try_one(root, &work, &work.join("release").join(target), target, seconds)?;
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
