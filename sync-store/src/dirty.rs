//! Which slots changed since they were last published: one bit per slot, and a wake-up for the publisher.
//!
//! Marking is idempotent, so any number of changes of a record between two publications become one, and nothing can overflow. The
//! bits are the truth; beside them is a word that says whether the publisher was called, and for which parts of the bits: of a zone of a million records that
//! nearly rests, it looks at a thousand words to find one mark, and not at all thirty-two thousand.
//!
//! **Hand-off.** A writer changes its slot, then looks at the bit and sets it if it is not set; the publisher takes the bits, then reads the
//! slots. All four accesses are sequentially consistent, so in their single order either the writer's look comes before the taking, and then so does
//! its change, which the publisher reads; or it comes after, finds the bit gone, and sets it again. With anything less, the look could be satisfied
//! before the slot's change is visible, and the update would be lost. Looking first matters: a bit that is set already, as under load most are, costs
//! no cache line of another thread.
//!
//! **Wake-up.** A writer sets its bit, then looks whether the publisher was called for the part where it lies, and calls it if not. The publisher forgets the call for a part,
//! then looks at its bits. All four are sequentially consistent, so at least one of the two sees the other. To wake on the count going from 0
//! to 1 would be wrong: a writer stopped between bit and count lets it fall below zero, and then another's change wakes nobody. And so it would be to wake only who
//! finds no part called for: others than the publisher take marks too (a link at the end of its catch-up), and what they leave called for, in a part that they had been through, is the
//! sleeping publisher's. So whoever sets a bit of the word wakes it, writers, and takers that put something back.
//!
//! **What a stopped writer holds up.** Nobody while it marks. While it *calls*, after it was the one to change the word: the publisher, which sleeps on until that
//! writer goes on or a time-out of its own is over; other writers go on, and take the call for made. Before it calls, its mark is there and nobody looks: who has
//! to have every mark published [calls for all of them](Dirty::call_for_all) first.

use std::cell::Cell;
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
/// Slots of a batch: as many cache misses as a processor has under way at a time.
const BATCH: usize = 24;
/// Words before the bits: whether the publisher was called, how many wait for that; and the batch in hand, a word for two slots.
const HEAD: usize = 2 + BATCH / 2;
const CALLED: usize = 0;
const WAITING: usize = 1;
const IN_HAND: usize = 2;
/// Parts that the publisher is called for: as many as the half of a word that a futex compares has bits.
const PARTS: usize = 32;

/// The dirty bits of a zone.
#[derive(Debug)]
pub(crate) struct Dirty {
    bits: Section,
    /// For which parts the publisher was called since it last began to take, a bit each; how many threads are blocked until it is; the slots that it has taken and may not have
    /// published yet, each a number of 32 bits, and one more than that of the slot.
    head: Section,
    /// Binary logarithm of the words of a part.
    part_bits: u32,
    waker: Arc<AtomicWaker>,
    /// In a region that processes share: passes on their calls.
    listener: Option<Listener>,
}

impl Dirty {
    /// Bits for `slots` slots; `None` if the region has no room for them.
    pub(crate) fn new(layout: &mut Layout, slots: usize) -> Option<Self> {
        let head = layout.take(HEAD)?;
        let bits = layout.take(slots.div_ceil(BITS))?;
        let part_bits = bits.len().div_ceil(PARTS).next_power_of_two().trailing_zeros();
        Some(Self { bits, head, part_bits, waker: Arc::default(), listener: None })
    }

    /// How many words [`Self::new`] takes from the layout at most.
    pub(crate) const fn words(slots: usize) -> usize {
        const LINE: usize = crate::words::LINE;
        HEAD.next_multiple_of(LINE) + LINE + slots.div_ceil(BITS)
    }

    /// The bits of the parts that there are. Another would never be answered, and the publisher would never rest.
    fn all_parts(&self) -> u64 {
        let parts = self.bits.len().div_ceil(1 << self.part_bits);
        (1 << parts) - 1
    }

    #[inline]
    fn called<'r>(&self, region: &'r OpenRegion) -> &'r AtomicU64 {
        &region.all()[self.head.start() + CALLED]
    }

    /// Marks a slot. To be called after the slot's change, which is sequentially consistent.
    #[inline(always)]
    pub(crate) fn mark(&self, region: &OpenRegion, slot: usize) {
        let bit = 1 << (slot % BITS);
        let word = &region.all()[self.bits.start() + slot / BITS];
        loom_fence();
        if word.load(Ordering::SeqCst) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
        }
        // Also if another had set the bit: it may have been stopped before it called. Looking first keeps writers from fighting for the word while the publisher has much to do.
        let called = self.called(region);
        let part = 1 << ((slot / BITS) >> self.part_bits);
        if called.load(Ordering::SeqCst) & part == 0 && called.fetch_or(part, Ordering::SeqCst) & part == 0 {
            self.call(region);
        }
    }

    /// Calls the publisher for marks that a process may have left without calling for them.
    pub(crate) fn call_for_marks(&self, region: &OpenRegion) {
        if region.words(self.bits).iter().any(|word| word.load(Ordering::SeqCst) != 0) {
            self.call_for_all(region);
        }
    }

    /// Has whoever takes marks next look at all of them, also at those that a writer has set and not called for. The publisher is woken: whoever calls may
    /// never come to take.
    pub(crate) fn call_for_all(&self, region: &OpenRegion) {
        self.called(region).fetch_or(self.all_parts(), Ordering::SeqCst);
        self.call(region);
    }

    #[cold]
    fn call(&self, region: &OpenRegion) {
        self.waker.wake();
        if !cfg!(loom) && region.words(self.head)[WAITING].load(Ordering::SeqCst) != 0 {
            wake_waiters(self.called(region));
        }
    }

    /// Blocks until a slot is marked, or for so long. Answers whether one is.
    pub(crate) fn wait(&self, region: &OpenRegion, timeout: Duration) -> bool {
        let words = region.words(self.head);
        let start = monotonic();
        loop {
            if words[CALLED].load(Ordering::SeqCst) != 0 {
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
            self.listener = Some(Listener::new(region.words_owned(), self.head, self.waker.clone()));
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

    /// Takes marks that were called for and hands their slots to `f`, once around from slot `from`, until `f` breaks. The slot for which it broke stays
    /// marked, with all that were not reached. Answers where to go on next time. For one caller at a time.
    ///
    /// Slots are taken a batch at a time, and `ahead` is told of a batch, so that it can ask for their memory before `f` needs it. A publisher that is killed meanwhile has
    /// its batch [in hand](Self::in_hand).
    pub(crate) fn drain(
        &self,
        region: &OpenRegion,
        from: usize,
        mut ahead: impl FnMut(&[usize]),
        mut f: impl FnMut(usize) -> ControlFlow<()>,
    ) -> usize {
        let words = region.words(self.bits);
        let first = from / BITS % words.len();
        let mut batch = Vec::with_capacity(BATCH);
        let answered = Cell::new(0);
        let mut turn = self.turn(region, first, &answered);
        // The word at hand, and its marks that no batch has had room for.
        let mut rest = (0, 0u64);
        loop {
            while batch.len() < BATCH {
                if rest.1 == 0 {
                    let Some(at) = turn.next() else { break };
                    // Looking first keeps a pass over a clean bitmap from taking every line away from the writers. A bit that this load
                    // misses stays set for the next pass, and whoever set it calls for that.
                    rest = (at, words[at].load(Ordering::SeqCst));
                    continue;
                }
                let (at, marks) = rest;
                let mut taken = 0;
                while taken != marks && batch.len() < BATCH {
                    let bit = (marks & !taken).trailing_zeros() as usize;
                    self.take_in_hand(region, batch.len(), at * BITS + bit);
                    batch.push(at * BITS + bit);
                    taken |= 1 << bit;
                }
                rest.1 &= !taken;
                words[at].fetch_and(!taken, Ordering::SeqCst);
            }
            if batch.is_empty() {
                return from;
            }
            loom_fence();
            ahead(&batch);
            for (done, &slot) in batch.iter().enumerate() {
                if f(slot).is_break() {
                    self.put_back(region, &batch[done..], answered.get());
                    self.drop_from_hand(region);
                    return slot;
                }
            }
            batch.clear();
            self.drop_from_hand(region);
        }
    }

    /// The words of the parts that were called for, once around from `first`. The call for a part is forgotten when its turn comes, and noted in `answered`: one that is not reached
    /// stays called for, and its writers do not have to call again.
    fn turn<'a>(
        &'a self,
        region: &'a OpenRegion,
        first: usize,
        answered: &'a Cell<u64>,
    ) -> impl Iterator<Item = usize> + 'a {
        let (words, size) = (self.bits.len(), 1 << self.part_bits);
        let (parts, home) = (words.div_ceil(size), first / size);
        let called = self.called(region);
        let answer = move |part: usize| {
            let bit = 1 << part;
            if called.load(Ordering::SeqCst) & bit != 0 {
                called.fetch_and(!bit, Ordering::SeqCst);
                answered.set(answered.get() | bit);
            }
            answered.get() & bit != 0
        };
        // The part where it begins comes twice: what is behind the first word, and last what is before it. A call that comes in between stays, for it may be for the
        // half that has been looked through.
        let begin = std::iter::once(home)
            .filter(move |part| answer(*part))
            .map(move |_| first..words.min((home + 1) * size));
        let others = (home + 1..parts).chain(0..home).filter(move |part| answer(*part));
        let others = others.map(move |part| part * size..words.min((part + 1) * size));
        let is_begun = move |home: &usize| answered.get() & 1 << *home != 0;
        let end = std::iter::once(home).filter(is_begun).map(move |home| home * size..first);
        begin.chain(others).chain(end).flatten()
    }

    /// Before its mark is taken. Relaxed: nobody else reads it as long as this process lives, and taking the mark is a release.
    fn take_in_hand(&self, region: &OpenRegion, number: usize, slot: usize) {
        if matches!(region.sharing(), Sharing::None) {
            return; // the marks go with the process
        }
        let word = &region.words(self.head)[IN_HAND + number / 2];
        // 32 bits: a region has 2^29 units, and no more than two slots for each.
        let slot = slot as u64 + 1;
        let half = if number.is_multiple_of(2) { slot } else { word.load(Ordering::Relaxed) | slot << 32 };
        word.store(half, Ordering::Relaxed);
    }

    /// After they were published, or marked again.
    fn drop_from_hand(&self, region: &OpenRegion) {
        if matches!(region.sharing(), Sharing::None) {
            return;
        }
        let words = &region.words(self.head)[IN_HAND..];
        let used = words.iter().take_while(|word| word.load(Ordering::Relaxed) != 0);
        used.for_each(|word| word.store(0, Ordering::Release));
    }

    /// The slots that a publisher that was killed had taken and may not have published.
    pub(crate) fn in_hand(&self, region: &OpenRegion) -> Vec<usize> {
        let words = &region.words(self.head)[IN_HAND..][..BATCH / 2];
        let halves = words.iter().map(|word| word.load(Ordering::Relaxed));
        let halves = halves.flat_map(|word| [word & u64::from(u32::MAX), word >> 32]);
        halves.filter_map(|slot| usize::try_from(slot.checked_sub(1)?).ok()).collect()
    }

    /// Sets bits again that were taken and not used, and the calls again that were answered: for these, and for what was not reached.
    fn put_back(&self, region: &OpenRegion, slots: &[usize], answered: u64) {
        for &slot in slots {
            region.words(self.bits)[slot / BITS].fetch_or(1 << (slot % BITS), Ordering::SeqCst);
        }
        self.called(region).fetch_or(answered, Ordering::SeqCst);
        self.call(region);
    }
}

/// Blocks until the publisher is called, or for so long, or less; counted among those that wait meanwhile.
fn wait_called(words: &[AtomicU64], timeout: Duration) {
    words[WAITING].fetch_add(1, Ordering::SeqCst);
    wait_while_zero(&words[CALLED], timeout);
    words[WAITING].fetch_sub(1, Ordering::SeqCst);
}

/// A thread that waits for calls of other processes, which cannot wake a task of this one, and does.
#[derive(Debug)]
struct Listener {
    shared: Arc<Listening>,
    thread: Option<JoinHandle<()>>,
    /// Where the thread waits.
    words: Words,
    head: Section,
}

#[derive(Debug, Default)]
struct Listening {
    /// The publisher waits.
    wanted: AtomicBool,
    ended: AtomicBool,
}

impl Listener {
    fn new(words: Words, head: Section, waker: Arc<AtomicWaker>) -> Self {
        /// So long does it take to notice the end if the wake-up for that comes too early.
        const PATIENCE: Duration = Duration::from_millis(100);
        let shared = Arc::new(Listening::default());
        let listening = Arc::clone(&shared);
        let region = words.clone();
        let work = move || {
            let words = &region[head.start()..head.start() + head.len()];
            while !listening.ended.load(Ordering::SeqCst) {
                if !listening.wanted.load(Ordering::SeqCst) {
                    std::thread::park();
                } else if words[CALLED].load(Ordering::SeqCst) == 0 {
                    wait_called(words, PATIENCE);
                } else {
                    listening.wanted.store(false, Ordering::SeqCst);
                    waker.wake();
                }
            }
        };
        // Without a thread (a system at its limits) changes of other processes wait for the next one of this process.
        let thread = std::thread::Builder::new().name("zone-listener".to_owned()).spawn(work).ok();
        Self { shared, thread, words, head }
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
            wake_waiters(&self.words[self.head.start() + CALLED]);
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
