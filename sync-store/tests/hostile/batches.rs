//! Batches, states and vectors that lie about who published what: sequences, origins, cursors. Whatever they claim, the vector covers nothing that
//! was not applied, the table of origins keeps its size, and the zone goes on.

use std::cell::Cell;

use sync_store::{Applied, Check, Cursor, Error, LimitZone, Origin, Stamp, VersionVector};

use crate::support::{
    EVE, HONEST, Kind, NOW, OWN, OwnedState, Row, Zone, assert_works, dot, origin, publish,
};

const SIZE: u64 = 64 << 10;
/// A zone of that size keeps apart as many origins as it has KiB.
const ORIGINS: usize = 64;

/// Rows that nobody could object to, from `seq` on.
fn rows(kind: Kind, seqs: std::ops::RangeInclusive<u64>) -> Vec<Row> {
    seqs.map(|seq| kind.row(1_000 + seq as u32, dot(EVE, seq))).collect()
}

fn invalid_batch(from: u64, through: u64, rows: u64) -> Error {
    Error::InvalidBatch { zone: "z".to_owned(), from_seq_excluded: from, through_seq: through, rows }
}

#[test]
fn sequences_that_no_batch_can_have() {
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        let rows = rows(kind, 1..=3);
        for (number, (from, through)) in [
            (1, 0),
            (u64::MAX, 0),
            (u64::MAX, u64::MAX - 1),
            (u64::MAX, u64::MAX),
            (u64::MAX - 1, u64::MAX),
            (0, u64::MAX),
            (0, 1 << 63),
            (1 << 63, 0),
        ]
        .into_iter()
        .enumerate()
        {
            for rows in [&rows[..], &[]] {
                let refused = zone.apply_batch(origin(EVE), from, through, rows);
                assert_eq!(refused, Err(invalid_batch(from, through, 0)), "{kind:?}");
            }
            assert_eq!(zone.known(origin(EVE)), 0, "{kind:?}");
            assert_eq!(zone.replica().stats().applied, number as u64, "{kind:?}: only the honest ones");
            assert_works(kind, &zone, number as u32);
        }
        // The same origin, honest again.
        let applied = zone.apply_batch(origin(EVE), 0, 3, &rows).expect("a valid batch");
        assert_eq!((applied.applied, zone.known(origin(EVE))), (3, 3), "{kind:?}");
    }
}

#[test]
fn more_or_fewer_rows_than_promised() {
    for kind in Kind::ALL {
        let rows = rows(kind, 1..=5);
        // What the whole batch comes to.
        let whole = kind.zone(SIZE, OWN);
        whole.apply_batch(origin(EVE), 0, 5, &rows).expect("a valid batch");
        for (through, sent) in [(3, 2), (5, 4), (1_000_000_000, 3), (2, 0), (2, 3), (1, 5), (0, 1)] {
            let zone = kind.zone(SIZE, OWN);
            let refused = zone.apply_batch(origin(EVE), 0, through, &rows[..sent]);
            let read = sent.min(through as usize + 1);
            assert_eq!(refused, Err(invalid_batch(0, through, read as u64)), "{kind:?}");
            // What came may be applied, and a limit zone covers it then: debts must not be added twice.
            let covered = if kind == Kind::Limit { through.min(sent as u64) } else { 0 };
            assert_eq!(zone.known(origin(EVE)), covered, "{kind:?}: {sent} rows, through {through}");
            assert_works(kind, &zone, 1);
            // The whole batch can come again, and nothing counts twice.
            zone.apply_batch(origin(EVE), 0, 5, &rows).expect("a valid batch");
            assert_eq!(zone.known(origin(EVE)), 5, "{kind:?}: {sent} rows, through {through}");
            for key in (1_001..=1_005).map(|n| kind.key(n)) {
                assert!(zone.holds(&key, NOW), "{kind:?}: {key}");
                if let (Zone::Limit(zone), Zone::Limit(whole)) = (&zone, &whole) {
                    assert_eq!(remaining(zone, &key), remaining(whole, &key));
                }
            }
        }
    }
}

fn remaining(zone: &LimitZone, key: &str) -> u64 {
    zone.check(key, &Check { cost: 0, ..Default::default() }, NOW).remaining()
}

#[test]
fn a_batch_far_ahead_leaves_a_gap_and_nothing_else() {
    const LAST: u64 = (1 << 48) - 1;
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        let rows = rows(kind, 1..=3);
        let ahead = zone.apply_batch(origin(EVE), LAST - 3, LAST, &rows).expect("the last there are");
        assert_eq!((ahead.applied, zone.known(origin(EVE))), (3, 0), "{kind:?}: a gap");
        assert!(zone.apply_batch(origin(EVE), LAST - 2, LAST + 1, &rows).is_err(), "{kind:?}");
        // Its link is lost and the batch comes again: debts must not be added twice, although the vector does not cover them.
        let again = zone.apply_batch(origin(EVE), LAST - 3, LAST, &rows).expect("a valid batch");
        assert_eq!(again, Applied { superseded: 3, ..Applied::default() }, "{kind:?}");
        zone.apply_batch(origin(EVE), LAST, LAST, &[]).expect("empty");
        assert_eq!(zone.known(origin(EVE)), 0, "{kind:?}");
        assert_works(kind, &zone, 1);
        // Catch-up closes the gap; what comes then, came already.
        zone.replica().cover(&[(origin(EVE), LAST)].into_iter().collect());
        assert_eq!(zone.known(origin(EVE)), LAST, "{kind:?}");
        let again = zone.apply_batch(origin(EVE), LAST - 3, LAST, &rows).expect("a valid batch");
        assert_eq!(again, Applied { superseded: 3, ..Applied::default() }, "{kind:?}");
        assert_works(kind, &zone, 2);
    }
}

#[test]
fn rows_in_our_own_name() {
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        zone.write(&kind.key(900), NOW).expect("room");
        publish(zone.replica(), NOW);
        let own = Error::OwnOrigin { zone: "z".to_owned(), origin: origin(OWN) };
        for (from, through) in [(0, 1), (1, 2), (0, 0), (7, 8), (u64::MAX, 0), (0, u64::MAX)] {
            let refused = zone.apply_batch(origin(OWN), from, through, &[kind.row(900, dot(OWN, 1))]);
            assert_eq!(refused, Err(own.clone()), "{kind:?}");
        }
        zone.replica().cover(&[(origin(OWN), u64::MAX), (origin(OWN), 5)].into_iter().collect());
        assert_eq!(zone.replica().published_seq(), 1, "{kind:?}: our sequence is ours to give");
        assert_eq!(zone.known(origin(OWN)), 1, "{kind:?}");
        if kind != Kind::Limit {
            // A record that we did publish may come back by way of others; one that we did not, not.
            let ours = |seq| [kind.row(900, dot(OWN, seq))];
            assert_eq!(zone.apply_states(&ours(1)).map(|applied| applied.refused), Ok(0), "{kind:?}");
            for seq in [2, 1 << 47, u64::MAX] {
                assert_eq!(zone.apply_states(&ours(seq)), Err(own.clone()), "{kind:?}: {seq}");
            }
        }
        assert!(zone.holds(&kind.key(900), NOW));
        assert_works(kind, &zone, 1);
        assert_eq!(publish(zone.replica(), NOW).0, 1, "{kind:?}: the sequence goes on where it was");
    }
}

#[test]
fn covering_what_nobody_has() {
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        zone.replica().cover(&VersionVector::new());
        let extremes =
            [(origin(EVE), u64::MAX), (origin(u64::MAX), 1), (origin(OWN), u64::MAX), (origin(2), 3)];
        zone.replica().cover(&extremes.into_iter().collect());
        let known = zone.known(origin(EVE));
        assert!(known > 1 << 40, "{kind:?}");
        assert_eq!((zone.known(origin(OWN)), zone.known(origin(2))), (0, 3), "{kind:?}");
        // It never goes back.
        zone.replica().cover(&[(origin(EVE), 5), (origin(2), 0)].into_iter().collect());
        assert_eq!((zone.known(origin(EVE)), zone.known(origin(2))), (known, 3), "{kind:?}");
        // It said that all its rows are known, so they are: it harms itself.
        let skipped = zone.apply_batch(origin(EVE), 0, 2, &rows(kind, 1..=2)).expect("a valid batch");
        assert_eq!(skipped, Applied { superseded: 2, ..Applied::default() }, "{kind:?}");
        assert!(zone.apply_batch(origin(EVE), known, known + 1, &rows(kind, 1..=1)).is_err(), "{kind:?}");
        zone.apply_batch(origin(EVE), known, known, &[]).expect("empty");
        assert_eq!(zone.known(origin(EVE)), known, "{kind:?}");
        assert_works(kind, &zone, 1);
    }
}

#[test]
fn states_with_sequences_that_no_publication_has() {
    for kind in Kind::TABLES {
        let zone = kind.zone(SIZE, OWN);
        for (number, seq) in [0, 1 << 48, 1 << 63, u64::MAX].into_iter().enumerate() {
            let refused = zone.apply_states(&[kind.row(900, dot(EVE, seq))]);
            assert!(matches!(refused, Err(Error::InvalidBatch { .. })), "{kind:?}: {seq}: {refused:?}");
            assert!(!zone.holds(&kind.key(900), NOW), "{kind:?}: {seq}");
            assert_works(kind, &zone, number as u32);
        }
    }
    // Rows of a limit zone need no dot: they are merged whenever they come.
    let zone = Kind::Limit.zone(SIZE, OWN);
    for seq in [0, 1, u64::MAX] {
        zone.apply_states(&[Kind::Limit.row(900, dot(EVE, seq))]).expect("a valid row");
    }
    assert!(zone.replica().vector().is_empty());
    assert_works(Kind::Limit, &zone, 1);
}

/// More origins than a zone has room for, by every way in. The least recently heard of are forgotten, their records stay.
#[test]
fn thousands_of_origins() {
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        let bounded = |what| {
            let known = zone.replica().vector().len();
            assert!(known <= ORIGINS, "{kind:?}: {known} origins after {what}");
            let stats = zone.replica().stats();
            assert!(stats.used_bytes <= SIZE && stats.size_bytes == SIZE, "{kind:?}: {stats:?}");
        };
        zone.write(&kind.key(900), NOW).expect("room");
        for stranger in 0..1_000 {
            let row = kind.row(1_000 + stranger % 100, dot(10_000 + u64::from(stranger), 1));
            zone.apply_batch(row.dot.origin, 0, 1, &[row]).expect("a valid row");
        }
        bounded("batches");
        let states: Vec<Row> = (0..1_000u32)
            .map(|stranger| kind.row(1_000 + stranger % 100, dot(20_000 + u64::from(stranger), 1)))
            .collect();
        assert_eq!(zone.apply_states(&states).expect("valid rows").refused, 0, "{kind:?}");
        bounded("states");
        let vector: VersionVector =
            (0..5_000).map(|stranger| (origin(30_000 + stranger), u64::MAX)).collect();
        zone.replica().cover(&vector);
        bounded("covering");
        for stranger in 0..1_000 {
            // Gaps: of each something is to be remembered, until it is forgotten, too.
            let row = kind.row(1_000 + stranger % 100, dot(40_000 + u64::from(stranger), 9));
            zone.apply_batch(row.dot.origin, 8, 9, &[row]).expect("a valid row");
        }
        bounded("gaps");
        for key in std::iter::once(900).chain(1_000..1_100) {
            assert!(zone.holds(&kind.key(key), NOW), "{kind:?}: {key} was lost with its origin");
        }
        assert_works(kind, &zone, 1);
        // What is here reaches a newcomer, by the stream or by a catch-up; and nobody is said to have published what is not his.
        if kind != Kind::Limit {
            let rows = everything(
                &zone,
                [10_000, 20_000, 40_000].into_iter().flat_map(|first| first..first + 1_000),
            );
            for row in &rows {
                let publisher = row.dot.origin.raw();
                let is_his = publisher >= 10_000 && row.key == kind.wire_key(1_000 + publisher as u32 % 100);
                assert!(
                    is_his || publisher == OWN || row.dot.origin == origin(HONEST + 1),
                    "{kind:?}: {row:?}"
                );
            }
            let newcomer = kind.zone(SIZE, 2);
            newcomer.apply_states(&rows).expect("valid rows");
            assert_eq!(newcomer.content(NOW), zone.content(NOW), "{kind:?}");
        }
    }
}

/// All that a zone tells somebody who knows nothing and asks for its own records, for those of origins that it knows, and for those of `others`, of
/// which it may know nothing in sequence.
fn everything(zone: &Zone, others: impl Iterator<Item = u64>) -> Vec<Row> {
    publish(zone.replica(), NOW);
    let vector = zone.replica().vector();
    let origins: Vec<Origin> = vector.iter().map(|(origin, _)| origin).chain(others.map(origin)).collect();
    let mut rows = Vec::new();
    zone.replica().scan(NOW, &origins, &VersionVector::new(), Cursor::default(), &mut |record| {
        rows.push(Row::of(record));
        true
    });
    rows
}

/// A record names its writer, too, and so needs an entry in the same table.
#[test]
fn thousands_of_writers() {
    for kind in Kind::TABLES {
        let zone = kind.zone(SIZE, OWN);
        let written_by = |n: u32, dot| {
            let mut row = kind.row(1_000 + n, dot);
            if let OwnedState::Value { writer: of, .. } = &mut row.state {
                *of = origin(50_000 + u64::from(n));
            }
            row
        };
        zone.write(&kind.key(900), NOW).expect("room");
        // In one batch, whose own origin must not be lost over it; as states, of one origin and of as many.
        let batch: Vec<Row> = (0..100).map(|n| written_by(n, dot(EVE, u64::from(n) + 1))).collect();
        let applied = zone.apply_batch(origin(EVE), 0, 100, &batch).expect("valid rows");
        assert_eq!((applied.applied, applied.refused), (100, 0), "{kind:?}");
        assert_eq!(zone.known(origin(EVE)), 100, "{kind:?}");
        let states: Vec<Row> = (100..200).map(|n| written_by(n, dot(EVE, u64::from(n) + 1))).collect();
        assert_eq!(zone.apply_states(&states).expect("valid rows").refused, 0, "{kind:?}");
        let states: Vec<Row> = (200..300).map(|n| written_by(n, dot(60_000 + u64::from(n), 1))).collect();
        assert_eq!(zone.apply_states(&states).expect("valid rows").refused, 0, "{kind:?}");
        assert!(zone.replica().vector().len() <= ORIGINS, "{kind:?}");
        for key in std::iter::once(900).chain(1_000..1_300) {
            assert!(zone.holds(&kind.key(key), NOW), "{kind:?}: {key} was lost with its writer");
        }
        // A record may become ours for want of entries. It must not become a third node's, nor be published in the name of one.
        let rows = everything(&zone, (50_000..50_300).chain(60_000..60_300).chain([EVE]));
        assert_eq!(rows.len(), 301, "{kind:?}");
        for row in rows.iter().filter(|row| row.key != kind.wire_key(900)) {
            let OwnedState::Value { writer, .. } = row.state else { panic!("{kind:?}: {row:?}") };
            let n = (0..300).find(|&n| row.key == kind.wire_key(1_000 + n)).expect("a key that was told");
            let publisher = if n < 200 { EVE } else { 60_000 + u64::from(n) };
            assert!([publisher, OWN].contains(&row.dot.origin.raw()), "{kind:?}: {row:?}");
            assert!([50_000 + u64::from(n), OWN].contains(&writer.raw()), "{kind:?}: {row:?}");
            assert_eq!(writer_of(&zone, &kind.key(1_000 + n)), writer, "{kind:?}");
        }
        // Whoever is now said to have written them: the same rows again change nothing that can be read.
        let before: Vec<Vec<u8>> =
            zone.content(NOW).into_iter().flat_map(|(key, (value, _))| [key, value]).collect();
        zone.apply_batch(origin(EVE), 0, 100, &batch).expect("valid rows");
        zone.apply_states(&states).expect("valid rows");
        let after: Vec<Vec<u8>> =
            zone.content(NOW).into_iter().flat_map(|(key, (value, _))| [key, value]).collect();
        assert_eq!(after, before, "{kind:?}");
        assert_works(kind, &zone, 1);
    }
}

fn writer_of(zone: &Zone, key: &str) -> Origin {
    match zone {
        Zone::Keyval(zone) => zone.entry(key, NOW).expect("there").writer,
        Zone::Sticky(zone) => zone.entry(key, NOW).expect("there").writer,
        Zone::Limit(_) => panic!("has no writers"),
    }
}

/// There is nothing left: no memory, and no entry of the table that no record names. Origins that come then must still be let in.
#[test]
fn strangers_at_a_full_zone() {
    for kind in [Kind::Exact, Kind::Prefix] {
        let zone = kind.zone(32 << 10, OWN);
        let mut seq = 0;
        let full = loop {
            let row = kind.row(1_000 + seq as u32, dot(10_000 + seq, 1));
            if zone.apply_batch(row.dot.origin, 0, 1, &[row]).expect("a valid row").refused > 0 {
                break seq as u32;
            }
            seq += 1;
        };
        assert!(full > 64, "{full}");
        let before = zone.content(NOW);
        for stranger in 0..200 {
            let dot = dot(20_000 + stranger, 1);
            // No room for a record, but for a removal of one, which says something of each that it meets.
            let applied = zone.apply_batch(dot.origin, 0, 1, &[kind.row(5_000, dot)]).expect("a valid row");
            assert_eq!(applied.refused, 1, "{kind:?}");
            assert_eq!(zone.known(dot.origin), 0, "{kind:?}");
        }
        assert_eq!(zone.content(NOW), before, "{kind:?}");
        for stranger in 0..u64::from(full) {
            let dot = dot(30_000 + stranger, 1);
            let state = OwnedState::Removed {
                stamp: Stamp::from_raw(Stamp::from_time(NOW).raw() + 9),
                writer: dot.origin,
            };
            let row = Row { state, ..kind.row(1_000 + stranger as u32, dot) };
            let applied = zone.apply_batch(dot.origin, 0, 1, &[row]).expect("a valid row");
            assert_eq!((applied.applied, zone.known(dot.origin)), (1, 1), "{kind:?}: {stranger}");
        }
        assert!(zone.content(NOW).is_empty(), "{kind:?}");
    }
}

#[test]
fn scans_for_nobody_and_scans_that_stop() {
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        zone.apply_batch(origin(EVE), 0, 3, &rows(kind, 1..=3)).expect("a valid batch");
        zone.write(&kind.key(900), NOW).expect("room");
        publish(zone.replica(), NOW);
        let met = Cell::new(0);
        // From there past so many records.
        let go_on = |cursor, origins: &[u64], known: &VersionVector, most: usize| {
            met.set(0);
            let origins: Vec<Origin> = origins.iter().map(|&raw| origin(raw)).collect();
            zone.replica().scan(NOW, &origins, known, cursor, &mut |_| {
                met.set(met.get() + 1);
                met.get() <= most
            })
        };
        let scan = |origins: &[u64], known: &VersionVector| {
            assert!(go_on(Cursor::default(), origins, known, usize::MAX).is_none(), "{kind:?}");
            met.get()
        };
        let nothing = VersionVector::new();
        assert_eq!(scan(&[OWN, EVE], &nothing), 4, "{kind:?}");
        // A limit zone does not keep whose work it was; of a table each origin's records are its own.
        if kind != Kind::Limit {
            assert_eq!(scan(&[EVE], &nothing), 3, "{kind:?}");
            let all = [(origin(OWN), u64::MAX), (origin(EVE), u64::MAX)].into_iter().collect();
            assert_eq!(scan(&[OWN, EVE], &all), 0, "{kind:?}");
        }
        for origins in [&[][..], &[77_777; 1_000]] {
            if kind != Kind::Limit || origins.is_empty() {
                assert_eq!(scan(origins, &nothing), 0, "{kind:?}");
            }
        }
        // Stopped again and again at any place, it meets what is behind that, and comes to an end.
        let mut stopped = go_on(Cursor::default(), &[OWN, EVE], &nothing, 0);
        let mut stops = 0;
        while let Some(cursor) = stopped {
            let slot = cursor.slot();
            let again = go_on(cursor, &[OWN, EVE], &nothing, 0).expect("it is met again");
            assert_eq!(again.slot(), slot, "{kind:?}");
            stopped = go_on(again, &[OWN, EVE], &nothing, 1);
            stops += 1;
        }
        assert_eq!(stops, 4, "{kind:?}: in front of each record");
        assert_works(kind, &zone, 1);
    }
}
