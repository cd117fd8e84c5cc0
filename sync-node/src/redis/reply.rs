//! Answers as they go over the wire, in the version of the protocol that the client has asked for.

use std::fmt;
use std::io::Write as _;

/// The version of the protocol. Where they differ, the second has no maps and one kind of nothing for each type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

impl Protocol {
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Answers to the requests that were read at once, to be written at once.
#[derive(Debug, Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    pub(super) protocol: Protocol,
    errors: u64,
}

impl Replies {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written, and all memory beyond `kept` bytes.
    pub(super) fn clear(&mut self, kept: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept);
    }

    /// Takes back what was said since `len`.
    pub(super) fn take_back(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// How many errors there were since this was asked.
    pub(super) fn take_errors(&mut self) -> u64 {
        std::mem::take(&mut self.errors)
    }

    /// Adds what was said elsewhere.
    pub(super) fn append(&mut self, mut other: Self) {
        self.bytes.append(&mut other.bytes);
        self.errors += other.errors;
    }

    /// Answers that were written before.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    pub(super) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: a code in capitals, and a sentence.
    pub(super) fn error(&mut self, text: impl fmt::Display) {
        self.errors += 1;
        // It may name what a client has sent, and is a line.
        let text = text.to_string().replace(['\r', '\n'], " ");
        self.line(b'-', text.as_bytes());
    }

    pub(super) fn integer(&mut self, number: i64) {
        self.head(b':', number);
    }

    /// A count or a time, whichever does not fit is as large as can be said.
    pub(super) fn count(&mut self, number: u64) {
        self.integer(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len() as i64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Text for people.
    pub(super) fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.head(b'=', text.len() as i64 + 4);
                self.bytes.extend_from_slice(b"txt:");
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// No value.
    pub(super) fn null(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Where an array is expected.
    pub(super) fn null_array(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// So many answers follow.
    pub(super) fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    /// So many answers follow, in no order.
    pub(super) fn set(&mut self, len: usize) {
        let kind = if self.protocol == Protocol::Resp2 { b'*' } else { b'~' };
        self.head(kind, len as i64);
    }

    /// So many pairs of answers follow.
    pub(super) fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', 2 * pairs as i64),
            Protocol::Resp3 => self.head(b'%', pairs as i64),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, number: i64) {
        if let Ok(digit @ 0..10) = u8::try_from(number) {
            // The usual: nothing of what formats numbers is needed.
            self.bytes.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']);
        } else {
            self.bytes.push(kind);
            // Writing to a vector does not fail.
            let _ = write!(self.bytes, "{number}\r\n");
        }
    }
}
