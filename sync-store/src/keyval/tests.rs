use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Region, Replica};

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn zone() -> KeyvalZone {
    KeyvalZone::builder("one").size(32 << 10).timeout(Duration::from_secs(10)).build().expect("a zone")
}

#[test]
fn what_was_set_can_be_read_until_it_expires() {
    let zone = zone();
    let now = at(1_000);
    zone.set("a", "1", now, Expiry::Default).expect("room");
    zone.set("b", "2", now, Expiry::After(Duration::from_millis(5))).expect("room");
    zone.set("c", "", now, Expiry::Never).expect("room");
    assert_eq!(zone.get("a", now).as_deref(), Some(&b"1"[..]));
    assert_eq!(zone.get("b", at(1_004)).as_deref(), Some(&b"2"[..]));
    assert_eq!(zone.get("b", at(1_005)), None);
    assert_eq!(zone.get("a", at(11_000)), None);
    assert_eq!(zone.get("c", at(u64::MAX / 1_000_000)).as_deref(), Some(&b""[..]));
    assert_eq!(zone.len(now), 3);
    assert_eq!(zone.len(at(11_000)), 1);
    assert_eq!(zone.entry("a", now).expect("there").expires_at, Some(at(11_000)));
}

#[test]
fn conditions_hold() {
    let zone = zone();
    let now = at(1_000);
    assert!(matches!(zone.update("a", Some(b"1"), now, None), Err(Error::KeyNotFound { .. })));
    zone.insert("a", "1", now, Expiry::Never).expect("absent");
    assert!(matches!(zone.insert("a", "2", now, Expiry::Never), Err(Error::KeyExists { .. })));
    zone.update("a", Some(b"3"), now, None).expect("present");
    assert_eq!(zone.entry("a", now).expect("there").expires_at, None);
    zone.update("a", None, now, Some(Expiry::Default)).expect("present");
    let entry = zone.entry("a", now).expect("there");
    assert_eq!((entry.value.into_vec(), entry.expires_at), (b"3".to_vec(), Some(at(11_000))));
    // Expired is absent.
    assert!(matches!(zone.update("a", None, at(11_000), None), Err(Error::KeyNotFound { .. })));
    assert!(!zone.remove("a", at(11_000)).expect("a key"));
    zone.insert("a", "4", at(11_000), Expiry::Never).expect("absent");
    assert!(zone.remove("a", at(11_000)).expect("a key"));
    assert!(!zone.remove("a", at(11_000)).expect("a key"));
    zone.insert("a", "5", at(11_000), Expiry::Never).expect("absent");
}

#[test]
fn a_swap_writes_on_its_condition_and_answers_what_was_there() {
    let zone = zone();
    let now = at(1_000);
    let swap = |value: &str, expiry, condition, now| {
        let swapped = zone.swap("a", value, now, expiry, condition).expect("room");
        (swapped.written, swapped.old.map(|old| String::from_utf8_lossy(&old).into_owned()))
    };
    let old = |text: &str| Some(text.to_owned());
    assert_eq!(swap("1", Some(Expiry::Never), Condition::Present, now), (false, None));
    assert_eq!(swap("1", None, Condition::Absent, now), (true, None));
    // Without an expiry that of the record is kept, and that of the zone taken where there is none.
    assert_eq!(zone.entry("a", now).expect("there").expires_at, Some(at(11_000)));
    assert_eq!(swap("2", Some(Expiry::Never), Condition::Absent, now), (false, old("1")));
    assert_eq!(
        swap("3", Some(Expiry::After(Duration::from_millis(5))), Condition::Any, now),
        (true, old("1"))
    );
    assert_eq!(swap("4", None, Condition::Present, at(1_003)), (true, old("3")));
    assert_eq!(zone.entry("a", at(1_003)).expect("there").expires_at, Some(at(1_005)));
    // Expired is absent.
    assert_eq!(swap("5", None, Condition::Present, at(1_005)), (false, None));
    assert_eq!(swap("5", Some(Expiry::Never), Condition::Absent, at(1_005)), (true, None));
    assert!(zone.remove("a", at(1_005)).expect("a key"));
    assert_eq!(swap("6", None, Condition::Any, at(1_005)), (true, None));
    assert!(matches!(zone.swap("", "x", now, None, Condition::Present), Err(Error::EmptyKey { .. })));
}

#[test]
fn every_value_that_is_swapped_in_is_swapped_out_once() {
    const THREADS: usize = 4;
    const SWAPS: usize = 2_000;
    let zone = zone();
    let now = at(1_000);
    let olds: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let swap = |thread: usize| {
            let zone = &zone;
            let swap = move |n| {
                let value = format!("{thread}-{n}");
                zone.swap("a", value, now, Some(Expiry::Never), Condition::Any).expect("room").old
            };
            move || (0..SWAPS).filter_map(swap).map(Value::into_vec).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(swap(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let last = zone.get("a", now).expect("there").into_vec();
    let distinct: std::collections::BTreeSet<_> = olds.iter().chain([&last]).collect();
    assert_eq!((olds.len(), distinct.len()), (THREADS * SWAPS - 1, THREADS * SWAPS));
}

#[test]
fn all_parts_of_a_sweep_free_what_a_sweep_does_and_each_no_more_than_its_share() {
    let now = at(1_000);
    let later = at(1_000 + 2 * 3_600_000);
    let freed = |parts: usize| {
        let region = Region::anonymous().seed(1);
        let zone = KeyvalZone::builder("one").size(128 << 10).region(region).build().expect("a zone");
        for n in 0..100 {
            zone.set(format!("key-{n}"), "v", now, Expiry::After(Duration::from_secs(1))).expect("room");
        }
        zone.publish(now, &mut |_| true);
        let freed: Vec<usize> = (0..parts).map(|part| zone.sweep_part(later, 320, part, parts)).collect();
        assert!(freed.iter().all(|freed| *freed <= 320 / parts), "{freed:?}");
        freed.iter().sum::<usize>()
    };
    assert_eq!(freed(1), 100);
    assert_eq!(freed(16), 100);
    assert_eq!(zone().sweep_part(later, 1, 0, 0), 0);
}

#[test]
fn a_small_zone_holds_what_it_promises_and_refuses_the_rest() {
    let zone = zone();
    let now = at(1_000);
    let value = [7u8; 60];
    let mut held = 0;
    let error = loop {
        match zone.set(format!("key-{held}"), value, now, Expiry::Never) {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::ZoneFull { capacity: 32_768, .. }), "{error}");
    assert!(held >= 150, "only {held} records in 32 KiB");
    assert!((0..held).all(|n| zone.get(format!("key-{n}"), now).as_deref() == Some(&value[..])));
    let stats = zone.stats();
    assert_eq!((stats.records, stats.refused), (held, 1));
    assert!(stats.used_bytes <= stats.size_bytes);
    // Full to the brim, records can still be replaced and removed; removed ones stay as tombstones.
    for n in 0..held {
        zone.set(format!("key-{n}"), [8u8; 60], now, Expiry::Never).expect("as large as before");
    }
    for n in 0..held {
        assert!(zone.remove(format!("key-{n}"), now).expect("a tombstone is smaller"));
    }
    assert_eq!(zone.len(now), 0);
    assert_eq!(zone.stats().tombstones, held);
    // Once their time is over there is room for larger records than before.
    let later = at(1_000 + 3_600_000);
    while zone.sweep(later, 100) > 0 {}
    assert_eq!(zone.stats().tombstones, 0);
    let large = [9u8; 2_000];
    for n in 0..8 {
        zone.set(format!("large-{n}"), large, later, Expiry::Never).expect("the memory grows together again");
    }
}

#[test]
fn what_can_never_be_stored_is_refused_with_the_bound() {
    let zone = KeyvalZone::builder("one").max_record(100).build().expect("a zone");
    let now = at(1);
    let set = |key: &[u8], value: &[u8]| {
        zone.set(key, value, now, Expiry::Never).map_err(|error| error.to_string())
    };
    assert_eq!(set(b"", b""), Err("zone `one`: the key is empty".to_owned()));
    assert_eq!(set(&[1; 101], b""), Err("zone `one`: a key of 101 bytes is longer than 100".to_owned()));
    assert_eq!(
        set(b"k", &[1; 100]),
        Err("zone `one`: a record of 101 bytes (key and value) is larger than 100".to_owned())
    );
    set(b"k", &[1; 99]).expect("just fits");
    assert!(matches!(
        KeyvalZone::builder("one").max_record(65_537).build(),
        Err(Error::InvalidSetting { setting: "max_record", .. })
    ));
    let prefix = KeyvalZone::builder("p").match_by(MatchBy::Prefix).build().expect("a zone");
    assert!(matches!(prefix.set([1; 256], "", now, Expiry::Never), Err(Error::KeyTooLong { max: 255, .. })));
    let largest = KeyvalZone::builder("l").size(1 << 20).max_record(64 << 10).build().expect("a zone");
    let (key, value) = ([1; 1024], vec![7; (64 << 10) - 1024]);
    largest.set(key, &value, now, Expiry::Never).expect("the largest record there can be");
    assert_eq!(largest.get(key, now).map(Vec::from), Some(value));
}

#[test]
fn expired_records_make_room_when_it_is_needed() {
    let zone = KeyvalZone::builder("one").size(32 << 10).build().expect("a zone");
    let expiry = Expiry::After(Duration::from_secs(1));
    let mut held = 0;
    while zone.set(format!("old-{held}"), [1; 60], at(1_000), expiry).is_ok() {
        held += 1;
    }
    for n in 0..held {
        zone.set(format!("new-{n}"), [2; 60], at(2_000), Expiry::Never).expect("the old ones have expired");
    }
    assert_eq!(zone.len(at(2_000)), held);
    assert!(zone.stats().expired > 0);
}

#[test]
fn clear_removes_everything_everywhere() {
    let zone = zone();
    for n in 0..50 {
        zone.set(format!("key-{n}"), "v", at(1), Expiry::Never).expect("room");
    }
    assert_eq!(zone.clear(at(2)).expect("room"), 50);
    assert!(zone.is_empty(at(2)));
    assert_eq!(zone.stats().tombstones, 50);
    assert_eq!(zone.clear(at(3)).expect("room"), 0);
}

#[test]
fn addresses_are_normalised() {
    let zone = KeyvalZone::builder("ip").match_by(MatchBy::Ip).build().expect("a zone");
    let now = at(1);
    for (written, canonical) in [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.8/32", "192.0.2.8"),
        ("2001:DB8:0:0::1/32", "2001:db8::/32"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:198.51.100.9/120", "198.51.100.0/24"),
        ("::/0", "::/0"),
    ] {
        zone.set(written, canonical, now, Expiry::Never).expect(written);
        assert_eq!(zone.get(canonical, now).as_deref(), Some(canonical.as_bytes()), "{written}");
    }
    let mut keys = Vec::new();
    for (key, entry) in zone.iter(now) {
        assert_eq!(key, entry.value);
        keys.push(key);
    }
    assert_eq!(keys.len(), 7);
    for nonsense in ["", "10.0.0", "10.0.0.0/33", "host", "10.0.0.1 "] {
        assert!(
            matches!(zone.set(nonsense, "", now, Expiry::Never), Err(Error::InvalidKey { .. })),
            "{nonsense}"
        );
        assert_eq!(zone.lookup(nonsense, now), None);
    }
    assert_eq!(zone.lookup("::ffff:10.9.9.9", now).as_deref(), Some(&b"10.0.0.0/8"[..]));
    assert_eq!(zone.lookup("2002::1", now).as_deref(), Some(&b"::/0"[..]));
    assert_eq!(zone.lookup("11.0.0.1", now), None, "IPv6 ranges hold no IPv4 addresses");
}

#[derive(Clone, Debug)]
enum Act {
    Set { key: u8, value: u8, expiry_ms: Option<u64> },
    Insert { key: u8, value: u8 },
    Update { key: u8, value: Option<u8>, expiry_ms: Option<u64> },
    Remove { key: u8 },
    Wait { ms: u64 },
    Sweep,
}

fn act() -> impl Strategy<Value = Act> {
    let expiry = || proptest::option::of(1..2_000u64);
    prop_oneof![
        4 => (0..20u8, any::<u8>(), expiry()).prop_map(|(key, value, expiry_ms)| Act::Set { key, value, expiry_ms }),
        2 => (0..20u8, any::<u8>()).prop_map(|(key, value)| Act::Insert { key, value }),
        2 => (0..20u8, any::<Option<u8>>(), expiry())
            .prop_map(|(key, value, expiry_ms)| Act::Update { key, value, expiry_ms }),
        2 => (0..20u8).prop_map(|key| Act::Remove { key }),
        1 => (0..1_000u64).prop_map(|ms| Act::Wait { ms }),
        1 => Just(Act::Sweep),
    ]
}

/// Lengths that grow with the byte, so that records take blocks of different sizes.
fn value_of(byte: u8) -> Vec<u8> {
    vec![byte; usize::from(byte) * 2]
}

#[test]
fn a_forgotten_record_leaves_nothing_and_only_if_it_is_the_one_that_is_meant() {
    let zone = zone();
    let now = at(1_000);
    zone.set("a", "1", now, Expiry::Never).expect("room");
    let before = zone.entry("a", now).expect("it is there");
    assert!(!zone.forget(b"b", before.stamp, before.writer), "no such key");
    assert!(!zone.forget(b"a", before.stamp, Origin::random()), "another writer");
    zone.set("a", "2", now, Expiry::Never).expect("room");
    assert!(!zone.forget(b"a", before.stamp, before.writer), "another stamp");
    let after = zone.entry("a", now).expect("it is there");
    assert!(zone.forget(b"a", after.stamp, after.writer));
    assert_eq!((zone.get("a", now), zone.stats().records, zone.stats().tombstones), (None, 0, 0));
    zone.set("a", "3", at(1), Expiry::Never).expect("room");
    assert!(zone.entry("a", now).expect("it is there").stamp > after.stamp, "what comes later is later");
}

proptest! {
    #[test]
    fn one_zone_is_a_map_with_expiry(acts in prop::collection::vec(act(), 0..200)) {
        let zone = KeyvalZone::builder("one").size(64 << 10).build().expect("a zone");
        let mut model: BTreeMap<u8, (Vec<u8>, u64)> = BTreeMap::new();
        let mut now_ms = 5_000;
        let until = |now_ms: u64, expiry_ms: Option<u64>| expiry_ms.map_or(u64::MAX, |ms| now_ms + ms);
        let expiry = |ms: Option<u64>| ms.map_or(Expiry::Never, |ms| Expiry::After(Duration::from_millis(ms)));
        for act in acts {
            let now = at(now_ms);
            model.retain(|_, (_, until)| *until > now_ms);
            match act {
                Act::Set { key, value, expiry_ms } => {
                    zone.set([key], value_of(value), now, expiry(expiry_ms)).expect("room");
                    model.insert(key, (value_of(value), until(now_ms, expiry_ms)));
                }
                Act::Insert { key, value } => {
                    let inserted = zone.insert([key], value_of(value), now, Expiry::Never).is_ok();
                    prop_assert_eq!(inserted, !model.contains_key(&key));
                    model.entry(key).or_insert_with(|| (value_of(value), u64::MAX));
                }
                Act::Update { key, value, expiry_ms } => {
                    let new = value.map(value_of);
                    let updated = zone
                        .update([key], new.as_deref(), now, expiry_ms.map(|ms| expiry(Some(ms))))
                        .is_ok();
                    prop_assert_eq!(updated, model.contains_key(&key));
                    if let Some((value, until_ms)) = model.get_mut(&key) {
                        if let Some(new) = new {
                            *value = new;
                        }
                        if expiry_ms.is_some() {
                            *until_ms = until(now_ms, expiry_ms);
                        }
                    }
                }
                Act::Remove { key } => {
                    let removed = zone.remove([key], now).expect("room");
                    prop_assert_eq!(removed, model.remove(&key).is_some());
                }
                Act::Wait { ms } => now_ms += ms,
                Act::Sweep => _ = zone.sweep(now, 5),
            }
            let now = at(now_ms);
            model.retain(|_, (_, until)| *until > now_ms);
            for key in 0..20u8 {
                prop_assert_eq!(zone.get([key], now).map(Vec::from), model.get(&key).map(|(value, _)| value.clone()));
            }
            prop_assert_eq!(zone.len(now), model.len());
        }
    }

    #[test]
    fn the_most_specific_range_is_found(
        nets in prop::collection::vec((any::<bool>(), 0..4u8, any::<u8>(), 0..=32u8), 1..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        asked in prop::collection::vec((any::<bool>(), 0..4u8, any::<u8>()), 1..40),
    ) {
        // Few different leading bytes, so that ranges nest.
        let address = |six: bool, high: u8, low: u8| if six {
            format!("2001:db{high}::{low:x}")
        } else {
            format!("10.{high}.0.{low}")
        };
        let zone = KeyvalZone::builder("ip").match_by(MatchBy::Ip).build().expect("a zone");
        let mut oracle: BTreeMap<ipnet::IpNet, String> = BTreeMap::new();
        let now = at(1);
        for (six, high, low, bits) in nets {
            let bits = if six { bits * 4 } else { bits };
            let text = format!("{}/{bits}", address(six, high, low));
            zone.set(&text, &text, now, Expiry::Never).expect("room");
            oracle.insert(text.parse::<ipnet::IpNet>().expect("a range").trunc(), text);
        }
        for index in removed {
            let ranges: Vec<_> = oracle.keys().copied().collect();
            if ranges.is_empty() { break }
            let range = index.get(&ranges);
            prop_assert!(zone.remove(range.to_string(), now).expect("room"));
            oracle.remove(range);
        }
        for (six, high, low) in asked {
            let text = address(six, high, low);
            let asked: std::net::IpAddr = text.parse().expect("an address");
            let expected = oracle.iter().filter(|(net, _)| net.contains(&asked)).max_by_key(|(net, _)| net.prefix_len());
            prop_assert_eq!(zone.lookup(&text, now).map(Vec::from), expected.map(|(_, value)| value.clone().into_bytes()));
        }
    }

    #[test]
    fn the_longest_prefix_is_found(
        keys in prop::collection::vec("[ab]{1,6}", 1..30),
        removed in prop::collection::vec("[ab]{1,6}", 0..10),
        asked in prop::collection::vec("[ab]{0,9}", 1..30),
    ) {
        let zone = KeyvalZone::builder("p").match_by(MatchBy::Prefix).build().expect("a zone");
        let now = at(1);
        for key in &keys {
            zone.set(key, key, now, Expiry::Never).expect("room");
        }
        for key in &removed {
            zone.remove(key, now).expect("room");
        }
        for asked in asked {
            let there = keys.iter().filter(|key| !removed.contains(key));
            let expected = there.filter(|key| asked.starts_with(*key)).max_by_key(|key| key.len());
            prop_assert_eq!(zone.lookup(&asked, now).map(Vec::from), expected.map(|key| key.clone().into_bytes()));
        }
    }
}
