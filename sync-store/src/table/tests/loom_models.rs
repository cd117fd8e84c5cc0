//! Each model is named after the race that it excludes. The regions are as small as they can be: two buckets of two slots.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::slot::SlotState;
use crate::{Replica, State, StickyZone};

const NOW: Time = Time::from_millis(1_000);
/// Two words each, so that a torn read shows.
const ONE: [u8; 16] = [1; 16];
const TWO: [u8; 16] = [2; 16];
const THREE: [u8; 16] = [3; 16];

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // Those of laying out the region count, too.
    builder.max_branches = 10_000;
    builder.check(model);
}

fn small() -> Arc<Table> {
    Arc::new(table(ZoneKind::Sticky, 3072))
}

/// A reader meets a replaced record's block while it is filled again.
#[test]
fn loom_torn_read_of_a_reused_block() {
    check(5, || {
        let table = small();
        set(&table, b"k", &ONE, NOW);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                set(&table, b"k", &TWO, NOW);
                set(&table, b"k", &THREE, NOW); // into the block of ONE
            })
        };
        let value = get(&table, b"k").expect("never absent");
        assert!([&ONE[..], &TWO, &THREE].contains(&value.as_slice()), "torn: {value:?}");
        writer.join().expect("no panic");
        assert_eq!(get(&table, b"k").as_deref(), Some(&THREE[..]));
    });
}

/// The same when records are overwritten at once, each in the block of the one before the last.
#[test]
fn loom_torn_read_of_an_overwritten_record() {
    check(5, || {
        let table = small();
        set(&table, b"k", &ONE, NOW);
        set(&table, b"k", &TWO, NOW); // the block of ONE is at hand
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                assert!(table.overwrite(NOW, b"k", &THREE, 0));
                assert!(table.overwrite(NOW, b"k", &ONE, 0)); // into the block of TWO
            })
        };
        let value = get(&table, b"k").expect("never absent");
        assert!([&ONE[..], &TWO, &THREE].contains(&value.as_slice()), "torn: {value:?}");
        writer.join().expect("no panic");
        assert_eq!(get(&table, b"k").as_deref(), Some(&ONE[..]));
    });
}

/// A slot is emptied and filled again with the same key and block while a reader copies.
#[test]
fn loom_remove_and_insert_look_the_same() {
    check(5, || {
        let table = small();
        set(&table, b"k", &ONE, NOW);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                assert!(evict(&table, b"k"));
                set(&table, b"k", &TWO, NOW);
            })
        };
        if let Some(value) = get(&table, b"k") {
            assert!([&ONE[..], &TWO].contains(&value.as_slice()), "torn: {value:?}");
        }
        writer.join().expect("no panic");
        assert_eq!(get(&table, b"k").as_deref(), Some(&TWO[..]));
    });
}

/// A key whose first bucket is that of `other`.
fn key_beside(table: &Table, other: &[u8]) -> [u8; 1] {
    let first = |key: &[u8]| table.parts.index.candidates(table.hash(key)).main[0];
    let beside = (0..u8::MAX).map(|byte| [byte]).find(|key| key != other && first(key) == first(other));
    beside.expect("every second key")
}

/// Two threads insert one key and choose different slots, because one of them empties the slot that the other passes by.
#[test]
fn loom_duplicate_insert() {
    check(4, || {
        let table = small();
        set(&table, b"x", &THREE, NOW);
        let key = key_beside(&table, b"x");
        let other = {
            let table = table.clone();
            thread::spawn(move || {
                evict(&table, b"x");
                set(&table, &key, &ONE, NOW);
            })
        };
        set(&table, &key, &TWO, NOW);
        assert!(get(&table, &key).is_some(), "a finished insert can be read");
        other.join().expect("no panic");
        assert_eq!(copies(&table, &key), 1);
        let stats = table.stats();
        assert_eq!((stats.records, stats.tombstones), (1, 0));
    });
}

/// Two threads replace one record; the one that loses tries again, and no block is lost or freed twice.
#[test]
fn loom_replace_against_replace() {
    check(5, || {
        let table = small();
        set(&table, b"k", &ONE, NOW);
        let before = table.stats().used_bytes;
        let other = {
            let table = table.clone();
            thread::spawn(move || _ = set(&table, b"k", &TWO, NOW))
        };
        set(&table, b"k", &THREE, NOW);
        other.join().expect("no panic");
        let value = get(&table, b"k").expect("never absent");
        assert!([&TWO[..], &THREE].contains(&value.as_slice()));
        assert_eq!(table.stats().used_bytes, before);
    });
}

/// A write and its mark against the publisher: the last value is published, now or by the next pass.
#[test]
fn loom_publish_against_write() {
    check(5, || {
        let table = small();
        let at = match set(&table, b"k", &ONE, NOW) {
            Written::Inserted(at) => at,
            other => panic!("{other:?}"),
        };
        table.mark(at);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                set(&table, b"k", &TWO, NOW);
                table.mark(at);
            })
        };
        let mut published = Vec::new();
        let mut publish = || {
            table.publish(NOW, &mut |record| {
                if let State::Value { value, .. } = record.state {
                    published = value.to_vec();
                }
                true
            });
        };
        publish();
        writer.join().expect("no panic");
        publish();
        assert_eq!(published, TWO);
    });
}

/// Writes a record only if the key is not there; whether it did.
fn insert(table: &Table, key: &[u8], value: &[u8]) -> bool {
    let written = upsert(table, NOW, key, Put::New(value), |found| match found {
        Some(_) => Step::Stop,
        None => Step::Write(table.header(None, NOW, false, 0)),
    });
    match written.expect("room") {
        Written::Inserted(_) => true,
        Written::Stopped(_) => false,
        Written::Replaced(_) => panic!("it was not there"),
    }
}

/// Of inserters of one key exactly one has inserted, if nobody removes it, and its value is there.
fn one_has_inserted(table: &Table, key: &[u8], inserters: &[(bool, [u8; 16])]) {
    let values: Vec<_> = inserters.iter().filter(|(inserted, _)| *inserted).map(|(_, value)| value).collect();
    assert_eq!(values.len(), 1, "{inserters:?}");
    assert_eq!(get(table, key).as_deref(), Some(&values[0][..]));
    assert_eq!(copies(table, key), 1);
    let state = |at| table.parts.index.load(&table.region, at).state();
    assert!((0..table.slots()).all(|at| matches!(state(at), SlotState::Empty | SlotState::Live)));
    assert_eq!(table.stats().records, 1);
}

fn finish_all(table: &Table) {
    (0..table.slots()).for_each(|at| table.finish_pending(at));
}

/// An insert is aborted by another inserter, or finished by it or by the sweeper, before its own thread looks: that thread knows how it ended.
#[test]
fn loom_insert_decided_by_another_thread() {
    check(2, || {
        let table = small();
        let other = {
            let table = table.clone();
            thread::spawn(move || insert(&table, b"k", &ONE))
        };
        let sweeper = {
            let table = table.clone();
            thread::spawn(move || finish_all(&table))
        };
        let inserted = insert(&table, b"k", &TWO);
        let others = other.join().expect("no panic");
        sweeper.join().expect("no panic");
        one_has_inserted(&table, b"k", &[(inserted, TWO), (others, ONE)]);
    });
}

/// The same of three inserters that choose different slots, because a fourth key leaves in the middle.
#[test]
fn loom_insert_decided_by_two_other_threads() {
    check(1, || {
        let table = small();
        set(&table, b"x", &[9; 16], NOW);
        let key = key_beside(&table, b"x");
        let [one, two] = [ONE, TWO].map(|value| {
            let table = table.clone();
            thread::spawn(move || insert(&table, &key, &value))
        });
        evict(&table, b"x");
        finish_all(&table);
        let inserted = insert(&table, &key, &THREE);
        let [one, two] = [one, two].map(|other| other.join().expect("no panic"));
        one_has_inserted(&table, &key, &[(one, ONE), (two, TWO), (inserted, THREE)]);
    });
}

const SECOND: u64 = 1_000;

/// A session that was learned at second 1,000 and published.
fn session() -> Arc<StickyZone> {
    let zone = StickyZone::builder("z").size(4096).max_record(32).timeout(Duration::from_secs(64));
    let zone = zone.origin(Origin::from_raw(1).expect("not 0")).build().expect("a zone");
    zone.learn("k", ONE, Time::from_millis(1_000 * SECOND)).expect("room");
    zone.publish(NOW, &mut |_| true);
    Arc::new(zone)
}

/// An access is recorded in a record that is being replaced by a new server's: the new server stays.
#[test]
fn loom_touch_against_learn() {
    check(4, || {
        let zone = session();
        let other = {
            let zone = zone.clone();
            thread::spawn(move || {
                zone.learn("k", TWO, Time::from_millis(1_020 * SECOND)).expect("room");
            })
        };
        let now = Time::from_millis(1_010 * SECOND);
        let found = zone.lookup("k", now).expect("never absent");
        assert!([&ONE[..], &TWO].contains(&&*found));
        other.join().expect("no panic");
        assert_eq!(zone.peek("k", now).as_deref(), Some(&TWO[..]));
        let mut published = Vec::new();
        zone.publish(now, &mut |record| {
            if let State::Value { value, .. } = record.state {
                published = value.to_vec();
            }
            true
        });
        assert_eq!(published, TWO);
    });
}

/// An access is recorded while the publisher notes that it has told of an earlier one: it is not lost, and told of now or by the next pass.
#[test]
fn loom_touch_against_publish() {
    check(5, || {
        let zone = session();
        assert!(zone.lookup("k", Time::from_millis(1_010 * SECOND)).is_some());
        let last = 1_020 * SECOND;
        let other = {
            let zone = zone.clone();
            thread::spawn(move || assert!(zone.lookup("k", Time::from_millis(last)).is_some()))
        };
        let mut told = 0;
        let mut publish = || {
            zone.publish(NOW, &mut |record| {
                if let State::Value { time_ms, .. } = record.state {
                    told = time_ms;
                }
                true
            });
        };
        publish();
        other.join().expect("no panic");
        publish();
        let now = Time::from_millis(last);
        assert_eq!(zone.entry("k", now).expect("never absent").last_access, now);
        assert_eq!(told, last);
    });
}
