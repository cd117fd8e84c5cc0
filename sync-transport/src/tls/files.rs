//! Whether files have changed, by looking at them from time to time.
//!
//! Notifications of the operating system would be no simpler: they follow names, not what a chain of links
//! leads to (Kubernetes swaps a link two levels up), and say nothing on network file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells one state of a file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// The state of several files, in their order; `None` for one that cannot be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        Self(files.map(stamp).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    // Follows links: what counts is what is read.
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}
