//! What was measured, for people and for programs.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::figures::{Figures, shown};
use crate::options::{Options, Transport};

/// One scenario, medians of all runs.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) scenario: &'static str,
    pub(crate) ours: Figures,
    pub(crate) peer: Option<Figures>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) results: Vec<Result>,
}

impl Result {
    pub(crate) fn print(&self, options: &Options) {
        let peer = options.peer.filter(|_| self.peer.is_some());
        let peer_name = peer.map_or("", |peer| peer.name());
        let ratio = self.peer.as_ref().map(|peer| self.ours.over(peer)).unwrap_or_default();
        let column = |figure: Option<f64>| figure.map_or_else(String::new, shown);
        if options.markdown {
            println!("\n| {} | sync-node | {peer_name} | ratio |\n|---|--:|--:|--:|", self.scenario);
            for (name, figure) in self.ours.iter() {
                let theirs = self.peer.as_ref().and_then(|peer| peer.get(name));
                println!(
                    "| `{name}` | {} | {} | {} |",
                    shown(figure),
                    column(theirs),
                    column(ratio.get(name))
                );
            }
            return;
        }
        let how = if options.processes { "processes" } else { "embedded" };
        let transport = match options.transport {
            Transport::Tls => "mutual TLS",
            Transport::Plain => "plain TCP",
            Transport::Quic => "QUIC",
        };
        println!("\n{} ({how}, {transport}, median of {} runs)", self.scenario, options.runs());
        println!(
            "  {:38} {:>10} {peer_name:>10} {:>8}",
            "",
            "sync-node",
            if peer.is_some() { "ratio" } else { "" }
        );
        for (name, figure) in self.ours.iter() {
            let theirs = self.peer.as_ref().and_then(|peer| peer.get(name));
            println!(
                "  {name:38} {:>10} {:>10} {:>8}",
                shown(figure),
                column(theirs),
                column(ratio.get(name))
            );
        }
    }

    fn to_json(&self) -> Value {
        let peer = self.peer.as_ref();
        json!({
            "scenario": self.scenario,
            "ours": self.ours.to_json(),
            "peer": peer.map(Figures::to_json),
            "ratio": peer.map(|peer| self.ours.over(peer).to_json()),
        })
    }
}

impl Report {
    pub(crate) fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let results: Vec<Value> = self.results.iter().map(Result::to_json).collect();
        let text = serde_json::to_string_pretty(&results).context("writing JSON")?;
        fs::write(file, text + "\n")
            .with_context(|| format!("cannot write the figures to {}", file.display()))
    }
}
