//! A new, empty node, from its start until it has every record. Each of the others has written its share of them.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::{micros_each, settle, used};
use crate::contestant::{Cluster, Kind, Setup, Start, wait_until};
use crate::figures::Figures;
use crate::options::Options;

/// Records written at a time.
const CHUNK: u32 = 1_024;
/// So long after the writes the others have forgotten them: nothing of that is in what is measured.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) fn run(setup: &Setup, start: &Start, options: &Options) -> Result<Figures> {
    let others = options.nodes(2) - 1;
    let mut cluster = start(setup, others)?;
    fill(cluster.as_mut(), others, setup.records)?;
    std::thread::sleep(PAUSE);

    let (cpu, wire) = (cluster.cpu()?, cluster.wire_bytes()?);
    let begun = Instant::now();
    let records = u64::from(setup.records);
    cluster.join(records)?;
    let seconds = begun.elapsed().as_secs_f64();
    // What the others used; what the new one did is all its own.
    let after = cluster.cpu()?;
    let send: Duration = used(&cpu, &after).iter().sum();
    let mut figures = Figures::default();
    figures.add("seconds", seconds);
    figures.add("records_per_s", records as f64 / seconds);
    figures.add("cpu_us_per_record_send", micros_each(send, records));
    figures.add("cpu_us_per_record_apply", micros_each(after.last().copied().unwrap_or_default(), records));
    let wire = cluster.wire_bytes()?.saturating_sub(wire);
    figures.add("wire_bytes_over_payload", wire as f64 / records as f64 - cluster.payload() as f64);
    if let Some(received) = cluster.received_last() {
        figures.add("sends_per_record", received as f64 / records as f64);
    }
    Ok(figures)
}

/// Has each of `nodes` write its share of the records, and waits until all have all.
pub(super) fn fill(cluster: &mut dyn Cluster, nodes: u32, records: u32) -> Result<()> {
    let mut from = 0;
    for node in 0..nodes {
        let through = (u64::from(records) * u64::from(node + 1) / u64::from(nodes)) as u32;
        let mut writer = cluster.writer(node as usize, Kind::Pair)?;
        while from < through {
            let end = through.min(from + CHUNK);
            writer.write(from..end)?;
            from = end;
        }
        writer.finish()?;
    }
    settle(cluster)?;
    if let Some(applied) = cluster.applied() {
        // The first has taken from others, too, of whose records only the others know how many there are.
        let mut last = applied;
        wait_until("every node to have the records of all", PAUSE, || {
            let applied = cluster.applied().unwrap_or_default();
            Ok(std::mem::replace(&mut last, applied) == applied)
        })?;
    }
    Ok(())
}
