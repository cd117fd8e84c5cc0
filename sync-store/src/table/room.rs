//! Making room, by request when there is none and by the sweeper before.
//!
//! A keyval zone gives up expired records, those that peers are still to be told of a minute later, and tombstones whose time is over, nothing else. A sticky zone evicts: the least recently
//! accessed of a few records sampled at random, expired ones first, tombstones never (a removal that is forgotten too early comes back), and records
//! that were not published yet only if there is no other. Eviction is local and leaves no tombstone.

use crate::blocks::Owned;
use crate::counters::Counter;
use crate::index::Candidates;
use crate::time::Time;
use crate::{Origin, Stamp, ZoneKind};

use super::{Found, Table};

/// Records compared before one is evicted. Eight keep what the best choice would keep to within a few percent.
const SAMPLE: usize = 8;
/// Slots looked at for one sample: bounded, whatever the zone holds.
const SAMPLE_STEPS: usize = 1024;
/// Slots searched for something expired before a write is refused: all of a small zone, and forty microseconds. The next search goes on behind.
const RECLAIM_STEPS: usize = 1024;
/// Victims for one new record, before giving up.
const VICTIMS: usize = 8;
/// Slots that one sweep visits at least, if there are so many. Of larger zones it visits one in 64, so that a sweep a few times a second
/// has seen all of them within half a minute.
const SWEEP: usize = 4096;
/// Slots of a sweep whose records are asked for before they are looked at: half of them have one at most, which makes as many cache misses as a processor has
/// under way at a time.
const SLOTS_AHEAD: usize = 32;

/// For how long after it has expired a record that is still to be published is kept in a full zone: longer than an owner of shared memory takes to start again.
const UNHEARD_MS: u64 = 60_000;

/// How gladly a record is given up; the smallest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Spent,
    Published { time_ms: u64 },
    Dirty { time_ms: u64 },
}

impl Table {
    /// A block of `units` units that is free; `None` if none was found.
    #[inline]
    pub(super) fn take(&self, units: u32) -> Option<Owned> {
        match self.parts.blocks.at_hand(&self.region, units) {
            Some((_, block)) => Some(block),
            None => self.look_for(units),
        }
    }

    #[cold]
    fn look_for(&self, units: u32) -> Option<Owned> {
        let taken = self.parts.counters.get(&self.region, Counter::Units);
        // Saves the search in a zone that is full to the brim.
        let left = self.parts.blocks.capacity_units().saturating_sub(taken);
        (left >= u64::from(units)).then(|| self.parts.blocks.take(&self.region, units))?
    }

    /// Whether more than an eighth of the memory is left.
    pub(super) fn has_plenty(&self) -> bool {
        let capacity = self.parts.blocks.capacity_units();
        self.parts.counters.get(&self.region, Counter::Units) < capacity - capacity / 8
    }

    /// A block of `units` units by giving up records; `None` if the zone is full.
    pub(super) fn make_room(&self, now: Time, units: u32) -> Option<Owned> {
        let given_up = match u64::from(units) {
            // An empty zone has no room for it: all that could be given up would be, in vain.
            units if units > self.parts.blocks.capacity_units() => None,
            _ if self.is_sticky() => self.evict(now, units),
            _ => self.reclaim(now, units),
        };
        given_up.or_else(|| self.parts.blocks.take_thoroughly(&self.region, units))
    }

    /// Forgets a record that is still as it was written by `writer` at `stamp`, and leaves no tombstone. Answers whether it was there.
    pub(crate) fn forget(&self, key: &[u8], stamp: Stamp, writer: Origin) -> bool {
        if self.region.sharing().is_guest() {
            return false;
        }
        // No origin leaves the table while we hold the lock.
        let _turn = self.replication.lock();
        let _change = self.region.begin();
        let Some(found) = self.find_meta(key, self.hash(key)) else { return false };
        let header = found.header();
        let is_same =
            header.stamp == stamp && self.parts.origins.get(&self.region, header.writer) == Some(writer);
        let forgotten = is_same.then(|| self.unlink(found.at, found.slot)).flatten();
        forgotten.map(|block| self.free(block)).is_some()
    }

    /// Empties one of the slots where a new key may lie; false if all have to stay.
    pub(super) fn empty_one_of(&self, now: Time, candidates: Candidates) -> bool {
        // Several attempts: each failure means that somebody else changed the victim.
        for _ in 0..VICTIMS {
            let found = candidates.slots().filter_map(|at| self.meta_at(at));
            let Some((rank, victim)) = self.least(now, found, usize::MAX) else {
                return false;
            };
            if let Some(block) = self.give_up(rank, &victim) {
                self.free(block);
                return true;
            }
        }
        false
    }

    /// Frees what is over, from where the last call ended, at most the part's share of `budget` records. Answers how many it freed.
    pub(crate) fn sweep_part(&self, now: Time, budget: usize, part: usize, parts: usize) -> usize {
        if self.region.sharing().is_guest() {
            return 0;
        }
        if part == 0 {
            self.look_after_guests(now);
        }
        let _change = self.region.begin();
        let slots = self.slots();
        let start = self.parts.counters.get(&self.region, Counter::SweepHand) as usize % slots;
        let visit = (slots / 64).max(SWEEP).min(slots).div_ceil(parts.max(1));
        let budget = budget.div_ceil(parts.max(1));
        let crowded = self.is_crowded();
        let mut freed = 0;
        let mut visited = 0;
        while visited < visit && freed < budget {
            let at = (start + visited) % slots;
            if visited.is_multiple_of(SLOTS_AHEAD) {
                let ahead = visited..visit.min(visited + SLOTS_AHEAD);
                for at in ahead.map(|ahead| (start + ahead) % slots) {
                    self.prefetch_block(self.parts.index.load(&self.region, at));
                }
            }
            visited += 1;
            let Some(found) = self.meta_at(at) else {
                self.finish_pending(at);
                continue;
            };
            if self.is_sweepable(&found, now, crowded)
                && let Some(block) = self.give_up(Rank::Spent, &found)
            {
                self.free(block);
                freed += 1;
            }
        }
        self.parts.counters.set(&self.region, Counter::SweepHand, ((start + visited) % slots) as u64);
        freed
    }

    /// Whether less than a quarter of the memory or three eighths of the slots are left.
    fn is_crowded(&self) -> bool {
        let get = |counter| self.parts.counters.get(&self.region, counter);
        let slots_taken = get(Counter::Records) + get(Counter::Tombstones);
        get(Counter::Units) * 4 > self.parts.blocks.capacity_units() * 3
            || slots_taken * 8 > self.slots() as u64 * 5
    }

    /// Whether the sweeper frees a record.
    ///
    /// An expired keyval record has a second job: like a tombstone it keeps an older write that is still under way from coming back to life. While there is
    /// room it stays for as long as a tombstone of that stamp would. (A session needs no such thing: an older record of it has an older last
    /// access, and is expired when it comes.)
    fn is_sweepable(&self, found: &Found, now: Time, crowded: bool) -> bool {
        self.is_spent(found, now) && (self.is_sticky() || crowded || self.is_retained_no_more(found, now))
    }

    /// Whether a tombstone of the record's stamp has been kept for long enough.
    fn is_retained_no_more(&self, found: &Found, now: Time) -> bool {
        let stamp_ms = found.header().stamp.millis();
        stamp_ms.saturating_add(self.settings.retention_ms) <= now.as_millis()
    }

    /// Whether a record can go when room is needed: expired, or a tombstone that was kept for long enough.
    fn is_spent(&self, found: &Found, now: Time) -> bool {
        let header = &found.header();
        if header.removed {
            self.is_retained_no_more(found, now)
        } else {
            self.is_expired(header, now) && !self.is_unheard(found, now)
        }
    }

    /// Whether peers are still to be told of an expired keyval record. One that it took the place of may live longer, and they would keep that. In a zone that nobody
    /// publishes all records are dirty for ever. Not seen is what a publisher has in hand in this moment, and what a stopped writer has changed and not marked.
    fn is_unheard(&self, found: &Found, now: Time) -> bool {
        !self.is_sticky()
            && found.header().time_ms.saturating_add(UNHEARD_MS) > now.as_millis()
            && self.parts.dirty.is_marked(&self.region, found.at)
            && self.parts.origins.is_any_known(&self.region)
    }

    fn rank(&self, found: &Found, now: Time) -> Option<Rank> {
        if self.is_spent(found, now) {
            return Some(Rank::Spent);
        }
        if self.settings.kind == ZoneKind::Keyval || found.header().removed {
            return None;
        }
        let time_ms = found.header().time_ms;
        let dirty = self.parts.dirty.is_marked(&self.region, found.at);
        Some(if dirty { Rank::Dirty { time_ms } } else { Rank::Published { time_ms } })
    }

    /// The one to give up first, of at most `sample` that can be given up.
    fn least(&self, now: Time, found: impl Iterator<Item = Found>, sample: usize) -> Option<(Rank, Found)> {
        found
            .filter_map(|found| Some((self.rank(&found, now)?, found)))
            .take(sample)
            .min_by_key(|(rank, _)| *rank)
    }

    /// Unlinks a record that was chosen; answers its block, or `None` if it has changed.
    fn give_up(&self, rank: Rank, victim: &Found) -> Option<Owned> {
        let block = self.unlink(victim.at, victim.slot)?;
        match rank {
            Rank::Spent if victim.header().removed => {}
            Rank::Spent => _ = self.count(Counter::Expired, 1),
            Rank::Published { .. } | Rank::Dirty { .. } => _ = self.count(Counter::Evicted, 1),
        }
        Some(block)
    }

    /// Keyval: frees expired records from where the last search ended, until one has given its block for `units`.
    fn reclaim(&self, now: Time, units: u32) -> Option<Owned> {
        let steps = self.slots().min(RECLAIM_STEPS);
        let start = self.count(Counter::VictimHand, steps as i64) as usize;
        for at in 0..steps {
            let Some(found) = self.meta_at((start + at) % self.slots()) else { continue };
            if !self.is_spent(&found, now) {
                continue;
            }
            let Some(mut block) = self.give_up(Rank::Spent, &found) else { continue };
            if self.parts.blocks.fit(&self.region, &mut block, units) {
                return Some(block);
            }
            self.free(block);
        }
        None
    }

    /// Sticky: evicts until there is a block of `units`.
    fn evict(&self, now: Time, units: u32) -> Option<Owned> {
        for _ in 0..VICTIMS {
            // Places that follow the golden ratio: never the same neighbourhood twice in a row.
            let turn = self.count(Counter::VictimHand, 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let start = ((u128::from(turn) * self.slots() as u128) >> 64) as usize;
            let steps = self.slots().min(SAMPLE_STEPS);
            let found = (0..steps).filter_map(|at| self.meta_at((start + at) % self.slots()));
            let (rank, victim) = self.least(now, found, SAMPLE)?;
            if let Some(block) = self.give_up(rank, &victim)
                && let Some(block) = self.grow(now, block, units)
            {
                return Some(block);
            }
        }
        None
    }

    /// Makes the block of a victim large enough, if need be by evicting its neighbours too: where a block ends, free memory or
    /// another block begins.
    fn grow(&self, now: Time, mut block: Owned, units: u32) -> Option<Owned> {
        while !self.parts.blocks.fit(&self.region, &mut block, units) {
            let neighbour = self.parts.blocks.unit_behind(&block).and_then(|unit| self.record_at(unit));
            let taken = neighbour.and_then(|found| self.give_up(self.rank(&found, now)?, &found));
            let Some(taken) = taken else {
                self.free(block);
                return None;
            };
            block.units += taken.units;
        }
        Some(block)
    }

    /// The record whose block begins at `unit`, if one does.
    fn record_at(&self, unit: u32) -> Option<Found> {
        let block = self.parts.blocks.at(&self.region, unit);
        let mut key = Vec::new();
        block.copy_key(block.head(), &mut key);
        // Whatever those bytes were: if they are a key whose record lies in that block, it is the one.
        self.find_meta(&key, self.hash(&key)).filter(|found| found.slot.unit() == unit)
    }
}
