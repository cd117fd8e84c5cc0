//! From the body of a frame to a checked message, and from a control message to a frame.

use bytes::{Bytes, BytesMut};

use crate::read::{self, Reader, key};
use crate::view::{BatchView, CatchUpView};
use crate::wire::{self, frame::Kind};
use crate::write::varint_len;
use crate::{Error, check};

/// A frame, checked: syntax, counts, names, indices. What only the two sides' zones can tell (is this index in the Hello, is the
/// sequence the next one) is for the receiver to check.
#[derive(Clone, Debug)]
pub enum Message {
    /// First frame of either side. If its `version` is not [`VERSION`](crate::VERSION), that is its only field with a meaning.
    Hello(wire::Hello),
    /// The link ends, and why.
    Refuse(wire::Refuse),
    /// A piece of the steady stream.
    Batch(BatchView),
    /// Records outside of the steady stream.
    CatchUp(CatchUpView),
    /// A catch-up is complete.
    CatchUpEnd(wire::CatchUpEnd),
    /// How far the steady stream was applied.
    Acknowledge(wire::Acknowledge),
    /// Send what is missing.
    Request(wire::Request),
    /// The link is alive.
    Heartbeat(wire::Heartbeat),
    /// The link ends as planned.
    Goodbye(wire::Goodbye),
    /// A kind that this version does not know, or an empty frame: to be skipped.
    Unknown,
}

const HELLO: u64 = key(1, read::BYTES);
const REFUSE: u64 = key(2, read::BYTES);
pub(crate) const BATCH: u64 = key(3, read::BYTES);
pub(crate) const CATCH_UP: u64 = key(4, read::BYTES);
const CATCH_UP_END: u64 = key(5, read::BYTES);
const ACKNOWLEDGE: u64 = key(6, read::BYTES);
const REQUEST: u64 = key(7, read::BYTES);
const HEARTBEAT: u64 = key(8, read::BYTES);
const GOODBYE: u64 = key(9, read::BYTES);
const KNOWN: u64 = 9;

/// Checks the body of a frame (without its length prefix) and says what it is.
///
/// Whatever the bytes are, this returns: it does not panic, and allocates no more than a small multiple of the length of
/// `body`. Records stay in `body`; [`BatchView::rows`] and [`CatchUpView::rows`] borrow from it.
///
/// # Errors
///
/// [`Error::Malformed`], [`Error::Invalid`] and [`Error::TooMany`]. What protobuf leaves open is decided as prost does: longer
/// than minimal varints are read, of a repeated scalar the last counts, unknown fields are skipped, another wire type than the
/// schema's is an error. One thing is stricter: two kinds in one frame.
pub fn decode(body: Bytes) -> Result<Message, Error> {
    let malformed = |defect| Error::malformed("Frame", defect);
    let mut found = None;
    let mut input = Reader(&body);
    while !input.is_empty() {
        let key = input.varint().map_err(malformed)?;
        match key {
            HELLO | REFUSE | BATCH | CATCH_UP | CATCH_UP_END | ACKNOWLEDGE | REQUEST | HEARTBEAT
            | GOODBYE => {
                let message = input.bytes().map_err(malformed)?;
                if found.replace((key, body.slice_ref(message))).is_some() {
                    return Err(Error::invalid("Frame", "it has more than one kind"));
                }
            }
            other => input.skip_unknown(other, KNOWN).map_err(malformed)?,
        }
    }
    let Some((key, message)) = found else { return Ok(Message::Unknown) };
    Ok(match key {
        HELLO => Message::Hello(check::hello(&message)?),
        REFUSE => Message::Refuse(check::refuse(&message)?),
        BATCH => Message::Batch(BatchView::check(message)?),
        CATCH_UP => Message::CatchUp(CatchUpView::check(message)?),
        CATCH_UP_END => Message::CatchUpEnd(check::catch_up_end(&message)?),
        ACKNOWLEDGE => Message::Acknowledge(check::acknowledge(&message)?),
        REQUEST => Message::Request(check::request(&message)?),
        HEARTBEAT => Message::Heartbeat(check::heartbeat(&message)?),
        GOODBYE => Message::Goodbye(check::goodbye(&message)?),
        _ => Message::Unknown,
    })
}

/// A whole frame, length prefix included, with a control message. It is up to the sender to keep the message within the
/// protocol's limits and the frame within the receiver's `max_frame`.
///
/// Works for Batch and CatchUp too, from built messages; [`BatchEncoder`](crate::BatchEncoder) and
/// [`CatchUpEncoder`](crate::CatchUpEncoder) give the same bytes at a fraction of the cost.
pub fn encode(kind: &Kind) -> Bytes {
    let body = kind.encoded_len();
    let mut frame = BytesMut::with_capacity(varint_len(body as u64) + body);
    prost::encoding::encode_varint(body as u64, &mut frame);
    kind.encode(&mut frame);
    frame.freeze()
}
