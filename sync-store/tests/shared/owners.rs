//! The owner is killed or ends, and starts again; guests go on meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use sync_store::{Expiry, KeyvalZone, KeyvalZoneBuilder, Region, Replica as _, Time};

use crate::child::NOW;
use crate::rows::{catch_up, pass_on};
use crate::support::{Child, Dir, has_ended, hear, say, wait_for, watch};
use crate::work::{FastClock, SKEW, act};

/// Records that are written once, long before.
const STATIC: usize = 3_000;

fn build(size: u64) -> KeyvalZoneBuilder {
    KeyvalZone::builder("z").size(size).max_clock_skew(SKEW)
}

fn open(dir: &Path, file: &str) -> KeyvalZone {
    let region = || Region::map_file(dir.join(file));
    // A process that is just being started may hold what it inherits for a moment.
    wait_for("the region", || build(2 << 20).region(region()).build().ok())
}

/// Owns the zone and, to have something that outlives it, a peer's one too. Brings the peer up to date, then works and publishes.
pub(crate) fn child_owner(dir: &Path) {
    watch();
    let clock = FastClock::join(dir);
    let (zone, peer) = (open(dir, "zone"), open(dir, "peer"));
    say(&zone.origin().to_string());
    let missed = catch_up(&zone, &peer, clock.now()) + pass_on(&zone, &peer, clock.now(), usize::MAX);
    say(&missed.to_string());
    let mut rng = SmallRng::from_os_rng();
    let mut acts = 0u64;
    while !has_ended() {
        acts += 1;
        act(&zone, &mut rng, clock.now());
        if acts.is_multiple_of(16) {
            pass_on(&zone, &peer, clock.now(), rng.random_range(1..100));
        }
        if acts.is_multiple_of(64) {
            zone.sweep(clock.now(), 99);
            peer.sweep(clock.now(), 99);
        }
    }
    while zone.dirty_count() > 0 {
        pass_on(&zone, &peer, clock.now(), usize::MAX);
    }
}

/// A guest that writes ever larger numbers under a key that nobody else writes, besides working like others.
pub(crate) fn child_counter(dir: &Path) {
    watch();
    let clock = FastClock::join(dir);
    let zone = KeyvalZone::attach(dir.join("zone")).expect("a zone");
    let key = format!("counter-{}", std::process::id());
    say(&key);
    let mut rng = SmallRng::from_os_rng();
    let mut count = 0u64;
    while !has_ended() {
        count += 1;
        zone.set(&key, count.to_string(), clock.now(), Expiry::Never).expect("room");
        act(&zone, &mut rng, clock.now());
        assert_eq!(zone.get(&key, clock.now()).expect("nobody removes it"), count.to_string());
    }
    drop(zone);
    say(&count.to_string());
}

#[test]
fn owners_are_killed_at_work() {
    let dir = Dir::new();
    let clock = FastClock::start(dir.path());
    {
        let (zone, peer) = (open(dir.path(), "zone"), open(dir.path(), "peer"));
        let long_ago = Time::from_millis(clock.now().as_millis() - 3_600_000);
        for number in 0..STATIC {
            zone.set(format!("static-{number}"), number.to_string(), long_ago, Expiry::Never).expect("room");
        }
        assert_eq!(pass_on(&zone, &peer, clock.now(), usize::MAX), STATIC);
        zone.sweep(clock.now(), 0);
        peer.sweep(clock.now(), 0);
    }
    let guests: Vec<Child> = (0..2).map(|_| Child::start("counter", dir.path())).collect();
    let counters: Vec<String> = guests.iter().map(|guest| guest.hear().expect("a key")).collect();
    let mut rng = SmallRng::from_os_rng();
    let mut origins = HashSet::new();
    let mut missed = Vec::new();
    let mut owner = Child::start("owner", dir.path());
    for _ in 0..crate::kills() / 3 {
        // One in four is killed at any moment of its beginning, the others at work.
        if rng.random_range(0..4) > 0 {
            let origin = owner.hear().expect("an origin");
            assert!(origins.insert(origin), "an origin of an earlier run");
            missed.push(owner.hear().and_then(|missed| missed.parse::<usize>().ok()).expect("a number"));
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
        owner.kill();
        owner = Child::start("owner", dir.path());
    }
    // In an orderly way: the guests first, then the owner.
    let counts: Vec<(String, String)> = counters
        .into_iter()
        .zip(guests)
        .map(|(key, guest)| {
            let count = guest.end_saying();
            (key, count)
        })
        .collect();
    owner.hear().expect("an origin");
    owner.hear().expect("a number");
    owner.end();

    missed.sort_unstable();
    println!(
        "{} kills; rows that the peer had missed: {:?} to {:?}, median {:?}, of {STATIC} and some hundreds",
        crate::kills() / 3,
        missed.first(),
        missed.last(),
        missed.get(missed.len() / 2),
    );
    assert!(missed.last().is_none_or(|&most| most < STATIC / 4), "it was sent far more than it had missed");
    let (zone, peer) = (open(dir.path(), "zone"), open(dir.path(), "peer"));
    let now = clock.now();
    for zone in [&zone, &peer] {
        for number in 0..STATIC {
            assert_eq!(zone.get(format!("static-{number}"), now).expect("kept"), number.to_string());
        }
        for (key, count) in &counts {
            assert_eq!(zone.get(key, now).expect("kept"), *count, "the last that the guest wrote");
        }
    }
    let records: HashSet<Vec<u8>> = zone.iter(now).map(|(key, _)| key.into_vec()).collect();
    assert_eq!(records.len(), zone.len(now), "a key twice");
    for zone in [&zone, &peer] {
        (0..8).for_each(|_| _ = zone.sweep(now, usize::MAX));
        assert_eq!(zone.stats().records, zone.len(Time::from_millis(1)) as u64);
    }
    catch_up(&zone, &peer, now);
    assert_eq!(zone.digest(now), peer.digest(now), "what was changed was not published");
    check_memory(&zone, now);
    check_memory(&peer, now);
    assert_eq!(dir.guest_files(), [""; 0]);
}

/// All memory is there: an emptied zone takes as much as a new one.
fn check_memory(zone: &KeyvalZone, now: Time) {
    let fresh_dir = Dir::new();
    let fresh = open(fresh_dir.path(), "zone");
    let later = now.saturating_add(Duration::from_secs(3 * 3600));
    // The first time brings blocks that are at hand for each thread back to where they can grow together; after the second, few are at hand again.
    let fill = |zone: &KeyvalZone| {
        let [_, filled] = [now, later].map(|now| {
            zone.clear(now).expect("room for tombstones");
            (0..8).for_each(|_| {
                _ = zone.sweep(later.saturating_add(Duration::from_secs(3 * 3600)), usize::MAX)
            });
            let fits =
                |number: &usize| zone.set(number.to_le_bytes(), [7; 1500], later, Expiry::Never).is_ok();
            (0..).take_while(fits).count()
        });
        filled
    };
    let (filled, most) = (fill(zone), fill(&fresh));
    assert!(filled.abs_diff(most) < 8, "memory was lost: {filled} records instead of {most}");
}

/// Opens the zone and begins to publish; is stuck after ten rows, for example because nobody reads what it sends.
pub(crate) fn child_stuck_publisher(dir: &Path) {
    let zone = open(dir, "zone");
    zone.sweep(NOW.saturating_add(Duration::from_secs(7200)), 0);
    let mut rows = 0;
    zone.publish(NOW.saturating_add(Duration::from_secs(7200)), &mut |_| {
        rows += 1;
        if rows > 10 {
            say("stuck");
            assert_eq!(hear(), None);
        }
        true
    });
}

#[test]
fn an_owner_that_is_killed_while_it_publishes_has_its_work_done_by_the_next() {
    let dir = Dir::new();
    let zone = open(dir.path(), "zone");
    for number in 0..500 {
        zone.set(format!("key-{number}"), "value", NOW, Expiry::Never).expect("room");
    }
    // They have been waiting for long when they are published at last.
    zone.sweep(NOW.saturating_add(Duration::from_secs(3600)), 0);
    drop(zone);
    let owner = Child::start("stuck-publisher", dir.path());
    owner.expect("stuck");
    owner.kill();
    let later = NOW.saturating_add(Duration::from_secs(9000));
    let (zone, peer) = (open(dir.path(), "zone"), build(2 << 20).build().expect("a zone"));
    assert!(zone.wait_dirty(Duration::ZERO), "the publisher is called");
    assert_eq!(catch_up(&zone, &peer, later) + pass_on(&zone, &peer, later, usize::MAX), 500);
    assert_eq!(zone.digest(later), peer.digest(later));
}

/// Opens the zone, changes one record, and waits to be killed.
pub(crate) fn child_brief_owner(dir: &Path) {
    let zone = open(dir, "zone");
    let later = NOW.saturating_add(Duration::from_secs(600));
    zone.sweep(later, 0);
    zone.set("key-1", "changed", later, Expiry::Never).expect("room");
    say("changed");
    assert_eq!(hear(), None);
}

#[test]
fn an_owner_that_is_killed_leaves_to_the_next_what_it_had_not_published_and_no_more() {
    let dir = Dir::new();
    let zone = open(dir.path(), "zone");
    let peer = build(2 << 20).build().expect("a zone");
    for number in 0..500 {
        zone.set(format!("key-{number}"), "value", NOW, Expiry::Never).expect("room");
    }
    assert_eq!(pass_on(&zone, &peer, NOW, usize::MAX), 500);
    zone.sweep(NOW.saturating_add(Duration::from_secs(300)), 0);
    let first = zone.origin();
    drop(zone);
    let owner = Child::start("brief-owner", dir.path());
    owner.expect("changed");
    owner.kill();
    let later = NOW.saturating_add(Duration::from_secs(600));
    let zone = open(dir.path(), "zone");
    assert_ne!(zone.origin(), first);
    assert!(zone.wait_dirty(Duration::ZERO), "the publisher is called");
    assert_eq!(catch_up(&zone, &peer, later), 0);
    assert_eq!(pass_on(&zone, &peer, later, usize::MAX), 1);
    assert_eq!(peer.get("key-1", later).expect("there"), "changed");
    assert_eq!(zone.digest(later), peer.digest(later));
}

fn large(dir: &Path) -> KeyvalZone {
    let build = KeyvalZone::builder("z").size(2 << 20).max_record(64 << 10).record_size(32 << 10);
    // A process that is just being started may hold what it inherits for a moment.
    wait_for("the region", || build.clone().region(Region::map_file(dir.join("zone"))).build().ok())
}

/// Replaces a large record, so that it is nearly always in the middle of that.
pub(crate) fn child_large_owner(dir: &Path) {
    watch();
    let zone = large(dir);
    say("begins");
    while !has_ended() {
        zone.set("large", [b'x'; 60_000], NOW, Expiry::Never).expect("room");
    }
}

#[test]
fn memory_that_killed_owners_had_in_hand_comes_back_when_it_is_quiet() {
    const OWNERS: usize = 12;
    let (dir, fresh) = (Dir::new(), Dir::new());
    let zone = large(dir.path());
    // All the while a guest is in the middle of a write, so nobody can tell what is in whose hands.
    let mut guest = Child::start("write-large", dir.file("zone"));
    guest.expect("attached");
    wait_for("the guest to write", || zone.get("large-7", NOW));
    guest.stop();
    drop(zone);
    for _ in 0..OWNERS {
        let owner = Child::start("large-owner", dir.path());
        owner.expect("begins");
        std::thread::sleep(Duration::from_micros(300));
        owner.kill();
    }
    let zone = large(dir.path());
    zone.set("stop", "", NOW, Expiry::Never).expect("room");
    guest.signal(Signal::CONT);
    guest.expect("stopped");
    guest.end();
    (0..16).for_each(|_| _ = zone.sweep(NOW, 0));
    let later = NOW.saturating_add(Duration::from_secs(7200));
    let fill = |zone: &KeyvalZone| {
        zone.clear(NOW).expect("room for tombstones");
        (0..8).for_each(|_| _ = zone.sweep(later, usize::MAX));
        let fits = |number: &usize| zone.set(number.to_le_bytes(), [7; 60_000], later, Expiry::Never).is_ok();
        (0..).take_while(fits).count()
    };
    let (filled, most) = (fill(&zone), fill(&large(fresh.path())));
    assert!(filled.abs_diff(most) <= 1, "memory was lost: {filled} records instead of {most}");
}

#[test]
fn an_owner_that_ends_in_an_orderly_way_starts_where_it_was() {
    let dir = Dir::new();
    let peer = build(2 << 20).build().expect("a zone");
    let zone = open(dir.path(), "zone");
    let first = zone.origin();
    for number in 0..100 {
        zone.set(format!("key-{number}"), "published", NOW, Expiry::Never).expect("room");
    }
    assert_eq!(pass_on(&zone, &peer, NOW, usize::MAX), 100);
    let later = NOW.saturating_add(Duration::from_secs(600));
    zone.sweep(later, 0);
    zone.set("key-1", "unpublished", later, Expiry::Never).expect("room");
    assert!(zone.remove("key-2", later).expect("room"));
    drop(zone);

    let zone = open(dir.path(), "zone");
    assert_ne!(zone.origin(), first);
    assert_eq!(zone.len(later), 99);
    assert_eq!(zone.get("key-1", later).expect("kept"), "unpublished");
    assert_eq!(zone.get("key-2", later), None);
    assert_eq!(zone.vector().get(first), 100, "what the first owner had published");
    assert!(zone.wait_dirty(Duration::ZERO), "the publisher is called");
    assert_eq!(catch_up(&zone, &peer, later), 0, "the peer has that");
    assert_eq!(pass_on(&zone, &peer, later, usize::MAX), 2, "what was not published, and only that");
    assert_eq!(zone.digest(later), peer.digest(later));
    // A peer that comes later learns everything, from dots of both owners.
    let late = build(2 << 20).build().expect("a zone");
    assert_eq!(catch_up(&zone, &late, later), 100);
    assert_eq!(zone.digest(later), late.digest(later));
}

#[test]
fn a_small_zone_has_had_more_owners_than_it_keeps_origins() {
    let dir = Dir::new();
    let open = || {
        let zone = || build(32 << 10).region(Region::map_file(dir.file("zone")));
        wait_for("the region", || zone().build().ok())
    };
    let peer = build(256 << 10).build().expect("a zone");
    let zone = open();
    for number in 0..40 {
        zone.set(format!("static-{number}"), "value", NOW, Expiry::Never).expect("room");
    }
    drop(zone);
    for run in 0..100u64 {
        let now = NOW.saturating_add(Duration::from_secs(run * 600));
        let zone = open();
        zone.set(format!("key-{}", run % 50), run.to_string(), now, Expiry::Never).expect("room");
        catch_up(&zone, &peer, now);
        pass_on(&zone, &peer, now, usize::MAX);
        zone.sweep(now, 0);
        assert_eq!(zone.digest(now), peer.digest(now), "run {run}");
    }
    assert_eq!(open().len(NOW), 90);
}
