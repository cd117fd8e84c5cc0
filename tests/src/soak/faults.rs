//! Which faults there are, and when they begin and end.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::site::Site;
use crate::{Fault, Signal};

/// From the beginning of a fault to that of the next, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 300..3_000;
/// How long a fault lasts, milliseconds: shorter and longer than the time-outs of the nodes (2 s).
const LENGTH_MS: std::ops::Range<u64> = 200..7_000;
/// More than a stop takes, and far less than for ever.
const STOP_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// kill -9, and a start after a while.
    Killed,
    /// SIGQUIT, and a start after a while.
    Stopped,
    /// SIGSTOP, and SIGCONT after a while.
    Frozen,
    /// Started and not ready yet: the end of the first two.
    Joining,
    /// The ways between two nodes are not as they should be.
    Way,
}

#[derive(Debug)]
struct Active {
    kind: Kind,
    node: usize,
    /// The other end of a way.
    peer: Option<usize>,
    until: Duration,
    what: String,
}

/// The faults of a run.
#[derive(Debug)]
pub(super) struct Faults {
    random: SmallRng,
    next_at: Duration,
    active: Vec<Active>,
    made: u64,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), next_at: Duration::ZERO, active: Vec::new(), made: 0 }
    }

    /// How many there were.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// What is wrong at this moment.
    pub(super) fn active(&self) -> String {
        let what: Vec<&str> = self.active.iter().map(|active| active.what.as_str()).collect();
        what.join(", ")
    }

    /// Ends the faults that are due, and begins one if it is time.
    pub(super) fn advance(&mut self, now: Duration, site: &mut Site) {
        for active in std::mem::take(&mut self.active) {
            if now < active.until {
                self.active.push(active);
            } else {
                self.active.extend(end(active, site));
            }
        }
        if now >= self.next_at {
            self.next_at = now + self.duration(PAUSE_MS);
            self.begin(now, site);
        }
    }

    /// Puts everything right and waits until all nodes are ready.
    pub(super) fn end_all(&mut self, site: &mut Site) {
        for active in std::mem::take(&mut self.active) {
            self.active.extend(end(active, site));
        }
        let all: Vec<usize> = (0..site.count()).collect();
        crate::wait_for("all nodes to be ready again", STOP_LIMIT, || {
            let waiting: Vec<&usize> = all.iter().filter(|&&node| !site.try_open(node)).collect();
            if waiting.is_empty() { Ok(()) } else { Err(format!("nodes {waiting:?} are not")) }
        });
        self.active.clear();
    }

    fn duration(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(milliseconds))
    }

    fn begin(&mut self, now: Duration, site: &mut Site) {
        let until = now + self.duration(LENGTH_MS);
        let node = self.random.random_range(0..site.count());
        let begun = if self.random.random_bool(0.5) {
            self.harm_node(node, site).map(|(kind, what)| (kind, None, what))
        } else {
            let peer = (node + self.random.random_range(1..site.count())) % site.count();
            self.harm_way(node, peer, site).map(|what| (Kind::Way, Some(peer), what))
        };
        if let Some((kind, peer, what)) = begun {
            self.made += 1;
            self.active.push(Active { kind, node, peer, until, what });
        }
    }

    /// A node that has a fault gets no second one, and fewer than half of the nodes have one at a time.
    fn harm_node(&mut self, node: usize, site: &mut Site) -> Option<(Kind, String)> {
        let of_nodes = self.active.iter().filter(|active| active.kind != Kind::Way);
        if of_nodes.clone().any(|active| active.node == node)
            || of_nodes.count() >= site.count().div_ceil(2) - 1
        {
            return None;
        }
        let name = site.name(node).to_owned();
        // The first node is never started anew.
        let choice = if node == 0 { 2 } else { self.random.random_range(0..3) };
        let (kind, signal, what) = match choice {
            0 => (Kind::Killed, Signal::Kill, "killed"),
            1 => (Kind::Stopped, Signal::Quit, "stopped"),
            _ => (Kind::Frozen, Signal::Stop, "frozen"),
        };
        site.close(node)?.signal(signal);
        Some((kind, format!("{name} {what}")))
    }

    fn harm_way(&mut self, node: usize, peer: usize, site: &Site) -> Option<String> {
        let between = |active: &Active| {
            active.peer.is_some_and(|other| {
                (active.node, other) == (node, peer) || (other, active.node) == (node, peer)
            })
        };
        if self.active.iter().any(between) {
            return None;
        }
        let (fault, what) = match self.random.random_range(0..3) {
            0 => (Fault { cut: true, ..Fault::default() }, "cut"),
            1 => (Fault { blocked_forth: true, ..Fault::default() }, "blocked"),
            _ => {
                let bytes_per_second = self.random.random_range(20_000..500_000);
                (Fault { delay: self.duration(10..300), bytes_per_second, ..Fault::default() }, "slow")
            }
        };
        site.set(node, peer, fault);
        Some(format!("{}-{} {what}", site.name(node), site.name(peer)))
    }
}

/// Ends a fault; what is left of it goes on.
fn end(active: Active, site: &mut Site) -> Option<Active> {
    let node = active.node;
    match active.kind {
        Kind::Way => {
            site.set(node, active.peer.unwrap_or(node), Fault::default());
            None
        }
        Kind::Killed | Kind::Stopped => {
            site.restart(node, STOP_LIMIT);
            Some(Active { kind: Kind::Joining, what: format!("{} joining", site.name(node)), ..active })
        }
        Kind::Frozen => {
            site.close(node)?.signal(Signal::Continue);
            Some(Active { kind: Kind::Joining, what: format!("{} waking", site.name(node)), ..active })
        }
        Kind::Joining => (!site.try_open(node)).then_some(active),
    }
}
