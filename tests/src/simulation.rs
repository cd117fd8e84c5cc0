//! Whole nodes under a simulated clock and network, everything from one seed.
//!
//! The nodes are the real ones without their sockets ([`sync_node::simulation`]): replication, membership, links and zones. The simulation brings
//! time, connections, DNS and faults (`plan`, `faults`, `network`), clients (`workload`), and knows what must be true (`truth`).

mod faults;
mod host;
mod network;
mod plan;
mod truth;
mod workload;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use plan::Plan;
use world::World;

pub use world::Summary;

/// What went wrong in a run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that brings it about again.
    pub seed: u64,
    /// What was violated.
    pub what: String,
    /// The parameters of the run, and the state of the nodes.
    pub state: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\n{}", self.seed, self.what, self.state)
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// What was violated; a panic of the code under test is one too.
pub fn simulate(seed: u64) -> Result<Summary, Failure> {
    run(Plan::new(seed))
}

/// Runs one seed of long faults of network and nodes, with a limit zone that is offered ten times its rate; whether it is strict is said, so that it shows what difference it
/// makes.
///
/// # Errors
/// As [`simulate`]; also if more was admitted than a strict zone may.
pub fn simulate_limit(seed: u64, is_strict: bool) -> Result<Summary, Failure> {
    run(Plan::strict(seed, is_strict))
}

fn run(plan: Plan) -> Result<Summary, Failure> {
    let seed = plan.seed;
    let failure = |what, state: String| Failure { seed, what, state: format!("{plan:#?}\n{state}") };
    let mut world = World::new(&plan).map_err(|what| failure(what, String::new()))?;
    let run = catch_unwind(AssertUnwindSafe(|| world.run()));
    match run {
        Ok(Ok(summary)) => Ok(summary),
        Ok(Err(what)) => {
            let state = catch_unwind(AssertUnwindSafe(|| world.describe()));
            Err(failure(what, state.unwrap_or_else(|_| "the state cannot be read".to_owned())))
        }
        Err(panic) => {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
            Err(failure(format!("a panic: {}", what.unwrap_or_default()), String::new()))
        }
    }
}
