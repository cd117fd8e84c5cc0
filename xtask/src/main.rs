//! The menu of commands. `cargo xtask` shows it, `cargo xtask NAME...` runs some, `cargo xtask ci` runs all of them: that is what
//! CI calls, so whoever passes it here passes it there.

mod fuzz;
mod mutations;
mod packages;
mod retry;

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

/// One entry of the menu.
struct Step {
    name: &'static str,
    /// What it finds that nothing else would.
    why: &'static str,
    /// Variables of the environment for its commands.
    environment: &'static [(&'static str, &'static str)],
    /// Run one after the other from the root of the workspace; no shell, words are separated by spaces.
    commands: &'static [&'static str],
}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// `cargo xtask mutations`; not part of `ci`, for it compiles the workspace a dozen times.
const MUTATIONS: &str = "mutations";

/// `cargo xtask fuzz`, and part of `ci`.
const FUZZ: &str = "fuzz";

const PACKAGE: &str = "package";

/// In the order of `ci`: what fails often and fast comes first.
const STEPS: [Step; 12] = [
    Step {
        name: "format",
        why: "one layout, so that a change shows nothing but the change",
        environment: &[],
        commands: &["cargo fmt --all --check"],
    },
    Step {
        name: "lint",
        why: "the lints of the workspace, for tests and benches too",
        environment: &[],
        commands: &[
            // The two other workspaces lock this one's dependencies too: said here in a second, not after half an hour.
            "cargo fetch --locked --manifest-path fuzz/Cargo.toml",
            "cargo fetch --locked --manifest-path examples/Cargo.toml",
            "cargo clippy --locked --workspace --all-targets -- -D warnings",
            // As a program takes it that opens no further doors.
            "cargo clippy --locked --package sync-node --no-default-features -- -D warnings",
            "cargo clippy --locked --package sync-node --no-default-features --features envoy_rls -- -D warnings",
            "cargo clippy --locked --package sync-node --no-default-features --features redis -- -D warnings",
            "cargo clippy --locked --package sync-node --no-default-features --features haproxy -- -D warnings",
        ],
    },
    Step {
        name: "doc",
        why: "links of public and private documentation",
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
        commands: &["cargo doc --locked --workspace --no-deps --document-private-items"],
    },
    Step {
        name: "test",
        why: "everything: units, properties, examples, real processes, house rules, commands in documents, licences",
        environment: &[],
        commands: &["cargo test --workspace"],
    },
    Step {
        name: "optimized",
        why: "the lock-free store once more as the optimizer reorders it, assertions on",
        environment: &[],
        commands: &["cargo test --locked --package sync-store --profile checked"],
    },
    Step {
        name: "loom",
        why: "every interleaving, up to a bound, of the store's core",
        environment: &[("RUSTFLAGS", "--cfg loom"), ("LOOM_MAX_PREEMPTIONS", "2")],
        commands: &["cargo test --locked --package sync-store --profile checked --lib loom"],
    },
    Step {
        name: "demo",
        why: "the first command of the README; exit status 0 says that all nodes ended equal",
        environment: &[],
        commands: &["cargo run --release -p sync-node -- demo --duration 5s"],
    },
    Step {
        name: "cluster",
        why: "the cluster harness with real processes of the daemon; exit status 0 says that all nodes ended equal",
        environment: &[],
        commands: &[
            "cargo build --release --locked -p benches -p sync-node --bin cluster --bin sync-node",
            "cargo run --release --locked -p benches --bin cluster -- --quick --processes",
        ],
    },
    Step {
        name: "simulate",
        why: "whole nodes through faults that real ones meet once a year, from seeds that can be replayed",
        environment: &[],
        commands: &[
            "cargo run --release -p tests --bin simulate -- --seeds 150",
            "cargo run --release -p tests --bin simulate -- --strict --seeds 50",
        ],
    },
    Step {
        name: FUZZ,
        why: "what comes from sockets and files, mutated where that reaches new code; `fuzz --seconds N` for longer than 5 s a target",
        environment: &[],
        commands: &["cargo xtask fuzz --seconds 5"],
    },
    Step {
        name: "examples",
        why: "proxies of others that embed a node: a workspace of its own, since Pingora brings more packages than all of this",
        environment: &[("CARGO_TARGET_DIR", "target")],
        commands: &[
            "cargo fmt --manifest-path examples/Cargo.toml --all --check",
            "cargo test --locked --manifest-path examples/Cargo.toml",
        ],
    },
    Step {
        name: PACKAGE,
        why: "each library as crates.io would get it, built from what is in the archive",
        environment: &[],
        commands: &[
            "cargo package --locked --allow-dirty -p sync-proto -p sync-store -p sync-transport -p sync-node",
        ],
    },
];

fn main() -> ExitCode {
    if fuzz::is_rustc() {
        return fuzz::compile();
    }
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        for step in &STEPS {
            println!("{:10} {}", step.name, step.why);
        }
        println!("{:10} all of these, in this order", "ci");
        println!(
            "{MUTATIONS:10} bugs that are put in on purpose: the simulation has to find each; a quarter of an hour"
        );
        return ExitCode::SUCCESS;
    }
    if wanted == [MUTATIONS] {
        let found = mutations::run(Path::new(ROOT));
        return if found { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let [FUZZ, rest @ ..] = &wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let seconds = match rest {
            [] => Some(fuzz::SECONDS),
            ["--seconds", seconds] => seconds.parse().ok().filter(|&seconds| seconds > 0),
            _ => None,
        };
        let Some(seconds) = seconds else {
            eprintln!("usage: cargo xtask fuzz [--seconds N]");
            return ExitCode::FAILURE;
        };
        return if fuzz::run(Path::new(ROOT), seconds) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut steps = Vec::new();
    for name in &wanted {
        match STEPS.iter().find(|step| step.name == name) {
            Some(step) => steps.push(step),
            None if name == "ci" => steps.extend(&STEPS),
            None => {
                eprintln!("no step {name:?}; `cargo xtask` shows the menu");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut times = Vec::new();
    let mut again = Vec::new();
    for step in steps {
        let start = now();
        if step.name == PACKAGE {
            packages::forget(Path::new(ROOT));
        }
        let passed = step.commands.iter().all(|command| {
            // Loom tries every interleaving: what fails there fails always.
            if !command.starts_with("cargo test ") || command.contains(" --lib ") {
                return run(command, step.environment);
            }
            let (passed, lines) = retry::run(command, step.environment);
            again.extend(lines);
            passed
        });
        times.push(format!("{:10} {:6.1} s", step.name, start.elapsed().as_secs_f64()));
        if !passed {
            eprintln!("\n{}\n{} failed: {}", times.join("\n"), step.name, step.why);
            return ExitCode::FAILURE;
        }
    }
    println!("\n{}", times.join("\n"));
    for line in again {
        println!("failed, and passed the second time; look why: {line}");
    }
    ExitCode::SUCCESS
}

#[expect(clippy::disallowed_methods, reason = "how long a step took is for people")]
fn now() -> Instant {
    Instant::now()
}

fn run(line: &str, environment: &[(&str, &str)]) -> bool {
    is_success(line, command(line, environment).status())
}

/// The command of a line, which is shown.
fn command(line: &str, environment: &[(&str, &str)]) -> Command {
    println!("\n$ {line}");
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).envs(environment.iter().copied()).current_dir(ROOT);
    command
}

/// Whether the command of a line passed; why not is shown.
fn is_success(line: &str, status: io::Result<ExitStatus>) -> bool {
    match status {
        Ok(status) if status.success() => return true,
        Ok(status) => eprintln!("{line}: {status}"),
        Err(e) => eprintln!("{line}: {e}"),
    }
    false
}
