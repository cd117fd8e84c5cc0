//! Checked frames of records, borrowed from the bytes that were received.

use bytes::Bytes;

use crate::Error;
use crate::rows::{CheckedRows, Form, Rows};

/// A piece of the dialer's steady stream, checked as a whole by [`decode`](crate::decode).
#[derive(Clone, Debug)]
pub struct BatchView {
    rows: CheckedRows,
    through_seq: u64,
}

impl BatchView {
    pub(crate) fn check(body: Bytes) -> Result<Self, Error> {
        let rows = CheckedRows::check(Form::Batch, body)?;
        match rows.number.checked_add(rows.len as u64) {
            Some(through_seq) => Ok(Self { rows, through_seq }),
            None => Err(Error::invalid("Batch", "its sequence numbers pass 64 bits")),
        }
    }

    /// Index of the zone in the dialer's Hello; below [`MAX_ZONES`](crate::MAX_ZONES), but not sure to be in the Hello.
    pub fn zone(&self) -> u32 {
        self.rows.zone
    }

    /// The sequence before the first row.
    pub fn from_seq_excluded(&self) -> u64 {
        self.rows.number
    }

    /// The sequence of the last row; [`BatchView::from_seq_excluded`] when there is none.
    pub fn through_seq(&self) -> u64 {
        self.through_seq
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.len == 0
    }

    /// The rows in order. `sender` is the raw origin from the dialer's Hello: rows name it by leaving it out.
    pub fn rows(&self, sender: u64) -> Rows<'_> {
        self.rows.rows(sender)
    }
}

/// Records outside of the steady stream, checked as a whole by [`decode`](crate::decode).
#[derive(Clone, Debug)]
pub struct CatchUpView {
    rows: CheckedRows,
}

impl CatchUpView {
    pub(crate) fn check(body: Bytes) -> Result<Self, Error> {
        Ok(Self { rows: CheckedRows::check(Form::CatchUp, body)? })
    }

    /// Index of the zone in the dialer's Hello; below [`MAX_ZONES`](crate::MAX_ZONES), but not sure to be in the Hello.
    pub fn zone(&self) -> u32 {
        self.rows.zone
    }

    /// The request that is answered, 0 for none: the dialer's own records at the start of the link.
    pub fn request(&self) -> u64 {
        self.rows.number
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.len == 0
    }

    /// The rows as sent, each with its own dot. `sender` is the raw origin from the dialer's Hello: rows name it by leaving it
    /// out.
    pub fn rows(&self, sender: u64) -> Rows<'_> {
        self.rows.rows(sender)
    }
}
