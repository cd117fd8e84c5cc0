//! Which peer to ask for what is missing.
//!
//! Every node sends its own records to every peer that it dials, so normally nothing has to be asked for. Two
//! cases remain: the origin is gone (its records live on elsewhere), or it is there but something was refused or lost.
//! Peers' vectors, from Hello and heartbeats, tell what exists; our own vector tells what we have. What stays missing for a grace
//! period is requested from **one** peer that has all of it, so a new node receives the records of the departed once and
//! not once per peer. Asked peers vary by node and by attempt; attempts back off exponentially. A link has one request per zone
//! outstanding: a peer that is slow to answer is not made slower by being asked again; one of those that know less is asked after a while.
//!
//! A peer may lie, by mistake or on purpose, so nobody is believed about an origin that can speak for itself: while an origin is connected, only
//! its own links count, and are asked. Of one that is not, a claim is taken, for nothing better is known. But it is *hearsay*: the zone then believes to
//! have what perhaps it never got, and nobody would ever send that again. So what the origin itself had brought is remembered beside it, and when
//! the origin connects, the vector goes back to that ([`Shared::meet`](super::Shared::meet)): the origin sends the rest once more, and a lie lasts no longer than
//! until then.
//!
//! One thing nobody can be asked for: records that arrived before their origin died, but beyond what any peer's vector covers. They are
//! *orphans*, perhaps here and nowhere else. The zone adopts them: it publishes them as its own.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sync_store::{Origin, VersionVector};

/// Identifies an inbound link within a node.
pub(crate) type LinkId = u64;

/// A missing origin is requested again after the grace period times 2 to this power at the most.
const BACKOFF_POWER_MAX: u32 = 6;

/// What an inbound link shall request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) request: u64,
    pub(crate) origins: Vec<Origin>,
}

#[derive(Debug)]
struct Missing {
    have_seq: u64,
    /// Since when nothing of it has arrived.
    since: Duration,
    attempts: u32,
}

/// What came of a zone on an inbound link.
#[derive(Debug)]
struct Heard {
    from: Origin,
    vector: VersionVector,
    /// A request that the peer has not answered to its end.
    outstanding: Option<Wanted>,
}

#[derive(Debug, Default)]
struct ZoneRepair {
    /// Per inbound link. Ordered, so that all nodes' choices are reproducible.
    heard: BTreeMap<LinkId, Heard>,
    missing: HashMap<Origin, Missing>,
    /// What requests have brought, as far as peers still speak of it. The zone knows it too, unless it had to forget the origin because
    /// it can keep apart only so many; but then it needs nothing of that origin, and must not ask for ever.
    answered: VersionVector,
    /// Through where the vector went by what the origin itself sent, for origins of which it went further by what others claimed.
    first_hand: HashMap<Origin, u64>,
    /// Of a limit zone: through where of an origin the states that were applied contain what it admitted, as far as that goes beyond the vector.
    contained: HashMap<Origin, u64>,
    orphans: Orphans,
    /// Records under dots of this origin came from a file and may have been removed by the cluster since: they are adopted only when that is known.
    doubtful: Option<Origin>,
}

/// Whether there may be records beyond the vector whose origin is gone.
#[derive(Debug, Default)]
enum Orphans {
    #[default]
    None,
    /// A link was lost that had brought some, in this run or, as far as is known, in the one that left the zone as it was found.
    Suspected,
    /// The origin may come back; from then on it is not waited for.
    AdoptAt(Duration),
}

/// The machine; one per node, shared by its inbound links.
#[derive(Debug)]
pub(crate) struct Repair {
    zones: Vec<ZoneRepair>,
    /// Origins that we have dialled, with the number of links: they are there, and will dial us too.
    dialled: HashMap<Origin, usize>,
    /// Grace for origins that are not there.
    grace: Duration,
    /// Grace for origins that are there, which normally deliver by themselves; also the patience with an answer.
    patience: Duration,
    request_last: u64,
}

impl Repair {
    pub(crate) fn new(zones: usize, grace: Duration, patience: Duration) -> Self {
        let zones = (0..zones).map(|_| ZoneRepair::default()).collect();
        Self { zones, dialled: HashMap::new(), grace, patience, request_last: 0 }
    }

    /// A link that we dialled leads to this origin.
    pub(crate) fn dialled(&mut self, origin: Origin) {
        *self.dialled.entry(origin).or_default() += 1;
    }

    /// A link that we dialled does not lead to this origin any more.
    pub(crate) fn lost(&mut self, origin: Origin) {
        if let Some(links) = self.dialled.get_mut(&origin) {
            *links -= 1;
            if *links == 0 {
                self.dialled.remove(&origin);
            }
        }
    }

    /// A peer's vector of a zone has arrived on an inbound link. True if it is the first.
    pub(crate) fn heard(&mut self, zone: usize, link: LinkId, from: Origin, vector: VersionVector) -> bool {
        let heard = &mut self.zones[zone].heard;
        let before = heard.remove(&link);
        let is_first = before.is_none();
        heard.insert(link, Heard { from, vector, outstanding: before.and_then(|h| h.outstanding) });
        is_first
    }

    /// An origin is there itself, on `link`: of what is known of it in a zone, what others said does not count any more. Answers how much is left of
    /// `known_seq`; the origin says that it has published `published_seq`.
    pub(crate) fn met(
        &mut self,
        zone: usize,
        link: LinkId,
        origin: Origin,
        known_seq: u64,
        published_seq: u64,
    ) -> u64 {
        let zone = &mut self.zones[zone];
        let first_hand = zone.first_hand.remove(&origin);
        if let Some(through) = zone.contained.get_mut(&origin) {
            *through = published_seq.min(*through);
        }
        // An older link of the origin may have brought more since it said so.
        let may_be_behind = zone.heard.iter().any(|(&id, h)| h.from == origin && id != link);
        let left = match first_hand {
            Some(seq) => seq.min(known_seq),
            None => known_seq,
        };
        let left = if left > published_seq && !may_be_behind { 0 } else { left };
        if left < known_seq {
            zone.answered.remove(origin);
        }
        left
    }

    /// The link is closed; what it was asked for may be asked of another at once.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        for zone in &mut self.zones {
            zone.heard.remove(&link);
        }
    }

    /// A link was lost after it had brought records of the zone beyond its vector; or may have been, in an earlier run.
    pub(crate) fn suspect_orphans(&mut self, zone: usize) {
        self.zones[zone].orphans = Orphans::Suspected;
    }

    /// Records of the zone are in doubt, those under dots of `origin`.
    pub(crate) fn doubt(&mut self, zone: usize, origin: Origin) {
        self.zones[zone].doubtful = Some(origin);
    }

    /// Whether records of the zone are in doubt.
    pub(crate) fn is_in_doubt(&self, zone: usize) -> bool {
        self.zones[zone].doubtful.is_some()
    }

    /// What was in doubt and is still there, nobody else knows.
    pub(crate) fn end_doubt(&mut self, zone: usize) {
        // At once: whoever could be asked about them has been.
        self.zones[zone].doubtful = None;
        self.zones[zone].orphans = Orphans::AdoptAt(Duration::ZERO);
    }

    /// If it is time for a zone to adopt orphans: the origins whose records are none, since they or others will yet deliver.
    /// Call [`Self::adopted`] if there are no records of theirs; otherwise this comes again.
    pub(crate) fn poll_adopt(
        &mut self,
        zone: usize,
        ours: &VersionVector,
        now: Duration,
    ) -> Option<Vec<Origin>> {
        let again_at = now.saturating_add(self.patience);
        let zone = &mut self.zones[zone];
        match zone.orphans {
            Orphans::AdoptAt(at) if at <= now => {
                zone.orphans = Orphans::AdoptAt(again_at);
                zone.note_missing(ours, now);
                let connected = zone.heard.values().map(|h| h.from);
                Some(connected.chain(zone.missing.keys().copied()).chain(zone.doubtful).collect())
            }
            Orphans::Suspected => {
                zone.orphans = Orphans::AdoptAt(again_at);
                None
            }
            Orphans::None | Orphans::AdoptAt(_) => None,
        }
    }

    /// A zone has adopted all its orphans.
    pub(crate) fn adopted(&mut self, zone: usize) {
        let orphans = &mut self.zones[zone].orphans;
        if matches!(orphans, Orphans::AdoptAt(_)) {
            *orphans = Orphans::None;
        }
    }

    /// Rows of a catch-up have arrived on a link, of `from`'s own records if `request` is 0: it is being worked on.
    pub(crate) fn progress(&mut self, zone: usize, link: LinkId, request: u64, from: Origin, now: Duration) {
        let ZoneRepair { heard, missing, .. } = &mut self.zones[zone];
        let outstanding = heard.get(&link).and_then(|h| h.outstanding.as_ref());
        for (origin, missing) in missing {
            // The peer does one thing after the other: what it does for us now brings the answer nearer.
            let is_due = outstanding.is_some_and(|wanted| wanted.origins.contains(origin));
            if is_due || (request == 0 && *origin == from) {
                missing.since = now;
            }
        }
    }

    /// A peer of which nothing was known has sent states of a limit zone of which `ours` is known: they contain what the peer knows. What comes of that as debts must
    /// not be added. Of an origin that is connected no more is believed than it says itself.
    pub(crate) fn contains(&mut self, zone: usize, link: LinkId, ours: &VersionVector) {
        let ZoneRepair { heard, contained, .. } = &mut self.zones[zone];
        contained.retain(|&origin, &mut through| through > ours.get(origin));
        let Some(sender) = heard.get(&link) else { return };
        for (origin, _, through) in ours.lacks(&sender.vector).filter(|&(origin, ..)| origin != sender.from) {
            let itself = heard.values().filter(|h| h.from == origin).map(|h| h.vector.get(origin)).max();
            let through = itself.map_or(through, |published| published.min(through));
            let known = contained.entry(origin).or_insert(through);
            *known = through.max(*known);
        }
    }

    /// Through where of an origin states that were applied contain what it admitted; 0 if they do not say.
    pub(crate) fn contained(&self, zone: usize, origin: Origin) -> u64 {
        self.zones[zone].contained.get(&origin).copied().unwrap_or_default()
    }

    /// A request has been answered to its end. Answers whom the peer may speak for: those it was asked about and who are not connected by now;
    /// `None` if that was not asked of this link.
    pub(crate) fn completed(
        &mut self,
        zone: usize,
        link: LinkId,
        request: u64,
        now: Duration,
    ) -> Option<Vec<Origin>> {
        let zone = &mut self.zones[zone];
        let outstanding = &mut zone.heard.get_mut(&link)?.outstanding;
        let mut origins = outstanding.take_if(|wanted| wanted.request == request)?.origins;
        for origin in &origins {
            if let Some(missing) = zone.missing.get_mut(origin) {
                missing.since = now;
            }
        }
        let heard = zone.heard.get(&link)?;
        origins.retain(|&origin| zone.may_speak(heard, origin));
        Some(origins)
    }

    /// The zone, of which `ours` was known, has what an answer of `from` covers.
    pub(crate) fn covered(
        &mut self,
        zone: usize,
        from: Origin,
        ours: &VersionVector,
        vector: &VersionVector,
    ) {
        let zone = &mut self.zones[zone];
        zone.answered.merge(vector);
        // What the zone has forgotten of an origin, nobody has to take back.
        zone.first_hand.retain(|&origin, _| ours.get(origin) > 0 || vector.get(origin) > 0);
        for (origin, have_seq, _) in ours.lacks(vector).filter(|&(origin, ..)| origin != from) {
            zone.first_hand.entry(origin).or_insert(have_seq);
        }
    }

    /// What `link` shall request for a zone of which we know `ours`.
    pub(crate) fn poll(
        &mut self,
        zone: usize,
        link: LinkId,
        ours: &VersionVector,
        now: Duration,
    ) -> Option<Wanted> {
        let (grace, patience) = (self.grace, self.patience);
        let zone = &mut self.zones[zone];
        zone.note_missing(ours, now);
        let mut origins = Vec::new();
        for (&origin, missing) in &zone.missing {
            let is_awaited = self.dialled.contains_key(&origin)
                || zone.heard.values().any(|h| h.from == origin || h.is_asked_for(origin));
            let base = if is_awaited { patience } else { grace };
            let wait = base.saturating_mul(2u32.pow(missing.attempts.min(BACKOFF_POWER_MAX)));
            let waited = now.saturating_sub(missing.since);
            if waited >= wait && zone.asked(origin, missing, waited >= patience) == Some(link) {
                origins.push(origin);
            }
        }
        if origins.is_empty() {
            return None;
        }
        origins.sort_unstable();
        self.request_last += 1;
        for origin in &origins {
            if let Some(missing) = zone.missing.get_mut(origin) {
                missing.attempts += 1;
                missing.since = now;
            }
        }
        let wanted = Wanted { request: self.request_last, origins };
        zone.heard.get_mut(&link)?.outstanding = Some(wanted.clone());
        Some(wanted)
    }

    /// Whether a peer knows records of an origin that is not connected and that we lack.
    pub(crate) fn lacks_departed(&self, zone: usize, ours: &VersionVector) -> bool {
        let zone = &self.zones[zone];
        zone.lacking(ours).any(|(origin, _)| !zone.is_connected(origin))
    }
}

impl Heard {
    fn is_asked_for(&self, origin: Origin) -> bool {
        self.outstanding.as_ref().is_some_and(|wanted| wanted.origins.contains(&origin))
    }
}

impl ZoneRepair {
    fn is_connected(&self, origin: Origin) -> bool {
        self.heard.values().any(|h| h.from == origin)
    }

    /// Whether what a peer says of an origin counts.
    fn may_speak(&self, heard: &Heard, origin: Origin) -> bool {
        heard.from == origin || !self.is_connected(origin)
    }

    /// What peers know and we do not, with what we have of it.
    fn lacking<'a>(&'a self, ours: &'a VersionVector) -> impl Iterator<Item = (Origin, u64)> + 'a {
        let counts =
            move |h: &'a Heard| ours.lacks(&h.vector).filter(move |&(origin, ..)| self.may_speak(h, origin));
        self.heard.values().flat_map(counts).filter_map(|(origin, have_seq, want_seq)| {
            (self.answered.get(origin) < want_seq).then_some((origin, have_seq))
        })
    }

    /// The link to ask for an origin: one of those that know the most of it and owe no answer, another one at each attempt. If `is_overdue`, those that do owe one do not
    /// count any more: what they claim to have may never come, and others have some of it.
    fn asked(&self, origin: Origin, missing: &Missing, is_overdue: bool) -> Option<LinkId> {
        let knows = |h: &Heard| h.vector.get(origin) > missing.have_seq && self.may_speak(h, origin);
        let counts = |h: &Heard| knows(h) && (h.outstanding.is_none() || !is_overdue);
        let most = self.heard.values().filter(|h| counts(h)).map(|h| h.vector.get(origin)).max()?;
        let able = self.heard.iter().filter(|(_, h)| h.vector.get(origin) == most && h.outstanding.is_none());
        let able: Vec<_> = able.filter(|(_, h)| knows(h)).map(|(&link, _)| link).collect();
        if able.is_empty() {
            return None;
        }
        // Different origins are asked of different links, so that one peer does not serve everything.
        let start = (origin.raw() % able.len() as u64) as usize;
        able.get((start + missing.attempts as usize) % able.len()).copied()
    }

    fn note_missing(&mut self, ours: &VersionVector, now: Duration) {
        let lacking: HashMap<_, _> = self.lacking(ours).collect();
        self.missing.retain(|origin, _| lacking.contains_key(origin));
        for (origin, have_seq) in lacking {
            let missing = self.missing.entry(origin).or_insert(Missing { have_seq, since: now, attempts: 0 });
            if missing.have_seq != have_seq {
                *missing = Missing { have_seq, since: now, attempts: 0 };
            }
        }
        let heard = &self.heard;
        let spoken_of = |&(origin, _): &(Origin, u64)| heard.values().any(|h| h.vector.get(origin) > 0);
        self.answered = self.answered.iter().filter(spoken_of).collect();
    }
}

#[cfg(test)]
mod tests;
