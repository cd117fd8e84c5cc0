//! The origins that a zone has heard of, and how far it knows each: its version vector, kept in the region.
//!
//! Records name the origin that published them by its index in this table (16 bits instead of 64), so an entry must not move while
//! a record refers to it. Records also name their writers so. The entry of the zone's own origin is named in the region's header; its sequence is
//! the last one that was published.
//!
//! Changed under the zone's replication lock only; every entry is plain words because a later reader may be another process.

use crate::layout::{Layout, Section};
use crate::region::OpenRegion;
use crate::stamp::Origin;
use crate::version_vector::VersionVector;
use crate::words::{AtomicU64, Ordering};

/// Words of an entry: origin (0 = free), highest sequence through which everything is known, when it was last heard (a count) beside the
/// flags [`OURS`] and [`UNDER_WAY`].
const ENTRY: usize = 3;
const ORIGIN: usize = 0;
const THROUGH: usize = 1;
const HEARD: usize = 2;

/// It is the zone's own origin, or was in an earlier run. A process that was in the middle of a write when the owner changed finishes it in the
/// name of the origin that it began with.
const OURS: u64 = 1 << 63;
/// It is, or was so lately that such a write may still be under way. Its entry is not given to another.
const UNDER_WAY: u64 = 1 << 62;
const FLAGS: u64 = OURS | UNDER_WAY;

/// How many times an origin was heard.
const TIMES_HEARD: usize = 0;
/// How many entries have ever been in use. What is behind them is free and need not be looked at, which every frame would pay for.
const USED: usize = 1;

/// So many origins were heard just now: the one that publishes a row and the one that wrote it are needed at the same time.
const JUST_NOW: u64 = 2;

/// Bits of a sequence inside a dot word; the rest is the index of the origin.
const SEQ_BITS: u32 = 48;
/// The highest sequence: at a million records a second it lasts nine years.
pub(crate) const MAX_SEQ: u64 = (1 << SEQ_BITS) - 1;

/// The origin table of a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins {
    table: Section,
    /// The words [`TIMES_HEARD`] and [`USED`].
    counts: Section,
}

impl Origins {
    /// How many origins a zone of `size` bytes keeps apart: one for each KiB, so that the table never takes more than 2.4 % of a
    /// zone above 32 KiB. A node uses one up at every start.
    pub(crate) fn capacity(size: u64) -> usize {
        (size / 1024).clamp(32, 4096) as usize
    }

    /// The table of a zone of `size` bytes, empty; `None` if the region has no room for it.
    pub(crate) fn new(layout: &mut Layout, size: u64) -> Option<Self> {
        Some(Self { table: layout.take(Self::capacity(size) * ENTRY)?, counts: layout.take(2)? })
    }

    /// How many words [`Self::new`] takes from the layout at most.
    pub(crate) fn words(size: u64) -> usize {
        Self::capacity(size) * ENTRY + 2 * crate::words::LINE
    }

    /// How many origins there is room for.
    pub(crate) const fn len(self) -> usize {
        self.table.len() / ENTRY
    }

    // Relaxed throughout: writers exclude each other by the replication lock, and the one value read without it, the own
    // sequence, guards no other memory.
    fn word(self, region: &OpenRegion, index: u16, at: usize) -> &AtomicU64 {
        &region.words(self.table)[usize::from(index) * ENTRY + at]
    }

    /// The entries that have been in use.
    pub(crate) fn indices(self, region: &OpenRegion) -> impl Iterator<Item = u16> {
        let used = region.words(self.counts)[USED].load(Ordering::Relaxed) as usize;
        0..used.min(self.len()) as u16
    }

    /// Makes the origin at `index` the zone's own.
    pub(crate) fn set_own(self, region: &OpenRegion, index: u16) {
        self.word(region, index, HEARD).fetch_or(FLAGS, Ordering::Relaxed);
        region.own_origin().store(u64::from(index), Ordering::Release);
    }

    /// The index of the zone's own origin.
    #[inline]
    pub(crate) fn own(self, region: &OpenRegion) -> u16 {
        region.own_origin().load(Ordering::Acquire) as u16
    }

    /// Whether the origin at `index` is the zone's own or was in an earlier run.
    #[inline]
    pub(crate) fn is_ours(self, region: &OpenRegion, index: u16) -> bool {
        index == self.own(region) || self.has_flag(region, index, OURS)
    }

    /// Which origins a write may be under way in the name of, by index.
    pub(crate) fn under_way(self, region: &OpenRegion) -> Vec<bool> {
        self.indices(region).map(|index| self.has_flag(region, index, UNDER_WAY)).collect()
    }

    /// No write is under way in the name of an origin that is not our own any more.
    pub(crate) fn settle(self, region: &OpenRegion) {
        let own = self.own(region);
        for index in self.indices(region).filter(|&index| index != own) {
            self.word(region, index, HEARD).fetch_and(!UNDER_WAY, Ordering::Relaxed);
        }
    }

    fn has_flag(self, region: &OpenRegion, index: u16, flag: u64) -> bool {
        usize::from(index) < self.len() && self.word(region, index, HEARD).load(Ordering::Relaxed) & flag != 0
    }

    /// The last sequence that the zone has published.
    pub(crate) fn published(self, region: &OpenRegion) -> u64 {
        self.through(region, self.own(region))
    }

    /// Whether anybody's publications are known, our own or others'. None are in a zone that nobody publishes.
    pub(crate) fn is_any_known(self, region: &OpenRegion) -> bool {
        self.indices(region).any(|index| self.through(region, index) != 0)
    }

    /// The origin at `index`; `None` if there is none.
    pub(crate) fn get(self, region: &OpenRegion, index: u16) -> Option<Origin> {
        if usize::from(index) >= self.len() {
            return None;
        }
        Origin::from_raw(self.word(region, index, ORIGIN).load(Ordering::Relaxed))
    }

    /// Where `origin` is in the table.
    pub(crate) fn find(self, region: &OpenRegion, origin: Origin) -> Option<u16> {
        self.indices(region).find(|&index| self.get(region, index) == Some(origin))
    }

    /// Enters `origin` if it is not there; `None` if the table is full. Then [`Self::forget`] may help.
    pub(crate) fn enter(self, region: &OpenRegion, origin: Origin) -> Option<u16> {
        let index = self.find(region, origin).or_else(|| {
            let free = (0..self.len() as u16).find(|&index| self.get(region, index).is_none())?;
            region.words(self.counts)[USED].fetch_max(u64::from(free) + 1, Ordering::Relaxed);
            self.word(region, free, THROUGH).store(0, Ordering::Relaxed);
            self.word(region, free, HEARD).store(0, Ordering::Relaxed);
            // Release pairs with the fence in `Table::writer`.
            self.word(region, free, ORIGIN).store(origin.raw(), Ordering::Release);
            Some(free)
        })?;
        self.hear(region, index);
        Some(index)
    }

    /// The origins to forget: those that were not heard for longest among those not `in_use` (by index), not heard just now and not our own, an eighth of the
    /// table at most, since finding out what is in use is expensive.
    pub(crate) fn forgettable(self, region: &OpenRegion, in_use: &[bool]) -> Vec<u16> {
        let own = self.own(region);
        let heard = |index: u16| self.word(region, index, HEARD).load(Ordering::Relaxed) & !FLAGS;
        let just_now =
            region.words(self.counts)[TIMES_HEARD].load(Ordering::Relaxed).saturating_sub(JUST_NOW);
        let mut idle: Vec<u16> = self
            .indices(region)
            .filter(|&index| index != own && !in_use[usize::from(index)] && heard(index) <= just_now)
            .collect();
        idle.sort_by_key(|&index| heard(index));
        idle.truncate(self.len() / 8);
        idle
    }

    /// Forgets these origins. No record and no dot may name one any more.
    pub(crate) fn forget(self, region: &OpenRegion, indices: &[u16]) {
        for &index in indices {
            self.word(region, index, ORIGIN).store(0, Ordering::Relaxed);
        }
    }

    fn hear(self, region: &OpenRegion, index: u16) {
        let count = region.words(self.counts)[TIMES_HEARD].fetch_add(1, Ordering::Relaxed) + 1;
        let heard = self.word(region, index, HEARD);
        heard.store(heard.load(Ordering::Relaxed) & FLAGS | count, Ordering::Relaxed);
    }

    /// The sequence through which everything of the origin at `index` is known.
    pub(crate) fn through(self, region: &OpenRegion, index: u16) -> u64 {
        self.word(region, index, THROUGH).load(Ordering::Relaxed)
    }

    /// Raises it.
    pub(crate) fn advance(self, region: &OpenRegion, index: u16, through_seq: u64) {
        self.word(region, index, THROUGH).fetch_max(through_seq, Ordering::Relaxed);
    }

    /// Lowers it.
    pub(crate) fn recede(self, region: &OpenRegion, index: u16, through_seq: u64) {
        let word = self.word(region, index, THROUGH);
        word.store(word.load(Ordering::Relaxed).min(through_seq), Ordering::Relaxed);
    }

    /// The whole version vector, a copy.
    pub(crate) fn vector(self, region: &OpenRegion) -> VersionVector {
        self.indices(region)
            .filter_map(|index| Some((self.get(region, index)?, self.through(region, index))))
            .collect()
    }
}

/// A dot as one word: the origin's index above the sequence. 0 means none, since sequences begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedDot(u64);

impl PackedDot {
    /// The sequence must not be above [`MAX_SEQ`].
    pub(crate) const fn new(index: u16, seq: u64) -> Self {
        debug_assert!(seq <= MAX_SEQ);
        Self((index as u64) << SEQ_BITS | seq)
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    pub(crate) const fn index(self) -> u16 {
        (self.0 >> SEQ_BITS) as u16
    }

    pub(crate) const fn seq(self) -> u64 {
        self.0 & MAX_SEQ
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
