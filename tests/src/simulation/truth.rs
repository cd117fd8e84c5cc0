//! What must be true of a cluster, known from outside: every write as it was acknowledged, and who holds it.
//!
//! **No write is lost.** Of every key the latest write (or removal) that any memory holds is *required* from then on: some memory must hold it, or a
//! later one, until the end, when all nodes hold the same. The requirement falls back only when a node ends without keeping its zones and nobody else
//! had applied the write; not if it was stopped gracefully and had drained. A removal is required until its tombstone may be forgotten; from then on no
//! node may have the key with an older write.
//!
//! **Nothing is made up.** A value is one that was written with this stamp, a session's server one that was learned for it.
//!
//! **Nobody is refused for what did not happen.** If all requests of a key had been decided in one place, by the clock that is ahead of all others, its
//! arrival time would be X. No node's is later than X by more than the longest time a message was under way, what the documented double count adds, and what was refunded.
//! Where nodes only lose links, refunds count as what they are, and no node's arrival time is earlier than that of what it must have heard of.
//!
//! **A strict limit is kept to**, whatever the network does: a bucket that contains all that was admitted holds no more than its own and what nodes may admit before they notice.
//!
//! **Version vectors never go back**, except by forgetting an origin when there are more than the table has room for; and, when an origin connects, to what
//! it had brought itself, of limits to nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sync_store::{Check, Cursor, Entry, LimitZone, Origin, Record, Stamp, State, Time, VersionVector};

use super::host::{KEYVAL, LIMIT, Machine, STICKY, STRICT_BURST};
use super::network::Host;
use super::plan::Plan;

/// How long a requirement may be met by what only its node can see: removals that are not published yet.
const UNSEEN_MAX: Duration = Duration::from_secs(30);
/// What one request costs in the limit zone.
pub(super) const REQUEST: Duration = Duration::from_secs(36);
/// And in the strict one.
const STRICT_REQUEST: Duration = Duration::from_secs(1);
/// A table of origins has room for so many at least.
const ORIGINS_MIN: usize = 32;

/// Of two writes of a key the later one wins.
type Version = (Stamp, Option<Origin>);
/// Hosts, and which of their runs.
type Holders = BTreeSet<(Host, u64)>;

#[derive(Clone, Debug)]
struct Held {
    version: Version,
    /// `None`: it was removed.
    value: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Need {
    version: Version,
    removed: bool,
    met_at: Duration,
}

/// What a node would find again if it ended now, at least.
#[derive(Debug, Default)]
struct Saved {
    /// What was written there and is not saved: this it would not.
    unsaved: BTreeMap<Vec<u8>, Held>,
    /// If it were killed.
    saved: BTreeMap<Vec<u8>, Held>,
    /// If its machine had no power any more.
    synchronized: BTreeMap<Vec<u8>, Held>,
}

/// What a node finds again that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// What was saved.
    Saved,
    /// What survives the end of the machine.
    Synchronized,
    Everything,
}

/// What was written, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Truth {
    required: BTreeMap<Vec<u8>, Need>,
    /// Removals whose tombstones may be gone.
    forgotten: BTreeMap<Vec<u8>, Stamp>,
    written: BTreeMap<(Vec<u8>, Stamp), BTreeSet<Vec<u8>>>,
    /// What is in the state files of machines that run a node.
    saved: BTreeMap<Host, Saved>,
    /// What machines keep that run no node.
    kept: BTreeMap<Host, BTreeMap<Vec<u8>, Held>>,
    /// The latest stamp of each key that a machine's zone has ever had: what is written there is later.
    seen: BTreeMap<Host, BTreeMap<Vec<u8>, Stamp>>,
    /// The latest value of each key, and the hosts, and their runs, that have had it.
    holders: BTreeMap<Vec<u8>, (Version, Holders)>,
    learned: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// The bucket of each limit's key, were it decided in one place.
    buckets: BTreeMap<Vec<u8>, Bucket>,
    /// The same of the only key of the strict zone.
    pub(super) strict: Bucket,
    /// What nodes may have admitted there in addition because they were started anew: a share of the burst each.
    restarts: Bucket,
    /// How many requests more than its bucket has room for the strict zone has admitted, at most.
    pub(super) strict_over: u64,
    /// Some node was sent states of limits.
    are_states_sent: bool,
    vectors: BTreeMap<(Host, &'static str), (u64, VersionVector)>,
    origins: BTreeSet<Origin>,
    /// By how much some node's view of a limit was beyond the truth, at most.
    pub(super) excess: Duration,
    /// How often a node has compared its records with the cluster after a long absence.
    pub(super) compared: u64,
    /// Some node has dropped sessions, or keys of limits, for want of room.
    pub(super) evicted: (bool, bool),
}

/// What was admitted of a key, by the clock that is ahead of all others.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// The arrival time.
    arrival: Time,
    /// The same without refunds: states do not tell of any, and who is sent some may count what was refunded.
    unrefunded: Time,
    /// The most work of one request.
    dearest: Duration,
    /// What each node may yet refund of what it has admitted.
    refundable: BTreeMap<Host, u64>,
    /// When something was charged or refunded, the arrival time then, and how much was refunded; no further back than messages are late.
    recent: VecDeque<(Duration, Time, Duration)>,
}

impl Bucket {
    fn charge(&mut self, work: Duration, fastest: Time) {
        self.dearest = self.dearest.max(work);
        for arrival in [&mut self.arrival, &mut self.unrefunded] {
            *arrival = (*arrival).max(fastest).saturating_add(work);
        }
    }

    fn refund(&mut self, work: Duration, fastest: Time) {
        let work = work.min(self.arrival.saturating_sub(fastest));
        self.arrival = Time::from_nanos(self.arrival.as_nanos() - work.as_nanos() as u64);
    }

    fn requests(&self, of: Duration, fastest: Time) -> u64 {
        self.arrival.saturating_sub(fastest).div_duration_f64(of).ceil() as u64
    }

    /// Notes that it has changed. What happened before `heard_until` every node has heard of by now.
    fn changed(&mut self, now: Duration, refunded: Duration, heard_until: Duration) {
        self.recent.push_back((now, self.arrival, refunded));
        while self.recent.get(1).is_some_and(|(at, _, _)| *at <= heard_until) {
            self.recent.pop_front();
        }
    }

    /// The arrival time at least of a node that has heard of all that happened until then, whatever it has heard of since.
    fn heard(&self, heard_until: Duration) -> Option<Time> {
        let (_, arrival, _) = self.recent.iter().rfind(|(at, _, _)| *at <= heard_until)?;
        let refunded = self.refunded_since(heard_until).as_nanos() as u64;
        Some(Time::from_nanos(arrival.as_nanos().saturating_sub(refunded)))
    }

    /// What was refunded since, of which some node may not have heard.
    fn refunded_since(&self, heard_until: Duration) -> Duration {
        self.recent.iter().filter(|(at, _, _)| *at > heard_until).map(|(_, _, refunded)| *refunded).sum()
    }

    /// Notes what a node has admitted, or refunded.
    fn note(&mut self, host: Host, cost: i64) {
        let left = self.refundable.entry(host).or_default();
        *left = left.saturating_add_signed(cost);
    }

    /// How many requests a node may refund.
    pub(super) fn refundable(&self, host: Host) -> u64 {
        self.refundable.get(&host).copied().unwrap_or_default()
    }
}

/// After so long every node knows whom it does not hear any more: a time-out of a link, a tenth of it for what was announced, a fortieth until it looks, and
/// what a slow way may add.
const NOTICED: Duration = Duration::from_millis(7_500);

fn err<T>(what: String) -> Result<T, String> {
    Err(what)
}

fn text(key: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(key)
}

/// Keys that are written with an expiry: nothing is required of them but that they go.
pub(super) fn expires(key: &[u8]) -> bool {
    key.starts_with(b"ttl")
}

impl Truth {
    /// A write was acknowledged: the zone has it with this version.
    pub(super) fn wrote(
        &mut self,
        now: Duration,
        host: Host,
        key: &str,
        entry: &Entry,
    ) -> Result<(), String> {
        let Entry { stamp, writer, .. } = *entry;
        let key = key.as_bytes().to_vec();
        let seen = self.seen.entry(host).or_default().insert(key.clone(), stamp);
        if let Some(seen) = seen.filter(|seen| *seen >= stamp) {
            return err(format!(
                "host {host}: {:?} was written with {stamp:?}, but had {seen:?} before",
                text(&key)
            ));
        }
        self.written.entry((key.clone(), stamp)).or_default().insert(entry.value.to_vec());
        let version = (stamp, Some(writer));
        self.note_unsaved(host, &key, Held { version, value: Some(entry.value.to_vec()) });
        self.require(now, key, version, false);
        Ok(())
    }

    /// A removal was acknowledged, of a record of this stamp: its own is later.
    pub(super) fn removed(&mut self, now: Duration, host: Host, key: &str, of: Stamp) {
        let version = (Stamp::from_raw(of.raw() + 1), None);
        self.note_unsaved(host, key.as_bytes(), Held { version, value: None });
        self.require(now, key.as_bytes().to_vec(), version, true);
    }

    fn note_unsaved(&mut self, host: Host, key: &[u8], held: Held) {
        if let Some(saved) = self.saved.get_mut(&host) {
            saved.unsaved.insert(key.to_vec(), held);
        }
    }

    /// Everything in a node's keyval zone is saved, and survives the end of the machine.
    pub(super) fn saved_everything(&mut self, now: Duration, machine: &Machine) {
        let held = self.held(now, machine);
        self.saved
            .insert(machine.id, Saved { unsaved: BTreeMap::new(), saved: held.clone(), synchronized: held });
    }

    /// What was written on a node is saved; and whether it survives the end of the machine, too.
    pub(super) fn saved(&mut self, host: Host, is_synchronized: bool) {
        let Saved { unsaved, saved, synchronized } = self.saved.entry(host).or_default();
        for (key, held) in std::mem::take(unsaved) {
            if is_synchronized {
                synchronized.insert(key.clone(), held.clone());
            }
            saved.insert(key, held);
        }
    }

    fn require(&mut self, now: Duration, key: Vec<u8>, version: Version, removed: bool) {
        if expires(&key) {
            return;
        }
        let need = self.required.entry(key.clone()).or_insert(Need { version, removed, met_at: now });
        if version > need.version {
            *need = Need { version, removed, met_at: now };
        }
    }

    /// A session was learned.
    pub(super) fn learned(&mut self, session: &str, server: &str) {
        self.learned.entry(session.into()).or_default().insert(server.into());
    }

    /// A request was admitted, when the clock that is ahead of all others showed `fastest`; or if its cost is negative, work was refunded.
    pub(super) fn charged(
        &mut self,
        plan: &Plan,
        (now, fastest): (Duration, Time),
        host: Host,
        key: &str,
        cost: i64,
        refunded: Duration,
    ) {
        let bucket = self.buckets.entry(key.into()).or_default();
        bucket.note(host, cost);
        match u32::try_from(cost) {
            Ok(cost) => bucket.charge(REQUEST * cost, fastest),
            Err(_) => bucket.refund(refunded, fastest),
        }
        bucket.changed(now, refunded, now.saturating_sub(plan.late()));
    }

    /// How many requests of a limit's key a node may refund.
    pub(super) fn refundable(&self, key: &str, host: Host) -> u64 {
        self.buckets.get(key.as_bytes()).map_or(0, |bucket| bucket.refundable(host))
    }

    /// The same in the strict zone.
    pub(super) fn charged_strictly(
        &mut self,
        plan: &Plan,
        host: Host,
        cost: i64,
        refunded: Duration,
        fastest: Time,
    ) -> Result<(), String> {
        self.strict.note(host, cost);
        let Ok(cost) = u32::try_from(cost) else {
            self.strict.refund(refunded, fastest);
            return Ok(());
        };
        let capacity = STRICT_BURST + 1;
        self.strict.charge(STRICT_REQUEST * cost, fastest);
        let over = self.strict.requests(STRICT_REQUEST, fastest).saturating_sub(capacity);
        self.strict_over = self.strict_over.max(over);
        let unnoticed = (plan.nodes as u64 - 1) * (capacity + NOTICED.as_secs());
        let bound = unnoticed + self.restarts.requests(STRICT_REQUEST, fastest);
        if over > bound {
            return err(format!(
                "{over} requests more than {capacity} and one a second, {bound} are the most"
            ));
        }
        Ok(())
    }

    /// A node was sent states of limits: of these some count twice, and some not.
    pub(super) fn states_were_sent(&mut self) {
        self.are_states_sent = true;
    }

    /// Whether everything of limits has come by the log, once: nothing is counted twice, or not at all, and refunds neither.
    fn is_exact(&self, plan: &Plan) -> bool {
        plan.bounds_views && plan.is_stream_alone() && !self.are_states_sent
    }

    /// How far views may be apart in the end.
    pub(super) fn spread_max(&self, plan: &Plan) -> Option<Duration> {
        let missed = if self.is_exact(plan) { Duration::ZERO } else { plan.missed() };
        plan.bounds_views.then(|| plan.late() + missed)
    }

    /// A node was started that knows nothing of what was admitted.
    pub(super) fn began_anew(&mut self, fastest: Time) {
        self.restarts.charge(STRICT_REQUEST * (STRICT_BURST as u32 + 1), fastest);
    }

    /// A node has started. What it kept is there.
    pub(super) fn started(&mut self, now: Duration, machine: &Machine) -> Result<(), String> {
        let node = machine.node.as_ref();
        self.origins.extend(node.map(|node| node.origin()));
        self.origins.extend(node.and_then(|node| node.doubtful(KEYVAL)));
        let Some(kept) = self.kept.remove(&machine.id) else { return Ok(()) };
        let held = self.held(now, machine);
        for (key, before) in kept.into_iter().filter(|(key, _)| !expires(key)) {
            let after = held.get(&key);
            // What was removed, and came back to the node from one that had been away when that was forgotten: its file may still know better.
            if after.is_none() && self.forgotten.get(&key).is_some_and(|&removal| removal > before.version.0)
            {
                continue;
            }
            let is_older = after.map(|after| after.version < before.version);
            let is_undone = match before.value {
                Some(_) => is_older.unwrap_or(true),
                // Tombstones may be forgotten.
                None => is_older.unwrap_or(false) && after.is_some_and(|after| after.value.is_some()),
            };
            if is_undone {
                return err(format!(
                    "host {} kept its zones, but of {:?} not {before:?}; it has {after:?}",
                    machine.id,
                    text(&key)
                ));
            }
        }
        Ok(())
    }

    /// A node is about to end. `left`: what it will find again. `drained`: all its peers have acknowledged everything.
    pub(super) fn ends(
        &mut self,
        now: Duration,
        machines: &[Machine],
        host: Host,
        left: Left,
        drained: bool,
    ) {
        self.vectors.retain(|(of, _), _| *of != host);
        self.buckets
            .values_mut()
            .chain([&mut self.strict])
            .for_each(|bucket| _ = bucket.refundable.remove(&host));
        let saved = self.saved.remove(&host).unwrap_or_default();
        let kept = match left {
            Left::Everything => {
                let held = self.held(now, &machines[host]);
                self.kept.insert(host, held);
                return;
            }
            Left::Saved => Some(saved.saved),
            Left::Synchronized => Some(saved.synchronized),
            Left::Nothing => None,
        };
        self.seen.remove(&host);
        if let Some(mut kept) = kept {
            // A removal may be saved, and its tombstone forgotten.
            let held = self.held(now, &machines[host]);
            let is_removed = |key: &Vec<u8>| held.get(key).is_none_or(|held| held.value.is_none());
            kept.retain(|key, kept| kept.value.is_none() || !is_removed(key));
            let stamps = kept.iter().map(|(key, held)| (key.clone(), held.version.0)).collect();
            self.seen.insert(host, stamps);
            self.kept.insert(host, kept);
        }
        // What others have published it is not asked to bring to anybody.
        let delivered = machines[host].node.as_ref().filter(|_| drained).map(|node| node.origin());
        self.is_lost(now, machines, host, delivered);
    }

    /// What a machine has kept is thrown away.
    pub(super) fn discards(&mut self, now: Duration, machines: &[Machine], host: Host) {
        if self.kept.remove(&host).is_some() {
            self.seen.remove(&host);
            self.is_lost(now, machines, host, None);
        }
    }

    /// Of what a machine held, what others hold is still required, and so are writes of `delivered`.
    fn is_lost(&mut self, now: Duration, machines: &[Machine], host: Host, delivered: Option<Origin>) {
        let others = machines.iter().filter(|machine| machine.id != host);
        let mut others: Vec<_> = others.filter(|m| m.node.is_some()).map(|m| self.held(now, m)).collect();
        others.extend(self.kept.values().cloned());
        self.required.retain(|key, need| {
            if delivered.is_some() && need.version.1 == delivered {
                return true;
            }
            let latest = others.iter().filter_map(|held| held.get(key)).max_by_key(|held| held.version);
            match latest {
                Some(held) if held.version < need.version => {
                    *need = Need { version: held.version, removed: held.value.is_none(), met_at: now };
                    true
                }
                latest => latest.is_some(),
            }
        });
    }

    /// What a node holds of its keyval zone: values, and tombstones that are published.
    fn held(&self, now: Duration, machine: &Machine) -> BTreeMap<Vec<u8>, Held> {
        let mut all = BTreeMap::new();
        let Some(node) = &machine.node else { return all };
        let time = machine.time(now);
        let origins: Vec<_> = self.origins.iter().copied().collect();
        let replica = node.replicas().find(|replica| replica.name() == KEYVAL);
        let mut note = |record: &Record<'_>| {
            let held = match record.state {
                State::Value { value, stamp, writer, .. } => {
                    Held { version: (stamp, Some(writer)), value: Some(value.to_vec()) }
                }
                State::Removed { stamp, writer } => Held { version: (stamp, Some(writer)), value: None },
                State::Limit { .. } => return true,
            };
            all.insert(record.key.to_vec(), held);
            true
        };
        replica.into_iter().for_each(|replica| {
            let mut cursor = Some(Cursor::default());
            while let Some(from) = cursor {
                cursor = replica.scan(time, &origins, &VersionVector::new(), from, &mut note);
            }
        });
        for (key, entry) in node.keyval(KEYVAL).iter().flat_map(|zone| zone.iter(time).collect::<Vec<_>>()) {
            let held =
                Held { version: (entry.stamp, Some(entry.writer)), value: Some(entry.value.into_vec()) };
            let known = all.entry(key.into_vec()).or_insert_with(|| held.clone());
            if held.version > known.version {
                *known = held;
            }
        }
        all
    }

    /// Checks what must be true at any moment. Answers the hosts that came back with records that the others have removed and forgotten: they
    /// have to be started anew, empty.
    pub(super) fn check(
        &mut self,
        now: Duration,
        machines: &[Machine],
        plan: &Plan,
    ) -> Result<Vec<Host>, String> {
        let fastest = fastest(now, machines);
        let running: Vec<_> = machines.iter().filter(|machine| machine.node.is_some()).collect();
        let held: Vec<_> = running.iter().map(|machine| (machine.id, self.held(now, machine))).collect();
        self.check_values(&held)?;
        for (host, held) in &held {
            for (key, record) in held.iter().filter(|(_, record)| record.value.is_some()) {
                let (version, holders) =
                    self.holders.entry(key.clone()).or_insert((record.version, Holders::new()));
                if record.version > *version {
                    (*version, *holders) = (record.version, Holders::new());
                }
                if record.version == *version {
                    holders.insert((*host, machines[*host].runs));
                }
            }
        }
        for (host, held) in &held {
            let seen = self.seen.entry(*host).or_default();
            for (key, record) in held {
                let stamp = seen.entry(key.clone()).or_insert(record.version.0);
                *stamp = record.version.0.max(*stamp);
            }
        }
        self.check_required(now, &held, fastest, plan)?;
        for machine in &running {
            self.check_machine(now, machine, plan)?;
        }
        let mut outdated = Vec::new();
        for (host, of_host) in &held {
            for (key, record) in of_host.iter().filter(|(_, record)| record.value.is_some()) {
                let Some(&stamp) = self.forgotten.get(key) else { continue };
                let machine = &machines[*host];
                let is_compared = machine.node.as_ref().is_some_and(|node| node.doubtful(KEYVAL).is_none());
                if record.version.0 > stamp || !is_compared {
                    continue;
                }
                let mut others = held.iter().filter(|(other, _)| other != host);
                let is_alone = others.all(|(_, held)| held.get(key).is_none_or(|held| held.value.is_none()));
                if plan.state.is_some()
                    && is_alone
                    && machine.is_untroubled()
                    && self.is_known(machines, *host, key, record.version)
                {
                    return err(format!(
                        "host {host} has compared its records with the cluster, and still has {:?}: {record:?}; it was removed with {stamp:?}",
                        text(key)
                    ));
                }
                let removed_at = stamp.time().saturating_sub(machine.time(Duration::ZERO));
                if machine.troubled_at + UNSEEN_MAX < removed_at {
                    return err(format!(
                        "host {host} has {:?} again, or still: {record:?}; it was removed with {stamp:?}, {removed_at:?} after the start, and nothing \
                         has cut the host off since",
                        text(key)
                    ));
                }
                outdated.push(*host);
            }
        }
        outdated.dedup();
        Ok(outdated)
    }

    /// Whether a node that nothing has disturbed since another was started has had this version of a key.
    fn is_known(&self, machines: &[Machine], host: Host, key: &[u8], version: Version) -> bool {
        let Some((_, holders)) = self.holders.get(key).filter(|(latest, _)| *latest == version) else {
            return false;
        };
        holders.iter().any(|&(other, runs)| {
            let Machine { node, runs: current, troubled_at, .. } = &machines[other];
            let has_joined = node.as_ref().is_some_and(|node| node.unjoined().is_none());
            other != host && *current == runs && has_joined && *troubled_at <= machines[host].troubled_at
        }) && self.origins.len() < ORIGINS_MIN
    }

    fn check_values(&self, held: &[(Host, BTreeMap<Vec<u8>, Held>)]) -> Result<(), String> {
        for (host, held) in held {
            for (key, record) in held {
                let Some(value) = &record.value else { continue };
                let written = self.written.get(&(key.clone(), record.version.0));
                if !written.is_some_and(|written| written.contains(value)) {
                    return err(format!("host {host} has {:?} = {record:?}, which nobody wrote", text(key)));
                }
            }
        }
        Ok(())
    }

    fn check_required(
        &mut self,
        now: Duration,
        held: &[(Host, BTreeMap<Vec<u8>, Held>)],
        fastest: Time,
        plan: &Plan,
    ) -> Result<(), String> {
        let all = held.iter().map(|(_, held)| held).chain(self.kept.values());
        let mut latest: BTreeMap<&Vec<u8>, &Held> = BTreeMap::new();
        for (key, record) in all.flatten().filter(|(key, _)| !expires(key)) {
            let known = latest.entry(key).or_insert(record);
            if record.version > known.version {
                *known = record;
            }
        }
        for (key, record) in &latest {
            let removed = record.value.is_none();
            let is_over = removed && self.forgotten.get(*key).is_some_and(|stamp| *stamp >= record.version.0);
            let need = self.required.get_mut(*key);
            match need {
                Some(need) if need.version <= record.version => {
                    *need = Need { version: record.version, removed, met_at: now };
                }
                None if !is_over
                    && self.forgotten.get(*key).is_none_or(|stamp| *stamp < record.version.0) =>
                {
                    self.required
                        .insert((*key).clone(), Need { version: record.version, removed, met_at: now });
                }
                Some(_) | None => {}
            }
        }
        for (key, need) in &self.required {
            let is_over =
                need.removed && need.version.0.time().saturating_add(plan.tombstone_retention) <= fastest;
            if !is_over && now > need.met_at + UNSEEN_MAX {
                return err(format!(
                    "{:?}: the write {need:?} is lost; the latest that any node has is {:?}",
                    text(key),
                    latest.get(key)
                ));
            }
        }
        let forgotten = &mut self.forgotten;
        self.required.retain(|key, need| {
            let is_over =
                need.removed && need.version.0.time().saturating_add(plan.tombstone_retention) <= fastest;
            if is_over {
                let stamp = forgotten.entry(key.clone()).or_insert(need.version.0);
                *stamp = need.version.0.max(*stamp);
            }
            !is_over
        });
        Ok(())
    }

    fn check_machine(&mut self, now: Duration, machine: &Machine, plan: &Plan) -> Result<(), String> {
        let Some(node) = &machine.node else { return Ok(()) };
        let (host, time) = (machine.id, machine.time(now));
        for backlog in node.backlogs() {
            if backlog.held > backlog.bound {
                return err(format!(
                    "host {host}: {} {}, {} are the most",
                    backlog.held, backlog.what, backlog.bound
                ));
            }
        }
        for replica in node.replicas() {
            let stats = replica.stats();
            if stats.used_bytes > stats.size_bytes {
                return err(format!(
                    "host {host}: zone {:?} is larger than it is: {stats:?}",
                    replica.name()
                ));
            }
            self.evicted.0 |= replica.name() == STICKY && stats.evicted > 0;
            self.evicted.1 |= replica.name() == LIMIT && stats.evicted > 0;
        }
        for (session, entry) in
            node.sticky(STICKY).iter().flat_map(|zone| zone.iter(time).collect::<Vec<_>>())
        {
            let learned = self.learned.get(&*session);
            if !learned.is_some_and(|servers| servers.contains(&*entry.server)) {
                return err(format!(
                    "host {host}: session {:?} belongs to {entry:?}, which nobody taught",
                    text(&session)
                ));
            }
        }
        let Some(limit) = node.limit(LIMIT) else { return Ok(()) };
        for (key, bucket) in &self.buckets {
            let view = peek(&limit, key, time);
            let arrival = time.saturating_add(view);
            let heard_until = now.saturating_sub(plan.late());
            if self.is_exact(plan) && !self.evicted.1 {
                let heard = bucket.heard(heard_until).unwrap_or_default();
                if heard > arrival.saturating_add(plan.max_clock_skew) {
                    return err(format!(
                        "host {host}: its view of {:?} is {:?} short of what it must have heard of",
                        text(key),
                        heard.saturating_sub(arrival)
                    ));
                }
            }
            if !view.is_zero() {
                let (truth, twice) = if self.is_exact(plan) {
                    (bucket.arrival.saturating_add(bucket.refunded_since(heard_until)), Duration::ZERO)
                } else {
                    (bucket.unrefunded, Plan::counted_twice(bucket.dearest))
                };
                let excess = arrival.saturating_sub(truth);
                self.excess = self.excess.max(excess);
                let max = plan.late() + twice;
                if plan.bounds_views && excess > max {
                    return err(format!(
                        "host {host}: its view of {:?} is {excess:?} beyond the truth, {max:?} are the most",
                        text(key)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks that the vectors of a node have not gone back since the last look. `met`: the origin that has made itself known in between.
    pub(super) fn check_vectors(&mut self, machine: &Machine, met: Option<Origin>) -> Result<(), String> {
        let Some(node) = &machine.node else { return Ok(()) };
        for (zone, replica) in [KEYVAL, STICKY, LIMIT].into_iter().zip(node.replicas()) {
            let vector = replica.vector();
            let before = self.vectors.insert((machine.id, zone), (machine.runs, vector.clone()));
            let Some((_, before)) = before.filter(|(runs, _)| *runs == machine.runs) else { continue };
            for (origin, seq) in before.iter() {
                let now = vector.get(origin);
                let is_forgotten = now == 0 && self.origins.len() >= ORIGINS_MIN;
                let is_hearsay = met == Some(origin) && (zone != LIMIT || now == 0);
                if now < seq && !is_forgotten && !is_hearsay {
                    return err(format!(
                        "host {}: the vector of zone {zone:?} went back from {seq} to {now} of {origin}",
                        machine.id
                    ));
                }
            }
        }
        Ok(())
    }

    /// What must be true in the end: all nodes have what is required. That they have the same, their digests say.
    pub(super) fn check_end(&self, now: Duration, machines: &[Machine]) -> Result<(), String> {
        for machine in machines.iter().filter(|machine| machine.node.is_some()) {
            let held = self.held(now, machine);
            for (key, need) in self.required.iter().filter(|(_, need)| !need.removed) {
                let has = held.get(key);
                if has.is_none_or(|has| has.version < need.version) {
                    return err(format!(
                        "host {}: {:?} is {has:?}, but {need:?} was acknowledged",
                        machine.id,
                        text(key)
                    ));
                }
            }
            for (key, has) in held.iter().filter(|(_, has)| has.value.is_some()) {
                if let Some(need) =
                    self.required.get(key).filter(|need| need.removed && need.version > has.version)
                {
                    return err(format!(
                        "host {}: {:?} is {has:?}, but was removed: {need:?}",
                        machine.id,
                        text(key)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// How much work there is in a limit's bucket.
pub(super) fn peek(limit: &LimitZone, key: impl AsRef<[u8]>, time: Time) -> Duration {
    limit.check(key, &Check { cost: 0, ..Check::default() }, time).reset()
}

/// How far the nodes' views of a limit are apart, at most, but for refunds of which nodes may not have heard.
pub(super) fn spread(now: Duration, machines: &[Machine], truth: &Truth, plan: &Plan) -> Duration {
    let limits: Vec<_> = machines
        .iter()
        .filter_map(|machine| Some((machine.time(now), machine.node.as_ref()?.limit(LIMIT)?)))
        .collect();
    let spread_of = |(key, bucket): (&Vec<u8>, &Bucket)| {
        let arrivals = limits.iter().map(|(time, limit)| time.saturating_add(peek(limit, key, *time)));
        let (first, last) = (arrivals.clone().min()?, arrivals.max()?);
        let unheard = match truth.is_exact(plan) {
            true => Duration::ZERO,
            false => bucket.unrefunded.saturating_sub(bucket.arrival),
        };
        Some(last.saturating_sub(first).saturating_sub(unheard))
    };
    truth.buckets.iter().filter_map(spread_of).max().unwrap_or_default()
}

/// The clock that is ahead of all others.
pub(super) fn fastest(now: Duration, machines: &[Machine]) -> Time {
    machines.iter().map(|machine| machine.time(now)).max().unwrap_or(Time::EPOCH)
}
