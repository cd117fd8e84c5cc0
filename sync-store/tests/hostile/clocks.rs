//! Clocks that jump: back by hours, forward to the end of time, to its beginning. What was done last on a node counts, whatever its clock said,
//! and no jump admits more than the clock's own time allows.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sync_store::{
    Check, Delay, Error, Expiry, KeyvalZone, LimitZone, Outcome, Replica, Stamp, StickyZone, Time,
};

use crate::support::{END, NOW, OwnedState, Row, Zone, origin, publish};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: u64 = 1_000_000_000;

fn hours_ago(hours: u64) -> Time {
    Time::from_nanos(NOW.as_nanos() - hours * 3600 * SECOND)
}

/// Where clocks jump to.
fn moment() -> impl Strategy<Value = Time> {
    prop_oneof![
        4 => Just(NOW),
        2 => (0..2_000u64).prop_map(|ms| Time::from_millis(NOW.as_millis() - 1_000 + ms)),
        2 => (1..100u64).prop_map(hours_ago),
        2 => (1..100u32).prop_map(|hours| NOW.saturating_add(HOUR * hours)),
        1 => Just(END),
        1 => Just(Time::EPOCH),
        1 => any::<u64>().prop_map(Time::from_nanos),
    ]
}

/// What is done to one of two keys.
#[derive(Clone, Copy, Debug)]
enum Act {
    Set,
    /// Keyval: only if it is there. Sticky: an access.
    Update,
    Remove,
}

fn steps() -> impl Strategy<Value = Vec<(Time, u8, Act)>> {
    let act = prop_oneof![4 => Just(Act::Set), 1 => Just(Act::Update), 2 => Just(Act::Remove)];
    vec((moment(), 0..2u8, act), 1..30)
}

/// What was published: a stamp says when a row was written.
fn stamp(row: &Row) -> Stamp {
    match row.state {
        OwnedState::Value { stamp, .. } | OwnedState::Removed { stamp, .. } => stamp,
        OwnedState::Limit { .. } => panic!("not in a limit zone"),
    }
}

/// Tells rows to a peer, in this order. Its clock shows the end of time: no stamp is ahead of it.
fn tell(peer: &Zone, rows: impl Iterator<Item = Row>) {
    let rows: Vec<Row> = rows.collect();
    let told = peer.replica().apply_states(END, &mut rows.iter().map(Row::record));
    assert_eq!(told.expect("valid rows").refused, 0);
}

/// Records never expire here, so a key has the value that was written last, seen from any time.
fn assert_has(zone: &Zone, key: u8, value: Option<[u8; 1]>, what: &str) {
    for at in [NOW, hours_ago(50), Time::EPOCH, END] {
        let value = value.as_ref().map(<[u8; 1]>::as_slice);
        match zone {
            Zone::Keyval(zone) => assert_eq!(zone.get([key], at).as_deref(), value, "{what}"),
            Zone::Sticky(zone) => assert_eq!(zone.peek([key], at).as_deref(), value, "{what}"),
            Zone::Limit(_) => panic!("has no values"),
        }
    }
}

/// Acts on a zone and asserts that each is in force at once, and on peers to whom the rows come in order and in reverse.
fn the_last_act_counts(zones: [Zone; 3], steps: &[(Time, u8, Act)]) {
    let [zone, in_order, reversed] = zones;
    let mut values: [Option<[u8; 1]>; 2] = [None; 2];
    let mut rows: Vec<Row> = Vec::new();
    for (number, &(now, key, act)) in steps.iter().enumerate() {
        let known = values[usize::from(key)];
        let new = [number as u8];
        let done = match (&zone, act) {
            (Zone::Keyval(zone), Act::Set) => zone.set([key], new, now, Expiry::Never),
            (Zone::Keyval(zone), Act::Update) => match zone.update([key], Some(&new), now, None) {
                Err(Error::KeyNotFound { .. }) if known.is_none() => Ok(()),
                done => done.inspect(|()| assert!(known.is_some(), "updated what was not there")),
            },
            (Zone::Keyval(zone), Act::Remove) => {
                zone.remove([key], now).map(|removed| assert_eq!(removed, known.is_some(), "{number}"))
            }
            (Zone::Sticky(zone), Act::Set) => zone.learn([key], new, now),
            (Zone::Sticky(zone), Act::Update) => {
                assert_eq!(zone.lookup([key], now).as_deref(), known.as_ref().map(<[u8; 1]>::as_slice));
                Ok(())
            }
            (Zone::Sticky(zone), Act::Remove) => {
                zone.forget([key], now).map(|forgotten| assert_eq!(forgotten, known.is_some(), "{number}"))
            }
            (Zone::Limit(_), _) => panic!("has no values"),
        };
        done.expect("room");
        values[usize::from(key)] = match (&zone, act) {
            (_, Act::Set) => Some(new),
            (Zone::Keyval(_), Act::Update) => known.map(|_| new),
            (_, Act::Update) => known,
            (_, Act::Remove) => None,
        };
        for key in 0..2 {
            assert_has(&zone, key, values[usize::from(key)], "here");
        }
        rows.extend(publish(zone.replica(), now).1);
    }
    if let Zone::Keyval(_) = &zone {
        // Each write was published on its own, so of each key the stamps must grow. (An access publishes a session once more.)
        for key in 0..2 {
            let rows = rows.iter().filter(|row| row.key == [key]);
            assert!(rows.is_sorted_by(|a, b| stamp(a) < stamp(b)), "a stamp went back with the clock");
        }
    }
    tell(&in_order, rows.iter().cloned());
    tell(&reversed, rows.iter().rev().cloned());
    for key in 0..2 {
        assert_has(&in_order, key, values[usize::from(key)], "told in order");
        assert_has(&reversed, key, values[usize::from(key)], "told in reverse");
    }
    assert_eq!(in_order.replica().digest(NOW), zone.replica().digest(NOW));
    assert_eq!(reversed.replica().digest(NOW), zone.replica().digest(NOW));
}

fn keyval(own: u64) -> KeyvalZone {
    let zone = KeyvalZone::builder("k").size(32 << 10).origin(origin(own));
    // Tombstones do not go while their zone is watched, whatever its clock shows.
    zone.tombstone_retention(Duration::MAX).build().expect("a zone")
}

fn sticky(own: u64) -> StickyZone {
    let zone = StickyZone::builder("s").size(32 << 10).origin(origin(own));
    zone.timeout(Duration::MAX).tombstone_retention(Duration::MAX).build().expect("a zone")
}

/// One key, one request a second, five at once.
fn limit() -> LimitZone {
    let zone = LimitZone::builder("l").size(8 << 10).rate("1r/s".parse().expect("a rate")).burst(4);
    zone.delay(Delay::Nodelay).build().expect("a zone")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_last_write_counts_whatever_the_clock_says(steps in steps()) {
        the_last_act_counts([1, 2, 3].map(|own| Zone::Keyval(keyval(own))), &steps);
    }

    #[test]
    fn the_last_server_learned_counts_whatever_the_clock_says(steps in steps()) {
        the_last_act_counts([1, 2, 3].map(|own| Zone::Sticky(sticky(own))), &steps);
    }

    /// What was admitted is at most what the burst holds and what drained between the first admission and this one: a clock that goes back
    /// gives nothing twice.
    #[test]
    fn no_jump_admits_more_than_the_clock_has_passed(steps in vec((moment(), 0..3i64, any::<bool>()), 1..200)) {
        let zone = limit();
        let mut admitted = 0;
        let mut first = None;
        for (now, cost, refund) in steps {
            let check = Check { cost, ..Check::default() };
            let decision = zone.check("k", &check, now);
            prop_assert!(decision.remaining() <= 5);
            prop_assert!(decision.wait().is_zero(), "nodelay");
            prop_assert_eq!(decision.retry_after().is_some(), decision.outcome == Outcome::Rejected);
            if !decision.is_admitted() || cost == 0 {
                continue;
            }
            admitted += i128::from(cost);
            let now = i128::from(now.as_nanos());
            let passed = now - *first.get_or_insert(now);
            let second = i128::from(SECOND);
            prop_assert!(admitted * second <= passed + 5 * second, "{} after {} ns", admitted, passed);
            if refund {
                // Taken back where the clock is now, and admitted no more.
                let check = Check { cost: -cost, ..Check::default() };
                zone.check("k", &check, Time::from_nanos(now as u64));
                admitted -= i128::from(cost);
            }
        }
    }
}

fn admitted(zone: &LimitZone, now: Time) -> usize {
    (0..20).filter(|_| zone.check("k", &Check::default(), now).is_admitted()).count()
}

#[test]
fn a_limit_waits_for_a_clock_that_went_back() {
    let zone = limit();
    assert_eq!(admitted(&zone, NOW), 5);
    for back in [1, 5, 100] {
        assert_eq!(admitted(&zone, hours_ago(back)), 0, "{back} hours ago");
        let refused = zone.check("k", &Check::default(), hours_ago(back));
        // Four of five may be ahead of their time, so the next is due in a second, hence in the hours and a second.
        assert_eq!(refused.retry_after(), Some(HOUR * back as u32 + Duration::from_secs(1)));
    }
    assert_eq!(admitted(&zone, Time::EPOCH), 0);
    assert_eq!(admitted(&zone, NOW), 0, "back again, no time has passed");
    assert_eq!(admitted(&zone, Time::from_nanos(NOW.as_nanos() + 3 * SECOND)), 3);
    // Whoever does not want to wait empties the bucket.
    assert!(zone.forget("k", hours_ago(5)));
    assert_eq!(admitted(&zone, hours_ago(5)), 5);
    assert_eq!(admitted(&zone, hours_ago(5)), 0);
}

#[test]
fn sweeping_at_a_wrong_time_costs_one_burst_at_most() {
    let zone = limit();
    assert_eq!(admitted(&zone, NOW), 5);
    assert_eq!(zone.sweep(END, usize::MAX), 0, "its debt is still to be published");
    assert_eq!(admitted(&zone, NOW), 0);
    publish(&zone, NOW);
    assert_eq!(zone.sweep(hours_ago(1), usize::MAX), 0);
    assert_eq!(admitted(&zone, NOW), 0, "it is not idle as long as its arrival time is ahead");
    assert_eq!(zone.sweep(END, usize::MAX), 1, "at the end of time it is");
    assert_eq!(admitted(&zone, NOW), 5);
    assert_eq!(admitted(&zone, NOW), 0);
}

#[test]
fn nothing_is_admitted_beyond_the_end_of_time() {
    let zone = limit();
    // The arrival time of one request would lie a second behind the end.
    for _ in 0..3 {
        assert_eq!(admitted(&zone, END), 0);
    }
    assert_eq!((zone.stats().records, zone.dirty_count()), (0, 0), "refused, so nothing is kept");
    let shortly_before = Time::from_nanos(u64::MAX - 2 * SECOND);
    assert_eq!(admitted(&zone, shortly_before), 2, "as many seconds as are left");
    assert_eq!(admitted(&zone, Time::EPOCH), 0);
}

#[test]
fn a_limit_begins_at_the_epoch() {
    let zone = limit();
    assert_eq!(admitted(&zone, Time::EPOCH), 5);
    assert_eq!(admitted(&zone, Time::from_nanos(SECOND - 1)), 0);
    assert_eq!(admitted(&zone, Time::from_nanos(SECOND)), 1);
    assert_eq!(admitted(&zone, NOW), 5);
}

#[test]
fn a_record_expires_by_the_clock_that_is_shown() {
    let zone = keyval(1);
    let after = |ms| Expiry::After(Duration::from_millis(ms));
    // Written in the future, it lives until then, also after the clock was set right.
    let future = NOW.saturating_add(HOUR);
    zone.set("future", "v", future, after(1_000)).expect("room");
    assert!(zone.get("future", NOW).is_some());
    assert!(zone.get("future", Time::EPOCH).is_some());
    assert!(zone.get("future", END).is_none());
    // Written in the past, it is gone when the clock is right again; a jump into its lifetime shows it, until it is swept.
    zone.set("past", "v", hours_ago(5), after(1_000)).expect("room");
    assert!(zone.get("past", hours_ago(5)).is_some());
    assert!(zone.get("past", NOW).is_none());
    // At the end of time nothing expires any more: its expiry lies behind it.
    zone.set("end", "v", END, after(1_000)).expect("room");
    assert!(zone.get("end", END).is_some());
    assert_eq!(zone.entry("end", NOW).expect("there").expires_at, Some(END));
    // At its beginning, 0 would mean never.
    zone.set("epoch", "v", Time::EPOCH, after(0)).expect("room");
    assert!(zone.get("epoch", Time::from_millis(1)).is_none());
    assert!(zone.entry("epoch", Time::EPOCH).is_none_or(|entry| entry.expires_at.is_some()));
    zone.set("never", "v", END, Expiry::Never).expect("room");

    // Sweeping in the past frees nothing. At the end of time it may free what is over then, and nothing else.
    assert_eq!(zone.sweep(Time::EPOCH, usize::MAX), 0);
    zone.sweep(END, usize::MAX);
    for key in ["end", "never"] {
        assert!(zone.get(key, END).is_some(), "{key}");
        assert!(zone.get(key, NOW).is_some(), "{key}");
    }
}

#[test]
fn a_session_outlives_a_clock_that_went_back() {
    let timeout = Duration::from_secs(600);
    let zone = StickyZone::builder("s").size(32 << 10).timeout(timeout).build().expect("a zone");
    let future = NOW.saturating_add(5 * HOUR);
    zone.learn("a", "one", NOW).expect("room");
    assert!(zone.lookup("a", future).is_none(), "expired, as far as that clock knows");
    assert!(zone.lookup("a", NOW).is_some(), "it was not accessed, nor swept");
    zone.lookup("a", Time::EPOCH);
    assert_eq!(zone.entry("a", NOW).expect("there").last_access, NOW, "an access in the past is none");

    zone.learn("a", "one", future).expect("room");
    assert!(zone.lookup("a", future).is_some());
    zone.learn("a", "two", NOW).expect("room");
    assert_eq!(zone.lookup("a", NOW).as_deref(), Some(&b"two"[..]));
    let last_access = zone.entry("a", NOW).expect("there").last_access;
    assert!(NOW <= last_access && last_access <= future, "{last_access:?}");
    assert!(zone.forget("a", Time::EPOCH).expect("room"));
    for at in [Time::EPOCH, NOW, future, END] {
        assert!(zone.lookup("a", at).is_none());
        assert!(!zone.forget("a", at).expect("room"));
    }
}

/// What a peer keeps of a key, this node may have given up. Were its next write stamped earlier than that, the peer would not take it.
#[test]
fn what_comes_back_after_it_was_given_up_is_later_whatever_the_clock_says() {
    let future = NOW.saturating_add(HOUR * 100);
    for act in [Act::Set, Act::Remove] {
        let zone = KeyvalZone::builder("k").size(32 << 10).build().expect("a zone");
        for _ in 0..3 {
            zone.set("a", "v", future, Expiry::After(Duration::from_secs(1))).expect("room");
        }
        let mut last = zone.entry("a", future).expect("there").stamp;
        if let Act::Remove = act {
            zone.remove("a", future).expect("room");
            last = stamp(&publish(&zone, future).1[0]);
        }
        assert_eq!(zone.sweep(END, usize::MAX), 1, "expired, or a tombstone whose time is over");
        zone.set("a", "v", NOW, Expiry::Never).expect("room");
        assert!(zone.entry("a", NOW).expect("there").stamp > last, "{act:?}");
    }

    let zone = StickyZone::builder("s").size(8 << 10).timeout(Duration::MAX).build().expect("a zone");
    for server in ["one", "two", "three"] {
        zone.learn("a", server, NOW).expect("room");
        zone.learn("a", server, future).expect("room");
    }
    let last = zone.entry("a", NOW).expect("there").stamp;
    for session in 0..10_000u32 {
        zone.learn(session.to_le_bytes(), "", END).expect("evicts");
    }
    assert!(zone.peek("a", NOW).is_none(), "evicted as the one that was not accessed for longest");
    zone.learn("a", "four", NOW).expect("evicts");
    assert!(zone.entry("a", NOW).expect("there").stamp > last);
}

/// Eviction goes by the last access, and by nothing that a jumping clock could bring to a halt.
#[test]
fn a_full_sticky_zone_takes_sessions_whatever_its_clock_says() {
    let zone = StickyZone::builder("s").size(8 << 10).timeout(Duration::MAX).build().expect("a zone");
    for round in 0..20u32 {
        for (number, now) in
            [NOW, END, Time::EPOCH, hours_ago(7), Time::from_nanos(1)].into_iter().enumerate()
        {
            for session in 0..50u32 {
                let key = [round, number as u32, session].map(u32::to_le_bytes).concat();
                zone.learn(&key, "a server", now).expect("evicts");
                assert!(zone.lookup(&key, now).is_some());
            }
            publish(&zone, now);
        }
    }
    assert!(zone.stats().evicted > 3_000, "{:?}", zone.stats());
    assert!(zone.stats().used_bytes <= 8 << 10);
}
