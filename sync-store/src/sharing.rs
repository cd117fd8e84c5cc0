//! The processes that share a mapped region: one owner, some guests.
//!
//! The owner replicates, sweeps, and puts right what a killed process left behind; guests read and write records. Nobody waits for anybody.
//!
//! **Who lives.** The owner holds a lock on the file, each guest one on a file of its own beside it (`FILE.guest-N`). The system lets go
//! of them when a process ends in whatever way, so whoever can take a lock knows that its holder is gone. Process numbers would not do: they
//! are reused, and mean nothing in another container.
//!
//! **Who is at work.** A process counts the changes that it starts and those it has finished, in its lines of a table in the region. When no
//! living process has started one that it has not finished, and that is still so afterwards, whatever was read in between was
//! read in a *quiet* moment: no block was in flight, no mark outstanding. What is not in order in such a moment, a dead process has left.
//! Counting costs two additions on a line that no other process writes; regions that are not shared do without.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::threads;
use crate::words::{AtomicU64, LINE, Ordering};

/// Processes that can have a region mapped at the same time, the owner included.
pub(crate) const PROCESSES: usize = 16;
/// Lines of each in the table, so that its threads do not all count on one.
const STRIPES: usize = 4;
/// Words of the table.
pub(crate) const TABLE_WORDS: usize = PROCESSES * STRIPES * LINE;
/// The owner's place in it.
const OWNER: usize = 0;

const STARTED: usize = 0;
const FINISHED: usize = 1;
/// In the first line of a process: its number, for people; 0 = nobody.
const PROCESS: usize = 2;

/// What a process has to do with its region.
#[derive(Debug)]
pub(crate) enum Sharing {
    /// The region is anonymous.
    None,
    /// The process owns the zone; holds the lock on its file.
    Owner { path: PathBuf, _lock: File },
    /// The process is attached to it; holds the lock on a file of its own.
    Guest { index: usize, lock_path: PathBuf, lock: Option<File> },
}

fn open(path: &Path, create: bool, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(path)
}

/// `None`: somebody else has it.
fn try_lock(file: &File) -> io::Result<Option<()>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn lock_path(path: &Path, index: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".guest-{index}"));
    PathBuf::from(name)
}

impl Sharing {
    /// Opens a file of `size` bytes to own the zone in it, and makes it if need be.
    pub(crate) fn own(path: &Path, mode: u32, size: u64) -> Result<(File, Self), Error> {
        let failed = |error: io::Error| Error::region(path, &error);
        let lock = open(path, true, mode).map_err(failed)?;
        if try_lock(&lock).map_err(failed)?.is_none() {
            return Err(Error::RegionInUse { path: path.to_owned() });
        }
        match lock.metadata().map_err(failed)?.len() {
            0 => allocate(&lock, size).map_err(failed)?,
            found if found == size => {}
            found => return Err(Error::mismatch(path, "size", found, size)),
        }
        let file = lock.try_clone().map_err(failed)?;
        Ok((file, Self::Owner { path: path.to_owned(), _lock: lock }))
    }

    /// Opens a file in which another process owns the zone.
    pub(crate) fn find(path: &Path) -> Result<File, Error> {
        open(path, false, 0).map_err(|error| Error::region(path, &error))
    }

    /// Takes a place in the table of processes.
    pub(crate) fn join(path: &Path, table: &[AtomicU64]) -> Result<Self, Error> {
        for index in 1..PROCESSES {
            let lock_path = lock_path(path, index);
            let failed = |error: io::Error| Error::region(&lock_path, &error);
            let lock = open(&lock_path, true, 0o600).map_err(failed)?;
            if try_lock(&lock).map_err(failed)?.is_none() {
                continue;
            }
            // With the lock held nobody else writes here. A number that is there is of a dead process that the owner has not put right yet.
            if entry(table, index)[PROCESS].load(Ordering::Acquire) != 0 {
                continue;
            }
            entry(table, index)[PROCESS].store(u64::from(std::process::id()), Ordering::Release);
            return Ok(Self::Guest { index, lock_path, lock: Some(lock) });
        }
        Err(Error::TooManyProcesses { path: path.to_owned(), max: PROCESSES - 1 })
    }

    /// A guest leaves in an orderly way, none of its changes unfinished.
    pub(crate) fn leave(&mut self, table: &[AtomicU64]) {
        if let Self::Guest { index, lock_path, lock } = self {
            free(table, *index);
            let _ = std::fs::remove_file(lock_path);
            drop(lock.take());
        }
    }

    pub(crate) const fn is_guest(&self) -> bool {
        matches!(self, Self::Guest { .. })
    }

    /// This process' place in the table; `None` if there is no table.
    #[inline]
    pub(crate) const fn index(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Owner { .. } => Some(OWNER),
            Self::Guest { index, .. } => Some(*index),
        }
    }

    /// Says that a change begins, until what this answers is dropped.
    #[inline]
    pub(crate) fn begin<'r>(&self, table: &'r [AtomicU64]) -> Option<Change<'r>> {
        let index = self.index()?;
        let stripe = &entry(table, index)[threads::number() % STRIPES * LINE..][..LINE];
        stripe[STARTED].fetch_add(1, Ordering::SeqCst);
        Some(Change(&stripe[FINISHED]))
    }

    /// Owner: what the last owner had started, it will not finish.
    pub(crate) fn take_over(table: &[AtomicU64]) {
        free(table, OWNER);
        entry(table, OWNER)[PROCESS].store(u64::from(std::process::id()), Ordering::Release);
    }

    /// Owner: the guests that have died.
    pub(crate) fn dead(&self, table: &[AtomicU64]) -> Vec<Dead> {
        let Self::Owner { path, .. } = self else { return Vec::new() };
        let is_used = |index: &usize| entry(table, *index)[PROCESS].load(Ordering::Acquire) != 0;
        (1..PROCESSES)
            .filter(is_used)
            .filter_map(|index| {
                let lock_path = lock_path(path, index);
                match open(&lock_path, false, 0) {
                    // It cannot be read: by the owner of the zone, so perhaps by nobody. Left alone.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => None,
                    Err(_) => Some(Dead { index, lock_path, _lock: None }),
                    // The lock is held while its place is put right, so that no new guest takes it.
                    Ok(file) => matches!(try_lock(&file), Ok(Some(()))).then(|| Dead {
                        index,
                        lock_path,
                        _lock: Some(file),
                    }),
                }
            })
            .collect()
    }

    /// Whether no living process was at work from before `f` until after it; then, what `f` answered.
    pub(crate) fn in_quiet<R>(table: &[AtomicU64], dead: &[Dead], f: impl FnOnce() -> R) -> Option<R> {
        let living = |index: &usize| !dead.iter().any(|dead| dead.index == *index);
        let stripes = || (0..PROCESSES).filter(living).flat_map(|index| entry(table, index).chunks(LINE));
        // Finished first: a change that ends in between makes the counts differ, never agree wrongly.
        let finished: Vec<u64> = stripes().map(|stripe| stripe[FINISHED].load(Ordering::SeqCst)).collect();
        let started: Vec<u64> = stripes().map(|stripe| stripe[STARTED].load(Ordering::SeqCst)).collect();
        if started != finished {
            return None;
        }
        let answer = f();
        let is_quiet =
            stripes().zip(&started).all(|(stripe, was)| stripe[STARTED].load(Ordering::SeqCst) == *was);
        is_quiet.then_some(answer)
    }
}

fn entry(table: &[AtomicU64], index: usize) -> &[AtomicU64] {
    &table[index * STRIPES * LINE..][..STRIPES * LINE]
}

fn free(table: &[AtomicU64], index: usize) {
    let words = entry(table, index);
    for stripe in words.chunks(LINE) {
        stripe[STARTED].store(0, Ordering::SeqCst);
        stripe[FINISHED].store(0, Ordering::SeqCst);
    }
    words[PROCESS].store(0, Ordering::Release);
}

/// Gives the file its size, and takes the memory for it now: a write that finds none later would kill the process.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => {
            file.set_len(0)?;
            return Err(error.into());
        }
    }
    Ok(())
}

/// A change that is under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Change<'r>(&'r AtomicU64);

impl Drop for Change<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A guest that was killed; holds its lock.
#[derive(Debug)]
pub(crate) struct Dead {
    index: usize,
    lock_path: PathBuf,
    _lock: Option<File>,
}

impl Dead {
    /// What it left has been put right: its place is free.
    pub(crate) fn bury(self, table: &[AtomicU64]) {
        free(table, self.index);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}
