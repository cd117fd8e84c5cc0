//! What is refused, and that it is left as it was; and who may open the files.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use sync_store::{
    Error, Expiry, KeyvalZone, KeyvalZoneBuilder, LimitZone, LimitZoneBuilder, MatchBy, Prefault, Region,
    StickyZone, StickyZoneBuilder,
};

use crate::child::NOW;
use crate::support::{Child, Dir, say};

const SIZE: u64 = 64 << 10;
/// Where the header of a region has these words, in bytes.
const MAGIC_AT: u64 = 0;
const VERSION_AT: u64 = 8;
/// Places for guests.
const GUESTS: usize = 15;

fn keyval(path: &Path) -> KeyvalZoneBuilder {
    KeyvalZone::builder("z").size(SIZE).region(Region::map_file(path))
}

fn sticky(path: &Path) -> StickyZoneBuilder {
    StickyZone::builder("z").size(SIZE).region(Region::map_file(path))
}

fn limit(path: &Path) -> LimitZoneBuilder {
    let rate = "1r/s".parse().expect("a rate");
    LimitZone::builder("z").size(SIZE).rate(rate).region(Region::map_file(path))
}

/// How opening the zone in a file fails: as owner and as guest, as every kind of zone.
fn errors(path: &Path) -> (Vec<Error>, Vec<Error>) {
    let as_owner = [keyval(path).build().err(), sticky(path).build().err(), limit(path).build().err()];
    let as_guest =
        [KeyvalZone::attach(path).err(), StickyZone::attach(path).err(), LimitZone::attach(path).err()];
    let refused = |errors: [Option<Error>; 3]| errors.map(|error| error.expect("refused")).to_vec();
    (refused(as_owner), refused(as_guest))
}

fn not_a_region(path: &Path) -> Vec<Error> {
    vec![Error::NotARegion { path: path.to_owned() }; 3]
}

fn mismatch(path: &Path, what: &'static str, found: impl ToString, expected: impl ToString) -> Error {
    let (found, expected) = (found.to_string(), expected.to_string());
    Error::RegionMismatch { path: path.to_owned(), what, found, expected }
}

#[test]
fn a_foreign_file_is_left_as_it_is() {
    let dir = Dir::new();
    let path = dir.file("notes.txt");
    let size = usize::try_from(SIZE).expect("small");
    // Text; what begins like a half-made region but is none, as images of disks and discs do; what does so for longer.
    let behind = |zeros: usize| [vec![0; zeros], vec![b'x'; size - zeros]].concat();
    for content in [b"dear diary\n".repeat(size).split_at(size).0.to_vec(), behind(16), behind(32 << 10)] {
        fs::write(&path, &content).expect("a file");
        let (as_owner, as_guest) = errors(&path);
        assert_eq!(as_owner, not_a_region(&path));
        assert_eq!(as_guest, not_a_region(&path));
        assert!(fs::read(&path).expect("the file") == content, "it was changed");
    }
    fs::write(&path, "dear diary\n").expect("a file");
    let (as_owner, as_guest) = errors(&path);
    assert_eq!(as_owner, vec![mismatch(&path, "size", 11, SIZE); 3]);
    assert_eq!(as_guest, not_a_region(&path));
    assert_eq!(fs::read(&path).expect("the file"), b"dear diary\n");
    assert_eq!(dir.guest_files(), [""; 0]);
}

#[test]
fn a_foreign_file_is_not_filled_by_prefault() {
    let dir = Dir::new();
    let path = dir.file("image");
    let file = File::create(&path).expect("a file");
    file.write_all_at(b"an image of a disk", 0).expect("written");
    file.set_len(SIZE).expect("the rest is a hole");
    let blocks = file.metadata().expect("its metadata").blocks();
    let error = keyval(&path).region(Region::map_file(&path).prefault(Prefault::First)).build().err();
    assert_eq!(error, Some(Error::NotARegion { path: path.clone() }));
    assert_eq!(file.metadata().expect("its metadata").blocks(), blocks, "holes were filled");
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = Dir::new();
    let failed = |errors: &[Error]| errors.iter().all(|error| matches!(error, Error::Region { .. }));
    for path in [PathBuf::new(), dir.path().to_owned(), dir.file("none/such"), "/dev/null/x".into()] {
        let (as_owner, as_guest) = errors(&path);
        assert!(failed(&as_owner), "{as_owner:?}");
        assert!(failed(&as_guest), "{as_guest:?}");
    }
    // Whoever reads from that waits for ever.
    let path = dir.file("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().expect("a pipe").success());
    let (as_owner, as_guest) = errors(&path);
    assert!(failed(&as_owner), "{as_owner:?}");
    assert_eq!(as_guest, not_a_region(&path));
    // Attaching makes nothing.
    let path = dir.file("absent");
    assert!(failed(&[KeyvalZone::attach(&path).expect_err("absent")]));
    assert!(!path.exists());
}

#[test]
fn an_empty_file_is_for_an_owner_to_make_a_zone_in() {
    let dir = Dir::new();
    let path = dir.file("zone");
    File::create(&path).expect("a file");
    assert_eq!(KeyvalZone::attach(&path).err(), Some(Error::NotARegion { path: path.clone() }));
    let owner = keyval(&path).build().expect("an empty file");
    owner.set("k", "v", NOW, Expiry::Never).expect("room");
    assert_eq!(KeyvalZone::attach(&path).expect("an owner").get("k", NOW).expect("written"), "v");
}

#[test]
fn another_zone_is_refused() {
    let dir = Dir::new();
    let path = dir.file("zone");
    keyval(&path).build().expect("a zone").set("k", "v", NOW, Expiry::Never).expect("room");
    let before = fs::read(&path).expect("the file");

    let kind = |expected| Some(mismatch(&path, "kind of zone", 1, expected));
    assert_eq!(sticky(&path).build().err(), kind(2));
    assert_eq!(limit(&path).build().err(), kind(3));
    assert_eq!(StickyZone::attach(&path).err(), kind(2));
    assert_eq!(LimitZone::attach(&path).err(), kind(3));
    let named = KeyvalZone::builder("other").size(SIZE).region(Region::map_file(&path));
    assert_eq!(named.build().err(), Some(mismatch(&path, "name of the zone", "z", "other")));
    for size in [SIZE / 2, SIZE * 2] {
        assert_eq!(keyval(&path).size(size).build().err(), Some(mismatch(&path, "size", SIZE, size)));
    }
    assert_eq!(keyval(&path).record_size(99).build().err(), Some(mismatch(&path, "record_size", 48, 99)),);
    assert_eq!(
        keyval(&path).max_record(999).build().err(),
        Some(mismatch(&path, "max_record", 16 << 10, 999)),
    );
    assert!(matches!(
        keyval(&path).match_by(MatchBy::Ip).build(),
        Err(Error::RegionMismatch { what: "type", .. })
    ));
    assert!(fs::read(&path).expect("the file") == before, "it was changed");
    // What may differ: how long things are kept.
    let owner = keyval(&path).timeout(Duration::from_secs(5)).build().expect("the same zone");
    assert_eq!(owner.get("k", NOW).expect("kept"), "v");
    assert_eq!(KeyvalZone::attach(&path).expect("an owner").timeout(), Some(Duration::from_secs(5)));
}

#[test]
fn another_layout_version_is_refused() {
    let dir = Dir::new();
    let path = dir.file("zone");
    keyval(&path).build().expect("a zone");
    let file = File::options().read(true).write(true).open(&path).expect("the file");
    let mut word = [0; 8];
    file.read_exact_at(&mut word, VERSION_AT).expect("a header");
    let version = u64::from_le_bytes(word) >> 8;
    for other in [0, version - 1, version + 1, u64::MAX >> 8] {
        file.write_all_at(&(other << 8 | 1).to_le_bytes(), VERSION_AT).expect("written");
        let expected = vec![mismatch(&path, "layout version", other, version); 3];
        assert_eq!(errors(&path), (expected.clone(), expected));
    }
    file.write_all_at(&word, VERSION_AT).expect("written");
    keyval(&path).build().expect("the zone again");
}

#[test]
fn a_half_made_region_is_made_anew_and_refused_to_guests() {
    let dir = Dir::new();
    let path = dir.file("zone");
    for half in [false, true] {
        let owner = keyval(&path).build().expect("a zone");
        owner.set("k", "v", NOW, Expiry::Never).expect("room");
        drop(owner);
        let file = File::options().write(true).open(&path).expect("the file");
        file.write_all_at(&[0; 8], MAGIC_AT).expect("written");
        if half {
            // As a process leaves it that was killed before it had written the rest.
            file.write_all_at(&vec![0; 40_000], 64).expect("written");
        }
        assert_eq!(KeyvalZone::attach(&path).err(), Some(Error::NotARegion { path: path.clone() }));
        let owner = keyval(&path).build().expect("made anew");
        assert_eq!(owner.len(NOW), 0);
        owner.set("k", "w", NOW, Expiry::Never).expect("room");
        assert_eq!(KeyvalZone::attach(&path).expect("an owner").get("k", NOW).expect("there"), "w");
        drop(owner);
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let dir = Dir::new();
    let path = dir.file("zone");
    keyval(&path).build().expect("a zone");
    let file = File::options().write(true).open(&path).expect("the file");
    for length in [SIZE - 1, SIZE / 2, SIZE + 4096] {
        file.set_len(length).expect("truncated");
        assert_eq!(keyval(&path).build().err(), Some(mismatch(&path, "size", length, SIZE)));
        assert_eq!(KeyvalZone::attach(&path).err(), Some(mismatch(&path, "size", length, SIZE)));
    }
    // Shorter than a header.
    for length in [1, 8, 500, 4096] {
        file.set_len(length).expect("truncated");
        assert_eq!(errors(&path).1, not_a_region(&path));
        assert_eq!(keyval(&path).build().err(), Some(mismatch(&path, "size", length, SIZE)));
    }
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    let dir = Dir::new();
    let path = dir.file("zone");
    keyval(&path).build().expect("a zone");
    let good = fs::read(&path).expect("the file");
    let wrong = [u64::MAX, 1 << 63, 1 << 32, 0];
    // Size, the fixed settings, the length of the name, its bytes.
    for at in [16, 128, 136, 144, 256, 264] {
        for word in wrong {
            fs::write(&path, &good).expect("written");
            let file = File::options().write(true).open(&path).expect("the file");
            file.write_all_at(&word.to_le_bytes(), at).expect("written");
            let is_same = good[at as usize..][..8] == word.to_le_bytes();
            // Nothing panics. A guest has nothing to compare a name or a setting with, unless it makes no sense.
            assert!(keyval(&path).build().is_err() || is_same, "{at} {word}");
            let _ = KeyvalZone::attach(&path);
            assert_eq!(dir.guest_files(), [""; 0], "who is refused leaves nothing");
        }
    }
}

#[test]
fn there_is_one_owner() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let owner = keyval(&path).build().expect("a zone");
    owner.set("k", "v", NOW, Expiry::Never).expect("room");
    let in_use = Error::RegionInUse { path: path.clone() };
    assert_eq!(keyval(&path).build().err(), Some(in_use.clone()));
    assert_eq!(sticky(&path).build().err(), Some(in_use.clone()));
    assert_eq!(limit(&path).build().err(), Some(in_use.clone()));
    let mut guest = Child::start("keyval", &path);
    guest.expect("attached");
    assert_eq!(keyval(&path).build().err(), Some(in_use));
    guest.tell("get k");
    guest.expect("v");
    // Without an owner a guest goes on, and another one may come.
    drop(owner);
    guest.tell("set k w");
    guest.expect("Ok(())");
    assert_eq!(KeyvalZone::attach(&path).expect("a zone").get("k", NOW).expect("there"), "w");
    guest.end();
}

#[test]
fn there_are_so_many_guests_and_no_more() {
    let dir = Dir::new();
    let path = dir.file("zone");
    let owner = keyval(&path).build().expect("a zone");
    let too_many = Error::TooManyProcesses { path: path.clone(), max: GUESTS };
    for _ in 0..2 {
        let mut guests: Vec<Child> = (0..GUESTS).map(|_| Child::start("keyval", &path)).collect();
        guests.iter().for_each(|guest| guest.expect("attached"));
        assert_eq!(dir.guest_files().len(), GUESTS);
        Child::start("keyval", &path).expect(&format!("{too_many:?}"));
        assert_eq!(KeyvalZone::attach(&path).err(), Some(too_many.clone()));
        // Who leaves makes room for another.
        guests.remove(3).end();
        drop(KeyvalZone::attach(&path).expect("a free place"));
        // Who is killed does so when the owner has noticed.
        guests.remove(7).kill();
        guests.push(Child::start("keyval", &path));
        guests[GUESTS - 2].expect("attached");
        assert_eq!(KeyvalZone::attach(&path).err(), Some(too_many.clone()));
        sync_store::Replica::sweep(&owner, NOW, 99);
        drop(KeyvalZone::attach(&path).expect("a free place"));
        guests.into_iter().for_each(Child::end);
        assert_eq!(dir.guest_files(), [""; 0]);
    }
}

/// What is made has the permissions that were asked for, whatever the umask.
pub(crate) fn child_with_umasks(dir: &Path) {
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o7777;
    for (name, region, expected, mask) in [
        ("default", Region::map_file(dir.join("default")), 0o600, Mode::empty()),
        ("group", Region::map_file(dir.join("group")).mode(0o660), 0o660, Mode::empty()),
        ("masked", Region::map_file(dir.join("masked")).mode(0o660), 0o660, Mode::RWXG | Mode::RWXO),
    ] {
        umask(mask);
        let path = dir.join(name);
        let owner = KeyvalZone::builder("z").size(SIZE).region(region).build().expect("a zone");
        let guest = KeyvalZone::attach(&path).expect("an owner");
        assert_eq!(mode(&path), expected);
        assert_eq!(mode(&dir.join(format!("{name}.guest-1"))), 0o600);
        drop((guest, owner));
    }
    say("checked");
}

#[test]
fn files_are_for_their_user_unless_said_otherwise() {
    let dir = Dir::new();
    let child = Child::start("umasks", dir.path());
    child.expect("checked");
    child.end();
}
