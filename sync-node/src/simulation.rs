//! A node without its surroundings: the same zones, machines and links as in [`Node`](crate::Node), with time, connections and
//! discovery brought by the caller. Behind the feature `simulation`, for the simulation in the package `tests` and for fuzzing; it may change at any time.
//!
//! After any input call [`Node::poll`], then [`Node::poll_transmit`] for the links that [`Node::take_woken`] names as long as they have room, do what [`Node::poll_action`] says, and come back when
//! [`Node::poll_timeout`] has passed. State files are real ones, and written by [`Node::save`]. What a socket would be handed are whole frames, what it would deliver their bodies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sync_store::{KeyvalZone, LimitZone, Origin, Replica, StickyZone, Time};
use sync_transport::Target;

pub use crate::state::fuzzed as journal;

use crate::Error;
use crate::link::{End, Established, Incoming, Outgoing};
use crate::membership::Command;
use crate::node::Zones;
use crate::replication::outbound::REQUESTS_MAX;
use crate::replication::publisher::Publisher;
use crate::replication::{Now, SWEEP_BUDGET, SWEEP_INTERVAL, SWEEP_PARTS, Shared, strict};
use crate::state::Keeping;

/// Between two times that a zone is saved in any case.
pub const SAVE_INTERVAL: Duration = crate::state::INTERVAL;

/// Identifies a link within a node.
pub type LinkId = u64;

/// A link that is stuck is silent, and ended after three heartbeats: a frame for each zone and one for the clock, a request for each zone and a goodbye, for
/// nodes of up to seven zones.
const CONTROL_FRAMES_MAX: usize = 32;

/// The present moment, as the node sees it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Time of day, by the node's clock.
    pub time: Time,
    /// Monotonic time since the node started.
    pub elapsed: Duration,
}

impl From<Moment> for Now {
    fn from(Moment { time, elapsed }: Moment) -> Self {
        Self { time, elapsed }
    }
}

/// What the surroundings shall do.
#[derive(Debug)]
pub enum Action {
    /// Connect to the target, then call [`Node::connected`] or [`Node::failed`].
    Dial(LinkId, Target),
    /// Send these last frames, close, wait for the peer to close too, then call [`Node::ended`].
    Close(LinkId, Vec<Bytes>),
}

/// How much waits in the node's queues, with the bounds that it must keep.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// What it is, for people.
    pub what: &'static str,
    /// How much there is.
    pub held: usize,
    /// The most there may be.
    pub bound: usize,
}

#[derive(Debug)]
enum Life {
    Dialling,
    Out(Outgoing),
    In(Incoming),
}

#[derive(Debug)]
struct Link {
    life: Life,
    /// It has ended; only its connection is left.
    end: Option<End>,
}

/// A node without its surroundings. Made by [`NodeBuilder::simulate`](crate::NodeBuilder::simulate).
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    zones: Zones,
    /// Those with a state file, by name.
    kept: BTreeMap<String, Keeping>,
    publishers: Vec<Publisher>,
    /// When a dirty zone is to be published.
    publish_at: Duration,
    sweep_at: Duration,
    divide_at: Duration,
    links: BTreeMap<LinkId, Link>,
    actions: VecDeque<Action>,
    /// Links whose tasks would have been woken.
    woken: BTreeSet<LinkId>,
}

impl Node {
    pub(crate) fn new(
        shared: Arc<Shared>,
        zones: Zones,
        kept: BTreeMap<String, Keeping>,
        interval: Duration,
    ) -> Self {
        let divide_at = if shared.strict.is_empty() { Duration::MAX } else { Duration::ZERO };
        let publishers = (0..shared.zones.len()).map(|zone| Publisher::new(zone, interval)).collect();
        Self {
            shared,
            zones,
            kept,
            publishers,
            publish_at: Duration::MAX,
            sweep_at: SWEEP_INTERVAL,
            divide_at,
            links: BTreeMap::new(),
            actions: VecDeque::new(),
            woken: BTreeSet::new(),
        }
    }

    /// Its identity for this run.
    pub fn origin(&self) -> Origin {
        self.shared.identity.origin
    }

    /// The keyval zone of that name.
    pub fn keyval(&self, name: &str) -> Option<Arc<KeyvalZone>> {
        self.zones.keyvals.get(name).cloned()
    }

    /// The sticky zone of that name.
    pub fn sticky(&self, name: &str) -> Option<Arc<StickyZone>> {
        self.zones.stickies.get(name).cloned()
    }

    /// The limit zone of that name.
    pub fn limit(&self, name: &str) -> Option<Arc<LimitZone>> {
        self.zones.limits.get(name).cloned()
    }

    /// All zones, as replication sees them.
    pub fn replicas(&self) -> impl Iterator<Item = Arc<dyn Replica>> {
        self.zones.replicas()
    }

    /// Discovery found these targets and no others. `complete`: it has had an answer for every server.
    pub fn handle_targets(&mut self, now: Moment, targets: &[Target], complete: bool) {
        self.shared.membership.lock().handle_targets(now.elapsed, targets, complete);
    }

    /// A peer's connection stands.
    pub fn accept(&mut self, now: Moment) -> LinkId {
        let incoming = Incoming::new(&self.shared, now.into());
        let id = incoming.id();
        self.links.insert(id, Link { life: Life::In(incoming), end: None });
        self.woken.insert(id);
        id
    }

    /// A dialled connection stands.
    pub fn connected(&mut self, now: Moment, link: LinkId) {
        if let Some(entry) = self.links.get_mut(&link).filter(|entry| entry.end.is_none()) {
            entry.life = Life::Out(Outgoing::new(&self.shared, link, now.into()));
            self.woken.insert(link);
        }
    }

    /// A connection broke, or could not be made. It is gone: nothing is sent any more.
    pub fn failed(&mut self, now: Moment, link: LinkId, why: &str) {
        self.end(link, End::failed(why), now);
        self.actions.retain(|action| !matches!(action, Action::Close(id, _) if *id == link));
        self.ended(now, link);
    }

    /// The body of a frame arrived; `None`: the peer has closed the connection.
    pub fn handle_frame(&mut self, now: Moment, link: LinkId, frame: Option<Bytes>) {
        let Some(entry) = self.links.get_mut(&link).filter(|entry| entry.end.is_none()) else { return };
        let handled = match &mut entry.life {
            Life::Dialling => Ok(None),
            Life::Out(outgoing) => outgoing.handle_frame(now.into(), frame),
            Life::In(incoming) => incoming.handle_frame(now.into(), frame),
        };
        self.woken.insert(link);
        match handled {
            Ok(Some(Established { .. }) | None) => {}
            Err(end) => self.end(link, end, now),
        }
    }

    /// The next frame for a link's peer, and the lane on which it goes, one that `has_room`. Frames of a lane have to arrive in order; before those of lanes, the first
    /// heartbeat has to.
    pub fn poll_transmit(
        &mut self,
        now: Moment,
        link: LinkId,
        has_room: &dyn Fn(u32) -> bool,
    ) -> Option<(Option<u32>, Bytes)> {
        let entry = self.links.get(&link).filter(|entry| entry.end.is_none())?;
        match &entry.life {
            Life::Dialling => None,
            Life::In(incoming) => incoming.poll_transmit(now.into()).map(|frame| (None, frame)),
            Life::Out(outgoing) => loop {
                if let Some(frame) = outgoing.poll_transmit(now.into(), has_room) {
                    return Some(frame);
                }
                if outgoing.is_scanning() {
                    continue;
                }
                if self.shared.publish(outgoing.poll_publish()?, now.into()) {
                    self.woken.extend(dialled(&self.links));
                }
            },
        }
    }

    /// Does what is due. Call after any input, and when [`poll_timeout`](Self::poll_timeout) has passed.
    pub fn poll(&mut self, now: Moment) {
        self.handle_timeouts(now);
        if now.elapsed >= self.sweep_at {
            self.sweep_at = now.elapsed + SWEEP_INTERVAL;
            for replica in self.zones.replicas() {
                for part in 0..SWEEP_PARTS {
                    replica.sweep_part(now.time, SWEEP_BUDGET, part, SWEEP_PARTS);
                }
            }
        }
        if now.elapsed >= self.divide_at {
            self.divide_at = now.elapsed + strict::interval(&self.shared.settings);
            self.divide(now);
        }
        self.publish(now);
        let commands = self.shared.membership.lock().poll(now.elapsed);
        for command in commands {
            match command {
                Command::Dial(link, target) => {
                    self.links.insert(link, Link { life: Life::Dialling, end: None });
                    self.actions.push_back(Action::Dial(link, target));
                }
                Command::Close(link, reason) => self.close(link, reason, now),
            }
        }
    }

    /// When to call [`poll`](Self::poll) at the latest.
    pub fn poll_timeout(&self) -> Duration {
        let links = self.links.values().filter(|entry| entry.end.is_none()).map(|entry| match &entry.life {
            Life::Dialling => Duration::MAX,
            Life::Out(outgoing) => outgoing.poll_timeout(),
            Life::In(incoming) => incoming.poll_timeout(),
        });
        let dial = self.shared.membership.lock().poll_timeout();
        links
            .chain(dial)
            .chain([self.publish_at, self.sweep_at, self.divide_at])
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// What the surroundings shall do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The links that may have something to send.
    pub fn take_woken(&mut self) -> BTreeSet<LinkId> {
        std::mem::take(&mut self.woken)
    }

    /// Whether there are such links.
    pub fn is_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// The connection of a link that [`Action::Close`] was said of is gone.
    pub fn ended(&mut self, now: Moment, link: LinkId) {
        let Some(Link { life, end: Some(end) }) = self.links.remove(&link) else { return };
        match life {
            Life::In(incoming) => incoming.ended(),
            Life::Dialling | Life::Out(_) => _ = Outgoing::ended(&self.shared, now.into(), link, &end),
        }
    }

    /// Writes what has changed in a keyval zone to its state file, as [`NodeBuilder::keyval_state`](crate::NodeBuilder::keyval_state) says; if it is *due*, as it is every
    /// [`SAVE_INTERVAL`], so that it survives the end of the machine.
    ///
    /// # Errors
    ///
    /// As for [`saved`](crate::Node::saved).
    pub fn save(&mut self, now: Moment, zone: &str, is_due: bool) -> Result<(), Error> {
        let Some(keeping) = self.kept.get_mut(zone) else { return Ok(()) };
        if let Some(zone) = keeping.synchronized() {
            let mut is_published = false;
            self.shared.publish_whole(zone, || is_published |= self.shared.publish(zone, now.into()));
            if is_published {
                self.woken.extend(dialled(&self.links));
            }
        }
        let saved = keeping.save(now.into(), is_due);
        if is_due {
            keeping.update_table(now.into(), saved.as_ref().err());
        }
        saved.map_err(|fault| keeping.location().unsaved(Some(&fault)))
    }

    /// The origin of records of a zone that may have been removed while the node was away, as long as that is not known.
    pub fn doubtful(&self, zone: &str) -> Option<Origin> {
        self.kept.get(zone).and_then(Keeping::doubtful)
    }

    /// Writes everything to state files and closes them in good order, at the end of a node that is not killed.
    ///
    /// # Errors
    ///
    /// As for [`saved`](crate::Node::saved).
    pub fn close_files(&mut self, now: Moment) -> Result<(), Error> {
        let names: Vec<_> = self.kept.keys().cloned().collect();
        let saved = names.iter().try_for_each(|zone| self.save(now, zone, true));
        std::mem::take(&mut self.kept).into_values().for_each(Keeping::close);
        saved
    }

    /// A graceful stop: publishes everything; true if every connected peer has acknowledged it. Call until it is, or patience is over, then
    /// [`stop`](Self::stop).
    pub fn drain(&mut self, now: Moment) -> bool {
        for zone in 0..self.shared.zones.len() {
            if self.shared.publish(zone, now.into()) {
                self.woken.extend(dialled(&self.links));
            }
        }
        self.is_drained()
    }

    /// Whether every connected peer has acknowledged everything that was written here.
    pub fn is_drained(&self) -> bool {
        self.links.values().all(|entry| match &entry.life {
            Life::Out(outgoing) if entry.end.is_none() => outgoing.machine().lock().is_drained(),
            Life::Out(_) | Life::In(_) | Life::Dialling => true,
        })
    }

    /// Dials and accepts nobody from now on, and says goodbye on every link.
    pub fn stop(&mut self, now: Moment) {
        self.shared.membership.lock().stop();
        let links: Vec<_> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.close(link, "the node is stopping", now));
    }

    /// What the node still waits for before it has joined its cluster; `None` if for nothing.
    pub fn unjoined(&self) -> Option<String> {
        self.shared.unjoined()
    }

    /// Distinct peers that some link connects.
    pub fn nodes_online(&self) -> usize {
        self.shared.membership.lock().nodes_online()
    }

    /// Links to peers that this node has dialled, and that stand.
    pub fn peers_out(&self) -> usize {
        let stands = |entry: &&Link| matches!(entry.life, Life::Out(_)) && entry.end.is_none();
        self.links.values().filter(stands).count()
    }

    /// How full its queues are.
    pub fn backlogs(&self) -> Vec<Backlog> {
        let logs = self.shared.zones.iter().map(|zone| {
            let (held, bound) = zone.log.lock().bytes();
            Backlog { what: "bytes in the log of a zone", held, bound }
        });
        let control = |held| Backlog { what: "control frames for a peer", held, bound: CONTROL_FRAMES_MAX };
        let links = self.links.values().flat_map(|entry| match &entry.life {
            Life::Dialling => Vec::new(),
            Life::Out(outgoing) => {
                let (frames, jobs) = outgoing.machine().lock().backlog();
                // Its requests, and the job of our own records.
                let jobs = Backlog { what: "jobs for a peer", held: jobs, bound: REQUESTS_MAX + 1 };
                vec![control(frames), jobs]
            }
            Life::In(incoming) => vec![control(incoming.machine().lock().backlog())],
        });
        logs.chain(links).collect()
    }

    fn divide(&self, now: Moment) {
        let patience = strict::patience(&self.shared.settings);
        self.shared.strict.divide(&self.shared, |zone| {
            self.links.values().filter(|entry| entry.end.is_none()).all(|entry| match &entry.life {
                Life::Dialling => true,
                Life::Out(link) => link.machine().lock().is_heard(zone, now.into(), patience),
                Life::In(link) => link.machine().lock().has_heard(zone, now.into(), patience),
            })
        });
    }

    fn publish(&mut self, now: Moment) {
        self.publish_at = Duration::MAX;
        for (zone, publisher) in self.shared.zones.iter().zip(&mut self.publishers) {
            if zone.replica.dirty_count() == 0 {
                continue;
            }
            if now.elapsed >= publisher.not_before() && publisher.publish(&self.shared, now.into()) {
                self.woken.extend(dialled(&self.links));
            }
            if zone.replica.dirty_count() > 0 {
                self.publish_at = self.publish_at.min(publisher.not_before());
            }
        }
    }

    fn handle_timeouts(&mut self, now: Moment) {
        let mut ends = Vec::new();
        for (&id, entry) in self.links.iter().filter(|(_, entry)| entry.end.is_none()) {
            let handled = match &entry.life {
                Life::Out(outgoing) if outgoing.poll_timeout() <= now.elapsed => {
                    outgoing.handle_timeout(now.into())
                }
                Life::In(incoming) if incoming.poll_timeout() <= now.elapsed => {
                    incoming.handle_timeout(now.into())
                }
                Life::Out(_) | Life::In(_) | Life::Dialling => continue,
            };
            self.woken.insert(id);
            ends.extend(handled.err().map(|end| (id, end)));
        }
        ends.into_iter().for_each(|(id, end)| self.end(id, end, now));
    }

    fn close(&mut self, link: LinkId, reason: &'static str, now: Moment) {
        let Some(entry) = self.links.get(&link).filter(|entry| entry.end.is_none()) else { return };
        let end = match &entry.life {
            Life::Dialling => End::Closed(reason.to_owned()),
            Life::Out(outgoing) => outgoing.close(reason),
            Life::In(incoming) => incoming.close(reason),
        };
        self.end(link, end, now);
    }

    fn end(&mut self, link: LinkId, end: End, now: Moment) {
        let Some(entry) = self.links.get_mut(&link).filter(|entry| entry.end.is_none()) else { return };
        let last_words = match &entry.life {
            Life::Dialling => Vec::new(),
            Life::Out(outgoing) => outgoing.last_words(now.into(), &end),
            Life::In(incoming) => incoming.last_words(now.into(), &end),
        };
        entry.end = Some(end);
        self.actions.push_back(Action::Close(link, last_words));
    }
}

fn dialled(links: &BTreeMap<LinkId, Link>) -> impl Iterator<Item = LinkId> {
    links.iter().filter(|(_, entry)| matches!(entry.life, Life::Out(_))).map(|(&id, _)| id)
}
