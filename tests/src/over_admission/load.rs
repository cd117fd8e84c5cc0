//! The requests of a case, from one seed, and how far a cluster may go over the limit when it is offered them.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::case::{Case, Traffic};

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) at: Duration,
    pub(super) node: usize,
    pub(super) cost: u64,
    /// If it is admitted, it is refunded a little later.
    pub(super) refunded: bool,
}

/// The requests in order of time.
#[derive(Debug)]
pub(super) struct Load(pub(super) Vec<Request>);

impl Load {
    pub(super) fn new(case: &Case) -> Self {
        let mut rng = SmallRng::seed_from_u64(1);
        let shares: Vec<f64> = (0..case.nodes).map(|node| share(case, node)).collect();
        let total: f64 = shares.iter().sum();
        let mut requests = Vec::new();
        for (node, share) in shares.into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            // Costs of 3 on average.
            let cost = if case.mixed { 3.0 } else { 1.0 };
            let distance = total / share * cost / (case.load * case.rate) as f64;
            let mut at = distance * rng.random_range(0.0..1.0);
            while at < case.duration().as_secs_f64() {
                let (cost, refunded) =
                    if case.mixed { (rng.random_range(1..=5), rng.random_ratio(1, 20)) } else { (1, false) };
                requests.push(Request { at: Duration::from_secs_f64(at), node, cost, refunded });
                at += if case.regular { distance } else { -distance * (1.0 - rng.random::<f64>()).ln() };
            }
        }
        requests.sort_by_key(|request| (request.at, request.node));
        Self(requests)
    }

    /// The formula of `docs/semantics.md`.
    ///
    /// Whoever admits a request knows all but what the others have admitted within δ. That is, of each, no more than it was offered within δ, and no more
    /// than an own bucket lets pass in that time. Any node may be the one that admits, so the node that contributes least is left out.
    pub(super) fn bound(&self, case: &Case) -> f64 {
        let passed = (case.burst + 1) as f64 + case.rate as f64 * case.delta().as_secs_f64();
        let offered = (0..case.nodes).map(|node| (self.offered(node, case.delta()) as f64).min(passed));
        let offered: Vec<f64> = offered.collect();
        let least = offered.iter().copied().fold(f64::INFINITY, f64::min);
        offered.iter().sum::<f64>() - least
    }

    /// The most that a node is offered within `time`.
    fn offered(&self, node: usize, time: Duration) -> u64 {
        let requests: Vec<_> = self.0.iter().filter(|request| request.node == node).collect();
        let (mut first, mut within, mut most) = (0, 0, 0);
        for request in &requests {
            within += request.cost;
            while requests[first].at + time < request.at {
                within -= requests[first].cost;
                first += 1;
            }
            most = most.max(within);
        }
        most
    }
}

fn share(case: &Case, node: usize) -> f64 {
    match case.traffic {
        Traffic::Even => 1.0,
        Traffic::One if node == 0 => 1.0,
        Traffic::One => 0.0,
        Traffic::Zipf => 1.0 / (node + 1) as f64,
    }
}
