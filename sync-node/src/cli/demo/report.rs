//! The demo's figures, for people.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sync_node::Node;
use sync_store::Replica;

use super::traffic::Traffic;
use super::{KEYVAL, LIMIT, STICKY};

pub(super) struct Report {
    nodes: Arc<Vec<Node>>,
    traffic: Arc<Traffic>,
    rate: u64,
    burst: u64,
    /// Sent by all nodes before traffic began.
    bytes_before: u64,
}

impl Report {
    pub(super) fn new(nodes: Arc<Vec<Node>>, traffic: Arc<Traffic>, rate: u64, burst: u64) -> Self {
        let bytes_before = bytes_out(&nodes);
        Self { nodes, traffic, rate, burst, bytes_before }
    }

    /// One line a second.
    pub(super) fn progress(&self, elapsed: Duration) {
        let traffic = &self.traffic;
        let mut delays = traffic.delays.lock().clone();
        let (p50, p99) = percentiles(&mut delays);
        say!(
            "{:>4} s  writes {:>8}  session look-ups {:>8}  admitted {:>6} of {:>6}  converged p50 {} p99 {}",
            elapsed.as_secs(),
            traffic.writes.load(Ordering::Relaxed),
            traffic.sessions.load(Ordering::Relaxed),
            traffic.admitted.load(Ordering::Relaxed),
            traffic.requests.load(Ordering::Relaxed),
            millis(p50),
            millis(p99),
        );
    }

    pub(super) fn summary(&self, elapsed: Duration, equal: bool) {
        say!("\nRecords per node             {KEYVAL:>10} {STICKY:>10} {LIMIT:>10}");
        for node in self.nodes.iter() {
            let status = node.status();
            let records = |zone| status.zones.get(zone).map_or(0, |zone| zone.records_total);
            say!(
                "  {:<26} {:>10} {:>10} {:>10}",
                node.name(),
                records(KEYVAL),
                records(STICKY),
                records(LIMIT)
            );
        }
        say!("Content                      {}", if equal { "equal on all nodes" } else { "NOT EQUAL" });
        let mut delays = self.traffic.delays.lock().clone();
        let (p50, p99) = percentiles(&mut delays);
        say!(
            "Convergence delay            p50 {}, p99 {} (from a write until every node reads it; {} samples)",
            millis(p50),
            millis(p99),
            delays.len()
        );
        let allowed = self.rate as f64 * elapsed.as_secs_f64() + self.burst as f64;
        say!(
            "Limit of {} r/s, burst {}    {} of {} requests admitted; it allows {allowed:.0} in {:.1} s, and a few on their way between nodes",
            self.rate,
            self.burst,
            self.traffic.admitted.load(Ordering::Relaxed),
            self.traffic.requests.load(Ordering::Relaxed),
            elapsed.as_secs_f64()
        );
        let sent = self.records_sent();
        let bytes = bytes_out(&self.nodes).saturating_sub(self.bytes_before);
        say!(
            "On the wire                  {:.1} bytes per record, everything included ({sent} records sent)",
            bytes as f64 / sent.max(1) as f64
        );
    }

    /// Each record that a node publishes goes to every other node.
    fn records_sent(&self) -> u64 {
        let published: u64 = self
            .nodes
            .iter()
            .map(|node| {
                let keyval = node.keyval(KEYVAL).map_or(0, |zone| zone.published_seq());
                let sticky = node.sticky(STICKY).map_or(0, |zone| zone.published_seq());
                keyval + sticky + node.limit(LIMIT).map_or(0, |zone| zone.published_seq())
            })
            .sum();
        published * (self.nodes.len() as u64 - 1)
    }
}

fn bytes_out(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| node.status().bytes_out).sum()
}

/// Median and 99th percentile, by nearest rank.
fn percentiles(delays: &mut [Duration]) -> (Duration, Duration) {
    delays.sort_unstable();
    let rank = |percent: usize| {
        let index = (delays.len() * percent).div_ceil(100).saturating_sub(1);
        delays.get(index).copied().unwrap_or_default()
    };
    (rank(50), rank(99))
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
