//! Which peer to ask for what is missing.
//!
//! Every node sends its own records to every peer that it dials, so normally nothing has to be asked for. Two
//! cases remain: the origin is gone (its records live on elsewhere), or it is there but something was refused or lost.
//! Peers' vectors, from Hello and heartbeats, tell what exists; our own vector tells what we have. What stays missing for a grace
//! period is requested from **one** peer that has all of it, so a new node receives the records of the departed once and
//! not once per peer. Asked peers vary by node and by attempt; attempts back off exponentially.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sync_store::{Origin, VersionVector};

/// Identifies an inbound link within a node.
pub(crate) type LinkId = u64;

/// A missing origin is requested again after the grace period times 2 to this power at the most.
const BACKOFF_POWER_MAX: u32 = 6;

/// What an inbound link shall request.
#[derive(Debug, PartialEq, Eq)]
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
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    link: LinkId,
    request: u64,
}

#[derive(Debug, Default)]
struct ZoneRepair {
    /// Per inbound link: who is on it and what it knows. Ordered, so that all nodes' choices are reproducible.
    heard: BTreeMap<LinkId, (Origin, VersionVector)>,
    missing: HashMap<Origin, Missing>,
}

/// The machine; one per node, shared by its inbound links.
#[derive(Debug)]
pub(crate) struct Repair {
    zones: Vec<ZoneRepair>,
    /// Grace for origins that no link comes from.
    grace: Duration,
    /// Grace for origins that are connected, which normally deliver by themselves; also the patience with an answer.
    patience: Duration,
    request_last: u64,
}

impl Repair {
    pub(crate) fn new(zones: usize, grace: Duration, patience: Duration) -> Self {
        let zones = (0..zones).map(|_| ZoneRepair::default()).collect();
        Self { zones, grace, patience, request_last: 0 }
    }

    /// A peer's vector of a zone has arrived on an inbound link.
    pub(crate) fn heard(&mut self, zone: usize, link: LinkId, from: Origin, vector: VersionVector) {
        self.zones[zone].heard.insert(link, (from, vector));
    }

    /// The link is closed; what it was asked for may be asked of another at once.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        for zone in &mut self.zones {
            zone.heard.remove(&link);
            for missing in zone.missing.values_mut() {
                missing.in_flight.take_if(|f| f.link == link);
            }
        }
    }

    /// Rows of a catch-up of `origin`'s own records, or of a request, have arrived: it is being worked on.
    pub(crate) fn progress(&mut self, zone: usize, request: u64, from: Origin, now: Duration) {
        for (origin, missing) in &mut self.zones[zone].missing {
            let answered = missing.in_flight.as_ref().is_some_and(|f| f.request == request);
            if answered || (request == 0 && *origin == from) {
                missing.since = now;
            }
        }
    }

    /// A request has been answered to its end.
    pub(crate) fn completed(&mut self, zone: usize, request: u64, now: Duration) {
        for missing in self.zones[zone].missing.values_mut() {
            if missing.in_flight.take_if(|f| f.request == request).is_some() {
                missing.since = now;
            }
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
        for (&origin, missing) in &mut zone.missing {
            let connected = zone.heard.values().any(|(from, _)| *from == origin);
            let base = if connected || missing.in_flight.is_some() { patience } else { grace };
            let wait = base * 2u32.pow(missing.attempts.min(BACKOFF_POWER_MAX));
            if now.saturating_sub(missing.since) >= wait
                && asked(&zone.heard, origin, missing.attempts) == Some(link)
            {
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
                missing.in_flight = Some(InFlight { link, request: self.request_last });
            }
        }
        Some(Wanted { request: self.request_last, origins })
    }

    /// Whether a peer knows records of an origin that is not connected and that we lack.
    pub(crate) fn lacks_departed(&self, zone: usize, ours: &VersionVector) -> bool {
        let heard = &self.zones[zone].heard;
        let connected = |origin| heard.values().any(|(from, _)| *from == origin);
        heard.values().any(|(_, vector)| ours.lacks(vector).any(|(origin, _, _)| !connected(origin)))
    }
}

impl ZoneRepair {
    fn note_missing(&mut self, ours: &VersionVector, now: Duration) {
        let mut lacking = HashMap::new();
        for (_, vector) in self.heard.values() {
            lacking.extend(ours.lacks(vector).map(|(origin, have_seq, _)| (origin, have_seq)));
        }
        self.missing.retain(|origin, _| lacking.contains_key(origin));
        for (origin, have_seq) in lacking {
            let missing = self.missing.entry(origin).or_insert(Missing {
                have_seq,
                since: now,
                attempts: 0,
                in_flight: None,
            });
            if missing.have_seq != have_seq {
                (missing.have_seq, missing.since, missing.attempts) = (have_seq, now, 0);
            }
        }
    }
}

/// The link to ask for an origin: one of those that know the most of it, another one at each attempt.
fn asked(heard: &BTreeMap<LinkId, (Origin, VersionVector)>, origin: Origin, attempts: u32) -> Option<LinkId> {
    let most = heard.values().map(|(_, vector)| vector.get(origin)).max()?;
    let able: Vec<_> =
        heard.iter().filter(|(_, (_, v))| v.get(origin) == most).map(|(&link, _)| link).collect();
    // Different origins are asked of different links, so that one peer does not serve everything.
    let start = (origin.raw() % able.len() as u64) as usize;
    able.get((start + attempts as usize) % able.len()).copied()
}

#[cfg(test)]
mod tests;
