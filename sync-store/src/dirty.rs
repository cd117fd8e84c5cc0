//! Which slots changed since they were last published: one bit per slot, and a wake-up for the publisher.
//!
//! Marking is idempotent, so any number of changes of a record between two publications become one, and nothing can overflow. The
//! bits are the truth; beside them are a count, for people, and a word that says whether the publisher was called.
//!
//! **Hand-off.** A writer changes its slot, then sets the bit; the publisher takes the bits, then reads the slots. Both sides use a
//! read-modify-write on the bitmap word, unconditionally. If the publisher's swap comes after the writer's `fetch_or` it reads the
//! value that one released, so the change of the slot is visible to it; if it comes before, the bit stays set for the next pass.
//! The tempting shortcut, to skip the `fetch_or` when the bit is already set, loses an update: the plain load may be satisfied
//! before the slot's change is visible, and by then the publisher has taken the bit and read the old record.
//!
//! **Wake-up.** A writer sets its bit, then looks whether the publisher was called, and calls it if not. The publisher forgets the call,
//! then looks at the bits. All four are sequentially consistent, so at least one of the two sees the other. To wake on the count going from 0
//! to 1 would be wrong: a writer stopped between bit and count lets it fall below zero, and then another's change wakes nobody.

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
    /// Two words: how many bits are set, two's complement, below zero for a moment when a bit is taken before it was counted; and
    /// whether the publisher was called (1) since it last began to take.
    summary: Section,
    waker: AtomicWaker,
}

impl Dirty {
    /// Bits for `slots` slots; `None` if the region has no room for them.
    pub(crate) fn new(layout: &mut Layout, slots: usize) -> Option<Self> {
        let summary = layout.take(2)?;
        let bits = layout.take(slots.div_ceil(BITS))?;
        Some(Self { bits, summary, waker: AtomicWaker::new() })
    }

    /// How many words [`Self::new`] takes from the layout at most.
    pub(crate) const fn words(slots: usize) -> usize {
        2 * crate::words::LINE + slots.div_ceil(BITS)
    }

    fn count_word<'r>(&self, region: &'r Region) -> &'r AtomicU64 {
        &region.words(self.summary)[0]
    }

    fn called<'r>(&self, region: &'r Region) -> &'r AtomicU64 {
        &region.words(self.summary)[1]
    }

    /// Marks a slot. To be called after the slot's change.
    #[inline]
    pub(crate) fn mark(&self, region: &Region, slot: usize) {
        let bit = 1 << (slot % BITS);
        // Who takes the bit sees the change. See the module's head.
        if region.words(self.bits)[slot / BITS].fetch_or(bit, Ordering::SeqCst) & bit == 0 {
            self.count_word(region).fetch_add(1, Ordering::Relaxed);
        }
        // Also if another had set the bit: it may have been stopped before it called. Looking first keeps writers from fighting for the word while the publisher has much to do.
        let called = self.called(region);
        if called.load(Ordering::SeqCst) == 0 && called.swap(1, Ordering::SeqCst) == 0 {
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
        let count = self.count_word(region).load(Ordering::Relaxed).cast_signed();
        usize::try_from(count).unwrap_or(0)
    }

    /// Ready when a slot is marked; the waker is called once one is.
    pub(crate) fn poll(&self, region: &Region, cx: &Context<'_>) -> Poll<()> {
        let is_called = || self.called(region).load(Ordering::SeqCst) != 0;
        if is_called() {
            return Poll::Ready(());
        }
        // Register first, look again second: a mark between the two looks either finds the waker or is found.
        self.waker.register(cx.waker());
        if is_called() { Poll::Ready(()) } else { Poll::Pending }
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
        self.called(region).store(0, Ordering::SeqCst);
        for at in (first..words.len()).chain(0..first) {
            // Looking first keeps a pass over a clean bitmap from taking every line away from the writers. A bit that this load
            // misses stays set for the next pass, and whoever set it calls for that.
            if words[at].load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut bits = words[at].swap(0, Ordering::SeqCst);
            self.count_word(region).fetch_sub(u64::from(bits.count_ones()), Ordering::Relaxed);
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

    /// Sets bits again that were taken and not used, and keeps the call for them.
    fn put_back(&self, region: &Region, at: usize, bits: u64) {
        let before = region.words(self.bits)[at].fetch_or(bits, Ordering::SeqCst);
        let added = (bits & !before).count_ones();
        self.count_word(region).fetch_add(u64::from(added), Ordering::Relaxed);
        self.called(region).store(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
