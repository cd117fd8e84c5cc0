//! From before a write on the first node is sent until the last one answers with it.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::load::Load;
use super::settle;
use crate::contestant::{Kind, PATIENCE, Prober, Setup, Start};
use crate::figures::Figures;
use crate::options::Options;

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let mut cluster = start(setup, options.nodes(2))?;
    let mut figures = Figures::default();
    let mut prober = cluster.prober()?;
    figures.add_latencies(probe(prober.as_mut(), 0, options.probes())?, "");

    let rate = options.rate.min(cluster.rate_max().unwrap_or(u32::MAX));
    let writer = cluster.writer(0, Kind::Pair)?;
    let stop = AtomicBool::new(false);
    let (micros, written, seconds) = std::thread::scope(|scope| {
        let begun = Instant::now();
        let load = Load::start(scope, &stop, writer, rate, setup.records);
        let micros = probe(prober.as_mut(), options.probes(), options.probes());
        let written = load.finish()?;
        anyhow::Ok((micros?, written, begun.elapsed().as_secs_f64()))
    })?;
    settle(cluster.as_mut())?;
    figures.add_latencies(micros, "_loaded");
    figures.add("records_per_s_loaded", written as f64 / seconds);
    Ok(figures)
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
