//! One record on the wire: the protobuf message `Row`, written and read without building it.

use crate::read::{self, Defect, Reader, key};
use crate::write::{Writer, bytes_field_len, varint_field_len, varint_len, zigzag};

/// A record as a frame carries it, borrowed, with everything relative resolved. What the encoders take and the views give.
///
/// Which fields mean something depends on the zone's kind; the others are 0 or empty and cost nothing on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The key, any bytes.
    pub key: &'a [u8],
    /// keyval: the value; sticky: the server.
    pub value: &'a [u8],
    /// keyval, sticky: raw stamp of the write.
    pub stamp: u64,
    /// keyval, sticky: raw origin that wrote. An encoder takes 0 for the origin of the dot, and a view gives that.
    pub writer: u64,
    /// keyval: when it expires, 0 = never; sticky: last access. Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Whether it is a tombstone.
    pub removed: bool,
    /// Raw origin of the record's dot. In a Batch always the sender, whatever an encoder is given.
    pub origin: u64,
    /// Sequence of the record's dot. In a Batch the position decides, whatever an encoder is given.
    pub seq: u64,
    /// limit: work since the last publication, nanoseconds, negative when refunded.
    pub debt_ns: i64,
    /// limit: theoretical arrival time, nanoseconds since the Unix epoch.
    pub tat_ns: u64,
}

const KEY: u64 = key(1, read::BYTES);
const VALUE: u64 = key(2, read::BYTES);
const STAMP_MS: u64 = key(3, read::VARINT);
const STAMP_COUNT: u64 = key(4, read::VARINT);
const WRITER: u64 = key(5, read::VARINT);
const TIME: u64 = key(6, read::VARINT);
const REMOVED: u64 = key(7, read::VARINT);
const ORIGIN: u64 = key(8, read::VARINT);
const SEQ: u64 = key(9, read::VARINT);
const DEBT: u64 = key(10, read::VARINT);
const TAT: u64 = key(11, read::VARINT);
const STAMP_NEAR: u64 = key(12, read::VARINT);
const KNOWN: u64 = 12;

/// A stamp's counter is its lowest bits.
pub(crate) const STAMP_COUNT_BITS: u32 = 16;

/// The lowest bits of `stamp_near`: the step to its millisecond, zigzag. With three of them counters below 2048 leave two
/// bytes; with two or four, what was published together on a busy machine takes more.
const STEP_BITS: u32 = 3;
const STEP_MASK: u32 = (1 << STEP_BITS) - 1;
const STEP_MIN: i64 = -1 << (STEP_BITS - 1);
const STEP_MAX: i64 = -STEP_MIN - 1;

/// What a row is relative to: the bases of the frame, then the row before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bases {
    pub(crate) stamp_ms: u64,
    pub(crate) time: u64,
    pub(crate) tat: u64,
    pub(crate) seq: u64,
}

impl Bases {
    /// The values of a row that is relative to these. One without a time leaves that to the next.
    #[inline]
    pub(crate) fn after(self, row: &RawRow<'_>) -> Self {
        Self {
            stamp_ms: self.stamp_ms.wrapping_add_signed(row.stamp.step()),
            time: self.time.wrapping_add_signed(row.time.unwrap_or_default()),
            tat: self.tat.wrapping_add_signed(row.tat),
            seq: self.seq.wrapping_add_signed(row.seq),
        }
    }
}

/// The stamp of a row as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawStamp {
    ms: i64,
    count: u32,
    near: u32,
}

impl RawStamp {
    /// The stamp with this counter, `step` milliseconds from the row before.
    #[inline]
    pub(crate) fn new(step: i64, count: u32) -> Self {
        match step {
            0 => Self { count, ..Self::default() },
            STEP_MIN..=STEP_MAX => Self { near: count << STEP_BITS | zigzag(step) as u32, ..Self::default() },
            _ => Self { ms: step, count, near: 0 },
        }
    }

    /// Milliseconds from the row before.
    #[inline]
    fn step(self) -> i64 {
        self.ms.wrapping_add(read::zigzag(u64::from(self.near & STEP_MASK)))
    }

    /// The counter; a foreign one may be larger than it should.
    #[inline]
    pub(crate) fn count(self) -> u64 {
        u64::from(self.count) + u64::from(self.near >> STEP_BITS)
    }
}

/// A row as it is written: relative to [`Bases`], origins as indices. Zigzag is undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawRow<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) stamp: RawStamp,
    pub(crate) writer: u32,
    pub(crate) time: Option<i64>,
    pub(crate) removed: bool,
    pub(crate) origin: u32,
    pub(crate) seq: i64,
    pub(crate) debt_ns: i64,
    pub(crate) tat: i64,
}

impl<'a> RawRow<'a> {
    /// Reads the body of a row. Fields may come in any order; of a repeated one the last counts.
    #[inline]
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Defect> {
        let mut row = Self::default();
        let mut input = Reader(body);
        while !input.is_empty() {
            match input.varint()? {
                KEY => row.key = input.bytes()?,
                VALUE => row.value = input.bytes()?,
                STAMP_MS => row.stamp.ms = read::zigzag(input.varint()?),
                // As protobuf says for uint32: the lower 32 bits.
                STAMP_COUNT => row.stamp.count = input.varint()? as u32,
                WRITER => row.writer = input.varint()? as u32,
                TIME => row.time = Some(read::zigzag(input.varint()?)),
                REMOVED => row.removed = input.varint()? != 0,
                ORIGIN => row.origin = input.varint()? as u32,
                SEQ => row.seq = read::zigzag(input.varint()?),
                DEBT => row.debt_ns = read::zigzag(input.varint()?),
                TAT => row.tat = read::zigzag(input.varint()?),
                STAMP_NEAR => row.stamp.near = input.varint()? as u32,
                other => input.skip_unknown(other, KNOWN)?,
            }
        }
        Ok(row)
    }

    /// Bytes that [`RawRow::write`] takes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        bytes_field_len(self.key.len())
            + bytes_field_len(self.value.len())
            + varint_field_len(zigzag(self.stamp.ms))
            + varint_field_len(u64::from(self.stamp.count))
            + varint_field_len(u64::from(self.writer))
            + self.time.map_or(0, |time| 1 + varint_len(zigzag(time)))
            + 2 * usize::from(self.removed)
            + varint_field_len(u64::from(self.origin))
            + varint_field_len(zigzag(self.seq))
            + varint_field_len(zigzag(self.debt_ns))
            + varint_field_len(zigzag(self.tat))
            + varint_field_len(u64::from(self.stamp.near))
    }

    #[inline]
    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.bytes_field(KEY, self.key);
        out.bytes_field(VALUE, self.value);
        out.varint_field(STAMP_MS, zigzag(self.stamp.ms));
        out.varint_field(STAMP_COUNT, u64::from(self.stamp.count));
        out.varint_field(WRITER, u64::from(self.writer));
        if let Some(time) = self.time {
            out.byte(TIME as u8);
            out.varint(zigzag(time));
        }
        out.varint_field(REMOVED, u64::from(self.removed));
        out.varint_field(ORIGIN, u64::from(self.origin));
        out.varint_field(SEQ, zigzag(self.seq));
        out.varint_field(DEBT, zigzag(self.debt_ns));
        out.varint_field(TAT, zigzag(self.tat));
        out.varint_field(STAMP_NEAR, u64::from(self.stamp.near));
    }
}

/// The distance of `value` from `base`, wrapping.
#[inline]
pub(crate) const fn distance(value: u64, base: u64) -> i64 {
    value.wrapping_sub(base) as i64
}
