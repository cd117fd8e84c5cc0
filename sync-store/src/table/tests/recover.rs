//! What a process leaves that is killed at the worst of moments, and that the owner puts it right.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::block::Draft;
use crate::slot::Slot;

const NOW: Time = Time::from_millis(10_000_000);
const SIZE: u64 = 64 << 10;

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a new directory"))
    }

    fn zone(&self) -> PathBuf {
        self.0.path().join("zone")
    }
}

fn mapped(kind: ZoneKind, path: &Path) -> Settings {
    Settings { region: Region::map_file(path), origin: Origin::random(), ..settings(kind, SIZE) }
}

fn owner(kind: ZoneKind, path: &Path) -> Table {
    Table::new(mapped(kind, path)).expect("a zone")
}

fn guest(kind: ZoneKind, path: &Path) -> Table {
    let region = OpenRegion::attach(path, kind).expect("an owner");
    Table::attached(mapped(kind, path), region).expect("the same zone")
}

/// Ends a process in the middle of a change.
fn kill(mut table: Table) {
    std::mem::forget(table.begin());
    table.region.die();
}

fn publish(table: &Table) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    table.publish(NOW, &mut |record| {
        keys.push(record.key.to_vec());
        true
    });
    keys.sort();
    keys
}

/// Publishes all there is, and lets it grow old.
fn settle(table: &Table) {
    publish(table);
    table.sweep_part(later(), 0, 0, 1);
    assert_eq!(table.dirty_count(), 0);
}

/// A time at which what was written before and marked is not looked at any more.
fn later() -> Time {
    NOW.saturating_add(Duration::from_secs(3600))
}

/// Puts a record into a slot and goes no further.
fn abandon(table: &Table, key: &[u8]) {
    let draft = Draft { key, value: b"value", header: table.header(None, later(), false, 0) };
    let block = table.parts.blocks.take(&table.region, draft.units()).expect("room");
    table.parts.blocks.at(&table.region, block.unit).fill(&draft);
    let hash = table.hash(key);
    let candidates = table.parts.index.candidates(hash);
    let (at, empty) = table.parts.index.vacancy(&table.region, candidates).expect("room");
    table.tally(false, draft.units(), 1);
    assert!(table.parts.index.claim(&table.region, at, empty, empty.pending(Slot::tag_of(hash), block.unit)));
}

#[test]
fn what_a_dead_guest_wrote_and_did_not_mark_is_published() {
    let dir = Dir::new();
    let owner = owner(ZoneKind::Keyval, &dir.zone());
    for key in [b"old", b"new"] {
        set(&owner, key, b"value", NOW);
        owner.mark(owner.find_meta(key, owner.hash(key)).expect("there").at);
    }
    settle(&owner);
    let guest = guest(ZoneKind::Keyval, &dir.zone());
    set(&guest, b"new", b"replaced", later());
    set(&guest, b"newer", b"inserted", later());
    abandon(&guest, b"newest");
    kill(guest);
    assert_eq!(publish(&owner), [b""; 0]);
    assert!(!owner.wait_dirty(Duration::ZERO));
    owner.sweep_part(later(), 0, 0, 1);
    assert!(owner.wait_dirty(Duration::ZERO), "the publisher is called");
    assert_eq!(publish(&owner), [&b"new"[..], b"newer", b"newest"]);
}

#[test]
fn an_access_that_a_dead_guest_recorded_is_published() {
    let dir = Dir::new();
    let owner = owner(ZoneKind::Sticky, &dir.zone());
    let access = |table: &Table, lag: u16| {
        let found = table.find_meta(b"k", table.hash(b"k")).expect("there");
        let header = Header { time_ms: later().as_millis(), lag, ..found.header() };
        let draft = Draft { key: b"k", value: b"server", header };
        assert_eq!(table.replace_within(&found, &draft), Some(true));
    };
    upsert(&owner, NOW, b"k", Put::New(b"server"), |found| Step::Write(owner.header(found, NOW, false, 1)))
        .expect("room");
    owner.mark(owner.find_meta(b"k", owner.hash(b"k")).expect("there").at);
    settle(&owner);
    for (lag, is_published) in [(50, false), (900, true)] {
        let guest = guest(ZoneKind::Sticky, &dir.zone());
        access(&guest, lag);
        kill(guest);
        owner.sweep_part(NOW, 0, 0, 1);
        assert_eq!(publish(&owner).len(), usize::from(is_published), "lag {lag}");
    }
}

#[test]
fn what_a_dead_guest_had_in_hand_is_given_back_and_what_a_living_one_has_is_not() {
    let dir = Dir::new();
    let owner = owner(ZoneKind::Keyval, &dir.zone());
    let capacity = u32::try_from(owner.parts.blocks.capacity_units()).expect("small");
    let (dead, living) = (guest(ZoneKind::Keyval, &dir.zone()), guest(ZoneKind::Keyval, &dir.zone()));
    abandon(&dead, b"k");
    abandon(&dead, b"k");
    let _ = dead.parts.blocks.take(&dead.region, 5).expect("room");
    let _ = dead.parts.blocks.take_reserve(&dead.region, 1).expect("one");
    dead.tally(false, 9, 1);
    kill(dead);
    let change = living.begin();
    let block = living.parts.blocks.take(&living.region, 3).expect("room");
    let all_but = |units: u32| {
        let rest = capacity - units;
        let more = owner.parts.blocks.take_thoroughly(&owner.region, rest + 1);
        let rest = owner.parts.blocks.take_thoroughly(&owner.region, rest);
        let answer = more.is_none() && rest.is_some();
        [more, rest].into_iter().flatten().for_each(|block| owner.parts.blocks.free(&owner.region, block));
        answer
    };
    for _ in 0..64 {
        owner.sweep_part(NOW, 0, 0, 1);
        assert!(!all_but(3 + 2), "nobody can tell whose it is");
    }
    living.free(block);
    drop(change);
    for _ in 0..64 {
        owner.sweep_part(NOW, 0, 0, 1);
    }
    assert_eq!(copies(&owner, b"k"), 1);
    let found = owner.find_meta(b"k", owner.hash(b"k")).expect("inserted by the dead one");
    let stats = owner.stats();
    assert_eq!((stats.records, stats.tombstones), (1, 0));
    assert!(evict(&owner, b"k"));
    assert_eq!(
        owner.stats().used_bytes,
        self::owner(ZoneKind::Keyval, &dir.0.path().join("fresh")).stats().used_bytes
    );
    assert!(all_but(0), "all memory is there");
    assert!(!found.header().removed);
    let reserve = || owner.parts.blocks.take_reserve(&owner.region, 1);
    assert!(reserve().is_some() && reserve().is_some(), "and the reserve");
}

#[test]
fn what_a_dead_owner_left_is_put_right_by_the_next() {
    let dir = Dir::new();
    let first = owner(ZoneKind::Keyval, &dir.zone());
    for number in 0..200u64 {
        set(&first, &number.to_le_bytes(), b"value", NOW);
        first.mark(
            first.find_meta(&number.to_le_bytes(), first.hash(&number.to_le_bytes())).expect("there").at,
        );
    }
    settle(&first);
    set(&first, b"unmarked", b"value", later());
    abandon(&first, b"pending");
    let _ = first.parts.blocks.take(&first.region, 5).expect("room");
    // A guest is at work while the next owner starts.
    let guest = guest(ZoneKind::Keyval, &dir.zone());
    let change = guest.begin();
    kill(first);
    let second = owner(ZoneKind::Keyval, &dir.zone());
    assert_eq!(publish(&second), [&b"pending"[..], b"unmarked"]);
    drop(change);
    (0..16).for_each(|_| _ = second.sweep_part(later(), 0, 0, 1));
    (0..200u64).for_each(|number| assert!(evict(&second, &number.to_le_bytes())));
    assert!(evict(&second, b"unmarked") && evict(&second, b"pending"));
    assert_eq!(second.stats().records, 0);
    let capacity = u32::try_from(second.parts.blocks.capacity_units()).expect("small");
    assert!(second.parts.blocks.take_thoroughly(&second.region, capacity).is_some(), "all memory is there");
}

#[test]
fn a_write_that_was_begun_under_an_earlier_owner_is_published() {
    let dir = Dir::new();
    let first = owner(ZoneKind::Keyval, &dir.zone());
    set(&first, b"k", b"first", NOW);
    first.mark(first.find_meta(b"k", first.hash(b"k")).expect("there").at);
    settle(&first);
    let guest = guest(ZoneKind::Keyval, &dir.zone());
    let change = guest.begin();
    let header = guest.header(None, NOW, false, 0);
    drop(first);
    // Its writer is of long ago when it ends: there have been more owners than there is room for origins.
    for _ in 0..100 {
        let next = owner(ZoneKind::Keyval, &dir.zone());
        next.sweep_part(later(), 0, 0, 1);
        settle_with(&next, b"other");
    }
    let last = owner(ZoneKind::Keyval, &dir.zone());
    publish(&last);
    let written = upsert(&guest, NOW, b"late", Put::New(b"value"), |_| Step::Write(header)).expect("room");
    let Written::Inserted(at) = written else { panic!("{written:?}") };
    guest.mark(at);
    drop(change);
    assert_eq!(publish(&last), [b"late"]);
    let found = last.meta_at(at).expect("there");
    assert!(last.writer(&found).is_some(), "everybody can say who wrote it");
}

/// Writes a record in the name of the present owner and publishes it.
fn settle_with(table: &Table, key: &[u8]) {
    set(table, key, b"value", NOW);
    table.mark(table.find_meta(key, table.hash(key)).expect("there").at);
    publish(table);
}
