//! A running node, for those who embed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sync_store::{KeyvalZone, LimitZone, Origin, Replica, StickyZone, Time};
use sync_transport::{Address, Discovery, DiscoveryOptions, Server, TlsConfig, TlsOptions};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::builder::NodeBuilder;
use crate::door::Counters;
use crate::driver::{Hub, LinkHandle, Machine, Tasks};
use crate::state::Keeper;
use crate::status::{Direction, PeerStatus, Status, TlsStatus, ZoneStatus};
use crate::{Error, replication};

/// How long links may take to say goodbye at a graceful stop.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long tasks that were ended may take to be gone: until they next wait for something.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A running node. Clones are handles to the same one; when the last is dropped, the node stops at once.
///
/// The zones it hands out are used directly: a write is published by itself, a read asks nobody.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hub: Arc<Hub>,
    zones: Zones,
    tls: Option<TlsConfig>,
    discovery: Discovery,
    discovery_options: DiscoveryOptions,
    listening: Vec<Address>,
    started_at: Time,
    joined: AtomicBool,
    stopping: AtomicBool,
    tasks: Mutex<Option<Tasks>>,
    keepers: BTreeMap<String, Keeper>,
    doors: Mutex<BTreeMap<&'static str, Arc<Counters>>>,
}

/// What a builder hands over.
pub(crate) struct Parts {
    pub(crate) hub: Arc<Hub>,
    pub(crate) tasks: Tasks,
    pub(crate) zones: Zones,
    pub(crate) keepers: BTreeMap<String, Keeper>,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) discovery: Discovery,
    pub(crate) discovery_options: DiscoveryOptions,
    pub(crate) listening: Vec<Address>,
}

/// The zones of a node by name.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    pub(crate) keyvals: BTreeMap<String, Arc<KeyvalZone>>,
    pub(crate) stickies: BTreeMap<String, Arc<StickyZone>>,
    pub(crate) limits: BTreeMap<String, Arc<LimitZone>>,
    /// Whether each zone is shared with the cluster.
    pub(crate) synchronized: BTreeMap<String, bool>,
}

impl Zones {
    /// All zones, keyval zones first, each kind by name: the same order on every node of the same configuration.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = Arc<dyn Replica>> {
        let keyvals = self.keyvals.values().map(|z| Arc::clone(z) as Arc<dyn Replica>);
        let stickies = self.stickies.values().map(|z| Arc::clone(z) as Arc<dyn Replica>);
        let limits = self.limits.values().map(|z| Arc::clone(z) as Arc<dyn Replica>);
        keyvals.chain(stickies).chain(limits)
    }
}

impl Node {
    /// Settings for a node of that name; names are for people, the node's identity is its [`origin`](Self::origin).
    pub fn builder(name: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(name.into())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { hub, tasks, zones, keepers, tls, discovery, discovery_options, listening } = parts;
        let started_at = hub.clock.now();
        let inner = Inner {
            hub,
            zones,
            tls,
            discovery,
            discovery_options,
            listening,
            started_at,
            joined: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            tasks: Mutex::new(Some(tasks)),
            keepers,
            doors: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.inner.hub.shared.identity.name
    }

    /// The cluster it belongs to.
    pub fn cluster(&self) -> &str {
        &self.inner.hub.shared.identity.cluster
    }

    /// Its identity for this run.
    pub fn origin(&self) -> Origin {
        self.inner.hub.shared.identity.origin
    }

    /// The node's clock: what every call on a zone takes as `now`.
    pub fn now(&self) -> Time {
        self.inner.hub.clock.now()
    }

    /// Where it listens for peers, in the order asked for, the port filled in if 0 was.
    pub fn listening(&self) -> &[Address] {
        &self.inner.listening
    }

    /// The keyval zone of that name.
    pub fn keyval(&self, name: &str) -> Option<Arc<KeyvalZone>> {
        self.inner.zones.keyvals.get(name).cloned()
    }

    /// The sticky zone of that name.
    pub fn sticky(&self, name: &str) -> Option<Arc<StickyZone>> {
        self.inner.zones.stickies.get(name).cloned()
    }

    /// The limit zone of that name.
    pub fn limit(&self, name: &str) -> Option<Arc<LimitZone>> {
        self.inner.zones.limits.get(name).cloned()
    }

    /// All keyval zones by name.
    pub fn keyvals(&self) -> impl Iterator<Item = &Arc<KeyvalZone>> {
        self.inner.zones.keyvals.values()
    }

    /// All sticky zones by name.
    pub fn stickies(&self) -> impl Iterator<Item = &Arc<StickyZone>> {
        self.inner.zones.stickies.values()
    }

    /// All limit zones by name.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<LimitZone>> {
        self.inner.zones.limits.values()
    }

    /// Waits until what was written to a keyval zone before is in its [state file](NodeBuilder::keyval_state), as durably as was asked for. At once if it has none.
    ///
    /// # Errors
    ///
    /// [`Error::StateFull`], [`Error::State`]: it could not be written now. The zone has it all the same, and so have its peers; writing it is tried again every second.
    pub async fn saved(&self, zone: &str) -> Result<(), Error> {
        match self.inner.keepers.get(zone) {
            Some(keeper) => keeper.saved().await,
            None => Ok(()),
        }
    }

    /// Whether a keyval zone has a state file, so that a change of it is answered when it is [saved](Self::saved).
    #[cfg(feature = "redis")]
    pub(crate) fn is_kept(&self, zone: &str) -> bool {
        self.inner.keepers.contains_key(zone)
    }

    /// The figures of the door of that name, which the status shows from now on.
    pub(crate) fn door_counters(&self, name: &'static str) -> Arc<Counters> {
        Arc::clone(self.inner.doors.lock().entry(name).or_default())
    }

    /// The content digest of a zone, equal on nodes with equal content. Reads the whole zone.
    pub fn digest(&self, zone: &str) -> Option<u64> {
        let now = self.now();
        self.inner.zones.replicas().find(|replica| replica.name() == zone).map(|replica| replica.digest(now))
    }

    /// Why the node is not ready; `None` when it is: the first catch-up from every peer that could be reached is complete, and the
    /// node is not stopping. Peers that come later do not make it unready again.
    pub fn unready(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("the node is stopping".to_owned());
        }
        if self.inner.joined.load(Ordering::Relaxed) {
            return None;
        }
        let reason = self.inner.hub.shared.unjoined();
        if reason.is_none() {
            self.inner.joined.store(true, Ordering::Relaxed);
        }
        reason
    }

    /// Whether the node is ready, see [`unready`](Self::unready).
    pub fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Waits until the node is ready.
    pub async fn ready(&self) {
        while !self.is_ready() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a graceful stop is under way: no more writes should be taken for this node.
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Acquire)
    }

    /// What the node says about itself, without digests.
    pub fn status(&self) -> Status {
        let hub = &self.inner.hub;
        let reason = self.unready();
        let traffic = hub.traffic();
        // Not in the expression below: the guard would live to its end, and the lists of peers lock too.
        let nodes_online = hub.shared.membership.lock().nodes_online() as u64;
        Status {
            node: self.name().to_owned(),
            cluster: self.cluster().to_owned(),
            origin: self.origin().to_string(),
            started_at_ms: self.inner.started_at.as_millis(),
            ready: reason.is_none(),
            reason,
            bytes_in: traffic.bytes_in,
            msgs_in: traffic.frames_in,
            bytes_out: traffic.bytes_out,
            msgs_out: traffic.frames_out,
            handshakes: traffic.handshakes,
            handshakes_resumed: traffic.handshakes_resumed,
            handshakes_failed: traffic.handshakes_failed,
            refusals: hub.refusals(),
            nodes_online,
            zones: self.zone_statuses(),
            peers: self.peer_statuses(),
            doors: self
                .inner
                .doors
                .lock()
                .iter()
                .map(|(name, counters)| (*name, counters.status()))
                .collect(),
        }
    }

    /// [`status`](Self::status) with the digest of every zone: reads all zones. The digests are taken first: on nodes with equal digests
    /// and nothing pending, the other figures are of that content or of a later one.
    pub fn status_with_digests(&self) -> Status {
        let now = self.now();
        let digests: Vec<_> =
            self.inner.zones.replicas().map(|r| (r.name().to_owned(), r.digest(now))).collect();
        let mut status = self.status();
        for (zone, digest) in digests {
            if let Some(zone) = status.zones.get_mut(&zone) {
                zone.digest = Some(format!("{digest:016x}"));
            }
        }
        status
    }

    fn zone_statuses(&self) -> BTreeMap<String, ZoneStatus> {
        let statuses = self.inner.zones.replicas().map(|replica| {
            let stats = replica.stats();
            let sync = self.inner.zones.synchronized.get(replica.name()).copied().unwrap_or_default();
            let status = ZoneStatus {
                kind: replica.kind().as_str(),
                sync,
                records_pending: if sync { self.pending(replica.name()) } else { 0 },
                records_total: stats.records,
                tombstones: stats.tombstones,
                size_bytes: stats.size_bytes,
                used_bytes: stats.used_bytes,
                evicted: stats.evicted,
                refused: stats.refused,
                expired: stats.expired,
                charged: self
                    .limit(replica.name())
                    .filter(|limit| limit.is_strict())
                    .map(|limit| limit.members()),
                digest: None,
            };
            (replica.name().to_owned(), status)
        });
        statuses.collect()
    }

    /// Records of a zone that some connected peer has not acknowledged, those included that are not published yet.
    fn pending(&self, zone: &str) -> u64 {
        let hub = &self.inner.hub;
        let Some(id) = hub.shared.zones.iter().position(|z| z.replica.name() == zone) else { return 0 };
        let links = hub.links.lock();
        let outgoing = links.values().filter_map(|link| match &link.machine {
            Machine::Out(machine) => machine.lock().pending(id),
            Machine::In(_) => None,
        });
        match outgoing.max() {
            Some(unacknowledged) => unacknowledged + hub.shared.zones[id].replica.dirty_count() as u64,
            None => 0,
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let hub = &self.inner.hub;
        let now = hub.now();
        let links = hub.links.lock();
        let membership = hub.shared.membership.lock();
        let outgoing = membership.targets().map(|target| {
            let live = target.link.and_then(|link| links.get(&link));
            let mut status = live.map_or_else(PeerStatus::default, |link| link_status(link, hub, now));
            status.direction = Direction::Out;
            status.address = target.target.address.to_string();
            target.name.clone_into(&mut status.name);
            status.last_error = target.error.map(str::to_owned);
            status
        });
        let incoming = membership.incoming().filter_map(|(link, _, _)| {
            let mut status = link_status(links.get(&link)?, hub, now);
            status.direction = Direction::In;
            Some(status)
        });
        let mut peers: Vec<_> = outgoing.chain(incoming).collect();
        peers.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
        peers
    }

    /// Replaces the list of servers: peers that left it are disconnected, new ones dialled, others not disturbed.
    pub fn set_servers(&self, servers: Vec<Server>) {
        self.inner.discovery.reconfigure(servers, self.inner.discovery_options.clone());
    }

    /// Reads certificates and everything else that the options name, and uses it from now on. Links whose peers it speaks against are closed,
    /// others not disturbed. Nothing happens on a node that was started without TLS. Files that change are read again by themselves.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it; what was in use before stays in use.
    pub fn set_tls(&self, options: &TlsOptions) -> Result<(), Error> {
        if let Some(tls) = &self.inner.tls {
            tls.replace(options)?;
        }
        Ok(())
    }

    /// Stops gracefully: publishes everything, waits until all connected peers have acknowledged it or `patience` is over, and says
    /// goodbye. From the first moment [`is_stopping`](Self::is_stopping) is true; whoever writes to the zones should have
    /// stopped by then. True if everything was acknowledged.
    ///
    /// Afterwards nothing but the clones of this handle, and the zones that it has handed out, keeps the node's memory. When they are dropped, the files of mapped zones are
    /// free for another node, in this process too.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        let hub = &self.inner.hub;
        self.inner.stopping.store(true, Ordering::Release);
        let deadline = Instant::now() + patience;
        let mut drained = false;
        while !drained && Instant::now() < deadline {
            let changed = hub.link_changed.notified();
            hub.publish_all();
            drained = hub.is_drained();
            if !drained {
                // Acknowledgements wake this; the bound is for what a straggling writer adds meanwhile.
                let wake = deadline.min(Instant::now() + Duration::from_millis(20));
                let _ = timeout_at(wake, changed).await;
            }
        }
        if drained {
            info!("every connected peer has acknowledged everything");
        } else {
            warn!(?patience, "some peers have not acknowledged everything in time");
        }
        // Not before: a peer whose link was lost may come back for what it lacks.
        hub.shared.membership.lock().stop();
        hub.close_all("the node is stopping");
        let deadline = Instant::now() + GOODBYE_TIMEOUT;
        loop {
            let changed = hub.link_changed.notified();
            if hub.links.lock().is_empty() || timeout_at(deadline, changed).await.is_err() {
                break;
            }
        }
        self.end().await;
        drained
    }

    /// Ends all tasks and waits until none has the zones any more.
    async fn end(&self) {
        let tasks = self.inner.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        let hub = &self.inner.hub;
        // Not in one expression: links that are dropped say so to others, who may be waiting for the lock.
        let links = std::mem::take(&mut *hub.links.lock());
        drop(links);
        let node = self.clone();
        // They wait for the disk. The task does not panic.
        let _ = spawn_blocking(move || node.inner.keepers.values().for_each(Keeper::stop)).await;
        // Tasks of those tasks are ended with them, but gone only when the runtime has seen to each.
        let is_shared = || Arc::strong_count(hub) > 1 || Arc::strong_count(&hub.shared) > 1;
        let deadline = Instant::now() + END_TIMEOUT;
        while is_shared() && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops at once: links are cut, what was not sent is not sent. Does not wait until everything is gone, as [`shutdown`](Self::shutdown) does.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        self.inner.tasks.lock().take();
    }
}

fn link_status(link: &LinkHandle, hub: &Hub, now: replication::Now) -> PeerStatus {
    let mut status = PeerStatus {
        address: link.peer.address.to_string(),
        certificate_names: link.peer.names.clone(),
        tls: link.peer.tls.as_ref().map(|tls| TlsStatus {
            version: tls.version.as_str(),
            cipher_suite: tls.cipher_suite.clone(),
            key_exchange: tls.key_exchange.clone(),
        }),
        connected_since_ms: Some(link.connected_at.as_millis()),
        ..PeerStatus::default()
    };
    let (peer, measured) = match &link.machine {
        Machine::Out(machine) => {
            let machine = machine.lock();
            for (id, zone) in hub.shared.zones.iter().enumerate() {
                let Some(pending) = machine.pending(id) else { continue };
                status.records_pending.insert(zone.replica.name().to_owned(), pending);
                let lag = machine.lag(id, now).unwrap_or_default();
                status.lag_ms = status.lag_ms.max(lag.as_millis() as u64);
            }
            (machine.peer().map(|p| (p.name.clone(), p.origin)), machine.measured())
        }
        Machine::In(machine) => {
            let machine = machine.lock();
            let age = machine.applied_at().map(|at| now.elapsed.saturating_sub(at));
            status.applied_age_ms = age.map(|age| age.as_millis() as u64);
            (machine.peer().map(|p| (p.name.clone(), p.origin)), machine.measured())
        }
    };
    if let Some((name, origin)) = peer {
        status.name = name;
        status.origin = Some(origin.to_string());
    }
    status.clock_offset_us = measured.map(|m| m.offset_us);
    status
}
