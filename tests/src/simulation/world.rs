//! The simulated world: one queue of events, ordered by time and then by when they were planned.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_node::simulation::{Action, LinkId};
use sync_proto::framing::parse_length;
use tempfile::TempDir;

use super::faults::{self, Fault, Stop};
use super::host::{LIMIT, Machine, STICKY, host_at, target};
use super::network::{ConnectionId, Host, Item, Network, Phase, Side};
use super::plan::{HOSTS_MAX, Plan, Room};
use super::truth::{Truth, fastest};
use super::workload;

/// Default of `timeout` and `connect_timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an end that has said its last words waits for the other.
const LINGER: Duration = Duration::from_secs(2);
/// The answers of DNS are good for so long.
const LOOKUP: Duration = Duration::from_secs(5);
/// No name is looked up more often.
const FLAP: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_secs(2);
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
    Arrive(ConnectionId, Side),
    DialTimeout(ConnectionId),
    /// Time to look whether an end has been silent for too long.
    Silence(ConnectionId, Side),
    Linger(ConnectionId, Side),
    Lookup(Host, u64),
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
        let folder = if plan.mapped { Some(folder()?) } else { None };
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
            Event::Arrive(id, side) => self.arrive(id, side)?,
            Event::DialTimeout(id) => self.dial_timeout(id),
            Event::Silence(id, side) => self.silence(id, side),
            Event::Linger(id, side) => self.gone(id, side, None),
            Event::Lookup(host, runs) => {
                if self.machines[host].runs == runs && self.machines[host].node.is_some() {
                    self.look_up(host);
                    self.plan_in(LOOKUP, Event::Lookup(host, runs));
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
            Event::Check => self.check()?,
            Event::Calm => self.calm()?,
        }
        Ok(())
    }

    // Nodes.

    /// Lets a node do what is due, and does what it says.
    fn touch(&mut self, host: Host) {
        loop {
            let machine = &mut self.machines[host];
            let moment = machine.moment(self.now);
            let Some(node) = machine.node.as_mut() else { return };
            node.poll(moment);
            machine.ready.extend(node.take_woken());
            for link in machine.ready.clone() {
                let at = self.machines[host].links.get(&link).copied();
                let has_more = at.is_some_and(|(id, side)| self.transmit(host, link, id, side));
                if !has_more {
                    self.machines[host].ready.remove(&link);
                }
            }
            let mut is_done = true;
            while let Some(action) = self.machines[host].node.as_mut().and_then(|node| node.poll_action()) {
                is_done = false;
                match action {
                    Action::Dial(link, to) => self.dial(host, link, host_at(&to)),
                    Action::Close(link, last_words) => self.close(host, link, last_words),
                }
            }
            // Sending may have published, and ending a link may have freed another.
            let is_woken = self.machines[host].node.as_ref().is_some_and(|node| node.is_woken());
            if is_done && !is_woken {
                break;
            }
        }
        let machine = &mut self.machines[host];
        let Some(due) = machine.node.as_ref().map(|node| node.poll_timeout()) else { return };
        let due = machine.due(due).max(self.now + Duration::from_nanos(1));
        if due < machine.wake_at {
            machine.wake_at = due;
            let runs = machine.runs;
            self.plan_at(due, Event::Wake(host, runs));
        }
    }

    /// Sends what a link has. Answers whether it has more than there is room for.
    fn transmit(&mut self, host: Host, link: LinkId, id: ConnectionId, side: Side) -> bool {
        let moment = self.machines[host].moment(self.now);
        while self.network.has_room(id, side) {
            let node = self.machines[host].node.as_mut();
            let Some(frame) = node.and_then(|node| node.poll_transmit(moment, link)) else { return false };
            self.send(id, side, Item::Frame(frame));
        }
        true
    }

    fn start(&mut self, host: Host, empty: bool) -> Result<(), String> {
        if self.machines[host].node.is_some() || !self.machines[host].is_member {
            return Ok(());
        }
        if empty {
            self.truth.discards(self.now, &self.machines, host);
        }
        let (now, machine) = (self.now, &mut self.machines[host]);
        machine.start(now, &self.plan, empty, &mut self.rng)?;
        machine.troubled_at = machine.troubled_at.max(now);
        self.truth.started(now, machine)?;
        let runs = machine.runs;
        self.look_up(host);
        self.plan_in(LOOKUP, Event::Lookup(host, runs));
        Ok(())
    }

    /// Discovery has an answer.
    fn look_up(&mut self, host: Host) {
        let members = || self.machines.iter().filter(|machine| machine.is_member).map(|machine| machine.id);
        let list = self.machines[host].belief.clone().unwrap_or_else(|| members().collect());
        let targets: Vec<_> = list.into_iter().map(target).collect();
        let moment = self.machines[host].moment(self.now);
        if let Some(node) = &mut self.machines[host].node {
            node.handle_targets(moment, &targets, true);
        }
        self.touch(host);
    }

    /// A node ends at once, with its connections.
    fn end(&mut self, host: Host, how: Stop, empty: bool, drained: bool) -> Result<(), String> {
        if self.machines[host].node.is_none() {
            return Ok(());
        }
        let keeps = self.machines[host].keeps_state() && !empty;
        self.truth.ends(self.now, &self.machines, host, keeps, drained);
        self.stopping.remove(&host);
        let links = std::mem::take(&mut self.machines[host].links);
        for (id, side) in links.into_values() {
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.end_mut(side).phase = Phase::Gone;
            }
            if how != Stop::PowerCut {
                self.send(id, side, Item::Reset);
            }
        }
        self.machines[host].has_power = how != Stop::PowerCut;
        match how {
            Stop::Graceful => self.machines[host].node = None,
            Stop::Kill | Stop::PowerCut => self.machines[host].kill()?,
        }
        Ok(())
    }

    fn stop_gracefully(&mut self, host: Host, restart: Option<(Duration, bool)>) {
        self.stopping.insert(host);
        let (runs, deadline) = (self.machines[host].runs, self.now + SHUTDOWN);
        self.plan_in(Duration::ZERO, Event::Drained { host, runs, deadline, restart });
    }

    fn drained(
        &mut self,
        host: Host,
        runs: u64,
        deadline: Duration,
        restart: Option<(Duration, bool)>,
    ) -> Result<(), String> {
        let machine = &mut self.machines[host];
        let moment = machine.moment(self.now);
        let Some(node) = machine.node.as_mut().filter(|_| machine.runs == runs) else { return Ok(()) };
        let drained = node.drain(moment);
        if !drained && self.now < deadline {
            self.touch(host);
            self.plan_in(Duration::from_millis(20), Event::Drained { host, runs, deadline, restart });
            return Ok(());
        }
        let has_peers = node.peers_out() > 0;
        node.stop(moment);
        self.touch(host);
        let (after, empty) = restart.unwrap_or((Duration::ZERO, true));
        self.end(host, Stop::Graceful, empty, drained && has_peers)?;
        if restart.is_some() {
            self.plan_in(after, Event::Start { host, empty });
        }
        Ok(())
    }

    // Connections.

    fn send(&mut self, id: ConnectionId, side: Side, item: Item) {
        if let Some(at) = self.network.send(self.now, id, side, item) {
            self.plan_at(at, Event::Arrive(id, side));
        }
    }

    fn dial(&mut self, host: Host, link: LinkId, to: Host) {
        let id = self.network.dial(self.now, host, link, to.min(HOSTS_MAX - 1));
        self.machines[host].links.insert(link, (id, Side::Dialler));
        if to < HOSTS_MAX {
            self.send(id, Side::Dialler, Item::Open);
        }
        self.plan_in(TIMEOUT, Event::DialTimeout(id));
    }

    fn dial_timeout(&mut self, id: ConnectionId) {
        let is_dialling = |c: &super::network::Connection| c.dialler.phase == Phase::Dialling;
        if self.network.connections.get(&id).is_some_and(is_dialling) {
            self.gone(id, Side::Dialler, Some("it did not answer"));
        }
    }

    fn close(&mut self, host: Host, link: LinkId, last_words: Vec<bytes::Bytes>) {
        let Some(&(id, side)) = self.machines[host].links.get(&link) else { return };
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let end = connection.end_mut(side);
        if end.phase != Phase::Open {
            self.gone(id, side, None);
            return;
        }
        end.phase = Phase::Closing;
        for frame in last_words {
            self.send(id, side, Item::Frame(frame));
        }
        self.send(id, side, Item::Close);
        self.plan_in(LINGER, Event::Linger(id, side));
    }

    /// An end is gone; with an `error` its node did not mean it to be.
    fn gone(&mut self, id: ConnectionId, side: Side, error: Option<&str>) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let end = connection.end_mut(side);
        if end.phase == Phase::Gone {
            return;
        }
        end.phase = Phase::Gone;
        let (host, link) = (end.host, end.link);
        self.machines[host].links.remove(&link);
        let moment = self.machines[host].moment(self.now);
        if let Some(node) = &mut self.machines[host].node {
            match error {
                Some(error) => node.failed(moment, link, error),
                None => node.ended(moment, link),
            }
        }
        if error.is_some() {
            self.send(id, side, Item::Reset);
        }
        self.touch(host);
    }

    fn silence(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.network.connections.get(&id) else { return };
        let end = connection.end(side);
        if end.phase != Phase::Open {
            return;
        }
        if self.now >= end.heard_at + TIMEOUT {
            self.gone(id, side, Some("it was silent for too long"));
        } else if self.network.is_stuck(self.now, id, side, TIMEOUT) {
            self.gone(id, side, Some("it takes nothing"));
        } else {
            let again = (end.heard_at + TIMEOUT)
                .min(self.now + Duration::from_secs(1))
                .max(self.now + Duration::from_millis(1));
            self.plan_at(again, Event::Silence(id, side));
        }
    }

    /// What `from` sent arrives at the other end.
    fn arrive(&mut self, id: ConnectionId, from: Side) -> Result<(), String> {
        let item = match self.network.arrive(self.now, id, from) {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(()),
            Err(again) => {
                self.plan_at(again, Event::Arrive(id, from));
                return Ok(());
            }
        };
        let sender = self.network.connections.get(&id).map(|connection| connection.end(from).host);
        let Some(connection) = self.network.connections.get(&id) else { return Ok(()) };
        let side = from.other();
        let end = connection.end(side);
        let (to, link, phase) = (end.host, end.link, end.phase);
        let moment = self.machines[to].moment_if_up(self.now);
        match (item, phase, moment) {
            (Item::Open, Phase::Dialling, Some(moment)) => {
                let node = self.machines[to].node.as_mut().ok_or("a node that is up")?;
                let link = match side {
                    Side::Accepter => node.accept(moment),
                    Side::Dialler => {
                        node.connected(moment, link);
                        link
                    }
                };
                self.machines[to].links.insert(link, (id, side));
                if let Some(connection) = self.network.connections.get_mut(&id) {
                    let end = connection.end_mut(side);
                    (end.link, end.phase) = (link, Phase::Open);
                }
                if side == Side::Accepter {
                    self.send(id, side, Item::Open);
                }
                self.plan_in(TIMEOUT, Event::Silence(id, side));
            }
            (Item::Frame(frame), Phase::Open, Some(moment)) => {
                frame.hash(&mut self.trace);
                let (prefix, length) = parse_length(&frame).ok_or("a frame without a length")?;
                if (frame.len() - prefix) as u64 != length {
                    return Err(format!(
                        "a frame of {} bytes says that it has {length}",
                        frame.len() - prefix
                    ));
                }
                if let Some(node) = &mut self.machines[to].node {
                    node.handle_frame(moment, link, Some(frame.slice(prefix..)));
                }
                self.truth.check_vectors(&self.machines[to])?;
            }
            (Item::Close, Phase::Open, Some(moment)) => {
                if let Some(node) = &mut self.machines[to].node {
                    node.handle_frame(moment, link, None);
                }
            }
            (Item::Close, Phase::Closing, _) => self.gone(id, side, None),
            (Item::Reset, Phase::Open | Phase::Dialling, _) => {
                self.gone_quietly(id, side, "the connection was reset");
            }
            // Nobody is there to say so.
            (_, _, None) if !self.machines[to].has_power => {}
            (Item::Reset, Phase::Closing, _) => self.gone(id, side, None),
            (Item::Open | Item::Frame(_) | Item::Close, Phase::Gone, _)
            | (Item::Open, Phase::Dialling, None) => {
                if let Some(connection) = self.network.connections.get_mut(&id) {
                    connection.end_mut(side).phase = Phase::Gone;
                }
                self.send(id, side, Item::Reset);
            }
            _ => {}
        }
        self.touch(to);
        // There is room again in what the sender may have under way.
        sender.into_iter().for_each(|host| self.touch(host));
        Ok(())
    }

    /// The other side knows already.
    fn gone_quietly(&mut self, id: ConnectionId, side: Side, error: &str) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let end = connection.end_mut(side);
        if end.phase == Phase::Gone {
            return;
        }
        end.phase = Phase::Gone;
        let (host, link) = (end.host, end.link);
        self.machines[host].links.remove(&link);
        let moment = self.machines[host].moment(self.now);
        if let Some(node) = &mut self.machines[host].node {
            node.failed(moment, link, error);
        }
    }

    // Clients and operators.

    fn operate(&mut self) -> Result<(), String> {
        if self.calm_since.is_some() {
            return Ok(());
        }
        self.one_operation()?;
        let pause = self.about(self.plan.pause);
        self.plan_in(pause, Event::Operate);
        Ok(())
    }

    fn one_operation(&mut self) -> Result<(), String> {
        let up = self.up();
        if up.is_empty() {
            return Ok(());
        }
        let host = up[self.rng.random_range(0..up.len())];
        self.operations += 1;
        let fastest = fastest(self.now, &self.machines);
        let machine = &self.machines[host];
        workload::operate(
            &mut self.rng,
            &self.plan,
            &mut self.truth,
            self.now,
            machine,
            fastest,
            self.operations,
        )?;
        self.touch(host);
        Ok(())
    }

    fn disturb(&mut self) -> Result<(), String> {
        if self.calm_since.is_some() {
            return Ok(());
        }
        let up = self.up();
        if let Some((fault, lasts)) = faults::next(&mut self.rng, &self.plan, &up) {
            fault.hash(&mut self.trace);
            self.strike(fault, lasts)?;
        }
        let pause = self.about(self.plan.fault_pause);
        self.plan_in(pause, Event::Disturb);
        Ok(())
    }

    fn trouble(&mut self, host: Host, until: Duration) {
        let troubled_at = &mut self.machines[host].troubled_at;
        *troubled_at = until.max(*troubled_at);
    }

    fn strike(&mut self, fault: Fault, lasts: Duration) -> Result<(), String> {
        let until = self.now + lasts;
        match &fault {
            Fault::Block(ways) => {
                ways.iter().for_each(|&(from, to)| {
                    self.trouble(from, until);
                    self.trouble(to, until);
                });
                self.network.block(ways, true);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Slow(from, to) => {
                self.trouble(*from, until);
                self.trouble(*to, until);
                self.network.slow((*from, *to), true);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Delay(from, to, longest) => self.network.reroute((*from, *to), *longest),
            Fault::Reset { nth } => {
                let open: Vec<_> = self.network.open().collect();
                if let Some(&id) = open.get(nth % open.len().max(1)) {
                    self.gone_quietly(id, Side::Dialler, "the connection was reset");
                    self.gone_quietly(id, Side::Accepter, "the connection was reset");
                    let hosts = self.network.connections.get(&id).map(|c| [c.dialler.host, c.accepter.host]);
                    hosts.into_iter().flatten().for_each(|host| self.touch(host));
                }
            }
            Fault::Stop { host, how: Stop::Graceful, empty } => {
                self.trouble(*host, until);
                self.stop_gracefully(*host, Some((lasts, *empty)));
            }
            Fault::Stop { host, how, empty } => {
                self.trouble(*host, until);
                self.end(*host, *how, *empty, false)?;
                self.plan_in(lasts, Event::Start { host: *host, empty: *empty });
            }
            Fault::Clock { host, step_ns } => {
                self.trouble(*host, until);
                self.machines[*host].ahead_ns = self.machines[*host].usually_ahead_ns + step_ns;
                self.touch(*host);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Believe { host, list } => {
                self.trouble(*host, until);
                list.iter().filter(|&&other| other < HOSTS_MAX).for_each(|&other| self.trouble(other, until));
                self.machines[*host].belief = Some(list.clone());
                self.look_up(*host);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Flap { host } => {
                self.trouble(*host, until);
                self.flap(*host, until);
            }
            Fault::Join => {
                let joins = self.machines.iter().find(|machine| !machine.is_member && machine.node.is_none());
                if let Some(host) = joins.map(|machine| machine.id) {
                    self.machines[host].is_member = true;
                    self.trouble(host, self.now);
                    self.start(host, true)?;
                }
            }
            Fault::Leave { host, how } => {
                if self.machines.iter().filter(|machine| machine.is_member).count() > 2 {
                    self.machines[*host].is_member = false;
                    self.trouble(*host, until);
                    match how {
                        Stop::Graceful => self.stop_gracefully(*host, None),
                        how => self.end(*host, *how, true, false)?,
                    }
                }
            }
            Fault::Burst => {
                for _ in 0..BURST {
                    self.one_operation()?;
                }
            }
        }
        Ok(())
    }

    /// DNS tells a story, and another one a second later.
    fn flap(&mut self, host: Host, until: Duration) {
        if self.now >= until || self.calm_since.is_some() {
            self.machines[host].belief = None;
        } else {
            let members: Vec<_> = self.machines.iter().filter(|m| m.is_member).map(|m| m.id).collect();
            let list = members.into_iter().filter(|_| self.rng.random_bool(0.5)).collect();
            self.machines[host].belief = Some(list);
            self.plan_in(FLAP, Event::Flap { host, until });
        }
        self.look_up(host);
    }

    fn heal(&mut self, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::Block(ways) => self.network.block(ways, false),
            Fault::Slow(from, to) => self.network.slow((*from, *to), false),
            Fault::Clock { host, step_ns } => {
                let machine = &mut self.machines[*host];
                let far = 2 * self.plan.max_clock_skew.as_nanos() as i64;
                machine.ahead_ns = machine.usually_ahead_ns;
                // What its operators are told to do: it has stamped writes by a time that nobody else has reached.
                if *step_ns >= far {
                    self.restart_empty(*host)?;
                }
                self.touch(*host);
            }
            Fault::Believe { host, .. } => {
                self.machines[*host].belief = None;
                self.look_up(*host);
            }
            Fault::Reset { .. }
            | Fault::Flap { .. }
            | Fault::Delay(..)
            | Fault::Stop { .. }
            | Fault::Join
            | Fault::Leave { .. }
            | Fault::Burst => {}
        }
        Ok(())
    }

    fn restart_empty(&mut self, host: Host) -> Result<(), String> {
        self.trouble(host, self.now);
        self.end(host, Stop::Kill, true, false)?;
        self.start(host, true)
    }

    /// No more faults, no more writes.
    fn calm(&mut self) -> Result<(), String> {
        let faults: Vec<_> = self
            .events
            .values()
            .filter_map(|event| match event {
                Event::Heal(fault) => Some(fault.clone()),
                _ => None,
            })
            .collect();
        self.events.retain(|_, event| !matches!(event, Event::Heal(_)));
        for fault in faults {
            self.heal(&fault)?;
        }
        self.calm_since = Some(self.now);
        for host in 0..HOSTS_MAX {
            self.trouble(host, self.now);
        }
        if self.plan.room == Room::Scarce {
            for host in self.up() {
                for n in 5..self.plan.keys {
                    workload::remove(&mut self.truth, self.now, &self.machines[host], &format!("key-{n}"))?;
                }
                self.touch(host);
            }
        }
        Ok(())
    }

    // What must be true.

    fn check(&mut self) -> Result<(), String> {
        self.plan_in(CHECK, Event::Check);
        self.network.forget();
        for host in self.truth.check(self.now, &self.machines, &self.plan)? {
            self.restart_empty(host)?;
        }
        Ok(())
    }

    /// Whether the cluster is as it should be after faults and writes have ended; how long that took.
    fn settled(&mut self) -> Result<Option<Duration>, String> {
        let Some(since) = self.calm_since else { return Ok(None) };
        match self.unsettled() {
            None => {
                self.truth.check_end(self.now, &self.machines)?;
                Ok(Some(self.now - since))
            }
            Some(why) if self.now > since + SETTLE_MAX => {
                Err(format!("after {SETTLE_MAX:?} without faults: {why}"))
            }
            Some(_) => Ok(None),
        }
    }

    fn unsettled(&self) -> Option<String> {
        let members = self.machines.iter().filter(|machine| machine.is_member);
        let mut digests: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let count = members.clone().count();
        let time = fastest(self.now, &self.machines);
        for machine in members {
            let Some(node) = &machine.node else { return Some(format!("host {} is down", machine.id)) };
            if let Some(why) = node.unjoined() {
                return Some(format!("host {} is not ready: {why}", machine.id));
            }
            if !node.is_drained() {
                return Some(format!("host {} has records that are not acknowledged", machine.id));
            }
            if node.nodes_online() + 1 != count {
                return Some(format!(
                    "host {} has {} peers of {}",
                    machine.id,
                    node.nodes_online(),
                    count - 1
                ));
            }
            for replica in node.replicas() {
                digests.entry(replica.name().to_owned()).or_default().insert(replica.digest(time));
            }
        }
        digests
            .into_iter()
            .filter(|(zone, _)| zone != LIMIT)
            .filter(|(zone, _)| zone != STICKY || !self.truth.evicted.0)
            .find(|(_, digests)| digests.len() > 1)
            .map(|(zone, digests)| format!("zone {zone:?} differs: {digests:x?}"))
    }

    /// The state of all nodes, for people.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("at {:?}, calm since {:?}\n", self.now, self.calm_since);
        for machine in self.machines.iter().filter(|machine| machine.runs > 0) {
            text += &format!(
                "host {}: run {}, member {}, clock ahead by {} ms, troubled until {:?}, links {}\n",
                machine.id,
                machine.runs,
                machine.is_member,
                machine.ahead_ns / 1_000_000,
                machine.troubled_at,
                machine.links.len()
            );
            let Some(node) = &machine.node else {
                text += "  down\n";
                continue;
            };
            text += &format!(
                "  origin {}, online {}, unready {:?}, drained {}\n",
                node.origin(),
                node.nodes_online(),
                node.unjoined(),
                node.is_drained()
            );
            for replica in node.replicas() {
                let digest = replica.digest(fastest(self.now, &self.machines));
                text += &format!(
                    "  {}: digest {digest:016x}, dirty {}, vector {:?}, {:?}\n",
                    replica.name(),
                    replica.dirty_count(),
                    replica.vector(),
                    replica.stats()
                );
            }
        }
        text
    }
}
