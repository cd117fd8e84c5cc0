//! What a write costs the node where it happens, against the number of peers that it goes to.

use std::time::Duration;

use anyhow::Result;

use super::convergence::under_load;
use super::micros_each;
use super::throughput::push;
use crate::contestant::{Setup, Start};
use crate::figures::Figures;
use crate::options::Options;

/// Peers of the largest cluster, if it was not said otherwise, and of a peer's at the most: each is a process of its own.
const NODES: u32 = 16;
/// Keys that are written: few, so that many nodes fit into memory.
pub(super) const KEYS: u32 = 40_000;
/// Records pushed to each number of peers.
const RECORDS: u64 = 200_000;
const RECORDS_QUICK: u64 = 20_000;
/// Writes a second while a peer is stopped.
const RATE: u32 = 10_000;

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let nodes = options.nodes(NODES);
    let mut points = Vec::new();
    let mut figures = Figures::default();
    for peers in (0..7).map(|power| 1 << power).chain([63]).filter(|peers| *peers < nodes) {
        let mut cluster = start(setup, peers + 1)?;
        if cluster.applied().is_none() && peers > 8 {
            break;
        }
        let records = if options.quick { RECORDS_QUICK } else { RECORDS };
        let pushed = push(cluster.as_mut(), KEYS, Duration::from_secs(20), records)?;
        let cost = micros_each(pushed.cpu.first().copied().unwrap_or_default(), pushed.records);
        figures.add(format!("cpu_us_per_record_send_{peers}"), cost);
        points.push((f64::from(peers), cost));
    }
    if points.len() > 1 {
        let (slope, constant) = line(&points);
        figures.add("cpu_us_per_record_and_peer", slope);
        figures.add("cpu_us_per_record_once", constant);
    }
    stopped(setup, start, options, &mut figures)?;
    Ok(figures)
}

/// Whether a peer that has stopped is felt by the others: convergence between two of four nodes before and after.
fn stopped(setup: &Setup, start: &Start, options: &Options, figures: &mut Figures) -> Result<()> {
    let cluster = start(setup, 4)?;
    let mut prober = cluster.prober()?;
    let count = options.probes() / 4;
    let mut measure = |turn: u32| {
        under_load(cluster.as_ref(), prober.as_mut(), turn * count..(turn + 1) * count, RATE, KEYS)
    };
    let (all, _) = measure(0)?;
    let node = cluster.stop(1)?;
    let (others, _) = measure(1)?;
    drop(node);
    figures.add_latencies(all, "_four_nodes");
    figures.add_latencies(others, "_one_of_them_stopped");
    Ok(())
}

/// Slope and constant of the line that fits best.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    (slope, y - slope * x)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_goes_through_its_points() {
        let points: Vec<_> = [1.0, 2.0, 4.0, 8.0].map(|x| (x, 0.5 + 0.25 * x)).into();
        let (slope, constant) = super::line(&points);
        assert!((slope - 0.25).abs() < 1e-9 && (constant - 0.5).abs() < 1e-9, "{slope} {constant}");
    }
}
