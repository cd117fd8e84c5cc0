//! Writing Batch and CatchUp frames row by row, straight into the bytes of the frame.
//!
//! The header is shorter than the room kept for it, and the table of origins follows the rows: so rows are written once, where
//! they stay, while bases and table are still being found.

use bytes::{Buf, Bytes};

use crate::limits::{HEAD_ROOM, MAX_FRAME_LIMIT, MAX_ROWS, MAX_TABLE};
use crate::message::{BATCH, CATCH_UP};
use crate::row::{Bases, RawRow, RawStamp, RowRef, STAMP_COUNT_BITS, distance};
use crate::rows::{Form, NUMBER, ORIGINS, ROWS, SEQ_BASE, STAMP_BASE, TAT_BASE, TIME_BASE, ZONE};
use crate::write::{Writer, bytes_field_len, fixed_field_len, varint_field_len, varint_len};

/// Writes one Batch frame: a piece of the steady stream of `sender`.
///
/// ```
/// use sync_proto::{BatchEncoder, RowRef};
///
/// let mut encoder = BatchEncoder::new(0, 41, 0xa, 1 << 20);
/// assert!(encoder.push(&RowRef { key: b"k", value: b"v", stamp: 7, writer: 0xa, ..RowRef::default() }));
/// let frame = encoder.finish(); // ready for the socket
/// assert_eq!(usize::from(frame[0]), frame.len() - 1);
/// ```
#[derive(Debug)]
pub struct BatchEncoder(Encoder);

impl BatchEncoder {
    /// Starts a batch of the zone with this index whose first row has the sequence `from_seq_excluded` + 1. The frame, length
    /// prefix included, will have at most `frame_limit` bytes, the smallest `max_frame` of the peers that are to get it.
    pub fn new(zone: u32, from_seq_excluded: u64, sender: u64, frame_limit: usize) -> Self {
        Self(Encoder::new(Form::Batch, zone, from_seq_excluded, sender, frame_limit))
    }

    /// Appends a row; its `origin` and `seq` are given by its position, not by the fields.
    ///
    /// `false` when the frame is full: nothing was written, the row belongs into the next frame. A row within
    /// [`max_record`](crate::max_record) of the limit always fits into an empty frame.
    #[inline]
    pub fn push(&mut self, row: &RowRef<'_>) -> bool {
        self.0.push(row)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.0.rows == 0
    }

    /// The whole frame, length prefix included. It holds no more memory than its length and a few bytes.
    pub fn finish(self) -> Bytes {
        self.0.finish()
    }
}

/// Writes one CatchUp frame.
#[derive(Debug)]
pub struct CatchUpEncoder(Encoder);

impl CatchUpEncoder {
    /// Starts a frame for the zone with this index that answers `request`, or none if 0. `sender` is the dialer's origin;
    /// `frame_limit` bounds the frame, length prefix included: the `max_frame` of the acceptor's Hello.
    pub fn new(zone: u32, request: u64, sender: u64, frame_limit: usize) -> Self {
        Self(Encoder::new(Form::CatchUp, zone, request, sender, frame_limit))
    }

    /// Appends a row with its dot; `false` as in [`BatchEncoder::push`].
    #[inline]
    pub fn push(&mut self, row: &RowRef<'_>) -> bool {
        self.0.push(row)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.rows
    }

    /// Bytes taken so far, a few more than the frame would have.
    pub fn bytes(&self) -> usize {
        self.0.end
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.0.rows == 0
    }

    /// The whole frame, length prefix included. It holds no more memory than its length and a few bytes.
    pub fn finish(self) -> Bytes {
        self.0.finish()
    }
}

/// Room of a batch at the start; grows by doubling. A few rows, so that small batches under light load stay cheap.
const INITIAL_ROOM: usize = 1 << 10;
/// Room of catch-up at the start: most frames are full.
const CATCH_UP_ROOM: usize = 16 << 10;

#[derive(Debug)]
struct Encoder {
    form: Form,
    zone: u32,
    /// `from_seq_excluded` or `request`.
    number: u64,
    sender: u64,
    limit: usize,
    /// What the first row is relative to.
    bases: Bases,
    /// What the next row is relative to.
    last: Bases,
    origins: Vec<u64>,
    rows: usize,
    /// Room for the header, the rows, and zeroed room to grow into.
    room: Vec<u8>,
    /// Where the next row goes.
    end: usize,
}

impl Encoder {
    fn new(form: Form, zone: u32, number: u64, sender: u64, frame_limit: usize) -> Self {
        Self {
            form,
            zone,
            number,
            sender,
            limit: frame_limit.min(MAX_FRAME_LIMIT),
            bases: Bases::default(),
            last: Bases::default(),
            origins: Vec::new(),
            rows: 0,
            room: match form {
                Form::Batch => vec![0; INITIAL_ROOM],
                Form::CatchUp => vec![0; CATCH_UP_ROOM.min(frame_limit).max(INITIAL_ROOM)],
            },
            end: HEAD_ROOM,
        }
    }

    fn push(&mut self, row: &RowRef<'_>) -> bool {
        let origins_before = self.origins.len();
        let bases = self.bases_with(row);
        let mut last = if self.rows == 0 { bases } else { self.last };
        if self.bases.time == 0 {
            last.time = bases.time;
        }
        let fits = self.raw(row, last).and_then(|raw| {
            let body = raw.len();
            let end = self.end + 1 + varint_len(body as u64) + body;
            (self.rows < MAX_ROWS && self.frame_len(bases, end) <= self.limit).then_some((raw, body, end))
        });
        let Some((raw, body, end)) = fits else {
            self.origins.truncate(origins_before);
            return false;
        };
        if end > self.room.len() {
            self.room.resize(end.max(2 * self.room.len()), 0);
        }
        let mut out = Writer::new(&mut self.room[self.end..end]);
        out.byte(ROWS as u8);
        out.varint(body as u64);
        raw.write(&mut out);
        debug_assert_eq!(out.written(), end - self.end);
        self.bases = bases;
        self.last = last.after(&raw);
        self.rows += 1;
        self.end = end;
        true
    }

    /// The bases if `row` is added: those of the first row that has the value.
    #[inline]
    fn bases_with(&self, row: &RowRef<'_>) -> Bases {
        let mut bases = self.bases;
        if self.rows == 0 {
            bases.stamp_ms = row.stamp >> STAMP_COUNT_BITS;
            bases.tat = row.tat_ns;
            if self.form == Form::CatchUp {
                bases.seq = row.seq;
            }
        }
        if bases.time == 0 {
            bases.time = row.time_ms;
        }
        bases
    }

    /// The row relative to `last`; adds its origins to the table. `None` when the table is full.
    #[inline]
    fn raw<'a>(&mut self, row: &RowRef<'a>, last: Bases) -> Option<RawRow<'a>> {
        let (dot_origin, seq) = match self.form {
            Form::Batch => (self.sender, 0),
            Form::CatchUp => (row.origin, distance(row.seq, last.seq)),
        };
        Some(RawRow {
            key: row.key,
            value: row.value,
            stamp: RawStamp::new(
                distance(row.stamp >> STAMP_COUNT_BITS, last.stamp_ms),
                (row.stamp & ((1 << STAMP_COUNT_BITS) - 1)) as u32,
            ),
            writer: self.index(row.writer, dot_origin)?,
            time: (row.time_ms != 0).then(|| distance(row.time_ms, last.time)),
            removed: row.removed,
            origin: self.index(dot_origin, self.sender)?,
            seq,
            debt_ns: row.debt_ns,
            tat: distance(row.tat_ns, last.tat),
        })
    }

    /// Index of an origin: 0 for what a row has by default, and for none (limits have no writer).
    #[inline]
    fn index(&mut self, origin: u64, default: u64) -> Option<u32> {
        if origin == default || origin == 0 {
            return Some(0);
        }
        // At most MAX_TABLE, in practice a few nodes.
        let position = match self.origins.iter().position(|&known| known == origin) {
            Some(position) => position,
            None if self.origins.len() < MAX_TABLE => {
                self.origins.push(origin);
                self.origins.len() - 1
            }
            None => return None,
        };
        Some(position as u32 + 1)
    }

    /// Bytes of the message if the rows end at `end`.
    #[inline]
    fn message_len(&self, bases: Bases, end: usize) -> usize {
        varint_field_len(u64::from(self.zone))
            + varint_field_len(self.number)
            + varint_field_len(bases.stamp_ms)
            + varint_field_len(bases.time)
            + fixed_field_len(bases.tat)
            + (end - HEAD_ROOM)
            + bytes_field_len(8 * self.origins.len())
            + varint_field_len(bases.seq)
    }

    /// Bytes of the frame, length prefix included, if the rows end at `end`.
    #[inline]
    fn frame_len(&self, bases: Bases, end: usize) -> usize {
        let message = self.message_len(bases, end);
        let body = 1 + varint_len(message as u64) + message;
        varint_len(body as u64) + body
    }

    fn finish(mut self) -> Bytes {
        let message = self.message_len(self.bases, self.end);
        let frame = self.frame_len(self.bases, self.end);

        let tail_len = bytes_field_len(8 * self.origins.len()) + varint_field_len(self.bases.seq);
        self.room.resize(self.end + tail_len, 0);
        let mut tail = Writer::new(&mut self.room[self.end..]);
        if !self.origins.is_empty() {
            tail.byte(ORIGINS as u8);
            tail.varint(8 * self.origins.len() as u64);
            for origin in &self.origins {
                tail.bytes(&origin.to_le_bytes());
            }
        }
        tail.varint_field(SEQ_BASE, self.bases.seq);

        // The header ends where the rows begin.
        let start = self.room.len() - frame;
        let mut head = Writer::new(&mut self.room[start..HEAD_ROOM]);
        head.varint((1 + varint_len(message as u64) + message) as u64);
        head.byte(match self.form {
            Form::Batch => BATCH as u8,
            Form::CatchUp => CATCH_UP as u8,
        });
        head.varint(message as u64);
        head.varint_field(ZONE, u64::from(self.zone));
        head.varint_field(NUMBER, self.number);
        head.varint_field(STAMP_BASE, self.bases.stamp_ms);
        head.varint_field(TIME_BASE, self.bases.time);
        head.fixed_field(TAT_BASE, self.bases.tat);
        debug_assert_eq!(head.written(), HEAD_ROOM - start);

        // Frames wait in rings, many at a time: give the unused room back.
        self.room.shrink_to_fit();
        let mut bytes = Bytes::from(self.room);
        bytes.advance(start);
        bytes
    }
}
