//! The processes that share a mapped region: one owner, some guests.
//!
//! The owner replicates, sweeps, and puts right what a killed process left behind; guests read and write records. Nobody waits for anybody.
//!
//! **Who lives.** The owner holds a lock on the file, each guest one on a file of its own beside it (`FILE.guest-N`). The system lets go
//! of them when a process ends in whatever way, so whoever can take a lock knows that its holder is gone. Process numbers would not do: they
//! are reused, and mean nothing in another container. Which file it is a guest says in the region: should the owner find none beside its own, or another one,
//! because the two know the region by different names, nothing is known of the guest, and it is left alone.
//!
//! **Who is at work.** A process counts the changes that it starts and those it has finished, in its lines of a table in the region. When no
//! living process has started one that it has not finished, and that is still so afterwards, whatever was read in between was
//! read in a *quiet* moment: no block was in flight, no mark outstanding. What is not in order in such a moment, a dead process has left.
//! Counting costs two additions on a line that no other process writes; regions that are not shared do without.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::threads;
use crate::words::{AtomicU64, LINE, Ordering, WORD, fence};

/// Processes that can have a region mapped at the same time, the owner included.
pub(crate) const PROCESSES: usize = 16;
/// Lines of each in the table, so that its threads do not all count on one.
const STRIPES: usize = 4;
/// Words of the table.
pub(crate) const TABLE_WORDS: usize = PROCESSES * STRIPES * LINE;
/// The owner's place in it.
const OWNER: usize = 0;

// Both only ever grow, whoever has the place: counts that agree with those of a moment ago say that nothing was started in between.
const STARTED: usize = 0;
const FINISHED: usize = 1;
/// In the first line of a process: its number, for people; 0 = nobody.
const PROCESS: usize = 2;
/// The number of the file that a guest has locked. Not that of its device, which may be another one after a restart of the machine.
const LOCK: usize = 3;

/// What a process has to do with its region.
#[derive(Debug)]
pub(crate) enum Sharing {
    /// The region is anonymous.
    None,
    /// The process owns the zone; holds the lock on its file.
    Owner { path: PathBuf, lock: Locked },
    /// The process is attached to it; holds the lock on a file of its own.
    Guest { index: usize, lock_path: PathBuf, lock: Option<Locked> },
}

/// A file that has to be made gets exactly this mode, whatever the umask of the process.
fn open(path: &Path, create: bool, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false);
    #[cfg(unix)]
    if create {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        match options.clone().create_new(true).open(path) {
            Ok(file) => {
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)
}

/// A file whose lock this process has. Dropping it lets go of the lock; closing the file would do that, but not for as long as a process that is just being
/// started has what it inherits.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl std::ops::Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// `None`: somebody else has it.
fn try_lock(file: File) -> io::Result<Option<Locked>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a file, makes it if need be, and locks it; `None` if somebody else has the lock.
///
/// Whoever holds a guest's lock may remove the file, so the lock that was just got may be on one that has no name any more, while the next process makes and locks
/// another of that name. Hence the look whether it is still the one.
fn open_locked(path: &Path, mode: u32) -> io::Result<Option<Locked>> {
    /// Each failure means that another process has removed the file just then; so often, it does so on purpose.
    const ATTEMPTS: usize = 100;
    for _ in 0..ATTEMPTS {
        let Some(file) = try_lock(open(path, true, mode)?)? else { return Ok(None) };
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Whether a path leads to this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(identity(&found) == identity(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What tells a file from others that there are at the same time: its device, and its number there.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
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
        let Some(lock) = open_locked(path, mode).map_err(failed)? else {
            return Err(Error::RegionInUse { path: path.to_owned() });
        };
        match lock.metadata().map_err(failed)?.len() {
            0 => allocate(&lock, size).map_err(failed)?,
            // Whoever gave it its size may have been killed before it had the memory.
            found if found == size && first_word(&lock).map_err(failed)? == 0 => {
                reserve(&lock, size).map_err(failed)?;
            }
            found if found == size => {}
            found => return Err(Error::mismatch(path, "size", found, size)),
        }
        let file = lock.try_clone().map_err(failed)?;
        // Guests' locks are beside the file itself, whatever links lead there, and wherever this process changes its directory to.
        let path = std::fs::canonicalize(path).map_err(failed)?;
        Ok((file, Self::Owner { path, lock }))
    }

    /// Opens a file in which another process owns the zone.
    pub(crate) fn find(path: &Path) -> Result<File, Error> {
        open(path, false, 0).map_err(|error| Error::region(path, &error))
    }

    /// Takes a place in the table of processes.
    pub(crate) fn join(path: &Path, table: &[AtomicU64]) -> Result<Self, Error> {
        let real_path = std::fs::canonicalize(path).map_err(|error| Error::region(path, &error))?;
        let mut denied = None;
        for index in 1..PROCESSES {
            let lock_path = lock_path(&real_path, index);
            let lock = match open_locked(&lock_path, 0o600) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    // It is of another user's process. A later one may be free.
                    denied = Some(Error::region(&lock_path, &error));
                    continue;
                }
                Err(error) => return Err(Error::region(&lock_path, &error)),
            };
            // With the lock held nobody else writes here, unless he knows the region by another name. A number that is there is his, or of a
            // dead process that the owner has not put right yet.
            let place = entry(table, index);
            if place[PROCESS].load(Ordering::Acquire) != 0 {
                continue;
            }
            let (_, lock_number) =
                identity(&lock.metadata().map_err(|error| Error::region(&lock_path, &error))?);
            place[LOCK].store(lock_number, Ordering::Relaxed);
            let number = u64::from(std::process::id());
            if place[PROCESS].compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            return Ok(Self::Guest { index, lock_path, lock: Some(lock) });
        }
        Err(denied.unwrap_or_else(|| Error::TooManyProcesses { path: path.to_owned(), max: PROCESSES - 1 }))
    }

    /// The process leaves in an orderly way, none of its changes unfinished.
    pub(crate) fn leave(&mut self, table: &[AtomicU64]) {
        match self {
            Self::None => {}
            Self::Owner { lock, .. } => _ = lock.unlock(),
            Self::Guest { index, lock_path, lock } => {
                entry(table, *index)[PROCESS].store(0, Ordering::Release);
                let _ = std::fs::remove_file(lock_path);
                drop(lock.take());
            }
        }
    }

    /// As if the process had been killed: the system lets go of its lock, and nothing else happens.
    #[cfg(test)]
    pub(crate) fn die(&mut self) {
        *self = Self::None;
    }

    pub(crate) const fn is_owner(&self) -> bool {
        matches!(self, Self::Owner { .. })
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
        // Pairs with the fence in `in_quiet`: who meets anything of the change finds it started.
        fence(Ordering::Release);
        Some(Change(&stripe[FINISHED]))
    }

    /// Owner: what the last owner had started, it will not finish.
    pub(crate) fn take_over(table: &[AtomicU64]) {
        close(table, OWNER);
        entry(table, OWNER)[PROCESS].store(u64::from(std::process::id()), Ordering::Release);
    }

    /// Owner: the guests that have died.
    pub(crate) fn dead(&self, table: &[AtomicU64]) -> Vec<Dead> {
        let Self::Owner { path, .. } = self else { return Vec::new() };
        let is_used = |index: usize| entry(table, index)[PROCESS].load(Ordering::Acquire) != 0;
        (1..PROCESSES)
            .filter(|&index| is_used(index))
            .filter_map(|index| {
                let lock_path = lock_path(path, index);
                // No file, or one that cannot be opened: nothing is known.
                let lock = try_lock(open(&lock_path, false, 0).ok()?).ok()??;
                let (_, lock_number) = identity(&lock.metadata().ok()?);
                // With the lock held nobody else writes there. If it is free now, its guest has left since we looked; if it names another file, that of the guest that
                // has come since, or one that is known by another name.
                let is_its = || entry(table, index)[LOCK].load(Ordering::Relaxed) == lock_number;
                (is_used(index) && is_its()).then_some(Dead { index, lock_path, _lock: lock })
            })
            .collect()
    }

    /// Whether no living process was at work from before `f` until after it; then, what `f` answered.
    pub(crate) fn in_quiet<R>(table: &[AtomicU64], dead: &[Dead], f: impl FnOnce() -> R) -> Option<R> {
        let living = |index: &usize| !dead.iter().any(|dead| dead.index == *index);
        // No table, no other process.
        let places = if table.is_empty() { 0 } else { PROCESSES };
        let stripes = || (0..places).filter(living).flat_map(|index| entry(table, index).chunks(LINE));
        // Finished first: a change that ends in between makes the counts differ, never agree wrongly.
        let finished: Vec<u64> = stripes().map(|stripe| stripe[FINISHED].load(Ordering::SeqCst)).collect();
        let started: Vec<u64> = stripes().map(|stripe| stripe[STARTED].load(Ordering::SeqCst)).collect();
        if started != finished {
            return None;
        }
        let answer = f();
        // Nothing that `f` has read is looked at after this.
        fence(Ordering::Acquire);
        let is_quiet =
            stripes().zip(&started).all(|(stripe, was)| stripe[STARTED].load(Ordering::SeqCst) == *was);
        is_quiet.then_some(answer)
    }
}

fn entry(table: &[AtomicU64], index: usize) -> &[AtomicU64] {
    &table[index * STRIPES * LINE..][..STRIPES * LINE]
}

/// What a dead process had started, it will not finish: takes it for finished.
fn close(table: &[AtomicU64], index: usize) {
    for stripe in entry(table, index).chunks(LINE) {
        stripe[FINISHED].store(stripe[STARTED].load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// The first word of a file that was just opened; 0 if it is shorter.
pub(crate) fn first_word(mut file: &File) -> io::Result<u64> {
    use io::Read as _;
    let mut word = [0; WORD];
    match file.read_exact(&mut word) {
        Ok(()) => Ok(u64::from_ne_bytes(word)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(error),
    }
}

/// Gives the file its size and its memory.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    let reserved = reserve(file, size);
    if reserved.is_err() {
        file.set_len(0)?;
    }
    reserved
}

/// Takes the memory for a file now: a write that finds none later would kill the process.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux can"))]
fn reserve(file: &File, size: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
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
    _lock: Locked,
}

impl Dead {
    /// What it left has been put right: its place is free.
    pub(crate) fn bury(self, table: &[AtomicU64]) {
        close(table, self.index);
        entry(table, self.index)[PROCESS].store(0, Ordering::Release);
        // Before the lock is let go of, as always.
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
