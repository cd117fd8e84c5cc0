//! Frames come out of a stream as they went in, however it is cut.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::encoding::encode_varint;
use sync_proto::Error;
use sync_proto::framing::{FrameBuffer, parse_length};

proptest! {
    #[test]
    fn chunks_do_not_matter(bodies in vec(vec(any::<u8>(), 0..300), 0..10), chunk in 1..50_usize) {
        let mut stream = Vec::new();
        for body in &bodies {
            encode_varint(body.len() as u64, &mut stream);
            stream.extend(body);
        }
        let mut buffer = FrameBuffer::new(302);
        let mut frames = Vec::new();
        for chunk in stream.chunks(chunk) {
            buffer.push(chunk);
            while let Some(frame) = buffer.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        prop_assert_eq!(frames, bodies.into_iter().map(Bytes::from).collect::<Vec<_>>());
    }

    #[test]
    fn prefixes_are_varints(length in 0..1_u64 << 35, rest in vec(any::<u8>(), 0..4)) {
        let mut bytes = Vec::new();
        encode_varint(length, &mut bytes);
        let prefix = bytes.len();
        for cut in 0..prefix {
            prop_assert_eq!(parse_length(&bytes[..cut]), None);
        }
        bytes.extend(rest);
        prop_assert_eq!(parse_length(&bytes), Some((prefix, length)));
    }
}

#[test]
fn the_limit_counts_the_prefix() {
    let mut buffer = FrameBuffer::new(130);
    buffer.push(&[0x80, 0x01]);
    assert_eq!(buffer.next_frame(), Ok(None));
    buffer.push(&[7; 128]);
    assert_eq!(buffer.next_frame(), Ok(Some(Bytes::from_static(&[7; 128]))));

    let mut buffer = FrameBuffer::new(129);
    buffer.push(&[0x80, 0x01]);
    let error = Error::FrameTooLarge { length: 130, max: 129 };
    assert_eq!(buffer.next_frame(), Err(error.clone()), "before the body is there");
    assert_eq!(buffer.next_frame(), Err(error), "and for good");
}

#[test]
fn a_prefix_has_at_most_five_bytes() {
    assert_eq!(
        parse_length(&[0x80, 0x80, 0x80, 0x80, 0x00]),
        Some((5, 0)),
        "longer than minimal is accepted"
    );
    let mut buffer = FrameBuffer::new(usize::MAX);
    buffer.push(&[0x80; 4]);
    assert_eq!(buffer.next_frame(), Ok(None));
    buffer.push(&[0x80]);
    assert_eq!(buffer.next_frame(), Err(Error::FrameLength));
}
