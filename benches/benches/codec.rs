//! The row codec against prost: a batch of 100 keyval rows, 16-byte keys, 32-byte values. Figures are per batch; throughput is
//! in rows.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use sync_proto::wire::{self, frame::Kind};
use sync_proto::{BatchEncoder, CatchUpEncoder, DEFAULT_FRAME_LIMIT, Message, RowRef, decode, framing};

const SENDER: u64 = 0x5eed_0123_4567_89ab;
const OTHER: u64 = 0xfeed_0123_4567_89ab;
const ROWS: u64 = 100;
const START_MS: u64 = 1_767_225_600_000;

struct Data {
    keys: Vec<[u8; 16]>,
    value: [u8; 32],
}

impl Data {
    fn new() -> Self {
        let keys = (0..ROWS).map(|index| u128::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        Self { keys: keys.collect(), value: *b"a value of thirty-two bytes, yes" }
    }

    fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.keys.iter().zip(0..).map(|(key, index)| RowRef {
            key,
            value: &self.value,
            stamp: ((START_MS + index % 10) << 16) | (index / 10),
            writer: SENDER,
            time_ms: START_MS + 3_600_000 + index % 10,
            origin: SENDER,
            seq: 1_000_001 + index,
            ..RowRef::default()
        })
    }
}

fn by_encoder(data: &Data) -> Bytes {
    let mut encoder = BatchEncoder::new(2, 1_000_000, SENDER, DEFAULT_FRAME_LIMIT);
    for row in data.rows() {
        assert!(encoder.push(&row));
    }
    encoder.finish()
}

/// A row with the counter of its stamp, `step` milliseconds after the row before.
fn stamped(step: i64, count: u32) -> wire::Row {
    match step {
        0 => wire::Row { stamp_count: count, ..wire::Row::default() },
        -4..=3 => {
            wire::Row { stamp_near: count << 3 | (step << 1 ^ step >> 63) as u32, ..wire::Row::default() }
        }
        _ => wire::Row { stamp_ms: step, stamp_count: count, ..wire::Row::default() },
    }
}

/// What the encoder replaces: a message, built from the rows, and its encoding.
fn by_prost(data: &Data) -> Bytes {
    let time_base = START_MS + 3_600_000;
    let mut last = (START_MS, time_base);
    let rows = data.rows().map(|row| {
        let (stamp_ms, time) = std::mem::replace(&mut last, (row.stamp >> 16, row.time_ms));
        wire::Row {
            key: Bytes::copy_from_slice(row.key),
            value: Bytes::copy_from_slice(row.value),
            time: Some(row.time_ms as i64 - time as i64),
            ..stamped((row.stamp >> 16) as i64 - stamp_ms as i64, u32::from(row.stamp as u16))
        }
    });
    let batch = wire::Batch {
        zone: 2,
        from_seq_excluded: 1_000_000,
        stamp_base: START_MS,
        time_base,
        rows: rows.collect(),
        ..wire::Batch::default()
    };
    let frame = wire::Frame { kind: Some(Kind::Batch(batch)) };
    let mut bytes = BytesMut::new();
    frame.encode_length_delimited(&mut bytes).expect("it grows");
    bytes.freeze()
}

fn body(frame: &Bytes) -> Bytes {
    let (prefix, _) = framing::parse_length(frame).expect("a whole frame");
    frame.slice(prefix..)
}

fn codec(criterion: &mut Criterion) {
    let data = Data::new();
    let frame = by_encoder(&data);
    assert_eq!(frame, by_prost(&data), "both write the same bytes");
    let body = body(&frame);

    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("encode batch", |b| b.iter(|| by_encoder(black_box(&data))));
    group.bench_function("encode batch, prost", |b| b.iter(|| by_prost(black_box(&data))));
    group.bench_function("encode catch-up of another origin", |b| {
        b.iter(|| {
            let mut encoder = CatchUpEncoder::new(2, 1, SENDER, DEFAULT_FRAME_LIMIT);
            for row in black_box(&data).rows() {
                assert!(encoder.push(&RowRef { writer: OTHER, origin: OTHER, ..row }));
            }
            encoder.finish()
        });
    });
    group.bench_function("decode batch: check", |b| b.iter(|| decode(black_box(body.clone()))));
    group.bench_function("decode batch: check and visit rows", |b| {
        b.iter(|| {
            let Ok(Message::Batch(view)) = decode(black_box(body.clone())) else { unreachable!("a Batch") };
            view.rows(SENDER)
                .fold(0, |sum, row| sum ^ row.stamp ^ row.time_ms ^ row.seq ^ row.value.len() as u64)
        });
    });
    group.bench_function("decode batch, prost and visit rows", |b| {
        b.iter(|| {
            let Ok(frame) = wire::Frame::decode(black_box(body.clone())) else { unreachable!("a frame") };
            let Some(Kind::Batch(batch)) = frame.kind else { unreachable!("a Batch") };
            batch.rows.iter().fold(0, |sum, row| {
                sum ^ row.stamp_ms
                    ^ row.time.unwrap_or_default()
                    ^ i64::from(row.stamp_count)
                    ^ i64::from(row.stamp_near)
                    ^ row.value.len() as i64
            })
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
