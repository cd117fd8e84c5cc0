//! Merging is commutative, associative and idempotent: any order, grouping and repetition of the same rows ends in the same records.

use crate::support::{OwnedState, Row};
use proptest::prelude::*;
use sync_store::{Cursor, Dot, KeyvalZone, Origin, Replica, Stamp, StickyZone, Time, VersionVector};

const NOW: Time = Time::from_millis(1_000_000);

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not 0")
}

/// Rows of which two may claim the same stamp; then they are of different writers, or the same record.
fn row() -> impl Strategy<Value = Row> {
    (0..3u8, 0..4u64, 10..13u64, 1..4u64, 0..5u64).prop_map(|(key, stamp, writer, seq, touch)| {
        let (stamp, writer) = (Stamp::from_raw((999_000 + stamp) << 16), origin(writer));
        let state = if (stamp.millis() + writer.raw()).is_multiple_of(4) {
            OwnedState::Removed { stamp, writer }
        } else {
            let value = vec![stamp.millis() as u8, writer.raw() as u8];
            OwnedState::Value { value, stamp, writer, time_ms: 1_100_000 + touch }
        };
        Row { key: vec![b'k', key], dot: Dot { origin: origin(20), seq }, state }
    })
}

/// Two orders of the same rows, the second one with repetitions.
fn orders() -> impl Strategy<Value = (Vec<Row>, Vec<Row>)> {
    prop::collection::vec(row(), 1..12).prop_flat_map(|rows| {
        let doubled: Vec<Row> = rows.iter().chain(&rows).cloned().collect();
        (Just(rows), Just(doubled).prop_shuffle())
    })
}

/// All records of a zone, tombstones included, whatever their dots.
fn records(zone: &dyn Replica) -> Vec<Row> {
    let mut rows = Vec::new();
    zone.scan(NOW, &[origin(20)], &VersionVector::new(), Cursor::default(), &mut |record| {
        rows.push(Row { dot: Dot { origin: origin(1), seq: 1 }, ..Row::of(record) });
        true
    });
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

fn merged(zone: &dyn Replica, rows: &[Row], group: usize) -> (Vec<Row>, u64) {
    for rows in rows.chunks(group) {
        zone.apply_states(NOW, &mut rows.iter().map(Row::record)).expect("valid rows");
    }
    (records(zone), zone.digest(NOW))
}

proptest! {
    #[test]
    fn keyval((one, other) in orders(), group in 1..5usize) {
        let zone = || KeyvalZone::builder("z").size(32 << 10).build().expect("a zone");
        // In a keyval zone the time is part of the record, so one stamp has one time.
        let fixed = |rows: &[Row]| -> Vec<Row> {
            rows.iter().cloned().map(|mut row| {
                if let OwnedState::Value { time_ms, .. } = &mut row.state {
                    *time_ms = 2_000_000;
                }
                row
            }).collect()
        };
        prop_assert_eq!(merged(&zone(), &fixed(&one), 100), merged(&zone(), &fixed(&other), group));
    }

    #[test]
    fn sticky((one, other) in orders(), group in 1..5usize) {
        // The digest goes by stamps; the rows say that last accesses agree as well.
        let zone = || StickyZone::builder("z").size(32 << 10).max_clock_skew(std::time::Duration::from_secs(1_000)).build().expect("a zone");
        prop_assert_eq!(merged(&zone(), &one, 100), merged(&zone(), &other, group));
    }
}

#[test]
fn what_was_covered_by_mistake_comes_again() {
    let zone = KeyvalZone::builder("z").size(32 << 10).build().expect("a zone");
    let limit = sync_store::LimitZone::builder("l").size(32 << 10).rate("1r/s".parse().expect("a rate"));
    let limit = limit.build().expect("a zone");
    let other = origin(20);
    for zone in [&zone as &dyn Replica, &limit] {
        zone.cover(&[(other, 9)].into_iter().collect());
        zone.uncover(other, 12);
        assert_eq!(zone.vector().get(other), 9, "it never rises");
        zone.uncover(other, 3);
        assert_eq!(zone.vector().get(other), 3);
        zone.uncover(origin(21), 0);
        zone.uncover(zone.origin(), 0);
        assert_eq!(zone.vector().get(other), 3, "whoever is unknown stays so");
    }
    let state = OwnedState::Value {
        value: vec![1],
        stamp: Stamp::from_raw(999_000 << 16),
        writer: other,
        time_ms: 1_100_000,
    };
    let row = Row { key: vec![b'k'], dot: Dot { origin: other, seq: 4 }, state };
    let applied = zone.apply_batch(NOW, other, 3, 4, &mut [row.record()].into_iter()).expect("a batch");
    assert_eq!((applied.applied, zone.vector().get(other)), (1, 4));
}

#[test]
fn a_removal_counts_for_what_came_just_before_it_though_its_tombstone_would_be_forgotten() {
    let retention = std::time::Duration::from_secs(1);
    let zone =
        KeyvalZone::builder("z").size(32 << 10).tombstone_retention(retention).build().expect("a zone");
    let (writer, stamp) = (origin(10), |ms: u64| Stamp::from_raw(ms << 16));
    let value = OwnedState::Value { value: vec![1], stamp: stamp(990_000), writer, time_ms: 2_000_000 };
    let states = [value, OwnedState::Removed { stamp: stamp(990_001), writer }];
    let rows = (1..).zip(states).map(|(seq, state)| Row {
        key: vec![b'k'],
        dot: Dot { origin: origin(20), seq },
        state,
    });
    let rows: Vec<Row> = rows.collect();
    zone.apply_states(NOW, &mut rows.iter().map(Row::record)).expect("valid rows");
    assert_eq!(zone.get(b"k", NOW), None);
}
