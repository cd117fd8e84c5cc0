//! The slots: which ones a key may lie in, and which one a new key takes.
//!
//! Slots are grouped into buckets of one cache line. A key may lie in either of two buckets and, in a keyval zone, in a third one of a small
//! overflow area, so that an accident of hashing is not a full zone. While a key is present it never moves, so one pass over its buckets is
//! enough to say that it is absent.

use crate::layout::{Layout, Section};
use crate::region::OpenRegion;
use crate::slot::{Slot, SlotState};
use crate::words::{AtomicU64, LINE, Ordering, matching, prefetch};

/// Slots of a bucket: a cache line. Loom explores every order of every access; with fewer of them it ends.
pub(crate) const BUCKET: usize = if cfg!(loom) { 2 } else { 8 };
/// The first bucket is preferred while no more than this many of its slots are taken: then 95 reads in a hundred end there (with 4, 91), and at half
/// load both buckets are practically never full (measured: none in a million; with 6, one; with 7, 160).
const PREFERRED: usize = BUCKET * 5 / 8;
/// A bucket of overflow for so many buckets.
const OVERFLOW_SHARE: usize = 64;

/// The slots of a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Index {
    slots: Section,
    /// Buckets before the overflow area.
    buckets: usize,
    /// Buckets of the overflow area.
    overflow: usize,
    /// One word: how many slots of the overflow area are taken. Counted up before a slot is taken and down after it is emptied.
    overflow_taken: Section,
}

/// The buckets of a key, by their first slots; the overflow bucket may be missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidates {
    pub(crate) main: [usize; 2],
    pub(crate) overflow: Option<usize>,
}

/// A slot as it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse<'r> {
    pub(crate) at: usize,
    pub(crate) word: &'r AtomicU64,
    /// What the word held.
    pub(crate) slot: Slot,
}

impl Glimpse<'_> {
    /// Changes the slot if it is still as it was seen; see [`Index::change`].
    #[inline]
    pub(crate) fn change(&self, to: Slot) -> bool {
        self.word.compare_exchange(self.slot.raw(), to.raw(), Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

impl Candidates {
    /// All slots where the key may lie, the overflow bucket's last.
    pub(crate) fn slots(self) -> impl Iterator<Item = usize> {
        self.main.into_iter().chain(self.overflow).flat_map(|first| first..first + BUCKET)
    }
}

impl Index {
    /// An index of `buckets` buckets, and an overflow area if asked for; `None` if the region has no room.
    pub(crate) fn new(layout: &mut Layout, buckets: usize, overflow: bool) -> Option<Self> {
        let overflow = Self::overflow_buckets(buckets, overflow);
        let overflow_taken = layout.take(1)?;
        let slots = layout.take((buckets + overflow) * BUCKET)?;
        Some(Self { slots, buckets, overflow, overflow_taken })
    }

    fn overflow_buckets(buckets: usize, overflow: bool) -> usize {
        if overflow { buckets.div_ceil(OVERFLOW_SHARE) } else { 0 }
    }

    /// How many slots there are.
    pub(crate) const fn len(self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(crate) fn word(self, region: &OpenRegion, at: usize) -> &AtomicU64 {
        debug_assert!(at < self.slots.len());
        &region.all()[self.slots.start() + at]
    }

    /// Acquire pairs with the Release of whoever put the record there: its block can be read. Sequentially consistent for the publisher's sake,
    /// see [`crate::dirty`].
    #[inline]
    pub(crate) fn load(self, region: &OpenRegion, at: usize) -> Slot {
        Slot::from_raw(self.word(region, at).load(Ordering::SeqCst))
    }

    /// Which slots of the bucket that begins at `first` hold live records of a tag, as bits.
    #[inline]
    pub(crate) fn live_in(self, region: &OpenRegion, first: usize, tag: u64) -> u32 {
        self.which_in(region, first, |slot| slot.is_live_with(tag))
    }

    /// Which slots of the bucket that begins at `first` have a tag, whatever their state, as bits.
    #[inline]
    pub(crate) fn tagged_in(self, region: &OpenRegion, first: usize, tag: u64) -> u32 {
        self.which_in(region, first, |slot| slot.tag() == tag)
    }

    /// Which slots of the bucket that begins at `first` are so, as bits. From the last one down, so that each takes a comparison and an addition with carry. SeqCst like `load`.
    #[inline(always)]
    fn which_in(self, region: &OpenRegion, first: usize, is_so: impl Fn(Slot) -> bool) -> u32 {
        let words = &region.all()[self.slots.start() + first..][..BUCKET];
        words
            .iter()
            .rev()
            .fold(0, |which, word| which << 1 | u32::from(is_so(Slot::from_raw(word.load(Ordering::SeqCst)))))
    }

    /// Whether a slot of the bucket that begins at `first` holds a live record of a tag. A hint, like [`Self::glance`].
    #[inline]
    pub(crate) fn may_hold(self, region: &OpenRegion, first: usize, tag: u64) -> bool {
        let bucket = region.all()[self.slots.start() + first..].first_chunk();
        bucket.is_none_or(|bucket| matching::<{ Slot::STATE_BITS }>(bucket, Slot::live_bits(tag)) != 0)
    }

    /// A slot of the bucket that begins at `first` that holds a live record of a tag: the first one, if there are several. `None` says little, it may have been overlooked
    /// while it changed.
    #[inline]
    pub(crate) fn glance(self, region: &OpenRegion, first: usize, tag: u64) -> Option<Glimpse<'_>> {
        let bucket: &[AtomicU64; LINE] = region.all()[self.slots.start() + first..].first_chunk()?;
        let matching = matching::<{ Slot::STATE_BITS }>(bucket, Slot::live_bits(tag));
        if matching == 0 {
            return None;
        }
        let at = matching.trailing_zeros() as usize % LINE;
        let word = &bucket[at];
        let slot = Slot::from_raw(word.load(Ordering::SeqCst));
        slot.is_live_with(tag).then_some(Glimpse { at: first + at, word, slot })
    }

    /// Asks for the first bucket of a key before it is needed.
    #[inline]
    pub(crate) fn prefetch_first(self, region: &OpenRegion, hash: u64) {
        prefetch(self.word(region, self.first(hash)));
    }

    /// Changes a slot if it is still as it was seen. Release: the record comes before. Acquire: so does what the slot pointed to, whose
    /// block the caller owns from here on. Sequentially consistent because a mark may follow, see [`crate::dirty`].
    #[inline]
    pub(crate) fn change(self, region: &OpenRegion, at: usize, seen: Slot, to: Slot) -> bool {
        Glimpse { at, word: self.word(region, at), slot: seen }.change(to)
    }

    /// The first bucket of a key, by its first slot.
    #[inline]
    pub(crate) const fn first(self, hash: u64) -> usize {
        scale(hash, self.buckets) * BUCKET
    }

    /// The buckets of a key.
    #[inline]
    pub(crate) fn candidates(self, hash: u64) -> Candidates {
        let first = scale(hash, self.buckets);
        // The other one by other bits of the hash, and never the same.
        let step = scale(hash.rotate_left(32), self.buckets - 1) + 1;
        let second = first + step;
        let second = if second < self.buckets { second } else { second - self.buckets };
        let overflow =
            (self.overflow > 0).then(|| (self.buckets + scale(hash.rotate_left(48), self.overflow)) * BUCKET);
        Candidates { main: [first * BUCKET, second * BUCKET], overflow }
    }

    /// The buckets where a key may be now, by their first slots: not the overflow bucket as long as none is in use.
    #[inline]
    pub(crate) fn buckets_in_use(self, region: &OpenRegion, hash: u64) -> impl Iterator<Item = usize> {
        let Candidates { main, overflow } = self.candidates(hash);
        main.into_iter().chain(overflow.filter(|_| self.overflow_in_use(region)))
    }

    /// Whether a key that is in neither bucket may be in the overflow area. Acquire pairs with [`Self::claim`]: who has seen that a key was
    /// inserted sees the count.
    #[inline]
    pub(crate) fn overflow_in_use(self, region: &OpenRegion) -> bool {
        self.overflow > 0 && region.words(self.overflow_taken)[0].load(Ordering::Acquire) > 0
    }

    /// Whether a slot is in the overflow area.
    pub(crate) const fn is_overflow(self, at: usize) -> bool {
        at >= self.buckets * BUCKET
    }

    /// How many slots of the overflow area are counted as taken.
    pub(crate) fn overflow_taken(self, region: &OpenRegion) -> i64 {
        region.words(self.overflow_taken)[0].load(Ordering::Acquire).cast_signed()
    }

    /// Corrects that count.
    pub(crate) fn correct_overflow(self, region: &OpenRegion, difference: i64) {
        region.words(self.overflow_taken)[0].fetch_add(difference.cast_unsigned(), Ordering::AcqRel);
    }

    /// An empty slot for a new key, with the word that makes it empty: in the first bucket while that is not crowded, else in the
    /// emptier one, else in the overflow bucket.
    pub(crate) fn vacancy(self, region: &OpenRegion, candidates: Candidates) -> Option<(usize, Slot)> {
        let look = |first: usize| self.which_in(region, first, |slot| slot.state() == SlotState::Empty);
        // Who has taken it meanwhile may have taken any other: look again at all.
        let seen = |at: usize| {
            Some((at, self.load(region, at))).filter(|(_, slot)| slot.state() == SlotState::Empty)
        };
        let lowest = |first: usize, empty: u32| (empty != 0).then(|| first + empty.trailing_zeros() as usize);
        loop {
            let [first, second] = candidates.main;
            let empty = look(first);
            // Without the lowest of them, once less than have to be empty: cheaper than counting them.
            let is_roomy = (1..BUCKET - PREFERRED).fold(empty, |left, _| left & left.wrapping_sub(1)) != 0;
            let at = if is_roomy {
                lowest(first, empty)
            } else {
                let other = look(second);
                let roomier =
                    if other.count_ones() > empty.count_ones() { (second, other) } else { (first, empty) };
                lowest(roomier.0, roomier.1)
                    .or_else(|| candidates.overflow.and_then(|first| lowest(first, look(first))))
            };
            match at.map(seen) {
                None => return None,
                Some(None) => {}
                Some(vacancy) => return vacancy,
            }
        }
    }

    /// Puts a pending record into an empty slot, or fails because it is not empty any more.
    pub(crate) fn claim(self, region: &OpenRegion, at: usize, empty: Slot, pending: Slot) -> bool {
        let overflow = self.is_overflow(at);
        if overflow {
            region.words(self.overflow_taken)[0].fetch_add(1, Ordering::AcqRel);
        }
        let claimed = self.change(region, at, empty, pending);
        if overflow && !claimed {
            region.words(self.overflow_taken)[0].fetch_sub(1, Ordering::AcqRel);
        }
        claimed
    }

    /// Empties a slot if it is still as it was seen. Then the caller owns its block.
    pub(crate) fn empty(self, region: &OpenRegion, at: usize, seen: Slot) -> bool {
        let emptied = self.change(region, at, seen, seen.emptied());
        if emptied && self.is_overflow(at) {
            region.words(self.overflow_taken)[0].fetch_sub(1, Ordering::AcqRel);
        }
        emptied
    }
}

/// A number below `count`, by the upper bits of a hash.
#[inline]
const fn scale(bits: u64, count: usize) -> usize {
    ((bits as u128 * count as u128) >> 64) as usize
}

#[cfg(all(test, not(loom)))]
mod tests;
