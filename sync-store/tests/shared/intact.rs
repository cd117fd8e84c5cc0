//! That zones are as if nobody had ever been killed.

use std::collections::HashSet;
use std::time::Duration;

use sync_store::{Check, Expiry, KeyvalZone, LimitZone, Replica, StickyZone, Time};

use crate::work::{Zones, key, prefix, verify};

/// When nobody else is at work any more: everything is as if nobody had ever been killed.
pub(crate) fn check_all(zones: &Zones, now: Time) {
    check_keyval(&zones.roomy, key, now);
    check_keyval(&zones.tight, prefix, now);
    check_sticky(&zones.sessions, now);
    check_sticky(&zones.evicting, now);
    empty(&zones.roomy, now, |key| assert!(zones.roomy.remove(key, now).expect("room for a tombstone")));
    empty(&zones.tight, now, |key| assert!(zones.tight.remove(key, now).expect("room for a tombstone")));
    empty(&zones.sessions, now, |key| {
        assert!(zones.sessions.forget(key, now).expect("room for a tombstone"))
    });
    empty(&zones.evicting, now, |key| {
        assert!(zones.evicting.forget(key, now).expect("room for a tombstone"))
    });

    let dir = crate::support::Dir::new();
    let fresh = Zones::own(dir.path()).expect("fresh zones");
    let later = later(now);
    for (zone, fresh) in [(&zones.roomy, &fresh.roomy), (&zones.tight, &fresh.tight)] {
        assert_eq!(fill(zone, 8, later), fill(fresh, 8, later), "{}: slots or memory were lost", zone.name());
    }
    for (zone, fresh) in [(&zones.sessions, &fresh.sessions), (&zones.evicting, &fresh.evicting)] {
        assert_eq!(fill_sticky(zone, later), fill_sticky(fresh, later), "{}: memory was lost", zone.name());
    }
    assert_eq!(fill_limits(&zones.limits, later), fill_limits(&fresh.limits, later), "limits");
    // Memory of the zone that has more of it than it has slots. The first time brings blocks that are at hand for each thread back to where
    // they can grow together; after the second, few are at hand again.
    let fill_roomy = |zone: &KeyvalZone| {
        let [_, filled] = [(); 2].map(|()| {
            empty(zone, later, |key| _ = zone.remove(key, later));
            fill(zone, 600, later)
        });
        filled
    };
    let (filled, most) = (fill_roomy(&zones.roomy), fill_roomy(&fresh.roomy));
    assert!(filled.abs_diff(most) < 8, "memory was lost: {filled} records instead of {most}");
}

/// When everything that was there is over, tombstones included.
fn later(now: Time) -> Time {
    now.saturating_add(Duration::from_secs(3 * 3600))
}

fn check_keyval(zone: &KeyvalZone, key_of: fn(u64) -> String, now: Time) {
    let mut keys = HashSet::new();
    for (key, entry) in zone.iter(now) {
        let (key, value) = (&*key, &*entry.value);
        verify(key, value, key_of);
        assert!(keys.insert(key.to_vec()), "a key twice");
        assert_eq!(zone.get(key, now).as_deref(), Some(value));
        assert_eq!(zone.lookup(key, now).as_deref(), Some(value), "its length is not counted");
    }
    sweep_all(zone, now);
    let stats = zone.stats();
    // Those that have expired stay for a while.
    let early = Time::from_millis(1);
    assert_eq!(stats.records, zone.len(early) as u64, "{stats:?}");
}

fn check_sticky(zone: &StickyZone, now: Time) {
    let mut keys = HashSet::new();
    for (name, session) in zone.iter(now) {
        verify(&name, &session.server, key);
        assert_eq!(zone.peek(&*name, now).as_ref(), Some(&session.server));
        assert!(keys.insert(name.into_vec()), "a session twice");
    }
    sweep_all(zone, now);
    assert_eq!(zone.stats().records, zone.len(now) as u64);
}

/// Sweeps often enough to come by every slot of these zones.
fn sweep_all(zone: &dyn Replica, now: Time) {
    for _ in 0..8 {
        zone.sweep(now, usize::MAX);
    }
}

/// What of a zone has keys to iterate over.
trait Keys: Replica {
    fn keys(&self, now: Time) -> Vec<Vec<u8>>;
}

impl Keys for KeyvalZone {
    fn keys(&self, now: Time) -> Vec<Vec<u8>> {
        self.iter(now).map(|(key, _)| key.into_vec()).collect()
    }
}

impl Keys for StickyZone {
    fn keys(&self, now: Time) -> Vec<Vec<u8>> {
        self.iter(now).map(|(key, _)| key.into_vec()).collect()
    }
}

/// Removes everything and lets tombstones go.
fn empty(zone: &dyn Keys, now: Time, mut remove: impl FnMut(&[u8])) {
    zone.keys(now).iter().for_each(|key| remove(key));
    sweep_all(zone, later(now));
    let stats = zone.stats();
    assert_eq!((stats.records, stats.tombstones), (0, 0), "{}", zone.name());
}

/// How many records of that length an empty zone takes: until no key whatever finds room. So many attempts fail in a row only if every slot is
/// taken, or all memory: a key has two of the thousand buckets of the largest zone, so that all of 6,000 keys miss the last slot that is free once in
/// 100,000 times (of 3,000, once in 400).
fn fill(zone: &KeyvalZone, length: usize, now: Time) -> usize {
    let value = vec![7; length];
    let (mut number, mut misses, mut filled) = (0u64, 0, 0);
    while misses < 6_000 {
        number += 1;
        match zone.set(number.to_le_bytes(), &value, now, Expiry::Never) {
            Ok(()) => (misses, filled) = (0, filled + 1),
            Err(_) => misses += 1,
        }
    }
    filled
}

/// How many small sessions an empty zone holds when far more were learned.
fn fill_sticky(zone: &StickyZone, now: Time) -> u64 {
    // What nothing can make room for brings all memory back to where it can grow together.
    assert!(zone.learn("large", vec![7; 60_000], now).is_err());
    for number in 0..20_000u64 {
        zone.learn(number.to_le_bytes(), "", now).expect("it evicts");
    }
    zone.stats().records
}

/// How many keys a limit zone keeps at a time. Far more come than it has entries, so every group is full.
fn fill_limits(zone: &LimitZone, now: Time) -> u64 {
    for number in 0..20_000u64 {
        zone.check(number.to_le_bytes(), &Check::default(), now);
    }
    zone.stats().records
}
