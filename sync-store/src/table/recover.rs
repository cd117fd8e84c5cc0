//! Putting right what a killed process has left in a region that several share. Only the owner does, and only in quiet moments, see
//! [`crate::sharing`].
//!
//! A process that is killed between two steps of a write can leave: a pending slot, which anybody finishes; a block that nothing refers to; figures that are off
//! by one; and a record that was changed and not marked dirty, which would never be published. Of the last, the *checkpoint* says which records
//! to look at: at that time, by the clock of the writers' stamps, no write was unfinished.

use crate::counters::Counter;
use crate::origins::PackedDot;
use crate::sharing::Dead;
use crate::slot::{Slot, SlotState};
use crate::time::Time;
use crate::words::Ordering;
use crate::{Error, Origin};

use super::{Found, Table};

/// How far behind the present the time that callers pass in may be, in milliseconds: records this much older than the checkpoint are marked, too.
const LATE_MS: u64 = 60_000;

/// What was found wrong in a quiet moment.
#[derive(Debug)]
pub(super) struct Audit {
    /// Slots of inserts that were aborted and that nobody waits for.
    pub(super) aborted: Vec<(usize, Slot)>,
    /// Units that are taken and belong to nothing.
    pub(super) leaked: Vec<u32>,
    /// Blocks of the reserve that are taken and belong to nothing, as bits.
    pub(super) leaked_reserve: u64,
    /// What to add to figures.
    pub(super) corrections: Vec<(Counter, i64)>,
    pub(super) lengths: Vec<i64>,
    pub(super) overflow: i64,
}

impl Table {
    /// Takes over the region that another process, or an earlier run of this one, has left: under a new origin, since what that one had told others is not
    /// known for sure. What it had not published is published as ours.
    pub(super) fn reopen(&self, origin: Origin) -> Result<(), Error> {
        let _turn = self.replication.lock();
        let own = self.enter_origin(origin)?;
        self.parts.origins.set_own(&self.region, own);
        self.mark_unmarked();
        for at in self.parts.dirty.in_hand(&self.region) {
            if at < self.slots() && self.meta_at(at).is_some_and(|found| self.has_news(&found)) {
                self.mark(at);
            }
        }
        // What is marked already may be so without a call.
        self.parts.dirty.call_for_marks(&self.region);
        let dead = self.region.dead_guests();
        self.leaks.suspect();
        self.look_for_leaks(&dead);
        self.region.bury(dead);
        Ok(())
    }

    /// Owner: puts right what guests that were killed have left, and moves the checkpoint.
    pub(super) fn look_after_guests(&self, now: Time) {
        if !self.region.sharing().is_owner() {
            return;
        }
        // Two threads that give back the same memory would give away what somebody has taken in between.
        let Some(_turn) = self.recovery.try_lock() else { return };
        let dead = self.region.dead_guests();
        if !dead.is_empty() {
            self.mark_unmarked();
            self.parts.dirty.call_for_marks(&self.region);
            self.leaks.suspect();
        }
        self.look_for_leaks(&dead);
        self.region.bury(dead);
        if self.region.in_quiet(&[], || ()).is_some() {
            self.region.checkpoint().store(now.as_millis(), Ordering::Relaxed);
            if !self.is_settled.load(Ordering::Relaxed)
                && let Some(_turn) = self.replication.try_lock()
            {
                self.parts.origins.settle(&self.region);
                self.is_settled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Finishes inserts that were begun, and marks what a dead process may have changed without marking it.
    fn mark_unmarked(&self) {
        let since_ms = self.region.checkpoint().load(Ordering::Relaxed).saturating_sub(LATE_MS);
        for at in 0..self.slots() {
            self.finish_pending(at);
            if self.meta_at(at).is_some_and(|found| self.may_be_unmarked(&found, since_ms)) {
                self.mark(at);
            }
        }
    }

    /// Whether a record was written or accessed by a process of ours at this time or later, so that it may not be marked.
    fn may_be_unmarked(&self, found: &Found, since_ms: u64) -> bool {
        let header = found.header();
        let is_written = header.stamp.millis() >= since_ms;
        // An access keeps the stamp. It is published if it is an eighth of the time-out later than what was, which is more than a tenth of `idle_ms`.
        let lag_ms = u64::from(header.lag).saturating_mul(self.settings.lag_unit_ms);
        let is_accessed =
            self.is_sticky() && header.time_ms >= since_ms && lag_ms >= self.settings.idle_ms / 10;
        is_written && self.parts.origins.is_ours(&self.region, header.writer) || is_accessed
    }

    fn look_for_leaks(&self, dead: &[Dead]) {
        if self.leaks.is_due()
            && let Some(audit) = self.region.in_quiet(dead, || self.audit())
        {
            self.correct(&audit);
            self.leaks.settle();
        }
    }

    /// Compares everything that is counted or taken with what the slots say.
    pub(super) fn audit(&self) -> Audit {
        let mut held = self.parts.blocks.in_cells(&self.region);
        let [mut records, mut tombstones, mut units, mut overflow] = [0i64; 4];
        let mut aborted = Vec::new();
        let mut lengths = vec![0i64; self.parts.lengths.len()];
        for at in 0..self.slots() {
            let slot = self.parts.index.load(&self.region, at);
            match slot.state() {
                SlotState::Empty => continue,
                // Its inserter is no more. Its block belongs to nobody.
                SlotState::Aborted => {
                    aborted.push((at, slot));
                    continue;
                }
                SlotState::Pending | SlotState::Live => {}
            }
            overflow += i64::from(self.parts.index.is_overflow(at));
            // Pending ones, too: their insert has counted them. It cannot fail to be read in a quiet moment.
            let read = self.read(at, slot, |block, head| (head, block.lead(head)));
            let Some((head, lead)) = read else { continue };
            held.push(self.parts.blocks.owned(slot.unit(), head.units()));
            units += i64::from(head.units());
            if head.removed() {
                tombstones += 1;
            } else {
                records += 1;
                if let Some(id) = self.parts.lengths.id(head.key_len(), lead) {
                    lengths[id] += 1;
                }
            }
        }
        let off_by = |counter, is| (counter, self.parts.counters.off_by(&self.region, counter, is));
        let (leaked, leaked_reserve) = self.parts.blocks.leaked(&self.region, held);
        Audit {
            aborted,
            leaked,
            leaked_reserve,
            corrections: vec![
                off_by(Counter::Records, records),
                off_by(Counter::Tombstones, tombstones),
                off_by(Counter::Units, units),
            ],
            lengths: self.parts.lengths.off_by(&self.region, &lengths),
            overflow: overflow - self.parts.index.overflow_taken(&self.region),
        }
    }

    /// By differences, since others may be at work again.
    pub(super) fn correct(&self, audit: &Audit) {
        // Not by `Index::empty`: they are not counted in what `overflow` was compared with.
        for &(at, slot) in &audit.aborted {
            self.parts.index.change(&self.region, at, slot, slot.emptied());
        }
        self.parts.blocks.reclaim(&self.region, &audit.leaked, audit.leaked_reserve);
        for &(counter, difference) in &audit.corrections {
            self.count(counter, difference);
        }
        self.parts.lengths.correct(&self.region, &audit.lengths);
        self.parts.index.correct_overflow(&self.region, audit.overflow);
    }

    /// Forgets who published the record in a slot, and has it published as ours.
    pub(super) fn make_own(&self, at: usize) {
        self.set_dot(at, PackedDot::from_raw(0));
        self.mark(at);
    }
}

/// When to look for leaked blocks: after a process was killed, at growing intervals until a quiet moment was long enough. A zone that is written without a
/// pause may not have one; what a killed process can leak is two blocks for each of its threads.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    /// Calls until the next look; 0 = nothing to look for.
    wait: std::sync::atomic::AtomicU64,
    /// How long to wait after that.
    pause: std::sync::atomic::AtomicU64,
}

impl Leaks {
    /// Four minutes, at four calls a second.
    const PAUSE_MAX: u64 = 1024;

    fn suspect(&self) {
        self.pause.store(1, Ordering::Relaxed);
        self.wait.store(1, Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        match self.wait.load(Ordering::Relaxed) {
            0 => false,
            1 => {
                let pause = (self.pause.load(Ordering::Relaxed) * 2).min(Self::PAUSE_MAX);
                self.pause.store(pause, Ordering::Relaxed);
                self.wait.store(pause, Ordering::Relaxed);
                true
            }
            wait => {
                self.wait.store(wait - 1, Ordering::Relaxed);
                false
            }
        }
    }

    fn settle(&self) {
        self.wait.store(0, Ordering::Relaxed);
    }
}
