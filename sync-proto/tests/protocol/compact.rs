//! How many bytes a typical row takes beside its key and value: at most twelve.

use sync_proto::{BatchEncoder, CatchUpEncoder, RowRef};

const SENDER: u64 = 0x5eed_0123_4567_89ab;
const OTHER: u64 = 0xfeed_0123_4567_89ab;
const ROWS: u64 = 100;
const KEY: [u8; 16] = *b"session-00000042";
const VALUE: [u8; 32] = *b"a value of thirty-two bytes, yes";
/// 2026-01-01.
const START_MS: u64 = 1_767_225_600_000;

/// A write some `after_ms` into a batch, as the `index`-th of its millisecond.
fn write(after_ms: u64, index: u64) -> RowRef<'static> {
    let stamp = (START_MS + after_ms) << 16 | index;
    RowRef { key: &KEY, value: &VALUE, stamp, writer: SENDER, origin: SENDER, ..RowRef::default() }
}

/// Bytes beside keys and values per row of a batch, its header shared out.
fn batch_overhead(row: impl Fn(u64) -> RowRef<'static>) -> f64 {
    let mut encoder = BatchEncoder::new(2, 1_000_000, SENDER, 1 << 20);
    let payload: usize = (0..ROWS)
        .map(|index| {
            let row = row(index);
            assert!(encoder.push(&row));
            row.key.len() + row.value.len()
        })
        .sum();
    (encoder.finish().len() - payload) as f64 / ROWS as f64
}

fn catch_up_overhead(row: impl Fn(u64) -> RowRef<'static>) -> f64 {
    let mut encoder = CatchUpEncoder::new(2, 7, SENDER, 1 << 20);
    let payload: usize = (0..ROWS)
        .map(|index| {
            let row = row(index);
            assert!(encoder.push(&row));
            row.key.len() + row.value.len()
        })
        .sum();
    (encoder.finish().len() - payload) as f64 / ROWS as f64
}

/// One of ten milliseconds, in no order: publications go by slots.
fn scattered(index: u64) -> u64 {
    (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 10
}

/// Fails above `most`, and says what it is either way (`--nocapture`).
fn at_most(what: &str, overhead: f64, most: f64) {
    println!("{what}: {overhead:.2} bytes per row over key and value");
    assert!(overhead <= most, "{what}: {overhead:.2} bytes, at most {most} wanted");
}

#[test]
fn batches_of_keyval() {
    // Writes of one millisecond; of ten, ten in each.
    at_most("keyval, 1 ms", batch_overhead(|index| write(0, index)), 9.0);
    at_most("keyval, 10 ms", batch_overhead(|index| write(scattered(index), index / 10)), 9.0);
    // Expiry an hour after the write.
    let expiring = |index: u64| {
        let after_ms = scattered(index);
        RowRef { time_ms: START_MS + after_ms + 3_600_000, ..write(after_ms, index / 10) }
    };
    at_most("keyval with expiry, 10 ms", batch_overhead(expiring), 11.0);
    let removed = |index: u64| RowRef { removed: true, value: &[], ..write(scattered(index), index / 10) };
    at_most("keyval tombstones, 10 ms", batch_overhead(removed), 9.0);
}

/// What a busy machine publishes at once is some milliseconds old, each with thousands of writes, and goes in no order.
#[test]
fn near_milliseconds_cost_nothing() {
    let counted = |index: u64| 128 + index * 7919 % (2048 - 128);
    for step_max in 1..=3 {
        // To and fro.
        let near = |index: u64| write(index % 2 * (1 + index % step_max), counted(index));
        let same = |index: u64| write(0, counted(index));
        let what = format!("{step_max} ms to and fro");
        at_most(&what, batch_overhead(near), batch_overhead(same));
        at_most(&what, catch_up_overhead(near), catch_up_overhead(same));
    }
}

#[test]
fn batches_of_sticky() {
    // Sessions learned by another node within the last ten minutes, touched in these milliseconds.
    let touched = |index: u64| RowRef {
        stamp: (START_MS - 6_000 * index) << 16,
        writer: OTHER,
        time_ms: START_MS + index % 10,
        ..write(0, 0)
    };
    at_most("sticky touches", batch_overhead(touched), 17.0);
}

#[test]
fn batches_of_limits() {
    // Limits of 100 per second, each within a second of now, a few requests since the last batch.
    let limit = |index: u64| RowRef {
        key: &KEY,
        debt_ns: 10_000_000 * (1 + index as i64 % 3),
        tat_ns: START_MS * 1_000_000 + 10_000_000 * index,
        ..RowRef::default()
    };
    at_most("limit", batch_overhead(limit), 16.0);
}

#[test]
fn catch_up_of_keyval() {
    // What was missed in a short while: of the last 1000 sequence numbers, written in the last second, all that are left.
    let recent = |index: u64| RowRef { seq: 5_000_000 + 10 * index, ..write(10 * index, 0) };
    at_most("catch-up, recent", catch_up_overhead(recent), 11.0);
    // A new node: one after the other of a million, thirty apart, inserted within a second.
    let inserted = |index: u64| {
        let seq = 1 + index * 30;
        let (gathered, counted) = (seq / 1000, 2 * (index * 7919 % 1000) + 1);
        RowRef { seq, ..write(gathered, counted) }
    };
    at_most("catch-up, everything", catch_up_overhead(inserted), 12.0);
    // Of 200,000, written in the last hour, by origins that are gone.
    let departed = |index: u64| {
        let place = index * 6;
        RowRef { seq: 1 + place, origin: OTHER, writer: OTHER, ..write(place * 18, 0) }
    };
    at_most("catch-up, of others", catch_up_overhead(departed), 14.0);
}
