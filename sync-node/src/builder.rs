//! Making a node: settings with defaults, zones, start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_proto::MIN_FRAME_LIMIT;
use sync_store::{
    Clock, KeyvalZone, KeyvalZoneBuilder, LimitZoneBuilder, Origin, Replica, StickyZoneBuilder, SystemClock,
};
use sync_transport::{
    Address, Backoff, ConnectOptions, ConnectionOptions, Connector, Discovery, DiscoveryOptions, Framing,
    ListenOptions, Listener, Server, TlsConfig, TlsOptions,
};

use crate::driver::Hub;
use crate::membership::Membership;
use crate::node::{Node, Parts, Zones};
use crate::replication::strict::Strict;
use crate::replication::{Identity, Settings, Shared};
use crate::state::{Files, Keeper, Keeping, Location, Reach, StateSync, Unsaved};
use crate::{Error, driver};

/// How long something may be missing before it is requested from a peer. Long enough for all peers of a starting node to dial it,
/// so that each serves its own records; short against what anybody waits for a start.
const REPAIR_GRACE: Duration = Duration::from_millis(300);
/// A peer that cannot be reached is dialled again after `connect_retry_interval` times this at the most.
const RETRY_FACTOR_MAX: u32 = 8;
/// The smallest buffer that a batch may be given: a record with short key and value, and its frame.
const BUFFER_SIZE_MIN: usize = 1 << 10;
/// Room in a frame beyond its batch.
const FRAME_HEADROOM: usize = 64;

/// Settings of a node that is to be started. Made by [`Node::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct NodeBuilder {
    name: String,
    cluster: String,
    listen: Vec<Address>,
    servers: Vec<Server>,
    discovery: DiscoveryOptions,
    security: Security,
    interval: Duration,
    connect_timeout: Duration,
    connect_retry_interval: Duration,
    timeout: Duration,
    buffers: (usize, usize),
    max_connections_per_address: usize,
    max_frame: usize,
    recv_buffer_size: usize,
    max_clock_skew: Duration,
    clock: Arc<dyn Clock>,
    keyvals: Vec<KeyvalZoneBuilder>,
    stickies: Vec<StickyZoneBuilder>,
    limits: Vec<LimitZoneBuilder>,
    local: BTreeSet<String>,
    states: BTreeMap<String, (PathBuf, StateSync)>,
}

#[derive(Debug)]
enum Security {
    NotChosen,
    PlainText,
    Tls(Box<TlsOptions>),
}

impl NodeBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            cluster: "default".to_owned(),
            listen: Vec::new(),
            servers: Vec::new(),
            discovery: DiscoveryOptions::default(),
            security: Security::NotChosen,
            interval: Duration::from_millis(1),
            connect_timeout: Duration::from_secs(5),
            connect_retry_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            buffers: (256, 16 << 10),
            max_connections_per_address: ListenOptions::default().max_connections_per_address,
            max_frame: 1 << 20,
            recv_buffer_size: 64 << 10,
            max_clock_skew: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
            keyvals: Vec::new(),
            stickies: Vec::new(),
            limits: Vec::new(),
            local: BTreeSet::new(),
            states: BTreeMap::new(),
        }
    }

    /// The cluster; nodes of another one are refused. Default `default`.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// Where peers dial this node; may be called again to listen at several addresses, each with limits of its own. Without it the node sends and never
    /// receives.
    pub fn listen(mut self, address: Address) -> Self {
        self.listen.push(address);
        self
    }

    /// The peers to dial; this node may be among them. Names are looked up, see [`NodeBuilder::discovery`].
    pub fn servers(mut self, servers: impl IntoIterator<Item = Server>) -> Self {
        self.servers = servers.into_iter().collect();
        self
    }

    /// How names of servers are looked up, and whether changes are followed.
    pub fn discovery(mut self, options: DiscoveryOptions) -> Self {
        self.discovery = options;
        self
    }

    /// Mutual TLS with these certificates, both when dialling and when dialled.
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.security = Security::Tls(Box::new(options));
        self
    }

    /// No encryption and no authentication: for trusted networks and Unix sockets only.
    pub fn plain_text(mut self) -> Self {
        self.security = Security::PlainText;
        self
    }

    /// The longest that changes are gathered under load before they are published; those of pairs and sessions 50 µs for each peer if that is less. The first change after
    /// a pause is published at once. Default 1 ms.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long connecting, a handshake or a Hello may take. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time to the second attempt to connect, jittered; later ones come up to 8 times later. Default 1 s.
    pub fn connect_retry_interval(mut self, interval: Duration) -> Self {
        self.connect_retry_interval = interval;
        self
    }

    /// Silence, or a write without progress, after which a link is closed. Heartbeats are sent every third of it. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Per zone: `number` published batches of at most `size` bytes, 1 KiB at the least, are kept for peers that lag, or as many smaller ones as take no more
    /// memory. A record must fit one batch. Memory: number × size per zone. Default 256 of 16 KiB.
    pub fn buffers(mut self, number: usize, size: usize) -> Self {
        self.buffers = (number, size);
        self
    }

    /// Connections that peers may have open from one address, of 1024 in all. Default 128.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.max_connections_per_address = connections;
        self
    }

    /// The largest frame accepted from a peer, bytes. Default 1 MiB.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// The read buffer of a connection, bytes; grows to a frame where one is larger. Default 64 KiB.
    pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.recv_buffer_size = bytes;
        self
    }

    /// Peers whose clock differs by more are refused, and so are stamps that are further ahead than twice this. Default 5 s.
    pub fn max_clock_skew(mut self, skew: Duration) -> Self {
        self.max_clock_skew = skew;
        self
    }

    /// The clock that stamps writes; the system's by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a keyval zone. Its origin, record bound and clock skew are set by the node.
    pub fn keyval(mut self, zone: KeyvalZoneBuilder) -> Self {
        self.keyvals.push(zone);
        self
    }

    /// Adds a sticky zone. Its origin, record bound and clock skew are set by the node.
    pub fn sticky(mut self, zone: StickyZoneBuilder) -> Self {
        self.stickies.push(zone);
        self
    }

    /// Adds a limit zone. Its origin is set by the node.
    pub fn limit(mut self, zone: LimitZoneBuilder) -> Self {
        self.limits.push(zone);
        self
    }

    /// Keeps a zone to this node: it does not synchronize.
    pub fn local(mut self, zone: impl Into<String>) -> Self {
        self.local.insert(zone.into());
        self
    }

    /// Keeps the records of a keyval zone in a file, and has them again at the next start. What was written to a zone is in the file within a second;
    /// [`Node::saved`] waits for that, and `sync` says when it counts. Beside the file lies another one, whose name ends in `.journal`. Not for a mapped zone.
    pub fn keyval_state(
        mut self,
        zone: impl Into<String>,
        file: impl Into<PathBuf>,
        sync: StateSync,
    ) -> Self {
        self.states.insert(zone.into(), (file.into(), sync));
        self
    }

    /// What [`start`](Self::start) would object to in the [state files](Self::keyval_state) of zones, found out without changing anything. Files that a running node has are not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::State`], and those of zones.
    pub fn check_states(mut self) -> Result<(), Error> {
        let now = self.clock.now();
        for zone in std::mem::take(&mut self.keyvals) {
            let zone = self.bounded(zone, Origin::random());
            let name = zone.name().to_owned();
            if let Some((path, _)) = self.states.get(&name) {
                let doubtful = (!self.local.contains(&name)).then(Origin::random);
                let location = Location { zone: name, path: path.clone() };
                Files::check(&location, doubtful, now, &|factor| make(&zone, factor))?;
            }
        }
        Ok(())
    }

    /// Makes the zones, listens and begins to dial. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error`] says which setting, zone, file or socket is at fault; nothing is left running then.
    pub async fn start(mut self) -> Result<Node, Error> {
        self.check()?;
        let tls = match &self.security {
            Security::Tls(options) => Some(TlsConfig::load(options)?),
            Security::PlainText => None,
            Security::NotChosen => return Err(Error::TlsNotChosen),
        };
        let (zones, files, mut shared) = self.assemble(Origin::random(), rand::rng().random())?;
        let kept: Vec<_> = files.into_iter().map(|files| keep(files, &mut shared)).collect();
        let shared = Arc::new(shared);

        let connection = ConnectionOptions {
            framing: Framing { parse_length: sync_proto::framing::parse_length, max_frame: self.max_frame },
            idle_timeout: Some(self.timeout),
            write_timeout: self.timeout,
            recv_buffer_size: self.recv_buffer_size,
        };
        let connector = Connector::new(ConnectOptions {
            tls: tls.clone(),
            connect_timeout: self.connect_timeout,
            connection: connection.clone(),
        });
        let options = ListenOptions {
            tls: tls.clone(),
            handshake_timeout: self.connect_timeout,
            max_connections_per_address: self.max_connections_per_address,
            connection,
            ..ListenOptions::default()
        };
        let listeners = Listener::bind_all(&self.listen, options).await?;
        let listening = listeners.iter().map(|listener| listener.address().clone()).collect();
        let discovery = Discovery::start(self.servers.clone(), self.discovery.clone());
        let hub = Arc::new(Hub::new(shared, Arc::clone(&self.clock), connector, self.interval));
        let keepers = self.keepers(kept, &zones, &hub)?;
        let replicas = zones.replicas().collect();
        let mut tasks = driver::spawn(&hub, listeners, discovery.targets(), replicas);
        if let Some(tls) = &tls {
            tasks.spawn(driver::follow_files(tls.clone()));
        }
        let discovery_options = self.discovery;
        Ok(Node::new(Parts { hub, tasks, zones, keepers, tls, discovery, discovery_options, listening }))
    }

    /// The node without its surroundings, threads that keep state files among them. `seed` decides what it leaves to chance.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    #[cfg(feature = "simulation")]
    pub fn simulate(mut self, origin: Origin, seed: u64) -> Result<crate::simulation::Node, Error> {
        self.check()?;
        let (zones, files, mut shared) = self.assemble(origin, seed)?;
        let kept: Vec<_> = files.into_iter().map(|files| keep(files, &mut shared)).collect();
        let shared = Arc::new(shared);
        let kept = kept.into_iter().map(|kept| self.keeping(kept, &zones, &shared));
        let kept = kept.collect::<Result<_, _>>()?;
        Ok(crate::simulation::Node::new(shared, zones, kept, self.interval))
    }

    fn assemble(&mut self, origin: Origin, seed: u64) -> Result<(Zones, Vec<Files>, Shared), Error> {
        let (zones, files) = self.zones(origin, seed)?;
        let synchronized = zones.replicas().filter(|r| !self.local.contains(r.name())).collect();
        let identity = Identity { cluster: self.cluster.clone(), name: self.name.clone(), origin };
        let retry = self.connect_retry_interval;
        let membership = Membership::new(Backoff::new(retry, retry.saturating_mul(RETRY_FACTOR_MAX))?, seed);
        let mut shared = Shared::new(identity, self.settings(), synchronized, membership);
        shared.strict = Strict::new(&shared.zones, &zones.limits);
        Ok((zones, files, shared))
    }

    fn check(&self) -> Result<(), Error> {
        let (number, size) = self.buffers;
        let setting = |setting, problem| Err(Error::Setting { setting, problem });
        if number == 0 || size < BUFFER_SIZE_MIN {
            return setting(
                "buffers",
                format!("at least 1 of {BUFFER_SIZE_MIN} bytes, not {number} of {size}"),
            );
        }
        if self.max_frame < MIN_FRAME_LIMIT {
            return setting("max_frame", format!("at least {MIN_FRAME_LIMIT} bytes, not {}", self.max_frame));
        }
        if size + FRAME_HEADROOM > self.max_frame {
            return setting("max_frame", format!("{} bytes do not hold a buffer of {size}", self.max_frame));
        }
        let zero = [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
            ("connect_retry_interval", self.connect_retry_interval),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, duration)| duration.is_zero()) {
            return setting(name, "must be longer than zero".to_owned());
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            heartbeat_interval: self.timeout / 3,
            log_batches: self.buffers.0,
            batch_bytes: self.buffers.1,
            max_frame: self.max_frame,
            max_clock_skew: self.max_clock_skew,
            repair_grace: REPAIR_GRACE,
            greeting_timeout: self.connect_timeout,
        }
    }

    /// The largest difference of a stamp: twice what two peers may differ by, since records come by way of a third node, too, whose clock may lie between the two.
    fn skew(&self) -> Duration {
        self.max_clock_skew.saturating_mul(2)
    }

    fn bounded(&self, zone: KeyvalZoneBuilder, origin: Origin) -> KeyvalZoneBuilder {
        zone.origin(origin).max_record(sync_proto::max_record(self.buffers.1)).max_clock_skew(self.skew())
    }

    fn keepers(
        &self,
        kept: Vec<Kept>,
        zones: &Zones,
        hub: &Arc<Hub>,
    ) -> Result<BTreeMap<String, Keeper>, Error> {
        let keepers = kept.into_iter().map(|kept| {
            let (name, keeping) = self.keeping(kept, zones, &hub.shared)?;
            Ok((name, Keeper::start(keeping, Some(Arc::clone(hub)), Arc::clone(&self.clock))?))
        });
        keepers.collect()
    }

    fn keeping(&self, kept: Kept, zones: &Zones, shared: &Arc<Shared>) -> Result<(String, Keeping), Error> {
        let Kept { files, unsaved, id } = kept;
        let name = files.zone().to_owned();
        let (Some(zone), Some((_, sync))) = (zones.keyvals.get(&name), self.states.get(&name)) else {
            return Err(Error::NoSuchZone { name, purpose: "to keep a state file of" });
        };
        let reach = id.map_or(Reach::Local, |id| Reach::Cluster(Arc::clone(shared), id));
        Ok((name, Keeping::new(files, Arc::clone(zone), unsaved, *sync, reach)))
    }

    fn zones(&mut self, origin: Origin, seed: u64) -> Result<(Zones, Vec<Files>), Error> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let max_record = sync_proto::max_record(self.buffers.1);
        let skew = self.skew();
        let now = self.clock.now();
        let mut files = Vec::new();
        let mut zones = Zones::default();
        let mut names = BTreeSet::new();
        let mut claim = |name: &str| match names.insert(name.to_owned()) {
            true => Ok(name.to_owned()),
            false => Err(Error::DuplicateZone { name: name.to_owned() }),
        };
        for zone in std::mem::take(&mut self.keyvals) {
            let zone = self.bounded(zone, origin);
            let name = claim(zone.name())?;
            let zone = match self.states.get(&name) {
                Some(_) if zone.is_mapped() => {
                    let problem = format!("zone {name:?} lies in a mapped file, which keeps it already");
                    return Err(Error::Setting { setting: "state", problem });
                }
                Some((path, _)) => {
                    let location = Location { zone: name.clone(), path: path.clone() };
                    let is_shared = !self.local.contains(&name);
                    let doubtful = Origin::from_raw(rng.random()).filter(|_| is_shared);
                    let (opened, zone) = Files::open(location, doubtful, now, &|factor| make(&zone, factor))?;
                    files.push(opened);
                    zone
                }
                None => zone.build()?,
            };
            zones.keyvals.insert(name, Arc::new(zone));
        }
        for zone in self.stickies.drain(..) {
            let zone = zone.origin(origin).max_record(max_record).max_clock_skew(skew).build()?;
            zones.stickies.insert(claim(zone.name())?, Arc::new(zone));
        }
        for zone in self.limits.drain(..) {
            let zone = zone.origin(origin).build()?;
            zones.limits.insert(claim(zone.name())?, Arc::new(zone));
        }
        if let Some(name) = self.local.iter().find(|&name| !names.contains(name)) {
            return Err(Error::NoSuchZone { name: name.clone(), purpose: "to keep local" });
        }
        if let Some(name) = self.states.keys().find(|&name| !zones.keyvals.contains_key(name)) {
            return Err(Error::NoSuchZone { name: name.clone(), purpose: "to keep a state file of" });
        }
        let shared = names.into_iter().map(|name| (!self.local.contains(&name), name));
        zones.synchronized = shared.map(|(shared, name)| (name, shared)).collect();
        Ok((zones, files))
    }
}

/// A zone of so many times its size.
fn make(zone: &KeyvalZoneBuilder, factor: u64) -> Result<KeyvalZone, sync_store::Error> {
    let size = zone.bytes().saturating_mul(factor);
    zone.clone().size(size).build()
}

/// The files of a zone, and where its changes are noted.
struct Kept {
    files: Files,
    unsaved: Arc<Mutex<Unsaved>>,
    /// Its index among those that synchronize.
    id: Option<usize>,
}

fn keep(files: Files, shared: &mut Shared) -> Kept {
    let unsaved = Arc::<Mutex<Unsaved>>::default();
    let id = shared.zones.iter().position(|zone| zone.replica.name() == files.zone());
    if let Some(id) = id {
        shared.keep(id, Arc::clone(&unsaved), files.doubtful());
    }
    Kept { files, unsaved, id }
}
