use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use tempfile::TempDir;

use super::*;

/// A directory that is gone with its files when dropped.
fn dir() -> TempDir {
    tempfile::tempdir().expect("a new directory")
}

fn table() -> Vec<AtomicU64> {
    (0..TABLE_WORDS).map(|_| AtomicU64::new(0)).collect()
}

fn index(sharing: &Sharing) -> usize {
    sharing.index().expect("it has a place")
}

fn kill(mut guest: Sharing) {
    guest.die();
}

#[test]
fn a_lock_is_on_the_file_that_has_the_name() {
    let dir = dir();
    let path = dir.path().join("lock");
    let first = open_locked(&path, 0o600).expect("a file").expect("free");
    assert!(open_locked(&path, 0o600).expect("a file").is_none());
    let late = open(&path, true, 0o600).expect("the same file");
    std::fs::remove_file(&path).expect("a file");
    drop(first);
    // A lock that is worth nothing.
    let late = try_lock(late).expect("a file").expect("free");
    assert!(!is_at(&late, &path).expect("no file there"));
    let second = open_locked(&path, 0o600).expect("a file").expect("a new one");
    assert!(is_at(&second, &path).expect("a file"));
    assert!(!is_at(&late, &path).expect("another file there"));
}

#[test]
fn the_place_of_a_dead_guest_is_free_when_it_is_buried() {
    let dir = dir();
    let (path, table) = (dir.path().join("zone"), table());
    let (_, owner) = Sharing::own(&path, 0o600, 4096).expect("a file");
    let join = || Sharing::join(&path, &table).expect("a place");
    let (one, mut two) = (join(), join());
    assert_eq!((index(&one), index(&two)), (1, 2));
    assert!(owner.dead(&table).is_empty());
    std::mem::forget(one.begin(&table)); // killed in the middle of a change
    kill(one);
    assert_eq!(index(&join()), 3, "nobody takes the place of a dead guest");
    assert_eq!(Sharing::in_quiet(&table, &[], || ()), None);
    let dead = owner.dead(&table);
    assert_eq!(dead.iter().map(|dead| dead.index).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(Sharing::in_quiet(&table, &dead, || 5), Some(5));
    assert_eq!(index(&join()), 4, "nor while it is put right");
    dead.into_iter().for_each(|dead| dead.bury(&table));
    assert_eq!(Sharing::in_quiet(&table, &[], || ()), Some(()));
    assert_eq!(index(&join()), 1);
    two.leave(&table);
    assert!(!lock_path(&path, 2).exists());
    assert_eq!(Sharing::in_quiet(&table, &[], || two.begin(&table)).map(|_| ()), None);
}

#[cfg(unix)]
#[test]
fn a_guest_that_knows_the_region_by_another_name_is_not_taken_for_dead() {
    let dir = dir();
    let (path, table) = (dir.path().join("zone"), table());
    let (_, owner) = Sharing::own(&path, 0o600, 4096).expect("a file");
    let (hard, soft) = (dir.path().join("hard"), dir.path().join("soft"));
    std::fs::hard_link(&path, &hard).expect("a link");
    std::os::unix::fs::symlink(&path, &soft).expect("a link");
    let _one = Sharing::join(&hard, &table).expect("a place");
    let two = Sharing::join(&path, &table).expect("a place");
    let three = Sharing::join(&soft, &table).expect("a place");
    assert_eq!([index(&two), index(&three)], [2, 3], "each has its own");
    assert!(owner.dead(&table).is_empty());
    // One that happens to be there is not its lock.
    drop(open(&lock_path(&path, 1), true, 0o600).expect("a file"));
    assert!(owner.dead(&table).is_empty());
    kill(two);
    kill(three);
    assert_eq!(owner.dead(&table).iter().map(|dead| dead.index).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_guest_whose_file_was_removed_is_left_alone() {
    let dir = dir();
    let (path, table) = (dir.path().join("zone"), table());
    let (_, owner) = Sharing::own(&path, 0o600, 4096).expect("a file");
    let mut guest = Sharing::join(&path, &table).expect("a place");
    std::fs::remove_file(lock_path(&path, 1)).expect("a file");
    assert!(owner.dead(&table).is_empty());
    assert_eq!(index(&Sharing::join(&path, &table).expect("a place")), 2);
    assert_eq!(owner.dead(&table).iter().map(|dead| dead.index).collect::<Vec<_>>(), [2]);
    guest.leave(&table);
    assert_eq!(index(&Sharing::join(&path, &table).expect("a place")), 1);
}

#[test]
fn a_place_has_one_holder_whoever_comes_goes_and_dies() {
    const GUESTS: usize = 4;
    const ROUNDS: usize = 3_000;
    let dir = dir();
    let (path, table) = (dir.path().join("zone"), table());
    let (_, owner) = Sharing::own(&path, 0o600, 4096).expect("a file");
    let holders: Vec<AtomicUsize> = (0..PROCESSES).map(|_| AtomicUsize::new(0)).collect();
    let at_work = AtomicUsize::new(GUESTS);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..GUESTS {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let Ok(mut guest) = Sharing::join(&path, &table) else {
                        thread::yield_now(); // those that died are not buried yet
                        continue;
                    };
                    let index = index(&guest);
                    assert_eq!(holders[index].fetch_add(1, Ordering::SeqCst), 0, "a place was given twice");
                    for _ in 0..round % 4 {
                        drop(guest.begin(&table));
                        thread::yield_now();
                    }
                    assert_ne!(entry(&table, index)[PROCESS].load(Ordering::SeqCst), 0, "buried alive");
                    holders[index].fetch_sub(1, Ordering::SeqCst);
                    if round % 8 == 0 {
                        kill(guest);
                    } else {
                        guest.leave(&table);
                    }
                }
                if at_work.fetch_sub(1, Ordering::SeqCst) == 1 {
                    is_over.store(true, Ordering::SeqCst);
                }
            });
        }
        while !is_over.load(Ordering::SeqCst) {
            let dead = owner.dead(&table);
            let is_held = |dead: &Dead| holders[dead.index].load(Ordering::SeqCst) != 0;
            assert!(!dead.iter().any(is_held), "a living guest was taken for dead");
            thread::yield_now();
            assert!(!dead.iter().any(is_held), "somebody took the place of a dead guest");
            dead.into_iter().for_each(|dead| dead.bury(&table));
        }
    });
    owner.dead(&table).into_iter().for_each(|dead| dead.bury(&table));
    assert_eq!(Sharing::in_quiet(&table, &[], || ()), Some(()));
    let mut all: Vec<Sharing> = (1..PROCESSES).map(|_| Sharing::join(&path, &table).expect("free")).collect();
    assert!(matches!(Sharing::join(&path, &table), Err(Error::TooManyProcesses { .. })));
    all.iter_mut().for_each(|guest| guest.leave(&table));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1, "no lock file is left");
}
