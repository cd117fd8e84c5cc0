//! Replication: the state machines that keep the zones of a cluster equal.
//!
//! Full mesh, one direction per connection: **who dials, sends**. Every machine here is free of I/O, clocks and
//! randomness: it is given input and the present moment ([`Now`]), and says what to send and when to wake it.
//! [`crate::link`] puts the machines of a link together; the drivers in [`crate::driver`] connect those to sockets and timers, a simulation to
//! a network of its own.
//!
//! | machine | one per | job |
//! |---|---|---|
//! | [`log::Log`] | zone | publishes what is dirty as encoded batches, kept in a bounded ring that all links share |
//! | [`outbound::Outbound`] | link we dialled | sends the log's batches, catch-up and answers to requests; counts acknowledgements |
//! | [`inbound::Inbound`] | link we accepted | applies what arrives, acknowledges it, asks for what is missing |
//! | [`publisher::Publisher`] | zone | decides when the zone is published |
//! | [`repair::Repair`] | node | decides which inbound link to ask for records whose origin is gone or silent, and when the zone adopts what nobody can be asked for |
//! | [`strict::Strict`] | node | decides how often a request is charged in strict limit zones |
//! | [`membership::Membership`](crate::membership::Membership) | node | decides whom to dial and when, and which links to close |
//!
//! What makes it correct, in five sentences. A batch has consecutive sequence numbers of one origin, and the
//! version vector of a zone moves from the batch's start to its end only if it stood at the start (or beyond).
//! Whoever cannot be served from the log is sent every record its vector does not cover, as states that merge
//! idempotently, and afterwards the vector that this covers; batches streamed meanwhile are applied but move the vector only
//! then. A record that would be streamed later is left out of catch-up, so that a limit's debt is never counted
//! both as a state and as a debt. Vectors travel in heartbeats, and what is still missing after a grace period is requested. What no vector
//! covers because its origin died too early is published anew by whoever has it.

pub(crate) mod clock_offset;
pub(crate) mod handshake;
pub(crate) mod inbound;
pub(crate) mod log;
pub(crate) mod outbound;
pub(crate) mod publisher;
pub(crate) mod repair;
pub(crate) mod rows;
pub(crate) mod strict;
mod window;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sync_store::{Origin, Replica, Time, VersionVector, ZoneKind};

use crate::state::Unsaved;
use log::Log;
use repair::Repair;
use strict::Strict;

use crate::membership::Membership;

/// Between two sweeps of a zone.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Links get their turn between two parts of a sweep: one in one go, 0.4 ms for a million records, was what the slowest of a hundred single writes had waited for.
pub(crate) const SWEEP_PARTS: usize = 16;
/// Records freed in one sweep of a zone at the most. The zone decides how many it looks at, so as to be through within half a minute.
pub(crate) const SWEEP_BUDGET: usize = 8_192;

/// The present moment, as machines see it.
///
/// Stamps and expiry need the time of day, which may jump; timers must not jump with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Time of day, by the node's clock.
    pub(crate) time: Time,
    /// Monotonic time since the node started.
    pub(crate) elapsed: Duration,
}

/// Who a node is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) name: String,
    pub(crate) origin: Origin,
}

/// The settings that machines need.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Time between heartbeats: a third of `timeout`, so that two may be lost.
    pub(crate) heartbeat_interval: Duration,
    /// So many of the largest batches, or more smaller ones, are kept per zone (`buffers.number`).
    pub(crate) log_batches: usize,
    /// Largest encoded batch in bytes, its length prefix included (`buffers.size`).
    pub(crate) batch_bytes: usize,
    /// Largest frame accepted from a peer, in bytes.
    pub(crate) max_frame: usize,
    /// Largest difference between two nodes' clocks at which they still talk.
    pub(crate) max_clock_skew: Duration,
    /// How long something may be missing before it is requested; if its origin is still connected, three heartbeats instead.
    pub(crate) repair_grace: Duration,
    /// How long a peer may take to send its Hello (`connect_timeout`).
    pub(crate) greeting_timeout: Duration,
}

/// A zone and what replication keeps beside it.
#[derive(Debug)]
pub(crate) struct ReplicatedZone {
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) log: Mutex<Log>,
    /// Where changes are noted that are to be written to a file. Held while records are published or applied.
    pub(crate) unsaved: Option<Arc<Mutex<Unsaved>>>,
}

/// What all machines of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    /// The index of a zone here is its id on every link that this node dials.
    pub(crate) zones: Box<[ReplicatedZone]>,
    pub(crate) repair: Mutex<Repair>,
    pub(crate) membership: Mutex<Membership>,
    pub(crate) strict: Strict,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        settings: Settings,
        zones: Vec<Arc<dyn Replica>>,
        membership: Membership,
    ) -> Self {
        let mut repair = Repair::new(zones.len(), settings.repair_grace, settings.heartbeat_interval * 3);
        for (id, replica) in zones.iter().enumerate() {
            // A mapped zone from an earlier run, which may have been killed while a peer sent: a link that was lost.
            let stats = replica.stats();
            if stats.records + stats.tombstones > 0 {
                repair.suspect_orphans(id);
            }
        }
        let zones = zones
            .into_iter()
            .enumerate()
            .map(|(id, replica)| {
                let Settings { log_batches, batch_bytes, .. } = settings;
                let log =
                    Log::new(id as u32, identity.origin, replica.published_seq(), log_batches, batch_bytes);
                ReplicatedZone { replica, log: Mutex::new(log), unsaved: None }
            })
            .collect();
        Self {
            identity,
            settings,
            zones,
            repair: Mutex::new(repair),
            membership: Mutex::new(membership),
            strict: Strict::default(),
        }
    }

    /// Notes the changes of a zone for its file. Its records are in doubt if they have dots of the origin `doubtful`.
    pub(crate) fn keep(&mut self, zone: usize, unsaved: Arc<Mutex<Unsaved>>, doubtful: Option<Origin>) {
        self.zones[zone].unsaved = Some(unsaved);
        if let Some(origin) = doubtful {
            self.repair.lock().doubt(zone, origin);
        }
    }

    /// Publishes what is dirty in a zone; true if anything was.
    pub(crate) fn publish(&self, zone: usize, now: Now) -> bool {
        let zone = &self.zones[zone];
        let mut unsaved = zone.unsaved.as_ref().map(|unsaved| unsaved.lock());
        zone.log.lock().publish(zone.replica.as_ref(), now, &mut |record| {
            if let Some(unsaved) = unsaved.as_deref_mut() {
                unsaved.note(record);
            }
        })
    }

    /// Has `publish` called until everything of a zone is published that is dirty now.
    pub(crate) fn publish_whole(&self, zone: usize, mut publish: impl FnMut()) {
        let ReplicatedZone { replica, log, .. } = &self.zones[zone];
        replica.call_for_dirty();
        let completed_from = log.lock().passes_begun() + 1;
        while log.lock().pass_completed() < completed_from {
            publish();
        }
    }

    /// An origin is there itself, on `link`, and says how much of a zone it has published: what only others vouched for does not count any more, and the origin
    /// sends it again. In a limit zone hearsay stays unless it cannot be true: debts would be added to states that contain them. There all is forgotten, since
    /// whoever knows nothing is sent states.
    pub(crate) fn meet(&self, zone: usize, link: repair::LinkId, origin: Origin, published_seq: u64) {
        let replica = &self.zones[zone].replica;
        let mut repair = self.repair.lock();
        let known_seq = replica.vector().get(origin);
        let left = repair.met(zone, link, origin, known_seq, published_seq);
        match replica.kind() {
            ZoneKind::Limit if known_seq <= published_seq => {}
            ZoneKind::Limit if left < known_seq => replica.uncover(origin, 0),
            ZoneKind::Keyval | ZoneKind::Sticky if left < known_seq => replica.uncover(origin, left),
            ZoneKind::Keyval | ZoneKind::Sticky | ZoneKind::Limit => {}
        }
    }

    /// What the node still waits for before it has joined its cluster; `None` if for nothing.
    pub(crate) fn unjoined(&self) -> Option<String> {
        self.not_caught_up().or_else(|| {
            // Alone it has nobody to compare with.
            let mut zones = self.zones.iter().enumerate().filter(|_| self.has_peers());
            let (_, zone) = zones.find(|(id, _)| self.repair.lock().is_in_doubt(*id))?;
            let name = zone.replica.name();
            Some(format!("zone {name:?} is being compared with the cluster, after a long absence"))
        })
    }

    fn has_peers(&self) -> bool {
        self.membership.lock().nodes_online() > 0
    }

    /// Whether the first catch-up from every peer that can be reached is complete, and there is one.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.has_peers() && self.not_caught_up().is_none()
    }

    /// Whether everything that the cluster does reaches this node: it has caught up, or is one of its own.
    pub(crate) fn is_in_contact(&self) -> bool {
        let is_alone = self.membership.lock().targets().next().is_none();
        (is_alone || self.has_peers()) && self.not_caught_up().is_none()
    }

    /// It is known which of the loaded records of a zone the cluster has removed.
    pub(crate) fn end_doubt(&self, zone: usize) {
        self.repair.lock().end_doubt(zone);
    }

    fn not_caught_up(&self) -> Option<String> {
        if let Some(reason) = self.membership.lock().unjoined() {
            return Some(reason);
        }
        let zones = self.zones.iter().enumerate();
        let lacking = zones.map(|(id, zone)| (id, &zone.replica)).find(|(id, replica)| {
            let ours = replica.vector();
            self.repair.lock().lacks_departed(*id, &ours)
        });
        lacking.map(|(_, replica)| format!("zone {:?} lacks records of nodes that are gone", replica.name()))
    }
}

/// A frame to be sent, and the lane on which it goes: that of its zone, by its id on the link, or none, among control frames. Frames of a zone reach the
/// peer in order. Control frames may overtake them, and they others.
pub(crate) type Laned = (Option<u32>, bytes::Bytes);

/// What a frame is called, in errors about one that should not have come.
pub(crate) fn frame_name(message: &sync_proto::Message) -> &'static str {
    use sync_proto::Message;
    match message {
        Message::Hello(_) => "Hello",
        Message::Refuse(_) => "Refuse",
        Message::Batch(_) => "Batch",
        Message::CatchUp(_) => "CatchUp",
        Message::CatchUpEnd(_) => "CatchUpEnd",
        Message::Acknowledge(_) => "Acknowledge",
        Message::Request(_) => "Request",
        Message::Heartbeat(_) => "Heartbeat",
        Message::Goodbye(_) => "Goodbye",
        Message::Unknown => "unknown",
    }
}

/// A vector as it travels.
pub(crate) fn known(vector: &VersionVector) -> Vec<sync_proto::wire::Known> {
    vector
        .iter()
        .map(|(origin, through_seq)| sync_proto::wire::Known { origin: origin.raw(), through_seq })
        .collect()
}

/// A vector that arrived. Entries without an origin are dropped: nothing can be known of nobody.
pub(crate) fn vector(known: &[sync_proto::wire::Known]) -> VersionVector {
    known.iter().filter_map(|k| Some((Origin::from_raw(k.origin)?, k.through_seq))).collect()
}

/// Why a link must be closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// We refuse the peer: it is told `code` and `message`, then the link is closed.
    #[error("refused it: {message}")]
    Refused { code: sync_proto::wire::refuse::Code, message: String },
    /// The peer refused us.
    #[error("it refused us ({}): {message}", code.as_str_name())]
    RefusedByPeer { code: sync_proto::wire::refuse::Code, message: String },
}

impl From<sync_proto::Error> for LinkError {
    fn from(error: sync_proto::Error) -> Self {
        Self::Refused { code: error.refuse_code(), message: error.to_string() }
    }
}

impl LinkError {
    /// What a Refuse of the peer says.
    fn by_peer(refuse: sync_proto::wire::Refuse) -> Self {
        let code = sync_proto::wire::refuse::Code::try_from(refuse.code).unwrap_or_default();
        Self::RefusedByPeer { code, message: refuse.message }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::Refused { code: sync_proto::wire::refuse::Code::Malformed, message: message.into() }
    }

    pub(crate) fn code(&self) -> sync_proto::wire::refuse::Code {
        match self {
            Self::Refused { code, .. } | Self::RefusedByPeer { code, .. } => *code,
        }
    }

    /// The frame that tells the peer, if it is ours to tell.
    pub(crate) fn frame(&self) -> Option<bytes::Bytes> {
        match self {
            Self::Refused { code, message } => {
                Some(sync_proto::encode(&sync_proto::wire::frame::Kind::Refuse(sync_proto::wire::Refuse {
                    code: *code as i32,
                    message: message.clone(),
                })))
            }
            Self::RefusedByPeer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
