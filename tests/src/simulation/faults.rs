//! What goes wrong, for how long, and how it is put right again.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::network::Host;
use super::plan::{Plan, Room, duration, pick};

/// A kind of fault that a seed may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Two nodes do not reach each other.
    Cut,
    /// One does not reach the other; the other way is free.
    CutOneWay,
    /// A node reaches nobody.
    Isolate,
    /// The nodes fall into two halves.
    Split,
    /// A connection breaks.
    Reset,
    /// A way becomes slow.
    Slow,
    /// A way becomes longer.
    Delay,
    /// A node is killed and started again.
    Kill,
    /// A machine ends without a word to anybody.
    PowerCut,
    /// A node is stopped gracefully and started again.
    Restart,
    /// A clock jumps by less than peers tolerate.
    ClockStep,
    /// A clock jumps ahead, or back, by far more.
    ClockJump,
    /// DNS leaves out nodes, names strangers, or has no answer.
    Dns,
    /// DNS tells another story every second.
    DnsFlaps,
    /// The operator reloads another list of servers.
    Reload,
    /// A node joins the cluster.
    Join,
    /// A node leaves it.
    Leave,
    /// Many writes at once.
    Burst,
    /// Many writes at once on one node, which is killed while it sends them.
    Crash,
}

impl Kind {
    pub(super) const ALL: [Self; 18] = [
        Self::Cut,
        Self::CutOneWay,
        Self::Isolate,
        Self::Split,
        Self::Reset,
        Self::Slow,
        Self::Delay,
        Self::Kill,
        Self::PowerCut,
        Self::Restart,
        Self::ClockStep,
        Self::ClockJump,
        Self::Dns,
        Self::DnsFlaps,
        Self::Reload,
        Self::Join,
        Self::Leave,
        Self::Burst,
    ];
}

/// A fault with its particulars.
#[derive(Clone, Debug, Hash)]
pub(super) enum Fault {
    Block(BTreeSet<(Host, Host)>),
    Reset {
        nth: usize,
    },
    Slow(Host, Host),
    Delay(Host, Host, Duration),
    /// The node ends. It is started again after a while, over its files unless `empty`.
    Stop {
        host: Host,
        how: Stop,
        empty: bool,
    },
    Clock {
        host: Host,
        step_ns: i64,
    },
    /// Discovery tells one host that these are the nodes.
    Believe {
        host: Host,
        list: Vec<Host>,
    },
    Flap {
        host: Host,
    },
    Join,
    Leave {
        host: Host,
        how: Stop,
    },
    Burst,
    /// Many writes on a node, and then it ends.
    Crash {
        host: Host,
        /// How long after the writes.
        after: Duration,
        empty: bool,
    },
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stop {
    /// Its connections are closed by the system.
    Kill,
    /// Peers hear nothing.
    PowerCut,
    /// It brings its peers up to date first.
    Graceful,
}

/// So many times the way to the farthest node is how long a node may live that is killed while it sends.
const CRASH_DELAYS: u32 = 5;
/// A clock that is ahead by so many times what peers tolerate is far ahead.
const FAR: i64 = 6;

/// The next fault and how long it lasts. `hosts` are those that run a node.
pub(super) fn next(rng: &mut SmallRng, plan: &Plan, hosts: &[Host]) -> Option<(Fault, Duration)> {
    let kind = *pick(rng, &plan.faults);
    if hosts.len() < 2 {
        return None;
    }
    let host = *pick(rng, hosts);
    let other = *pick(rng, &hosts.iter().copied().filter(|&other| other != host).collect::<Vec<_>>());
    let mut lasts = duration(rng, plan.fault_max);
    let skew_ns = plan.max_clock_skew.as_nanos() as i64;
    let both = |a: &[Host], b: &[Host]| {
        let pairs = a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b);
        pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
    };
    let empty = !plan.keeps_pairs() || rng.random_bool(0.2);
    let ends = matches!(kind, Kind::Kill | Kind::PowerCut | Kind::Restart | Kind::Crash);
    if ends && !empty && plan.state.is_some() && plan.room != Room::Ample && rng.random_bool(0.3) {
        // The others forget meanwhile what they have removed.
        lasts = plan.tombstone_retention.mul_f64(rng.random_range(0.8..1.6));
    }
    let fault = match kind {
        Kind::Cut => Fault::Block(both(&[host], &[other])),
        Kind::CutOneWay => Fault::Block([(host, other)].into()),
        Kind::Isolate => Fault::Block(both(&[host], hosts)),
        Kind::Split => {
            let (a, b): (Vec<_>, Vec<_>) = hosts.iter().copied().partition(|_| rng.random_bool(0.5));
            Fault::Block(both(&a, &b))
        }
        Kind::Reset => Fault::Reset { nth: rng.random_range(0..1000) },
        Kind::Slow => Fault::Slow(host, other),
        Kind::Delay => Fault::Delay(host, other, Duration::from_millis(500)),
        Kind::Kill => Fault::Stop { host, how: Stop::Kill, empty },
        // Mapped zones are removed after that.
        Kind::PowerCut => Fault::Stop { host, how: Stop::PowerCut, empty: empty || plan.mapped },
        Kind::Restart => Fault::Stop { host, how: Stop::Graceful, empty },
        Kind::ClockStep => {
            let room_ns = (skew_ns - plan.skew.as_nanos() as i64).max(2) / 2;
            Fault::Clock { host, step_ns: rng.random_range(-room_ns..=room_ns) }
        }
        Kind::ClockJump => {
            let step_ns = rng.random_range(2 * skew_ns..=FAR * skew_ns);
            Fault::Clock { host, step_ns: if rng.random_bool(0.5) { step_ns } else { -step_ns } }
        }
        Kind::Dns | Kind::Reload => {
            let mut list: Vec<_> = hosts.iter().copied().filter(|_| rng.random_bool(0.6)).collect();
            if rng.random_bool(0.3) {
                list.push(super::plan::HOSTS_MAX + rng.random_range(0..2));
            }
            Fault::Believe { host, list }
        }
        Kind::DnsFlaps => Fault::Flap { host },
        Kind::Join => Fault::Join,
        Kind::Leave => {
            let how = *pick(rng, &[Stop::Kill, Stop::PowerCut, Stop::Graceful, Stop::Graceful]);
            Fault::Leave { host, how }
        }
        Kind::Burst => Fault::Burst,
        Kind::Crash => {
            let after = duration(rng, plan.delay.1 * CRASH_DELAYS);
            Fault::Crash { host, after, empty }
        }
    };
    Some((fault, lasts))
}
