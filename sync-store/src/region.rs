//! One contiguous region of fixed size per zone: where its memory comes from, and its header.
//!
//! ```text
//! line 0   magic · layout version and kind · size · two hash seeds · the index of our origin · checkpoint
//! line 1   the hybrid logical clock, alone on its line: every insert changes it
//! line 2   settings that follow from the layout, which must agree for ever
//! line 3   settings in force
//! line 4…  the zone's name: its length, its bytes
//! line 8…  in a mapped region the table of processes, see `sharing`
//! …        sections, each starting on a cache line, laid out by the zone with `Layout`
//! ```
//!
//! The size is exactly what was asked for, and everything that is state of the zone lies in it: a second process that maps the
//! region needs nothing else to read it. What belongs to one process (the waker of the publisher, the replication lock) stays
//! outside.

mod open;

use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) use open::HEADER_WORDS;
pub(crate) use open::{MAX_SIZE, OpenRegion, Origination, Parameters};

/// Where the memory of a zone comes from; see the builders' `region`.
///
/// - [`Region::anonymous`]: memory of this process. The default.
/// - [`Region::map_file`]: a file that several processes map. The process that makes the zone *owns* it: it alone replicates and sweeps.
///   Others attach to it by its path ([`KeyvalZone::attach`](crate::KeyvalZone::attach) and its like) and read and write
///   the same records. The owner may end, or be killed, and start again: the records are still there.
///
/// Beside the file each attached process has another one, empty and locked, by which the owner knows that it lives: let processes in containers share the directory,
/// not the file alone. A process attaches or owns for itself: after it was forked, and after it has closed the files of its parent. Guests of several users, whose lock files only they
/// and root can open, need an owner that is root.
///
/// Whoever may write the file may write the zone, so it is made with permissions 0600. A file in `/dev/shm` lives until the machine
/// stops; one on a disk longer, if the zone is closed in an orderly way (what the system had not written back at a power cut is lost, and the zone
/// may then be unusable).
///
/// ```
/// use sync_store::{Expiry, KeyvalZone, Region, Time};
///
/// let path = std::env::temp_dir().join(format!("blocked-{}", std::process::id()));
/// let now = Time::from_millis(1_700_000_000_000);
/// let owner = KeyvalZone::builder("blocked").size(64 << 10).region(Region::map_file(&path)).build()?;
/// owner.set("192.0.2.1", "spam", now, Expiry::Never)?;
///
/// let worker = KeyvalZone::attach(&path)?; // usually in another process
/// assert_eq!(worker.get("192.0.2.1", now).expect("set by the owner"), "spam");
/// # drop((owner, worker));
/// # std::fs::remove_file(path).expect("it is there");
/// # Ok::<(), sync_store::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Region {
    /// `None`: anonymous.
    file: Option<PathBuf>,
    mode: u32,
    huge_pages: bool,
    prefault: Prefault,
    /// `None`: a random one.
    seed: Option<u64>,
}

/// When the memory of a region is touched for the first time, for which the system clears it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefault {
    /// As it is used: the first to use a page, with huge pages two megabytes, waits until it is cleared.
    #[default]
    Never,
    /// By a thread of its own, which begins when the zone is made and ends when all of it is touched. The zone is of use meanwhile. Where
    /// there is not that much memory, or no room for a file with holes, the system stops this process or another one then, and not when the zone fills.
    Beside,
    /// When the zone is made, which takes that much longer: no request ever waits, and a machine that has not got that much memory says so at once, on Linux since 5.14; elsewhere it does as with [`Beside`](Self::Beside).
    First,
}

impl Default for Region {
    fn default() -> Self {
        Self::anonymous()
    }
}

impl Region {
    /// Memory of this process alone, gone when the zone is dropped.
    pub const fn anonymous() -> Self {
        Self { file: None, mode: 0o600, huge_pages: true, prefault: Prefault::Never, seed: None }
    }

    /// A file that other processes can attach to. It is made if it does not exist; if it holds a zone of the same name, kind and size, that one
    /// is opened with its records. Available on Unix.
    pub fn map_file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::anonymous() }
    }

    /// The permissions of a file that has to be made. Default: 0600.
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Whether to ask the system for huge pages (transparent ones, `madvise`), where it offers them: an access to a large zone then misses the
    /// translation cache less often. Memory is then taken 2 MiB at a time as it is first touched. Default: yes.
    pub const fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// When all memory is touched, so that no request waits for a page later. Default: [`Prefault::Never`].
    pub const fn prefault(mut self, prefault: Prefault) -> Self {
        self.prefault = prefault;
        self
    }

    /// What places keys in a region that is made anew. Default: random, so that nobody can choose keys that crowd one place. For tests that are to repeat exactly.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The file, unless the region is anonymous.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}
