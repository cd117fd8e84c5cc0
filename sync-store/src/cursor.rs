//! Where a scan is.
//!
//! Slots are met a window at a time, and those of a window in the order in which their records were published: neighbours then have sequences and stamps
//! close to each other, which takes fewer bytes on the wire, and their blocks lie close to each other, too. The window is what that may cost in memory.

/// Binary logarithm of the slots of a window, half of which hold records at most: of a million records, thirty thousand at a time, so that the next one is thirty
/// publications away. A slot's place in its window fits beside the 48 bits of a sequence.
const WINDOW_BITS: u32 = 16;
const WINDOW: usize = 1 << WINDOW_BITS;
/// Slots that one call of a scan looks through at the most, half a millisecond if the peer knows all: a zone of gigabytes takes longer than others can wait.
const SLOTS_AT_ONCE: usize = 4 * WINDOW;

/// How far a [scan](crate::Replica::scan) has come; the default is its beginning. Half a MiB at the most.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Where the next window begins.
    next: usize,
    /// Slots of the window before it that are still to be met, the last one first: sequences, and below them places in the window.
    left: Vec<u64>,
}

impl Cursor {
    /// The cursor of a scan that goes by slots, at this one.
    pub(crate) const fn at(slot: usize) -> Self {
        Self { next: slot, left: Vec::new() }
    }

    /// The slot where the scan goes on. Slots say nothing but which records are neighbours.
    pub fn slot(&self) -> usize {
        self.left.last().map_or(self.next, |next| self.slot_of(*next))
    }

    /// Where a call of a scan has looked at as many of the `slots` as it may.
    pub(crate) fn bound(&self, slots: usize) -> usize {
        slots.min(self.next + SLOTS_AT_ONCE)
    }

    /// Whether a scan has looked at all of the `slots`.
    pub(crate) fn is_at_end(&self, slots: usize) -> bool {
        self.left.is_empty() && self.next >= slots
    }

    /// Looks for slots to meet, if none is left, in the windows that begin before `bound`; of the `slots` `seq` gives the sequences. False if there are none.
    pub(crate) fn look(&mut self, slots: usize, bound: usize, seq: impl Fn(usize) -> Option<u64>) -> bool {
        while self.left.is_empty() && self.next < bound {
            let window = self.next..slots.min(self.next + WINDOW);
            let numbered = (0..).zip(window).filter_map(|(place, at)| Some(seq(at)? << WINDOW_BITS | place));
            self.left.extend(numbered);
            self.left.sort_unstable_by(|a, b| b.cmp(a));
            self.next += WINDOW;
        }
        !self.left.is_empty()
    }

    /// The slots to meet next.
    pub(crate) fn upcoming(&self) -> impl Iterator<Item = usize> {
        self.left.iter().rev().map(|next| self.slot_of(*next))
    }

    /// The slot that is met after `skipped` others.
    pub(crate) fn nth(&self, skipped: usize) -> Option<usize> {
        self.left.iter().nth_back(skipped).map(|next| self.slot_of(*next))
    }

    /// The next slot was met.
    pub(crate) fn advance(&mut self) {
        self.left.pop();
    }

    fn slot_of(&self, next: u64) -> usize {
        self.next - WINDOW + (next as usize & (WINDOW - 1))
    }
}
