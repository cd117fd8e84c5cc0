//! The receiving end of a link: the side that accepted.
//!
//! It applies batches and catch-up to the zones, acknowledges by its version vectors, and requests what
//! [`Repair`](super::repair::Repair) assigns to this link. The dialler's first frame after the two Hellos is a heartbeat;
//! it makes the link *active*, and only then may it take the place of an older link from the same origin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sync_proto::wire::frame::Kind;
use sync_proto::wire::refuse::Code;
use sync_proto::wire::{Acknowledge, CatchUpEnd, Goodbye, Heartbeat, Hello, Request, ZoneAcknowledge};
use sync_proto::{BatchView, CatchUpView, Message, RowRef, encode};
use sync_store::{
    Applied, Error as StoreError, Record, Replica, State as RecordState, VersionVector, ZoneKind,
};

use super::clock_offset::{ClockOffset, Measured};
use super::handshake::{self, Peer};
use super::repair::LinkId;
use super::window::is_fresh;
use super::{LinkError, Now, ReplicatedZone, Shared, frame_name, known, rows, vector};

/// Between two acknowledgements. One costs a system call and a wake-up on either side, as much as a small batch does, and nobody
/// waits for the second of a millisecond. Catch-up is counted at once.
const ACKNOWLEDGE_PAUSE: Duration = Duration::from_millis(1);

/// What a frame from the peer means for the driver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The peer's Hello was found good; ours is on its way.
    Greeted,
    /// The peer accepted our Hello: this link is now the one from its origin.
    Activated,
    /// All zones have the peer's own records.
    Joined,
    /// The peer closes the link in good order.
    Goodbye(String),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Greeted,
    Active,
}

/// Batches applied although the vector does not reach their start: it moves over them when catch-up has filled the gap.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    from_seq_excluded: u64,
    through_seq: u64,
}

/// A zone on this link; its place in the list is its id on the link.
#[derive(Debug)]
struct ZoneLink {
    /// Our index, if it synchronizes.
    ours: Option<usize>,
    ahead: Option<Ahead>,
    joined: bool,
    /// A record of the running catch-up was refused: its end covers nothing.
    refused: bool,
    /// Records have come that the vector did not cover when they were applied. Should the link be lost, they may be orphans.
    brought_uncovered: bool,
    acknowledged: u64,
    /// The peer has said that it has published so much, and then it had not all arrived.
    behind: Option<(u64, Duration)>,
}

/// Frames of catch-up counted at once while batches come: each count costs both sides a call of the system or two.
const FRAMES_PER_COUNT: u64 = 2;

/// The machine of a link that this node accepted.
#[derive(Debug)]
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    link: LinkId,
    state: State,
    peer: Option<Peer>,
    zones: Vec<ZoneLink>,
    control: VecDeque<Bytes>,
    clock: ClockOffset,
    heartbeat_at: Duration,
    repair_at: Duration,
    /// Whether the vectors may have moved since the last acknowledgement, and the earliest time of the next, unless catch-up is to be counted.
    may_acknowledge: bool,
    acknowledge_at: Duration,
    /// When the latest record was applied.
    applied_at: Option<Duration>,
    /// When the latest batch came.
    batch_at: Option<Duration>,
    /// Frames of catch-up applied, and of those the peer was told.
    catch_up_frames: u64,
    acknowledged_frames: u64,
    joined: bool,
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>, link: LinkId) -> Self {
        Self {
            shared,
            link,
            state: State::Greeting,
            peer: None,
            zones: Vec::new(),
            control: VecDeque::new(),
            clock: ClockOffset::default(),
            heartbeat_at: Duration::MAX,
            repair_at: Duration::MAX,
            may_acknowledge: false,
            acknowledge_at: Duration::ZERO,
            applied_at: None,
            batch_at: None,
            catch_up_frames: 0,
            acknowledged_frames: 0,
            joined: false,
        }
    }

    /// The peer, once greeted.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub(crate) fn measured(&self) -> Option<Measured> {
        self.clock.measured()
    }

    /// When the latest record was applied, since the node started.
    pub(crate) fn applied_at(&self) -> Option<Duration> {
        self.applied_at
    }

    /// Takes the body of a frame from the peer.
    pub(crate) fn handle_frame(&mut self, now: Now, body: Bytes) -> Result<Option<Event>, LinkError> {
        match (&self.state, sync_proto::decode(body)?) {
            (_, Message::Refuse(refuse)) => Err(LinkError::by_peer(refuse)),
            (State::Greeting, Message::Hello(hello)) => self.greet(now, &hello).map(Some),
            (_, Message::Goodbye(Goodbye { reason })) => Ok(Some(Event::Goodbye(reason))),
            // A kind of a later version: the protocol grows by what older nodes may skip.
            (_, Message::Unknown) => Ok(None),
            (State::Greeted, Message::Heartbeat(heartbeat)) => {
                self.state = State::Active;
                self.heartbeat_at = now.elapsed;
                self.repair_at = now.elapsed;
                self.heartbeat(now, &heartbeat)?;
                // One event a frame: a link of no common zone says with its next heartbeat that it joined.
                self.joined = false;
                Ok(Some(Event::Activated))
            }
            (State::Active, Message::Heartbeat(heartbeat)) => self.heartbeat(now, &heartbeat),
            (State::Active, Message::Batch(batch)) => {
                self.may_acknowledge = true;
                self.batch_at = Some(now.elapsed);
                self.batch(now, &batch).map(|()| None)
            }
            (State::Active, Message::CatchUp(rows)) => self.catch_up(now, &rows).map(|()| None),
            (State::Active, Message::CatchUpEnd(end)) => {
                self.may_acknowledge = true;
                self.catch_up_end(now, &end)
            }
            (state, message) => Err(LinkError::malformed(format!(
                "a {} frame may not come from the dialling side while {}",
                frame_name(&message),
                match state {
                    State::Greeting => "greeting",
                    State::Greeted => "its first heartbeat is due",
                    State::Active => "active",
                }
            ))),
        }
    }

    fn greet(&mut self, now: Now, hello: &Hello) -> Result<Event, LinkError> {
        let peer = handshake::examine(&self.shared, hello, now)?;
        for zone in &peer.zones {
            if let Some(id) = zone.ours {
                self.shared.meet(id, self.link, peer.origin, zone.vector.get(peer.origin));
            }
            self.zones.push(ZoneLink {
                ours: zone.ours,
                ahead: None,
                joined: zone.ours.is_none(),
                refused: false,
                brought_uncovered: false,
                acknowledged: 0,
                behind: None,
            });
        }
        self.peer = Some(peer);
        self.state = State::Greeted;
        self.control.push_back(encode(&Kind::Hello(handshake::hello(&self.shared, now))));
        Ok(Event::Greeted)
    }

    /// The link's zone of that id and our index; `None` if it does not synchronize (the dialler had no way to know
    /// when it sent this).
    fn zone(&mut self, id: u32, what: &str) -> Result<Option<(&mut ZoneLink, usize)>, LinkError> {
        match self.zones.get_mut(id as usize) {
            Some(link) => Ok(link.ours.map(|ours| (link, ours))),
            None => {
                Err(LinkError::malformed(format!("a {what} of zone {id}, which its Hello does not list")))
            }
        }
    }

    fn batch(&mut self, now: Now, batch: &BatchView) -> Result<(), LinkError> {
        let Some(from) = self.peer.as_ref().map(|p| p.origin) else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let Some((link, id)) = self.zone(batch.zone(), "batch")? else { return Ok(()) };
        let replica = &shared.zones[id].replica;
        let (from_seq_excluded, through_seq) = (batch.from_seq_excluded(), batch.through_seq());
        let covered = replica.vector().get(from);
        if from_seq_excluded > covered {
            link.ahead = match link.ahead {
                Some(ahead) if ahead.through_seq == from_seq_excluded => Some(Ahead { through_seq, ..ahead }),
                // What lies between is lost to this link; catch-up or repair brings it.
                _ => Some(Ahead { from_seq_excluded, through_seq }),
            };
        }
        // States that others sent contain what it begins with: those debts are counted.
        let contained_seq = match replica.kind() {
            ZoneKind::Limit => shared.repair.lock().contained(id, from).min(through_seq),
            ZoneKind::Keyval | ZoneKind::Sticky => 0,
        };
        let applied = apply(&shared.zones[id], now, batch.rows(from.raw()), |replica, rows| {
            let contained = contained_seq.saturating_sub(from_seq_excluded) as usize;
            if contained == 0 {
                return replica.apply_batch(now.time, from, from_seq_excluded, through_seq, rows);
            }
            let mut rows: Vec<_> = rows.collect();
            let states = replica.apply_states(now.time, &mut rows.iter().take(contained).copied())?;
            if states.refused > 0 {
                return Ok(states);
            }
            for row in rows.iter_mut().take(contained) {
                if let RecordState::Limit { debt_ns, .. } = &mut row.state {
                    *debt_ns = 0;
                }
            }
            replica.apply_batch(now.time, from, from_seq_excluded, through_seq, &mut rows.into_iter())
        });
        let is_whole = applied.as_ref().is_ok_and(|applied| applied.refused == 0);
        link.brought_uncovered |= !is_whole || link.ahead.is_some();
        if !is_whole {
            // The run ends before this batch; what comes after it begins another one.
            link.ahead = None;
        }
        let applied = applied?;
        if applied.applied > 0 {
            self.applied_at = Some(now.elapsed);
        }
        Ok(())
    }

    fn catch_up(&mut self, now: Now, catch_up: &CatchUpView) -> Result<(), LinkError> {
        let Some(from) = self.peer.as_ref().map(|p| p.origin) else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        self.catch_up_frames += 1;
        let link_id = self.link;
        let Some((link, id)) = self.zone(catch_up.zone(), "catch-up")? else { return Ok(()) };
        link.brought_uncovered = true;
        if shared.zones[id].replica.kind() == ZoneKind::Limit && catch_up.request() == 0 {
            let ours = shared.zones[id].replica.vector();
            // Whoever knows nothing of a peer is sent all that it has; otherwise only what it has changed.
            if ours.get(from) == 0 {
                shared.repair.lock().contains(id, link_id, &ours);
            }
        }
        let applied = apply(&shared.zones[id], now, catch_up.rows(from.raw()), |replica, rows| {
            replica.apply_states(now.time, rows)
        })?;
        link.refused |= applied.refused > 0;
        if applied.applied > 0 {
            self.applied_at = Some(now.elapsed);
        }
        shared.repair.lock().progress(id, link_id, catch_up.request(), from, now.elapsed);
        Ok(())
    }

    fn catch_up_end(&mut self, now: Now, end: &CatchUpEnd) -> Result<Option<Event>, LinkError> {
        let Some(from) = self.peer.as_ref().map(|p| p.origin) else { return Ok(None) };
        let shared = Arc::clone(&self.shared);
        let link_id = self.link;
        let Some((link, id)) = self.zone(end.zone, "catch-up's end")? else { return Ok(None) };
        let replica = &shared.zones[id].replica;
        let mut repair = shared.repair.lock();
        // A peer speaks for its own records, and for those that it was asked for.
        let spoken_for = match end.request {
            0 => vec![from],
            request => repair.completed(id, link_id, request, now.elapsed).ok_or_else(|| {
                LinkError::malformed(format!("an answer to request {request}, which is not open"))
            })?,
        };
        let covers = vector(&end.vector);
        handshake::check_claim(&shared, id, &covers)?;
        let mut covers: VersionVector =
            covers.iter().filter(|(origin, _)| spoken_for.contains(origin)).collect();
        if !std::mem::take(&mut link.refused) {
            if let Some(ahead) = link.ahead.take_if(|a| covers.get(from) >= a.from_seq_excluded) {
                covers.advance(from, ahead.through_seq);
            }
            let ours = replica.vector();
            replica.cover(&covers);
            repair.covered(id, from, &ours, &covers);
        }
        if end.request != 0 {
            return Ok(None);
        }
        link.joined = true;
        let joined = self.zones.iter().all(|z| z.joined);
        Ok((joined && !std::mem::replace(&mut self.joined, joined)).then_some(Event::Joined))
    }

    fn heartbeat(&mut self, now: Now, heartbeat: &Heartbeat) -> Result<Option<Event>, LinkError> {
        self.clock.handle(heartbeat, now);
        let Some(from) = self.peer.as_ref().map(|p| p.origin) else { return Ok(None) };
        let shared = Arc::clone(&self.shared);
        for zone in &heartbeat.vectors {
            let Some((link, id)) = self.zone(zone.zone, "vector")? else { continue };
            let vector = vector(&zone.vector);
            let claimed = vector.get(from);
            let arrived = shared.zones[id].replica.vector().get(from);
            if link.behind.is_none_or(|(earlier, _)| earlier <= arrived) {
                link.behind = (claimed > arrived).then_some((claimed, now.elapsed));
            }
            handshake::check_claim(&self.shared, id, &vector)?;
            let is_first = self.shared.repair.lock().heard(id, self.link, from, vector);
            if is_first {
                // Again: others may have spoken for it since its Hello. But a limit's vector may fall only before our Hello answers, or the
                // peer would stream debts that states of others contained.
                self.shared.meet(id, self.link, from, u64::MAX);
            }
        }
        // A link of no common zone has nothing to join.
        if !self.joined && self.zones.iter().all(|z| z.joined) {
            self.joined = true;
            return Ok(Some(Event::Joined));
        }
        Ok(None)
    }

    /// Whether all of a zone has arrived that the peer said longer than `patience` ago it had published. It has if the zone is not on this link.
    pub(crate) fn has_heard(&self, zone: usize, now: Now, patience: Duration) -> bool {
        let Some(link) = self.zones.iter().find(|link| link.ours == Some(zone)) else { return true };
        let (Some((claimed, since)), Some(peer)) = (link.behind, &self.peer) else { return true };
        self.shared.zones[zone].replica.vector().get(peer.origin) >= claimed
            || now.elapsed.saturating_sub(since) <= patience
    }

    /// Whether the peer is to learn at once how much of a catch-up was applied: what it does not know to be under way, fresh batches wait behind.
    pub(crate) fn is_urgent(&self, now: Now) -> bool {
        self.catch_up_frames >= self.acknowledged_frames + FRAMES_PER_COUNT && is_fresh(self.batch_at, now)
    }

    /// The next frame for the peer. Acknowledgements gather until it is called: call it when no further frame is at hand, or it [is urgent](Self::is_urgent).
    pub(crate) fn poll_transmit(&mut self, now: Now) -> Option<Bytes> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        // The dialler sends more of a catch-up only as it is counted.
        let is_awaited = self.catch_up_frames > self.acknowledged_frames;
        let is_due = self.may_acknowledge && now.elapsed >= self.acknowledge_at;
        if !(is_awaited || is_due) {
            return None;
        }
        self.may_acknowledge = false;
        let acknowledgement = self.acknowledgement()?;
        self.acknowledge_at = now.elapsed + ACKNOWLEDGE_PAUSE;
        Some(acknowledgement)
    }

    fn acknowledgement(&mut self) -> Option<Bytes> {
        let from = self.peer.as_ref()?.origin;
        if self.state != State::Active {
            return None;
        }
        let mut zones = Vec::new();
        for (zone, link) in self.zones.iter_mut().enumerate() {
            let Some(id) = link.ours else { continue };
            let through_seq = self.shared.zones[id].replica.vector().get(from);
            if through_seq > link.acknowledged {
                link.acknowledged = through_seq;
                zones.push(ZoneAcknowledge { zone: zone as u32, through_seq });
            }
        }
        let catch_up_frames = self.catch_up_frames;
        let is_more = std::mem::replace(&mut self.acknowledged_frames, catch_up_frames) < catch_up_frames;
        (is_more || !zones.is_empty())
            .then(|| encode(&Kind::Acknowledge(Acknowledge { zones, catch_up_frames })))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub(crate) fn poll_timeout(&self) -> Duration {
        let acknowledge_at = if self.may_acknowledge { self.acknowledge_at } else { Duration::MAX };
        self.heartbeat_at.min(self.repair_at).min(acknowledge_at)
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if now.elapsed >= self.heartbeat_at {
            let mut heartbeat = Heartbeat::default();
            self.clock.stamp(&mut heartbeat, now);
            self.control.push_back(encode(&Kind::Heartbeat(heartbeat)));
            self.heartbeat_at = now.elapsed + self.shared.settings.heartbeat_interval;
            // Another peer may have brought what this one has not sent yet.
            self.may_acknowledge = true;
        }
        if now.elapsed >= self.repair_at {
            self.repair_at = now.elapsed + self.shared.settings.repair_grace / 2;
            self.request_missing(now);
        }
    }

    fn request_missing(&mut self, now: Now) {
        for (zone, link) in self.zones.iter().enumerate() {
            let Some(id) = link.ours else { continue };
            let replica = &self.shared.zones[id].replica;
            let ours = replica.vector();
            let adopt = self.shared.repair.lock().poll_adopt(id, &ours, now.elapsed);
            if adopt.is_some_and(|except| !replica.adopt(&except)) {
                self.shared.repair.lock().adopted(id);
            }
            let Some(wanted) = self.shared.repair.lock().poll(id, self.link, &ours, now.elapsed) else {
                continue;
            };
            let request = Request {
                zone: zone as u32,
                request: wanted.request,
                known: known(&wanted.origins.iter().map(|&o| (o, ours.get(o))).collect()),
                origins: wanted.origins.iter().map(|o| o.raw()).collect(),
            };
            self.control.push_back(encode(&Kind::Request(request)));
        }
    }

    /// Control frames that wait.
    #[cfg(feature = "simulation")]
    pub(crate) fn backlog(&self) -> usize {
        self.control.len()
    }

    /// Ends the link in good order: what was applied is acknowledged, and Goodbye is the last frame.
    pub(crate) fn close(&mut self, reason: &str) {
        let acknowledgement = self.acknowledgement();
        self.control.extend(acknowledgement);
        self.control.push_back(encode(&Kind::Goodbye(Goodbye { reason: reason.to_owned() })));
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let mut repair = self.shared.repair.lock();
        repair.link_closed(self.link);
        for link in self.zones.iter().filter(|link| link.brought_uncovered) {
            link.ours.into_iter().for_each(|id| repair.suspect_orphans(id));
        }
    }
}

/// Turns rows into records and applies them; errors become refusals that the peer is told. What was applied is noted for the zone's file.
fn apply<'a>(
    zone: &ReplicatedZone,
    now: Now,
    rows: impl Iterator<Item = RowRef<'a>> + Clone,
    apply: impl FnOnce(&dyn Replica, &mut dyn Iterator<Item = Record<'_>>) -> Result<Applied, StoreError>,
) -> Result<Applied, LinkError> {
    let kind = zone.replica.kind();
    let mut nobody = false;
    let mut records = rows.clone().map_while(|row| {
        let record = rows::record(kind, &row);
        nobody |= record.is_none();
        record
    });
    let mut unsaved = zone.unsaved.as_ref().map(|unsaved| unsaved.lock());
    let applied = apply(zone.replica.as_ref(), &mut records);
    if let Some(unsaved) = unsaved.as_deref_mut() {
        let is_whole = !nobody && applied.as_ref().is_ok_and(|applied| applied.refused == 0);
        for record in rows.map_while(|row| rows::record(kind, &row)) {
            if is_whole {
                unsaved.note(&record);
                continue;
            }
            // Some were not applied. Those that were are known by merging again.
            match zone.replica.apply_states(now.time, &mut std::iter::once(record)) {
                Ok(Applied { refused: 0, .. }) => unsaved.note(&record),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    let applied = applied.map_err(|error| {
        let code = match error {
            StoreError::StampAhead { .. } => Code::Clock,
            _ => Code::Limit,
        };
        LinkError::Refused { code, message: error.to_string() }
    })?;
    if nobody {
        return Err(LinkError::malformed("a row without origin or writer"));
    }
    Ok(applied)
}
