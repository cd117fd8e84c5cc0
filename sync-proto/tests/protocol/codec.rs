//! The fast row codec and prost are the same encoding, in both directions.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::encoding::encode_varint;
use sync_proto::wire::frame::Kind;
use sync_proto::{
    BatchEncoder, CatchUpEncoder, DEFAULT_FRAME_LIMIT, MAX_ROWS, MAX_TABLE, Message, RowRef, decode, encode,
    max_record,
};

use crate::support::{
    OwnedRow, SENDER, assert_same, batch_rows, body, by_prost, catch_up_rows, foreign, number, row,
    wire_batch, wire_catch_up,
};

/// A batch of as many of the rows as fit into the limit.
fn batch(zone: u32, from: u64, limit: usize, rows: &[OwnedRow]) -> (usize, Bytes) {
    let mut encoder = BatchEncoder::new(zone, from, SENDER, limit);
    assert!(encoder.is_empty());
    let pushed = rows.iter().take_while(|row| encoder.push(&row.borrowed())).count();
    assert_eq!(encoder.len(), pushed);
    (pushed, encoder.finish())
}

fn catch_up(zone: u32, request: u64, limit: usize, rows: &[OwnedRow]) -> (usize, Bytes) {
    let mut encoder = CatchUpEncoder::new(zone, request, SENDER, limit);
    assert!(encoder.is_empty());
    let pushed = rows.iter().take_while(|row| encoder.push(&row.borrowed())).count();
    assert_eq!(encoder.len(), pushed);
    (pushed, encoder.finish())
}

proptest! {
    #[test]
    fn prost_reads_our_batches(
        zone in 0..1024_u32, from in 0..u64::MAX / 2, rows in vec(row(), 0..20),
    ) {
        let (pushed, frame) = batch(zone, from, DEFAULT_FRAME_LIMIT, &rows);
        prop_assert_eq!(pushed, rows.len());
        let Some(Kind::Batch(message)) = by_prost(&body(&frame)) else { panic!("not a Batch") };
        prop_assert_eq!((message.zone, message.from_seq_excluded), (zone, from));
        let expected: Vec<_> = (rows.iter().zip(from + 1..))
            .map(|(row, seq)| RowRef { origin: SENDER, seq, ..row.borrowed() })
            .collect();
        prop_assert_eq!(batch_rows(&message), expected);
        // Not only the same meaning: the same bytes.
        prop_assert_eq!(encode(&Kind::Batch(message.clone())), &frame);
        assert_same(&decode(body(&frame)).unwrap(), Some(&Kind::Batch(message)));
    }

    #[test]
    fn prost_reads_our_catch_ups(
        zone in 0..1024_u32, request in number(), rows in vec(row(), 0..20),
    ) {
        let (pushed, frame) = catch_up(zone, request, DEFAULT_FRAME_LIMIT, &rows);
        prop_assert_eq!(pushed, rows.len());
        let Some(Kind::CatchUp(message)) = by_prost(&body(&frame)) else { panic!("not a CatchUp") };
        prop_assert_eq!((message.zone, message.request), (zone, request));
        let expected: Vec<_> = rows.iter().map(OwnedRow::borrowed).collect();
        prop_assert_eq!(catch_up_rows(&message), expected);
        prop_assert_eq!(encode(&Kind::CatchUp(message.clone())), &frame);
        assert_same(&decode(body(&frame)).unwrap(), Some(&Kind::CatchUp(message)));
    }

    #[test]
    fn we_read_batches_of_prost(batch in wire_batch()) {
        let kind = Kind::Batch(batch);
        assert_same(&decode(body(&encode(&kind))).unwrap(), Some(&kind));
    }

    #[test]
    fn we_read_catch_ups_of_prost(catch_up in wire_catch_up()) {
        let kind = Kind::CatchUp(catch_up);
        assert_same(&decode(body(&encode(&kind))).unwrap(), Some(&kind));
    }

    #[test]
    fn we_read_what_others_may_write(
        kind in prop_oneof![wire_batch().prop_map(Kind::Batch), wire_catch_up().prop_map(Kind::CatchUp)],
        choices in vec(any::<Index>(), 30..60),
    ) {
        let (number, message) = match &kind {
            Kind::Batch(batch) => (3, prost::Message::encode_to_vec(batch)),
            Kind::CatchUp(catch_up) => (4, prost::Message::encode_to_vec(catch_up)),
            _ => unreachable!("the strategy has two kinds"),
        };
        let message = foreign(&message, Some(6), Some(7), &choices);
        // An unknown field beside the kind, too.
        let mut body = vec![0xa0, 0x06, 0x01, number << 3 | 2];
        encode_varint(message.len() as u64, &mut body);
        body.extend(message);
        prop_assert_eq!(by_prost(&body), Some(kind.clone()));
        assert_same(&decode(body.into()).unwrap(), Some(&kind));
    }

    #[test]
    fn the_limit_is_exact(rows in vec(row(), 1..8), catching_up: bool) {
        let write = if catching_up { catch_up } else { batch };
        let (_, whole) = write(3, 1000, DEFAULT_FRAME_LIMIT, &rows);
        let (pushed, frame) = write(3, 1000, whole.len(), &rows);
        prop_assert_eq!((pushed, &frame), (rows.len(), &whole));
        let (pushed, frame) = write(3, 1000, whole.len() - 1, &rows);
        prop_assert_eq!(pushed, rows.len() - 1);
        prop_assert!(frame.len() < whole.len());
        // The row that was turned away left nothing behind.
        prop_assert_eq!(write(3, 1000, whole.len(), &rows[..pushed]).1, frame);
    }

    #[test]
    fn max_record_always_fits(
        row in row(), zone: u32, from in number(), limit in 4096..10_000_usize, in_key in 0.0..=1.0, catching_up: bool,
    ) {
        let payload = vec![b'x'; max_record(limit)];
        let (key, value) = payload.split_at((payload.len() as f64 * in_key) as usize);
        let row = OwnedRow { key: key.to_vec(), value: value.to_vec(), ..row };
        let write = if catching_up { catch_up } else { batch };
        let (pushed, frame) = write(zone, from, limit, &[row]);
        prop_assert_eq!(pushed, 1);
        prop_assert!(frame.len() <= limit);
    }
}

#[test]
fn an_empty_batch_is_a_frame() {
    let frame = BatchEncoder::new(5, 9, SENDER, DEFAULT_FRAME_LIMIT).finish();
    let Ok(Message::Batch(view)) = decode(body(&frame)) else { panic!("not a Batch") };
    assert_eq!((view.zone(), view.from_seq_excluded(), view.through_seq()), (5, 9, 9));
    assert_eq!(view.rows(SENDER).next(), None);
}

#[test]
fn a_frame_ends_when_its_table_is_full() {
    let mut encoder = CatchUpEncoder::new(0, 1, SENDER, DEFAULT_FRAME_LIMIT);
    let row = |origin| RowRef { key: b"k", origin, writer: origin, seq: 1, ..RowRef::default() };
    let table = 1..=MAX_TABLE as u64;
    assert!(table.clone().all(|origin| encoder.push(&row(origin))));
    assert!(!encoder.push(&row(MAX_TABLE as u64 + 1)), "one origin too many");
    assert!(encoder.push(&row(SENDER)), "the sender needs no place in the table");
    assert!(encoder.push(&row(1)));
    let Ok(Message::CatchUp(view)) = decode(body(&encoder.finish())) else { panic!("not a CatchUp") };
    let origins: Vec<_> = view.rows(SENDER).map(|row| row.origin).collect();
    assert_eq!(origins, table.chain([SENDER, 1]).collect::<Vec<_>>());
}

#[test]
fn a_frame_ends_when_it_has_all_rows() {
    let mut encoder = BatchEncoder::new(0, 0, SENDER, DEFAULT_FRAME_LIMIT);
    assert!((0..MAX_ROWS).all(|_| encoder.push(&RowRef::default())));
    assert!(!encoder.push(&RowRef::default()));
    let Ok(Message::Batch(view)) = decode(body(&encoder.finish())) else { panic!("not a Batch") };
    assert_eq!(view.rows(SENDER).count(), MAX_ROWS);
}

#[test]
fn time_0_is_never_whatever_the_base() {
    let mut encoder = BatchEncoder::new(0, 0, SENDER, DEFAULT_FRAME_LIMIT);
    let times = [0, 1_700_000_000_000, 0, 1_700_000_000_000, 1];
    for time_ms in times {
        assert!(encoder.push(&RowRef { key: b"k", time_ms, ..RowRef::default() }));
    }
    let Ok(Message::Batch(view)) = decode(body(&encoder.finish())) else { panic!("not a Batch") };
    assert_eq!(view.rows(SENDER).map(|row| row.time_ms).collect::<Vec<_>>(), times);
}
