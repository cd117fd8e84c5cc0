//! Runs the simulation for many seeds, or one seed again.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use tests::simulation::{Failure, Summary, simulate, simulate_limit};

/// Whole nodes under a simulated clock and network. The last line says how many seeds, simulated minutes and failures there were; the exit status is 1 if there
/// was a failure.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed alone, and say how it was.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Long faults of network and nodes, and a strict limit zone that is offered ten times its rate.
    #[arg(long)]
    strict: bool,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Seeds at a time; as many as there are processors unless told.
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Default)]
struct Total {
    runs: u64,
    simulated: Duration,
    failures: u64,
    slowest: Duration,
    excess: Duration,
    strict_over: u64,
    compared: u64,
}

impl Total {
    fn add(&mut self, options: &str, outcome: Result<Summary, Failure>) {
        self.runs += 1;
        match outcome {
            Ok(summary) => {
                self.simulated += summary.simulated;
                self.slowest = self.slowest.max(summary.settled_after);
                self.excess = self.excess.max(summary.excess);
                self.compared += summary.compared;
                self.strict_over = self.strict_over.max(summary.strict_over);
            }
            Err(failure) => {
                self.failures += 1;
                println!(
                    "{failure}\nreplay it: cargo run --release -p tests --bin simulate -- {options}--seed {}\n",
                    failure.seed
                );
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, seeds) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let jobs =
        arguments.jobs.or_else(|| std::thread::available_parallelism().map(usize::from).ok()).unwrap_or(1);
    let (next, total) = (AtomicU64::new(from), Mutex::new(Total::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(seeds as usize) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds
                        || (arguments.fail_fast && total.lock().is_ok_and(|t| t.failures > 0))
                    {
                        return;
                    }
                    let outcome = if arguments.strict { simulate_limit(seed, true) } else { simulate(seed) };
                    if let (Some(_), Ok(summary)) = (arguments.seed, &outcome) {
                        println!("{summary:#?}");
                    }
                    let Ok(mut total) = total.lock() else { return };
                    total.add(if arguments.strict { "--strict " } else { "" }, outcome);
                    if std::io::stderr().is_terminal() {
                        eprint!("\r{} of {seeds} seeds ", total.runs);
                        let _ = std::io::stderr().flush();
                    }
                }
            });
        }
    });
    let Ok(total) = total.into_inner() else { return ExitCode::FAILURE };
    println!(
        "the slowest cluster became equal {:.0} s after the last fault; no view of a limit was more than {:.0} s beyond the truth",
        total.slowest.as_secs_f64(),
        total.excess.as_secs_f64()
    );
    println!(
        "{} times a node compared its state file with the cluster, after a long absence",
        total.compared
    );
    if arguments.strict {
        println!("no strict zone admitted more than {} requests above its bucket", total.strict_over);
    }
    println!(
        "{} seeds, {} simulated minutes, {} failures",
        total.runs,
        total.simulated.as_secs() / 60,
        total.failures
    );
    if total.failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
