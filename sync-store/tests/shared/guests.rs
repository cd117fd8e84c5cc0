//! Guests are killed, come and go, are stopped for a long time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use sync_store::{Error, Expiry, KeyvalZone, KeyvalZoneBuilder, Region, Replica as _};

use crate::child::NOW;
use crate::intact::check_all;
use crate::rows::{catch_up, pass_on};
use crate::support::{Child, Dir, hear, say, wait_for};
use crate::work::{FastClock, Replicas, Zones};

/// Guests at work at the same time.
const GUESTS: usize = 4;
/// Places for guests.
const PLACES: usize = 15;

#[test]
fn guests_are_killed_at_work() {
    let dir = Dir::new();
    let clock = FastClock::start(dir.path());
    let zones = Zones::own(dir.path()).expect("zones");
    let replicas = Replicas::new().expect("zones");
    let mut rng = SmallRng::from_os_rng();
    let start = || Child::start("work", dir.path());
    let mut guests: Vec<Child> = (0..GUESTS).map(|_| start()).collect();

    let (mut acts, mut sent, mut sweeps) = (0, 0, 0);
    for _ in 0..crate::kills() {
        // Its random length makes the moment of the kill a random one.
        for _ in 0..rng.random_range(0..100) {
            acts += 1;
            zones.act(&mut rng, clock.now());
            if acts % 32 == 0 {
                // Often not all that is dirty.
                sent += replicas.take(&zones, clock.now(), rng.random_range(1..400));
            }
            if acts % 100 == 0 {
                sweeps += 1;
                zones.all().iter().for_each(|zone| _ = zone.sweep(clock.now(), 64));
            }
        }
        let guest = guests.swap_remove(rng.random_range(0..GUESTS));
        // One in eight is killed at any moment of its beginning, the others at work.
        if rng.random_range(0..8) > 0 {
            guest.expect("attached");
        }
        guest.kill();
        zones.all().iter().for_each(|zone| _ = zone.sweep(clock.now(), 64));
        guests.push(start());
    }
    println!("{} kills, {acts} acts of the owner, {sweeps} sweeps, {sent} rows", crate::kills());
    for zone in zones.all() {
        println!("{}: {:?}", zone.name(), zone.stats());
    }
    guests.into_iter().for_each(Child::kill);
    wait_for("the dead to be looked after", || {
        zones.all().iter().for_each(|zone| _ = zone.sweep(clock.now(), 64));
        // A guest that was killed before it had its place leaves a lock file, which the next one takes.
        let many: Result<Vec<Zones>, _> = (0..PLACES).map(|_| Zones::attach(dir.path())).collect();
        let _ = many.ok()?;
        dir.guest_files().is_empty().then_some(())
    });
    let now = clock.now();
    replicas.check(&zones, now);
    check_all(&zones, now);
}

#[test]
fn guests_come_and_go_while_others_are_killed() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let owner =
        KeyvalZone::builder("z").size(256 << 10).region(Region::map_file(&path)).build().expect("a zone");
    let mut rng = SmallRng::from_os_rng();
    let start = || {
        let guest = Child::start("come-and-go", &path);
        guest.expect("begins");
        guest
    };
    let mut guests: Vec<Child> = (0..4).map(|_| start()).collect();
    for _ in 0..crate::kills() / 3 {
        (0..rng.random_range(1..40)).for_each(|_| _ = owner.sweep(NOW, 64));
        guests.swap_remove(rng.random_range(0..4)).kill();
        owner.sweep(NOW, 64);
        guests.push(start());
    }
    guests.into_iter().for_each(Child::end);
    wait_for("the dead to be looked after", || {
        owner.sweep(NOW, 64);
        let many: Result<Vec<_>, _> = (0..PLACES).map(|_| KeyvalZone::attach(&path)).collect();
        let _ = many.ok()?;
        dir.guest_files().is_empty().then_some(())
    });
}

fn large() -> KeyvalZoneBuilder {
    KeyvalZone::builder("z").size(2 << 20).max_record(64 << 10).record_size(32 << 10)
}

/// That what a guest was writing when it was stopped is whole and reaches a peer, whatever happens before it goes on.
fn stopped_and_continued(trials: usize, mut meanwhile: impl FnMut(&Dir, KeyvalZone) -> KeyvalZone) {
    for _ in 0..trials {
        let dir = Dir::new();
        let path = dir.file("zone");
        let mut owner = large().region(Region::map_file(&path)).build().expect("a zone");
        let replica = large().build().expect("a zone");
        let mut guest = Child::start("write-large", &path);
        guest.expect("attached");
        wait_for("the guest to write", || owner.get("large-7", NOW));
        guest.stop();
        pass_on(&owner, &replica, NOW, usize::MAX);
        owner = meanwhile(&dir, owner);
        catch_up(&owner, &replica, NOW);
        pass_on(&owner, &replica, NOW, usize::MAX);
        owner.set("stop", "", NOW, Expiry::Never).expect("room");
        guest.signal(Signal::CONT);
        guest.expect("stopped");
        catch_up(&owner, &replica, NOW);
        pass_on(&owner, &replica, NOW, usize::MAX);
        for number in 0..8 {
            let value = owner.get(format!("large-{number}"), NOW).expect("written");
            assert!(value.len() == 60_000 && value.iter().all(|&byte| byte == b'x'), "torn");
        }
        assert_eq!(owner.digest(NOW), replica.digest(NOW), "what the guest wrote is not published");
        guest.end();
    }
}

#[test]
fn a_guest_is_stopped_while_the_owner_starts_again() {
    stopped_and_continued(crate::kills() / 4, |dir, owner| {
        let before = owner.origin();
        drop(owner);
        let region = || Region::map_file(dir.file("zone"));
        let owner = wait_for("the region", || large().region(region()).build().ok());
        assert_ne!(owner.origin(), before);
        owner
    });
}

#[test]
fn a_guest_is_stopped_while_others_are_killed() {
    stopped_and_continued(crate::kills() / 10, |dir, owner| {
        let guest = Child::start("write-large", dir.file("zone"));
        guest.expect("attached");
        guest.kill();
        for round in 0..40u64 {
            owner.sweep(NOW, 999);
            // All memory that is free is used, whatever was in it.
            _ = owner.set(format!("other-{round}"), vec![b'y'; 60_000], NOW, Expiry::Never);
        }
        owner.clear(NOW).expect("room for tombstones");
        for number in 0..8 {
            _ = owner.set(format!("large-{number}"), vec![b'x'; 60_000], NOW, Expiry::Never);
        }
        owner
    });
}

/// Owns a zone by a relative path, and is somewhere else afterwards, like a daemon.
pub(crate) fn child_daemon(dir: &Path) {
    std::env::set_current_dir(dir).expect("a directory");
    let zone = KeyvalZone::builder("z").size(64 << 10).region(Region::map_file("zone"));
    let zone = zone.build().expect("a zone");
    std::env::set_current_dir("/").expect("a directory");
    say("owns");
    while hear().is_some() {
        zone.sweep(NOW, 99);
        say("swept");
    }
}

#[test]
fn an_owner_that_changes_its_directory_finds_its_guests() {
    let dir = Dir::new();
    let mut owner = Child::start("daemon", dir.path());
    owner.expect("owns");
    let link = dir.file("link");
    std::os::unix::fs::symlink(dir.file("zone"), &link).expect("a link");
    let guests = [dir.file("zone"), link].map(|path| {
        let guest = Child::start("keyval", path);
        guest.expect("attached");
        guest
    });
    owner.tell("sweep");
    owner.expect("swept");
    assert_eq!(dir.guest_files().len(), 2, "they live");
    guests.into_iter().for_each(Child::kill);
    owner.tell("sweep");
    owner.expect("swept");
    assert_eq!(dir.guest_files(), [""; 0], "they are dead");
    owner.end();
}

#[test]
fn guests_of_several_users_are_welcome() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let owner =
        KeyvalZone::builder("z").size(64 << 10).region(Region::map_file(&path)).build().expect("a zone");
    let of_user = |user| {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.uid(user);
        command
    };
    if !of_user(1001).arg("--list").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not start processes of others");
        return;
    }
    permit(dir.path(), 0o777);
    Child::start_by(of_user(1001), "keyval", &path).expect(&format!(
        "{:?}",
        Error::Region { path: path.clone(), reason: std::io::Error::from_raw_os_error(13).to_string() }
    ));
    permit(&path, 0o666);
    let guests = [1001, 1002, 1003].map(|user| {
        let guest = Child::start_by(of_user(user), "keyval", &path);
        guest.expect("attached");
        guest
    });
    assert_eq!(dir.guest_files().len(), 3);
    guests.into_iter().for_each(Child::kill);
    owner.sweep(NOW, 99);
    assert_eq!(dir.guest_files(), [""; 0]);
}
