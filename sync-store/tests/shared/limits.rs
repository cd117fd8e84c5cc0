//! Limit zones: what is left when guests are killed, and when the owner is.

use std::path::Path;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sync_store::{Check, LimitZone, LimitZoneBuilder, Outcome, Region, Replica as _};

use crate::child::NOW;
use crate::rows::pass_on;
use crate::support::{Child, Dir, has_ended, hear, say, wait_for, watch};

fn build() -> LimitZoneBuilder {
    LimitZone::builder("req").size(16 << 10).rate("1r/h".parse().expect("a rate")).burst(3)
}

/// Checks more keys than there are entries, so that entries change hands all the time.
fn check_some(zone: &LimitZone, rng: &mut SmallRng, checks: usize) {
    for _ in 0..checks {
        zone.check(rng.random_range(0..2_000u64).to_le_bytes(), &Check::default(), NOW);
    }
}

/// How many entries are in use when far more keys were checked than there are.
fn entries(zone: &LimitZone) -> u64 {
    (0..20_000u64).for_each(|key| _ = zone.check(key.to_le_bytes(), &Check::default(), NOW));
    zone.stats().records
}

pub(crate) fn child_claims(path: &Path) {
    watch();
    let zone = LimitZone::attach(path).expect("fewer guests than places");
    say("attached");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut rng = SmallRng::from_os_rng();
                while !has_ended() {
                    check_some(&zone, &mut rng, 100);
                }
            });
        }
    });
}

#[test]
fn a_killed_guest_leaves_no_entry_claimed() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let owner = build().region(Region::map_file(&path)).build().expect("a zone");
    let all = entries(&build().region(Region::map_file(dir.file("fresh"))).build().expect("a zone"));
    let mut rng = SmallRng::from_os_rng();
    let start = || {
        let guest = Child::start("claims", &path);
        guest.expect("attached");
        guest
    };
    let mut guests: Vec<Child> = (0..4).map(|_| start()).collect();
    for kill in 0..crate::kills() {
        check_some(&owner, &mut rng, 500);
        let victim = kill % guests.len();
        guests.swap_remove(victim).kill();
        owner.sweep(NOW, 16);
        owner.publish(NOW, &mut |_| true);
        guests.push(start());
    }
    // The last one is at work when the others are looked after, and leaves in an orderly way: nobody looks for the dead again.
    let last = guests.pop().expect("there are several");
    guests.into_iter().for_each(Child::kill);
    wait_for("the dead to be looked after", || {
        owner.sweep(NOW, 16);
        (dir.guest_files().len() == 1).then_some(())
    });
    last.end();
    (0..16).for_each(|_| _ = owner.sweep(NOW, 16));
    assert_eq!(entries(&owner), all, "an entry is still claimed");
}

/// Admits some requests, publishes some of those, and waits to be killed.
pub(crate) fn child_owner(path: &Path) {
    let zone = build().region(Region::map_file(path)).build().expect("a zone");
    zone.check("published", &Check::default(), NOW);
    zone.publish(NOW, &mut |_| true);
    for key in ["published", "unpublished"] {
        for _ in 0..2 {
            zone.check(key, &Check::default(), NOW);
        }
    }
    say("admitted");
    assert_eq!(hear(), None);
}

#[test]
fn what_was_admitted_counts_after_the_owner_was_killed() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let replica = build().build().expect("a zone");
    let owner = Child::start("limit-owner", &path);
    owner.expect("admitted");
    let mut guest = Child::start("limit", &path);
    guest.expect("attached");
    owner.kill();
    // The guest goes on without it.
    guest.tell("check unpublished");
    guest.expect("DELAYED");

    let owner = build().region(Region::map_file(&path)).build().expect("the zone");
    // Burst 3: four requests in all.
    assert_eq!(owner.check("published", &Check::default(), NOW).remaining(), 0);
    assert_eq!(owner.check("published", &Check::default(), NOW).outcome, Outcome::Rejected);
    guest.tell("check unpublished");
    guest.expect("DELAYED");
    assert_eq!(owner.check("unpublished", &Check::default(), NOW).outcome, Outcome::Rejected);
    // What the dead owner had not published, this one publishes.
    assert_eq!(pass_on(&owner, &replica, NOW, usize::MAX), 2);
    assert_eq!(replica.check("unpublished", &Check::default(), NOW).outcome, Outcome::Rejected);
    assert_eq!(replica.check("published", &Check { cost: 0, ..Check::default() }, NOW).remaining(), 1);
    // In an orderly way, too.
    drop(owner);
    let owner = wait_for("the region", || build().region(Region::map_file(&path)).build().ok());
    assert_eq!(owner.check("published", &Check::default(), NOW).outcome, Outcome::Rejected);
    assert_eq!(owner.check("unpublished", &Check::default(), NOW).outcome, Outcome::Rejected);
    assert_eq!(owner.stats().records, 2);
    guest.end();
}
