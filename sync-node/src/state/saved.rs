//! A record as it stands in a file: what the zone has of it, and the dot under which the cluster knows it.
//!
//! One form for the table and the journal: `removed` (1 byte), stamp, writer, time, origin and sequence of the dot (8 bytes each, little-endian), value.

use sync_store::{Dot, Origin, Record, Stamp, State};

/// Bytes before the value.
const HEAD: usize = 1 + 5 * 8;

/// A record without its key; `V` is its value, borrowed from a file or owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved<V> {
    pub(crate) removed: bool,
    pub(crate) stamp: Stamp,
    pub(crate) writer: Origin,
    /// When it expires, in milliseconds since the Unix epoch; 0 = never.
    pub(crate) time_ms: u64,
    pub(crate) dot: Dot,
    pub(crate) value: V,
}

impl<'a> Saved<&'a [u8]> {
    /// What a record of a keyval zone says; `None` for one of a limit zone.
    pub(crate) fn of(record: &Record<'a>) -> Option<Self> {
        let dot = record.dot;
        match record.state {
            State::Value { value, stamp, writer, time_ms } => {
                Some(Self { removed: false, stamp, writer, time_ms, dot, value })
            }
            State::Removed { stamp, writer } => {
                Some(Self { removed: true, stamp, writer, time_ms: 0, dot, value: &[] })
            }
            State::Limit { .. } => None,
        }
    }

    /// The same for a zone.
    pub(crate) fn record(&self, key: &'a [u8]) -> Record<'a> {
        let Self { removed, stamp, writer, time_ms, dot, value } = *self;
        let state = if removed {
            State::Removed { stamp, writer }
        } else {
            State::Value { value, stamp, writer, time_ms }
        };
        Record { key, dot, state }
    }

    /// Reads what [`Saved::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, value) = bytes.split_at_checked(HEAD)?;
        let (removed, words) = head.split_first()?;
        let word = |at: usize| Some(u64::from_le_bytes(words.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        let removed = match removed {
            0 => false,
            1 => true,
            _ => return None,
        };
        let saved = Self {
            removed,
            stamp: Stamp::from_raw(word(0)?),
            writer: Origin::from_raw(word(1)?)?,
            time_ms: word(2)?,
            dot: Dot { origin: Origin::from_raw(word(3)?)?, seq: word(4)? },
            value,
        };
        let is_whole = saved.dot.seq > 0 && (!removed || value.is_empty() && saved.time_ms == 0);
        is_whole.then_some(saved)
    }

    pub(crate) fn to_owned(self) -> Saved<Box<[u8]>> {
        let Self { removed, stamp, writer, time_ms, dot, value } = self;
        Saved { removed, stamp, writer, time_ms, dot, value: value.into() }
    }
}

impl Saved<Box<[u8]>> {
    pub(crate) fn as_ref(&self) -> Saved<&[u8]> {
        let Self { removed, stamp, writer, time_ms, dot, ref value } = *self;
        Saved { removed, stamp, writer, time_ms, dot, value }
    }
}

impl<V: AsRef<[u8]>> Saved<V> {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.removed));
        let words = [self.stamp.raw(), self.writer.raw(), self.time_ms, self.dot.origin.raw(), self.dot.seq];
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(self.value.as_ref());
    }

    /// Whether this one takes the place of `other`: it is later, or the same under a dot that was heard of later.
    pub(crate) fn replaces<W>(&self, other: &Saved<W>) -> bool {
        (self.stamp, self.writer) >= (other.stamp, other.writer)
    }

    /// Whether nobody needs it any more: its time, and that of a tombstone of its stamp, are over.
    pub(crate) fn is_over(&self, now_ms: u64, retention_ms: u64) -> bool {
        let is_gone = self.removed || self.time_ms != 0 && self.time_ms <= now_ms;
        is_gone && self.stamp.millis().saturating_add(retention_ms) <= now_ms
    }
}
