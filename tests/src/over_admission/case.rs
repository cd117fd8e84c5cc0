//! What is measured: the parameters, and which combinations.

use std::time::Duration;

/// The default of the setting `interval`: how long a node may gather before it publishes.
pub(super) const INTERVAL: Duration = Duration::from_millis(1);
/// A message takes up to so much longer than the delay of the case.
pub(super) const JITTER: f64 = 0.2;

/// How the requests are spread over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Evenly.
    Even,
    /// All of them reach one node.
    One,
    /// The k-th node gets a share proportional to 1 / k.
    Zipf,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// How many nodes.
    pub nodes: usize,
    /// Requests a second that the limit admits.
    pub rate: u64,
    /// How many may come early.
    pub burst: u64,
    /// How long a message takes, up to a fifth more.
    pub delay: Duration,
    /// How the requests are spread.
    pub traffic: Traffic,
    /// How many times the rate is offered.
    pub load: u64,
    /// Requests come at equal distances, and not at random.
    pub regular: bool,
    /// Costs of 1 to 5, of which one in twenty is refunded; otherwise all cost 1.
    pub mixed: bool,
}

impl Case {
    fn new(nodes: usize, rate: u64, burst: u64, delay_ms: u64) -> Self {
        let delay = Duration::from_millis(delay_ms);
        let traffic = Traffic::Even;
        Self { nodes, rate, burst, delay, traffic, load: 2, regular: false, mixed: false }
    }

    /// How much time passes: about 2000 admissions, within 1 to 60 seconds.
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs((2_000 / self.rate).clamp(1, 60))
    }

    /// From an admission until every node counts it, at most.
    pub(super) fn delta(&self) -> Duration {
        self.delay.mul_f64(1.0 + JITTER) + INTERVAL
    }

    pub(super) fn interval_ns(&self) -> u64 {
        1_000_000_000 / self.rate
    }

    /// How much work the bucket holds.
    pub(super) fn capacity_ns(&self) -> u64 {
        (self.burst + 1) * self.interval_ns()
    }

    /// The columns of the table that tell it.
    pub fn columns(&self) -> String {
        let traffic = match self.traffic {
            Traffic::Even => "even",
            Traffic::One => "one node",
            Traffic::Zipf => "Zipf",
        };
        let regular = if self.regular { ", regular" } else { "" };
        let mixed = if self.mixed { ", mixed costs" } else { "" };
        let (nodes, rate, burst, delay) = (self.nodes, self.rate, self.burst, self.delay.as_millis());
        format!("{nodes} | {rate}/s | {burst} | {delay} ms | {}×, {traffic}{regular}{mixed}", self.load)
    }
}

/// All cases; `quick`: those of few nodes and moderate rates.
pub fn grid(quick: bool) -> Vec<Case> {
    let (nodes, rates, delays): (&[_], &[_], &[_]) = if quick {
        (&[2, 8], &[10, 1_000], &[0, 10, 100])
    } else {
        (&[2, 4, 8, 16, 32], &[1, 10, 100, 1_000, 10_000], &[0, 1, 10, 50, 100])
    };
    let mut cases = documented();
    for &nodes in nodes {
        for &rate in rates {
            for burst in [0, rate / 10, rate] {
                for &delay in delays {
                    cases.push(Case::new(nodes, rate, burst, delay));
                }
            }
        }
        // The other ways to be offered requests, where they matter most.
        for (rate, burst) in [(100, 10), (1_000, 0), (1_000, 1_000)] {
            let usual = || Case::new(nodes, rate, burst, 50);
            cases.push(Case { traffic: Traffic::One, ..usual() });
            cases.push(Case { traffic: Traffic::Zipf, ..usual() });
            cases.push(Case { regular: true, ..usual() });
            cases.push(Case { mixed: true, ..usual() });
            cases.push(Case { load: 20, ..usual() });
            cases.push(Case { load: 20, traffic: Traffic::Zipf, mixed: true, ..usual() });
        }
    }
    cases
}

/// The cases of the table in `docs/semantics.md`.
pub fn documented() -> Vec<Case> {
    let usual = |nodes| Case::new(nodes, 100, 10, 10);
    vec![
        usual(2),
        usual(4),
        usual(8),
        usual(16),
        usual(32),
        Case::new(8, 100, 10, 0),
        Case::new(8, 100, 10, 100),
        Case::new(8, 1_000, 0, 10),
        Case::new(8, 1_000, 1_000, 10),
        Case::new(8, 10_000, 1_000, 10),
        Case { traffic: Traffic::One, ..usual(8) },
        Case { traffic: Traffic::Zipf, ..usual(8) },
        Case { regular: true, ..usual(8) },
        Case { mixed: true, ..usual(8) },
        Case { load: 20, ..usual(8) },
        Case { load: 20, delay: Duration::from_millis(100), ..Case::new(8, 1_000, 0, 0) },
    ]
}
