//! Cutting a stream of bytes into frames: a varint length, then that many bytes of body.

use bytes::{Buf, Bytes, BytesMut};

use crate::Error;

/// Most bytes of a length prefix: a varint of up to 35 bits. Longer than minimal is accepted within that.
pub const MAX_PREFIX: usize = 5;

/// Reads the length prefix at the start of `bytes`: how many bytes it takes, and the length of the body that follows.
///
/// `None` when more bytes are needed. A prefix that is no varint of at most [`MAX_PREFIX`] bytes gives the length
/// [`u64::MAX`], which is over every bound.
///
/// ```
/// use sync_proto::framing::parse_length;
///
/// assert_eq!(parse_length(&[0x05, 0x22]), Some((1, 5)));
/// assert_eq!(parse_length(&[0xac, 0x02]), Some((2, 300)));
/// assert_eq!(parse_length(&[0xac]), None);
/// assert_eq!(parse_length(&[0xff; 5]), Some((5, u64::MAX)));
/// ```
pub fn parse_length(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(MAX_PREFIX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((index + 1, length));
        }
    }
    if bytes.len() < MAX_PREFIX { None } else { Some((MAX_PREFIX, u64::MAX)) }
}

/// Collects received bytes and gives back whole frames.
///
/// Holds at most one unfinished frame, which the limit bounds, plus what was pushed since the last [`FrameBuffer::next_frame`]
/// returned `None`: push what was read, then take frames until there are none.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    limit: usize,
}

impl FrameBuffer {
    /// Accepts frames of up to `limit` bytes, length prefix included.
    pub fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit }
    }

    /// Appends received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the body of the next whole frame, without its prefix; `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`Error::FrameLength`] and [`Error::FrameTooLarge`], as soon as the prefix is there. The stream is lost: every further
    /// call gives the same error.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((prefix, length)) = parse_length(&self.bytes) else { return Ok(None) };
        if length == u64::MAX {
            return Err(Error::FrameLength);
        }
        let whole = length + prefix as u64;
        if whole > self.limit as u64 {
            return Err(Error::FrameTooLarge { length: whole, max: self.limit });
        }
        if (self.bytes.len() as u64) < whole {
            return Ok(None);
        }
        self.bytes.advance(prefix);
        // Within the buffer's length, so within usize.
        Ok(Some(self.bytes.split_to(length as usize).freeze()))
    }
}
