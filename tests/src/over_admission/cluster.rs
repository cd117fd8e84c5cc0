//! Real nodes in a full mesh, without sockets: every message takes the delay of the case, and none is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_node::simulation::{Action, LinkId, Moment, Node};
use sync_proto::framing::parse_length;
use sync_store::{Check, LimitZone, Origin, Rate, Region, Time};
use sync_transport::{Address, Target};

use super::case::{Case, INTERVAL, JITTER};
use super::run::{Counter, nanos};

const ZONE: &str = "limit";
const KEY: &str = "key";
/// The time of day when a node starts.
const START: Time = Time::from_millis(1_700_000_000_000);
/// By then all links stand, and the requests begin.
const JOIN: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake { host: usize },
    Dialled { from: usize, link: LinkId, to: usize },
    Granted { host: usize, link: LinkId },
    Frame { host: usize, link: LinkId, body: Bytes },
}

/// Where a link's frames go, and when the last one arrives.
#[derive(Clone, Copy, Debug)]
struct Way {
    host: usize,
    link: LinkId,
    arrived_at: Duration,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<Node>,
    limits: Vec<Arc<LimitZone>>,
    wake_at: Vec<Duration>,
    ways: BTreeMap<(usize, LinkId), Way>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    planned: u64,
    rng: SmallRng,
    delay: Duration,
    interval_ns: u64,
}

impl Cluster {
    /// Starts the nodes, and waits until all are connected with all.
    pub(super) fn new(case: &Case) -> Result<Self, String> {
        let mut rng = SmallRng::seed_from_u64(2);
        let (mut nodes, mut limits) = (Vec::new(), Vec::new());
        for host in 0..case.nodes {
            let zone = LimitZone::builder(ZONE)
                .size(1 << 16)
                .rate(Rate::per_second(case.rate).map_err(|error| error.to_string())?)
                .burst(case.burst)
                .region(Region::anonymous().huge_pages(false).seed(rng.random()));
            let builder = sync_node::Node::builder(format!("host-{host}")).plain_text().interval(INTERVAL);
            let origin = Origin::from_raw(rng.random_range(1..=u64::MAX)).unwrap_or_else(Origin::random);
            let node =
                builder.limit(zone).simulate(origin, rng.random()).map_err(|error| error.to_string())?;
            limits.push(node.limit(ZONE).ok_or("a zone that was just made")?);
            nodes.push(node);
        }
        let mut cluster = Self {
            wake_at: vec![Duration::MAX; nodes.len()],
            nodes,
            limits,
            ways: BTreeMap::new(),
            events: BinaryHeap::new(),
            planned: 0,
            rng,
            delay: case.delay,
            interval_ns: case.interval_ns(),
        };
        for host in 0..case.nodes {
            let others: Vec<_> = (0..case.nodes).filter(|&other| other != host).map(target).collect();
            cluster.nodes[host].handle_targets(moment(Duration::ZERO), &others, true);
            cluster.touch(Duration::ZERO, host)?;
        }
        cluster.pass(JOIN)?;
        for node in &cluster.nodes {
            if let Some(what) = node.unjoined() {
                return Err(format!("a node has not joined: {what}"));
            }
            if node.peers_out() != case.nodes - 1 {
                return Err(format!("a node has {} links", node.peers_out()));
            }
        }
        Ok(cluster)
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn arrival(&mut self, now: Duration) -> Duration {
        now + self.delay.mul_f64(self.rng.random_range(1.0..1.0 + JITTER))
    }

    fn pass(&mut self, to: Duration) -> Result<(), String> {
        while self.events.peek().is_some_and(|Reverse(event)| event.0 <= to) {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            let host = match event {
                Event::Wake { host } => {
                    if self.wake_at[host] != at {
                        continue;
                    }
                    self.wake_at[host] = Duration::MAX;
                    host
                }
                Event::Dialled { from, link, to } => {
                    let accepted = self.nodes[to].accept(moment(at));
                    let arrived_at = self.arrival(at);
                    self.ways.insert((from, link), Way { host: to, link: accepted, arrived_at: at });
                    self.ways.insert((to, accepted), Way { host: from, link, arrived_at });
                    self.plan(arrived_at, Event::Granted { host: from, link });
                    to
                }
                Event::Granted { host, link } => {
                    self.nodes[host].connected(moment(at), link);
                    host
                }
                Event::Frame { host, link, body } => {
                    self.nodes[host].handle_frame(moment(at), link, Some(body));
                    host
                }
            };
            self.touch(at, host)?;
        }
        Ok(())
    }

    /// Lets a node do what is due.
    fn touch(&mut self, now: Duration, host: usize) -> Result<(), String> {
        self.nodes[host].poll(moment(now));
        while self.nodes[host].is_woken() {
            for link in self.nodes[host].take_woken() {
                while let Some((_, frame)) = self.nodes[host].poll_transmit(moment(now), link, &|_| true) {
                    self.send(now, host, link, &frame)?;
                }
            }
        }
        while let Some(action) = self.nodes[host].poll_action() {
            match action {
                Action::Dial(link, target) => {
                    let to = host_at(&target).ok_or("a target that nobody named")?;
                    let at = self.arrival(now);
                    self.plan(at, Event::Dialled { from: host, link, to });
                }
                Action::Close(..) => return Err("a link ended without a fault".to_owned()),
            }
        }
        let wake_at = self.nodes[host].poll_timeout().max(now + Duration::from_nanos(1));
        if wake_at < self.wake_at[host] {
            self.wake_at[host] = wake_at;
            self.plan(wake_at, Event::Wake { host });
        }
        Ok(())
    }

    fn send(&mut self, now: Duration, host: usize, link: LinkId, frame: &Bytes) -> Result<(), String> {
        let (prefix, _) = parse_length(frame).ok_or("a frame without a length")?;
        let at = self.arrival(now);
        let way = self.ways.get_mut(&(host, link)).ok_or("a frame for a link that does not stand")?;
        way.arrived_at = way.arrived_at.max(at);
        let Way { host, link, arrived_at } = *way;
        self.plan(arrived_at, Event::Frame { host, link, body: frame.slice(prefix..) });
        Ok(())
    }
}

impl Counter for Cluster {
    fn advance(&mut self, to: Duration) -> Result<(), String> {
        self.pass(JOIN + to)
    }

    fn admit(&mut self, now: Duration, node: usize, cost: u64) -> bool {
        let check = Check { cost: cost.cast_signed(), ..Check::default() };
        let admitted = self.limits[node].check(KEY, &check, moment(JOIN + now).time).is_admitted();
        if admitted {
            self.plan_now(now, node);
        }
        admitted
    }

    fn refund(&mut self, now: Duration, node: usize, cost: u64) -> u64 {
        let (limit, time) = (&self.limits[node], moment(JOIN + now).time);
        let peek = Check { cost: 0, ..Check::default() };
        let backlog = || nanos(limit.check(KEY, &peek, time).reset());
        let before = backlog();
        limit.check(KEY, &Check { cost: -cost.cast_signed(), ..Check::default() }, time);
        let refunded = before - backlog();
        debug_assert!(refunded <= cost * self.interval_ns, "no more than it cost");
        self.plan_now(now, node);
        refunded
    }
}

impl Cluster {
    /// A zone that is dirty wakes its publisher.
    fn plan_now(&mut self, now: Duration, host: usize) {
        let at = JOIN + now;
        if at < self.wake_at[host] {
            self.wake_at[host] = at;
            self.plan(at, Event::Wake { host });
        }
    }
}

fn moment(now: Duration) -> Moment {
    Moment { time: START.saturating_add(now), elapsed: now }
}

fn target(host: usize) -> Target {
    Target::from(Address::Tcp(([10, 0, 0, host as u8 + 1], 9000).into()))
}

fn host_at(target: &Target) -> Option<usize> {
    match &target.address {
        Address::Tcp(address) => match address.ip() {
            std::net::IpAddr::V4(ip) => usize::from(ip.octets()[3]).checked_sub(1),
            std::net::IpAddr::V6(_) => None,
        },
        Address::Quic(_) | Address::Unix(_) => None,
    }
}
