//! The figures of a table, in its region.

use crate::layout::{Layout, Section};
use crate::region::OpenRegion;
use crate::words::{LINE, Ordering};

/// One figure. Those that requests change come first and share a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    /// Records in slots that are no tombstones.
    Records,
    Tombstones,
    /// Units that the records in slots take.
    Units,
    Evicted,
    Refused,
    Expired,
    /// Rows of peers that changed something.
    Applied,
    Superseded,
    /// Where the next search for a victim begins. Not a figure.
    VictimHand,
    /// Where the next sweep begins. Not a figure.
    SweepHand,
}

const COUNTERS: usize = Counter::SweepHand as usize + 1;

/// The figures of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters(Section);

impl Counters {
    /// How many words [`Self::new`] takes at most.
    pub(crate) const WORDS: usize = COUNTERS + LINE;

    pub(crate) fn new(layout: &mut Layout) -> Option<Self> {
        layout.take(COUNTERS).map(Self)
    }

    // Relaxed: figures guard nothing.

    /// Never below zero. The word may be for a moment: who takes a record out may be quicker to count it than who put it in.
    pub(crate) fn get(self, region: &OpenRegion, counter: Counter) -> u64 {
        let count = region.words(self.0)[counter as usize].load(Ordering::Relaxed).cast_signed();
        count.max(0).cast_unsigned()
    }

    /// How much to add to a figure that should be `is`.
    pub(crate) fn off_by(self, region: &OpenRegion, counter: Counter, is: i64) -> i64 {
        is.wrapping_sub(region.words(self.0)[counter as usize].load(Ordering::Relaxed).cast_signed())
    }

    pub(crate) fn set(self, region: &OpenRegion, counter: Counter, to: u64) {
        region.words(self.0)[counter as usize].store(to, Ordering::Relaxed);
    }

    /// Adds, and answers what it was before. Subtracts, given a negative number.
    pub(crate) fn add(self, region: &OpenRegion, counter: Counter, count: i64) -> u64 {
        region.words(self.0)[counter as usize].fetch_add(count.cast_unsigned(), Ordering::Relaxed)
    }
}
