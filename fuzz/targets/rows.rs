//! Any rows, written into a frame and read from it again: they are the same, and within the frame's bound.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sync_proto::framing::parse_length;
use sync_proto::{BatchEncoder, CatchUpEncoder, MIN_FRAME_LIMIT, Message, RowRef, decode, max_record};

#[derive(Arbitrary, Debug)]
struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    stamp: u64,
    writer: u64,
    time_ms: u64,
    removed: bool,
    origin: u64,
    seq: u64,
    debt_ns: i64,
    tat_ns: u64,
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_batch: bool,
    zone: u8,
    number: u64,
    sender: u64,
    limit: u16,
    rows: Vec<Row>,
}

fuzz_target!(|input: Input| {
    let limit = MIN_FRAME_LIMIT + usize::from(input.limit);
    let zone = u32::from(input.zone);
    // Whoever sends is somebody, and has not sent all that there can be.
    let (sender, number) = (input.sender.max(1), input.number >> 1);
    let rows: Vec<RowRef<'_>> = input.rows.iter().map(|row| row.wire(sender)).collect();
    let mut pushed = 0;
    let frame = if input.is_batch {
        let mut batch = BatchEncoder::new(zone, number, sender, limit);
        pushed += rows.iter().take_while(|row| batch.push(row)).count();
        batch.finish()
    } else {
        let mut catch_up = CatchUpEncoder::new(zone, number, sender, limit);
        pushed += rows.iter().take_while(|row| catch_up.push(row)).count();
        catch_up.finish()
    };
    assert!(frame.len() <= limit, "{} bytes", frame.len());
    if let Some(first) = rows.first() {
        assert!(pushed > 0 || first.key.len() + first.value.len() > max_record(limit), "the first fits");
    }
    let (prefix, _) = parse_length(&frame).expect("a whole frame");
    match decode(frame.slice(prefix..)).expect("what we write, we read") {
        Message::Batch(batch) => {
            assert_eq!((batch.zone(), batch.from_seq_excluded()), (zone, number));
            let sent = rows.iter().take(pushed).zip(number + 1..);
            let sent = sent.map(|(row, seq)| RowRef { origin: sender, seq, ..*row });
            assert!(batch.rows(sender).eq(sent));
        }
        Message::CatchUp(catch_up) => {
            assert_eq!((catch_up.zone(), catch_up.request()), (zone, number));
            assert!(catch_up.rows(sender).eq(rows.iter().take(pushed).copied()));
        }
        other => panic!("{other:?}"),
    }
});

impl Row {
    fn wire(&self, sender: u64) -> RowRef<'_> {
        let origin = if self.origin == 0 { sender } else { self.origin };
        RowRef {
            key: &self.key,
            value: &self.value,
            // Many within a few milliseconds, which are written another way.
            stamp: if self.stamp.is_multiple_of(3) { self.stamp & 0xf_ffff } else { self.stamp },
            writer: if self.writer == 0 { origin } else { self.writer },
            time_ms: self.time_ms,
            removed: self.removed,
            origin,
            seq: self.seq,
            debt_ns: self.debt_ns,
            tat_ns: self.tat_ns,
        }
    }
}
