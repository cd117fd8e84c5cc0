//! Prefault, huge pages, and a file system without room.

use std::fs;
use std::path::Path;
use std::process::Command;

use sync_store::{Error, Expiry, KeyvalZone, LimitZone, Prefault, Region, Replica as _, StickyZone};

use crate::child::NOW;
use crate::support::{Child, Deadline, Dir, say, wait_for};

const PREFAULTS: [Prefault; 3] = [Prefault::Never, Prefault::Beside, Prefault::First];

#[test]
fn memory_can_be_taken_in_any_way() {
    let dir = Dir::new();
    let ways =
        [false, true].into_iter().flat_map(|huge_pages| PREFAULTS.map(|prefault| (huge_pages, prefault)));
    for (number, (huge_pages, prefault)) in ways.enumerate() {
        let options = |region: Region| region.huge_pages(huge_pages).prefault(prefault);
        let size = (4 << 20) + 4096;
        for region in [Region::anonymous(), Region::map_file(dir.file(&format!("zone-{number}")))] {
            let file = region.path().map(Path::to_owned);
            let zone = KeyvalZone::builder("z").size(size).region(options(region)).build().expect("memory");
            zone.set("k", "v", NOW, Expiry::Never).expect("room");
            assert_eq!(zone.stats().size_bytes, size);
            if let Some(file) = file {
                assert_eq!(fs::metadata(&file).expect("a file").len(), size);
                assert_eq!(KeyvalZone::attach(&file).expect("a zone").get("k", NOW).expect("there"), "v");
                drop(zone);
                let region = options(Region::map_file(&file));
                let again = KeyvalZone::builder("z").size(size).region(region).build().expect("a zone");
                assert_eq!(again.get("k", NOW).expect("kept"), "v");
            }
        }
    }
}

/// Bytes of this process in memory: the second number of statm.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).expect("pages").parse().expect("a number");
    pages * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_touched_beside_while_it_is_used_and_no_longer_than_it_is_there() {
    let zone = |size: u64| {
        let region = Region::anonymous().prefault(Prefault::Beside);
        KeyvalZone::builder("z").size(size).region(region).build().expect("memory")
    };
    // Far more than other tests of this process take meanwhile.
    let size = 256 << 20;
    let before = resident();
    // Gone while it is touched.
    for _ in 0..20 {
        let zone = zone(1 << 30);
        zone.set("k", "v", NOW, Expiry::Never).expect("room");
    }
    // Whoever touches the last one has what it is at in hand; with it goes all that was touched before.
    wait_for("memory that is gone", || (resident() < before + size as usize / 4).then_some(()));
    let zone = zone(size);
    let mut number = 0u64;
    let deadline = Deadline::new();
    // What the records take is far less.
    while resident() < before + size as usize / 2 {
        assert!(!deadline.left().is_zero(), "it is not touched");
        number += 1;
        if number <= 1_000 {
            zone.set(number.to_le_bytes(), "v", NOW, Expiry::Never).expect("room");
        }
        std::thread::yield_now();
    }
    for number in 1..=number.min(1_000) {
        assert_eq!(zone.get(number.to_le_bytes(), NOW).expect("there"), "v");
    }
}

/// In a file system of one MiB.
pub(crate) fn child_without_room(dir: &Path) {
    let path = dir.join("zone");
    let is_nothing_there = || fs::metadata(&path).map_or(true, |file| file.len() == 0);
    for prefault in PREFAULTS {
        for size in [(1 << 20) + 4096, 4 << 20, 1 << 30] {
            let region = || Region::map_file(&path).prefault(prefault);
            let rate = "1r/s".parse().expect("a rate");
            let errors = [
                KeyvalZone::builder("z").size(size).region(region()).build().err(),
                StickyZone::builder("z").size(size).region(region()).build().err(),
                LimitZone::builder("z").size(size).rate(rate).region(region()).build().err(),
            ];
            for error in errors {
                assert!(matches!(error, Some(Error::Region { .. })), "{error:?}");
                assert!(is_nothing_there(), "a file of the wrong size");
            }
            assert!(KeyvalZone::attach(&path).is_err());
        }
        // There is room for a smaller one, in the same file.
        let size = 256 << 10;
        let zone = KeyvalZone::builder("z").size(size).region(Region::map_file(&path).prefault(prefault));
        let zone = zone.build().expect("room");
        let mut number = 0u64;
        while zone.set(number.to_le_bytes(), [7; 100], NOW, Expiry::Never).is_ok() {
            number += 1;
        }
        drop(zone);
        fs::remove_file(&path).expect("a file");
    }
    // Half made by a process that was killed before it had the memory, which has gone meanwhile: no request may be the one to find out.
    fs::write(dir.join("other"), vec![7; 900 << 10]).expect("room");
    fs::File::create(&path).and_then(|file| file.set_len(512 << 10)).expect("a file with a hole");
    let zone = KeyvalZone::builder("z").size(512 << 10).region(Region::map_file(&path)).build();
    assert!(matches!(zone, Err(Error::Region { .. })), "{zone:?}");
    say("checked");
}

#[test]
fn a_region_without_room_is_refused() {
    let dir = Dir::new();
    // A mount of its own, in a name space of its own: gone with the child.
    let script = "mount -t tmpfs -o size=1m none \"$SHARED_ARGUMENT\" && echo mounted >&2 && exec \"$@\"";
    let is_permitted = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", "true"]).env("SHARED_ARGUMENT", dir.path());
        command.output().is_ok_and(|output| output.status.success())
    };
    if !is_permitted(script) {
        eprintln!("skipped: this user may not mount a small file system");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(std::env::current_exe().expect("this binary"));
    let child = Child::start_by(command, "no-room", dir.path());
    child.expect("checked");
    child.end();
}
