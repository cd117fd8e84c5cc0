//! One contiguous region of fixed size per zone, and where in it things are.
//!
//! ```text
//! line 0   magic · layout version and kind · size · two hash seeds · the index of our origin
//! line 1   the hybrid logical clock, alone on its line: every insert changes it
//! line 2…  sections, each starting on a cache line, laid out by the zone with [`Layout`]
//! ```
//!
//! The size is exactly what was asked for, and everything that is state of the zone lies in it: a second process that maps the
//! region needs nothing else to read it. What belongs to one process (the waker of the publisher, the replication lock) stays
//! outside.

use std::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::stamp::Hlc;
use crate::slot::UNIT_BITS;
use crate::words::{AtomicU64, LINE, Ordering, UNIT, WORD, Words};
use crate::{Error, ZoneKind};

/// "zonesync" in ASCII, read as a little-endian number. Written last: a region without it is half made.
const MAGIC: u64 = u64::from_le_bytes(*b"zonesync");
/// Grows with every change of what any word of a region means; the hash function is part of that.
const LAYOUT_VERSION: u64 = 2;

/// The largest region: slots name a block by its unit.
pub(crate) const MAX_SIZE: u64 = (UNIT * WORD) as u64 * (1 << UNIT_BITS);

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
const SIZE_AT: usize = 2;
const SEED_AT: usize = 3;
const SHARED_SEED_AT: usize = 4;
const OWN_ORIGIN_AT: usize = 5;
const HLC_AT: usize = LINE;
const HEADER_WORDS: usize = 2 * LINE;

/// A run of words of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    start: usize,
    len: usize,
}

impl Section {
    /// The position of its first word in the region; always the start of a cache line.
    pub(crate) const fn start(self) -> usize {
        self.start
    }

    /// How many words it has.
    pub(crate) const fn len(self) -> usize {
        self.len
    }
}

/// Deals out the words of a region of a given size, from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    next: usize,
    end: usize,
}

impl Layout {
    /// For a region of `size` bytes; what is left over behind the last whole cache line is not dealt out.
    pub(crate) const fn new(size: u64) -> Self {
        Self { next: HEADER_WORDS, end: size as usize / (WORD * LINE) * LINE }
    }

    /// The next `words` words, starting on a cache line; `None` if so many are not left.
    pub(crate) fn take(&mut self, words: usize) -> Option<Section> {
        let start = self.next;
        let next = start.checked_add(words)?.checked_next_multiple_of(LINE)?;
        if next > self.end {
            return None;
        }
        self.next = next;
        Some(Section { start, len: words })
    }

    /// How many words are left.
    pub(crate) const fn left(&self) -> usize {
        self.end.saturating_sub(self.next)
    }
}

/// The memory of one zone.
#[derive(Debug)]
pub(crate) struct Region {
    words: Words,
    size: u64,
    seed: u64,
    /// Spread out from a word of the header. Kept outside, as are `size` and `seed`, to save readers a cache line.
    shared_seed: SharedSeed,
}

impl Region {
    /// A fresh region of `size` bytes with a header; the rest is zero. Its zone lays out the rest and then calls
    /// [`Self::seal`].
    pub(crate) fn create(zone: &str, kind: ZoneKind, size: u64) -> Result<Self, Error> {
        let out_of_memory = || Error::InvalidSetting {
            zone: zone.to_owned(),
            setting: "size",
            value: size.to_string(),
            expected: "a number of bytes that the system has memory for",
        };
        let words = Words::zeroed(usize::try_from(size).map_err(|_| out_of_memory())?)
            .map_err(|_| out_of_memory())?;
        let kind = match kind {
            ZoneKind::Keyval => 1,
            ZoneKind::Sticky => 2,
            ZoneKind::Limit => 3,
        };
        // Loom runs a model many times over and wants every run to hash alike.
        let (seed, shared_seed) = if cfg!(loom) { (1, 2) } else { (rand::random(), rand::random()) };
        // Relaxed: nobody reads before the magic word is there, see `seal`.
        words[VERSION_AT].store(LAYOUT_VERSION << 8 | kind, Ordering::Relaxed);
        words[SIZE_AT].store(size, Ordering::Relaxed);
        words[SEED_AT].store(seed, Ordering::Relaxed);
        words[SHARED_SEED_AT].store(shared_seed, Ordering::Relaxed);
        Ok(Self { words, size, seed, shared_seed: SharedSeed::from_u64(shared_seed) })
    }

    /// Marks the region as completely laid out. Release: who finds the magic word (with Acquire) finds everything before it.
    pub(crate) fn seal(&self) {
        self.words[MAGIC_AT].store(MAGIC, Ordering::Release);
    }

    /// Bytes asked for.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// All words, by absolute position.
    #[inline]
    pub(crate) fn all(&self) -> &[AtomicU64] {
        &self.words
    }

    /// The words of a section.
    #[inline]
    pub(crate) fn words(&self, section: Section) -> &[AtomicU64] {
        &self.words[section.start..section.start + section.len]
    }

    /// The zone's clock.
    pub(crate) fn hlc(&self) -> Hlc<'_> {
        Hlc::new(&self.words[HLC_AT])
    }

    /// Where in the table of origins the zone's own one is. On a line that hardly ever changes: every write reads it.
    #[inline]
    pub(crate) fn own_origin(&self) -> &AtomicU64 {
        &self.words[OWN_ORIGIN_AT]
    }

    /// The hash of a key, seeded per region: nobody outside can choose keys that meet in one bucket.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write(key);
        hasher.finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
