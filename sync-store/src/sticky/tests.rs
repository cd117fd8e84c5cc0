use std::time::Duration;

use super::*;
use crate::{Dot, Record, Replica, State};

/// Time-out 64 s: an access is recorded when it is 1 s later, published when it is 8 s later; a session is gone after 73 s.
fn zone() -> StickyZone {
    StickyZone::builder("s")
        .size(64 << 10)
        .origin(Origin::from_raw(1).expect("not 0"))
        .timeout(Duration::from_secs(64))
        .build()
        .expect("a zone")
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

fn last_access(zone: &StickyZone, now: Time) -> u64 {
    zone.entry("a", now).expect("there").last_access.as_millis() / 1_000
}

/// Publishes; the last accesses that were told.
fn publish(zone: &StickyZone, now: Time) -> Vec<u64> {
    let mut told = Vec::new();
    zone.publish(now, &mut |record| {
        if let State::Value { time_ms, .. } = record.state {
            told.push(time_ms / 1_000);
        }
        true
    });
    told
}

fn apply(zone: &StickyZone, now: Time, stamp_s: u64, server: &[u8], time_s: u64) -> usize {
    let origin = Origin::from_raw(2).expect("not 0");
    let state = State::Value {
        value: server,
        stamp: Stamp::from_time(at(stamp_s)),
        writer: origin,
        time_ms: time_s * 1_000,
    };
    let record = Record { key: b"a", dot: Dot { origin, seq: 1 }, state };
    zone.apply_states(now, &mut [record].into_iter()).expect("a valid row").applied
}

#[test]
fn a_session_lives_as_long_as_it_is_accessed() {
    let zone = zone();
    zone.learn("a", "one", at(100)).expect("room");
    for seconds in (100..1_000).step_by(50) {
        assert_eq!(zone.lookup("a", at(seconds)).as_deref(), Some(&b"one"[..]));
    }
    assert_eq!(zone.peek("a", at(950 + 72)).as_deref(), Some(&b"one"[..]));
    assert_eq!(zone.peek("a", at(950 + 73)), None, "peeking is no access");
    assert!(zone.is_empty(at(950 + 73)));
    assert!(!zone.forget("a", at(950 + 73)).expect("a session"));
}

#[test]
fn accesses_are_recorded_and_published_coarsely() {
    let zone = zone();
    zone.learn("a", "one", at(100)).expect("room");
    assert_eq!(publish(&zone, at(100)), [100]);
    zone.lookup("a", at(101));
    assert_eq!(last_access(&zone, at(101)), 100, "not later by more than a 64th");
    zone.lookup("a", at(107));
    assert_eq!(last_access(&zone, at(107)), 107);
    assert_eq!(zone.dirty_count(), 0, "not later by more than an eighth");
    zone.lookup("a", at(109));
    assert_eq!(publish(&zone, at(109)), [109]);
    assert_eq!(last_access(&zone, at(109)), 109);
    zone.lookup("a", at(116));
    assert_eq!(publish(&zone, at(116)), [] as [u64; 0], "counted from what was published");
}

#[test]
fn learning_the_same_again_is_an_access_and_another_server_a_change() {
    let zone = zone();
    zone.learn("a", "one", at(100)).expect("room");
    let first = zone.entry("a", at(100)).expect("there");
    zone.learn("a", "one", at(150)).expect("room");
    let again = zone.entry("a", at(150)).expect("there");
    assert_eq!((again.stamp, again.last_access), (first.stamp, at(150)));
    zone.learn("a", "two", at(150)).expect("room");
    let changed = zone.entry("a", at(150)).expect("there");
    assert!(changed.stamp > first.stamp);
    assert_eq!(changed.server, b"two");
    // Gone, it is learned anew.
    zone.learn("a", "two", at(1_000)).expect("room");
    assert!(zone.entry("a", at(1_000)).expect("there").stamp > changed.stamp);
}

#[test]
fn the_last_server_and_the_last_access_win_each_for_itself() {
    let zone = zone();
    zone.learn("a", "ours", at(100)).expect("room");
    zone.lookup("a", at(120));
    assert_eq!(apply(&zone, at(120), 90, b"older", 130), 1, "an older server that was accessed later");
    assert_eq!(zone.peek("a", at(130)).as_deref(), Some(&b"ours"[..]));
    assert_eq!(last_access(&zone, at(130)), 125, "bounded by the clock skew that is allowed");
    assert_eq!(apply(&zone, at(140), 139, b"newer", 110), 1, "a newer server that was accessed earlier");
    assert_eq!(zone.peek("a", at(140)).as_deref(), Some(&b"newer"[..]));
    assert_eq!(last_access(&zone, at(140)), 125);
    assert_eq!(apply(&zone, at(140), 139, b"newer", 110), 0, "nothing new");
}

#[test]
fn what_a_peer_has_replaced_is_not_published_as_ours() {
    let zone = zone();
    zone.learn("a", "ours", at(100)).expect("room");
    apply(&zone, at(101), 101, b"theirs", 101);
    assert_eq!(zone.dirty_count(), 1);
    assert_eq!(publish(&zone, at(101)), [] as [u64; 0]);
    assert_eq!(zone.published_seq(), 0);
    // An access here to their session is ours to tell, under their stamp.
    zone.lookup("a", at(115));
    let mut told = Vec::new();
    zone.publish(at(115), &mut |record| {
        if let State::Value { writer, time_ms, .. } = record.state {
            told.push((writer.raw(), time_ms, record.dot.origin.raw(), record.dot.seq));
        }
        true
    });
    assert_eq!(told, [(2, 115_000, 1, 1)]);
}

#[test]
fn a_forgotten_session_stays_forgotten() {
    let zone = zone();
    zone.learn("a", "ours", at(100)).expect("room");
    assert!(zone.forget("a", at(110)).expect("there"));
    apply(&zone, at(111), 105, b"late", 111);
    assert_eq!(zone.peek("a", at(111)), None);
    assert_eq!(zone.stats().tombstones, 1);
    // The tombstone is kept for no longer than the time-out, after which such a message would be about an expired session.
    assert_eq!(zone.sweep(at(173), 10), 0);
    assert_eq!(zone.sweep(at(174), 10), 1);
    assert_eq!(zone.stats().tombstones, 0);
}

#[test]
fn a_reader_is_told_what_has_changed_since_it_came_by() {
    let zone = zone();
    let mut seen = Seen::default();
    let changed = |seen: &mut Seen, now| {
        let mut changed: Vec<_> = zone.changed(seen, now).map(|(key, _)| key.to_vec()).collect();
        changed.sort();
        changed
    };
    zone.learn("a", "one", at(100)).expect("room");
    zone.learn("b", "one", at(100)).expect("room");
    assert_eq!(changed(&mut seen, at(100)), [b"a", b"b"]);
    assert_eq!(changed(&mut seen, at(100)), [b""; 0]);
    assert!(zone.lookup("b", at(150)).is_some(), "an access that is recorded");
    assert_eq!(apply(&zone, at(150), 150, b"two", 150), 1, "what a peer learned");
    zone.learn("c", "two", at(150)).expect("room");
    assert!(zone.forget("c", at(150)).expect("a session"), "which is no change to tell");
    assert_eq!(changed(&mut seen, at(150)), [b"a", b"b"]);
    // A pass that was left off goes on, and whatever changed behind it is for the next one.
    for session in ["a", "b", "c"] {
        zone.learn(session, "three", at(160)).expect("room");
    }
    let mut met: Vec<_> = zone.changed(&mut seen, at(160)).take(1).map(|(key, _)| key.to_vec()).collect();
    assert!(!seen.is_through());
    met.extend(changed(&mut seen, at(160)));
    assert!(seen.is_through());
    met.sort();
    assert_eq!(met, [b"a", b"b", b"c"]);
    assert_eq!(seen.slots() % 8, 0);
}
