//! Whether a zone that is written feels a node that joins and takes over all records of another zone.

use anyhow::{Result, ensure};

use super::join::fill;
use crate::contestant::{Setup, Start, Watched};
use crate::figures::Figures;

pub(super) fn run(setup: &Setup, start: &Start) -> Result<Figures> {
    let mut figures = Figures::default();
    // Nothing to take over: the writes are all that there is.
    let mut alone = start(setup, 1)?;
    figures.add_latencies(alone.join_watched(0)?.micros, "_idle");
    drop(alone);
    let mut cluster = start(setup, 1)?;
    fill(cluster.as_mut(), 1, setup.records)?;
    let Watched { micros, took } = cluster.join_watched(setup.records.into())?;
    ensure!(!micros.is_empty(), "the node had joined before anything was written; use more --records");
    figures.add("writes_during_catch_up", micros.len() as f64);
    figures.add_latencies(micros, "_catch_up");
    figures.add("seconds_catch_up", took.as_secs_f64());
    Ok(figures)
}
