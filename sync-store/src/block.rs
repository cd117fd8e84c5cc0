//! One record in its block: two or three header words, then the key, then the value, each padded to whole words.
//!
//! ```text
//! 0  head    writer 16 · lag 12 · timed 1 · removed 1 · value length 17 · key length 11
//! 1  stamp
//! 2  time    milliseconds, only if the head says `timed`. Keyval: when the record expires. Sticky: the last access
//! …  key, value
//! ```
//!
//! The header is as small as it is so that a 16-byte key with a 32-byte value fills one cache line exactly: a lookup then costs two cache
//! misses, the slot's and the record's, and no more. The writer is therefore an index into the zone's table of origins.
//!
//! A block that a slot points to never changes; whatever changes about a record, the last access of a session included, is a new
//! record in another block. Words that change in place would have to be guarded against changes that come too late and land in another
//! record's bytes.
//!
//! Readers race with the reuse of blocks. Whatever they load here, lengths included, may be of two different records, and is
//! believed only after validation; until then everything is bounded by the region. Validation works because every store into a
//! reused block comes behind a release fence ([`Block::fill`]) that comes behind the change of the slot: a reader that sees such a
//! store and then executes its acquire fence also sees the slot changed. The compare-and-swap of the slot alone, even a sequentially
//! consistent one, does not keep *later* stores behind it on ARM.

use crate::stamp::Stamp;
use crate::words::{AtomicU64, Ordering, UNIT, WORD, copy_in, copy_out, fence, prefetch};

const HEAD: usize = 0;
const STAMP: usize = 1;
const TIME: usize = 2;

/// The longest key in bytes that the head has bits for.
pub(crate) const KEY_MAX: usize = 1024;
/// The most bytes of key and value together.
pub(crate) const RECORD_MAX: usize = 64 << 10;
/// The largest lag that the head has bits for.
pub(crate) const LAG_MAX: u16 = (1 << LAG_BITS) - 1;

const KEY_BITS: u32 = 11;
const VALUE_BITS: u32 = 17;
const REMOVED_SHIFT: u32 = KEY_BITS + VALUE_BITS;
const TIMED_SHIFT: u32 = REMOVED_SHIFT + 1;
const LAG_SHIFT: u32 = TIMED_SHIFT + 1;
const LAG_BITS: u32 = 12;
const WRITER_SHIFT: u32 = LAG_SHIFT + LAG_BITS;
const _: () = assert!(KEY_MAX < 1 << KEY_BITS && RECORD_MAX < 1 << VALUE_BITS);
const _: () = assert!(WRITER_SHIFT + u16::BITS <= u64::BITS);

/// The first word of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(u64);

impl Head {
    /// Of a record by nobody.
    #[inline]
    const fn of(key_len: usize, value_len: usize, is_timed: bool, is_removed: bool) -> Self {
        Self(
            (is_timed as u64) << TIMED_SHIFT
                | (is_removed as u64) << REMOVED_SHIFT
                | (value_len as u64) << KEY_BITS
                | key_len as u64,
        )
    }

    /// The same with a value, to be compared with the heads of others.
    #[inline]
    pub(crate) const fn live(key: &[u8], value: &[u8], time_ms: u64) -> Self {
        Self::of(key.len(), value.len(), time_ms != 0, false)
    }

    /// Whether their records have the same lengths and parts.
    #[inline]
    pub(crate) const fn is_shaped_like(self, other: Self) -> bool {
        (self.0 ^ other.0) & ((1 << LAG_SHIFT) - 1) == 0
    }

    /// Whether the record is live and differs from one of that shape in the length of its value alone, and so little that it has as many units.
    #[inline(never)]
    pub(crate) const fn is_live_of(self, shape: Self, units: u32) -> bool {
        const VALUE: u64 = ((1 << VALUE_BITS) - 1) << KEY_BITS;
        Self(self.0 & !VALUE).is_shaped_like(Self(shape.0 & !VALUE)) && self.units() == units
    }

    #[inline]
    pub(crate) const fn key_len(self) -> usize {
        (self.0 & ((1 << KEY_BITS) - 1)) as usize
    }

    #[inline]
    pub(crate) const fn value_len(self) -> usize {
        (self.0 >> KEY_BITS & ((1 << VALUE_BITS) - 1)) as usize
    }

    #[inline]
    pub(crate) const fn removed(self) -> bool {
        self.0 >> REMOVED_SHIFT & 1 == 1
    }

    const fn timed(self) -> bool {
        self.0 >> TIMED_SHIFT & 1 == 1
    }

    const fn lag(self) -> u16 {
        (self.0 >> LAG_SHIFT) as u16 & LAG_MAX
    }

    /// The index of who wrote the record in the table of origins.
    pub(crate) const fn writer(self) -> u16 {
        (self.0 >> WRITER_SHIFT) as u16
    }

    /// The word where the key begins.
    #[inline]
    const fn key_at(self) -> usize {
        TIME + self.timed() as usize
    }

    /// Units of the block.
    pub(crate) const fn units(self) -> u32 {
        units_needed(self.key_len(), self.value_len(), self.timed())
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
    /// Units that it needs.
    #[inline]
    pub(crate) const fn units(&self) -> u32 {
        units_needed(self.key.len(), self.value.len(), self.header.time_ms != 0)
    }
}

/// The part of a record that is neither key nor value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// A tombstone; its value is empty.
    pub(crate) removed: bool,
    pub(crate) stamp: Stamp,
    /// Who wrote it: an index into the zone's table of origins.
    pub(crate) writer: u16,
    /// Milliseconds since the Unix epoch. Keyval: when it expires, 0 = never. Sticky: the last access as this node knows it.
    pub(crate) time_ms: u64,
    /// Sticky: how much later that is than what the cluster knows, in the zone's unit; [`LAG_MAX`] stands for anything larger.
    pub(crate) lag: u16,
}

/// What there is to know of a record besides key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) head: Head,
    pub(crate) stamp: Stamp,
    pub(crate) time_ms: u64,
}

impl Meta {
    #[inline]
    pub(crate) const fn header(self) -> Header {
        let Self { head, stamp, time_ms } = self;
        Header { removed: head.removed(), stamp, writer: head.writer(), time_ms, lag: head.lag() }
    }
}

#[inline]
const fn padded(bytes: usize) -> usize {
    bytes.div_ceil(WORD)
}

/// Units that a record of these lengths needs, with or without a time.
#[inline]
pub(crate) const fn units_needed(key_len: usize, value_len: usize, timed: bool) -> u32 {
    (TIME + timed as usize + padded(key_len) + padded(value_len)).div_ceil(UNIT) as u32
}

/// Where a copy of a value goes: something that can be made so many bytes long.
pub(crate) trait Buffer {
    /// Makes room for exactly `len` bytes, whatever was there before.
    fn room(&mut self, len: usize) -> &mut [u8];

    /// What was copied there.
    fn bytes(&self) -> &[u8];
}

impl Buffer for Vec<u8> {
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.len() != len {
            self.resize(len, 0);
        }
        self
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// The words of a block, and what lies behind them up to the end of the region: how long it is is only known once the head has been
/// validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'r>(&'r [AtomicU64]);

impl<'r> Block<'r> {
    /// The block that begins with `words`, a unit at least.
    #[inline]
    pub(crate) const fn new(words: &'r [AtomicU64]) -> Self {
        // Once, and not at each access of the header.
        assert!(words.len() >= UNIT);
        Self(words)
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        // Relaxed: ordered by the slot, which is loaded with Acquire before and validated behind an Acquire fence after.
        self.0[at].load(Ordering::Relaxed)
    }

    /// Asks for the first line of the block before it is needed.
    #[inline]
    pub(crate) fn prefetch_head(&self) {
        prefetch(&self.0[HEAD]);
    }

    /// Asks for the first two lines of it.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.prefetch_head();
        if let Some(second) = self.0.get(2 * UNIT) {
            prefetch(second);
        }
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
    #[inline(always)]
    pub(crate) fn has_key(&self, head: Head, key: &[u8]) -> bool {
        if head.key_len() != key.len() {
            return false;
        }
        let (whole, rest) = key.as_chunks::<WORD>();
        let Some((words, behind)) = self.0.get(head.key_at()..).and_then(|w| w.split_at_checked(whole.len()))
        else {
            return false;
        };
        std::iter::zip(whole, words)
            .all(|(chunk, word)| word.load(Ordering::Relaxed) == u64::from_le_bytes(*chunk))
            && (rest.is_empty()
                || behind.first().is_some_and(|word| word.load(Ordering::Relaxed) == last_word(key, rest)))
    }

    /// All but key and value, given head and stamp that were just loaded.
    #[inline]
    pub(crate) fn meta(&self, head: Head, stamp: Stamp) -> Meta {
        let time_ms = if head.timed() { self.load(TIME) } else { 0 };
        Meta { head, stamp, time_ms }
    }

    /// The first byte of the key.
    pub(crate) fn lead(&self, head: Head) -> u8 {
        self.load(head.key_at()) as u8
    }

    /// Copies the key.
    pub(crate) fn copy_key(&self, head: Head, out: &mut impl Buffer) {
        self.copy(head.key_at(), head.key_len(), out);
    }

    /// Copies the value.
    #[inline(always)]
    pub(crate) fn copy_value(&self, head: Head, out: &mut impl Buffer) {
        self.copy(head.key_at() + padded(head.key_len()), head.value_len(), out);
    }

    #[inline(always)]
    fn copy(&self, from: usize, len: usize, out: &mut impl Buffer) {
        // Otherwise torn: there is no such record.
        if let Some(words) = self.0.get(from..)
            && len <= words.len() * WORD
        {
            copy_out(words, out.room(len));
        }
    }

    /// Writes a record into a block that nobody else has.
    #[inline]
    pub(crate) fn fill(&self, draft: &Draft<'_>) {
        self.fill_body(draft.key, draft.value, draft.header.time_ms);
        self.fill_head(draft);
    }

    /// The part of it that is known before the header is.
    #[inline(always)]
    pub(crate) fn fill_body(&self, key: &[u8], value: &[u8], time_ms: u64) {
        // Pairs with the acquire fence of readers; see the module's head. Here and not where blocks change hands, because this is
        // where stores begin.
        fence(Ordering::Release);
        let mut at = TIME;
        if time_ms != 0 {
            self.0[TIME].store(time_ms, Ordering::Relaxed);
            at += 1;
        }
        self.write(at, key);
        self.write(at + padded(key.len()), value);
    }

    /// The rest, behind [`Self::fill_body`].
    #[inline]
    pub(crate) fn fill_head(&self, draft: &Draft<'_>) {
        let Header { removed, stamp, writer, time_ms, lag } = draft.header;
        let shape = Head::of(draft.key.len(), draft.value.len(), time_ms != 0, removed);
        let head = u64::from(writer) << WRITER_SHIFT | u64::from(lag.min(LAG_MAX)) << LAG_SHIFT | shape.0;
        self.0[HEAD].store(head, Ordering::Relaxed);
        self.0[STAMP].store(stamp.raw(), Ordering::Relaxed);
    }

    #[inline(always)]
    fn write(&self, from: usize, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<WORD>();
        let (words, behind) = self.0[from..].split_at(whole.len());
        copy_in(whole, words);
        if !rest.is_empty() {
            behind[0].store(last_word(bytes, rest), Ordering::Relaxed);
        }
    }
}

/// The last bytes of a key, `rest`, that do not fill a word, as one; zero padded.
#[inline]
fn last_word(key: &[u8], rest: &[u8]) -> u64 {
    match key.last_chunk() {
        // Together with bytes before them, which is one load.
        Some(last) => u64::from_le_bytes(*last) >> (u64::BITS as usize - 8 * rest.len()),
        None => to_word(rest),
    }
}

/// Less than eight bytes as a word, zero padded.
#[inline]
fn to_word(rest: &[u8]) -> u64 {
    rest.iter().rfold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(all(test, not(loom)))]
mod tests;
