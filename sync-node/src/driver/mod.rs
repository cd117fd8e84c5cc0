//! The drivers: tasks that connect the machines to sockets, timers and the clock.
//!
//! One task per link, one publisher per synchronized zone, one for membership and discovery, one that accepts, one that
//! sweeps. A machine sits behind a mutex that its own task takes for the length of one call; others take it only to look
//! (status, shutdown). Waking goes: write → dirty signal → publisher → `published` → every dialled link.

mod incoming;
mod outgoing;
mod pause;
mod refusals;
mod tasks;
mod trust;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sync_proto::wire::refuse::Code;
use sync_store::{Clock, Time};
use sync_transport::{Connection, Connector, Counters, FrameSender, PeerIdentity};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::link::End;
use crate::membership::LinkId;
use crate::replication::inbound::Inbound;
use crate::replication::outbound::Outbound;
use crate::replication::strict;
use crate::replication::{Laned, LinkError, Now, Shared};

use refusals::Refusals;
pub(crate) use tasks::{Tasks, spawn};
pub(crate) use trust::follow_files;

/// The machine of a live link.
#[derive(Clone, Debug)]
pub(crate) enum Machine {
    Out(Arc<Mutex<Outbound>>),
    In(Arc<Mutex<Inbound>>),
}

/// A live link, as others see it.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    pub(crate) machine: Machine,
    pub(crate) peer: PeerIdentity,
    pub(crate) connected_at: Time,
}

/// Bytes and frames of links, and the TLS handshakes before them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) bytes_in: u64,
    pub(crate) frames_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) frames_out: u64,
    pub(crate) handshakes: u64,
    pub(crate) handshakes_resumed: u64,
    pub(crate) handshakes_failed: u64,
}

impl Totals {
    fn add(&mut self, counters: &Counters) {
        self.bytes_in += counters.bytes_in();
        self.frames_in += counters.frames_in();
        self.bytes_out += counters.bytes_out();
        self.frames_out += counters.frames_out();
    }
}

/// The connections that are open, and the sum of those that were.
#[derive(Debug, Default)]
struct Traffic {
    closed: Totals,
    open: HashMap<LinkId, Open>,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    counters: Arc<Counters>,
    peer: PeerIdentity,
    /// Ends with it.
    _trust: JoinSet<()>,
}

/// What all tasks of a node share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) links: Mutex<HashMap<LinkId, LinkHandle>>,
    traffic: Mutex<Traffic>,
    refusals: Mutex<Refusals>,
    pub(crate) connector: Connector,
    /// How long the changes of a zone gather at the most.
    pub(crate) interval: Duration,
    started: Instant,
    /// To whom a close was addressed; a link's task waits on its own entry.
    closing: Mutex<HashMap<LinkId, watch::Sender<Option<&'static str>>>>,
    /// Counts publications; dialled links wait on it.
    published: watch::Sender<u64>,
    /// Membership has something to do.
    membership_changed: Notify,
    /// A peer has acknowledged something, or a link has come or gone.
    pub(crate) link_changed: Notify,
}

impl Hub {
    pub(crate) fn new(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        connector: Connector,
        interval: Duration,
    ) -> Self {
        Self {
            shared,
            clock,
            links: Mutex::default(),
            traffic: Mutex::default(),
            refusals: Mutex::default(),
            connector,
            interval,
            started: Instant::now(),
            closing: Mutex::default(),
            published: watch::Sender::new(0),
            membership_changed: Notify::new(),
            link_changed: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { time: self.clock.now(), elapsed: self.started.elapsed() }
    }

    /// The moment `elapsed` after the start, for timers.
    fn at(&self, elapsed: Duration) -> Instant {
        // A machine that waits for nothing says Duration::MAX; a day is as good.
        self.started + elapsed.min(self.started.elapsed() + Duration::from_secs(86_400))
    }

    /// Publishes a zone and wakes the links if there was anything.
    fn publish(&self, zone: usize) {
        if self.shared.publish(zone, self.now()) {
            self.wake_links();
        }
    }

    /// Something was published.
    fn wake_links(&self) {
        self.published.send_modify(|count| *count += 1);
    }

    /// Publishes everything of a zone that is dirty now.
    pub(crate) fn publish_whole(&self, zone: usize) {
        self.shared.publish_whole(zone, || self.publish(zone));
    }

    /// Publishes every zone.
    pub(crate) fn publish_all(&self) {
        for zone in 0..self.shared.zones.len() {
            self.publish(zone);
        }
    }

    /// Asks a link's task to end the link in good order.
    pub(crate) fn close(&self, link: LinkId, reason: &'static str) {
        if let Some(closing) = self.closing.lock().get(&link) {
            closing.send_replace(Some(reason));
        }
    }

    /// Asks all links to end in good order.
    pub(crate) fn close_all(&self, reason: &'static str) {
        for closing in self.closing.lock().values() {
            closing.send_replace(Some(reason));
        }
    }

    /// Whether every peer has acknowledged everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.links.lock().values().all(|link| match &link.machine {
            Machine::Out(machine) => machine.lock().is_drained(),
            Machine::In(_) => true,
        })
    }

    /// Tells strict limit zones whether this node has all others in sight.
    fn divide(&self) {
        let (now, patience) = (self.now(), strict::patience(&self.shared.settings));
        self.shared.strict.divide(&self.shared, |zone| {
            self.links.lock().values().all(|link| match &link.machine {
                Machine::Out(machine) => machine.lock().is_heard(zone, now, patience),
                Machine::In(machine) => machine.lock().has_heard(zone, now, patience),
            })
        });
    }

    /// Lets a link's task know when it is asked to close.
    fn register(&self, link: LinkId) -> watch::Receiver<Option<&'static str>> {
        let (sender, receiver) = watch::channel(None);
        self.closing.lock().insert(link, sender);
        receiver
    }

    /// The link is in use.
    fn opened(&self, link: LinkId, machine: Machine) {
        let Some(peer) = self.traffic.lock().open.get(&link).map(|open| open.peer.clone()) else { return };
        let handle = LinkHandle { machine, peer, connected_at: self.clock.now() };
        self.links.lock().insert(link, handle);
        self.link_changed.notify_waiters();
    }

    /// The link's connection stands: from now on its traffic is counted, and its peer has to stay trusted.
    fn connected(&self, link: LinkId, connection: &Connection) {
        let peer = connection.peer().clone();
        let closing = self.closing.lock().get(&link).cloned();
        let mut watching = JoinSet::new();
        if let (Some(trust), Some(closing)) = (connection.trust(), closing) {
            watching.spawn(trust::watch(trust, peer.to_string(), closing));
        }
        let open = Open { counters: connection.counters(), peer, _trust: watching };
        self.traffic.lock().open.insert(link, open);
    }

    /// Counts a TLS handshake, if that is what succeeded or failed, and other refusals by their cause. If a failure should be
    /// logged: how many of the same cause were not before it.
    fn count_handshake(&self, outcome: &Result<Connection, sync_transport::Error>) -> Option<u64> {
        match outcome {
            Ok(connection) => {
                let tls = connection.peer().tls.as_ref();
                let closed = &mut self.traffic.lock().closed;
                closed.handshakes += u64::from(tls.is_some());
                closed.handshakes_resumed += u64::from(tls.is_some_and(|tls| tls.is_resumed));
                None
            }
            Err(error) => {
                self.traffic.lock().closed.handshakes_failed += u64::from(error.is_handshake_failure());
                self.refusals.lock().handle(self.now().elapsed, error.refusal()?)
            }
        }
    }

    /// Counts the end of a link by its cause, if something was wrong. If it should be logged: how many of the same cause were not before it.
    fn count_end(&self, end: &End) -> Option<u64> {
        self.refusals.lock().handle(self.now().elapsed, end.cause()?)
    }

    /// Connections and links that came to nothing, by cause.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().counts()
    }

    /// Bytes, frames and handshakes of all links since the start.
    pub(crate) fn traffic(&self) -> Totals {
        let traffic = self.traffic.lock();
        let mut totals = traffic.closed;
        traffic.open.values().for_each(|open| totals.add(&open.counters));
        totals
    }

    fn forget(&self, link: LinkId) {
        {
            let mut traffic = self.traffic.lock();
            if let Some(open) = traffic.open.remove(&link) {
                traffic.closed.add(&open.counters);
            }
        }
        self.links.lock().remove(&link);
        self.closing.lock().remove(&link);
        self.link_changed.notify_waiters();
        self.membership_changed.notify_one();
    }
}

/// Resolves when the link is asked to close.
async fn asked_to_close(closing: &mut watch::Receiver<Option<&'static str>>) -> &'static str {
    match closing.wait_for(Option::is_some).await {
        Ok(reason) => reason.unwrap_or_default(),
        // The sender is gone only with the hub itself.
        Err(_) => "this node is stopping",
    }
}

/// Bytes handed to a socket at once: a few TLS records.
const WRITE_BYTES: usize = 64 << 10;
/// How long a peer may take to close after the last frame.
const LINGER: Duration = Duration::from_secs(1);

impl From<sync_transport::Error> for End {
    fn from(error: sync_transport::Error) -> Self {
        let message = error.to_string();
        // What cannot be cut into frames is the peer's doing, and the peer is told; other errors leave nobody to tell.
        let code = match error {
            sync_transport::Error::FrameTooLarge { .. } => Code::Limit,
            sync_transport::Error::NotFrames { .. } => Code::Malformed,
            // A refusal too, told by TLS itself.
            error if error.is_handshake_failure() => {
                let cause = error.refusal().unwrap_or("other");
                return Self::Failed { code: Some(Code::Unspecified), cause, message, frame: None };
            }
            sync_transport::Error::IdleTimeout { .. } | sync_transport::Error::WriteTimeout { .. } => {
                return Self::failed_by("stalled", message);
            }
            sync_transport::Error::FrameTruncated { .. } => return Self::failed_by("truncated", message),
            _ => return Self::failed(message),
        };
        LinkError::Refused { code, message }.into()
    }
}

/// Sends what `next` has for lanes that have room, up to one full write; false if it had nothing. Frames of lanes wait for [`FrameSender::room`].
async fn transmit(
    sender: &mut FrameSender,
    mut next: impl FnMut(&dyn Fn(u32) -> bool) -> Option<Laned>,
) -> Result<bool, sync_transport::Error> {
    let mut frames = Vec::new();
    let mut lanes: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
    let has_lanes = sender.has_lanes();
    let has_room = |lane| !has_lanes || sender.has_room(lane);
    let mut bytes = 0;
    while bytes < WRITE_BYTES {
        let Some((lane, frame)) = next(&has_room) else { break };
        bytes += frame.len();
        match lane.filter(|_| has_lanes) {
            Some(lane) => lanes.entry(lane).or_default().push(frame),
            None => frames.push(frame),
        }
    }
    for (lane, frames) in &lanes {
        sender.push(*lane, frames);
    }
    if !frames.is_empty() {
        sender.send(&frames).await?;
    }
    Ok(bytes > 0)
}

/// Ends a connection so that the peer reads our last words: a socket closed with unread input resets the connection, and
/// the peer would lose what it had not read yet. So: last frames, end of stream, then read until the peer closes too.
async fn finish(mut sender: FrameSender, last_words: &[Bytes], read_to_end: impl Future<Output = ()>) {
    let say = async {
        if !last_words.is_empty() {
            sender.send(last_words).await?;
        }
        sender.close().await
    };
    // The link is over either way; an error here changes nothing.
    if timeout(LINGER, say).await.is_ok_and(|sent| sent.is_ok()) {
        let _ = timeout(LINGER, read_to_end).await;
    }
}
