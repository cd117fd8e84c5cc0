//! The figures of a table, in its region.

use crate::region::{Layout, Region, Section};
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

    pub(crate) fn get(self, region: &Region, counter: Counter) -> u64 {
        region.words(self.0)[counter as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn set(self, region: &Region, counter: Counter, to: u64) {
        region.words(self.0)[counter as usize].store(to, Ordering::Relaxed);
    }

    /// Adds, and answers what it was before. Subtracts, given a negative number.
    pub(crate) fn add(self, region: &Region, counter: Counter, count: i64) -> u64 {
        region.words(self.0)[counter as usize].fetch_add(count.cast_unsigned(), Ordering::Relaxed)
    }
}
