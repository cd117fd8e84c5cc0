//! The simulated world: one queue of events, ordered by time and then by when they were planned.

mod connections;
mod disturbances;
mod nodes;
mod verdict;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_node::simulation::SAVE_INTERVAL;
use tempfile::TempDir;

use super::faults::Fault;
use super::host::Machine;
use super::network::{ConnectionId, Host, Lane, Network, Side};
use super::plan::{HOSTS_MAX, Plan};
use super::truth::{Truth, spread};

/// Default of `timeout` and `connect_timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an end that has said its last words waits for the other.
const LINGER: Duration = Duration::from_secs(2);
/// The answers of DNS are good for so long.
const LOOKUP: Duration = Duration::from_secs(5);
/// No name is looked up more often.
const FLAP: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_secs(2);
/// After so long a node is started again that could not be.
const RESTART: Duration = Duration::from_secs(1);
/// How long a graceful stop waits for peers.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// After the last fault the cluster has so long to become equal: the slowest repair waits 320 s between two requests, and each of a few
/// origins may need some.
const SETTLE_MAX: Duration = Duration::from_secs(1_800);
/// Writes at once in a burst.
const BURST: usize = 300;

#[derive(Clone, Debug, Hash)]
enum Event {
    Wake(Host, u64),
    Arrive(ConnectionId, Side, Lane),
    DialTimeout(ConnectionId),
    /// Time to look whether an end has been silent for too long.
    Silence(ConnectionId, Side),
    Linger(ConnectionId, Side),
    Lookup(Host, u64),
    /// The keyval zone is saved once more.
    Save(Host, u64),
    Operate,
    Disturb,
    Heal(Fault),
    Flap {
        host: Host,
        until: Duration,
    },
    Start {
        host: Host,
        empty: bool,
    },
    Drained {
        host: Host,
        runs: u64,
        deadline: Duration,
        restart: Option<(Duration, bool)>,
    },
    /// The node that has just been written to ends, and is started again after a while.
    Crash {
        host: Host,
        runs: u64,
        empty: bool,
        lasts: Duration,
    },
    Check,
    Calm,
}

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How much time passed in it.
    pub simulated: Duration,
    /// A hash of everything that happened: equal for equal runs.
    pub trace: u64,
    /// How long the nodes took to become equal after the last fault.
    pub settled_after: Duration,
    /// By how much some node's view of a limit was beyond the truth, at most.
    pub excess: Duration,
    /// How far the nodes' views of a limit were apart in the end, at most.
    pub spread: Duration,
    /// How many requests more than its bucket has room for the strict zone has admitted, at most.
    pub strict_over: u64,
    /// How often a node with a state file has compared its records with the cluster after a long absence.
    pub compared: u64,
}

pub(super) struct World {
    plan: Plan,
    rng: SmallRng,
    now: Duration,
    planned: u64,
    events: BTreeMap<(Duration, u64), Event>,
    pub(super) machines: Vec<Machine>,
    /// Machines that take no more writes.
    stopping: BTreeSet<Host>,
    network: Network,
    truth: Truth,
    trace: DefaultHasher,
    operations: u64,
    calm_since: Option<Duration>,
    _folder: Option<TempDir>,
}

/// Files in memory, where the system has such a place.
fn folder() -> Result<TempDir, String> {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.map_err(|error| format!("no folder for zones: {error}"))
}

impl World {
    pub(super) fn new(plan: &Plan) -> Result<Self, String> {
        let mut rng = SmallRng::seed_from_u64(plan.seed);
        let folder = if plan.keeps_pairs() { Some(folder()?) } else { None };
        let path = folder.as_ref().map(|folder| folder.path());
        let machines = (0..HOSTS_MAX).map(|id| Machine::new(id, plan, path, &mut rng)).collect();
        let network = Network::new(plan, SmallRng::seed_from_u64(rng.random()));
        let mut world = Self {
            plan: plan.clone(),
            rng,
            now: Duration::ZERO,
            planned: 0,
            events: BTreeMap::new(),
            machines,
            stopping: BTreeSet::new(),
            network,
            truth: Truth::default(),
            trace: DefaultHasher::new(),
            operations: 0,
            calm_since: None,
            _folder: folder,
        };
        for host in 0..plan.nodes {
            world.machines[host].is_member = true;
        }
        for host in 0..plan.nodes {
            world.plan_in(Duration::from_millis(host as u64 * 10), Event::Start { host, empty: false });
        }
        world.plan_in(Duration::from_secs(1), Event::Operate);
        world.plan_in(Duration::from_secs(5), Event::Disturb);
        world.plan_in(CHECK, Event::Check);
        world.plan_in(plan.disturbed, Event::Calm);
        Ok(world)
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) -> Result<Summary, String> {
        loop {
            let Some(((at, _), event)) = self.events.pop_first() else {
                return Err("nothing is planned any more".to_owned());
            };
            self.now = at;
            (at, &event).hash(&mut self.trace);
            let is_check = matches!(event, Event::Check);
            self.happen(event)?;
            if is_check && let Some(settled_after) = self.settled()? {
                return Ok(Summary {
                    simulated: self.now,
                    trace: self.trace.finish(),
                    settled_after,
                    excess: self.truth.excess,
                    spread: spread(self.now, &self.machines, &self.truth, &self.plan),
                    strict_over: self.truth.strict_over,
                    compared: self.truth.compared,
                });
            }
        }
    }

    fn plan_in(&mut self, after: Duration, event: Event) {
        self.plan_at(self.now + after, event);
    }

    fn plan_at(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.insert((at.max(self.now), self.planned), event);
    }

    /// A time around an average, never zero.
    fn about(&mut self, average: Duration) -> Duration {
        average.mul_f64(self.rng.random_range(0.02..2.0))
    }

    fn up(&self) -> Vec<Host> {
        let up = self.machines.iter().filter(|m| m.node.is_some() && !self.stopping.contains(&m.id));
        up.map(|machine| machine.id).collect()
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Wake(host, runs) => {
                if self.machines[host].runs == runs && self.machines[host].wake_at == self.now {
                    self.machines[host].wake_at = Duration::MAX;
                    self.touch(host);
                }
            }
            Event::Arrive(id, side, lane) => self.arrive(id, side, lane)?,
            Event::DialTimeout(id) => self.dial_timeout(id),
            Event::Silence(id, side) => self.silence(id, side),
            Event::Linger(id, side) => self.gone(id, side, None),
            Event::Lookup(host, runs) => {
                if self.machines[host].runs == runs && self.machines[host].node.is_some() {
                    self.look_up(host);
                    self.plan_in(LOOKUP, Event::Lookup(host, runs));
                }
            }
            Event::Save(host, runs) => {
                if self.machines[host].runs == runs && self.machines[host].node.is_some() {
                    self.save(host, true)?;
                    self.touch(host);
                    self.plan_in(SAVE_INTERVAL, Event::Save(host, runs));
                }
            }
            Event::Operate => self.operate()?,
            Event::Disturb => self.disturb()?,
            Event::Heal(fault) => self.heal(&fault)?,
            Event::Flap { host, until } => self.flap(host, until),
            Event::Start { host, empty } => self.start(host, empty)?,
            Event::Drained { host, runs, deadline, restart } => {
                self.drained(host, runs, deadline, restart)?
            }
            Event::Crash { host, runs, empty, lasts } => self.crash(host, runs, empty, lasts)?,
            Event::Check => self.check()?,
            Event::Calm => self.calm()?,
        }
        Ok(())
    }
}
