//! Bytes that nobody meant to send: never a panic, and the same answer as prost's where there is one.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;
use sync_proto::framing::FrameBuffer;
use sync_proto::wire::{self, frame::Kind};
use sync_proto::{Error, Message, VERSION, decode, encode};

use crate::support::{assert_same, body, kind};

/// Decodes and compares with prost; the entry for a fuzzer, too.
fn fuzz_decode(bytes: &[u8]) {
    let prost = wire::Frame::decode(bytes);
    match decode(Bytes::copy_from_slice(bytes)) {
        // Of another version we read the version only, prost all of it or nothing.
        Ok(Message::Hello(hello)) if hello.version != VERSION => {}
        Ok(message) => {
            // A text that was cut is not compared; no generator here makes one.
            let prost = prost.expect("prost reads what we read");
            assert_same(&message, prost.kind.as_ref());
        }
        Err(Error::Malformed { reason, .. }) => {
            assert!(prost.is_err(), "prost reads it, but we say: {reason}");
        }
        // Rules that prost does not know.
        Err(_) => {}
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Repeat(from, to)),
    ]
}

fn apply(edits: &[Edit], bytes: &mut Vec<u8>) {
    for edit in edits {
        if bytes.is_empty() {
            return;
        }
        let at = |index: &Index| index.index(bytes.len());
        match edit {
            Edit::Set(index, byte) => {
                let at = at(index);
                bytes[at] = *byte;
            }
            Edit::Flip(index, bit) => {
                let at = at(index);
                bytes[at] ^= 1 << bit;
            }
            Edit::Insert(index, byte) => bytes.insert(at(index), *byte),
            Edit::Remove(index) => {
                let at = at(index);
                bytes.remove(at);
            }
            Edit::Repeat(from, to) => {
                let (from, to) = (at(from), at(to));
                bytes.extend_from_within(from.min(to)..from.max(to));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..300)) {
        fuzz_decode(&bytes);
    }

    /// Random bytes as the message of a kind get further.
    #[test]
    fn random_messages(number in 1..=9_u8, bytes in vec(prop_oneof![any::<u8>(), 0..0x52_u8], 0..127)) {
        let mut body = vec![number << 3 | 2, bytes.len() as u8];
        body.extend(bytes);
        fuzz_decode(&body);
    }

    #[test]
    fn mutated_frames(kind in kind(), edits in vec(edit(), 1..6)) {
        let mut body = body(&encode(&kind)).to_vec();
        apply(&edits, &mut body);
        fuzz_decode(&body);
    }

    #[test]
    fn streams_of_garbage(chunks in vec(vec(any::<u8>(), 0..50), 0..20)) {
        let mut buffer = FrameBuffer::new(4096);
        for chunk in chunks {
            buffer.push(&chunk);
            while let Ok(Some(frame)) = buffer.next_frame() {
                fuzz_decode(&frame);
            }
        }
    }
}

proptest! {
    #[test]
    fn frames_cut_anywhere(kind in kind()) {
        let body = body(&encode(&kind));
        for end in 0..body.len() {
            let cut = body.slice(..end);
            fuzz_decode(&cut);
            // A cut message never passes for a whole one.
            prop_assert!(end == 0 || decode(cut).is_err());
        }
    }
}

/// The message of a Batch with these bytes.
fn batch(message: &[u8]) -> Bytes {
    let mut body = vec![0x1a, message.len() as u8];
    body.extend(message);
    body.into()
}

fn malformed(body: Bytes) -> String {
    fuzz_decode(&body);
    match decode(body) {
        Err(Error::Malformed { frame, reason }) => format!("{frame}: {reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lengths_that_are_not_there_allocate_nothing() {
    // A row of 2^63 bytes; a key of 2^32; a table of 2^40.
    let past = "Batch: a field reaches past the end";
    assert_eq!(malformed(batch(&[0x32, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])), past);
    assert_eq!(malformed(batch(&[0x32, 6, 0x0a, 0x80, 0x80, 0x80, 0x80, 0x10])), past);
    assert_eq!(malformed(batch(&[0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20])), past);
    assert_eq!(malformed(batch(&[0x3a, 4, 1, 2, 3, 4])), past);
}

#[test]
fn defects_have_names() {
    assert_eq!(malformed(batch(&[0x35, 0, 0, 0, 0])), "Batch: a field has the wire type of another");
    assert_eq!(malformed(batch(&[0x0e])), "Batch: wire type 6 or 7");
    assert_eq!(malformed(batch(&[0x00])), "Batch: a field number is 0 or wider than 29 bits");
    assert_eq!(
        malformed(batch(&[0x80, 0x80, 0x80, 0x80, 0x10, 0])),
        "Batch: a field number is 0 or wider than 29 bits"
    );
    let varint = "Batch: a varint is cut or wider than 64 bits";
    assert_eq!(malformed(batch(&[0x08, 0x80])), varint);
    assert_eq!(malformed(batch(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02])), varint);
    let group = "Batch: a group ends that did not begin, or groups lie more than 100 deep";
    assert_eq!(malformed(batch(&[0x7c])), group);
    assert_eq!(malformed(batch(&[0x7b, 0x74])), group);
    let mut deep = vec![0x1a, 0xf4, 0x03];
    deep.extend([0x7b; 250]);
    deep.extend([0x7c; 250]);
    assert_eq!(malformed(deep.into()), group);
    // Control messages have prost's own words.
    let text = malformed(Bytes::from_static(&[0x4a, 3, 0x0a, 1, 0xff]));
    assert!(text.starts_with("Goodbye: ") && text.contains("UTF-8"), "{text}");
}

#[test]
fn numbers_wrap_as_protobuf_says() {
    // zone = 2^32 + 5 is 5, as a uint32.
    let body = batch(&[0x08, 0x85, 0x80, 0x80, 0x80, 0x10]);
    fuzz_decode(&body);
    let Ok(Message::Batch(view)) = decode(body) else { panic!("not a Batch") };
    assert_eq!(view.zone(), 5);
    // A bool is true for anything but 0.
    let row = [0x32, 3, 0x38, 0x80, 0x02];
    let Ok(Message::Batch(view)) = decode(batch(&row)) else { panic!("not a Batch") };
    assert!(view.rows(1).all(|row| row.removed));
    fuzz_decode(&batch(&row));
}

#[test]
fn other_protocols_are_refused() {
    for greeting in
        ["GET / HTTP/1.1\r\nHost: node\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n", "\x16\x03\x01\x02\0\x01\0"]
    {
        let mut buffer = FrameBuffer::new(1 << 20);
        buffer.push(greeting.as_bytes());
        // Fill up whatever length they seem to announce.
        buffer.push(&[b'x'; 256]);
        let refused = match buffer.next_frame() {
            Err(_) => true,
            Ok(frame) => frame.is_some_and(|frame| !matches!(decode(frame), Ok(Message::Hello(_)))),
        };
        assert!(refused, "{greeting:?}");
    }
}

#[test]
fn a_batch_within_a_hello_is_no_batch() {
    let batch = body(&encode(&Kind::Batch(wire::Batch { zone: 1, ..wire::Batch::default() })));
    let mut body = vec![0x0a, batch.len() as u8];
    body.extend(&batch);
    fuzz_decode(&body);
}
