//! Bytes of a socket, in pieces as they may come: cut into frames, and each frame decoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sync_proto::framing::FrameBuffer;
use sync_proto::{MIN_FRAME_LIMIT, Message, decode};

/// Whoever sends has an origin.
const SENDER: u64 = 0xa;

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is cut, so that the bound of a piece changes nothing.
    let Some((&piece, stream)) = input.split_first() else { return };
    let mut whole = FrameBuffer::new(MIN_FRAME_LIMIT);
    whole.push(stream);
    let mut pieces = FrameBuffer::new(MIN_FRAME_LIMIT);
    let mut cut = Vec::new();
    for piece in stream.chunks(usize::from(piece) + 1) {
        pieces.push(piece);
        while let Ok(Some(body)) = pieces.next_frame() {
            cut.push(body);
        }
    }
    let mut cut = cut.into_iter();
    while let Ok(Some(body)) = whole.next_frame() {
        assert_eq!(Some(&body), cut.next().as_ref(), "a stream has the same frames however it is cut");
        look_at(decode(body));
    }
    assert!(cut.next().is_none());
});

/// What was decoded can be used.
fn look_at(message: Result<Message, sync_proto::Error>) {
    match message {
        Ok(Message::Batch(batch)) => {
            let rows = batch.rows(SENDER).count() as u64;
            assert_eq!(batch.through_seq() - batch.from_seq_excluded(), rows);
            for (row, at) in batch.rows(SENDER).zip(1..) {
                assert_eq!(row.seq, batch.from_seq_excluded() + at);
            }
        }
        Ok(Message::CatchUp(catch_up)) => {
            for row in catch_up.rows(SENDER) {
                assert_ne!(row.origin, 0, "a record of nobody");
            }
        }
        Ok(_) => {}
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.refuse_code();
        }
    }
}
