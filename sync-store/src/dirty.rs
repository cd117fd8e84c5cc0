//! Which slots changed since they were last published: one bit per slot, and a wake-up for the publisher.
//!
//! Marking is idempotent, so any number of changes of a record between two publications become one, and nothing can overflow. The
//! counter beside the bits is only a summary for the publisher's wake-up; the bits are the truth.
//!
//! **Hand-off.** A writer changes its slot, then sets the bit; the publisher takes the bits, then reads the slots. Both sides use a
//! read-modify-write on the bitmap word, unconditionally. If the publisher's swap comes after the writer's `fetch_or` it reads the
//! value that one released, so the change of the slot is visible to it; if it comes before, the bit stays set for the next pass.
//! The tempting shortcut, to skip the `fetch_or` when the bit is already set, loses an update: the plain load may be satisfied
//! before the slot's change is visible, and by then the publisher has taken the bit and read the old record.

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::region::{Layout, Region, Section};
use crate::words::{AtomicU64, Ordering};

const BITS: usize = u64::BITS as usize;

/// The dirty bits of a zone.
#[derive(Debug)]
pub(crate) struct Dirty {
    bits: Section,
    /// One word: how many bits are set, two's complement. It is added to after a bit was set and subtracted from after bits were
    /// taken, so it may be below zero for a moment; it is above zero whenever bits have been set that nobody has begun to take.
    count: Section,
    waker: AtomicWaker,
}

impl Dirty {
    /// Bits for `slots` slots; `None` if the region has no room for them.
    pub(crate) fn new(layout: &mut Layout, slots: usize) -> Option<Self> {
        let count = layout.take(1)?;
        let bits = layout.take(slots.div_ceil(BITS))?;
        Some(Self { bits, count, waker: AtomicWaker::new() })
    }

    /// How many words [`Self::new`] takes from the layout at most.
    pub(crate) const fn words(slots: usize) -> usize {
        2 * crate::words::LINE + slots.div_ceil(BITS)
    }

    fn count_word<'r>(&self, region: &'r Region) -> &'r AtomicU64 {
        &region.words(self.count)[0]
    }

    /// Marks a slot. To be called after the slot's change.
    #[inline]
    pub(crate) fn mark(&self, region: &Region, slot: usize) {
        let bit = 1 << (slot % BITS);
        // Release pairs with the Acquire of `drain`: who takes the bit sees the change. See the module's head.
        if region.words(self.bits)[slot / BITS].fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return;
        }
        // Only the step from 0 to 1 wakes: whoever else has counted since then knows that the wake-up is under way. AcqRel, so that
        // the publisher, once awake, sees the count.
        if self.count_word(region).fetch_add(1, Ordering::AcqRel) == 0 {
            self.waker.wake();
        }
    }

    /// Whether a slot is marked; may be out of date at once.
    #[inline]
    pub(crate) fn is_marked(&self, region: &Region, slot: usize) -> bool {
        region.words(self.bits)[slot / BITS].load(Ordering::Acquire) & 1 << (slot % BITS) != 0
    }

    /// How many slots are marked, approximately.
    pub(crate) fn count(&self, region: &Region) -> usize {
        let count = self.count_word(region).load(Ordering::Acquire).cast_signed();
        usize::try_from(count).unwrap_or(0)
    }

    /// Ready when a slot is marked; the waker is called once one is.
    pub(crate) fn poll(&self, region: &Region, cx: &Context<'_>) -> Poll<()> {
        if self.count(region) > 0 {
            return Poll::Ready(());
        }
        // Register first, look again second: a mark between the two looks either finds the waker or is found.
        self.waker.register(cx.waker());
        if self.count(region) > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes marks and hands their slots to `f`, once around from slot `from`, until `f` breaks. The slot for which it broke stays
    /// marked, with all that were not reached. Answers where to go on next time. For one caller at a time.
    pub(crate) fn drain(
        &self,
        region: &Region,
        from: usize,
        mut f: impl FnMut(usize) -> ControlFlow<()>,
    ) -> usize {
        let words = region.words(self.bits);
        let first = from / BITS % words.len();
        for at in (first..words.len()).chain(0..first) {
            // Looking first keeps a pass over a clean bitmap from taking every line away from the writers. A bit that this load
            // misses stays set for the next pass, and the counter says that there is need of one.
            if words[at].load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = words[at].swap(0, Ordering::AcqRel);
            self.count_word(region).fetch_sub(u64::from(bits.count_ones()), Ordering::AcqRel);
            while bits != 0 {
                let slot = at * BITS + bits.trailing_zeros() as usize;
                if f(slot).is_break() {
                    self.put_back(region, at, bits);
                    return slot;
                }
                bits &= bits - 1;
            }
        }
        from
    }

    /// Sets bits again that were taken and not used. Wakes nobody: the one who took them knows.
    fn put_back(&self, region: &Region, at: usize, bits: u64) {
        let before = region.words(self.bits)[at].fetch_or(bits, Ordering::AcqRel);
        let added = (bits & !before).count_ones();
        self.count_word(region).fetch_add(u64::from(added), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
