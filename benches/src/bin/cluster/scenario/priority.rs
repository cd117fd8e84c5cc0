//! Whether a zone that is written feels a node that joins and takes over all records of another zone.

use anyhow::{Context, Result};

use super::join::fill;
use crate::contestant::{Setup, Start};
use crate::figures::Figures;

pub(super) fn run(setup: &Setup, start: &Start) -> Result<Figures> {
    let mut figures = Figures::default();
    // Nothing to take over: the writes are all that there is.
    let mut alone = start(setup, 1)?;
    figures.add_latencies(watched(alone.join_watched(0)?)?, "_idle");
    drop(alone);
    let mut cluster = start(setup, 1)?;
    fill(cluster.as_mut(), 1, setup.records)?;
    let micros = watched(cluster.join_watched(setup.records.into())?)?;
    figures.add("writes_during_catch_up", micros.len() as f64);
    figures.add_latencies(micros, "_catch_up");
    Ok(figures)
}

fn watched(micros: Vec<f64>) -> Result<Vec<f64>> {
    (!micros.is_empty())
        .then_some(micros)
        .context("the node had joined before anything was written; use more --records")
}
