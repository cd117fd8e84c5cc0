//! One key's entry: a cache line of eight words that change in place.
//!
//! | word | | written by |
//! |---|---|---|
//! | 0 | head: version, tag of the hash, length of the key, state | whoever moves the entry to another state, by compare-and-swap |
//! | 1 | when the bucket was last idle: until then | the admission that ends that; applied rows |
//! | 2, 3 | key | the claimer |
//! | 4 | arrival time | admissions and applied rows, by compare-and-swap |
//! | 5 | debt: work admitted here and not published yet, signed | admissions add, the publisher subtracts |
//! | 6 | own sequence of the last publication; the highest bit: work of other origins is in the arrival time | the publisher, applied rows |
//! | 7 | when the bucket was last idle: from then on | as word 1 |
//!
//! An entry is *empty*, *claimed* (one thread owns it and writes its words), *pending* (complete, but a copy of its key may be
//! elsewhere) or *live*. The version grows whenever an entry is claimed or emptied, so a head that reads the same twice was the same
//! all the while. **Who acts on words checks the head afterwards**; the words are loaded with Acquire and stored with Release, so
//! who saw a word of a newcomer also sees that the head has changed.

use crate::words::{AtomicU64, LINE, Ordering, Pairs, change_pair, loom_fence, prefetch};

use super::bucket::{Idle, View};
use super::key::LimitKey;

/// Words of an entry: one cache line.
pub(super) const ENTRY: usize = LINE;

const HEAD: usize = 0;
const IDLE_END: usize = 1;
const KEY: [usize; 2] = [2, 3];
/// With the debt behind it one pair, which an admission changes at once where the processor can.
const TAT: usize = 4;
const DEBT: usize = 5;
const SEQ: usize = 6;
const FOREIGN: u64 = 1 << 63;
const IDLE_START: usize = 7;

const STATE_MASK: u64 = 0b11;
const LENGTH_AT: u32 = 2;
const LENGTH_MASK: u64 = 0x1f << LENGTH_AT;
const TAG_AT: u32 = 8;
const TAG_MASK: u64 = 0xffff << TAG_AT;
/// 40 bits: at a change of one entry every 100 ns it takes 30 hours to come round, and then a thread must have slept exactly so long.
const VERSION_ONE: u64 = 1 << 24;

/// What an entry is, in the low bits of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty,
    Claimed,
    Pending,
    Live,
}

/// Word 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head(u64);

impl Head {
    pub(super) const fn phase(self) -> Phase {
        match self.0 & STATE_MASK {
            0 => Phase::Empty,
            1 => Phase::Claimed,
            2 => Phase::Pending,
            _ => Phase::Live,
        }
    }

    const fn with(self, phase: Phase) -> Self {
        Self(self.0 & !STATE_MASK | phase as u64)
    }

    /// The next version, of no key.
    const fn next(self, phase: Phase) -> Self {
        Self((self.0 & !(VERSION_ONE - 1)).wrapping_add(VERSION_ONE) | phase as u64)
    }

    /// Whether only the state may have changed since it was `other`.
    pub(super) const fn same_key(self, other: Self) -> bool {
        self.0 | STATE_MASK == other.0 | STATE_MASK
    }

    pub(super) const fn tag(self) -> u16 {
        ((self.0 & TAG_MASK) >> TAG_AT) as u16
    }

    const fn names(self, tag: u16, len: u8) -> bool {
        self.0 & (TAG_MASK | LENGTH_MASK) == (tag as u64) << TAG_AT | (len as u64) << LENGTH_AT
    }

    /// Whether it is live, and names such a key: one comparison.
    pub(super) const fn is_live(self, tag: u16, len: u8) -> bool {
        let live = Phase::Live as u64 | (tag as u64) << TAG_AT | (len as u64) << LENGTH_AT;
        self.0 & (TAG_MASK | LENGTH_MASK | STATE_MASK) == live
    }
}

/// What a new entry begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    pub(super) key: LimitKey,
    pub(super) tag: u16,
    pub(super) view: View,
    pub(super) debt: i64,
    pub(super) foreign: bool,
}

/// Why an act on an entry has not happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Its words have changed meanwhile.
    Changed,
    /// It was taken away.
    Gone,
}

/// The words of one entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'r>(&'r [AtomicU64; ENTRY]);

impl<'r> Entry<'r> {
    /// The entry at `slot` of a section of entries.
    #[inline]
    pub(super) fn at(words: &'r [AtomicU64], slot: usize) -> Self {
        Self(&words.as_chunks().0[slot])
    }

    /// Asks for the entry before it is needed.
    pub(super) fn prefetch(self) {
        prefetch(&self.0[HEAD]);
    }

    #[inline]
    pub(super) fn head(self) -> Head {
        Head(self.0[HEAD].load(Ordering::SeqCst))
    }

    /// Whether nothing has happened to the entry since its head was `head`, and what was read in between is its.
    #[inline]
    pub(super) fn is_still(self, head: Head) -> bool {
        self.head() == head
    }

    #[inline]
    fn change(self, from: Head, to: Head) -> Option<Head> {
        let changed = self.0[HEAD].compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        loom_fence();
        changed.then_some(to)
    }

    /// Empty or live → claimed; the words are ours then.
    pub(super) fn claim(self, head: Head) -> Option<Head> {
        debug_assert!(matches!(head.phase(), Phase::Empty | Phase::Live));
        self.change(head, head.next(Phase::Claimed))
    }

    /// Pending → live.
    pub(super) fn promote(self, head: Head) -> Option<Head> {
        self.change(head, head.with(Phase::Live))
    }

    /// Live, or pending → empty: nothing that it held counts any more.
    pub(super) fn empty(self, head: Head) -> bool {
        self.change(head, head.next(Phase::Empty)).is_some()
    }

    /// Claimed → pending, with what `fresh` says.
    pub(super) fn publish(self, claimed: Head, fresh: &Fresh) -> Head {
        let store = |at: usize, value| self.0[at].store(value, Ordering::Release);
        store(KEY[0], fresh.key.words[0]);
        store(KEY[1], fresh.key.words[1]);
        store(TAT, fresh.view.tat);
        store(DEBT, fresh.debt.cast_unsigned());
        store(IDLE_START, fresh.view.idle.start);
        store(IDLE_END, fresh.view.idle.end);
        store(SEQ, if fresh.foreign { FOREIGN } else { 0 });
        let names = u64::from(fresh.tag) << TAG_AT | u64::from(fresh.key.len) << LENGTH_AT;
        self.republish(Head(claimed.0 | names))
    }

    /// Claimed → pending, with the words as they are and the name that `named` carries.
    pub(super) fn republish(self, named: Head) -> Head {
        let pending = named.with(Phase::Pending);
        self.0[HEAD].store(pending.0, Ordering::SeqCst);
        pending
    }

    /// The head that a claimed entry needs to be republished under the name it had.
    pub(super) const fn renamed(claimed: Head, before: Head) -> Head {
        Head(claimed.0 | before.0 & (TAG_MASK | LENGTH_MASK))
    }

    /// Claimed → empty.
    pub(super) fn release(self, claimed: Head) {
        self.0[HEAD].store(claimed.with(Phase::Empty).0, Ordering::SeqCst);
    }

    /// Whether `head` and the words name `key`. To be believed only if the head is still the same afterwards.
    #[inline]
    pub(super) fn names(self, head: Head, key: &LimitKey, tag: u16) -> bool {
        head.names(tag, key.len) && self.key_words() == key.words
    }

    /// The same, and that it is live.
    #[inline]
    pub(super) fn is_live(self, head: Head, key: &LimitKey, tag: u16) -> bool {
        head.is_live(tag, key.len) && self.key_words() == key.words
    }

    #[inline]
    fn key_words(self) -> [u64; 2] {
        KEY.map(|at| self.0[at].load(Ordering::Acquire))
    }

    /// The key; `None` if the length makes no sense, which only a torn read can show.
    pub(super) fn key(self, head: Head) -> Option<LimitKey> {
        LimitKey::from_words(self.key_words(), ((head.0 & LENGTH_MASK) >> LENGTH_AT) as u8)
    }

    #[inline]
    pub(super) fn tat(self) -> u64 {
        self.0[TAT].load(Ordering::SeqCst)
    }

    /// The arrival time, then when the bucket was idle before: by the time that a compare-and-swap of the one succeeds, the other is at most one
    /// admission behind. The end of the idle time before its start: see [`Self::was_idle`].
    pub(super) fn view(self) -> View {
        let tat = self.tat();
        let end = self.0[IDLE_END].load(Ordering::Acquire);
        View { tat, idle: Idle { start: self.0[IDLE_START].load(Ordering::Acquire), end } }
    }

    /// Moves the arrival time, if it is still what was looked at.
    #[inline]
    pub(super) fn move_tat(self, from: u64, to: u64) -> bool {
        let moved = self.0[TAT].compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        loom_fence();
        moved
    }

    /// Moves the arrival time and adds to the debt, if the arrival time is still what was looked at: an admission.
    ///
    /// In one instruction where the processor has one for two words: a second locked one would cost a third of a check. Elsewhere the debt comes last. In between the
    /// work is in the arrival time but not published: should a catch-up read it just then, its receiver counts it twice when the debt
    /// follows. The other order would publish work that may yet be denied, to everybody.
    #[inline]
    pub(super) fn admit(
        self,
        pairs: Option<Pairs>,
        from: u64,
        to: u64,
        work: u64,
        is_still_there: impl FnOnce() -> bool,
    ) -> Result<(), Missed> {
        let debt = self.0[DEBT].load(Ordering::SeqCst);
        let pair = self.0[TAT..].first_chunk();
        let by_pair =
            pair.and_then(|pair| change_pair(pairs, pair, [from, debt], [to, debt.wrapping_add(work)]));
        if !by_pair.unwrap_or_else(|| self.move_tat(from, to)) {
            return Err(Missed::Changed);
        }
        if !is_still_there() {
            return Err(Missed::Gone);
        }
        if by_pair.is_none() {
            self.add_debt(work.cast_signed());
        }
        Ok(())
    }

    /// The bucket was idle until just now, when an admission moved its arrival time away from the past. Of several admissions only one does
    /// that, so plain stores will do; before them a row may find an earlier idle time, and adds in full what this one would have
    /// taken: never more than its debt. The start goes first and is read last, so that nobody sees an idle time longer than it was: between the two there is none.
    #[inline]
    pub(super) fn was_idle(self, idle: Idle) {
        self.0[IDLE_START].store(idle.start, Ordering::Release);
        self.0[IDLE_END].store(idle.end, Ordering::Release);
    }

    /// A row has filled some of the idle time, or ended it; unless an admission has ended another meanwhile, and this one counts no more.
    pub(super) fn change_idle(self, from: Idle, to: Idle) {
        let change = |at: usize, from, to| {
            self.0[at].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if change(IDLE_START, from.start, to.start) {
            change(IDLE_END, from.end, to.end);
        }
    }

    /// Sequentially consistent, as its changes are: the hand-off of dirty marks relies on it.
    #[inline]
    pub(super) fn debt(self) -> i64 {
        self.0[DEBT].load(Ordering::SeqCst).cast_signed()
    }

    /// Wraps rather than saturates: what is added is subtracted again.
    #[inline]
    pub(super) fn add_debt(self, work: i64) {
        self.0[DEBT].fetch_add(work.cast_unsigned(), Ordering::SeqCst);
    }

    pub(super) fn seq(self) -> u64 {
        self.0[SEQ].load(Ordering::Acquire) & !FOREIGN
    }

    /// For who publishes or applies, of whom there is one at a time.
    pub(super) fn set_seq(self, seq: u64) {
        let foreign = self.0[SEQ].load(Ordering::Relaxed) & FOREIGN;
        self.0[SEQ].store(seq | foreign, Ordering::Release);
    }

    pub(super) fn is_foreign(self) -> bool {
        self.0[SEQ].load(Ordering::Acquire) & FOREIGN != 0
    }

    /// As [`Self::set_seq`].
    pub(super) fn set_foreign(self) {
        let seq = self.0[SEQ].load(Ordering::Relaxed);
        if seq & FOREIGN == 0 {
            self.0[SEQ].store(seq | FOREIGN, Ordering::Release);
        }
    }
}
