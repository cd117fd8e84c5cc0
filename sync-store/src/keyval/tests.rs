use std::time::Duration;

use super::*;
use crate::Replica;

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
    assert_eq!((entry.value, entry.expires_at), (b"3".to_vec(), Some(at(11_000))));
    // Expired is absent.
    assert!(matches!(zone.update("a", None, at(11_000), None), Err(Error::KeyNotFound { .. })));
    assert!(!zone.remove("a", at(11_000)).expect("a key"));
    zone.insert("a", "4", at(11_000), Expiry::Never).expect("absent");
    assert!(zone.remove("a", at(11_000)).expect("a key"));
    assert!(!zone.remove("a", at(11_000)).expect("a key"));
    zone.insert("a", "5", at(11_000), Expiry::Never).expect("absent");
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
