//! A machine that a node runs on: its clock, its files, and the node while there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use sync_node::StateSync;
use sync_node::simulation::{LinkId, Moment, Node};
use sync_store::{KeyvalZone, LimitZone, ManualClock, Origin, Region, StickyZone, Time};
use sync_transport::{Address, Target};

use super::network::{ConnectionId, Host, Side};
use super::plan::Plan;

/// The time of day when a run begins.
const START: Time = Time::from_millis(1_700_000_000_000);
/// Requests of the limit zone that come early; a request is forgiven every 36 s.
pub(super) const BURST: u64 = 99;
/// The files of the keyval zone's state.
const STATE: &str = "kv.state";
const STATE_FILES: [&str; 2] = [STATE, "kv.state.journal"];
/// The names of the zones.
pub(super) const KEYVAL: &str = "kv";
pub(super) const STICKY: &str = "st";
pub(super) const LIMIT: &str = "li";
pub(super) const STRICT: &str = "strict";
/// The index of the limit zone: behind those of other kinds.
pub(super) const LIMIT_ID: u32 = 2;
/// Requests of the zone of that name that come early; a request is forgiven every second.
pub(super) const STRICT_BURST: u64 = 9;

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: Host,
    pub(super) node: Option<Node>,
    /// How many nodes it has run.
    pub(super) runs: u64,
    started_at: Duration,
    /// How far its clock is ahead of the truth, nanoseconds.
    pub(super) ahead_ns: i64,
    /// The same without faults.
    pub(super) usually_ahead_ns: i64,
    pub(super) links: BTreeMap<LinkId, (ConnectionId, Side)>,
    /// Links that may have something to send.
    pub(super) ready: BTreeSet<LinkId>,
    /// The next time the node is to be woken.
    pub(super) wake_at: Duration,
    /// Whether DNS tells of it.
    pub(super) is_member: bool,
    /// What discovery tells this machine; `None`: the truth.
    pub(super) belief: Option<Vec<Host>>,
    /// Until when a fault touched it.
    pub(super) troubled_at: Duration,
    /// It answers, if only to say that nobody listens.
    pub(super) has_power: bool,
    /// The files of its zones, if it keeps them.
    folder: Option<PathBuf>,
}

impl Machine {
    pub(super) fn new(id: Host, plan: &Plan, folder: Option<&Path>, rng: &mut SmallRng) -> Self {
        let skew_ns = plan.skew.as_nanos() as i64;
        let ahead_ns = rng.random_range(-skew_ns / 2..=skew_ns / 2);
        Self {
            id,
            node: None,
            runs: 0,
            started_at: Duration::ZERO,
            ahead_ns,
            usually_ahead_ns: ahead_ns,
            links: BTreeMap::new(),
            ready: BTreeSet::new(),
            wake_at: Duration::MAX,
            is_member: false,
            belief: None,
            troubled_at: Duration::ZERO,
            has_power: true,
            folder: folder.map(|folder| folder.join(format!("host-{id}"))),
        }
    }

    /// What its clock shows.
    pub(super) fn time(&self, now: Duration) -> Time {
        let truth = START.saturating_add(now).as_nanos();
        Time::from_nanos(truth.saturating_add_signed(self.ahead_ns))
    }

    pub(super) fn moment(&self, now: Duration) -> Moment {
        Moment { time: self.time(now), elapsed: now - self.started_at }
    }

    /// Whether no fault has touched it since its node was started.
    pub(super) fn is_untroubled(&self) -> bool {
        self.troubled_at <= self.started_at
    }

    /// The same if it runs a node.
    pub(super) fn moment_if_up(&self, now: Duration) -> Option<Moment> {
        self.node.is_some().then(|| self.moment(now))
    }

    /// When something is due that the node says is due `elapsed` after its start.
    pub(super) fn due(&self, elapsed: Duration) -> Duration {
        self.started_at.saturating_add(elapsed)
    }

    pub(super) fn keeps_state(&self) -> bool {
        self.folder.is_some()
    }

    /// Starts a node, over the files that are there unless they are to be removed first.
    pub(super) fn start(
        &mut self,
        now: Duration,
        plan: &Plan,
        empty: bool,
        rng: &mut SmallRng,
    ) -> Result<(), String> {
        if let Some(folder) = &self.folder {
            if empty && folder.exists() {
                std::fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
            }
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        let region = |zone: &str, seed| {
            let region = match &self.folder {
                Some(folder) if plan.mapped => Region::map_file(folder.join(zone)),
                Some(_) | None => Region::anonymous(),
            };
            region.huge_pages(false).seed(seed)
        };
        let retention = plan.tombstone_retention;
        let keyval = KeyvalZone::builder(KEYVAL)
            .size(plan.keyval_bytes)
            .tombstone_retention(retention)
            .region(region(KEYVAL, rng.random()));
        let sticky = StickyZone::builder(STICKY)
            .size(plan.sticky_bytes)
            .timeout(plan.session_timeout)
            .tombstone_retention(retention)
            .region(region(STICKY, rng.random()));
        let limit = LimitZone::builder(LIMIT)
            .size(plan.limit_bytes)
            .rate("100r/h".parse().map_err(|error| format!("{error}"))?)
            .burst(BURST)
            .region(region(LIMIT, rng.random()));
        let mut limits = vec![limit];
        if let Some(is_strict) = plan.strict {
            let strict = LimitZone::builder(STRICT)
                .size(32 << 10)
                .rate("1r/s".parse().map_err(|error| format!("{error}"))?)
                .burst(STRICT_BURST)
                .strict(is_strict)
                .region(region(STRICT, rng.random()));
            limits.push(strict);
        }
        let builder = sync_node::Node::builder(format!("host-{}", self.id))
            .plain_text()
            .interval(plan.interval)
            .buffers(plan.buffers.0, plan.buffers.1)
            .max_clock_skew(plan.max_clock_skew)
            .clock(Arc::new(ManualClock::new(self.time(now))))
            .keyval(keyval)
            .sticky(sticky);
        let mut builder = limits.into_iter().fold(builder, |builder, zone| builder.limit(zone));
        if let (Some(folder), Some(sync)) = (&self.folder, plan.state) {
            builder = builder.keyval_state(KEYVAL, folder.join(STATE), sync);
        }
        let origin = Origin::from_raw(rng.random_range(1..=u64::MAX)).unwrap_or_else(Origin::random);
        self.node = Some(builder.simulate(origin, rng.random()).map_err(|error| error.to_string())?);
        self.runs += 1;
        self.has_power = true;
        self.started_at = now;
        self.wake_at = Duration::MAX;
        self.links.clear();
        self.ready.clear();
        Ok(())
    }

    /// Saves the keyval zone.
    pub(super) fn save(&mut self, now: Duration, is_due: bool) -> Result<(), String> {
        let moment = self.moment(now);
        let Some(node) = &mut self.node else { return Ok(()) };
        node.save(moment, KEYVAL, is_due).map_err(|error| error.to_string())
    }

    /// Everything in the state file is on the disk: a power cut leaves this much.
    pub(super) fn synchronized(&self) -> Result<(), String> {
        self.copy(&STATE_FILES, "synchronized")
    }

    fn copy(&self, files: &[&str], name: &str) -> Result<(), String> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for file in files.iter().map(|file| folder.join(file)).filter(|file| file.exists()) {
            std::fs::copy(&file, file.with_added_extension(name)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn put_back(&self, files: &[&str], name: &str) -> Result<(), String> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for file in files.iter().map(|file| folder.join(file)) {
            let copy = file.with_added_extension(name);
            if copy.exists() {
                std::fs::rename(copy, file).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Ends the node in good order.
    pub(super) fn close(&mut self, now: Duration) -> Result<(), String> {
        let moment = self.moment(now);
        let Some(mut node) = self.node.take() else { return Ok(()) };
        node.close_files(moment).map_err(|error| error.to_string())
    }

    /// Ends the node as kill -9 does. Its files stay as they are in that moment: closing a zone in good order writes to them.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        if self.node.is_some() {
            let files = [&[KEYVAL, STICKY, LIMIT, STRICT], &STATE_FILES[..]].concat();
            self.copy(&files, "killed")?;
            self.node = None;
            self.put_back(&files, "killed")?;
        }
        Ok(())
    }

    /// Ends the node with its machine: what was not [synchronized](Self::synchronized) is lost.
    pub(super) fn cut_power(&mut self, plan: &Plan) -> Result<(), String> {
        self.kill()?;
        match plan.state {
            Some(StateSync::Interval) => self.put_back(&STATE_FILES, "synchronized"),
            // Nothing waits to be synchronized, or nothing is found again.
            Some(_) | None => Ok(()),
        }
    }
}

/// Where a host is found. Beyond the hosts there are there addresses at which there is nobody.
pub(super) fn target(host: Host) -> Target {
    Target::from(Address::Tcp(([10, 0, 0, host as u8 + 1], 9000).into()))
}

/// Who is found at a target.
pub(super) fn host_at(target: &Target) -> Host {
    match &target.address {
        Address::Tcp(address) => match address.ip() {
            std::net::IpAddr::V4(ip) => Host::from(ip.octets()[3]).saturating_sub(1),
            std::net::IpAddr::V6(_) => Host::MAX,
        },
        Address::Quic(_) | Address::Unix(_) => Host::MAX,
    }
}
