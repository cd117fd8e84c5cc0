use super::*;

/// One byte of length: the shortest prefix there is; 255 is not a length.
fn parse_u8_length(bytes: &[u8]) -> Option<(usize, u64)> {
    bytes.first().map(|&length| (1, if length == 255 { u64::MAX } else { u64::from(length) }))
}

fn splitter(max_frame: usize, input: &[u8]) -> Splitter {
    let mut splitter = Splitter::new(Framing { max_frame, ..Framing::default() }, 16);
    splitter.room().extend_from_slice(input);
    splitter
}

#[test]
fn frames_are_slices_of_the_buffer() {
    let mut input = length_prefixed(b"one").unwrap().to_vec();
    input.extend_from_slice(&length_prefixed(b"").unwrap());
    input.extend_from_slice(&length_prefixed(b"three").unwrap());
    input.extend_from_slice(&[0, 0]);
    let mut splitter = splitter(100, &input);
    let start = splitter.pending().as_ptr() as usize;
    let one = splitter.next().unwrap().unwrap();
    assert_eq!(one, "one");
    assert_eq!(one.as_ptr() as usize, start + 4, "copied");
    assert_eq!(splitter.next().unwrap().unwrap(), "");
    assert_eq!(splitter.next().unwrap().unwrap(), "three");
    assert_eq!(splitter.next().unwrap(), None);
    assert_eq!(splitter.pending(), [0, 0]);
}

#[test]
fn any_cut_of_the_stream_gives_the_same_frames() {
    let bodies: [&[u8]; 4] = [b"a", b"", &[7; 300], b"last"];
    let stream: Vec<u8> = bodies.iter().flat_map(|body| length_prefixed(body).unwrap()).collect();
    for step in 1..20 {
        let mut splitter = Splitter::new(Framing::default(), 1);
        let mut frames = Vec::new();
        for piece in stream.chunks(step) {
            splitter.room().extend_from_slice(piece);
            while let Some(frame) = splitter.next().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, bodies, "in pieces of {step}");
        assert!(splitter.pending().is_empty());
    }
}

#[test]
fn the_bound_is_checked_before_the_body_arrives() {
    let mut splitter = splitter(99, &100u32.to_be_bytes());
    assert_eq!(splitter.next(), Err(Misframed::TooLarge { length: 100 }));
    assert_eq!(splitter.next(), Err(Misframed::TooLarge { length: 100 }), "the error stays");
}

#[test]
fn a_frame_of_exactly_the_bound_passes() {
    let mut splitter = splitter(100, &length_prefixed(&[1; 100]).unwrap());
    assert_eq!(splitter.next().unwrap().unwrap().len(), 100);
}

#[test]
fn an_invalid_prefix_is_told_from_a_long_one() {
    let framing = Framing { parse_length: parse_u8_length, max_frame: 100 };
    let mut splitter = Splitter::new(framing, 16);
    splitter.room().extend_from_slice(&[255]);
    assert_eq!(splitter.next(), Err(Misframed::BadLength));

    let framing = Framing { parse_length: |_| None, max_frame: 100 };
    let mut splitter = Splitter::new(framing, 16);
    splitter.room().extend_from_slice(&[0; 9]);
    assert_eq!(splitter.next(), Ok(None));
    splitter.room().extend_from_slice(&[0]);
    assert_eq!(splitter.next(), Err(Misframed::BadLength), "a prefix that never ends");
}

#[test]
fn memory_grows_with_what_arrived_not_with_what_was_announced() {
    let mut splitter = Splitter::new(Framing::default(), 1024);
    splitter.room().extend_from_slice(&(1u32 << 20).to_be_bytes());
    assert_eq!(splitter.next(), Ok(None));
    assert!(splitter.room().capacity() < 4096);
    let mut sent = 0;
    while sent < 1 << 20 {
        let room = splitter.room();
        let free = (room.capacity() - room.len()).min((1 << 20) - sent);
        assert!(free > 0);
        assert!(room.capacity() <= 2 * (room.len() + 1024) + 1024, "{} for {}", room.capacity(), room.len());
        let len = room.len();
        room.resize(len + free, 9);
        sent += free;
    }
    assert_eq!(splitter.next().unwrap().unwrap().len(), 1 << 20);
}

#[test]
fn the_buffer_is_reused_once_its_frames_are_gone() {
    let mut splitter = Splitter::new(Framing::default(), 4096);
    let frame = length_prefixed(&[3; 1000]).unwrap();
    for _ in 0..1000 {
        splitter.room().extend_from_slice(&frame);
        drop(splitter.next().unwrap().unwrap());
    }
    assert!(splitter.room().capacity() <= 2 * 4096);
}
