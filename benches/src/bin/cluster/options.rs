//! What can be asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use crate::scenario::Scenario;
use crate::way::Loss;

/// Measures clusters on this machine: how soon a write is everywhere, how much a node can push, how fast a new node is
/// useful, what it costs in bytes and processor time, and how that grows with nodes.
///
/// Everything runs on the loopback, is bounded in time and memory, and is stopped at the end. Nothing is lost in silence:
/// a scenario whose nodes do not end equal fails.
#[derive(Debug, Parser)]
#[command(name = "cluster", max_term_width = 100)]
pub(crate) struct Options {
    /// Scenarios to run, in this order; without it, all that have no cost beyond a minute
    #[arg(long = "scenario", value_enum, value_name = "NAME")]
    scenario: Vec<Scenario>,
    /// Do the same work with this, in turns, and print the ratio
    #[arg(long, value_enum)]
    pub(crate) peer: Option<Peer>,
    /// How our nodes and the peer's talk
    #[arg(long, value_enum, default_value = "tls")]
    pub(crate) transport: Transport,
    /// Packets of a thousand that are lost between our nodes, in either direction; needs root
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=500))]
    loss: u32,
    /// Milliseconds from one of our nodes to another; needs root
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=500))]
    delay: u32,
    /// How TCP controls congestion where there is loss or delay, one of tcp_allowed_congestion_control; without it, as on this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Our nodes are `sync-node` processes; without it, they are embedded in this one, each with threads of its own
    #[arg(long)]
    pub(crate) processes: bool,
    /// Nodes of the cluster; fan-out goes up to so many, of a peer's up to 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=64))]
    nodes: Option<u32>,
    /// Records in the zone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    records: Option<u32>,
    /// Writes a second under which convergence is measured a second time
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: u32,
    /// Seconds that a steady load lasts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: Option<u32>,
    /// Runs of each side; medians are shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Little of everything: whether it works, not how fast
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print tables for a document
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Write plots (SVG) of what was measured into this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plots: Option<PathBuf>,
}

/// Whom to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// A Redis primary and its replicas
    Redis,
    /// HAProxy's stick tables and peers
    Haproxy,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Haproxy => "haproxy",
        }
    }
}

/// How nodes talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP with mutual TLS
    Tls,
    /// TCP without
    Plain,
    /// QUIC
    Quic,
}

impl Transport {
    /// An address as our nodes take it.
    pub(crate) fn address(self, address: &str) -> String {
        match self {
            Self::Tls | Self::Plain => address.to_owned(),
            Self::Quic => format!("quic://{address}"),
        }
    }
}

impl Options {
    /// What no type of an option can say.
    pub(crate) fn check(&self) -> Result<()> {
        if self.transport == Transport::Quic && self.peer.is_some() {
            bail!(
                "a peer has no QUIC to be measured with; leave --peer out, or use --transport tls or plain"
            );
        }
        Ok(())
    }

    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        if self.scenario.is_empty() { Scenario::usual() } else { self.scenario.clone() }
    }

    /// What is wrong with the ways between our nodes, if anything.
    pub(crate) fn loss(&self) -> Option<Loss> {
        let share = f64::from(self.loss) / 1_000.0;
        let delay = Duration::from_millis(self.delay.into());
        (self.loss > 0 || self.delay > 0).then_some(Loss { share, delay })
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Nodes, if it was not said otherwise.
    pub(crate) fn nodes(&self, usual: u32) -> u32 {
        self.nodes.unwrap_or_else(|| if self.quick { usual.min(4) } else { usual })
    }

    pub(crate) fn records(&self) -> u32 {
        self.records.unwrap_or(if self.quick { 20_000 } else { 1_000_000 })
    }

    pub(crate) fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// So many single writes, when convergence is measured.
    pub(crate) fn probes(&self) -> u32 {
        if self.quick { 100 } else { 2_000 }
    }
}
