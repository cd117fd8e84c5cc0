//! The sending end of a link: the side that dialled.
//!
//! Life: greet (our Hello, the peer's Hello) → activate (our first heartbeat) → live (heartbeats; per zone the stream of batches and a queue of catch-up
//! jobs) → goodbye. The stream of a zone starts where the peer's vector stands. If the log no longer reaches back that far,
//! the stream goes on from the present and a job of our own records covers what lies before: fresh updates do not wait for the bulk.
//! While such a job scans, falling off the log again only pauses the stream; the next scan begins where the stream stopped.
//!
//! A scan leaves out records that are dirty, for they will be published and streamed. The peer must not believe that it has everything
//! before that has happened: if this node died in between, the peer would have neither the old record, which its vector covers, nor the new
//! one. So a job ends only when everything that was dirty at the end of its scan was published and streamed.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use std::sync::Arc;
use sync_proto::wire::frame::Kind;
use sync_proto::wire::refuse::Code;
use sync_proto::wire::{CatchUpEnd, Goodbye, Heartbeat, Hello, Request, ZoneVector};
use sync_proto::{CatchUpEncoder, Message, encode};
use sync_store::{Cursor, Origin, VersionVector, ZoneKind};

use super::clock_offset::{ClockOffset, Measured};
use super::handshake::{self, Peer};
use super::log::{Log, Next};
use super::window::{Window, is_fresh};
use super::{Laned, LinkError, Now, Shared, frame_name, known, rows, vector};

/// Requests a peer may have waiting per zone; it needs one, and its successor when a link was replaced.
pub(crate) const REQUESTS_MAX: usize = 4;
/// Requests of a zone that may come at once; after that one in [`repair_grace`](super::Settings::repair_grace) / 2, which is how often a peer looks for what it lacks. Each may
/// cost a scan of the whole zone, however little it asks for.
const REQUESTS_AT_ONCE: u32 = 8;
/// Batches sent between two chunks of catch-up when both are waiting: fresh updates first, without starving the bulk.
const BATCHES_PER_CHUNK: u32 = 4;

/// Bytes of a frame of catch-up while batches are sent: one of them waits for the frame that the peer is at, about 30 µs.
const CHUNK_FRESH: usize = 8 << 10;

/// Entries of version vectors in one heartbeat, if no single zone has more. An entry takes up to 22 bytes, and the smallest
/// frame that a peer may insist on is 4 KiB.
const HEARTBEAT_ENTRIES: usize = 150;

/// What a frame from the peer means for the driver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The peer's Hello was found good.
    Greeted,
    /// The peer closes the link in good order.
    Goodbye(String),
}

/// A scan of a zone for a peer.
#[derive(Debug)]
struct Job {
    /// The peer's request, 0 for our own records sent unasked.
    request: u64,
    origins: Vec<Origin>,
    /// What the peer knew when the job began.
    known: VersionVector,
    /// What it knows when the job is done.
    covers: VersionVector,
    phase: Phase,
    rows: u64,
}

#[derive(Debug)]
enum Phase {
    /// The scan goes on at this cursor.
    Scanning(Cursor),
    /// The scan has ended.
    Scanned,
    /// What it left out is published by any pass that begins after this one.
    Publishing { pass: u64 },
    /// What it left out was published up to this sequence.
    Streaming { through_seq: u64 },
}

/// A zone on this link.
#[derive(Debug)]
struct ZoneLink {
    /// Our index and id of the zone.
    id: usize,
    /// Everything published up to here was streamed, or is covered by a job.
    position: u64,
    acknowledged: u64,
    /// What had been published when the link came up; the peer is told when it was sent all of that.
    joined_through: u64,
    joined: bool,
    jobs: VecDeque<Job>,
    /// When all requests so far would have come, had they kept their distance.
    requests_through: Duration,
}

#[derive(Debug)]
enum State {
    Greeting,
    Greeted,
    Live,
    Closing,
}

/// The machine of a link that this node dialled.
#[derive(Debug)]
pub(crate) struct Outbound {
    shared: Arc<Shared>,
    state: State,
    peer: Option<Peer>,
    zones: Vec<ZoneLink>,
    control: VecDeque<Bytes>,
    clock: ClockOffset,
    heartbeat_at: Duration,
    /// Which zone is looked at first, in turn.
    turn: usize,
    batches_since_chunk: u32,
    /// When the latest batch was sent.
    batch_at: Option<Duration>,
    /// How much catch-up may be under way.
    window: Window,
    /// A zone that has to be published before a job can end.
    publish_wanted: Option<usize>,
    /// A scan was left off before it had found anything.
    is_scanning: bool,
    /// Whether [`Repair`](super::repair::Repair) was told of this link.
    is_active: bool,
}

impl Outbound {
    /// A link whose connection stands; our Hello is the first frame to transmit.
    pub(crate) fn new(shared: Arc<Shared>, now: Now) -> Self {
        let hello = encode(&Kind::Hello(handshake::hello(&shared, now)));
        Self {
            shared,
            state: State::Greeting,
            peer: None,
            zones: Vec::new(),
            control: VecDeque::from([hello]),
            clock: ClockOffset::default(),
            heartbeat_at: Duration::MAX,
            turn: 0,
            batches_since_chunk: 0,
            batch_at: None,
            window: Window::new(),
            publish_wanted: None,
            is_scanning: false,
            is_active: false,
        }
    }

    /// The peer, once greeted.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub(crate) fn measured(&self) -> Option<Measured> {
        self.clock.measured()
    }

    /// Records of a zone that the peer has not acknowledged; `None` if the zone is not on this link.
    pub(crate) fn pending(&self, zone: usize) -> Option<u64> {
        let link = self.zones.iter().find(|z| z.id == zone)?;
        Some(self.shared.zones[zone].log.lock().through_seq().saturating_sub(link.acknowledged))
    }

    /// For how long the oldest record of a zone that the peer has not acknowledged has been waiting.
    pub(crate) fn lag(&self, zone: usize, now: Now) -> Option<Duration> {
        let link = self.zones.iter().find(|z| z.id == zone)?;
        let since = self.shared.zones[zone].log.lock().waiting_since(link.acknowledged);
        Some(since.map_or(Duration::ZERO, |at| now.elapsed.saturating_sub(at)))
    }

    /// Whether the peer has acknowledged all of a zone that was published longer than `patience` ago. It has if it does not have the zone.
    pub(crate) fn is_heard(&self, zone: usize, now: Now, patience: Duration) -> bool {
        let Some(link) = self.zones.iter().find(|z| z.id == zone) else { return true };
        match self.shared.zones[zone].log.lock().next_after(link.acknowledged) {
            Next::UpToDate => true,
            Next::Batch(batch) => now.elapsed.saturating_sub(batch.at) <= patience,
            Next::Gone => false,
        }
    }

    /// Whether the peer has acknowledged everything that was ever written here.
    pub(crate) fn is_drained(&self) -> bool {
        self.zones.iter().all(|link| {
            let zone = &self.shared.zones[link.id];
            zone.replica.dirty_count() == 0 && link.acknowledged >= zone.log.lock().through_seq()
        })
    }

    /// Takes the body of a frame from the peer.
    pub(crate) fn handle_frame(&mut self, now: Now, body: Bytes) -> Result<Option<Event>, LinkError> {
        match (&self.state, sync_proto::decode(body)?) {
            (_, Message::Refuse(refuse)) => Err(LinkError::by_peer(refuse)),
            (_, Message::Goodbye(Goodbye { reason })) => Ok(Some(Event::Goodbye(reason))),
            // A kind of a later version: the protocol grows by what older nodes may skip.
            (_, Message::Unknown) => Ok(None),
            (State::Greeting, Message::Hello(hello)) => {
                self.greet(now, &hello)?;
                Ok(Some(Event::Greeted))
            }
            (State::Live | State::Closing, Message::Acknowledge(acknowledge)) => {
                for zone in acknowledge.zones {
                    self.acknowledge(zone.zone, zone.through_seq)?;
                }
                if !self.window.count(acknowledge.catch_up_frames, now, is_fresh(self.batch_at, now)) {
                    return Err(LinkError::malformed("it counts more frames of catch-up than were sent"));
                }
                Ok(None)
            }
            (State::Live | State::Closing, Message::Request(request)) => {
                self.request(now, &request)?;
                Ok(None)
            }
            (State::Live | State::Closing, Message::Heartbeat(heartbeat)) => {
                self.clock.handle(&heartbeat, now);
                Ok(None)
            }
            (state, message) => Err(LinkError::malformed(format!(
                "a {} frame may not come from the accepting side while {}",
                frame_name(&message),
                match state {
                    State::Greeting => "greeting",
                    State::Greeted => "not active yet",
                    State::Live | State::Closing => "live",
                }
            ))),
        }
    }

    fn greet(&mut self, now: Now, hello: &Hello) -> Result<(), LinkError> {
        let peer = handshake::examine(&self.shared, hello, now)?;
        let own = self.shared.identity.origin;
        for zone in &peer.zones {
            let Some(id) = zone.ours else { continue };
            let joined_through = self.shared.zones[id].log.lock().through_seq();
            let acknowledged = zone.vector.get(own);
            // Whoever knows nothing of us is about to receive states of limits from others, and they contain what we have published. Debts from the log
            // would be counted once more.
            let is_state_due = acknowledged == 0
                && joined_through > 0
                && self.shared.zones[id].replica.kind() == ZoneKind::Limit;
            let jobs = is_state_due.then(|| Job::of_own_records(own, 0, joined_through));
            self.zones.push(ZoneLink {
                id,
                position: if is_state_due { joined_through } else { acknowledged },
                acknowledged,
                joined_through,
                joined: false,
                jobs: jobs.into_iter().collect(),
                requests_through: Duration::ZERO,
            });
        }
        self.peer = Some(peer);
        self.state = State::Greeted;
        Ok(())
    }

    /// Makes a greeted link live. Its first heartbeat tells the peer that we want this link: only then does the peer let it take
    /// the place of an older one.
    pub(crate) fn activate(&mut self, now: Now) {
        if let (State::Greeted, Some(peer)) = (&self.state, &self.peer) {
            self.shared.repair.lock().dialled(peer.origin);
            self.is_active = true;
            self.state = State::Live;
            self.heartbeat(now);
        }
    }

    fn acknowledge(&mut self, zone: u32, through_seq: u64) -> Result<(), LinkError> {
        let Some(link) = self.zones.iter_mut().find(|z| z.id == zone as usize) else {
            return Err(LinkError::malformed(format!(
                "it acknowledges zone {zone}, which this link does not have"
            )));
        };
        let published = self.shared.zones[link.id].log.lock().through_seq();
        if through_seq > published {
            return Err(LinkError::malformed(format!(
                "it acknowledges {through_seq} of zone {zone}, of which {published} are published"
            )));
        }
        // It may be ahead of this link: an earlier link or a third node brought it what this one has not sent yet.
        link.position = link.position.max(through_seq);
        link.acknowledged = link.acknowledged.max(through_seq);
        Ok(())
    }

    fn request(&mut self, now: Now, request: &Request) -> Result<(), LinkError> {
        let own = self.shared.identity.origin;
        let Some(link) = self.zones.iter_mut().find(|z| z.id == request.zone as usize) else {
            return Err(LinkError::malformed(format!(
                "it requests records of zone {}, which this link does not have",
                request.zone
            )));
        };
        if request.request == 0 {
            return Err(LinkError::malformed("a request must have an id above 0"));
        }
        if link.jobs.iter().filter(|job| job.request != 0).count() >= REQUESTS_MAX {
            let message = format!("more than {REQUESTS_MAX} requests are waiting for zone {}", request.zone);
            return Err(LinkError::Refused { code: Code::Limit, message });
        }
        let distance = self.shared.settings.repair_grace / 2;
        link.requests_through = link.requests_through.max(now.elapsed) + distance;
        if link.requests_through > now.elapsed + distance * REQUESTS_AT_ONCE {
            let message =
                format!("it requests records of zone {} more often than every {distance:?}", request.zone);
            return Err(LinkError::Refused { code: Code::Limit, message });
        }
        let ours = self.shared.zones[link.id].replica.vector();
        let origins: Vec<_> = request.origins.iter().filter_map(|&raw| Origin::from_raw(raw)).collect();
        // Of our own records, those that the stream has not sent yet are left to the stream.
        let through = |origin| if origin == own { link.position } else { ours.get(origin) };
        let covers = origins.iter().map(|&origin| (origin, through(origin))).collect();
        let known = vector(&request.known);
        link.jobs.push_back(Job {
            request: request.request,
            origins,
            known,
            covers,
            phase: Phase::Scanning(Cursor::default()),
            rows: 0,
        });
        Ok(())
    }

    /// The next frame for the peer; `None` when there is nothing to send until the next input, publication or time-out.
    ///
    /// Order: control frames, then batches, with a chunk of catch-up after every few. Zones whose lane has no room are left out; batches, catch-up and its end
    /// share one, since each says what a zone is known to have after it. Of catch-up no more is under way than its window allows.
    pub(crate) fn poll_transmit(&mut self, now: Now, has_room: &dyn Fn(u32) -> bool) -> Option<Laned> {
        self.is_scanning = false;
        if let Some(frame) = self.control.pop_front() {
            return Some((None, frame));
        }
        if !matches!(self.state, State::Live) {
            return None;
        }
        if self.batches_since_chunk < BATCHES_PER_CHUNK
            && let Some(frame) = self.batch(now, has_room)
        {
            self.batches_since_chunk += 1;
            return Some(frame);
        }
        self.batches_since_chunk = 0;
        self.catch_up(now, has_room).or_else(|| self.batch(now, has_room))
    }

    fn batch(&mut self, now: Now, has_room: &dyn Fn(u32) -> bool) -> Option<Laned> {
        for _ in 0..self.zones.len() {
            self.turn = (self.turn + 1) % self.zones.len();
            let link = &mut self.zones[self.turn];
            let lane = link.id as u32;
            if !has_room(lane) {
                continue;
            }
            let zone = &self.shared.zones[link.id];
            let mut log = zone.log.lock();
            if let Some(retention) = zone.replica.tombstone_retention() {
                log.forget_old(now, retention);
            }
            match log.next_after(link.position) {
                Next::Batch(batch) => {
                    link.position = batch.through_seq;
                    self.batch_at = Some(now.elapsed);
                    return Some((Some(lane), batch.frame.clone()));
                }
                Next::UpToDate => {}
                Next::Gone => {
                    let own = self.shared.identity.origin;
                    let through_seq = log.through_seq();
                    // Not what was streamed: a full zone may have refused some of it, and the end of the job says that all is known.
                    let known = link.position.min(link.acknowledged);
                    let rest = Job::of_own_records(own, known, through_seq);
                    match link.jobs.front_mut() {
                        Some(Job { request: 0, phase: Phase::Scanning(_), .. }) => continue,
                        // It waited for the stream, which cannot deliver any more: another scan does.
                        Some(job @ Job { request: 0, .. }) => *job = Job { rows: job.rows, ..rest },
                        _ => link.jobs.push_front(rest),
                    }
                    link.position = through_seq;
                }
            }
        }
        None
    }

    /// A chunk of the next catch-up job, or the end of one.
    fn catch_up(&mut self, now: Now, has_room: &dyn Fn(u32) -> bool) -> Option<Laned> {
        let own = self.shared.identity.origin;
        let batch_bytes = self.shared.settings.batch_bytes;
        let enough = if is_fresh(self.batch_at, now) { CHUNK_FRESH } else { batch_bytes };
        for _ in 0..self.zones.len() {
            self.turn = (self.turn + 1) % self.zones.len();
            let link = &mut self.zones[self.turn];
            let zone = link.id as u32;
            if !has_room(zone) {
                continue;
            }
            if let Some(job) = link.jobs.front_mut() {
                let shared = &self.shared.zones[link.id];
                if matches!(job.phase, Phase::Scanning(_)) && !self.window.has_room() {
                    continue;
                }
                if let Some(frame) = job.chunk(shared.replica.as_ref(), zone, own, (batch_bytes, enough), now)
                {
                    self.window.sent(frame.len(), now);
                    return Some((Some(zone), frame));
                }
                if matches!(job.phase, Phase::Scanning(_)) {
                    self.is_scanning = true;
                    continue;
                }
                if !job.has_ended(shared.replica.as_ref(), &shared.log.lock(), link.position) {
                    if matches!(job.phase, Phase::Publishing { .. }) {
                        self.publish_wanted = Some(link.id);
                    }
                    continue;
                }
                let job = link.jobs.pop_front()?;
                link.joined |= job.request == 0;
                return Some((Some(zone), end(zone, job.request, &job.covers, job.rows)));
            }
            if !link.joined && link.position >= link.joined_through {
                link.joined = true;
                // It covers nothing: the peer's vector has moved with the batches, unless its zone was too full for one.
                return Some((Some(zone), end(zone, 0, &VersionVector::default(), 0)));
            }
        }
        None
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) left off in the middle of a scan that has found nothing yet: call it again when others have had their turn.
    pub(crate) fn is_scanning(&self) -> bool {
        self.is_scanning
    }

    /// A zone to be published now, if any; then call [`poll_transmit`](Self::poll_transmit) again.
    pub(crate) fn poll_publish(&mut self) -> Option<usize> {
        self.publish_wanted.take()
    }

    fn heartbeat(&mut self, now: Now) {
        let mut heartbeat = Heartbeat::default();
        self.clock.stamp(&mut heartbeat, now);
        let mut entries = 0;
        for link in &self.zones {
            let vector = known(&self.shared.zones[link.id].replica.vector());
            if entries > 0 && entries + vector.len() > HEARTBEAT_ENTRIES {
                let rest = Heartbeat { vectors: Vec::new(), ..heartbeat };
                self.control.push_back(encode(&Kind::Heartbeat(std::mem::replace(&mut heartbeat, rest))));
                entries = 0;
            }
            entries += vector.len();
            heartbeat.vectors.push(ZoneVector { zone: link.id as u32, vector });
        }
        self.control.push_back(encode(&Kind::Heartbeat(heartbeat)));
        self.heartbeat_at = now.elapsed + self.shared.settings.heartbeat_interval;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub(crate) fn poll_timeout(&self) -> Duration {
        self.heartbeat_at
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if now.elapsed >= self.heartbeat_at {
            self.heartbeat(now);
        }
    }

    /// Control frames that wait, and the most jobs that wait for one zone.
    #[cfg(feature = "simulation")]
    pub(crate) fn backlog(&self) -> (usize, usize) {
        (self.control.len(), self.zones.iter().map(|zone| zone.jobs.len()).max().unwrap_or_default())
    }

    /// Ends the link in good order: Goodbye is the last frame.
    pub(crate) fn close(&mut self, reason: &str) {
        if !matches!(self.state, State::Closing) {
            self.state = State::Closing;
            self.control.push_back(encode(&Kind::Goodbye(Goodbye { reason: reason.to_owned() })));
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.as_ref().filter(|_| self.is_active) {
            self.shared.repair.lock().lost(peer.origin);
        }
    }
}

impl Job {
    /// Sends our own records that lie beyond what the peer knows.
    fn of_own_records(own: Origin, known_seq: u64, through_seq: u64) -> Self {
        Self {
            request: 0,
            origins: vec![own],
            known: [(own, known_seq)].into_iter().collect(),
            covers: [(own, through_seq)].into_iter().collect(),
            phase: Phase::Scanning(Cursor::default()),
            rows: 0,
        }
    }

    /// The next frame of rows, up to a limit, and no more of them when they are enough; `None` at the end of the scan, or if there are none in as many slots as are
    /// looked at in one go.
    fn chunk(
        &mut self,
        zone: &dyn sync_store::Replica,
        id: u32,
        own: Origin,
        (limit, enough): (usize, usize),
        now: Now,
    ) -> Option<Bytes> {
        let own_through = self.covers.get(own);
        let own_wanted = self.origins.contains(&own);
        let Phase::Scanning(cursor) = &mut self.phase else { return None };
        let cursor = std::mem::take(cursor);
        // Every record fits an empty frame: the builder bounds zones' records by the batch size.
        let mut encoder = CatchUpEncoder::new(id, self.request, own.raw(), limit);
        let next = zone.scan(now.time, &self.origins, &self.known, cursor, &mut |record| {
            let streamed_later = own_wanted && record.dot.origin == own && record.dot.seq > own_through;
            streamed_later || encoder.bytes() < enough && encoder.push(&rows::row(record))
        });
        self.phase = next.map_or(Phase::Scanned, Phase::Scanning);
        self.rows += encoder.len() as u64;
        (!encoder.is_empty()).then(|| encoder.finish())
    }

    /// Whether the peer has what the job covers, now that it was streamed up to `position`.
    fn has_ended(&mut self, zone: &dyn sync_store::Replica, log: &Log, position: u64) -> bool {
        match self.phase {
            Phase::Scanning(_) => return false,
            Phase::Scanned => {
                zone.call_for_dirty();
                self.phase = Phase::Publishing { pass: log.passes_begun() };
            }
            Phase::Publishing { pass } if log.pass_completed() > pass => {
                self.phase = Phase::Streaming { through_seq: log.through_seq() };
            }
            Phase::Publishing { .. } | Phase::Streaming { .. } => {}
        }
        matches!(self.phase, Phase::Streaming { through_seq } if position >= through_seq)
    }
}

fn end(zone: u32, request: u64, covers: &VersionVector, rows: u64) -> Bytes {
    encode(&Kind::CatchUpEnd(CatchUpEnd { zone, vector: known(covers), request, rows }))
}
