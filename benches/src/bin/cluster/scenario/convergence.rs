//! From before a write on the first node is sent until the last one answers with it.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::load::Load;
use super::{micros_each, settle, used};
use crate::contestant::{Cluster, Kind, PATIENCE, Prober, Setup, Start};
use crate::figures::Figures;
use crate::options::Options;

/// Until what a node does at its start is over, such as touching its memory, which keeps a core busy.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let mut cluster = start(setup, options.nodes(2))?;
    std::thread::sleep(PAUSE);
    let mut figures = Figures::default();
    let mut prober = cluster.prober()?;
    let before = cluster.cpu()?;
    let micros = probe(prober.as_mut(), 0, options.probes())?;
    let used = used(&before, &cluster.cpu()?);
    figures.add_latencies(micros, "");
    // Each is a publication by itself: what one costs, however little is in it.
    for (node, name) in [(used.first(), "cpu_us_per_write_send"), (used.last(), "cpu_us_per_write_apply")] {
        figures.add(name, micros_each(node.copied().unwrap_or_default(), options.probes().into()));
    }

    let rate = options.rate.min(cluster.rate_max().unwrap_or(u32::MAX));
    let numbers = options.probes()..2 * options.probes();
    let (micros, rate) = under_load(cluster.as_ref(), prober.as_mut(), numbers, rate, setup.records)?;
    settle(cluster.as_mut())?;
    figures.add_latencies(micros, "_loaded");
    figures.add("records_per_s_loaded", rate);
    Ok(figures)
}

/// Microseconds of single writes while `rate` others a second are written on the same node, and at what rate they were.
pub(super) fn under_load(
    cluster: &dyn Cluster,
    prober: &mut dyn Prober,
    numbers: Range<u32>,
    rate: u32,
    records: u32,
) -> Result<(Vec<f64>, f64)> {
    let writer = cluster.writer(0, Kind::Pair)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let load = Load::start(scope, &stop, writer, rate, records);
        let micros = probe(prober, numbers.start, numbers.end - numbers.start);
        let written = load.finish()?;
        anyhow::Ok((micros?, written as f64 / begun.elapsed().as_secs_f64()))
    })
}

/// Microseconds of so many single writes, half a millisecond to two apart.
pub(super) fn probe(prober: &mut dyn Prober, from: u32, count: u32) -> Result<Vec<f64>> {
    let mut random = SmallRng::seed_from_u64(1);
    let mut micros = Vec::with_capacity(count as usize);
    for number in from..from + count {
        std::thread::sleep(Duration::from_micros(random.random_range(500..2_000)));
        let start = Instant::now();
        prober.write(number)?;
        while !prober.is_seen(number)? {
            if start.elapsed() > PATIENCE {
                bail!("a write was not seen on the other node within {PATIENCE:?}");
            }
        }
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(micros)
}
