//! The memory of a region: a slice of atomic words.
//!
//! Everything a zone keeps lies in these words and is found by its position, never by a pointer, so the same code runs on
//! anonymous memory, on a mapping shared by processes, and under loom. Shared memory is only ever touched through atomics: a reader
//! that races with a writer sees old words or new ones, in any mixture, and validates afterwards. That is why nothing in this crate
//! takes a reference to anything *inside* a region but to an atomic word.
//!
//! This is the one file with `unsafe` in it.

use std::fmt;
use std::io;
use std::ops::Deref;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes of a word.
pub(crate) const WORD: usize = 8;
/// Words of a cache line.
pub(crate) const LINE: usize = 8;

/// A fixed number of words, zero at the start, aligned to a cache line at least.
pub(crate) struct Words(memory::Memory);

impl Words {
    /// `bytes` bytes of anonymous memory, seen as whole words. The kernel hands the pages out zeroed, as they are first touched.
    pub(crate) fn zeroed(bytes: usize) -> io::Result<Self> {
        memory::Memory::zeroed(bytes).map(Self)
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        self.0.words()
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("len", &self.len()).finish()
    }
}

#[cfg(not(loom))]
mod memory {
    use std::io;
    use std::slice;

    use memmap2::{MmapMut, MmapRaw};

    use super::{AtomicU64, WORD};

    /// A mapping rather than an allocation: exactly as long as asked for, page aligned, zeroed without being touched, and given back
    /// to the system as a whole.
    pub(super) struct Memory {
        map: MmapRaw,
        words: usize,
    }

    impl Memory {
        pub(super) fn zeroed(bytes: usize) -> io::Result<Self> {
            let map = MmapRaw::from(MmapMut::map_anon(bytes)?);
            Ok(Self { words: map.len() / WORD, map })
        }

        #[inline]
        #[allow(unsafe_code)]
        pub(super) fn words(&self) -> &[AtomicU64] {
            // SAFETY: the mapping is readable, writable, page aligned (so aligned for a word), at least `words * 8` bytes long, and
            // lives as long as `self.map`, hence as long as the slice. Zeroed or not, any 8 bytes are an `AtomicU64`. The pointer
            // is the one the mapping was made with, never derived from a reference, and nobody ever makes a reference to these
            // bytes that is not one to atomics; so all access in this process is atomic, as it must be in any other that maps them.
            unsafe { slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), self.words) }
        }
    }
}

#[cfg(loom)]
mod memory {
    use std::io;

    use super::{AtomicU64, WORD};

    /// Loom's atomics are no plain words; a vector of them takes the place of the mapping.
    pub(super) struct Memory(Box<[AtomicU64]>);

    impl Memory {
        pub(super) fn zeroed(bytes: usize) -> io::Result<Self> {
            Ok(Self((0..bytes / WORD).map(|_| AtomicU64::new(0)).collect()))
        }

        pub(super) fn words(&self) -> &[AtomicU64] {
            &self.0
        }
    }
}
