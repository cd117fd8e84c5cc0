//! Writing: replace a record by one compare-and-swap, insert a new one in two steps.
//!
//! **Inserting without a latch.** The empty slot that a new key takes is chosen by what the inserting thread happens to see, so two threads may
//! choose two slots for one key. Hence:
//!
//! 1. Put the record into an empty slot as *pending*. Readers pass by pending slots.
//! 2. *Second look*, behind a sequentially consistent fence: read all slots where the key may lie. A live copy: abort the pending
//!    one. A pending copy at a higher position: abort that. A pending copy at a lower position: abort our own, then take the second look for that
//!    one, from the start; anybody may finish anybody's insert.
//! 3. Found alone: make it live. If that fails, somebody finished or aborted it.
//!
//! Why at most one copy becomes live: take two that did, A and B, and the looks that promoted them. Both begin with a fence, and one of the fences
//! is first in the single order of all of them, say A's. A was pending before its look began, so B's look, behind the later fence, finds A in its
//! slot: live (then it aborts B), pending and lower (then it does not promote B), or pending and higher (then it aborts A, or fails to because A
//! has just become live, reads again, and aborts B).
//!
//! Why somebody always finishes: a look only ever moves to a lower position, of which there are two dozen. A thread that dies in between leaves a pending
//! slot, which the next insert of that key or the sweeper finishes.
//!
//! Why every thread knows how its own insert ended: an aborted slot stays *aborted*, with its record, until its inserter empties it. So who finds
//! his slot in any other state knows that the insert was finished, whatever has become of the record since. Were the slot emptied at once, it could be in use
//! again when he looks, and he would have to guess: to take an insert that was aborted for done loses a write, and to
//! repeat one that was done and has been removed since brings back what was deleted. A thread that is stopped for ever may cost a slot and a block.

use crate::Error;
use crate::block::{Draft, Head, Header, units_needed};
use crate::blocks::Owned;
use crate::counters::Counter;
use crate::slot::{Slot, SlotState};
use crate::time::Time;
use crate::words::{Ordering, fence};

use super::read::is_whole;
use super::{Found, Table};

/// The value of a record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Put<'a> {
    /// This one.
    New(&'a [u8]),
    /// That of the record it replaces.
    Kept,
}

/// What to do about the record that was found, or found missing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Write this.
    Write(Header),
    /// Leave everything as it is.
    Stop,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Written {
    /// There was no record of the key; now there is, in this slot.
    Inserted(usize),
    /// This record was replaced.
    Replaced(Found),
    /// Nothing, as decided about this record.
    Stopped(Option<Found>),
}

/// What is done for several writes at once: a block for a new record was taken before it is needed, and what inserts add to the figures is counted when all are through.
/// Belongs to one change of the region; to be [put down](Table::put_down) within it.
#[derive(Debug, Default)]
pub(super) struct Hand {
    pub(super) block: Option<Owned>,
    records: i64,
    tombstones: i64,
    units: i64,
}

/// How an insert ended.
enum Insertion {
    Live(usize),
    /// Not inserted; what is there now has to be read again.
    Lost,
}

/// What a second look found of the same key.
enum Look {
    Alone,
    Taken,
    Lower(usize, Slot),
}

impl Table {
    /// Writes a record as `decide` says, given the one that is there, whatever its state, and marks it to be published. `decide` is asked again, and must
    /// answer with a new stamp, whenever somebody else was quicker.
    #[inline]
    pub(crate) fn write(
        &self,
        now: Time,
        key: &[u8],
        value: Put<'_>,
        decide: impl FnMut(Option<&Found>) -> Step,
    ) -> Result<Written, Error> {
        let _change = self.region.begin();
        let written = self.upsert(now, key, self.hash(key), value, decide)?;
        match &written {
            Written::Inserted(at) => self.mark(*at),
            Written::Replaced(found) => self.mark(found.at),
            Written::Stopped(_) => {}
        }
        Ok(written)
    }

    /// Writes a record whatever is there, like [`Self::write`], if that is one of as many units, where it is expected; what nearly every update finds. `false`: it
    /// is another case, and nothing has happened.
    ///
    /// There are two cache misses that depend on each other, bucket and old record. Each is asked for as soon as it is known and looked at as late as can be, with work between that
    /// does not depend on it, a block taken behind the one and filled behind the other: so what is left behind the second is little enough for the processor to begin the next
    /// operation meanwhile.
    #[inline(always)]
    pub(crate) fn overwrite(&self, now: Time, key: &[u8], value: &[u8], time_ms: u64) -> bool {
        let _change = self.region.begin();
        let hash = self.hash(key);
        self.parts.index.prefetch_first(&self.region, hash);
        let units = units_needed(key.len(), value.len(), time_ms != 0);
        let Some((cell, block)) = self.parts.blocks.at_hand(&self.region, units) else { return false };
        let Some(glimpse) = self.glance_twice(hash) else {
            self.parts.blocks.free_into(&self.region, cell, block);
            return false;
        };
        let (at, slot) = (glimpse.at, glimpse.slot);
        let old = self.parts.blocks.at(&self.region, slot.unit());
        old.prefetch_head();
        let new = self.parts.blocks.at(&self.region, block.unit);
        new.fill_body(key, value, time_ms);
        let (head, stamp) = (old.head(), old.stamp());
        let shape = Head::live(key, value, time_ms);
        if (head.is_shaped_like(shape) || head.is_live_of(shape, units))
            && old.has_key(shape, key)
            && is_whole(&glimpse, old, stamp)
        {
            // As `Self::header` has it.
            let header = self.header_with(stamp.next_even(now), false, time_ms);
            new.fill_head(&Draft { key, value, header });
            if glimpse.change(slot.replaced(block.unit)) {
                let old = self.parts.blocks.owned(slot.unit(), units);
                self.parts.blocks.free_into(&self.region, cell, old);
                self.mark(at);
                return true;
            }
        }
        self.parts.blocks.free_into(&self.region, cell, block);
        false
    }

    /// Writes a record as `decide` says, and marks nothing.
    #[inline]
    pub(super) fn upsert(
        &self,
        now: Time,
        key: &[u8],
        hash: u64,
        value: Put<'_>,
        decide: impl FnMut(Option<&Found>) -> Step,
    ) -> Result<Written, Error> {
        let mut hand = Hand::default();
        let written = self.upsert_by(&mut hand, now, key, hash, value, decide);
        self.put_down(&mut hand);
        written
    }

    /// The same, one of several.
    #[inline]
    pub(super) fn upsert_by(
        &self,
        hand: &mut Hand,
        now: Time,
        key: &[u8],
        hash: u64,
        value: Put<'_>,
        mut decide: impl FnMut(Option<&Found>) -> Step,
    ) -> Result<Written, Error> {
        let mut kept = Vec::new();
        loop {
            let found = match value {
                Put::New(_) => self.find_meta(key, hash),
                Put::Kept => self.find(key, hash, Some(&mut kept)),
            };
            let Step::Write(header) = decide(found.as_ref()) else {
                return Ok(Written::Stopped(found));
            };
            let value = match value {
                _ if header.removed => &[],
                Put::New(value) => value,
                Put::Kept => kept.as_slice(),
            };
            let draft = Draft { key, value, header };
            let Some(found) = found else {
                match self.insert(hand, now, hash, &draft)? {
                    Insertion::Live(at) => return Ok(Written::Inserted(at)),
                    Insertion::Lost => continue,
                }
            };
            if self.replace(now, &found, &draft)? {
                return Ok(Written::Replaced(found));
            }
        }
    }

    /// Replaces a record; false if it is not there any more. When there is no free block the reserve comes before making room: a zone that is
    /// full of live records would be searched for expired ones at every replacement.
    #[inline]
    pub(super) fn replace(&self, now: Time, found: &Found, draft: &Draft<'_>) -> Result<bool, Error> {
        if let Some(replaced) = self.replace_within(found, draft) {
            return Ok(replaced);
        }
        let block = self.make_room(now, draft.units()).ok_or_else(|| self.full(draft.key, draft.value))?;
        Ok(self.replace_by(found, draft, block))
    }

    /// Replaces a record without making room for it; `None` if there is none.
    #[inline]
    pub(crate) fn replace_within(&self, found: &Found, draft: &Draft<'_>) -> Option<bool> {
        let units = draft.units();
        match self.take(units) {
            Some(block) => Some(self.replace_by(found, draft, block)),
            None => {
                let reserve = self.take_reserve(found, units)?;
                Some(self.replace_by_reserve(found, draft, reserve))
            }
        }
    }

    #[inline]
    fn replace_by(&self, found: &Found, draft: &Draft<'_>, block: Owned) -> bool {
        self.fill(&block, draft);
        let replaced = self.swap(found, &block, draft);
        let is_replaced = replaced.is_some();
        self.free(replaced.map_or(block, |(_, old)| old));
        is_replaced
    }

    /// A block of the reserve to replace a record by way of it, if the new record is no larger than the old one, as a tombstone always is.
    fn take_reserve(&self, found: &Found, units: u32) -> Option<Owned> {
        let fits = units <= found.meta.head.units();
        fits.then(|| self.parts.blocks.take_reserve(&self.region, units))?
    }

    /// Replaces a record in a zone without a free block: by way of a block of the reserve into the block that becomes free.
    fn replace_by_reserve(&self, found: &Found, draft: &Draft<'_>, reserve: Owned) -> bool {
        self.fill(&reserve, draft);
        let Some((slot, mut old)) = self.swap(found, &reserve, draft) else {
            self.free(reserve);
            return false;
        };
        self.parts.blocks.shorten(&self.region, &mut old, draft.units());
        self.fill(&old, draft);
        if self.parts.index.change(&self.region, found.at, slot, slot.replaced(old.unit)) {
            self.free(reserve);
        } else {
            // Somebody else has replaced the record meanwhile, and has given back the reserve's block.
            self.free(old);
        }
        true
    }

    /// Points the slot of a record to another block; answers the new slot and the old block, which is the caller's now, or `None` if the
    /// record is not there any more.
    #[inline]
    fn swap(&self, found: &Found, block: &Owned, draft: &Draft<'_>) -> Option<(Slot, Owned)> {
        let (was, is) = (found.meta.head.removed(), draft.header.removed);
        let (old_units, units) = (found.meta.head.units(), draft.units());
        let slot = found.slot.replaced(block.unit);
        let change = || self.parts.index.change(&self.region, found.at, found.slot, slot);
        let swapped =
            if (was, old_units) == (is, units) { change() } else { self.swap_counted(found, draft, change) };
        swapped.then(|| (slot, self.parts.blocks.owned(found.slot.unit(), old_units)))
    }

    /// Changes the slot of a record, and counts what that changes about the figures.
    #[cold]
    fn swap_counted(&self, found: &Found, draft: &Draft<'_>, change: impl FnOnce() -> bool) -> bool {
        let (was, is) = (found.meta.head.removed(), draft.header.removed);
        if was && !is {
            self.count_length(draft.key, 1);
        }
        let swapped = change();
        if is != was && is == swapped {
            self.count_length(draft.key, -1); // either a tombstone came, or no record did
        }
        if swapped {
            self.tally(was, found.meta.head.units(), -1);
            self.tally(is, draft.units(), 1);
        }
        swapped
    }

    /// Gives back the block that was not needed, and counts.
    #[inline]
    pub(super) fn put_down(&self, hand: &mut Hand) {
        let Hand { block, records, tombstones, units } = std::mem::take(hand);
        if let Some(block) = block {
            self.free(block);
        }
        for (counter, count) in
            [(Counter::Records, records), (Counter::Tombstones, tombstones), (Counter::Units, units)]
        {
            if count != 0 {
                self.count(counter, count);
            }
        }
    }

    /// Inserts a record of a key that was not found.
    fn insert(&self, hand: &mut Hand, now: Time, hash: u64, draft: &Draft<'_>) -> Result<Insertion, Error> {
        let units = draft.units();
        let block = match hand.block.take_if(|block| block.units == units) {
            Some(block) => Some(block),
            None => self.take(units).or_else(|| self.make_room(now, units)),
        };
        let block = block.ok_or_else(|| self.full(draft.key, draft.value))?;
        self.fill(&block, draft);
        let candidates = self.parts.index.candidates(hash);
        let count_length = |count| {
            if !draft.header.removed {
                self.count_length(draft.key, count);
            }
        };
        let (at, pending) = loop {
            let Some((at, empty)) = self.parts.index.vacancy(&self.region, candidates) else {
                if self.empty_one_of(now, candidates) {
                    continue;
                }
                self.free(block);
                return Err(self.full(draft.key, draft.value));
            };
            let pending = empty.pending(Slot::tag_of(hash), block.unit);
            count_length(1);
            if self.parts.index.claim(&self.region, at, empty, pending) {
                break (at, pending);
            }
            count_length(-1);
        };
        self.settle(draft.key, hash, at, pending, true);
        let aborted = pending.aborted();
        if self.parts.index.load(&self.region, at) != aborted {
            *if draft.header.removed { &mut hand.tombstones } else { &mut hand.records } += 1;
            hand.units += i64::from(units);
            return Ok(Insertion::Live(at));
        }
        // Nobody else touches an aborted slot.
        self.parts.index.empty(&self.region, at, aborted);
        count_length(-1);
        self.free(block);
        Ok(Insertion::Lost)
    }

    /// Decides whether a pending slot becomes live.
    fn settle(&self, key: &[u8], hash: u64, mut at: usize, mut pending: Slot, mut is_own: bool) {
        loop {
            match self.second_look(key, hash, at) {
                Look::Alone => {
                    let promoted = self.parts.index.change(&self.region, at, pending, pending.promoted());
                    if promoted && !is_own {
                        // He may be gone and never mark it. If it is a row of a peer, marking does no harm.
                        self.mark(at);
                    }
                    return;
                }
                Look::Taken => {
                    self.abort(at, pending);
                    return;
                }
                Look::Lower(lower, slot) => {
                    self.abort(at, pending);
                    (at, pending, is_own) = (lower, slot, false);
                }
            }
        }
    }

    /// Looks for other copies of the key than the one at `own`.
    fn second_look(&self, key: &[u8], hash: u64, own: usize) -> Look {
        let tag = Slot::tag_of(hash);
        // Between the publication of the pending slot (seen or done by this thread) and the loads below; pairs with itself in other
        // threads, see the module's head.
        fence(Ordering::SeqCst);
        // Use of an overflow bucket is counted before a slot there is taken: who takes one after that was looked at looks behind his own fence, and finds `own`.
        for bucket in self.parts.index.buckets_in_use(&self.region, hash) {
            // Neither an empty slot nor an aborted one has the tag of a key.
            let mut tagged = self.parts.index.tagged_in(&self.region, bucket, tag);
            while tagged != 0 {
                let at = bucket + tagged.trailing_zeros() as usize;
                tagged &= tagged - 1;
                if at == own {
                    continue;
                }
                loop {
                    let slot = self.parts.index.load(&self.region, at);
                    if slot.tag() != tag {
                        break;
                    }
                    match self.read(at, slot, |block, head| block.has_key(head, key)) {
                        None => continue, // changed: look again
                        Some(false) => break,
                        Some(true) => {}
                    }
                    match slot.state() {
                        SlotState::Live => return Look::Taken,
                        SlotState::Pending if at < own => return Look::Lower(at, slot),
                        // Done or not, the slot has changed: look again.
                        SlotState::Pending => self.abort(at, slot),
                        SlotState::Empty | SlotState::Aborted => break,
                    }
                }
            }
        }
        Look::Alone
    }

    /// Aborts an insert, unless it has been decided about.
    fn abort(&self, at: usize, pending: Slot) {
        self.parts.index.change(&self.region, at, pending, pending.aborted());
    }

    /// Finishes an insert that may have been abandoned.
    pub(super) fn finish_pending(&self, at: usize) {
        let slot = self.parts.index.load(&self.region, at);
        if slot.state() != SlotState::Pending {
            return;
        }
        let mut key = Vec::new();
        if self.read(at, slot, |block, head| block.copy_key(head, &mut key)).is_some() {
            self.settle(&key, self.hash(&key), at, slot, false);
        }
    }

    /// Empties a slot if it is still as it was seen; answers the block, which is the caller's now.
    pub(super) fn unlink(&self, at: usize, seen: Slot) -> Option<Owned> {
        let (meta, lead) =
            self.read(at, seen, |block, head| (block.meta(head, block.stamp()), block.lead(head)))?;
        // Before the slot is seen empty.
        self.see(meta.stamp);
        if !self.parts.index.empty(&self.region, at, seen) {
            return None;
        }
        let units = meta.head.units();
        self.tally(meta.head.removed(), units, -1);
        if !meta.head.removed() {
            self.parts.lengths.add(&self.region, meta.head.key_len(), lead, -1);
        }
        Some(self.parts.blocks.owned(seen.unit(), units))
    }

    fn count_length(&self, key: &[u8], count: i64) {
        if let Some(&lead) = key.first() {
            self.parts.lengths.add(&self.region, key.len(), lead, count);
        }
    }

    #[inline]
    fn fill(&self, block: &Owned, draft: &Draft<'_>) {
        self.parts.blocks.at(&self.region, block.unit).fill(draft);
    }

    #[inline]
    pub(super) fn free(&self, block: Owned) {
        self.parts.blocks.free(&self.region, block);
    }
}
