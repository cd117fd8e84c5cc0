//! Records a second from one node to the others, with no growing lag: writing takes its turn with replicating, where the
//! writer can see how far that is; where it cannot, the time until all have caught up counts.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::{micros_each, settle, used};
use crate::contestant::{Cluster, Kind, PATIENCE, Setup, Start, Writer};
use crate::figures::Figures;
use crate::options::Options;

/// Records written at a time.
const CHUNK: u32 = 1_024;
/// Records that may be on their way; less than what a link's ring of batches holds.
const WINDOW: u64 = 32 << 10;
/// Records that are there at the start at the most.
const FILL_MAX: u32 = 1_000_000;
/// Between two looks at how far the others are.
const PAUSE: Duration = Duration::from_micros(50);

/// What a load came to.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) records: u64,
    pub(super) seconds: f64,
    /// Of each node.
    pub(super) cpu: Vec<Duration>,
    pub(super) wire_bytes: u64,
}

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let mut cluster = start(setup, options.nodes(2))?;
    let duration = Duration::from_secs(options.seconds().into());
    // Each key once before: what is measured are changes of records that are there.
    let records = u64::from(setup.records.min(FILL_MAX));
    push(cluster.as_mut(), setup.records, PATIENCE, records)?;
    let pushed = push(cluster.as_mut(), setup.records, duration, u64::MAX)?;
    let mut figures = Figures::default();
    figures.add("records_per_s", pushed.records as f64 / pushed.seconds);
    let [sender, others @ ..] = &pushed.cpu[..] else { return Ok(figures) };
    let apply: Duration = others.iter().sum::<Duration>() / others.len().max(1) as u32;
    figures.add("cpu_us_per_record_send", micros_each(*sender, pushed.records));
    figures.add("cpu_us_per_record_apply", micros_each(apply, pushed.records));
    let copies = pushed.records * others.len() as u64;
    figures.add(
        "wire_bytes_over_payload",
        pushed.wire_bytes as f64 / copies.max(1) as f64 - cluster.payload() as f64,
    );
    Ok(figures)
}

/// Writes for so long, or so many records, and waits until every node has them.
pub(super) fn push(
    cluster: &mut dyn Cluster,
    records: u32,
    duration: Duration,
    records_max: u64,
) -> Result<Pushed> {
    let mut writer = cluster.writer(0, Kind::Pair)?;
    let (cpu, wire, applied) = (cluster.cpu()?, cluster.wire_bytes()?, cluster.applied());
    let start = Instant::now();
    let (mut written, mut next) = (0, 0);
    while start.elapsed() < duration && written < records_max {
        let through = records.min(next + CHUNK);
        writer.write(next..through)?;
        written += u64::from(through - next);
        next = if through == records { 0 } else { through };
        if let Some(applied) = applied {
            take_turns(cluster, applied + written)?;
        }
    }
    finish(writer.as_mut(), cluster)?;
    let seconds = start.elapsed().as_secs_f64();
    // What was written twice between two publications went once.
    let records = match (applied, cluster.applied()) {
        (Some(before), Some(after)) => after - before,
        _ => written,
    };
    let cpu = used(&cpu, &cluster.cpu()?);
    Ok(Pushed { records, seconds, cpu, wire_bytes: cluster.wire_bytes()?.saturating_sub(wire) })
}

/// Waits while too many of `written` records are on their way.
fn take_turns(cluster: &dyn Cluster, written: u64) -> Result<()> {
    let start = Instant::now();
    while cluster.applied().is_some_and(|applied| applied + WINDOW < written) {
        if start.elapsed() > PATIENCE {
            anyhow::bail!("a node has not applied anything for {PATIENCE:?}");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn finish(writer: &mut dyn Writer, cluster: &mut dyn Cluster) -> Result<()> {
    writer.finish()?;
    settle(cluster)
}
