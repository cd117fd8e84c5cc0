//! The nodes of a soak, and the ways between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{API_PORT, Api, Cluster, Config, Fault, Loopback, Node, Proxy, SYNC_PORT};

/// The first port of the proxies; each way has its own.
const PROXY_PORT: u16 = 9100;
/// Longer than a healthy node takes to answer on a busy machine; one that is stopped is not waited for much longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Faults last longer and shorter than these time-outs. Tombstones are forgotten many times in an hour, and long after any fault is over.
const ZONE_SYNC: [&str; 6] = [
    "timeout = \"2s\"",
    "connect_timeout = \"2s\"",
    "connect_retry_interval = \"100ms\"",
    "shutdown_timeout = \"5s\"",
    "tombstone_retention = \"2m\"",
    "max_clock_skew = \"1m\"",
];

/// A running cluster.
#[derive(Debug)]
pub(super) struct Site {
    /// `None` while a node is down.
    nodes: Vec<Option<Node>>,
    apis: Vec<Api>,
    /// Clients of the same nodes that wait for an answer no longer than [`ANSWER_LIMIT`]: the nodes may be stopped.
    impatient: Vec<Api>,
    /// Which nodes the load may use.
    open: Arc<[AtomicBool]>,
    restarts: Vec<u64>,
    /// What nodes did that no node may do.
    misdeeds: Vec<String>,
    /// By who dials and who is dialled.
    ways: BTreeMap<(usize, usize), Proxy>,
    names: Vec<String>,
    cluster: Cluster,
    _address: Loopback,
}

impl Site {
    pub(super) fn start(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let address = Loopback::claim();
        // Peers are verified by the address that is dialled: that of the proxies.
        let cluster = Cluster::with_host(&all, "", &address.ip().to_string());
        let pairs =
            (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let ways = pairs.zip(PROXY_PORT..).map(|((from, to), port)| {
            let proxy = Proxy::start(address.port(port), cluster.loopback(&names[to]).port(SYNC_PORT));
            ((from, to), proxy)
        });
        let ways = ways.collect();
        let address_of = |name: &String| cluster.loopback(name).port(API_PORT);
        let mut site = Self {
            nodes: Vec::new(),
            apis: names.iter().map(address_of).map(Api::new).collect(),
            impatient: names.iter().map(|name| Api::with_limit(address_of(name), ANSWER_LIMIT)).collect(),
            open: names.iter().map(|_| AtomicBool::new(true)).collect(),
            restarts: vec![0; count],
            misdeeds: Vec::new(),
            ways,
            names,
            cluster,
            _address: address,
        };
        site.nodes = (0..count).map(|node| Some(site.cluster.start_with(site.config(node)))).collect();
        for node in site.nodes.iter_mut().flatten() {
            node.wait_ready();
            node.wait_online(count as u64 - 1);
        }
        site
    }

    fn config(&self, node: usize) -> Config {
        let name = &self.names[node];
        let file = |kind: &str| self.cluster.directory().join(format!("{name}.{kind}"));
        let servers = self.ways.iter().filter(|((from, _), _)| *from == node);
        Config {
            servers: servers.map(|(_, way): (_, &Proxy)| SocketAddr::to_string(&way.address())).collect(),
            zone_sync: ZONE_SYNC.map(str::to_owned).to_vec(),
            zones: format!(
                "[[keyval_zone]]\nname = \"one\"\nsize = \"16m\"\ntimeout = \"1h\"\nstate = {:?}\n
                [[sticky_zone]]\nname = \"sessions\"\nsize = \"4m\"\ntimeout = \"1h\"\nmap_file = {:?}\n
                [[limit_req_zone]]\nname = \"req\"\nsize = \"1m\"\nrate = \"10r/h\"\nmap_file = {:?}\n",
                file("one"),
                file("sessions"),
                file("req"),
            ),
            ..self.cluster.config(name)
        }
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, node: usize) -> &str {
        &self.names[node]
    }

    /// Clients for the end, when everything is put right.
    pub(super) fn apis(&self) -> impl Iterator<Item = &Api> {
        self.apis.iter()
    }

    /// Clients for the time of the faults.
    pub(super) fn impatient(&self) -> impl Iterator<Item = &Api> {
        self.impatient.iter()
    }

    /// Which nodes the load may use.
    pub(super) fn open(&self) -> Arc<[AtomicBool]> {
        Arc::clone(&self.open)
    }

    /// The node, if it is up.
    pub(super) fn node(&self, node: usize) -> Option<&Node> {
        self.nodes[node].as_ref()
    }

    pub(super) fn restarts(&self, node: usize) -> u64 {
        self.restarts[node]
    }

    /// Keeps the load away from a node that is about to have a fault, and returns the node.
    pub(super) fn close(&mut self, node: usize) -> Option<&mut Node> {
        self.open[node].store(false, Ordering::Relaxed);
        self.nodes[node].as_mut()
    }

    /// Ends a node that is dying or stopping, if it has not yet, and starts it again. The load comes back when it is ready.
    pub(super) fn restart(&mut self, node: usize, limit: Duration) {
        if let Some(mut old) = self.nodes[node].take() {
            old.wait_end(limit);
            self.misdeeds.extend(panic_of(&old));
        }
        self.nodes[node] = Some(self.cluster.start_with(self.config(node)));
        self.restarts[node] += 1;
    }

    /// Whether a node is ready; the load may use it from then on.
    pub(super) fn try_open(&self, node: usize) -> bool {
        let ready = self.impatient[node].ready().is_ok();
        if ready {
            self.open[node].store(true, Ordering::Relaxed);
        }
        ready
    }

    /// Sets the ways between two nodes: what `a` sends to `b` has the blocks of `fault` forth, what `b` sends those back.
    pub(super) fn set(&self, a: usize, b: usize, fault: Fault) {
        let back = Fault { blocked_forth: fault.blocked_back, blocked_back: fault.blocked_forth, ..fault };
        self.ways[&(a, b)].set(fault);
        self.ways[&(b, a)].set(back);
    }

    /// Starts nodes anew that have ended by themselves.
    pub(super) fn revive(&mut self) {
        for node in 0..self.count() {
            let status = match &mut self.nodes[node] {
                Some(running) if self.open[node].load(Ordering::Relaxed) => running.status(),
                _ => None,
            };
            if let Some(status) = status {
                self.misdeeds.push(format!("{} ended by itself: {status}", self.names[node]));
                self.restart(node, Duration::ZERO);
            }
        }
    }

    /// A sentence for each node that has ended by itself, or has written of a panic into its log.
    pub(super) fn misdeeds(&self) -> Vec<String> {
        let now = self.nodes.iter().flatten().filter_map(panic_of);
        self.misdeeds.iter().cloned().chain(now).collect()
    }
}

fn panic_of(node: &Node) -> Option<String> {
    let log = node.log();
    let line = log.lines().find(|line| line.contains("panicked at"))?;
    Some(format!("{} panicked: {line}", node.name()))
}
