//! What Batch and CatchUp have in common. The schema gives them the same fields on purpose: number 2 is
//! `from_seq_excluded` in one and `request` in the other, and only CatchUp has number 8, `seq_base`.

use bytes::Bytes;

use crate::Error;
use crate::limits::{MAX_ROWS, MAX_TABLE, MAX_ZONES};
use crate::read::{self, Defect, Reader, key};
use crate::row::{Bases, RawRow, RowRef, STAMP_COUNT_BITS};

pub(crate) const ZONE: u64 = key(1, read::VARINT);
/// `from_seq_excluded` or `request`.
pub(crate) const NUMBER: u64 = key(2, read::VARINT);
pub(crate) const STAMP_BASE: u64 = key(3, read::VARINT);
pub(crate) const TIME_BASE: u64 = key(4, read::VARINT);
pub(crate) const TAT_BASE: u64 = key(5, read::FIXED64);
pub(crate) const ROWS: u64 = key(6, read::BYTES);
/// The table, packed: the only form written.
pub(crate) const ORIGINS: u64 = key(7, read::BYTES);
/// The table, one element: a form that every reader of protobuf accepts as well.
const ORIGIN: u64 = key(7, read::FIXED64);
pub(crate) const SEQ_BASE: u64 = key(8, read::VARINT);

/// Which of the two messages it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Batch,
    CatchUp,
}

impl Form {
    /// The message's name in the schema.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Batch => "Batch",
            Self::CatchUp => "CatchUp",
        }
    }

    /// Highest field number.
    const fn known(self) -> u64 {
        match self {
            Self::Batch => 7,
            Self::CatchUp => 8,
        }
    }
}

/// A checked Batch or CatchUp: every row can be read, every index is within the table.
#[derive(Clone, Debug)]
pub(crate) struct CheckedRows {
    form: Form,
    body: Bytes,
    pub(crate) zone: u32,
    pub(crate) number: u64,
    pub(crate) len: usize,
    bases: Bases,
    origins: Vec<u64>,
}

impl CheckedRows {
    /// Checks `body`. Allocates the table of origins, nothing per row.
    pub(crate) fn check(form: Form, body: Bytes) -> Result<Self, Error> {
        let name = form.name();
        let malformed = |defect: Defect| Error::malformed(name, defect);
        let mut checked = Self {
            form,
            body: Bytes::new(),
            zone: 0,
            number: 0,
            len: 0,
            bases: Bases::default(),
            origins: Vec::new(),
        };
        // The table may follow the rows, so the indices are compared at the end.
        let mut index_max = 0;
        let mut input = Reader(&body);
        while !input.is_empty() {
            match input.varint().map_err(malformed)? {
                ROWS => {
                    let row = input.bytes().and_then(RawRow::read).map_err(malformed)?;
                    checked.len += 1;
                    index_max = index_max.max(row.writer);
                    if form == Form::CatchUp {
                        index_max = index_max.max(row.origin);
                    }
                }
                ZONE => checked.zone = input.varint().map_err(malformed)? as u32,
                NUMBER => checked.number = input.varint().map_err(malformed)?,
                STAMP_BASE => checked.bases.stamp_ms = input.varint().map_err(malformed)?,
                TIME_BASE => checked.bases.time = input.varint().map_err(malformed)?,
                TAT_BASE => checked.bases.tat = input.fixed64().map_err(malformed)?,
                ORIGINS => {
                    let mut packed = Reader(input.bytes().map_err(malformed)?);
                    while !packed.is_empty() {
                        let origin = packed.fixed64().map_err(malformed)?;
                        checked.add_origin(origin)?;
                    }
                }
                ORIGIN => {
                    let origin = input.fixed64().map_err(malformed)?;
                    checked.add_origin(origin)?;
                }
                SEQ_BASE if form == Form::CatchUp => {
                    checked.bases.seq = input.varint().map_err(malformed)?;
                }
                other => input.skip_unknown(other, form.known()).map_err(malformed)?,
            }
        }
        Error::at_most(name, "rows", checked.len, MAX_ROWS)?;
        if checked.zone as usize >= MAX_ZONES {
            return Err(Error::invalid(name, format!("zone {} of at most {MAX_ZONES}", checked.zone)));
        }
        if index_max as usize > checked.origins.len() {
            return Err(Error::invalid(
                name,
                format!("a row names origin {index_max} of {} in the table", checked.origins.len()),
            ));
        }
        checked.body = body;
        Ok(checked)
    }

    fn add_origin(&mut self, origin: u64) -> Result<(), Error> {
        Error::at_most(self.form.name(), "origins", self.origins.len() + 1, MAX_TABLE)?;
        if origin == 0 {
            return Err(Error::invalid(self.form.name(), "an origin is 0"));
        }
        self.origins.push(origin);
        Ok(())
    }

    pub(crate) fn rows(&self, sender: u64) -> Rows<'_> {
        let first_seq = match self.form {
            Form::Batch => Some(self.number.wrapping_add(1)),
            Form::CatchUp => None,
        };
        Rows {
            input: Reader(&self.body),
            left: self.len,
            sender,
            origins: &self.origins,
            last: self.bases,
            batch_seq: first_seq,
        }
    }
}

/// The rows of a Batch or CatchUp, in the order of the frame. Reads them from the frame as it goes, without allocation.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    input: Reader<'a>,
    left: usize,
    sender: u64,
    origins: &'a [u64],
    /// What the next row is relative to.
    last: Bases,
    /// Sequence of the next row of a Batch.
    batch_seq: Option<u64>,
}

impl<'a> Rows<'a> {
    /// The body of the next row. The errors cannot happen, because all of it was read once when it was checked.
    #[inline]
    fn next_body(&mut self) -> Result<&'a [u8], Defect> {
        loop {
            match self.input.varint()? {
                ROWS => return self.input.bytes(),
                other => self.input.skip(other, 0)?,
            }
        }
    }

    /// The origin that a row names by `index`.
    #[inline]
    fn origin(&self, index: u32, default: u64) -> u64 {
        match index {
            0 => default,
            index => self.origins.get(index as usize - 1).copied().unwrap_or_default(),
        }
    }

    #[inline]
    fn resolve(&mut self, row: RawRow<'a>) -> RowRef<'a> {
        self.last = self.last.after(&row);
        let Bases { stamp_ms, time, tat, seq } = self.last;
        let (origin, seq) = match &mut self.batch_seq {
            Some(next) => (self.sender, std::mem::replace(next, next.wrapping_add(1))),
            None => (self.origin(row.origin, self.sender), seq),
        };
        RowRef {
            key: row.key,
            value: row.value,
            stamp: (stamp_ms << STAMP_COUNT_BITS).wrapping_add(row.stamp.count()),
            writer: self.origin(row.writer, origin),
            time_ms: row.time.map_or(0, |_| time),
            removed: row.removed,
            origin,
            seq,
            debt_ns: row.debt_ns,
            tat_ns: tat,
        }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = RowRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<RowRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let row = self.next_body().and_then(RawRow::read).ok()?;
        Some(self.resolve(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Rows<'_> {}
