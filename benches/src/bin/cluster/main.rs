//! The cluster harness: what an operator feels, measured on real sockets of this machine, beside Redis replication or HAProxy's
//! peers at the same work in the same run.
//!
//! A [scenario] knows nothing of who runs it: it drives a [`Cluster`](contestant::Cluster), and [`ours`], [`redis`]
//! and [`haproxy`] are three of them. Runs of both sides take turns, so that what else the machine does hits both.

mod contestant;
mod figures;
mod haproxy;
mod http;
mod options;
mod ours;
mod plot;
mod process;
mod redis;
mod report;
mod scenario;
mod usage;
mod way;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use contestant::Setup;
use figures::Figures;
use options::{Options, Peer};
use report::{Report, Result as Measured};
use way::Way;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // All causes in one line, and no backtrace: who reads it is to act on it.
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    // Before there is any thread that would not come along.
    let _way = options.loss().map(|loss| Way::start(loss, options.congestion.as_deref())).transpose()?;
    let mut report = Report::default();
    for &scenario in &options.scenarios() {
        let runs = options.runs();
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for run in 1..=runs {
            let progress = |who: &str| eprintln!("{}: run {run} of {runs}: {who}", scenario.name());
            progress("sync-node");
            let setup = Setup::new(options, scenario.records(options)).context("preparing the run")?;
            let measured = scenario.run(&setup, &ours::start, options);
            ours.push(measured.with_context(|| format!("{}: sync-node", scenario.name()))?);
            let Some(peer) = options.peer.filter(|_| scenario.has_peer()) else { continue };
            progress(peer.name());
            let setup = Setup::new(options, scenario.records(options)).context("preparing the run")?;
            let start: &contestant::Start = match peer {
                Peer::Redis => &redis::start,
                Peer::Haproxy => &haproxy::start,
            };
            let measured = scenario.run(&setup, start, options);
            peers.push(measured.with_context(|| format!("{}: {}", scenario.name(), peer.name()))?);
        }
        let result = Measured {
            scenario: scenario.name(),
            ours: Figures::medians(&ours),
            peer: (!peers.is_empty()).then(|| Figures::medians(&peers)),
        };
        result.print(options);
        report.results.push(result);
    }
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    if let Some(folder) = &options.plots {
        plot::write(folder, &report)?;
    }
    Ok(())
}
