//! Each model is named after the race that it excludes. The regions are as small as they can be: two buckets of two slots.

use loom::sync::Arc;
use loom::thread;

use super::*;

const NOW: Time = Time::from_millis(1_000);
/// Two words each, so that a torn read shows.
const ONE: [u8; 16] = [1; 16];
const TWO: [u8; 16] = [2; 16];
const THREE: [u8; 16] = [3; 16];

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn small() -> Arc<Table> {
    Arc::new(table(ZoneKind::Sticky, 2048))
}

/// A reader meets a replaced record's block while it is filled again.
#[test]
fn loom_torn_read_of_a_reused_block() {
    check(3, || {
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

/// A slot is emptied and filled again with the same key and block while a reader copies.
#[test]
fn loom_remove_and_insert_look_the_same() {
    check(3, || {
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
    check(2, || {
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
    check(2, || {
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
    check(2, || {
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
                if let crate::State::Value { value, .. } = record.state {
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
