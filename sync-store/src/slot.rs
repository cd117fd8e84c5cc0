//! The word of a slot: which block holds the record, and how often that changed.
//!
//! ```text
//! 63      54 53 52 51                  28 27                   0
//! ┌─────────┬─────┬──────────────────────┬──────────────────────┐
//! │ tag  10 │st. 2│ version           24 │ line              28 │
//! └─────────┴─────┴──────────────────────┴──────────────────────┘
//! ```
//!
//! The version grows with *every* change and survives removal: an empty slot keeps it. Were it to restart, removing a record and
//! inserting another could yield the very word that a reader validates against, with the block rewritten under it. It wraps after 16
//! million changes; a reader that slept through exactly that many is caught by the record's stamp, which it
//! validates too.

use std::fmt;

const LINE_BITS: u32 = 28;
const VERSION_BITS: u32 = 24;
const STATE_SHIFT: u32 = LINE_BITS + VERSION_BITS;
const TAG_SHIFT: u32 = STATE_SHIFT + 2;
const LINE_MASK: u64 = (1 << LINE_BITS) - 1;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Nothing.
    Empty,
    /// A record that is being inserted and does not count yet.
    Pending,
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
    /// their records.
    pub(crate) const fn tag_of(hash: u64) -> u64 {
        // 2^64 / golden ratio: the top bits of the product depend on all bits of the hash.
        hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> TAG_SHIFT
    }

    pub(crate) const fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    pub(crate) const fn state(self) -> SlotState {
        match self.0 >> STATE_SHIFT & 3 {
            0 => SlotState::Empty,
            1 => SlotState::Pending,
            _ => SlotState::Live,
        }
    }

    /// The lower half of the version: ties what is kept beside the slot to the record it was meant for.
    pub(crate) const fn generation(self) -> u64 {
        self.0 >> LINE_BITS & 0xffff
    }

    /// The cache line of the region where the block starts; 0 for none.
    pub(crate) const fn line(self) -> u32 {
        (self.0 & LINE_MASK) as u32
    }

    const fn next(self, tag: u64, state: SlotState, line: u32) -> Self {
        let version = (self.0 >> LINE_BITS).wrapping_add(1) & VERSION_MASK;
        let state = match state {
            SlotState::Empty => 0,
            SlotState::Pending => 1,
            SlotState::Live => 2,
        };
        Self(tag << TAG_SHIFT | state << STATE_SHIFT | version << LINE_BITS | line as u64)
    }

    /// Then: nothing.
    pub(crate) const fn emptied(self) -> Self {
        self.next(0, SlotState::Empty, 0)
    }

    /// Then: a pending record in the block at `line`.
    pub(crate) const fn pending(self, tag: u64, line: u32) -> Self {
        self.next(tag, SlotState::Pending, line)
    }

    /// Then: the same record, live.
    pub(crate) const fn promoted(self) -> Self {
        self.next(self.tag(), SlotState::Live, self.line())
    }

    /// Then: another record of the same key, in the block at `line`.
    pub(crate) const fn replaced(self, line: u32) -> Self {
        self.next(self.tag(), SlotState::Live, line)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("tag", &self.tag())
            .field("state", &self.state())
            .field("version", &(self.0 >> LINE_BITS & VERSION_MASK))
            .field("line", &self.line())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
