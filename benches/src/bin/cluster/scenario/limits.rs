//! Requests of one client, on two nodes at once: all must be counted, on both.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::contestant::{Counter, Setup, Start};
use crate::figures::Figures;
use crate::options::Options;

/// Requests a second on each node, at random moments.
const RATE: f64 = 5_000.0;
/// How long nodes may take to hear of the last ones, on a busy machine. What they have not heard of then is lost.
const SETTLE: Duration = Duration::from_secs(10);
const NODES: usize = 2;

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let cluster = start(setup, NODES as u32)?;
    let counters = (0..NODES).map(|node| cluster.counter(node)).collect::<Result<Vec<_>>>()?;
    let duration = f64::from(options.seconds());
    let micros = std::thread::scope(|scope| {
        let spawn = |(seed, counter)| scope.spawn(move || count(counter, seed, duration));
        let threads: Vec<_> = (0u64..).zip(counters).map(spawn).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a counter has panicked"))));
        joined.collect::<Result<Vec<_>>>()
    })?;
    let micros = micros.concat();
    let right = micros.len() as f64;
    let ended = Instant::now();
    let least = loop {
        let least = cluster.counted()?.into_iter().min().unwrap_or_default() as f64;
        if least >= right || ended.elapsed() > SETTLE {
            break least;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut figures = Figures::default();
    figures.add("requests", right);
    // Of the node that knows of fewest.
    figures.add("lost_share", (right - least).max(0.0) / right);
    figures.add_latencies(micros, "_check");
    Ok(figures)
}

/// Counts requests at random moments; microseconds of each.
fn count(mut counter: Box<dyn Counter>, seed: u64, seconds: f64) -> Result<Vec<f64>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut due = 0.0;
    let mut micros = Vec::new();
    while due < seconds {
        while start.elapsed().as_secs_f64() < due {
            std::thread::sleep(Duration::from_micros(50));
        }
        let begun = Instant::now();
        counter.count()?;
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
        due -= (1.0 - random.random::<f64>()).ln() / RATE;
    }
    Ok(micros)
}
