//! Connections as TCP makes them: each direction is a pipe that delivers frames whole and in order, after a delay, or not at all
//! once it is broken. Between connections there is no order. Some runs have connections as QUIC makes them: then there is no order between the lanes of one, either.
//!
//! What a blocked direction holds is sent again until the way is free, as TCP does; who gives up first is for the ends to decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;
use sync_node::simulation::LinkId;
use sync_store::Origin;

use super::plan::{Plan, duration};

/// A machine that a node runs on; it outlives the node.
pub(super) type Host = usize;
/// Identifies a connection.
pub(super) type ConnectionId = u64;

/// An end of a connection: that of the host which dialled, or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    Dialler,
    Accepter,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Accepter,
            Self::Accepter => Self::Dialler,
        }
    }
}

/// What a pipe carries.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// The first thing in each direction: a connection is asked for, and granted.
    Open,
    Frame(Bytes),
    /// The end of what this side sends.
    Close,
    /// Nobody is there, or not any more.
    Reset,
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Open | Self::Close | Self::Reset => 0,
        }
    }
}

/// What an end is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dialling,
    Open,
    /// It has sent its last frame.
    Closing,
    Gone,
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: Host,
    /// The node's link; 0 as long as nobody has accepted.
    pub(super) link: LinkId,
    pub(super) phase: Phase,
    pub(super) heard_at: Duration,
    /// Whose it is, as its Hello said; its last frames may arrive when that node is no more.
    pub(super) origin: Option<Origin>,
    /// What it sends.
    pipe: Pipe,
}

#[derive(Debug, Default)]
struct Pipe {
    lanes: BTreeMap<Lane, Queue>,
    under_way: usize,
    /// Items that have arrived, of those that are on no lane.
    arrived: u64,
    /// When the link's bandwidth is free again.
    free_at: Duration,
    /// When something last arrived, or began to wait.
    progress_at: Duration,
}

/// What keeps its order: a lane, or all that is on none.
pub(super) type Lane = Option<u32>;

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    under_way: usize,
    last_arrival: Duration,
    /// Items on no lane that have to arrive before: a lane is opened by the peer, when it has read what makes the link active.
    after: u64,
    sent: u64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) dialler: End,
    pub(super) accepter: End,
}

impl Connection {
    pub(super) fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialler => &self.dialler,
            Side::Accepter => &self.accepter,
        }
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Accepter => &mut self.accepter,
        }
    }
}

/// The way from one host to another.
#[derive(Clone, Copy, Debug)]
struct Way {
    delay: Duration,
    bytes_per_second: u64,
}

/// All connections and ways.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    last: ConnectionId,
    ways: BTreeMap<(Host, Host), Way>,
    /// How many faults block a way.
    blocked: BTreeMap<(Host, Host), usize>,
    plan: Plan,
    rng: SmallRng,
}

/// Bytes a second of a way without a fault: it never matters then.
const FAST: u64 = 100_000_000;
/// Of a slow one: hardly more than the traffic of heartbeats.
const SLOW: u64 = 4_000;

impl Network {
    pub(super) fn new(plan: &Plan, mut rng: SmallRng) -> Self {
        let mut ways = BTreeMap::new();
        for from in 0..super::plan::HOSTS_MAX {
            for to in 0..super::plan::HOSTS_MAX {
                let delay = rng.random_range(plan.delay.0..=plan.delay.1);
                ways.insert((from, to), Way { delay, bytes_per_second: FAST });
            }
        }
        Self {
            connections: BTreeMap::new(),
            last: 0,
            ways,
            blocked: BTreeMap::new(),
            plan: plan.clone(),
            rng,
        }
    }

    /// A connection that `from` begins to dial.
    pub(super) fn dial(&mut self, now: Duration, from: Host, link: LinkId, to: Host) -> ConnectionId {
        self.last += 1;
        let end =
            |host, link, phase| End { host, link, phase, heard_at: now, origin: None, pipe: Pipe::default() };
        let connection =
            Connection { dialler: end(from, link, Phase::Dialling), accepter: end(to, 0, Phase::Dialling) };
        self.connections.insert(self.last, connection);
        self.last
    }

    /// Puts an item into the pipe of `side`; answers when it arrives.
    pub(super) fn send(
        &mut self,
        now: Duration,
        id: ConnectionId,
        side: Side,
        lane: Lane,
        item: Item,
    ) -> Option<Duration> {
        let connection = self.connections.get_mut(&id)?;
        let ends = (connection.end(side).host, connection.end(side.other()).host);
        let way = self.ways[&ends];
        let pipe = &mut connection.end_mut(side).pipe;
        if pipe.under_way == 0 {
            pipe.progress_at = now;
        }
        pipe.under_way += item.bytes();
        let transfer = Duration::from_secs_f64(item.bytes() as f64 / way.bytes_per_second as f64);
        pipe.free_at = pipe.free_at.max(now) + transfer;
        let mut delay = way.delay.mul_f64(self.rng.random_range(1.0..1.2));
        if self.plan.lossy.is_some_and(|one_in| self.rng.random_ratio(1, one_in)) {
            delay += self.rng.random_range(RETRANSMIT.0..RETRANSMIT.1);
        }
        let mut arrival = pipe.free_at + delay;
        if matches!(item, Item::Close) {
            arrival = pipe.lanes.values().map(|queue| queue.last_arrival).fold(arrival, Duration::max);
        }
        let after = pipe.lanes.get(&None).map_or(0, |queue| queue.sent);
        let queue = pipe.lanes.entry(lane).or_insert_with(|| Queue { after, ..Queue::default() });
        queue.last_arrival = queue.last_arrival.max(arrival);
        queue.under_way += item.bytes();
        queue.sent += 1;
        queue.items.push_back(item);
        Some(queue.last_arrival)
    }

    /// Whether there is room for another frame on a lane, if there are lanes, and there [is any](Self::has_room).
    pub(super) fn has_lane_room(&self, id: ConnectionId, side: Side, lane: u32) -> bool {
        let Some(connection) = self.connections.get(&id).filter(|_| self.plan.lanes) else { return true };
        let queue = connection.end(side).pipe.lanes.get(&Some(lane));
        queue.is_none_or(|queue| queue.under_way < self.plan.window / 4)
    }

    /// Whether there is room for another frame.
    pub(super) fn has_room(&self, id: ConnectionId, side: Side) -> bool {
        self.connections.get(&id).is_some_and(|connection| {
            let end = connection.end(side);
            end.phase == Phase::Open && end.pipe.under_way < self.plan.window
        })
    }

    /// Whether frames wait for longer than `patience` and none arrives.
    pub(super) fn is_stuck(&self, now: Duration, id: ConnectionId, side: Side, patience: Duration) -> bool {
        self.connections.get(&id).is_some_and(|connection| {
            let pipe = &connection.end(side).pipe;
            pipe.under_way >= self.plan.window && now >= pipe.progress_at + patience
        })
    }

    /// Takes what arrives next from `side`; an error says when to try again.
    pub(super) fn arrive(
        &mut self,
        now: Duration,
        id: ConnectionId,
        side: Side,
        lane: Lane,
    ) -> Result<Option<Item>, Duration> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(None) };
        let ends = (connection.end(side).host, connection.end(side.other()).host);
        if self.blocked.get(&ends).is_some_and(|faults| *faults > 0) {
            return Err(now + self.rng.random_range(RETRANSMIT.0..RETRANSMIT.1));
        }
        let pipe = &mut connection.end_mut(side).pipe;
        let Some(queue) = pipe.lanes.get_mut(&lane) else { return Ok(None) };
        if lane.is_some() && pipe.arrived < queue.after {
            return Err(now + self.rng.random_range(RETRANSMIT.0..RETRANSMIT.1));
        }
        let Some(item) = queue.items.pop_front() else { return Ok(None) };
        queue.under_way -= item.bytes();
        pipe.under_way -= item.bytes();
        pipe.arrived += u64::from(lane.is_none());
        pipe.progress_at = now;
        connection.end_mut(side.other()).heard_at = now;
        Ok(Some(item))
    }

    /// Blocks ways, or frees them again.
    pub(super) fn block(&mut self, ways: &BTreeSet<(Host, Host)>, block: bool) {
        for &way in ways {
            let faults = self.blocked.entry(way).or_default();
            *faults = if block { *faults + 1 } else { faults.saturating_sub(1) };
        }
    }

    /// Connections that stand.
    pub(super) fn open(&self) -> impl Iterator<Item = ConnectionId> {
        let is_open = |c: &Connection| c.dialler.phase == Phase::Open || c.accepter.phase == Phase::Open;
        self.connections.iter().filter(move |(_, connection)| is_open(connection)).map(|(&id, _)| id)
    }

    /// Forgets connections that are gone.
    pub(super) fn forget(&mut self) {
        let is_gone = |c: &Connection| c.dialler.phase == Phase::Gone && c.accepter.phase == Phase::Gone;
        self.connections.retain(|_, connection| !is_gone(connection));
    }

    /// Makes a way slow in bytes a second, or as it was.
    pub(super) fn slow(&mut self, way: (Host, Host), slow: bool) {
        if let Some(way) = self.ways.get_mut(&way) {
            way.bytes_per_second = if slow { SLOW } else { FAST };
        }
    }

    /// Gives a way another delay.
    pub(super) fn reroute(&mut self, way: (Host, Host), longest: Duration) {
        let delay = duration(&mut self.rng, longest);
        if let Some(way) = self.ways.get_mut(&way) {
            way.delay = delay;
        }
    }
}

/// How much later a lost frame arrives.
const RETRANSMIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1_000));
