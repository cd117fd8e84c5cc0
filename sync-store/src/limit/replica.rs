//! The limit zone as replication sees it.
//!
//! Rows of the stream carry debts, which are added; rows of catch-up carry arrival times, which merge by maximum; `bucket.rs` has the
//! rules and why they hold. A row's arrival time never holds debt that is still to be published, or a receiver of both would count it
//! twice.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::bucket::{CAPACITY_MAX, LATE_MAX_NS, View};
use super::entry::{Fresh, Phase};
use super::found::Snapshot;
use super::group::Inserted;
use super::key::{LimitKey, WIRE_MAX};
use super::runs::Due;
use super::zone::{LimitZone, Tally};
use crate::origins::MAX_SEQ;
use crate::record::Outcome;
use crate::{
    Applied, Cursor, Dot, Error, Origin, Record, Replica, State, Time, VersionVector, ZoneKind, ZoneStats,
};

impl LimitZone {
    fn publish_slot(
        &self,
        slot: usize,
        dot: Dot,
        f: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> ControlFlow<(), bool> {
        let entry = self.entry(slot);
        let head = entry.head();
        let Some(Snapshot { key, tat, debt }) = Snapshot::of(entry) else {
            // Changing hands just now: if it comes back with a debt, nobody else would tell us. What is left in an empty one counts for nothing.
            if matches!(entry.head().phase(), Phase::Claimed | Phase::Pending | Phase::Live)
                && entry.debt() != 0
            {
                self.dirty.mark(&self.region, slot);
            }
            return ControlFlow::Continue(false);
        };
        if debt == 0 {
            return ControlFlow::Continue(false);
        }
        let mut wire = [0; WIRE_MAX];
        let state = State::Limit { tat_ns: tat, debt_ns: debt };
        if !f(&Record { key: key.to_wire(&mut wire), dot, state }) {
            return ControlFlow::Break(());
        }
        if entry.is_still(head) {
            entry.add_debt(debt.wrapping_neg());
            entry.set_seq(dot.seq);
        }
        ControlFlow::Continue(true)
    }

    fn key_of(&self, wire: &[u8]) -> Result<LimitKey, Error> {
        LimitKey::from_wire(wire).ok_or_else(|| match wire.len() {
            0 => Error::EmptyKey { zone: self.name.clone() },
            WIRE_MAX => Error::InvalidKey {
                zone: self.name.clone(),
                key: crate::error::shown(wire),
                expected: "a key of 17 bytes is a digest and begins with a byte of value 1",
            },
            length => Error::KeyTooLong { zone: self.name.clone(), length, max: WIRE_MAX },
        })
    }

    /// The key, the arrival time and the debt of a row. No bucket holds more than [`CAPACITY_MAX`], so no arrival time is further ahead: one that says so
    /// could never be refunded.
    fn state_of(&self, record: &Record<'_>, now: u64) -> Result<(LimitKey, u64, i64), Error> {
        match record.state {
            State::Limit { tat_ns, debt_ns } => {
                Ok((self.key_of(record.key)?, tat_ns.min(now.saturating_add(CAPACITY_MAX)), debt_ns))
            }
            State::Value { .. } | State::Removed { .. } => {
                Err(Error::WrongKind { zone: self.name.clone(), kind: ZoneKind::Limit })
            }
        }
    }

    /// Changes what we know of a key. Marks nothing dirty: it is others' work.
    fn apply(&self, key: &LimitKey, now: u64, change: impl Fn(View) -> View) -> Outcome {
        let place = self.place(key);
        loop {
            if let Some(found) = self.group(place).find(key) {
                match found.apply(&change) {
                    Some(true) => return Outcome::Applied,
                    Some(false) => return Outcome::Superseded,
                    None => continue,
                }
            }
            let view = change(View::default());
            if view.tat.saturating_add(LATE_MAX_NS) <= now {
                return Outcome::Superseded; // drained long ago
            }
            let fresh = Fresh { key: *key, tag: place.tag, view, debt: 0, foreign: true };
            match self.insert(place, &fresh, now) {
                Inserted::Live { .. } => return Outcome::Applied,
                Inserted::Again { .. } => {}
                Inserted::Busy => return Outcome::Refused,
            }
        }
    }

    fn check_owner(&self) -> Result<(), Error> {
        if self.region.sharing().is_guest() {
            return Err(Error::NotTheOwner { zone: self.name.clone() });
        }
        Ok(())
    }

    fn tally(&self, applied: Applied) -> Applied {
        Tally::add(&self.tally.applied, applied.applied);
        Tally::add(&self.tally.superseded, applied.superseded);
        Tally::add(&self.tally.refused, applied.refused);
        applied
    }

    /// The index of an origin in the table, which forgets others for it if need be: no record refers to them.
    pub(super) fn enter(&self, origin: Origin) -> Result<u16, Error> {
        let enter = || self.origins.enter(&self.region, origin);
        enter()
            .or_else(|| {
                let oldest = self.origins.forgettable(&self.region, &vec![false; self.origins.len()]);
                self.origins.forget(&self.region, &oldest);
                enter()
            })
            .ok_or_else(|| Error::TooManyOrigins { zone: self.name.clone(), max: self.origins.len() })
    }
}

impl Replica for LimitZone {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> ZoneKind {
        ZoneKind::Limit
    }

    fn origin(&self) -> Origin {
        self.origin
    }

    fn poll_dirty(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.dirty.poll(&self.region, cx)
    }

    fn wait_dirty(&self, timeout: Duration) -> bool {
        self.dirty.wait(&self.region, timeout)
    }

    fn call_for_dirty(&self) {
        self.dirty.call_for_all(&self.region);
    }

    fn dirty_count(&self) -> usize {
        self.dirty.count(&self.region)
    }

    fn published_seq(&self) -> u64 {
        self.origins.published(&self.region)
    }

    fn publish(&self, _now: Time, f: &mut dyn FnMut(&Record<'_>) -> bool) -> (u64, u64) {
        let mut replication = self.replication.lock();
        let from = self.published_seq();
        if self.region.sharing().is_guest() {
            return (from, from);
        }
        let _change = self.region.begin();
        let mut through = from;
        let ahead = |slots: &[usize]| slots.iter().for_each(|&slot| self.entry(slot).prefetch());
        replication.publish_next = self.dirty.drain(&self.region, replication.publish_next, ahead, |slot| {
            let dot = Dot { origin: self.origin, seq: through + 1 };
            match self.publish_slot(slot, dot, f) {
                ControlFlow::Continue(published) => {
                    through += u64::from(published);
                    ControlFlow::Continue(())
                }
                ControlFlow::Break(()) => ControlFlow::Break(()),
            }
        });
        self.origins.advance(&self.region, self.origins.own(&self.region), through);
        (from, through)
    }

    /// Every row that was applied is covered afterwards, even if a later one is refused: debts must not be added again.
    fn apply_batch(
        &self,
        now: Time,
        origin: Origin,
        from_seq_excluded: u64,
        through_seq: u64,
        rows: &mut dyn Iterator<Item = Record<'_>>,
    ) -> Result<Applied, Error> {
        self.check_owner()?;
        let mut replication = self.replication.lock();
        let _change = self.region.begin();
        if origin == self.origin {
            return Err(Error::OwnOrigin { zone: self.name.clone(), origin });
        }
        let invalid =
            |rows| Error::InvalidBatch { zone: self.name.clone(), from_seq_excluded, through_seq, rows };
        if through_seq < from_seq_excluded || through_seq > MAX_SEQ {
            return Err(invalid(0));
        }
        let index = self.enter(origin)?;
        let covered = self.origins.through(&self.region, index);
        let runs = &mut replication.runs;
        let now = now.as_nanos();
        let mut applied = Applied::default();
        let mut seq = from_seq_excluded;
        let mut refusal = None;
        for record in rows {
            if seq == through_seq {
                refusal = Some(invalid(seq - from_seq_excluded + 1));
                break;
            }
            let (key, tat, debt) = match self.state_of(&record, now) {
                Ok(state) => state,
                Err(error) => {
                    refusal = Some(error);
                    break;
                }
            };
            if seq == from_seq_excluded {
                // Not before: a batch that is refused as a whole must not change how those that follow are counted.
                runs.begin(origin, covered, from_seq_excluded, self.origins.len());
            }
            seq += 1;
            let outcome = match runs.due(origin, covered, seq) {
                Due::Nothing => Outcome::Superseded,
                Due::Add => self.apply(&key, now, |view| view.add(now, tat, debt)),
                Due::AddAndMerge => self.apply(&key, now, |view| view.add(now, tat, debt).merge(now, tat)),
                Due::Merge => self.apply(&key, now, |view| view.merge(now, tat)),
            };
            applied.add(&outcome);
            if applied.refused > 0 {
                seq -= 1;
                break;
            }
        }
        if from_seq_excluded <= covered {
            let through = runs.cover(origin, seq.max(covered));
            self.origins.advance(&self.region, index, through);
        }
        let applied = self.tally(applied);
        match refusal {
            Some(error) => Err(error),
            None if seq < through_seq && applied.refused == 0 => Err(invalid(seq - from_seq_excluded)),
            None => Ok(applied),
        }
    }

    fn apply_states(&self, now: Time, rows: &mut dyn Iterator<Item = Record<'_>>) -> Result<Applied, Error> {
        self.check_owner()?;
        let _replication = self.replication.lock();
        let _change = self.region.begin();
        let now = now.as_nanos();
        let mut applied = Applied::default();
        for record in rows {
            let (key, tat, _) = self.state_of(&record, now)?;
            applied.add(&self.apply(&key, now, |view| view.merge(now, tat)));
        }
        Ok(self.tally(applied))
    }

    fn cover(&self, vector: &VersionVector) {
        if self.region.sharing().is_guest() {
            return;
        }
        let mut replication = self.replication.lock();
        for (origin, through_seq) in vector.iter().filter(|&(origin, _)| origin != self.origin) {
            // An origin that finds no room stays unknown: what comes of it will be sent again.
            let Ok(index) = self.enter(origin) else { continue };
            let through = replication.runs.cover(origin, through_seq.min(MAX_SEQ));
            self.origins.advance(&self.region, index, through);
        }
    }

    fn uncover(&self, origin: Origin, through_seq: u64) {
        if self.region.sharing().is_guest() || origin == self.origin {
            return;
        }
        let _replication = self.replication.lock();
        if let Some(index) = self.origins.find(&self.region, origin) {
            self.origins.recede(&self.region, index, through_seq);
        }
    }

    fn adopt(&self, _except: &[Origin]) -> bool {
        false
    }

    fn vector(&self) -> VersionVector {
        let _replication = self.replication.lock();
        self.origins.vector(&self.region)
    }

    /// Dirty entries are included: their arrival time is sent without the debt, and the debt follows in the stream. Rows that hold
    /// only others' work have a dot of sequence 0.
    fn scan(
        &self,
        now: Time,
        origins: &[Origin],
        known: &VersionVector,
        cursor: Cursor,
        f: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Option<Cursor> {
        let own_known = origins.contains(&self.origin).then(|| known.get(self.origin));
        let foreign_wanted = origins.iter().any(|&origin| origin != self.origin);
        let slots = self.slots();
        let bound = cursor.bound(slots);
        for slot in cursor.slot()..bound {
            let entry = self.entry(slot);
            let seq = entry.seq();
            let own_wanted = own_known.is_some_and(|known| seq > known);
            let foreign_wanted = foreign_wanted && entry.is_foreign();
            if !own_wanted && !foreign_wanted {
                continue;
            }
            let Some(snapshot) = Snapshot::of(entry) else { continue };
            let tat_ns = snapshot.published_tat();
            if tat_ns <= now.as_nanos() {
                continue;
            }
            let dot = Dot { origin: self.origin, seq: if own_wanted { seq } else { 0 } };
            let mut wire = [0; WIRE_MAX];
            let state = State::Limit { tat_ns, debt_ns: 0 };
            if !f(&Record { key: snapshot.key.to_wire(&mut wire), dot, state }) {
                return Some(Cursor::at(slot));
            }
        }
        (bound < slots).then(|| Cursor::at(bound))
    }

    fn digest(&self, now: Time) -> u64 {
        (0..self.slots())
            .filter_map(|slot| Snapshot::of(self.entry(slot)))
            .filter(|snapshot| snapshot.tat > now.as_nanos())
            .map(|Snapshot { key, tat, .. }| {
                let mut hasher = blake3::Hasher::new();
                hasher.update(key.to_wire(&mut [0; WIRE_MAX])).update(&tat.to_le_bytes());
                let mut digest = [0; 8];
                hasher.finalize_xof().fill(&mut digest);
                u64::from_le_bytes(digest)
            })
            .fold(0, u64::wrapping_add)
    }

    fn sweep_part(&self, now: Time, budget: usize, part: usize, parts: usize) -> usize {
        if self.region.sharing().is_guest() {
            return 0;
        }
        if part == 0 {
            self.look_after_guests();
        }
        self.sweep_idle(now.as_nanos(), budget.min(self.slots()).div_ceil(parts.max(1)))
    }

    fn stats(&self) -> ZoneStats {
        let records = self.records();
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ZoneStats {
            records,
            tombstones: 0,
            size_bytes: self.region.size(),
            used_bytes: self.used_bytes(records),
            evicted: get(&self.tally.evicted),
            refused: get(&self.tally.refused),
            expired: get(&self.tally.expired),
            applied: get(&self.tally.applied),
            superseded: get(&self.tally.superseded),
        }
    }

    /// A mark and a digest: longer keys than 16 bytes are accepted, and travel so.
    fn max_record(&self) -> usize {
        WIRE_MAX
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
