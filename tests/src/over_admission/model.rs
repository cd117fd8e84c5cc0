//! Other ways to count, as models: they have no links, and messages that never get lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Rule;
use super::case::{Case, INTERVAL, JITTER};
use super::run::{Bucket, Counter, nanos};

/// Gateways that count in windows tell each other so often what they have counted.
const SUM: Duration = Duration::from_millis(100);
const WINDOW: Duration = Duration::from_secs(1);

/// One bucket for all: what a cluster would do whose messages take no time.
#[derive(Debug)]
pub(super) struct Central {
    bucket: Bucket,
    interval: u64,
    capacity: u64,
}

impl Central {
    pub(super) fn new(case: &Case) -> Self {
        let (interval, capacity) = (case.interval_ns(), case.capacity_ns());
        Self { bucket: Bucket::default(), interval, capacity }
    }
}

impl Counter for Central {
    fn advance(&mut self, _: Duration) -> Result<(), String> {
        Ok(())
    }

    fn admit(&mut self, now: Duration, _: usize, cost: u64) -> bool {
        self.bucket.admit(nanos(now), cost * self.interval, self.capacity)
    }

    fn refund(&mut self, now: Duration, _: usize, cost: u64) -> u64 {
        self.bucket.refund(nanos(now), cost * self.interval)
    }
}

/// Each node has a bucket with its share of rate and burst, and room for one request at least.
#[derive(Debug)]
pub(super) struct Split {
    buckets: Vec<Bucket>,
    interval: u64,
    capacity: u64,
}

impl Split {
    pub(super) fn new(case: &Case) -> Self {
        let nodes = case.nodes as u64;
        let burst = case.burst / nodes;
        let interval = case.interval_ns() * nodes;
        Self { buckets: vec![Bucket::default(); case.nodes], interval, capacity: (burst + 1) * interval }
    }
}

impl Counter for Split {
    fn advance(&mut self, _: Duration) -> Result<(), String> {
        Ok(())
    }

    fn admit(&mut self, now: Duration, node: usize, cost: u64) -> bool {
        self.buckets[node].admit(nanos(now), cost * self.interval, self.capacity)
    }

    fn refund(&mut self, now: Duration, node: usize, cost: u64) -> u64 {
        let nodes = self.buckets.len() as u64;
        self.buckets[node].refund(nanos(now), cost * self.interval) / nodes
    }
}

/// Counters of a window of a second: a node admits while its own and what it has heard of the others is below the rate.
#[derive(Debug)]
pub(super) struct Windows {
    own: Vec<u64>,
    /// What each node has been told that all have counted, with its own part of it.
    heard: Vec<(u64, u64)>,
    sums: BinaryHeap<Reverse<(Duration, Vec<u64>, u64)>>,
    window: u64,
    next_sum: Duration,
    delay: Duration,
    rate: u64,
    interval: u64,
}

impl Windows {
    pub(super) fn new(case: &Case) -> Self {
        Self {
            own: vec![0; case.nodes],
            heard: vec![(0, 0); case.nodes],
            sums: BinaryHeap::new(),
            window: 0,
            next_sum: SUM,
            delay: case.delay.mul_f64(1.0 + JITTER / 2.0),
            rate: case.rate,
            interval: case.interval_ns(),
        }
    }

    fn begin(&mut self, now: Duration) {
        let window = now.as_secs() / WINDOW.as_secs();
        if window != self.window {
            self.window = window;
            self.own.fill(0);
            self.heard.fill((0, 0));
        }
    }
}

impl Counter for Windows {
    fn advance(&mut self, to: Duration) -> Result<(), String> {
        while self.next_sum <= to {
            self.begin(self.next_sum);
            self.sums.push(Reverse((self.next_sum + self.delay, self.own.clone(), self.window)));
            self.next_sum += SUM;
        }
        while self.sums.peek().is_some_and(|Reverse(sum)| sum.0 <= to) {
            let Some(Reverse((at, own, window))) = self.sums.pop() else { break };
            self.begin(at);
            if window == self.window {
                let all = own.iter().sum();
                self.heard = own.into_iter().map(|own| (all, own)).collect();
            }
        }
        self.begin(to);
        Ok(())
    }

    fn admit(&mut self, _: Duration, node: usize, cost: u64) -> bool {
        let (all, own) = self.heard[node];
        let admitted = all - own + self.own[node] + cost <= self.rate;
        if admitted {
            self.own[node] += cost;
        }
        admitted
    }

    fn refund(&mut self, _: Duration, node: usize, cost: u64) -> u64 {
        let refunded = cost.min(self.own[node].saturating_sub(self.heard[node].1));
        self.own[node] -= refunded;
        refunded * self.interval
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Publish { node: usize },
    Row { to: usize, debt: i64, tat: u64 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    bucket: Bucket,
    debt: i64,
    not_before: Duration,
    is_dirty: bool,
    /// What others admit in a second: an average that forgets by a factor of e in a second.
    remote: f64,
    heard_at: u64,
}

/// Nodes that tell each other of admissions as soon as the interval allows.
#[derive(Debug)]
pub(super) struct Messages {
    rule: Rule,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    planned: u64,
    delay: Duration,
    interval: u64,
    capacity: u64,
}

impl Messages {
    pub(super) fn new(case: &Case, rule: Rule) -> Self {
        Self {
            rule,
            nodes: vec![Node::default(); case.nodes],
            events: BinaryHeap::new(),
            planned: 0,
            delay: case.delay.mul_f64(1.0 + JITTER / 2.0),
            interval: case.interval_ns(),
            capacity: case.capacity_ns(),
        }
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn dirty(&mut self, now: Duration, node: usize, debt: i64) {
        let state = &mut self.nodes[node];
        state.debt += debt;
        if !std::mem::replace(&mut state.is_dirty, true) {
            let at = state.not_before.max(now);
            self.plan(at, Event::Publish { node });
        }
    }

    fn happen(&mut self, at: Duration, event: Event) {
        match event {
            Event::Publish { node } => {
                let state = &mut self.nodes[node];
                let (debt, tat) = (std::mem::take(&mut state.debt), state.bucket.tat);
                (state.is_dirty, state.not_before) = (false, at + INTERVAL);
                for to in (0..self.nodes.len()).filter(|&to| to != node) {
                    self.plan(at + self.delay, Event::Row { to, debt, tat });
                }
            }
            Event::Row { to, debt, tat } => {
                let (now, state) = (nanos(at), &mut self.nodes[to]);
                if self.rule == Rule::Maximum {
                    state.bucket.tat = state.bucket.tat.max(tat);
                } else if debt < 0 {
                    state.bucket.refund(now, debt.unsigned_abs());
                } else {
                    state.bucket.add(now, debt.unsigned_abs());
                    state.remote = state.remote_at(now) + debt as f64 / 1e9;
                    state.heard_at = now;
                }
            }
        }
    }
}

impl Node {
    fn remote_at(&self, now: u64) -> f64 {
        self.remote * (-((now - self.heard_at) as f64) / 1e9).exp()
    }
}

impl Counter for Messages {
    fn advance(&mut self, to: Duration) -> Result<(), String> {
        while self.events.peek().is_some_and(|Reverse(event)| event.0 <= to) {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.happen(at, event);
        }
        Ok(())
    }

    fn admit(&mut self, now: Duration, node: usize, cost: u64) -> bool {
        let (at, work) = (nanos(now), cost * self.interval);
        let state = &mut self.nodes[node];
        let expected = match self.rule {
            Rule::Expecting => state.remote_at(at) * nanos(self.delay) as f64,
            Rule::Split | Rule::Windows | Rule::Maximum | Rule::Sum => 0.0,
        };
        let admitted = state.bucket.admit(at, work, self.capacity.saturating_sub(expected as u64));
        if admitted {
            self.dirty(now, node, work.cast_signed());
        }
        admitted
    }

    fn refund(&mut self, now: Duration, node: usize, cost: u64) -> u64 {
        let refunded = self.nodes[node].bucket.refund(nanos(now), cost * self.interval);
        self.dirty(now, node, -refunded.cast_signed());
        refunded
    }
}
