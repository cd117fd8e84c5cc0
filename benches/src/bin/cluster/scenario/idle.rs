//! A cluster that holds records and has nothing to do.

use std::time::Duration;

use anyhow::Result;

use super::join::fill;
use super::used;
use crate::contestant::{Setup, Start};
use crate::figures::Figures;
use crate::options::Options;

/// Nodes if it was not said otherwise.
const NODES: u32 = 16;

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let nodes = options.nodes(NODES);
    let mut cluster = start(setup, nodes)?;
    fill(cluster.as_mut(), nodes, setup.records)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = cluster.cpu()?;
    let seconds = 2 * options.seconds();
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let used: Duration = used(&before, &cluster.cpu()?).iter().sum();
    let mut figures = Figures::default();
    figures.add("nodes", f64::from(nodes));
    figures.add(
        "cpu_percent_of_a_core_per_node",
        100.0 * used.as_secs_f64() / f64::from(seconds) / f64::from(nodes),
    );
    Ok(figures)
}
