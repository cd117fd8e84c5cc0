use super::*;
use proptest::prelude::*;

fn encoded(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_integer(&mut bytes, value);
    bytes
}

#[test]
fn integers_are_those_of_the_document() {
    assert_eq!(encoded(0xef), [0xef]);
    assert_eq!(encoded(0xf0), [0xf0, 0]);
    assert_eq!(encoded(0x1234), [0xf4, 0x94, 0x01]);
    // The least of each length: `PEER_ENC_nBYTES_MIN` of the source.
    for (least, length) in [(0x8f0, 3), (0x408f0, 4), (0x204_08f0, 5), (0x1020_408f0 / 0x10, 5)] {
        assert_eq!(encoded(least).len(), length, "{least:x}");
    }
    assert_eq!(encoded(0x8ef).len(), 2);
    assert_eq!(encoded(u64::MAX).len(), 10);
}

#[test]
fn integers_that_are_too_large_or_without_end_are_refused() {
    assert_eq!(Reader(&[0xff; 10]).integer(), None);
    assert_eq!(Reader(&[0xff; 11]).integer(), None);
    let mut larger = encoded(u64::MAX);
    *larger.last_mut().expect("bytes") += 1;
    assert_eq!(Reader(&larger).integer(), None);
    assert_eq!(Message::take(&mut BytesMut::from(&[10, 128, 0xff, 0xff][..])), Ok(None));
    let endless = [&[10, 128][..], &[0xff; 10]].concat();
    assert!(matches!(Message::take(&mut BytesMut::from(&endless[..])), Err(Fault::Malformed(_))));
    let mut large = vec![10, 128];
    put_integer(&mut large, MESSAGE_MAX as u64 + 1);
    assert_eq!(Message::take(&mut BytesMut::from(&large[..])), Err(Fault::TooLarge));
}

proptest! {
    #[test]
    fn an_integer_is_read_as_it_was_written(value: u64, small in 0_u64..0x1000, rest: Vec<u8>) {
        for value in [value, small] {
            let bytes = [encoded(value), rest.clone()].concat();
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.integer(), Some(value));
            prop_assert_eq!(reader.0, &rest[..]);
            prop_assert_eq!(Reader(&encoded(value)[..encoded(value).len() - 1]).integer(), None);
        }
    }

    #[test]
    fn messages_are_read_in_whatever_pieces_they_come(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..5),
        piece in 1_usize..50,
    ) {
        let mut bytes = Vec::new();
        for body in &bodies {
            put_message(&mut bytes, table::UPDATE, body);
            bytes.extend_from_slice(&[CONTROL, control::HEARTBEAT]);
        }
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(message) = Message::take(&mut input).expect("good") {
                read.push(message);
            }
        }
        prop_assert!(input.is_empty());
        let (controls, updates): (Vec<_>, Vec<_>) = read.into_iter().partition(|m| m.class == CONTROL);
        prop_assert_eq!(controls.len(), bodies.len());
        prop_assert_eq!(updates.into_iter().map(|m| m.body.to_vec()).collect::<Vec<_>>(), bodies);
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>) {
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = Message::take(&mut input) {}
        let _ = Reader(&bytes).integer();
        let _ = Reader(&bytes).counted();
    }
}
