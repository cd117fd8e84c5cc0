use super::*;
use crate::block::Draft;
use crate::index::BUCKET;
use crate::slot::Slot;

const NOW: Time = Time::from_millis(10_000);

fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

fn access(table: &Table, key: &[u8], time_ms: u64) -> Result<Written, Error> {
    upsert(table, NOW, key, Put::New(b"server"), |found| {
        Step::Write(table.header(found, NOW, false, time_ms))
    })
}

fn bury(table: &Table, key: &[u8]) {
    let written =
        upsert(table, NOW, key, Put::New(&[]), |found| Step::Write(table.header(found, NOW, true, 0)));
    written.expect("room");
}

#[test]
fn a_full_sticky_zone_evicts_what_was_not_accessed_for_long() {
    let table =
        Table::new(Settings { idle_ms: u64::MAX, ..settings(ZoneKind::Sticky, 64 << 10) }).expect("a table");
    let mut written = 0;
    while table.stats().evicted == 0 {
        access(&table, &key(written), written).expect("evicts");
        written += 1;
    }
    let capacity = written - 1;
    for number in written..3 * capacity {
        access(&table, &key(number), number).expect("evicts");
    }
    let there = |from: u64, to: u64| (from..to).filter(|&n| get(&table, &key(n)).is_some()).count() as u64;
    // A perfect choice would keep exactly the last `capacity` ones.
    assert!(
        there(2 * capacity + capacity / 2, 3 * capacity) >= capacity / 2 * 97 / 100,
        "the newest half stays"
    );
    assert!(there(0, 3 * capacity / 2) <= capacity / 20, "the oldest are gone");
    assert_eq!(table.stats().refused, 0);
    assert_eq!(table.stats().tombstones, 0, "eviction leaves none");
}

#[test]
fn eviction_prefers_the_expired_and_spares_tombstones_and_what_is_dirty() {
    let table =
        Table::new(Settings { idle_ms: 5_000, ..settings(ZoneKind::Sticky, 32 << 10) }).expect("a table");
    let candidates = table.parts.index.candidates(table.hash(&key(0)));
    // Keys that all live in the same two buckets.
    let keys: Vec<[u8; 8]> = (0..u64::MAX)
        .map(key)
        .filter(|key| {
            let others = table.parts.index.candidates(table.hash(key)).slots().collect::<Vec<_>>();
            candidates.slots().all(|at| others.contains(&at))
        })
        .take(2 * BUCKET + 2)
        .collect();
    bury(&table, &keys[0]);
    access(&table, &keys[1], 1_000).expect("room"); // expired at 6 s
    for (age, key) in keys[2..2 * BUCKET].iter().enumerate() {
        let at = match access(&table, key, 9_000 + age as u64).expect("room") {
            Written::Inserted(at) => at,
            other => panic!("{other:?}"),
        };
        if age < 3 {
            table.mark(at);
        }
    }
    access(&table, &keys[2 * BUCKET], 9_900).expect("the buckets are full, the zone is not");
    assert_eq!((get(&table, &keys[1]), table.stats().expired, table.stats().evicted), (None, 1, 0));
    access(&table, &keys[2 * BUCKET + 1], 9_901).expect("evicts");
    assert_eq!(table.stats().evicted, 1);
    assert!(keys[2..5].iter().all(|key| get(&table, key).is_some()), "dirty ones are older and stay");
    assert_eq!(get(&table, &keys[5]), None, "the oldest clean one goes");
    assert_eq!(table.stats().tombstones, 1);
}

#[test]
fn an_accident_of_hashing_does_not_fill_a_keyval_zone() {
    let table = table(ZoneKind::Keyval, 32 << 10);
    let candidates = table.parts.index.candidates(table.hash(&key(0)));
    let same_pair = (0..u64::MAX).map(key).filter(|key| {
        let others = table.parts.index.candidates(table.hash(key)).slots().collect::<Vec<_>>();
        candidates.slots().all(|at| others.contains(&at))
    });
    let keys: Vec<[u8; 8]> = same_pair.take(3 * BUCKET).collect();
    keys.iter().for_each(|key| _ = set(&table, key, b"v", NOW));
    assert!(keys.iter().all(|key| get(&table, key).is_some()));
    assert!(table.parts.index.overflow_in_use(&table.region));
    // One that was in the overflow area is found again after the buckets have emptied, and leaves it when it goes.
    keys[..2 * BUCKET].iter().for_each(|key| assert!(evict(&table, key)));
    assert!(keys[2 * BUCKET..].iter().all(|key| get(&table, key).is_some()));
    keys[2 * BUCKET..].iter().for_each(|key| assert!(evict(&table, key)));
    assert!(!table.parts.index.overflow_in_use(&table.region));
}

#[test]
fn a_zone_of_small_records_takes_large_ones_later() {
    let large =
        |kind| Table::new(Settings { max_record: 2_000, idle_ms: u64::MAX, ..settings(kind, 64 << 10) });
    let table = large(ZoneKind::Sticky).expect("a table");
    for number in 0..2_000 {
        access(&table, &key(number), number).expect("evicts");
    }
    for number in 0..20 {
        let written = upsert(&table, NOW, &key(5_000 + number), Put::New(&[1; 1_500]), |found| {
            Step::Write(table.header(found, NOW, false, 10_000 + number))
        });
        assert!(matches!(written, Ok(Written::Inserted(_))), "evicts neighbours until it fits: {written:?}");
    }
}

#[test]
fn abandoned_inserts_are_finished_or_aborted() {
    let table = table(ZoneKind::Keyval, 32 << 10);
    let abandon = |value: &[u8]| {
        let draft = Draft { key: b"k", value, header: table.header(None, NOW, false, 0) };
        let block = table.parts.blocks.take(&table.region, draft.units()).expect("room");
        table.parts.blocks.at(&table.region, block.unit).fill(&draft);
        let hash = table.hash(b"k");
        let (at, empty) =
            table.parts.index.vacancy(&table.region, table.parts.index.candidates(hash)).expect("room");
        let pending = empty.pending(Slot::tag_of(hash), block.unit);
        table.tally(false, draft.units(), 1);
        assert!(table.parts.index.claim(&table.region, at, empty, pending));
    };
    abandon(b"first");
    abandon(b"second");
    assert_eq!(get(&table, b"k"), None, "pending is not there");
    // The next insert finishes the lowest, aborts the others and then replaces it.
    set(&table, b"k", b"third", NOW);
    assert_eq!(get(&table, b"k").as_deref(), Some(&b"third"[..]));
    assert_eq!(copies(&table, b"k"), 1);
    assert_eq!(table.stats().records, 2, "an aborted insert counts until its inserter has seen it");
    assert!(evict(&table, b"k"));
    // So does the sweeper, and has it published.
    abandon(b"fourth");
    table.sweep_part(NOW, 10, 0, 1);
    assert_eq!(get(&table, b"k").as_deref(), Some(&b"fourth"[..]));
    assert!(table.dirty_count() > 0);
}

#[test]
fn sizes_that_are_too_small_or_too_large_are_refused_with_the_bounds() {
    let refused = |size| match Table::new(settings(ZoneKind::Keyval, size)) {
        Err(Error::InvalidSize { min, max, .. }) => (min, max),
        other => panic!("{other:?}"),
    };
    let (min, max) = refused(1);
    assert_eq!(refused(min - 1024), (min, max));
    assert_eq!(refused(max + 1), (min, max));
    let smallest = Table::new(settings(ZoneKind::Keyval, min)).expect("the smallest works");
    set(&smallest, b"k", b"v", NOW);
    assert_eq!(get(&smallest, b"k").as_deref(), Some(&b"v"[..]));
}

/// What `docs/performance.md` says a record takes of a zone at half load, everything included; and that a zone of that size has room for them.
#[test]
fn records_take_what_the_documents_say() {
    let bytes = |kind, key_len: usize, value_len: usize, per_record: u64| {
        let records = 20_000u64;
        // The zone has a table of 4096 origins, and a reserve.
        let fixed = 128 << 10;
        let table = Table::new(Settings {
            max_key: 64,
            max_record: 512,
            record_size: key_len + value_len,
            idle_ms: u64::MAX,
            ..settings(kind, records * per_record + fixed)
        });
        let table = table.expect("a table");
        let mut key = vec![0; key_len];
        for number in 0..records {
            key[..8].copy_from_slice(&number.to_le_bytes());
            let value = vec![7; value_len];
            let time_ms = if kind == ZoneKind::Sticky { 9_000 } else { 0 };
            let written = upsert(&table, NOW, &key, Put::New(&value), |found| {
                Step::Write(table.header(found, NOW, false, time_ms))
            });
            assert!(matches!(written, Ok(Written::Inserted(_))), "{number}: {written:?}");
        }
        assert_eq!(table.stats().evicted, 0);
    };
    bytes(ZoneKind::Keyval, 16, 32, 97);
    bytes(ZoneKind::Keyval, 16, 8, 97);
    bytes(ZoneKind::Keyval, 32, 256, 355);
    bytes(ZoneKind::Sticky, 32, 20, 129);
}
