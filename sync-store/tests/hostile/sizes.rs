//! Lengths from nothing to more than the bound: what fits is kept byte by byte, what does not is refused by an error that names the bound, and
//! a refusal leaves no trace.

use std::collections::BTreeMap;
use std::time::Duration;

use sync_store::{Check, Error, Expiry, KeyvalZone, LimitZone, MatchBy, Replica, StickyZone, Time};

use crate::support::{NOW, Random, Snapshot, Zone};

/// The longest key of a zone that does not say otherwise.
const KEY_MAX: usize = 1024;
/// The longest key of a `prefix` zone.
const PREFIX_MAX: usize = 255;
/// The most bytes of key and value that a zone can be made for.
const RECORD_MAX: usize = 64 << 10;

/// Room for the largest record wherever the one that it replaces lies, which takes three times as much; and not much more, since taking a snapshot means
/// looking at all slots.
fn size(max_record: usize) -> u64 {
    (8 * max_record as u64).max(48 << 10)
}

/// Tombstones are of no use here, and give way at once.
fn keyval(match_by: MatchBy, max_record: usize) -> Zone {
    let zone = KeyvalZone::builder("z").size(size(max_record)).match_by(match_by).max_record(max_record);
    Zone::Keyval(zone.tombstone_retention(Duration::ZERO).build().expect("a zone"))
}

fn sticky(max_record: usize) -> Zone {
    let zone = StickyZone::builder("z").size(size(max_record)).max_record(max_record);
    Zone::Sticky(zone.tombstone_retention(Duration::ZERO).build().expect("a zone"))
}

fn set(zone: &Zone, key: &[u8], value: &[u8]) -> Result<(), Error> {
    match zone {
        Zone::Keyval(zone) => zone.set(key, value, NOW, Expiry::Never),
        Zone::Sticky(zone) => zone.learn(key, value, NOW),
        Zone::Limit(_) => panic!("has no values"),
    }
}

/// Asserts that the record is there and that every way of reading agrees on it.
fn assert_reads(zone: &Zone, key: &[u8], value: &[u8]) {
    let mut buffer = b"what the buffer held before".to_vec();
    let (got, found, entry) = match zone {
        Zone::Keyval(zone) => (
            zone.get(key, NOW).as_deref().map(<[u8]>::to_vec),
            zone.lookup_into(key, NOW, &mut buffer),
            zone.entry(key, NOW).map(|entry| entry.value),
        ),
        Zone::Sticky(zone) => (
            zone.peek(key, NOW).as_deref().map(<[u8]>::to_vec),
            zone.lookup_into(key, NOW, &mut buffer),
            zone.entry(key, NOW).map(|session| session.server),
        ),
        Zone::Limit(_) => panic!("has no values"),
    };
    let lengths = (key.len(), value.len());
    assert!(got.as_deref() == Some(value), "{lengths:?}");
    assert!(found && buffer == value, "{lengths:?}");
    assert!(entry.as_deref() == Some(value), "{lengths:?}");
}

/// Every way to write or remove a record of this key and value.
fn attempts(zone: &Zone, key: &[u8], value: &[u8]) -> Vec<(&'static str, Error)> {
    let mut refused = Vec::new();
    let mut attempt = |what, result: Result<(), Error>| {
        if let Err(error) = result {
            refused.push((what, error));
        }
    };
    match zone {
        Zone::Keyval(zone) => {
            attempt("set", zone.set(key, value, NOW, Expiry::Never));
            attempt("insert", zone.insert(key, value, NOW, Expiry::Never));
            attempt("update", zone.update(key, Some(value), NOW, None));
            attempt("prolong", zone.update(key, None, NOW, Some(Expiry::Never)));
            attempt("remove", zone.remove(key, NOW).map(|_| ()));
        }
        Zone::Sticky(zone) => {
            attempt("learn", zone.learn(key, value, NOW));
            attempt("forget", zone.forget(key, NOW).map(|_| ()));
        }
        Zone::Limit(_) => panic!("has no values"),
    }
    refused
}

/// Asserts that every write of such a record is refused with this error, finds nothing, and changes nothing.
fn assert_refused(zone: &Zone, key: &[u8], value: &[u8], writes: &[&str], expected: &Error) {
    let before = Snapshot::of(zone);
    let refused = attempts(zone, key, value);
    for what in writes {
        let error = refused.iter().find(|(refused, _)| refused == what).map(|(_, error)| error);
        assert_eq!(error, Some(expected), "{what}");
    }
    assert!(Snapshot::of(zone) == before, "a refused write has changed something: {expected}");
}

/// Lengths around all multiples of a word, half a cache line and a cache line.
fn lengths(max: usize) -> impl Iterator<Item = usize> {
    (1..=max).filter(move |length| matches!(length % 8, 0 | 1 | 7) || *length < 40 || max - length < 10)
}

const ALL_KEYVAL: [&str; 5] = ["set", "insert", "update", "prolong", "remove"];
const ALL_STICKY: [&str; 2] = ["learn", "forget"];

/// Keys of all lengths with values of none, one and all the bytes that there is room for, and one more.
fn key_lengths(zone: &Zone, max_key: usize, max_record: usize) {
    let (all, with_value) = match zone {
        Zone::Keyval(_) => (&ALL_KEYVAL[..], &ALL_KEYVAL[..3]),
        _ => (&ALL_STICKY[..], &ALL_STICKY[..1]),
    };
    let (key, value) = (Random(1).bytes(max_key + 9), Random(2).bytes(max_record + 9));
    for length in lengths(max_key) {
        let key = &key[..length];
        // Long, short, long: bytes of the record before would show.
        for value_length in [max_record - length, 0, 1, max_record - length] {
            set(zone, key, &value[..value_length]).expect("within the bounds");
            assert_reads(zone, key, &value[..value_length]);
        }
        let size = max_record + 1;
        let too_large = Error::RecordTooLarge { zone: "z".to_owned(), size, max: max_record };
        let before = Snapshot::of(zone);
        let error = set(zone, key, &value[..size - length]).expect_err("a byte too many");
        assert_eq!(error, too_large);
        assert!(Snapshot::of(zone) == before, "refused, and yet changed");
        match zone {
            Zone::Keyval(zone) => assert!(zone.remove(key, NOW).expect("room")),
            Zone::Sticky(zone) => assert!(zone.forget(key, NOW).expect("room")),
            Zone::Limit(_) => panic!("has no values"),
        }
        // Nor where there is nothing yet; and a removal has no value that could be too large.
        assert_refused(zone, key, &value[..size - length], with_value, &too_large);
    }
    set(zone, b"bystander", b"stays").expect("room");
    for length in [max_key + 1, max_key + 8, 2048, 65_536, 1 << 20] {
        let key = vec![b'k'; length];
        let too_long = Error::KeyTooLong { zone: "z".to_owned(), length, max: max_key };
        assert_refused(zone, &key, b"", all, &too_long);
        assert_refused(zone, &key, &value, all, &too_long);
    }
    let empty = Error::EmptyKey { zone: "z".to_owned() };
    assert_refused(zone, b"", b"", all, &empty);
    assert_refused(zone, b"", &value, all, &empty);
}

#[test]
fn keys_of_an_exact_zone() {
    key_lengths(&keyval(MatchBy::Exact, 2048), KEY_MAX, 2048);
}

#[test]
fn keys_of_a_prefix_zone() {
    key_lengths(&keyval(MatchBy::Prefix, 600), PREFIX_MAX, 600);
}

#[test]
fn sessions() {
    key_lengths(&sticky(2048), KEY_MAX, 2048);
}

#[test]
fn no_key_is_longer_than_a_record() {
    for max_record in [1, 7, 8, 9, 254, 255, 256, 1023, 1024] {
        for zone in [keyval(MatchBy::Exact, max_record), sticky(max_record)] {
            set(&zone, &vec![b'k'; max_record], b"").expect("within the bounds");
            assert_reads(&zone, &vec![b'k'; max_record], b"");
            let longer = vec![b'k'; max_record + 1];
            let too_long =
                Error::KeyTooLong { zone: "z".to_owned(), length: max_record + 1, max: max_record };
            let before = Snapshot::of(&zone);
            assert_eq!(set(&zone, &longer, b""), Err(too_long));
            assert!(Snapshot::of(&zone) == before);
        }
    }
}

#[test]
fn an_ip_zone_whose_records_are_shorter_than_a_key_refuses_them() {
    // The bytes of a range are 5 or 17, whatever its text.
    let zone = keyval(MatchBy::Ip, 16);
    assert_eq!(set(&zone, b"10.100.200.255", &[7; 11]), Ok(()));
    assert_reads(&zone, b"10.100.200.255", &[7; 11]);
    let before = Snapshot::of(&zone);
    let too_large = Error::RecordTooLarge { zone: "z".to_owned(), size: 17, max: 16 };
    assert_eq!(set(&zone, b"10.100.200.255", &[7; 12]), Err(too_large));
    let too_long = Error::KeyTooLong { zone: "z".to_owned(), length: 17, max: 16 };
    assert_eq!(set(&zone, b"::1", b""), Err(too_long.clone()));
    let Zone::Keyval(keyval) = &zone else { panic!("as made") };
    assert_eq!(keyval.remove("::1", NOW), Err(too_long));
    assert_eq!(keyval.get("::1", NOW).as_deref(), None);
    assert!(Snapshot::of(&zone) == before);
}

#[test]
fn values_up_to_the_largest_record() {
    for zone in [keyval(MatchBy::Exact, RECORD_MAX), sticky(RECORD_MAX)] {
        let ones = vec![0xff; RECORD_MAX];
        let steps = (0..=300).chain((4_096 - 9)..(4_096 + 9)).chain((RECORD_MAX - 70)..RECORD_MAX);
        for length in steps {
            // All ones and all zeros in turn: what is left of the one would show in the other.
            set(&zone, b"k", &ones[..length]).expect("within the bounds");
            assert_reads(&zone, b"k", &ones[..length]);
            set(&zone, b"k", &vec![0; length]).expect("within the bounds");
            assert_reads(&zone, b"k", &vec![0; length]);
        }
        let before = Snapshot::of(&zone);
        let too_large = Error::RecordTooLarge { zone: "z".to_owned(), size: RECORD_MAX + 1, max: RECORD_MAX };
        assert_eq!(set(&zone, b"k", &ones), Err(too_large));
        assert!(Snapshot::of(&zone) == before, "refused, and yet changed");
    }
}

#[test]
fn limits_take_keys_of_any_length() {
    let zone = LimitZone::builder("l").size(1 << 20).rate("1r/d".parse().expect("a rate"));
    let zone = zone.build().expect("a zone");
    let key = Random(3).bytes(1 << 20);
    // An empty key is no key: it is not limited, and nothing is kept of it.
    for _ in 0..100 {
        assert!(zone.check("", &Check::default(), NOW).is_admitted());
        assert!(!zone.forget("", NOW));
    }
    assert_eq!((zone.stats().records, zone.dirty_count()), (0, 0));
    for length in [1, 2, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 63, 64, 65, 1_024, 1_025, 65_536, 1 << 20] {
        let key = &key[..length];
        assert!(zone.check(key, &Check::default(), NOW).is_admitted(), "{length}");
        assert!(!zone.check(key, &Check::default(), NOW).is_admitted(), "{length}");
        // A refused request has changed nothing.
        let before = (zone.digest(NOW), zone.dirty_count(), zone.stats().records);
        let cost = Check { cost: 2, ..Check::default() };
        assert!(!zone.check(key, &cost, NOW).is_admitted());
        assert_eq!((zone.digest(NOW), zone.dirty_count(), zone.stats().records), before);
    }
}

#[test]
fn a_full_keyval_zone_refuses_and_changes_nothing() {
    for (match_by, size) in [(MatchBy::Exact, 12_345), (MatchBy::Prefix, 65_537), (MatchBy::Exact, 65_536)] {
        let zone = KeyvalZone::builder("z").size(size).match_by(match_by).max_record(2048);
        let keyval = zone.build().expect("a zone");
        let key = |number: u32| number.to_le_bytes();
        let full = |record| Error::ZoneFull { zone: "z".to_owned(), size: record, capacity: size };
        let first_refused = (0..).find(|&number| {
            let written = keyval.set(key(number), [1; 60], NOW, Expiry::Never);
            written.is_err_and(|error| {
                assert_eq!(error, full(64));
                true
            })
        });
        let first_refused = first_refused.expect("the zone is finite");
        assert!(first_refused > 10, "{first_refused}");
        let zone = Zone::Keyval(keyval);
        let Zone::Keyval(keyval) = &zone else { panic!("as made") };
        let before = Snapshot::of(&zone);
        let refused = keyval.stats().refused;

        let large = vec![2; 2048 - 4];
        assert_eq!(keyval.set(key(first_refused), &large, NOW, Expiry::Never), Err(full(2048)));
        assert_eq!(keyval.insert(key(first_refused), &large, NOW, Expiry::Never), Err(full(2048)));
        for number in 0..first_refused {
            assert_eq!(keyval.set(key(number), &large, NOW, Expiry::Never), Err(full(2048)));
            assert_eq!(keyval.update(key(number), Some(&large), NOW, None), Err(full(2048)));
            let exists = Error::KeyExists { zone: "z".to_owned() };
            assert_eq!(keyval.insert(key(number), "", NOW, Expiry::Never), Err(exists));
        }
        let not_found = Error::KeyNotFound { zone: "z".to_owned() };
        assert_eq!(keyval.update(key(first_refused), Some(&large), NOW, None), Err(not_found));
        assert_eq!(keyval.remove(key(first_refused), NOW), Ok(false));
        assert!(Snapshot::of(&zone) == before, "refused, and yet changed");
        assert_eq!(keyval.stats().refused, refused + 2 + 2 * u64::from(first_refused));

        // What is no larger still goes, again and again, and all records can be removed.
        for round in 2..6 {
            for number in 0..first_refused {
                keyval.set(key(number), [round; 60], NOW, Expiry::Never).expect("no larger");
            }
        }
        assert!(zone.content(NOW).values().all(|(value, _)| *value == [5; 60]));
        assert_eq!(keyval.len(NOW), first_refused as usize);
        for number in 0..first_refused {
            assert_eq!(keyval.remove(key(number), NOW), Ok(true));
        }
        assert!(keyval.is_empty(NOW));
    }
}

/// A zone for large records that holds only small ones is out of slots, and has memory left. Refusing a record must not use that up.
#[test]
fn a_keyval_zone_without_slots_refuses_and_loses_no_memory() {
    let zone = KeyvalZone::builder("z").size(64 << 10).record_size(1_024).build().expect("a zone");
    let written =
        (0..10_000u32).take_while(|key| zone.set(key.to_le_bytes(), "", NOW, Expiry::Never).is_ok());
    let (written, stats) = (written.count() as u32, zone.stats());
    assert!(written > 10 && stats.used_bytes < 32 << 10, "{stats:?}");
    let refused = (written..10_000).filter(|key| {
        let inserted = zone.insert(key.to_le_bytes(), [7; 1_000], NOW, Expiry::Never);
        inserted.is_err()
    });
    assert!(refused.count() > 9_000);
    for key in 0..10u32 {
        zone.set(key.to_le_bytes(), [7; 1_000], NOW, Expiry::Never).expect("there is memory");
    }
}

#[test]
fn a_sticky_zone_full_of_tombstones_refuses_and_changes_nothing() {
    let zone = StickyZone::builder("z").size(12_345).max_record(2048).build().expect("a zone");
    let zone = Zone::Sticky(zone);
    let Zone::Sticky(sticky) = &zone else { panic!("as made") };
    // Every session is forgotten at once, and tombstones are never evicted: in the end there is room for none.
    let mut refused = 0;
    for number in 0..2_000u32 {
        let key = number.to_le_bytes();
        let before = Snapshot::of(&zone);
        match sticky.learn(key, "a server", NOW) {
            Ok(()) => assert!(sticky.forget(key, NOW).expect("a session can always be forgotten")),
            Err(error) => {
                assert_eq!(error, Error::ZoneFull { zone: "z".to_owned(), size: 12, capacity: 12_345 });
                assert!(Snapshot::of(&zone) == before, "refused, and yet changed");
                refused += 1;
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
    assert!(sticky.is_empty(NOW));
    // Tombstones go when their time is over: the zone is not lost.
    let later = Time::from_millis(NOW.as_millis() + 24 * 3_600_000);
    sticky.sweep(later, usize::MAX);
    sticky.learn("again", "a server", later).expect("room");
    assert_eq!(sticky.peek("again", later).as_deref(), Some(&b"a server"[..]));
}

/// Eviction looks at the memory behind a record to see whether a record begins there. Whoever chooses what is written there must not be able
/// to make it believe in one.
#[test]
fn values_that_look_like_records_evict_nothing_but_records() {
    let zone = StickyZone::builder("z").size(32 << 10).max_record(4096).build().expect("a zone");
    let mut random = Random(4);
    let mut known: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut evicted = 0;
    for step in 0..6_000 {
        let key = random.next() % 400;
        // Words that pass for heads of records (small numbers, lengths), for keys of records, or for neither.
        let words = random.next() % 200;
        let value: Vec<u8> = (0..words)
            .flat_map(|_| {
                let word = random.next();
                match word % 4 {
                    0 => word >> 40,
                    1 => word % 400,
                    2 => 8 | (word >> 50) << 11,
                    _ => word,
                }
                .to_le_bytes()
            })
            .collect();
        zone.learn(key.to_le_bytes(), &value, Time::from_millis(NOW.as_millis() + step)).expect("evicts");
        known.insert(key, value);
        if step % 50 == 0 {
            let now = Time::from_millis(NOW.as_millis() + step);
            let mut sessions = 0;
            for (key, session) in zone.iter(now) {
                sessions += 1;
                let key = u64::from_le_bytes(key[..].try_into().expect("a key that was learned"));
                assert!(known[&key] == *session.server, "the session of {key} has bytes of another");
            }
            let stats = zone.stats();
            assert_eq!(sessions, stats.records);
            assert!(stats.used_bytes <= stats.size_bytes, "{stats:?}");
            assert!(step == 0 || sessions > 5, "{sessions} of 32 KiB");
            evicted = stats.evicted;
        }
    }
    assert!(evicted > 1_000, "{evicted}: the zone was never full");
}

#[test]
fn a_session_that_never_fits_evicts_no_others() {
    let zone = StickyZone::builder("s").size(10 << 10).build().expect("a zone"); // max_record is 16 KiB
    for session in 0..60u32 {
        zone.learn(session.to_le_bytes(), "server", NOW).expect("room");
    }
    let before = zone.stats().records;
    let later = Time::from_millis(NOW.as_millis() + 1_000);
    assert!(matches!(zone.learn("big", [7; 12 << 10], later), Err(Error::ZoneFull { .. })));
    assert_eq!(zone.stats().records, before);
}
