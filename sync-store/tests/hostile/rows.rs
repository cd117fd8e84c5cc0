//! Rows that hold what no honest peer sends: stamps, kinds, keys, lengths, debts. Each is refused by the error that says so, or does what it may do
//! to its own key and no more.

use std::time::Duration;

use sync_store::{
    Check, Cursor, Error, Expiry, KeyvalZone, MAX_CLOCK_SKEW, MatchBy, Replica, Stamp, Time, VersionVector,
};

use crate::support::{END, EVE, Kind, NOW, OWN, OwnedState, Row, Zone, assert_works, dot, origin, publish};

const SIZE: u64 = 64 << 10;

/// A row in our name that we are to have written, with a dot of somebody else: it is a record like any other.
#[test]
fn a_record_that_we_are_said_to_have_written() {
    for kind in Kind::TABLES {
        let zone = kind.zone(SIZE, OWN);
        let mut row = kind.row(900, dot(EVE, 1));
        let OwnedState::Value { writer, .. } = &mut row.state else { panic!("a table") };
        *writer = origin(OWN);
        assert_eq!(zone.apply_batch(origin(EVE), 0, 1, &[row]).expect("a valid row").applied, 1);
        zone.write(&kind.key(900), NOW).expect("room");
        let (_, rows) = publish(zone.replica(), NOW);
        assert!(matches!(&rows[0].state, OwnedState::Value { value, .. } if value == b"ours"), "{kind:?}");
        assert_works(kind, &zone, 1);
    }
}

#[test]
fn stamps_from_the_future() {
    let skew_ms = MAX_CLOCK_SKEW.as_millis() as u64;
    for kind in Kind::TABLES {
        let with = |raw, removed| {
            let mut row = kind.row(900, dot(EVE, 1));
            if let OwnedState::Value { stamp, writer, .. } = &mut row.state {
                *stamp = Stamp::from_raw(raw);
                if removed {
                    row.state = OwnedState::Removed { stamp: Stamp::from_raw(raw), writer: *writer };
                }
            }
            [row]
        };
        let zone = kind.zone(SIZE, OWN);
        zone.write(&kind.key(900), NOW).expect("room");
        let before = zone.content(NOW);
        let first_ahead = (NOW.as_millis() + skew_ms + 1) << 16;
        for raw in [first_ahead, first_ahead + 0xffff, 1 << 62, u64::MAX - 0xffff, u64::MAX] {
            let ahead = Error::StampAhead {
                zone: "z".to_owned(),
                stamp_ms: raw >> 16,
                now_ms: NOW.as_millis(),
                max_skew: MAX_CLOCK_SKEW,
            };
            for removed in [false, true] {
                assert_eq!(zone.apply_batch(origin(EVE), 0, 1, &with(raw, removed)), Err(ahead.clone()));
                assert_eq!(zone.apply_states(&with(raw, removed)), Err(ahead.clone()));
            }
        }
        assert_eq!(zone.content(NOW), before, "{kind:?}");
        assert_eq!(zone.known(origin(EVE)), 0);
        // The clock of the zone was not infected: what is written now is stamped with now.
        zone.write(&kind.key(901), NOW).expect("room");
        assert_eq!(stamp_of(&zone, &kind.key(901)).millis(), NOW.as_millis(), "{kind:?}");
        assert_works(kind, &zone, 1);
        // Of a clock that was not refused it follows: just so far ahead is within the bound, and ours goes on from there.
        let latest = first_ahead - 1;
        assert_eq!(zone.apply_batch(origin(EVE), 0, 1, &with(latest, true)).expect("not ahead").applied, 1);
        assert!(!zone.holds(&kind.key(900), NOW), "{kind:?}");
        zone.write(&kind.key(900), NOW).expect("room");
        assert!(stamp_of(&zone, &kind.key(900)).raw() > latest, "{kind:?}");
        assert_works(kind, &zone, 2);
    }
}

fn stamp_of(zone: &Zone, key: &str) -> Stamp {
    match zone {
        Zone::Keyval(zone) => zone.entry(key, NOW).expect("there").stamp,
        Zone::Sticky(zone) => zone.entry(key, NOW).expect("there").stamp,
        Zone::Limit(_) => panic!("has no stamps"),
    }
}

#[test]
fn the_earliest_stamp_and_the_ends_of_time_are_only_numbers() {
    for kind in Kind::TABLES {
        for time in [0, 1, NOW.as_millis(), (1 << 48) - 1, 1 << 48, 1 << 63, u64::MAX] {
            let zone = kind.zone(SIZE, OWN);
            let mut row = kind.row(900, dot(EVE, 1));
            if let OwnedState::Value { stamp, time_ms, .. } = &mut row.state {
                (*stamp, *time_ms) = (Stamp::NEVER, time);
            }
            zone.apply_batch(origin(EVE), 0, 1, &[row]).expect("a valid row");
            assert_eq!(zone.known(origin(EVE)), 1);
            for now in [Time::EPOCH, NOW, END] {
                zone.holds(&kind.key(900), now);
                zone.replica().digest(now);
                zone.content(now);
                zone.replica().scan(
                    now,
                    &[origin(EVE)],
                    &VersionVector::new(),
                    Cursor::default(),
                    &mut |_| true,
                );
            }
            // Whatever it said, a write of ours is later.
            zone.write(&kind.key(900), NOW).expect("room");
            assert!(zone.holds(&kind.key(900), NOW), "{kind:?}: {time}");
            zone.remove(&kind.key(900), NOW).expect("room");
            assert!(!zone.holds(&kind.key(900), NOW), "{kind:?}: {time}");
            assert_works(kind, &zone, 1);
            zone.replica().sweep(END, usize::MAX);
            assert_works(kind, &zone, 2);
        }
    }
    // The last access of a session is only a hint, and what is too far ahead is cut off.
    let sticky = Kind::Sticky.zone(SIZE, OWN);
    let mut row = Kind::Sticky.row(900, dot(EVE, 1));
    if let OwnedState::Value { time_ms, .. } = &mut row.state {
        *time_ms = u64::MAX;
    }
    sticky.apply_states(&[row]).expect("a valid row");
    let Zone::Sticky(zone) = &sticky else { panic!("as made") };
    let last_access = zone.entry(Kind::Sticky.key(900), NOW).expect("there").last_access;
    assert!(last_access <= NOW.saturating_add(MAX_CLOCK_SKEW), "{last_access:?}");
}

#[test]
fn rows_of_another_kind() {
    let removed = OwnedState::Removed { stamp: Stamp::from_time(NOW), writer: origin(EVE) };
    for kind in Kind::ALL {
        let zone = kind.zone(SIZE, OWN);
        let foreign = |state| [Row { key: kind.wire_key(900), dot: dot(EVE, 1), state }];
        let wrong = if kind == Kind::Limit {
            vec![foreign(Kind::Exact.row(900, dot(EVE, 1)).state), foreign(removed.clone())]
        } else {
            vec![foreign(Kind::Limit.row(900, dot(EVE, 1)).state)]
        };
        let expected = Error::WrongKind { zone: "z".to_owned(), kind: zone.replica().kind() };
        for (number, row) in wrong.iter().enumerate() {
            assert_eq!(zone.apply_batch(origin(EVE), 0, 1, row), Err(expected.clone()), "{kind:?}");
            assert_eq!(zone.apply_states(row), Err(expected.clone()), "{kind:?}");
            // Not the first row of its batch: those before it may count, it and those behind it must not.
            let mixed = [kind.row(1_001, dot(EVE, 1)), row[0].clone(), kind.row(1_003, dot(EVE, 3))];
            assert_eq!(zone.apply_batch(origin(EVE), 0, 3, &mixed), Err(expected.clone()), "{kind:?}");
            assert!(zone.known(origin(EVE)) <= 1, "{kind:?}");
            assert!(!zone.holds(&kind.key(1_003), NOW), "{kind:?}");
            assert!(!zone.holds(&kind.key(900), NOW), "{kind:?}");
            assert_works(kind, &zone, number as u32);
        }
    }
}

/// What a zone says to a row with this key and value.
fn say(zone: &Zone, kind: Kind, key: &[u8], value_len: usize) -> Error {
    let mut row = kind.row(900, dot(EVE, 1));
    row.key = key.to_vec();
    if let OwnedState::Value { value, .. } = &mut row.state {
        *value = vec![7; value_len];
    }
    let said = zone.apply_states(std::slice::from_ref(&row)).expect_err("a row that cannot be");
    assert_eq!(
        zone.apply_batch(origin(EVE), 0, 1, std::slice::from_ref(&row)),
        Err(said.clone()),
        "{kind:?}"
    );
    assert_eq!(zone.known(origin(EVE)), 0, "{kind:?}");
    said
}

#[test]
fn keys_and_values_that_are_too_long() {
    for (kind, max) in [
        (Kind::Exact, 1_024),
        (Kind::Prefix, 255),
        (Kind::Ip, 17),
        (Kind::Sticky, 1_024),
        // A digest of 16 bytes behind a mark.
        (Kind::Limit, 17),
    ] {
        let zone = kind.zone(SIZE, OWN);
        assert_eq!(say(&zone, kind, b"", 0), Error::EmptyKey { zone: "z".to_owned() });
        for length in [max + 1, 2_048, 2_049, 65_536, 1 << 20] {
            let too_long = Error::KeyTooLong { zone: "z".to_owned(), length, max };
            assert_eq!(say(&zone, kind, &vec![1; length], 0), too_long, "{kind:?}");
            assert_eq!(say(&zone, kind, &vec![1; length], 100_000), too_long, "{kind:?}");
        }
        if kind != Kind::Limit {
            for value in [2_049 - 5, 65_536, 1 << 20] {
                let (size, max) = (5 + value, 2_048);
                let too_large = Error::RecordTooLarge { zone: "z".to_owned(), size, max };
                assert_eq!(say(&zone, kind, &[32, 10, 0, 0, 1], value), too_large, "{kind:?}");
            }
        }
        assert_eq!(zone.replica().stats().records, 0, "{kind:?}");
        assert_works(kind, &zone, 1);
    }
    // A digest of a kind that we do not know.
    for mark in [0, 2, 0xff] {
        let said = say(&Kind::Limit.zone(SIZE, OWN), Kind::Limit, &[mark; 17], 0);
        assert!(matches!(said, Error::InvalidKey { .. }), "{said}");
    }
}

#[test]
fn keys_that_are_no_range() {
    let zone = Kind::Ip.zone(SIZE, OWN);
    let v6 = |bits: u8, last: u8| [&[bits][..], &[0x20, 1, 0xd, 0xb8], &[0; 11], &[last]].concat();
    for key in [
        &b"\0"[..],
        b"10.0.0.1",
        &[32, 10, 0, 0],
        &[32, 10, 0, 0, 1, 0],
        // Longer than an address, by one bit and by more.
        &[33, 10, 0, 0, 1],
        &[128, 10, 0, 0, 1],
        &[255, 255, 255, 255, 255],
        // Bits beyond the range.
        &[31, 10, 0, 0, 1],
        &[24, 10, 0, 0, 1],
        &[8, 10, 0, 0, 1],
        &[0, 0, 0, 0, 1],
        &[0, 128, 0, 0, 0],
        &v6(129, 0),
        &v6(255, 0),
        &v6(127, 1),
        &v6(32, 1),
        &v6(28, 0),
        &v6(0, 0),
        &v6(128, 0)[..16],
        &[0; 4],
        &[0; 6],
        &[0; 16],
    ] {
        let said = say(&zone, Kind::Ip, key, 1);
        assert!(matches!(&said, Error::InvalidKey { zone, .. } if zone == "z"), "{key:?}: {said}");
    }
    assert_eq!(zone.replica().stats().records, 0);
    assert_works(Kind::Ip, &zone, 1);
    // Those that are.
    for (number, key) in
        [vec![0; 5], vec![0; 17], vec![32, 255, 255, 255, 255], v6(128, 1), v6(32, 0)].into_iter().enumerate()
    {
        let row = Row { key, ..Kind::Ip.row(0, dot(EVE, number as u64 + 1)) };
        assert_eq!(zone.apply_states(&[row]).expect("a range").applied, 1);
    }
}

/// Debts and arrival times that no honest node has. The key that they are about is at their mercy, no other is.
#[test]
fn debts_and_arrival_times_without_bounds() {
    let numbers = [0, 1, NOW.as_nanos() - 1, NOW.as_nanos(), i64::MAX as u64, u64::MAX - 1, u64::MAX];
    let debts = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let mut n = 0;
    for charged in [false, true] {
        let zone = Kind::Limit.zone(256 << 10, OWN);
        let Zone::Limit(limit) = &zone else { panic!("as made") };
        for (tat_ns, debt_ns) in numbers.iter().flat_map(|&tat| debts.iter().map(move |&debt| (tat, debt))) {
            n += 1;
            let key = Kind::Limit.key(5_000 + n);
            if charged {
                zone.write(&key, NOW).expect("no error");
            }
            let state = OwnedState::Limit { tat_ns, debt_ns };
            let row = Row { state, ..Kind::Limit.row(5_000 + n, dot(EVE, 1)) };
            // As one row of the stream, behind a gap, twice, and as a state.
            let seq = u64::from(n) * 10;
            zone.apply_batch(origin(EVE), 0, 1, std::slice::from_ref(&row)).expect("a valid row");
            for _ in 0..2 {
                zone.apply_batch(origin(EVE), seq, seq + 1, std::slice::from_ref(&row)).expect("a valid row");
            }
            zone.apply_states(std::slice::from_ref(&row)).expect("a valid row");
            for now in [Time::EPOCH, NOW, END] {
                for cost in [i64::MIN, -1, 0, 1, i64::MAX] {
                    let check = Check { cost, burst: Some(u64::MAX), ..Default::default() };
                    limit.check(&key, &check, now);
                    zone.holds(&key, now);
                }
                zone.replica().digest(now);
                publish(zone.replica(), now);
                limit.scan(
                    now,
                    &[origin(OWN), origin(EVE)],
                    &VersionVector::new(),
                    Cursor::default(),
                    &mut |_| true,
                );
            }
            limit.forget(&key, NOW);
            zone.write(&key, NOW).expect("no error");
        }
        assert_works(Kind::Limit, &zone, 1);
        limit.clear(NOW);
        limit.sweep(END, usize::MAX);
        assert_works(Kind::Limit, &zone, 2);
    }
}

/// A credit would be a negative backlog: with it a key is admitted more than its burst. Nor does a refund take anything from the key.
#[test]
fn refunds_of_peers_give_no_credit() {
    for debt_ns in [i64::MIN, i64::MIN + 1, -1] {
        for tat_ns in [0, NOW.as_nanos(), u64::MAX] {
            let zone = Kind::Limit.zone(SIZE, OWN);
            let Zone::Limit(limit) = &zone else { panic!("as made") };
            zone.write(&Kind::Limit.key(900), NOW).expect("no error");
            let state = OwnedState::Limit { tat_ns, debt_ns };
            let rows =
                [1, 2, 3].map(|seq| Row { state: state.clone(), ..Kind::Limit.row(900, dot(EVE, seq)) });
            zone.apply_batch(origin(EVE), 0, 3, &rows).expect("valid rows");
            let admitted = (0..100)
                .filter(|_| limit.check(Kind::Limit.key(900), &Default::default(), NOW).is_admitted());
            // Nine were left. Whether a refund from before our own request counts is another matter.
            assert!((9..=10).contains(&admitted.count()), "{debt_ns} {tat_ns}");
        }
    }
}

/// What is given back of work that peers know of is taken from what they know. More than there was would be taken from their own.
#[test]
fn a_refund_takes_nothing_from_the_work_of_peers() {
    let key = Kind::Limit.key(900);
    for refund in [-4, i64::MIN + 1, i64::MIN] {
        let [zone, peer] = [OWN, EVE].map(|own| Kind::Limit.zone(SIZE, own));
        let (Zone::Limit(here), Zone::Limit(there)) = (&zone, &peer) else { panic!("as made") };
        let cost = |cost| Check { cost, ..Check::default() };
        let tell = || {
            let (from, rows) = publish(zone.replica(), NOW);
            peer.apply_batch(origin(OWN), from, from + rows.len() as u64, &rows).expect("valid rows");
        };
        assert!(there.check(&key, &cost(5), NOW).is_admitted());
        assert!(here.check(&key, &cost(3), NOW).is_admitted());
        tell();
        assert_eq!(there.check(&key, &cost(0), NOW).remaining(), 2);
        assert_eq!(here.check(&key, &cost(refund), NOW).remaining(), 10);
        tell();
        assert_eq!(there.check(&key, &cost(0), NOW).remaining(), 5, "{refund}");
    }
}

/// A full keyval zone refuses rows, says how many, and does not claim to know them.
#[test]
fn rows_that_find_no_room() {
    for match_by in [MatchBy::Exact, MatchBy::Prefix] {
        // Three large records have room in it when it is empty, wherever the first two lie.
        let zone = KeyvalZone::builder("z").size(32 << 10).origin(origin(OWN)).match_by(match_by);
        let keyval = zone.max_record(2048).build().expect("a zone");
        let written =
            (0..10_000u32).take_while(|key| keyval.set(key.to_le_bytes(), "", NOW, Expiry::Never).is_ok());
        let written = written.count();
        let zone = Zone::Keyval(keyval);
        let row = |seq: u64, value| {
            let mut row = Kind::Exact.row(1_000 + seq as u32, dot(EVE, seq));
            if let OwnedState::Value { value: to, .. } = &mut row.state {
                *to = vec![7; value];
            }
            row
        };
        let rows: Vec<Row> = (1..=50).map(|seq| row(seq, 2_000)).collect();
        let refused = zone.apply_batch(origin(EVE), 0, 50, &rows).expect("valid rows").refused;
        assert!(refused > 40, "{refused}");
        assert_eq!(zone.known(origin(EVE)), 0, "what was refused is not known");
        let states = zone.apply_states(&rows).expect("valid rows").refused;
        assert_eq!(states, refused);
        // Room is made, and the same rows come again.
        let Zone::Keyval(keyval) = &zone else { panic!("as made") };
        assert!(keyval.clear(NOW).expect("a removal has room") >= written);
        keyval.sweep(NOW.saturating_add(Duration::from_secs(7_200)), usize::MAX);
        let applied = zone.apply_batch(origin(EVE), 0, 3, &rows[..3]).expect("valid rows");
        assert_eq!((applied.refused, zone.known(origin(EVE))), (0, 3));
    }
}
