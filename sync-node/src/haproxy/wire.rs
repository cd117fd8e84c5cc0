//! Bytes of the peers protocol, of which both ends have read the same document: integers in one to ten bytes, and messages of a class, a type and, from type 128 on, a length.

use bytes::{Buf, BytesMut};

/// The longest message that is taken. HAProxy's fit its buffer, `tune.bufsize`, 16 KiB if not said otherwise.
const MESSAGE_MAX: usize = 64 << 10;
/// Types from here on have a length.
const WITH_LENGTH: u8 = 0x80;
/// The first byte of an integer that has more of them.
const LONG: u64 = 0xf0;
/// The bit by which each further byte says that there is one more.
const MORE: u64 = 0x80;

pub(super) const CONTROL: u8 = 0;
pub(super) const ERROR: u8 = 1;
pub(super) const TABLE: u8 = 10;
/// A class that HAProxy closes for.
pub(super) const RESERVED: u8 = 255;

/// Types of control messages.
pub(super) mod control {
    /// Asks for a lesson: everything that the other side knows.
    pub(in super::super) const REQUEST: u8 = 0;
    /// The lesson is over.
    pub(in super::super) const FINISHED: u8 = 1;
    /// The lesson is over, and the teacher does not know everything itself.
    pub(in super::super) const PARTIAL: u8 = 2;
    /// The end of the lesson was heard.
    pub(in super::super) const CONFIRMED: u8 = 3;
    pub(in super::super) const HEARTBEAT: u8 = 4;
}

/// Types of messages about tables.
pub(super) mod table {
    pub(in super::super) const UPDATE: u8 = 128;
    pub(in super::super) const UPDATE_NEXT: u8 = 129;
    pub(in super::super) const DEFINITION: u8 = 130;
    pub(in super::super) const SWITCH: u8 = 131;
    /// 133 in the document, 132 in every HAProxy.
    pub(in super::super) const ACKNOWLEDGEMENT: u8 = 132;
    pub(in super::super) const UPDATE_TIMED: u8 = 133;
    pub(in super::super) const UPDATE_NEXT_TIMED: u8 = 134;
}

/// Why a connection cannot go on: what the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It is no message, or one that says what cannot be.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is longer than any message is.
    #[error("a message of more than {MESSAGE_MAX} bytes")]
    TooLarge,
}

impl Fault {
    /// What the peer is told.
    pub(super) const fn message(self) -> [u8; 2] {
        match self {
            Self::Malformed(_) => [ERROR, 0],
            Self::TooLarge => [ERROR, 1],
        }
    }
}

/// The bytes of a message, read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// `None`: there are not so many.
    pub(super) fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Four bytes, the highest first.
    pub(super) fn fixed(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// `None`: it does not end here, or is larger than 64 bits.
    pub(super) fn integer(&mut self) -> Option<u64> {
        let (&first, mut rest) = self.0.split_first()?;
        let mut value = u64::from(first);
        if value >= LONG {
            let mut shift = 4;
            loop {
                let (&byte, behind) = rest.split_first()?;
                rest = behind;
                let part = u64::from(byte);
                let shifted = part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
                value = value.checked_add(shifted)?;
                if part < MORE {
                    break;
                }
                shift += 7;
            }
        }
        self.0 = rest;
        Some(value)
    }

    /// Bytes that begin with their length.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.integer()?;
        self.bytes(length)
    }
}

/// Writes an integer.
pub(super) fn put_integer(output: &mut Vec<u8>, value: u64) {
    if value < LONG {
        return output.push(value as u8);
    }
    output.push((value | LONG) as u8);
    let mut rest = (value - LONG) >> 4;
    while rest >= MORE {
        output.push((rest | MORE) as u8);
        rest = (rest - MORE) >> 7;
    }
    output.push(rest as u8);
}

/// Writes bytes with their length before them.
pub(super) fn put_counted(output: &mut Vec<u8>, bytes: &[u8]) {
    put_integer(output, bytes.len() as u64);
    output.extend_from_slice(bytes);
}

/// Writes a message about tables.
pub(super) fn put_message(output: &mut Vec<u8>, kind: u8, body: &[u8]) {
    output.extend_from_slice(&[TABLE, kind]);
    put_counted(output, body);
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) class: u8,
    pub(super) kind: u8,
    pub(super) body: BytesMut,
}

impl Message {
    /// Takes the next message; `None` if it is not whole yet.
    pub(super) fn take(input: &mut BytesMut) -> Result<Option<Self>, Fault> {
        let &[class, kind, ref rest @ ..] = &input[..] else { return Ok(None) };
        if kind < WITH_LENGTH {
            input.advance(2);
            return Ok(Some(Self { class, kind, body: BytesMut::new() }));
        }
        /// Of an integer.
        const BYTES_MAX: usize = 10;
        let mut reader = Reader(rest);
        let Some(length) = reader.integer() else {
            let is_complete = rest.len() >= BYTES_MAX;
            return if is_complete { Err(Fault::Malformed("a length without end")) } else { Ok(None) };
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_MAX);
        let length = length.ok_or(Fault::TooLarge)?;
        let head = input.len() - reader.0.len();
        if reader.0.len() < length {
            return Ok(None);
        }
        input.advance(head);
        Ok(Some(Self { class, kind, body: input.split_to(length) }))
    }
}

#[cfg(test)]
mod tests;
