//! Which slots changed since they were last published: one bit per slot, and a wake-up for the publisher.
//!
//! Marking is idempotent, so any number of changes of a record between two publications become one, and nothing can overflow. The
//! bits are the truth; beside them is a word that says whether the publisher was called.
//!
//! **Hand-off.** A writer changes its slot, then looks at the bit and sets it if it is not set; the publisher takes the bits, then reads the
//! slots. All four accesses are sequentially consistent, so in their single order either the writer's look comes before the taking, and then so does
//! its change, which the publisher reads; or it comes after, finds the bit gone, and sets it again. With anything less, the look could be satisfied
//! before the slot's change is visible, and the update would be lost. Looking first matters: a bit that is set already, as under load most are, costs
//! no cache line of another thread.
//!
//! **Wake-up.** A writer sets its bit, then looks whether the publisher was called, and calls it if not. The publisher forgets the call,
//! then looks at the bits. All four are sequentially consistent, so at least one of the two sees the other. To wake on the count going from 0
//! to 1 would be wrong: a writer stopped between bit and count lets it fall below zero, and then another's change wakes nobody.

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::region::{Layout, Region, Section};
use crate::words::{AtomicU64, Ordering, loom_fence};

const BITS: usize = u64::BITS as usize;

/// The dirty bits of a zone.
#[derive(Debug)]
pub(crate) struct Dirty {
    bits: Section,
    /// One word: whether the publisher was called (1) since it last began to take.
    called: Section,
    waker: AtomicWaker,
}

impl Dirty {
    /// Bits for `slots` slots; `None` if the region has no room for them.
    pub(crate) fn new(layout: &mut Layout, slots: usize) -> Option<Self> {
        let called = layout.take(1)?;
        let bits = layout.take(slots.div_ceil(BITS))?;
        Some(Self { bits, called, waker: AtomicWaker::new() })
    }

    /// How many words [`Self::new`] takes from the layout at most.
    pub(crate) const fn words(slots: usize) -> usize {
        2 * crate::words::LINE + slots.div_ceil(BITS)
    }

    fn called<'r>(&self, region: &'r Region) -> &'r AtomicU64 {
        &region.words(self.called)[0]
    }

    /// Marks a slot. To be called after the slot's change, which is sequentially consistent.
    #[inline]
    pub(crate) fn mark(&self, region: &Region, slot: usize) {
        let bit = 1 << (slot % BITS);
        let word = &region.words(self.bits)[slot / BITS];
        loom_fence();
        if word.load(Ordering::SeqCst) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
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

    /// How many slots are marked. Looks at all of them; approximate while they change.
    pub(crate) fn count(&self, region: &Region) -> usize {
        // Relaxed: a figure.
        region.words(self.bits).iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
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
    ///
    /// Slots are taken a batch at a time, and `ahead` is told of a batch, so that it can ask for their memory before `f` needs it.
    pub(crate) fn drain(
        &self,
        region: &Region,
        from: usize,
        mut ahead: impl FnMut(&[usize]),
        mut f: impl FnMut(usize) -> ControlFlow<()>,
    ) -> usize {
        /// Slots of a batch, and at most a word's more: as many cache misses as a processor has under way at a time.
        const BATCH: usize = 24;
        let words = region.words(self.bits);
        let first = from / BITS % words.len();
        let mut batch = Vec::with_capacity(BATCH + BITS);
        self.called(region).store(0, Ordering::SeqCst);
        let mut turn = (first..words.len()).chain(0..first).peekable();
        while turn.peek().is_some() {
            for at in turn.by_ref() {
                // Looking first keeps a pass over a clean bitmap from taking every line away from the writers. A bit that this load
                // misses stays set for the next pass, and whoever set it calls for that.
                if words[at].load(Ordering::SeqCst) == 0 {
                    continue;
                }
                let mut bits = words[at].swap(0, Ordering::SeqCst);
                while bits != 0 {
                    batch.push(at * BITS + bits.trailing_zeros() as usize);
                    bits &= bits - 1;
                }
                if batch.len() >= BATCH {
                    break;
                }
            }
            loom_fence();
            ahead(&batch);
            for (done, &slot) in batch.iter().enumerate() {
                if f(slot).is_break() {
                    self.put_back(region, &batch[done..]);
                    return slot;
                }
            }
            batch.clear();
        }
        from
    }

    /// Sets bits again that were taken and not used, and keeps the call for them.
    fn put_back(&self, region: &Region, slots: &[usize]) {
        for &slot in slots {
            region.words(self.bits)[slot / BITS].fetch_or(1 << (slot % BITS), Ordering::SeqCst);
        }
        self.called(region).store(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
