//! One record in its block: four header words, then the key, then the value, each padded to whole words.
//!
//! ```text
//! 0  head    removed 1 · value length 17 · key length 11
//! 1  stamp
//! 2  writer
//! 3  time    milliseconds: keyval when the record expires; sticky the last access as the cluster knows it
//! …  key, value
//! ```
//!
//! A block that a slot points to never changes. What may change in place beside a record, the last access of a session, lies in a column
//! of its own beside the slots, so that a change that comes too late can never land in another record's bytes.
//!
//! Readers race with the reuse of blocks. Whatever they load here, lengths included, may be of two different records, and is
//! believed only after validation; until then everything is bounded by the region. Validation works because every store into a
//! reused block comes behind a release fence ([`Block::fill`]) that comes behind the change of the slot: a reader that sees such a
//! store and then executes its acquire fence also sees the slot changed. The compare-and-swap of the slot alone, even a sequentially
//! consistent one, does not keep *later* stores behind it on ARM.

use crate::stamp::{Origin, Stamp};
use crate::words::{AtomicU64, LINE, Ordering, WORD, fence};

const HEAD: usize = 0;
const STAMP: usize = 1;
const WRITER: usize = 2;
const TIME: usize = 3;
const KEY: usize = 4;

/// The longest key in bytes that the head has bits for.
pub(crate) const KEY_MAX: usize = 1024;
/// The most bytes of key and value together.
pub(crate) const RECORD_MAX: usize = 64 << 10;

const KEY_BITS: u32 = 11;
const VALUE_BITS: u32 = 17;
const REMOVED_SHIFT: u32 = KEY_BITS + VALUE_BITS;
const _: () = assert!(KEY_MAX < 1 << KEY_BITS && RECORD_MAX < 1 << VALUE_BITS);

/// The first word of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(u64);

impl Head {
    pub(crate) const fn key_len(self) -> usize {
        (self.0 & ((1 << KEY_BITS) - 1)) as usize
    }

    pub(crate) const fn value_len(self) -> usize {
        (self.0 >> KEY_BITS & ((1 << VALUE_BITS) - 1)) as usize
    }

    const fn removed(self) -> bool {
        self.0 >> REMOVED_SHIFT & 1 == 1
    }

    /// Cache lines of the block.
    pub(crate) const fn lines(self) -> u32 {
        lines_needed(self.key_len(), self.value_len())
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) header: Header,
}

impl Draft<'_> {
    /// Cache lines that it needs.
    pub(crate) const fn lines(&self) -> u32 {
        lines_needed(self.key.len(), self.value.len())
    }
}

/// The part of a record that is neither key nor value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// A tombstone; its value is empty.
    pub(crate) removed: bool,
    pub(crate) stamp: Stamp,
    pub(crate) writer: Origin,
    /// Milliseconds since the Unix epoch. Keyval: when it expires, 0 = never. Sticky: the last access as the cluster knows it.
    pub(crate) time_ms: u64,
}

/// What there is to know of a record besides key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) head: Head,
    pub(crate) header: Header,
    /// The first byte of the key.
    pub(crate) lead: u8,
}

const fn padded(bytes: usize) -> usize {
    bytes.div_ceil(WORD)
}

/// Cache lines that a record of these lengths needs.
pub(crate) const fn lines_needed(key_len: usize, value_len: usize) -> u32 {
    (KEY + padded(key_len) + padded(value_len)).div_ceil(LINE) as u32
}

/// The words of a block, and what lies behind them up to the end of the region: how long it is is only known once the head has been
/// validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'r>(&'r [AtomicU64]);

impl<'r> Block<'r> {
    /// The block that begins with `words`, a cache line at least.
    pub(crate) const fn new(words: &'r [AtomicU64]) -> Self {
        Self(words)
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        // Relaxed: ordered by the slot, which is loaded with Acquire before and validated behind an Acquire fence after.
        self.0[at].load(Ordering::Relaxed)
    }

    /// The head as it is now.
    #[inline]
    pub(crate) fn head(&self) -> Head {
        Head(self.load(HEAD))
    }

    /// The stamp as it is now.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::from_raw(self.load(STAMP))
    }

    /// Whether the key is this one.
    #[inline]
    pub(crate) fn has_key(&self, head: Head, key: &[u8]) -> bool {
        if head.key_len() != key.len() {
            return false;
        }
        let Some(words) = self.0.get(KEY..KEY + padded(key.len())) else {
            return false;
        };
        key.chunks(WORD).zip(words).all(|(chunk, word)| word.load(Ordering::Relaxed) == to_word(chunk))
    }

    /// All but key and value, given a head that was just loaded.
    #[inline]
    pub(crate) fn meta(&self, head: Head) -> Meta {
        let header = Header {
            removed: head.removed(),
            stamp: self.stamp(),
            // 0 only in a torn read, which is thrown away.
            writer: Origin::from_raw(self.load(WRITER)).unwrap_or(NOBODY),
            time_ms: self.load(TIME),
        };
        Meta { head, header, lead: self.load(KEY) as u8 }
    }

    /// Appends the key to `out`.
    pub(crate) fn copy_key(&self, head: Head, out: &mut Vec<u8>) {
        self.copy(KEY, head.key_len(), out, || true);
    }

    /// Appends the value to `out`. `valid` is asked now and then on the way, so that a reader of a long value that has lost its race
    /// does not copy it to the end.
    #[inline]
    pub(crate) fn copy_value(&self, head: Head, out: &mut Vec<u8>, valid: impl Fn() -> bool) {
        self.copy(KEY + padded(head.key_len()), head.value_len(), out, valid);
    }

    #[inline]
    fn copy(&self, from: usize, len: usize, out: &mut Vec<u8>, valid: impl Fn() -> bool) {
        /// Words between two looks at the slot: half a KiB.
        const LOOK: usize = 64;
        let Some(words) = self.0.get(from..from + padded(len)) else {
            return; // torn: there is no such record
        };
        let start = out.len();
        out.resize(start + len, 0);
        for (chunk, words) in out[start..].chunks_mut(LOOK * WORD).zip(words.chunks(LOOK)) {
            for (bytes, word) in chunk.chunks_mut(WORD).zip(words) {
                let word = word.load(Ordering::Relaxed).to_le_bytes();
                match bytes.as_mut_array::<WORD>() {
                    Some(bytes) => *bytes = word,
                    None => bytes.copy_from_slice(&word[..bytes.len()]),
                }
            }
            if words.len() == LOOK && !valid() {
                return;
            }
        }
    }

    /// Writes a record into a block that nobody else has.
    pub(crate) fn fill(&self, draft: &Draft<'_>) {
        let Header { removed, stamp, writer, time_ms } = draft.header;
        let head = u64::from(removed) << REMOVED_SHIFT
            | (draft.value.len() as u64) << KEY_BITS
            | draft.key.len() as u64;
        // Pairs with the acquire fence of readers; see the module's head. Here and not where blocks change hands, because this is
        // where stores begin.
        fence(Ordering::Release);
        let store = |at: usize, word: u64| self.0[at].store(word, Ordering::Relaxed);
        store(HEAD, head);
        store(STAMP, stamp.raw());
        store(WRITER, writer.raw());
        store(TIME, time_ms);
        for (from, bytes) in [(KEY, draft.key), (KEY + padded(draft.key.len()), draft.value)] {
            for (at, chunk) in bytes.chunks(WORD).enumerate() {
                store(from + at, to_word(chunk));
            }
        }
    }
}

/// Stands in for a writer in torn reads, never in a validated one.
const NOBODY: Origin = match Origin::from_raw(u64::MAX) {
    Some(origin) => origin,
    None => unreachable!(),
};

/// Up to eight bytes as a word, zero padded.
#[inline]
fn to_word(chunk: &[u8]) -> u64 {
    match chunk.try_into() {
        Ok(bytes) => u64::from_le_bytes(bytes),
        Err(_) => {
            let mut bytes = [0; WORD];
            bytes[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(bytes)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
