//! The word of a slot: which block holds the record, and how often that changed.
//!
//! ```text
//! 63      54  53  52                  29 28                    0
//! ┌─────────┬────┬──────────────────────┬───────────────────────┐
//! │ tag  10 │ p. │ version           24 │ unit               29 │
//! └─────────┴────┴──────────────────────┴───────────────────────┘
//! ```
//!
//! No unit: the slot is empty. `p.`: the record is pending; with tag 0, which no key has: its insert was aborted.
//!
//! **ABA.** The version grows with *every* change and survives removal: an empty slot keeps it. Were it to restart, removing a record and
//! inserting another could yield the very word that a reader validates against, with the block rewritten under it (a prototype accepted 452
//! torn reads of 396,900 that way). It wraps after 2²⁴ = 16.8 million changes of *one* slot. A change takes 100 ns at least, so
//! a reader has to sleep for 1.6 s, wake after an exact multiple of so many changes, and meet the same unit (one of those that its stripe of
//! threads had at hand, about one in eight): one such sleep in a hundred million. Even then it is not fooled: it also
//! validates the stamp, whose milliseconds have moved on by 1,600.

use std::fmt;

/// Bits that name a unit of the region.
pub(crate) const UNIT_BITS: u32 = 29;
const VERSION_BITS: u32 = 24;
const PENDING_SHIFT: u32 = UNIT_BITS + VERSION_BITS;
const TAG_SHIFT: u32 = PENDING_SHIFT + 1;
const UNIT_MASK: u64 = (1 << UNIT_BITS) - 1;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Nothing.
    Empty,
    /// A record that is being inserted and does not count yet.
    Pending,
    /// A record whose insert somebody else has aborted. It waits for its inserter, who must find out.
    Aborted,
    /// A record.
    Live,
}

/// The word of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u64);

impl Slot {
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// The tag of a key: ten bits of its hash that do not choose the bucket, so most other keys are passed by without a look at
    /// their records. Never 0, which is the tag of empty slots.
    pub(crate) const fn tag_of(hash: u64) -> u64 {
        // 2^64 / golden ratio: the top bits of the product depend on all bits of the hash.
        let tag = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> TAG_SHIFT;
        if tag == 0 { 1 } else { tag }
    }

    pub(crate) const fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    pub(crate) const fn state(self) -> SlotState {
        if self.0 & UNIT_MASK == 0 {
            SlotState::Empty
        } else if self.0 >> PENDING_SHIFT & 1 == 1 {
            if self.tag() == 0 { SlotState::Aborted } else { SlotState::Pending }
        } else {
            SlotState::Live
        }
    }

    /// Whether a live record of such a tag, as [`Self::tag_of`] makes them, is there: one comparison for readers.
    #[inline]
    pub(crate) const fn is_live_with(self, tag: u64) -> bool {
        self.0 ^ tag << TAG_SHIFT < 1 << PENDING_SHIFT
    }

    /// Bits from the pending one up.
    pub(crate) const STATE_BITS: u32 = u64::BITS - PENDING_SHIFT;

    /// Those bits of a live slot of such a tag.
    #[inline]
    pub(crate) const fn live_bits(tag: u64) -> u32 {
        (tag << 1) as u32
    }

    /// The unit of the region where the block starts; 0 for none.
    pub(crate) const fn unit(self) -> u32 {
        (self.0 & UNIT_MASK) as u32
    }

    const fn next(self, tag: u64, pending: bool, unit: u32) -> Self {
        let version = (self.0 >> UNIT_BITS).wrapping_add(1) & VERSION_MASK;
        Self(tag << TAG_SHIFT | (pending as u64) << PENDING_SHIFT | version << UNIT_BITS | unit as u64)
    }

    /// Then: nothing.
    pub(crate) const fn emptied(self) -> Self {
        self.next(0, false, 0)
    }

    /// Then: a pending record in the block at `unit`.
    pub(crate) const fn pending(self, tag: u64, unit: u32) -> Self {
        self.next(tag, true, unit)
    }

    /// Then: the same record, live.
    pub(crate) const fn promoted(self) -> Self {
        self.next(self.tag(), false, self.unit())
    }

    /// Then: a record that is not to be.
    pub(crate) const fn aborted(self) -> Self {
        self.next(0, true, self.unit())
    }

    /// Then: another record of the same key, in the block at `unit`.
    pub(crate) const fn replaced(self, unit: u32) -> Self {
        self.next(self.tag(), false, unit)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("tag", &self.tag())
            .field("state", &self.state())
            .field("version", &(self.0 >> UNIT_BITS & VERSION_MASK))
            .field("unit", &self.unit())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
