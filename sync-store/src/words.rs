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
/// Words of a unit, the grain in which records get their memory: half a line. A whole line would round the usual session, 80 bytes, up
/// to 128; a quarter would let too many small records straddle two lines.
pub(crate) const UNIT: usize = 4;

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

/// Two threads that each change one word and then look at the other's must not both miss the change. Sequentially consistent accesses see to
/// that, at no cost to readers; loom takes them for Acquire and Release, and knows only the fence.
#[inline]
pub(crate) fn loom_fence() {
    if cfg!(loom) {
        fence(Ordering::SeqCst);
    }
}

/// Asks for the cache line of a word before it is needed. Changes nothing but how long the next access takes.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn prefetch(word: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // SAFETY: needs SSE, which every x86-64 processor has; a prefetch of any address, this valid one included, has no effect on memory.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    #[cfg(all(target_arch = "aarch64", not(loom)))]
    // SAFETY: a prefetch of any address, this valid one included, has no effect on memory or registers.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) std::ptr::from_ref(word), options(nostack, preserves_flags, readonly));
    }
    #[cfg(any(loom, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = word;
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
