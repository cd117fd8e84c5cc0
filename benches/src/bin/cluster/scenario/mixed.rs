//! Pairs, sessions and limits on every node at once, and how soon a single write among them is everywhere.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::convergence::probe;
use super::load::Load;
use super::{micros_each, settle, used};
use crate::contestant::{Counter, Kind, Setup, Start, Writer};
use crate::figures::Figures;
use crate::options::Options;

/// Of pairs and of sessions a second and node; fewer sessions than a zone holds.
const RATE: u32 = 10_000;
const SESSIONS: u32 = 50_000;
/// Requests counted a second and node: what one connection of a peer's client can ask.
const CHECKS: u32 = 2_000;

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let nodes = options.nodes(2);
    let mut cluster = start(setup, nodes)?;
    let mut prober = cluster.prober()?;
    let mut writers: Vec<(Box<dyn Writer>, u32, u32)> = Vec::new();
    for node in 0..nodes as usize {
        writers.push((cluster.writer(node, Kind::Pair)?, RATE, setup.records));
        writers.push((cluster.writer(node, Kind::Session)?, RATE, SESSIONS));
        writers.push((Box::new(Checks(cluster.counter(node)?)), CHECKS, u32::MAX));
    }
    let cpu = cluster.cpu()?;
    let stop = AtomicBool::new(false);
    let (micros, done, seconds) = std::thread::scope(|scope| {
        let begun = Instant::now();
        let start = |(writer, rate, records)| Load::start(scope, &stop, writer, rate, records);
        let loads: Vec<_> = writers.into_iter().map(start).collect();
        let micros = probe(prober.as_mut(), 0, options.probes());
        let done = loads.into_iter().map(Load::finish).sum::<Result<u64>>()?;
        anyhow::Ok((micros?, done, begun.elapsed().as_secs_f64()))
    })?;
    settle(cluster.as_mut())?;
    let used: Duration = used(&cpu, &cluster.cpu()?).iter().sum();
    let mut figures = Figures::default();
    figures.add_latencies(micros, "");
    figures.add("operations_per_s", done as f64 / seconds);
    figures.add("cpu_us_per_operation", micros_each(used, done));
    Ok(figures)
}

/// Requests in place of records.
struct Checks(Box<dyn Counter>);

impl Writer for Checks {
    fn write(&mut self, numbers: Range<u32>) -> Result<()> {
        numbers.into_iter().try_for_each(|_| self.0.count())
    }
}
