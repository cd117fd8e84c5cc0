//! A guest reads and writes what the owner does; what it writes is published; the publisher is woken by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use sync_store::{
    Check, Error, Expiry, KeyvalZone, LimitZone, MatchBy, Outcome, Region, Replica, StickyZone, VersionVector,
};

use crate::child::NOW;
use crate::rows::pass_on;
use crate::support::{Child, Deadline, Dir, LIMIT};

fn ask(child: &mut Child, line: &str) -> String {
    child.tell(line);
    child.hear().expect("an answer")
}

#[test]
fn a_guest_shares_a_keyval_zone() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let build = || KeyvalZone::builder("blocked").size(256 << 10).timeout(Duration::from_secs(60));
    let owner = build().region(Region::map_file(&path)).build().expect("a zone");
    let replica = build().build().expect("a zone");
    owner.set("a", "of-the-owner", NOW, Expiry::Default).expect("room");

    let mut guest = Child::start("keyval", &path);
    guest.expect("attached");
    assert_eq!(dir.guest_files(), ["zone.guest-1"]);
    assert_eq!(ask(&mut guest, "get a"), "of-the-owner");
    assert_eq!(ask(&mut guest, "set b of-the-guest"), "Ok(())");
    assert_eq!(owner.get("b", NOW).expect("written by the guest"), "of-the-guest");
    let entry = owner.entry("b", NOW).expect("written by the guest");
    assert_eq!(entry.writer, owner.origin(), "a guest writes in the name of the node");
    assert_eq!(
        entry.expires_at,
        Some(NOW.saturating_add(Duration::from_secs(60))),
        "by the owner's time-out"
    );
    assert_eq!(ask(&mut guest, "remove a"), "Ok(true)");
    assert_eq!(owner.get("a", NOW), None);
    assert_eq!(owner.stats().records, 1);

    assert_eq!(pass_on(&owner, &replica, NOW, usize::MAX), 2);
    assert_eq!(replica.get("b", NOW).expect("published"), "of-the-guest");
    assert_eq!(owner.digest(NOW), replica.digest(NOW));
    // And what a peer sends is there for the guest.
    replica.set("c", "of-a-peer", NOW, Expiry::Never).expect("room");
    assert_eq!(pass_on(&replica, &owner, NOW, usize::MAX), 1);
    assert_eq!(ask(&mut guest, "get c"), "of-a-peer");
    guest.end();
    assert_eq!(dir.guest_files(), [""; 0]);
    assert_eq!(owner.get("b", NOW).expect("still there"), "of-the-guest");
}

#[test]
fn a_guest_finds_by_range_and_by_prefix() {
    let dir = Dir::new();
    for (match_by, set, asked) in
        [(MatchBy::Ip, "10.0.0.0/8", "10.1.2.3"), (MatchBy::Prefix, "/static/", "/static/logo.png")]
    {
        let path = dir.file(set.split(['/', '.']).find(|part| !part.is_empty()).expect("a part"));
        let zone = KeyvalZone::builder("z").size(64 << 10).match_by(match_by);
        let owner = zone.region(Region::map_file(&path)).build().expect("a zone");
        let mut guest = Child::start("keyval", &path);
        guest.expect("attached");
        assert_eq!(ask(&mut guest, &format!("lookup {asked}")), "-");
        owner.set(set, "found", NOW, Expiry::Never).expect("room");
        assert_eq!(ask(&mut guest, &format!("lookup {asked}")), "found");
        assert_eq!(ask(&mut guest, &format!("remove {set}")), "Ok(true)");
        assert_eq!(owner.lookup(asked, NOW), None);
        guest.end();
    }
}

#[test]
fn a_guest_shares_a_sticky_zone() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let build = || StickyZone::builder("sessions").size(256 << 10).timeout(Duration::from_secs(100));
    let owner = build().region(Region::map_file(&path)).build().expect("a zone");
    let replica = build().build().expect("a zone");
    owner.learn("s1", "server-1", NOW).expect("room");
    let mut guest = Child::start("sticky", &path);
    guest.expect("attached");
    assert_eq!(ask(&mut guest, "lookup s1"), "server-1");
    assert_eq!(ask(&mut guest, "learn s2 server-2"), "Ok(())");
    assert_eq!(owner.lookup("s2", NOW).expect("learned by the guest"), "server-2");
    assert_eq!(pass_on(&owner, &replica, NOW, usize::MAX), 2);
    assert_eq!(owner.digest(NOW), replica.digest(NOW));
    // An access by a guest keeps a session alive, on the peer too.
    assert_eq!(ask(&mut guest, "lookup-later s1 90000"), "server-1");
    let (accessed, later) =
        (NOW.saturating_add(Duration::from_secs(90)), NOW.saturating_add(Duration::from_secs(150)));
    assert_eq!(pass_on(&owner, &replica, accessed, usize::MAX), 1);
    for zone in [&owner, &replica] {
        assert_eq!(zone.peek("s1", later).expect("accessed since"), "server-1");
        assert_eq!(zone.peek("s2", later), None);
    }
    assert_eq!(ask(&mut guest, "forget s1"), "Ok(true)");
    assert_eq!(owner.peek("s1", NOW), None);
    assert_eq!(pass_on(&owner, &replica, NOW, usize::MAX), 1);
    assert_eq!(replica.peek("s1", NOW), None);
    guest.end();
}

#[test]
fn a_guest_shares_a_limit_zone() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let build = || LimitZone::builder("req").size(64 << 10).rate("1r/h".parse().expect("a rate")).burst(3);
    let owner = build().region(Region::map_file(&path)).build().expect("a zone");
    let replica = build().build().expect("a zone");
    let mut guest = Child::start("limit", &path);
    guest.expect("attached");
    assert_eq!(owner.check("k", &Check::default(), NOW).outcome, Outcome::Passed);
    assert_eq!(ask(&mut guest, "check k"), "DELAYED");
    assert_eq!(owner.check("k", &Check::default(), NOW).outcome, Outcome::Delayed);
    assert_eq!(ask(&mut guest, "check k"), "DELAYED");
    assert_eq!(ask(&mut guest, "check k"), "REJECTED");
    assert_eq!(owner.check("k", &Check::default(), NOW).outcome, Outcome::Rejected);
    assert_eq!(pass_on(&owner, &replica, NOW, usize::MAX), 1);
    assert_eq!(replica.check("k", &Check::default(), NOW).outcome, Outcome::Rejected);
    assert_eq!(owner.digest(NOW), replica.digest(NOW));
    assert_eq!(ask(&mut guest, "forget k"), "true");
    assert_eq!(owner.check("k", &Check::default(), NOW).outcome, Outcome::Passed);
    guest.end();
}

#[test]
fn replication_is_for_the_owner() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let owner =
        KeyvalZone::builder("z").size(64 << 10).region(Region::map_file(&path)).build().expect("a zone");
    let guest = KeyvalZone::attach(&path).expect("an owner");
    guest.set("k", "v", NOW, Expiry::Never).expect("room");
    assert_eq!(guest.origin(), owner.origin(), "one node, one origin");
    assert_eq!(guest.publish(NOW, &mut |_| true), (0, 0));
    assert_eq!(guest.sweep(NOW, 99), 0);
    assert!(!guest.adopt(&[]));
    let refused = Err(Error::NotTheOwner { zone: "z".to_owned() });
    let peer = sync_store::Origin::random();
    assert_eq!(guest.apply_batch(NOW, peer, 0, 0, &mut std::iter::empty()), refused);
    assert_eq!(guest.apply_states(NOW, &mut std::iter::empty()), refused);
    guest.cover(&[(peer, 5)].into_iter().collect::<VersionVector>());
    assert_eq!(owner.vector().get(peer), 0);
    assert_eq!(owner.dirty_count(), 1);
    assert_eq!(owner.publish(NOW, &mut |_| true), (0, 1));
}

/// Unparks a thread and says so.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

#[test]
fn a_guest_wakes_the_publisher() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let owner =
        KeyvalZone::builder("z").size(64 << 10).region(Region::map_file(&path)).build().expect("a zone");
    let mut guest = Child::start("keyval", &path);
    guest.expect("attached");
    // Several times, since whether the publisher is asleep already when the write comes is up to the system.
    for round in 0..50 {
        let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&unpark));
        assert_eq!(owner.poll_dirty(&mut Context::from_waker(&waker)), Poll::Pending);
        guest.tell(&format!("set k {round}"));
        let deadline = Deadline::new();
        while !unpark.woken.load(Ordering::SeqCst) {
            assert!(!deadline.left().is_zero(), "not woken");
            std::thread::park_timeout(deadline.left());
        }
        assert!(owner.poll_dirty(&mut Context::from_waker(&waker)).is_ready());
        guest.expect("Ok(())");
        let mut published = Vec::new();
        owner.publish(NOW, &mut |record| {
            published.push(record.key.to_vec());
            true
        });
        assert_eq!(published, [b"k"]);

        assert!(!owner.wait_dirty(Duration::ZERO));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| owner.wait_dirty(LIMIT));
            guest.tell("remove k");
            assert!(waits.join().expect("it waits"), "not woken");
        });
        guest.expect("Ok(true)");
        owner.publish(NOW, &mut |_| true);
    }
    guest.end();
}
