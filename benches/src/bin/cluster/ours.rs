//! Clusters of ours: nodes embedded in this process, each with threads of its own, or `sync-node` processes, whose zones are
//! mapped here as a proxy beside them would do it.

mod daemon;
mod embedded;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use benches::{limit_zone_size, session_zone_size, zone_size};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_store::{
    Check, Clock, Delay, Expiry, KeyvalZone, LimitZone, Origin, Replica, StickyZone, SystemClock,
};
use tokio::time::Instant;

use crate::contestant::{
    Cluster, Counter, Kind, PATIENCE, Prober, Setup, Watched, Writer, value, wait_until,
};
use crate::process::Stopped;
use daemon::Daemon;
use embedded::Embedded;

const PAIRS: &str = "pairs";
const SESSIONS: &str = "sessions";
const LIMITS: &str = "limits";
/// Slow enough that nothing drains while it is counted.
const RATE: &str = "1r/h";
/// More requests than a run counts, though the machine be so slow that it goes on for minutes: `mixed` counts until its probes are through. A bucket
/// holds 292 years of work at the most.
const BURST: u64 = 2_000_000;
const CLIENT: &str = "client";
/// Writes that are watched where a node has nothing to take over.
const WATCHED_IDLE: usize = 500;
/// How long a node may take to join where it is watched: on a way that loses much it takes minutes.
const JOIN_PATIENCE: Duration = Duration::from_secs(300);
const PROBE: &str = "probe-0000000000";

/// A node, however it runs.
#[derive(Debug)]
enum Run {
    Embedded(Embedded),
    Daemon(Daemon),
}

/// A node and its zones.
#[derive(Debug)]
struct Member {
    pairs: Arc<KeyvalZone>,
    sessions: Arc<StickyZone>,
    limits: Arc<LimitZone>,
    run: Run,
}

impl Member {
    fn start(setup: &Setup, number: u32, records: u32) -> Result<Self> {
        if setup.processes {
            return Daemon::start(setup, number, &Sizes::of(records));
        }
        Embedded::start(setup, number, &Sizes::of(records))
    }

    fn address(&self) -> String {
        match &self.run {
            Run::Embedded(run) => run.address(),
            Run::Daemon(run) => run.address(),
        }
    }

    fn set_peers(&mut self, addresses: &[String]) -> Result<()> {
        match &mut self.run {
            Run::Embedded(run) => run.set_peers(addresses),
            Run::Daemon(run) => run.set_peers(addresses),
        }
    }

    /// Peers that it is connected to, if it has joined its cluster.
    fn online(&mut self) -> Result<Option<u64>> {
        match &mut self.run {
            Run::Embedded(run) => Ok(run.online()),
            Run::Daemon(run) => run.online(),
        }
    }

    fn bytes_out(&self) -> Result<u64> {
        match &self.run {
            Run::Embedded(run) => Ok(run.bytes_out()),
            Run::Daemon(run) => run.bytes_out(),
        }
    }

    fn cpu(&self) -> Result<Duration> {
        match &self.run {
            Run::Embedded(run) => run.cpu(),
            Run::Daemon(run) => run.cpu(),
        }
    }

    /// Whether it has everything that `origin` has published up to `through_seq`.
    fn has(&self, origin: Origin, through_seq: u64) -> bool {
        self.pairs.vector().get(origin) >= through_seq
    }
}

/// Sizes of zones.
#[derive(Debug)]
struct Sizes {
    pairs: u64,
    sessions: u64,
    limits: u64,
}

impl Sizes {
    /// With some room: a keyval zone that is full refuses.
    fn of(records: u32) -> Self {
        Self {
            pairs: zone_size(records + records / 8, 48),
            sessions: session_zone_size(100_000),
            limits: limit_zone_size(1_000),
        }
    }
}

/// Several nodes that know each other.
#[derive(Debug)]
struct Ours<'a> {
    setup: &'a Setup,
    members: Vec<Member>,
}

/// Starts so many nodes and waits until each sees all others.
pub(crate) fn start(setup: &Setup, nodes: u32) -> Result<Box<dyn Cluster + '_>> {
    let members = (0..nodes).map(|number| Member::start(setup, number, setup.records));
    let mut ours = Ours { setup, members: members.collect::<Result<_>>()? };
    ours.introduce()?;
    Ok(Box::new(ours))
}

impl Ours<'_> {
    /// Tells every node of all nodes, and waits until they have joined.
    fn introduce(&mut self) -> Result<()> {
        self.tell_peers()?;
        let expected = self.members.len() as u64 - 1;
        for member in &mut self.members {
            wait_until("nodes to find each other", Duration::from_millis(1), || {
                Ok(member.online()? == Some(expected))
            })?;
        }
        Ok(())
    }

    fn tell_peers(&mut self) -> Result<()> {
        let [here, there] = [self.setup.here(), self.setup.there()].map(|ip| ip.to_string());
        let addresses: Vec<String> =
            self.members.iter().map(|member| member.address().replace(&here, &there)).collect();
        for (number, member) in self.members.iter_mut().enumerate() {
            let others = addresses.iter().enumerate().filter(|(other, _)| *other != number);
            member.set_peers(&others.map(|(_, address)| address.clone()).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn first(&self) -> Result<&Member> {
        self.members.first().context("a cluster without nodes")
    }

    fn last(&self) -> Result<&Member> {
        self.members.last().context("a cluster without nodes")
    }

    fn member(&self, node: usize) -> Result<&Member> {
        self.members.get(node).with_context(|| format!("the cluster has no node {node}"))
    }
}

impl Cluster for Ours<'_> {
    fn prober(&self) -> Result<Box<dyn Prober>> {
        let (first, last) = (self.first()?, self.last()?);
        if let (Run::Daemon(first), Run::Daemon(last)) = (&first.run, &last.run) {
            return Ok(Box::new(daemon::Probe::new(first, last)?));
        }
        let (first, last) = (Arc::clone(&first.pairs), Arc::clone(&last.pairs));
        Ok(Box::new(Probe { first, last, seen: Vec::new() }))
    }

    fn writer(&self, node: usize, kind: Kind) -> Result<Box<dyn Writer>> {
        let member = self.member(node)?;
        Ok(match kind {
            Kind::Pair => Box::new(PairWriter { zone: Arc::clone(&member.pairs), round: 0 }),
            Kind::Session => Box::new(SessionWriter(Arc::clone(&member.sessions))),
        })
    }

    fn counter(&self, node: usize) -> Result<Box<dyn Counter>> {
        Ok(Box::new(Count(Arc::clone(&self.member(node)?.limits))))
    }

    fn counted(&self) -> Result<Vec<u64>> {
        let look = Check { cost: 0, ..check() };
        let now = SystemClock.now();
        // The request that found the bucket empty took no room in it.
        let counted =
            |member: &Member| (BURST + 1).saturating_sub(member.limits.check(CLIENT, &look, now).remaining());
        Ok(self.members.iter().map(counted).collect())
    }

    fn join(&mut self, records: u64) -> Result<()> {
        let number = self.members.len() as u32;
        let member = Member::start(self.setup, number, self.setup.records)?;
        self.members.push(member);
        self.introduce()?;
        let last = self.last()?;
        let has_all = || Ok(last.pairs.stats().records >= records);
        wait_until("the new node to have every record", Duration::from_micros(200), has_all)
    }

    fn join_watched(&mut self, records: u64) -> Result<Watched> {
        let number = self.members.len() as u32;
        self.members.push(Member::start(self.setup, number, self.setup.records)?);
        self.tell_peers()?;
        let (first, last) = (self.first()?, self.last()?);
        let (from, to) = (Arc::clone(&first.sessions), Arc::clone(&last.sessions));
        let received = || last.pairs.stats().records;
        let session = |number: u32| format!("hot-{number:012}");
        let mut random = SmallRng::seed_from_u64(1);
        let mut micros = Vec::new();
        let mut joining = Instant::now();
        for number in 0.. {
            if joining.elapsed() > JOIN_PATIENCE {
                let (received, here) = (received(), micros.len());
                return Err(anyhow!(
                    "after {JOIN_PATIENCE:?} the new node has {received} of {records} records and {here} of the sessions written meanwhile; use fewer --records"
                ));
            }
            let done = if records == 0 { micros.len() >= WATCHED_IDLE } else { received() >= records };
            if done {
                break;
            }
            std::thread::sleep(Duration::from_micros(random.random_range(500..2_000)));
            let begun = Instant::now();
            from.learn(session(number), benches::SERVER, SystemClock.now())?;
            while to.peek(session(number), SystemClock.now()).is_none() {
                if begun.elapsed() > PATIENCE {
                    return Err(anyhow!("a session was not seen on the new node within {PATIENCE:?}"));
                }
                // Not as a single probe, which waits without giving way: both nodes have all processors to themselves here.
                std::thread::sleep(Duration::from_micros(10));
            }
            match number {
                // The first waits until the node is connected.
                0 => joining = Instant::now(),
                _ => micros.push(begun.elapsed().as_secs_f64() * 1e6),
            }
        }
        Ok(Watched { micros, took: joining.elapsed() })
    }

    fn is_settled(&mut self) -> Result<bool> {
        let first = self.first()?;
        if first.pairs.dirty_count() > 0 {
            return Ok(false);
        }
        let (origin, through_seq) = (first.pairs.origin(), first.pairs.published_seq());
        Ok(self.members.iter().skip(1).all(|member| member.has(origin, through_seq)))
    }

    fn applied(&self) -> Option<u64> {
        self.members.iter().skip(1).map(|member| member.pairs.stats().applied).min()
    }

    fn payload(&self) -> u64 {
        48
    }

    fn received_last(&self) -> Option<u64> {
        let stats = self.members.last()?.pairs.stats();
        Some(stats.applied + stats.superseded)
    }

    fn wire_bytes(&self) -> Result<u64> {
        self.members.iter().map(Member::bytes_out).sum()
    }

    fn stop(&self, node: usize) -> Result<Stopped> {
        match &self.member(node)?.run {
            Run::Embedded(run) => Ok(run.stop()),
            Run::Daemon(run) => run.stop(),
        }
    }

    fn cpu(&self) -> Result<Vec<Duration>> {
        self.members.iter().map(Member::cpu).collect()
    }
}

/// Waits until a node listens.
fn listening<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let mut found = None;
    wait_until(what, Duration::from_millis(1), || {
        found = look()?;
        Ok(found.is_some())
    })?;
    found.ok_or_else(|| anyhow!("{what}: nothing within {PATIENCE:?}"))
}

struct Probe {
    first: Arc<KeyvalZone>,
    last: Arc<KeyvalZone>,
    seen: Vec<u8>,
}

impl Prober for Probe {
    fn write(&mut self, number: u32) -> Result<()> {
        Ok(self.first.set(PROBE, value(number, 0), SystemClock.now(), Expiry::Default).map(drop)?)
    }

    fn is_seen(&mut self, number: u32) -> Result<bool> {
        // Giving way: two nodes and who looks are more than two cores, and whoever never sleeps is first.
        std::thread::yield_now();
        Ok(self.last.get_into(PROBE, SystemClock.now(), &mut self.seen) && self.seen == value(number, 0))
    }
}

struct PairWriter {
    zone: Arc<KeyvalZone>,
    round: u32,
}

impl Writer for PairWriter {
    fn write(&mut self, numbers: Range<u32>) -> Result<()> {
        self.round = self.round.wrapping_add(1);
        let now = SystemClock.now();
        for number in numbers {
            self.zone.set(benches::key(number), value(number, self.round), now, Expiry::Default)?;
        }
        Ok(())
    }
}

struct SessionWriter(Arc<StickyZone>);

impl Writer for SessionWriter {
    fn write(&mut self, numbers: Range<u32>) -> Result<()> {
        let now = SystemClock.now();
        for number in numbers {
            self.0.learn(benches::session(number), benches::SERVER, now)?;
        }
        Ok(())
    }
}

fn check() -> Check {
    Check { burst: Some(BURST), delay: Some(Delay::Nodelay), ..Check::default() }
}

struct Count(Arc<LimitZone>);

impl Counter for Count {
    fn count(&mut self) -> Result<()> {
        let decision = self.0.check(CLIENT, &check(), SystemClock.now());
        if !decision.is_admitted() {
            return Err(anyhow!("a request was refused, although the bucket has room for {BURST}"));
        }
        Ok(())
    }
}
