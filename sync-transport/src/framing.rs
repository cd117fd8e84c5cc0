//! Where one frame ends and the next begins.
//!
//! The body of a frame is opaque here; only its length is read. Lengths are checked against the bound
//! before a byte of the body is waited for, and memory for a body grows with what has arrived, so a
//! peer that announces much and sends little costs little.

use bytes::{BufMut, Bytes, BytesMut};

/// Longest length prefix that a framing may use, bytes: a 64-bit varint has ten.
const PREFIX_LENGTH_MAX: usize = 10;
/// Length of the prefix of the default framing, bytes.
const U32_LENGTH: usize = 4;
/// Bound on the body of a frame unless set otherwise: 1 MiB, the bound of the zonesync protocol.
const MAX_FRAME: usize = 1 << 20;

/// How frames are told apart on a byte stream: every frame is a length prefix and a body.
///
/// The default prefix is 32 bits, big endian ([`length_prefixed`] makes such frames). A protocol with
/// another prefix brings its own function.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// Reads the prefix at the start of the bytes: `Some((bytes of prefix, bytes of body))`, or `None`
    /// while the prefix is incomplete. `u64::MAX` as length of the body says that the prefix is invalid.
    /// A prefix has at most ten bytes.
    ///
    /// The first six bytes of a plain stream must not look like a TLS record (`16 03 0x` or `15 03 0x`
    /// and a handshake or alert behind it): such a stream is refused as TLS on a plain-text port.
    pub parse_length: fn(&[u8]) -> Option<(usize, u64)>,
    /// Largest body accepted from the peer, bytes. Each connection may hold about that much, plus its
    /// receive buffer.
    pub max_frame: usize,
}

impl Default for Framing {
    fn default() -> Self {
        Self { parse_length: parse_u32_length, max_frame: MAX_FRAME }
    }
}

fn parse_u32_length(bytes: &[u8]) -> Option<(usize, u64)> {
    let prefix = bytes.first_chunk::<U32_LENGTH>()?;
    Some((U32_LENGTH, u64::from(u32::from_be_bytes(*prefix))))
}

/// A frame of the default framing: the length of `body` as 32 bits, big endian, then `body`.
///
/// `None` if the body is 4 GiB or more.
pub fn length_prefixed(body: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(body.len()).ok()?;
    let mut frame = BytesMut::with_capacity(U32_LENGTH + body.len());
    frame.put_u32(length);
    frame.put_slice(body);
    Some(frame.freeze())
}

/// Why no frame can be found in what the peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misframed {
    /// The body is announced longer than the bound.
    TooLarge { length: u64 },
    /// The prefix is not a length.
    BadLength,
}

/// The read buffer of a connection, and the frames in it.
#[derive(Debug)]
pub(crate) struct Splitter {
    framing: Framing,
    buffer: BytesMut,
    /// Room to offer to one read, bytes.
    chunk: usize,
}

impl Splitter {
    pub(crate) fn new(framing: Framing, chunk: usize) -> Self {
        // Half of the address space, so that prefix and body can be added without a check.
        let framing = Framing { max_frame: framing.max_frame.min(usize::MAX / 2), ..framing };
        Self { framing, buffer: BytesMut::new(), chunk: chunk.max(PREFIX_LENGTH_MAX) }
    }

    /// Bytes that have arrived and belong to no whole frame yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes the next whole frame out of the buffer, without copying it.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Misframed> {
        let Some((prefix, length)) = self.parse()? else { return Ok(None) };
        if self.buffer.len() < prefix + length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(prefix + length).freeze();
        Ok(Some(frame.split_off(prefix)))
    }

    /// Lengths of prefix and body of the frame at the front, checked against the bound.
    fn parse(&self) -> Result<Option<(usize, usize)>, Misframed> {
        let Some((prefix, length)) = (self.framing.parse_length)(&self.buffer) else {
            let incomplete = self.buffer.len() < PREFIX_LENGTH_MAX;
            return if incomplete { Ok(None) } else { Err(Misframed::BadLength) };
        };
        if length == u64::MAX || prefix > PREFIX_LENGTH_MAX {
            return Err(Misframed::BadLength);
        }
        match usize::try_from(length) {
            Ok(body) if body <= self.framing.max_frame => Ok(Some((prefix, body))),
            _ => Err(Misframed::TooLarge { length }),
        }
    }

    /// The buffer, with room for the next read: up to the end of the frame that is arriving, but never
    /// more than doubling what is there.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        let missing = match self.parse() {
            Ok(Some((prefix, body))) => (prefix + body).saturating_sub(self.buffer.len()),
            Ok(None) | Err(_) => 0,
        };
        let spare = self.buffer.capacity() - self.buffer.len();
        // A quarter of a chunk: below that a read brings too little to be worth a system call.
        let wanted = missing.min(self.buffer.len().max(self.chunk)).max(self.chunk / 4).max(1);
        if spare < wanted {
            self.buffer.reserve(wanted.max(self.chunk));
        }
        &mut self.buffer
    }
}

#[cfg(test)]
mod tests;
