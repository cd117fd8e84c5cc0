//! Every operation on a keyval or sticky zone is stopped before each of its accesses, and others must go on; see [`crate::stopped`].
//!
//! The stopped operation works on one key. Meanwhile this thread follows a script: it does everything that a zone offers to that key, to keys in
//! the same buckets, and to others. Each answer must be possible: with the stopped operation done, or not done yet. Then the operation goes on
//! to its end, or is stopped a second time before that; or it never goes on, as if its thread had been killed, and at most a slot and two blocks are
//! missing.
//!
//! What replicates takes turns by a lock; while it is stopped only requests and sweeps have to go on.

mod case;

use super::*;
use crate::block::Draft;
use crate::index::BUCKET;
use crate::slot::Slot;
use crate::stopped::at_every_access;
use crate::{Expiry, KeyvalZone, StickyZone, VersionVector};

use case::{
    Act, BEFORE, Case, KEY, NEAR, NOW, Room, Said, Scenario, Setting, Stopped, Zone, parse, run, value,
};

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not 0")
}

/// By prefix, so that the counts of lengths matter.
fn keyval(size: u64) -> Zone {
    let zone = KeyvalZone::builder("z").origin(origin(1)).size(size).max_record(64).match_by(MatchBy::Prefix);
    let zone = zone.tombstone_retention(Duration::from_secs(5)).region(Region::anonymous().huge_pages(false));
    Zone::Keyval(zone.build().expect("a zone"))
}

/// An access is recorded after a second, and published after eight.
fn sticky(size: u64) -> Zone {
    let zone = StickyZone::builder("z").origin(origin(1)).size(size).max_record(64);
    let zone = zone.timeout(Duration::from_secs(64)).tombstone_retention(Duration::from_secs(5));
    Zone::Sticky(zone.region(Region::anonymous().huge_pages(false)).build().expect("a zone"))
}

const KEYVAL: Setting = Setting {
    room: Room::Enough,
    zone: || keyval(8 << 10),
    scripts: &[
        "get insert:4 get publish remove get insert:5 visit update:6 update get sweep get",
        "sweep get set:5 get remove set:6 publish visit",
        "publish remove get insert:8 remove insert:7 publish",
        "near/set:5 insert:5 get near/remove remove near/set:6 get publish",
        "set:4 set:5 set:6 set:7 publish remove set:8 set:9 get",
        "near/remove get update get insert:3 visit get",
    ],
};

/// Values of one length only: where a record may find no room, a larger one need not.
const FULL_SCRIPTS: &[&str] = &[
    "get set:7 get publish set:10 remove get set:4 visit update:7 sweep get",
    "sweep get update near/set:4 get remove insert:7 get publish",
    "near/remove get set:7 near/set:7 set:10 get publish",
    "remove get near/remove near/set:4 insert:4 get",
];
const FULL_BUCKETS: Setting = Setting { room: Room::Full, zone: || keyval(8 << 10), scripts: FULL_SCRIPTS };
const FULL: Setting = Setting { room: Room::Full, zone: || keyval(6 << 10), scripts: FULL_SCRIPTS };

const STICKY_SCRIPTS: &[&str] = &[
    "peek get set:4 get publish remove get set:5 visit set:5 sweep get",
    "sweep get set:1 get remove set:6 publish visit",
    "publish remove get set:7 remove set:8 publish",
    "near/set:5 set:5 get near/remove remove near/set:6 get publish",
    "set:4 set:5 set:6 set:7 publish get set:8 set:9 get",
];
const STICKY: Setting = Setting { room: Room::Enough, zone: || sticky(8 << 10), scripts: STICKY_SCRIPTS };
const EVICTING: Setting = Setting { room: Room::Evicting, zone: || sticky(6 << 10), scripts: STICKY_SCRIPTS };

/// A scenario's name, what comes before it, and the operation that is stopped.
type Named = (&'static str, fn(&Case), Stopped);

/// Stops each operation at every access.
fn check(setting: &Setting, scenarios: &[Named]) {
    let scripts: Vec<_> = setting.scripts.iter().map(|script| parse(script)).collect();
    for &(name, prepare, stopped) in scenarios {
        let scenario = Scenario { prepare, stopped };
        at_every_access(name, scripts.len(), |script, first, then| {
            run(setting, &scenario, &scripts[script], first, then)
        });
    }
}

/// The key and three of its neighbours.
fn some(case: &Case) {
    case.set_before(0..4, 1);
}

fn others(case: &Case) {
    case.set_before(1..4, 1);
}

#[test]
fn a_stopped_keyval_request_stops_nobody() {
    let removed = |case: &Case| {
        some(case);
        assert_eq!(case.act(&case.keys[KEY], Act::Remove, NOW), Said::Done);
    };
    check(
        &KEYVAL,
        &[
            ("set of a new key", |case| case.set_before(1..6, 1), Stopped::On(Act::Set(2))),
            ("insert", |case| case.set_before(NEAR, 1), Stopped::On(Act::Insert(2))),
            ("insert into an empty bucket", |_| (), Stopped::On(Act::Insert(2))),
            ("insert of a key that is there", some, Stopped::On(Act::Insert(2))),
            ("insert in place of a tombstone", removed, Stopped::On(Act::Insert(2))),
            ("set", some, Stopped::On(Act::Set(4))),
            ("set of a larger value", |case| case.set_before(0..4, 3), Stopped::On(Act::Set(2))),
            ("update", some, Stopped::On(Act::Update(Some(2)))),
            ("update of the expiry", |case| case.set_before(0..4, 2), Stopped::On(Act::Update(None))),
            ("remove", some, Stopped::On(Act::Remove)),
            ("get", some, Stopped::On(Act::Get)),
            ("iteration", some, Stopped::Visit),
        ],
    );
}

#[test]
fn a_stopped_request_to_a_full_keyval_zone_stops_nobody() {
    check(
        &FULL_BUCKETS,
        &[
            (
                "set in the overflow area",
                |case| case.set_before(1..2 * BUCKET + 1, 1),
                Stopped::On(Act::Set(4)),
            ),
            ("set in full buckets", |case| case.set_before(1..3 * BUCKET + 1, 1), Stopped::On(Act::Set(4))),
        ],
    );
    let full = |case: &Case| {
        some(case);
        case.fill();
    };
    let full_of_others = |case: &Case| {
        others(case);
        case.fill();
    };
    check(
        &FULL,
        &[
            ("set by way of the reserve", full, Stopped::On(Act::Set(4))),
            ("remove by way of the reserve", full, Stopped::On(Act::Remove)),
            ("insert into a full zone", full_of_others, Stopped::On(Act::Insert(4))),
            ("insert in place of an expired record", full_of_expired, Stopped::On(Act::Insert(4))),
        ],
    );
}

#[test]
fn a_stopped_sticky_request_stops_nobody() {
    check(
        &STICKY,
        &[
            ("learn a session", |case| case.set_before(1..6, 1), Stopped::On(Act::Set(2))),
            ("learn another server", some, Stopped::On(Act::Set(2))),
            ("learn the same server", some, Stopped::On(Act::Set(1))),
            (
                "lookup that records the access",
                |case| {
                    others(case);
                    case.act(&case.keys[KEY], Act::Set(1), Time::from_millis(NOW.as_millis() - 2_000));
                },
                Stopped::On(Act::Get),
            ),
            ("lookup that has the access published", some, Stopped::On(Act::Get)),
            ("forget", some, Stopped::On(Act::Remove)),
        ],
    );
    check(
        &EVICTING,
        &[
            ("learn in a full zone", Case::fill, Stopped::On(Act::Set(4))),
            ("learn a large one in a full zone", Case::fill, Stopped::On(Act::Set(2))),
            (
                "lookup in a full zone",
                |case| {
                    case.fill();
                    case.act(&case.keys[KEY], Act::Set(1), BEFORE);
                },
                Stopped::On(Act::Get),
            ),
        ],
    );
    let setting = Setting { zone: || sticky(8 << 10), ..EVICTING };
    let full_buckets = |case: &Case| case.set_before(1..2 * BUCKET + 1, 1);
    check(&setting, &[("learn in full buckets", full_buckets, Stopped::On(Act::Set(2)))]);
}

#[test]
fn a_stopped_sweep_stops_nobody() {
    check(&KEYVAL, &[("sweep of a keyval zone", sweepable, Stopped::Sweep)]);
    check(&STICKY, &[("sweep of a sticky zone", sweepable, Stopped::Sweep)]);
}

#[test]
fn stopped_replication_stops_no_request() {
    check(
        &KEYVAL,
        &[
            (
                "publish",
                |case| {
                    some(case);
                    case.act(&case.keys[2], Act::Remove, BEFORE);
                },
                Stopped::Publish,
            ),
            ("row of a new key", others, Stopped::Row(Act::Set(2))),
            ("row", some, Stopped::Row(Act::Set(2))),
            ("row of a removal", some, Stopped::Row(Act::Remove)),
            (
                "row of a newcomer",
                |case| {
                    some(case);
                    let origins: VersionVector = (100..131).map(|raw| (origin(raw), 1)).collect();
                    case.replica().cover(&origins);
                },
                Stopped::RowOfNewcomer(Act::Set(2)),
            ),
            (
                "adopt",
                |case| {
                    others(case);
                    case.publish();
                    case.apply(2, Act::Set(4), BEFORE.as_millis(), true);
                },
                Stopped::Adopt,
            ),
            (
                "scan",
                |case| {
                    some(case);
                    case.publish();
                },
                Stopped::Scan,
            ),
        ],
    );
    check(
        &STICKY,
        &[
            ("publish of an access", accessed, Stopped::Publish),
            ("row of another server", accessed, Stopped::Row(Act::Set(2))),
            ("row of an access", some, Stopped::RowOfAccess),
        ],
    );
}

/// Accessed twice: the first time is not worth telling.
fn accessed(case: &Case) {
    some(case);
    case.publish();
    assert_eq!(case.act(&case.keys[KEY], Act::Get, Time::from_millis(1_004_000)), Said::Value(Some(1)));
    assert_eq!(case.replica().dirty_count(), 0);
    assert_eq!(case.act(&case.keys[KEY], Act::Get, NOW), Said::Value(Some(1)));
    assert_eq!(case.replica().dirty_count(), 1);
}

/// A key that no script uses.
fn spare(number: u64) -> [u8; 8] {
    (u64::MAX / 2 + number).to_le_bytes()
}

/// A record that has expired.
fn set_expired(case: &Case, key: u64) -> bool {
    let long_ago = Time::from_millis(900_000);
    match &case.zone {
        Zone::Keyval(zone) => {
            zone.set(spare(key), value(1), BEFORE, Expiry::After(Duration::from_secs(1))).is_ok()
        }
        Zone::Sticky(zone) => zone.learn(spare(key), value(1), long_ago).is_ok(),
    }
}

fn full_of_expired(case: &Case) {
    others(case);
    assert!((0..3).all(|key| set_expired(case, key)));
    case.fill();
}

/// Something expired, something removed long ago, and an insert that was abandoned.
fn sweepable(case: &Case) {
    some(case);
    assert!((0..3).all(|key| set_expired(case, key)));
    assert_eq!(case.act(&spare(3), Act::Set(1), BEFORE), Said::Done);
    assert_eq!(case.act(&spare(3), Act::Remove, BEFORE), Said::Done);
    abandon(case.table(), &spare(4));
}

fn abandon(table: &Table, key: &[u8]) {
    let draft =
        Draft { key, value: &value(1), header: table.header(None, BEFORE, false, BEFORE.as_millis()) };
    let block = table.take(draft.units()).expect("room");
    table.parts.blocks.at(&table.region, block.unit).fill(&draft);
    let hash = table.hash(key);
    let candidates = table.parts.index.candidates(hash);
    let (at, empty) = table.parts.index.vacancy(&table.region, candidates).expect("room");
    table.tally(false, draft.units(), 1);
    table.parts.lengths.add(&table.region, key.len(), key[0], 1);
    assert!(table.parts.index.claim(&table.region, at, empty, empty.pending(Slot::tag_of(hash), block.unit)));
}
