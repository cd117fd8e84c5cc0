//! What is measured, whoever runs it.

mod convergence;
mod fanout;
mod idle;
mod join;
mod limits;
mod load;
mod mixed;
mod priority;
mod throughput;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::contestant::{Cluster, Setup, Start, wait_until};
use crate::figures::Figures;
use crate::options::Options;

/// A scenario of the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// From a write on one node until another answers with it, alone and under load
    Convergence,
    /// Writes a second that the other node keeps up with, and what each costs
    Throughput,
    /// A new node takes over every record
    #[value(name = "bootstrap")]
    Join,
    /// What a write costs against the number of peers
    Fanout,
    /// Requests of one client on two nodes at once: whether all are counted
    LimitAccuracy,
    /// Pairs, sessions and limits on every node at once
    Mixed,
    /// A cluster with nothing to do: what it costs; ours only
    Idle,
    /// From a write in one zone until a node answers with it that takes over the records of another meanwhile; ours only
    Priority,
}

impl Scenario {
    /// Those that run without being asked for.
    pub(crate) fn usual() -> Vec<Self> {
        use Scenario::{Convergence, Fanout, Join, LimitAccuracy, Mixed, Throughput};
        vec![Convergence, Throughput, Join, Fanout, LimitAccuracy, Mixed]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Convergence => "convergence",
            Self::Throughput => "throughput",
            Self::Join => "bootstrap",
            Self::Fanout => "fanout",
            Self::LimitAccuracy => "limit-accuracy",
            Self::Mixed => "mixed",
            Self::Idle => "idle",
            Self::Priority => "priority",
        }
    }

    /// Records that a zone of it has room for.
    pub(crate) fn records(self, options: &Options) -> u32 {
        match self {
            Self::Fanout => fanout::KEYS,
            _ => options.records(),
        }
    }

    pub(crate) fn has_peer(self) -> bool {
        !matches!(self, Self::Idle | Self::Priority)
    }

    pub(crate) fn run(self, setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
        match self {
            Self::Convergence => convergence::run(setup, start, options),
            Self::Throughput => throughput::run(setup, start, options),
            Self::Join => join::run(setup, start, options),
            Self::Fanout => fanout::run(setup, start, options),
            Self::LimitAccuracy => limits::run(setup, start, options),
            Self::Mixed => mixed::run(setup, start, options),
            Self::Idle => idle::run(setup, start, options),
            Self::Priority => priority::run(setup, start),
        }
    }
}

/// Waits until every node has everything that was written on the first.
fn settle(cluster: &mut dyn Cluster) -> Result<()> {
    wait_until("every node to have everything", Duration::from_micros(200), || cluster.is_settled())
}

/// Microseconds of processor time for each of so many.
fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// What each node used of the processor between two looks.
fn used(before: &[Duration], after: &[Duration]) -> Vec<Duration> {
    after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect()
}
