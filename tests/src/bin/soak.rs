//! Runs a soak: real nodes under load and random faults for a long time.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tests::soak::{Options, soak};

/// Real nodes on loopback addresses under mixed load and random faults. The last line says how many minutes, faults, acknowledged writes and violations
/// there were; the exit status is 1 if there was a violation: something acknowledged and lost, nodes that do not become equal, or memory, descriptors or threads that grow.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long, in minutes; fractions count.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// How many nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=16))]
    nodes: u8,
    /// Decides which faults come when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let Arguments { minutes, nodes, seed } = Arguments::parse();
    let duration = match Duration::try_from_secs_f64(minutes * 60.0) {
        Ok(duration) if !duration.is_zero() => duration,
        _ => {
            eprintln!("--minutes {minutes}: give a positive number of minutes");
            return ExitCode::FAILURE;
        }
    };
    let report = soak(Options { duration, nodes: nodes.into(), seed }, |line| println!("{line}"));
    println!("{report}");
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
