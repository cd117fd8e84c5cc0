//! The demo's traffic: what proxies would do with the zones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_node::Node;
use sync_store::{Check, Expiry, Time};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{KEYVAL, LIMIT, STICKY};

/// Every node does this much each hundredth of a second.
const TICK: Duration = Duration::from_millis(10);
const WRITES: usize = 20;
const SESSIONS: usize = 10;
const REQUESTS: usize = 2;
/// How many different keys and sessions there are.
const KEYS: u32 = 20_000;
const SERVERS: u32 = 8;
/// One write in this many removes the key.
const REMOVE_EVERY: u32 = 20;
/// Between two measurements of convergence.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// A write that is not everywhere by then counts as this late.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// What has been done so far, by all nodes.
#[derive(Debug)]
pub(super) struct Traffic {
    nodes: Arc<Vec<Node>>,
    pub(super) writes: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) admitted: AtomicU64,
    /// From a write on one node until every other node reads it.
    pub(super) delays: Mutex<Vec<Duration>>,
    stopping: AtomicBool,
}

/// Traffic that runs until it is stopped.
pub(super) struct Running {
    traffic: Arc<Traffic>,
    tasks: JoinSet<()>,
    probe: thread::JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.traffic.stopping.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        // It ends within one probe; that it panicked would show in the figures it lacks.
        let _ = self.probe.join();
    }
}

impl Traffic {
    pub(super) fn new(nodes: Arc<Vec<Node>>) -> Self {
        Self {
            nodes,
            writes: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            delays: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn start(self: &Arc<Self>) -> Running {
        let mut tasks = JoinSet::new();
        for node in self.nodes.iter() {
            tasks.spawn(Arc::clone(self).work(node.clone()));
        }
        let traffic = Arc::clone(self);
        let probe = thread::spawn(move || traffic.probe());
        Running { traffic: Arc::clone(self), tasks, probe }
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    async fn work(self: Arc<Self>, node: Node) {
        let mut rng = SmallRng::seed_from_u64(node.origin().raw());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.stopping() {
            tick.tick().await;
            let now = node.now();
            self.write(&node, &mut rng, now);
            self.visit(&node, &mut rng, now);
            self.request(&node, now);
        }
    }

    fn write(&self, node: &Node, rng: &mut SmallRng, now: Time) {
        let Some(zone) = node.keyval(KEYVAL) else { return };
        for _ in 0..WRITES {
            let key = format!("feature-{:08}", rng.random_range(0..KEYS));
            let written = if rng.random_range(0..REMOVE_EVERY) == 0 {
                zone.remove(key, now).is_ok()
            } else {
                let value = format!("{:032x}", rng.random::<u128>());
                zone.set(key, value, now, Expiry::Default).is_ok()
            };
            self.writes.fetch_add(u64::from(written), Ordering::Relaxed);
        }
    }

    fn visit(&self, node: &Node, rng: &mut SmallRng, now: Time) {
        let Some(zone) = node.sticky(STICKY) else { return };
        for _ in 0..SESSIONS {
            let session = format!("session-{:024}", rng.random_range(0..KEYS));
            if zone.lookup(&session, now).is_none() {
                let server = format!("backend-{}:8080", rng.random_range(0..SERVERS));
                // A full zone makes room; nothing else can fail here.
                let _ = zone.learn(&session, server, now);
            }
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn request(&self, node: &Node, now: Time) {
        let Some(zone) = node.limit(LIMIT) else { return };
        for _ in 0..REQUESTS {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let admitted = zone.check("one-client", &Check::default(), now).is_admitted();
            self.admitted.fetch_add(u64::from(admitted), Ordering::Relaxed);
        }
    }

    /// Measures convergence: writes on one node after the other, watches all others.
    fn probe(&self) {
        let mut value = Vec::new();
        for turn in 0_usize.. {
            if self.stopping() {
                return;
            }
            let writer = turn % self.nodes.len();
            let expected = turn.to_be_bytes();
            let zones: Vec<_> = self.nodes.iter().filter_map(|node| node.keyval(KEYVAL)).collect();
            let start = self.nodes[writer].now();
            if zones[writer].set("probe", expected, start, Expiry::Default).is_err() {
                return;
            }
            let everywhere = |value: &mut Vec<u8>| {
                zones.iter().zip(self.nodes.iter()).all(|(zone, node)| {
                    value.clear();
                    zone.get_into("probe", node.now(), value) && value.as_slice() == expected
                })
            };
            let elapsed = || self.nodes[writer].now().saturating_sub(start);
            while !everywhere(&mut value) && elapsed() < PROBE_PATIENCE {
                thread::yield_now();
            }
            self.delays.lock().push(elapsed());
            thread::sleep(PROBE_PAUSE);
        }
    }
}
