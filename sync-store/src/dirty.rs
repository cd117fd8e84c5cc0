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
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::layout::{Layout, Section};
use crate::region::OpenRegion;
use crate::sharing::Sharing;
use crate::words::{AtomicU64, Ordering, loom_fence};
use crate::words::{Words, wait_while_zero, wake_waiters};

const BITS: usize = u64::BITS as usize;

/// The dirty bits of a zone.
#[derive(Debug)]
pub(crate) struct Dirty {
    bits: Section,
    /// Two words: whether the publisher was called (1) since it last began to take; how many threads are blocked until it is.
    called: Section,
    waker: Arc<AtomicWaker>,
    /// In a region that processes share: passes on their calls.
    listener: Option<Listener>,
}

impl Dirty {
    /// Bits for `slots` slots; `None` if the region has no room for them.
    pub(crate) fn new(layout: &mut Layout, slots: usize) -> Option<Self> {
        let called = layout.take(2)?;
        let bits = layout.take(slots.div_ceil(BITS))?;
        Some(Self { bits, called, waker: Arc::default(), listener: None })
    }

    /// How many words [`Self::new`] takes from the layout at most.
    pub(crate) const fn words(slots: usize) -> usize {
        2 * crate::words::LINE + slots.div_ceil(BITS)
    }

    #[inline]
    fn called<'r>(&self, region: &'r OpenRegion) -> &'r AtomicU64 {
        &region.all()[self.called.start()]
    }

    /// Marks a slot. To be called after the slot's change, which is sequentially consistent.
    #[inline]
    pub(crate) fn mark(&self, region: &OpenRegion, slot: usize) {
        let bit = 1 << (slot % BITS);
        let word = &region.all()[self.bits.start() + slot / BITS];
        loom_fence();
        if word.load(Ordering::SeqCst) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
        }
        // Also if another had set the bit: it may have been stopped before it called. Looking first keeps writers from fighting for the word while the publisher has much to do.
        let called = self.called(region);
        if called.load(Ordering::SeqCst) == 0 && called.swap(1, Ordering::SeqCst) == 0 {
            self.call(region);
        }
    }

    #[cold]
    fn call(&self, region: &OpenRegion) {
        self.waker.wake();
        if !cfg!(loom) && region.words(self.called)[1].load(Ordering::SeqCst) != 0 {
            wake_waiters(self.called(region));
        }
    }

    /// Blocks until a slot is marked, or for so long. Answers whether one is.
    pub(crate) fn wait(&self, region: &OpenRegion, timeout: Duration) -> bool {
        let words = region.words(self.called);
        let start = monotonic();
        loop {
            if words[0].load(Ordering::SeqCst) != 0 {
                return true;
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            wait_called(words, left);
        }
    }

    /// In a region that processes share: from here on, calls of other processes wake the publisher.
    pub(crate) fn listen(&mut self, region: &OpenRegion) {
        if !matches!(region.sharing(), Sharing::None) {
            self.listener = Some(Listener::new(region.words_owned(), self.called, self.waker.clone()));
        }
    }

    /// Whether a slot is marked; may be out of date at once.
    #[inline]
    pub(crate) fn is_marked(&self, region: &OpenRegion, slot: usize) -> bool {
        region.words(self.bits)[slot / BITS].load(Ordering::Acquire) & 1 << (slot % BITS) != 0
    }

    /// How many slots are marked. Looks at all of them; approximate while they change.
    pub(crate) fn count(&self, region: &OpenRegion) -> usize {
        // Relaxed: a figure.
        region.words(self.bits).iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Ready when a slot is marked; the waker is called once one is.
    pub(crate) fn poll(&self, region: &OpenRegion, cx: &Context<'_>) -> Poll<()> {
        let is_called = || self.called(region).load(Ordering::SeqCst) != 0;
        if is_called() {
            return Poll::Ready(());
        }
        // Register first, look again second: a mark between the two looks either finds the waker or is found.
        self.waker.register(cx.waker());
        if is_called() {
            return Poll::Ready(());
        }
        if let Some(listener) = &self.listener {
            listener.listen();
        }
        Poll::Pending
    }

    /// Takes marks and hands their slots to `f`, once around from slot `from`, until `f` breaks. The slot for which it broke stays
    /// marked, with all that were not reached. Answers where to go on next time. For one caller at a time.
    ///
    /// Slots are taken a batch at a time, and `ahead` is told of a batch, so that it can ask for their memory before `f` needs it.
    pub(crate) fn drain(
        &self,
        region: &OpenRegion,
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
    fn put_back(&self, region: &OpenRegion, slots: &[usize]) {
        for &slot in slots {
            region.words(self.bits)[slot / BITS].fetch_or(1 << (slot % BITS), Ordering::SeqCst);
        }
        self.called(region).store(1, Ordering::SeqCst);
    }
}

/// Blocks until the first of two words is 1, or for so long, or less; counted in the second one meanwhile.
fn wait_called(words: &[AtomicU64], timeout: Duration) {
    words[1].fetch_add(1, Ordering::SeqCst);
    wait_while_zero(&words[0], timeout);
    words[1].fetch_sub(1, Ordering::SeqCst);
}

/// A thread that waits for calls of other processes, which cannot wake a task of this one, and does.
#[derive(Debug)]
struct Listener {
    shared: Arc<Listening>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Listening {
    /// The publisher waits.
    wanted: AtomicBool,
    ended: AtomicBool,
}

impl Listener {
    fn new(words: Words, called: Section, waker: Arc<AtomicWaker>) -> Self {
        /// So long does it take to notice the end if the wake-up for that comes too early.
        const PATIENCE: Duration = Duration::from_millis(100);
        let shared = Arc::new(Listening::default());
        let listening = Arc::clone(&shared);
        let work = move || {
            let words = &words[called.start()..called.start() + called.len()];
            while !listening.ended.load(Ordering::SeqCst) {
                if !listening.wanted.load(Ordering::SeqCst) {
                    std::thread::park();
                } else if words[0].load(Ordering::SeqCst) == 0 {
                    wait_called(words, PATIENCE);
                } else {
                    listening.wanted.store(false, Ordering::SeqCst);
                    waker.wake();
                }
            }
        };
        // Without a thread (a system at its limits) changes of other processes wait for the next one of this process.
        let thread = std::thread::Builder::new().name("zone-listener".to_owned()).spawn(work).ok();
        Self { shared, thread }
    }

    fn listen(&self) {
        if !self.shared.wanted.swap(true, Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot have panicked; and if it had, there would be nothing to do about it.
            let _ = thread.join();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a thread has been blocked, which is no time of a zone"
)]
fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests;
