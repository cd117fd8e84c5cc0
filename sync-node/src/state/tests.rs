use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_store::{Expiry, KeyvalZoneBuilder, Region, Stamp};
use tempfile::TempDir;

use super::*;

mod disk;

const NOW: Time = Time::from_millis(1_700_000_000_000);

/// Of one seed: how many records a zone too small for them takes depends on it, and errors name that number.
fn builder() -> KeyvalZoneBuilder {
    KeyvalZone::builder("one").size(256 << 10).region(Region::anonymous().seed(1))
}

fn make(factor: u64) -> Result<KeyvalZone, sync_store::Error> {
    builder().size((256 << 10) * factor).build()
}

fn location(folder: &TempDir) -> Location {
    Location { zone: "one".to_owned(), path: folder.path().join("one.keyval") }
}

/// What is in a zone, by key.
fn pairs(zone: &KeyvalZone) -> BTreeMap<Vec<u8>, Vec<u8>> {
    zone.iter(NOW).map(|(key, entry)| (key.to_vec(), entry.value.to_vec())).collect()
}

fn open(folder: &TempDir, now: Time, is_shared: bool) -> Result<(Files, KeyvalZone), Error> {
    Files::open(location(folder), is_shared.then(Origin::random), now, &make)
}

/// Files with so many records, the later half of them still in the journal.
fn filled(folder: &TempDir, records: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (files, zone) = open(folder, NOW, false).expect("new files");
    let zone = Arc::new(zone);
    let clock = Arc::new(sync_store::ManualClock::new(NOW));
    let keeping = Keeping::new(files, Arc::clone(&zone), Arc::default(), StateSync::Always, Reach::Local);
    let keeper = Keeper::start(keeping, None, clock).expect("a thread");
    let fill = |from: usize, to: usize| {
        for number in from..to {
            zone.set(format!("key-{number}"), format!("value-{number}"), NOW, Expiry::Never).expect("room");
        }
    };
    fill(0, records / 2);
    drop(keeper);
    let (files, zone) = open(folder, NOW, false).expect("the same files");
    let mut files = files;
    let mark = files.mark.clone();
    let dot = Dot { origin: Origin::random(), seq: 1 };
    let saved: Vec<_> = (records / 2..records).map(|number| saved(number as u64, dot)).collect();
    let keys: Vec<_> = (records / 2..records).map(|number| format!("key-{number}").into_bytes()).collect();
    files.journal.append(keys.iter().map(Vec::as_slice).zip(&saved), &mark).expect("written");
    drop((files, zone));
    let (_, zone) = open(folder, NOW, false).map(|(files, zone)| (drop(files), zone)).expect("opened");
    pairs(&zone)
}

fn saved(number: u64, dot: Dot) -> Saved<Box<[u8]>> {
    let value = format!("value-{number}").into_bytes().into();
    let stamp = Stamp::from_time(NOW);
    Saved { removed: false, stamp, writer: dot.origin, time_ms: 0, dot, value }
}

fn contents(folder: &TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("readable")))
        .collect()
}

#[test]
fn what_was_kept_is_there_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected: BTreeMap<_, _> =
        (0..100).map(|n| (format!("key-{n}").into_bytes(), format!("value-{n}").into_bytes())).collect();
    assert_eq!(filled(&folder, 100), expected);
}

#[test]
fn two_nodes_do_not_share_files_and_a_check_does_not_disturb() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(&folder, 10);
    let (files, _) = open(&folder, NOW, false).expect("opened");
    let before = contents(&folder);
    let error = open(&folder, NOW, false).expect_err("they are taken").to_string();
    assert!(error.contains("one.keyval") && error.contains("another process has it"), "{error}");
    Files::check(&location(&folder), None, NOW, &make).expect("left alone");
    assert_eq!(contents(&folder), before);
    drop(files);
    open(&folder, NOW, false).expect("free again");
}

#[test]
fn what_is_no_state_file_is_refused_and_left_as_it_is() {
    let sqlite = [&b"SQLite format 3\0"[..], &[0; 4080]].concat();
    for foreign in [&b""[..], b"key value;\n", &sqlite, b"redb\x1a\n\xa9\r\n", &[0; 8192]] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(location(&folder).path, foreign).expect("writable");
        let before = contents(&folder);
        for refused in
            [open(&folder, NOW, false).map(drop), Files::check(&location(&folder), None, NOW, &make)]
        {
            let error = refused.expect_err("refused").to_string();
            assert!(error.contains("one.keyval") && error.contains("left as it is"), "{error}");
            assert_eq!(contents(&folder), before, "nothing was changed, nothing added");
        }
    }
}

#[test]
fn a_file_of_another_zone_type_or_size_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(&folder, 2_000);
    let before = contents(&folder);
    let other = |zone: KeyvalZoneBuilder| {
        let make = |factor| zone.clone().size(zone.bytes() * factor).build();
        let refused = Files::open(location(&folder), None, NOW, &make).map(drop);
        let checked = Files::check(&location(&folder), None, NOW, &make);
        let error = refused.expect_err("refused").to_string();
        assert_eq!(checked.expect_err("refused").to_string(), error);
        assert_eq!(contents(&folder), before);
        error
    };
    let error = other(KeyvalZone::builder("two").size(256 << 10));
    assert!(error.contains("holds the zone \"one\""), "{error}");
    let error = other(builder().match_by(MatchBy::Ip));
    assert!(error.contains("of type \"string\", not \"ip\""), "{error}");
    let error = other(builder().size(32 << 10));
    assert!(
        error.contains("of its 2000 records do not fit into `size` = 32k; set `size` to 256k"),
        "{error}"
    );
    let behind = Time::from_millis(NOW.as_millis() - 3_600_000);
    let error = open(&folder, behind, false).map(drop).expect_err("refused").to_string();
    assert!(error.contains("ahead of our clock"), "{error}");
    assert_eq!(contents(&folder), before);
}

#[test]
fn a_journal_without_its_table_or_of_another_is_refused() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    filled(&folder, 10);
    filled(&other, 10);
    std::fs::copy(location(&other).journal(), location(&folder).journal()).expect("copied");
    let before = contents(&folder);
    let error = open(&folder, NOW, false).map(drop).expect_err("refused").to_string();
    assert!(error.contains("one.keyval.journal") && error.contains("something else"), "{error}");
    assert_eq!(contents(&folder), before);
    std::fs::remove_file(location(&folder).path).expect("removed");
    let error = open(&folder, NOW, false).map(drop).expect_err("refused").to_string();
    assert!(error.contains("one.keyval is not; put that back"), "{error}");
}

/// Changes a file in many ways, and opens it: either all is there, or it is refused; and it is as it was.
fn damaged(file: impl Fn(&TempDir) -> PathBuf, may_lack_the_end: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = filled(&folder, 400);
    let file = file(&folder);
    let whole = std::fs::read(&file).expect("readable");
    let mut rng = SmallRng::seed_from_u64(7);
    let mut refused = 0;
    for round in 0..200 {
        let mut bytes = whole.clone();
        let at = rng.random_range(0..bytes.len());
        match round % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(rng.random()),
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
        std::fs::write(&file, &bytes).expect("writable");
        match open(&folder, NOW, false) {
            Ok((files, zone)) => {
                drop(files);
                let found = pairs(&zone);
                let is_part = found.iter().all(|(key, value)| expected.get(key) == Some(value));
                let is_whole = found == expected || may_lack_the_end && round % 4 < 2 && is_part;
                assert!(is_whole, "round {round}, byte {at}: {} of {}", found.len(), expected.len());
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("one.keyval"), "{error}");
                assert_eq!(std::fs::read(&file).expect("readable"), bytes, "round {round}: it was changed");
            }
        }
    }
    assert!(refused > 30, "only {refused} were refused");
}

#[test]
fn a_damaged_table_is_refused_and_left_as_it_is() {
    damaged(|folder| location(folder).path, false);
}

#[test]
fn a_damaged_journal_is_refused_and_left_as_it_is() {
    damaged(|folder| location(folder).journal(), true);
}

#[test]
fn a_long_absence_puts_the_records_of_shared_zones_in_doubt() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(&folder, 10);
    let doubt = |after: Duration, is_shared| {
        let (files, zone) = open(&folder, NOW.saturating_add(after), is_shared).expect("opened");
        assert_eq!(pairs(&zone).len(), 10, "they are there all the same");
        files.doubtful().is_some()
    };
    let hour = Duration::from_secs(3600);
    assert!(!doubt(hour - Duration::from_secs(1), true), "tombstones are still kept elsewhere");
    assert!(doubt(hour, true));
    assert!(!doubt(hour * 100, false), "nobody else has the zone");
}

fn any_dot() -> impl Strategy<Value = Dot> {
    (1..u64::MAX, 1..u64::MAX)
        .prop_map(|(origin, seq)| Dot { origin: Origin::from_raw(origin).expect("not 0"), seq })
}

fn any_saved() -> impl Strategy<Value = Saved<Box<[u8]>>> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..50));
    (any::<u64>(), any_dot(), any::<u64>(), any_dot(), value).prop_map(
        |(stamp, writer, time_ms, dot, value)| {
            let (stamp, writer, removed) = (Stamp::from_raw(stamp), writer.origin, value.is_none());
            let time_ms = if removed { 0 } else { time_ms };
            Saved { removed, stamp, writer, time_ms, dot, value: value.unwrap_or_default().into() }
        },
    )
}

proptest! {
    #[test]
    fn records_and_marks_are_read_as_they_were_written(
        saved in any_saved(),
        vector in prop::collection::vec(any_dot(), 0..20),
        contact in 0..u64::MAX / 1_000_000,
    ) {
        let mut bytes = Vec::new();
        saved.encode(&mut bytes);
        prop_assert_eq!(Saved::decode(&bytes).map(Saved::to_owned), Some(saved));
        let vector = vector.iter().map(|dot| (dot.origin, dot.seq)).collect();
        let mark = Mark { vector, contact: Time::from_millis(contact) };
        bytes.clear();
        mark.encode(&mut bytes);
        prop_assert_eq!(Mark::decode(&bytes), Some(mark));
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(saved) = Saved::decode(&bytes) {
            let mut again = Vec::new();
            saved.to_owned().encode(&mut again);
            prop_assert_eq!(&again, &bytes);
        }
        if let Some(mark) = Mark::decode(&bytes) {
            let mut again = Vec::new();
            mark.encode(&mut again);
            prop_assert_eq!(Mark::decode(&again).map(|mark| mark.vector), Some(mark.vector));
        }
        _ = journal::parse(&bytes);
    }

    #[test]
    fn any_file_is_refused_without_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        is_like_a_database in any::<bool>(),
        is_journal in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let magic: &[u8] = if is_like_a_database { b"redb\x1a\n\xa9\r\n" } else { b"" };
        let path = if is_journal { location(&folder).journal() } else { location(&folder).path };
        std::fs::write(&path, [magic, &bytes].concat()).expect("writable");
        let before = contents(&folder);
        let opened = open(&folder, NOW, false).map(drop);
        if is_journal && before[&path].is_empty() {
            prop_assert!(opened.is_ok());
        } else {
            prop_assert!(opened.is_err());
            prop_assert_eq!(contents(&folder), before);
        }
    }
}
