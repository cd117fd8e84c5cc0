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
use std::sync::Arc;
use std::time::Duration;

use crate::Prefault;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(any(test, loom)))]
pub(crate) use std::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{Ordering, fence};
#[cfg(all(test, not(loom)))]
pub(crate) use stoppable::AtomicU64;

#[cfg(all(test, not(loom)))]
pub(crate) mod stoppable;

/// Bytes of a word.
pub(crate) const WORD: usize = 8;
/// Words of a cache line.
pub(crate) const LINE: usize = 8;
/// Words of a unit, the grain in which records get their memory: half a line. A whole line would round the usual session, 80 bytes, up
/// to 128; a quarter would let too many small records straddle two lines.
pub(crate) const UNIT: usize = 4;

/// A fixed number of words, aligned to a cache line at least. A clone is the same memory.
#[derive(Clone)]
pub(crate) struct Words {
    /// Those of `memory`, for as long as that is held. Kept beside it because every access of a zone goes through here, and the way through
    /// `memory` is two loads longer.
    words: &'static [AtomicU64],
    memory: Arc<memory::Memory>,
}

impl Words {
    /// `bytes` bytes of memory of this process, seen as whole words. The kernel hands the pages out zeroed, huge ones if asked to, as they are
    /// first touched; see [`Self::prefault`].
    pub(crate) fn anonymous(bytes: usize, huge_pages: bool) -> io::Result<Self> {
        memory::Memory::anonymous(bytes, huge_pages).map(Self::of)
    }

    /// The first `bytes` bytes of a file that has at least so many, seen as whole words.
    pub(crate) fn of_file(file: &std::fs::File, bytes: usize, huge_pages: bool) -> io::Result<Self> {
        memory::Memory::of_file(file, bytes, huge_pages).map(Self::of)
    }

    /// Touches all memory: now, in a thread of its own, or not. An error, only of the first, says that there is not enough.
    pub(crate) fn prefault(&self, prefault: Prefault) -> io::Result<()> {
        match prefault {
            Prefault::Never => Ok(()),
            Prefault::Beside => {
                memory::touch_beside(&self.memory);
                Ok(())
            }
            Prefault::First => self.memory.touch(),
        }
    }

    /// The same memory, of which only `len` words from `start` on are seen. What reads one section all the time keeps it this way: its
    /// accesses check one bound instead of two.
    pub(crate) fn narrowed(&self, start: usize, len: usize) -> Self {
        Self { words: &self.words[start..][..len], memory: Arc::clone(&self.memory) }
    }

    #[allow(unsafe_code)]
    fn of(memory: memory::Memory) -> Self {
        let memory = Arc::new(memory);
        let words: *const [AtomicU64] = memory.words();
        // SAFETY: the words live as long as `memory`, which is dropped with the last clone of `Self` and not moved in its Arc; `deref` hands them out for no longer
        // than it borrows `self`, and nothing else does.
        Self { words: unsafe { &*words }, memory }
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        self.words
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

/// Blocks until a word is not 0 any more, at most for so long; may return early. For words that are 0 or 1.
pub(crate) fn wait_while_zero(word: &AtomicU64, timeout: Duration) {
    #[cfg(all(target_os = "linux", not(loom)))]
    {
        use rustix::thread::futex;
        let timeout = futex::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // Woken, changed, timed out or interrupted: the caller looks again in any case.
        let _ = futex::wait(low_half(word), futex::Flags::empty(), 0, Some(&timeout));
    }
    #[cfg(not(all(target_os = "linux", not(loom))))]
    if word.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
    }
}

/// Wakes whoever waits for a word in [`wait_while_zero`], in any process that maps it.
#[cfg_attr(
    not(all(target_os = "linux", not(loom))),
    expect(unused_variables, reason = "waiters look by themselves")
)]
pub(crate) fn wake_waiters(word: &AtomicU64) {
    #[cfg(all(target_os = "linux", not(loom)))]
    {
        use rustix::thread::futex;
        let _ = futex::wake(low_half(word), futex::Flags::empty(), i32::MAX.cast_unsigned());
    }
}

/// The half of a word that holds small numbers.
#[cfg(all(target_os = "linux", not(loom)))]
#[allow(unsafe_code)]
fn low_half(word: &AtomicU64) -> &std::sync::atomic::AtomicU32 {
    let half = std::ptr::from_ref(word).cast::<std::sync::atomic::AtomicU32>();
    // SAFETY: both halves lie inside the word, are aligned for 4 bytes and live as long as it does. Only the kernel reads through the
    // reference, to compare; that it does so with another width than the accesses here is how futexes on wider words are used.
    unsafe { &*half.add(usize::from(cfg!(target_endian = "big"))) }
}

/// That this processor changes two words at once, see [`change_pair`]. Asked once for a zone: it would be nine instructions of each check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs(());

impl Pairs {
    /// `None`: it cannot.
    pub(crate) fn of_this_processor() -> Option<Self> {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        if std::arch::is_x86_feature_detected!("cmpxchg16b") {
            return Some(Self(()));
        }
        None
    }
}

/// Changes two neighbouring words at once, the first of which is aligned for both, if they are still as they were seen; whether they were. `None`: they are not
/// aligned, or this processor cannot do that.
///
/// Sequentially consistent, like any locked instruction of x86-64.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn change_pair(
    pairs: Option<Pairs>,
    pair: &[AtomicU64; 2],
    seen: [u64; 2],
    to: [u64; 2],
) -> Option<bool> {
    #[cfg(all(test, not(loom)))]
    stoppable::ask();
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    if pairs.is_some() && std::ptr::from_ref(pair).addr().is_multiple_of(16) {
        let changed: u64;
        // SAFETY: the instruction exists (`Pairs` says so, which is made nowhere else) and its operand is 16 bytes, aligned to 16 (asked above), of atomics that live as long
        // as `pair`; on x86-64 locked accesses of different sizes to the same bytes are coherent with each other. `rbx`, which cannot be named as an operand, is
        // put back. All registers are named, since the compiler may choose `rbx` for one that is not: the address would be gone after the exchange.
        unsafe {
            std::arch::asm!(
                "xchg rsi, rbx",
                "lock cmpxchg16b [rdi]",
                "sete cl",
                "mov rbx, rsi",
                inout("rsi") to[0] => _,
                inout("rcx") to[1] => changed,
                inout("rax") seen[0] => _,
                inout("rdx") seen[1] => _,
                in("rdi") std::ptr::from_ref(pair),
                options(nostack),
            );
        }
        // The lowest byte of it.
        return Some(changed as u8 != 0);
    }
    let _ = (pairs, pair, seen, to);
    None
}

/// Which words of a line have exactly these upper bits (`top`, shifted all the way down; 32 of them at most), as bits. A hint: a word that is changing meanwhile may be taken
/// for what it never was.
///
/// Two comparisons of four words where the processor has them: fewer instructions are more lookups under way at a time.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn matching<const TOP_BITS: u32>(line: &[AtomicU64; LINE], top: u32) -> u32 {
    const { assert!(TOP_BITS <= u32::BITS) };
    #[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
    {
        let matching: u32;
        // SAFETY: SSE2, which every x86-64 processor has, reads 64 bytes of atomics that live as long as `line`, and nothing else; whoever takes the
        // answer takes it for a hint.
        unsafe {
            std::arch::asm!(
                "movdqu {a}, [{line}]",
                "movdqu {b}, [{line} + 16]",
                "movdqu {c}, [{line} + 32]",
                "movdqu {d}, [{line} + 48]",
                // The upper halves of four words each.
                "shufps {a}, {b}, 0xdd",
                "shufps {c}, {d}, 0xdd",
                "psrld {a}, {shift}",
                "psrld {c}, {shift}",
                "movd {d}, {top:e}",
                "pshufd {d}, {d}, 0",
                "pcmpeqd {a}, {d}",
                "pcmpeqd {c}, {d}",
                // A byte for each.
                "packssdw {a}, {c}",
                "packsswb {a}, {a}",
                "pmovmskb {matching:e}, {a}",
                line = in(reg) line.as_ptr(),
                top = in(reg) top,
                shift = const u32::BITS - TOP_BITS,
                matching = lateout(reg) matching,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack),
            );
        }
        matching & 0xff
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(test, loom, miri)))))]
    line.iter().rev().fold(0, |matching, word| {
        matching << 1 | u32::from(word.load(Ordering::Relaxed) >> (u64::BITS - TOP_BITS) == u64::from(top))
    })
}

/// Bytes from which on the processor copies best by itself: one instruction that leaves room for the next operation's, and asks for memory ahead. Of fewer bytes it
/// takes a third longer than the loop, of more the loop half as long again.
#[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
const LONG: usize = 512;
/// Bytes that a register holds.
#[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
const CHUNK: usize = 16;
/// Bytes that eight of them hold. The end of a copy's loop waits for the length, which is read from memory: a guess that is wrong costs a cache miss, and of few rounds it hardly
/// ever is.
#[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
const BLOCK: usize = 8 * CHUNK;

/// Copies bytes, [`CHUNK`] at least, of which either side may be words that others use meanwhile. Loads and stores are as relaxed ones are on x86-64: stores come behind all
/// earlier ones and before all later ones; in which order among themselves does not matter.
///
/// # Safety
///
/// `from` and `to` have so many bytes, for as long as this takes, and do not overlap.
#[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn copy_raw(from: *const u8, to: *mut u8, len: usize) {
    if len >= LONG {
        // SAFETY: reads and writes what the caller vouches for. The direction flag is clear whenever `asm!` begins.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags),
            );
        }
        return;
    }
    if len >= BLOCK {
        // SAFETY: as below, with eight registers at a time instead of one.
        unsafe {
            std::arch::asm!(
                "2:",
                ".irp i, 0, 1, 2, 3, 4, 5, 6, 7",
                "movdqu xmm\\i, [{from} + {at} + 16 * \\i]",
                ".endr",
                ".irp i, 0, 1, 2, 3, 4, 5, 6, 7",
                "movdqu [{to} + {at} + 16 * \\i], xmm\\i",
                ".endr",
                "add {at}, {size}",
                "cmp {at}, {last}",
                "jb 2b",
                ".irp i, 0, 1, 2, 3, 4, 5, 6, 7",
                "movdqu xmm\\i, [{from} + {last} + 16 * \\i]",
                ".endr",
                ".irp i, 0, 1, 2, 3, 4, 5, 6, 7",
                "movdqu [{to} + {last} + 16 * \\i], xmm\\i",
                ".endr",
                from = in(reg) from,
                to = in(reg) to,
                at = inout(reg) 0_usize => _,
                last = in(reg) len - BLOCK,
                size = const BLOCK,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                options(nostack),
            );
        }
        return;
    }
    // SAFETY: SSE2, which every x86-64 processor has, reads and writes what the caller vouches for: chunks from the first on up to the last, which ends where the bytes do, so
    // that some of it may be copied once more.
    unsafe {
        std::arch::asm!(
            "2:",
            "movdqu {chunk}, [{from} + {at}]",
            "movdqu [{to} + {at}], {chunk}",
            "add {at}, {size}",
            "cmp {at}, {last}",
            "jb 2b",
            "movdqu {chunk}, [{from} + {last}]",
            "movdqu [{to} + {last}], {chunk}",
            from = in(reg) from,
            to = in(reg) to,
            at = inout(reg) 0_usize => _,
            last = in(reg) len - CHUNK,
            size = const CHUNK,
            chunk = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Copies bytes out of words that have so many. While others write there, any mixture of old and new ones may arrive.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn copy_out(from: &[AtomicU64], to: &mut [u8]) {
    assert!(to.len() <= from.len() * WORD);
    #[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
    if to.len() >= CHUNK {
        // SAFETY: `from` has as many bytes as `to` (checked above), and `to` is ours alone.
        unsafe { copy_raw(from.as_ptr().cast(), to.as_mut_ptr(), to.len()) };
        return;
    }
    for (bytes, word) in std::iter::zip(to.chunks_mut(WORD), from) {
        let word = word.load(Ordering::Relaxed).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// Copies whole words in: as many as `from` has.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn copy_in(from: &[[u8; WORD]], to: &[AtomicU64]) {
    assert!(from.len() <= to.len());
    #[cfg(all(target_arch = "x86_64", not(any(test, loom, miri))))]
    if size_of_val(from) >= CHUNK {
        // SAFETY: `to` has as many words as `from` (checked above); they are of atomics, so they may be written through a shared reference.
        unsafe { copy_raw(from.as_ptr().cast(), to.as_ptr().cast_mut().cast(), size_of_val(from)) };
        return;
    }
    for (bytes, word) in std::iter::zip(from, to) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
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
    use std::fs::File;
    use std::io;
    use std::slice;
    use std::sync::Arc;
    use std::thread;

    #[cfg(target_os = "linux")]
    use memmap2::Advice;
    use memmap2::{MmapMut, MmapOptions, MmapRaw};

    use super::{AtomicU64, Ordering, WORD};

    /// As often does a thread that touches memory look whether it is still there.
    const TOUCHED_AT_ONCE: usize = 2 << 20;

    /// The shortest page that a system has.
    const PAGE: usize = 4 << 10;

    /// A mapping rather than an allocation: exactly as long as asked for, page aligned, zeroed without being touched, and given back
    /// to the system as a whole.
    pub(super) struct Memory {
        map: MmapRaw,
        words: usize,
    }

    impl Memory {
        pub(super) fn anonymous(bytes: usize, huge_pages: bool) -> io::Result<Self> {
            Ok(Self::mapped(MmapRaw::from(MmapMut::map_anon(bytes)?), huge_pages))
        }

        pub(super) fn of_file(file: &File, bytes: usize, huge_pages: bool) -> io::Result<Self> {
            Ok(Self::mapped(MmapOptions::new().len(bytes).map_raw(file)?, huge_pages))
        }

        #[cfg_attr(
            not(target_os = "linux"),
            expect(unused_variables, reason = "advice that only Linux takes")
        )]
        fn mapped(map: MmapRaw, huge_pages: bool) -> Self {
            // A kernel without huge pages, or without them for such a mapping, says so. Nobody is worse off than before.
            #[cfg(target_os = "linux")]
            if huge_pages {
                let _ = map.advise(Advice::HugePage);
            }
            Self { words: map.len() / WORD, map }
        }

        /// Touches all of it, or says that there is not enough, where the system can tell.
        pub(super) fn touch(&self) -> io::Result<()> {
            #[cfg(target_os = "linux")]
            match self.map.advise(Advice::PopulateWrite) {
                // EINVAL: Linux before 5.14 does not know the advice.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                touched => return touched,
            }
            write_to_each_page(self.words());
            Ok(())
        }

        #[inline]
        #[allow(unsafe_code)]
        pub(super) fn words(&self) -> &[AtomicU64] {
            // SAFETY: the mapping is readable, writable, page aligned (so aligned for a word), at least `words * 8` bytes long, and
            // lives as long as `self.map`, hence as long as the slice. Zeroed or not, any 8 bytes are an `AtomicU64`. The pointer
            // is the one the mapping was made with, never derived from a reference, and nobody ever makes a reference to these
            // bytes that is not one to atomics; so all access in this process is atomic, as it must be in any other that maps them. A
            // file is not made shorter while it is mapped: this crate does not do it, and who else may write the file can crash its users, as with
            // any shared mapping.
            unsafe { slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), self.words) }
        }
    }

    /// Touches all memory in a thread of its own, which ends with the memory at the latest. Should there be no thread, the first to use a page does it, as
    /// without this.
    ///
    /// By writing: `MADV_POPULATE_WRITE` holds what all threads of the process need that start a thread or take much memory (`mmap_lock`), and has it back
    /// before any of those is awake. A node that started meanwhile was held up by a tenth of a second. A page fault
    /// needs the mapping's own lock only (Linux 6.4).
    pub(super) fn touch_beside(memory: &Arc<Memory>) {
        let (words, memory) = (memory.words, Arc::downgrade(memory));
        let touch = move || {
            for from in (0..words).step_by(TOUCHED_AT_ONCE / WORD) {
                let Some(memory) = memory.upgrade() else { return };
                let through = words.min(from + TOUCHED_AT_ONCE / WORD);
                write_to_each_page(&memory.words()[from..through]);
            }
        };
        _ = thread::Builder::new().name("prefault".to_owned()).spawn(touch);
    }

    /// Changes nothing, whoever else reads and writes there.
    fn write_to_each_page(words: &[AtomicU64]) {
        for page in words.chunks(PAGE / WORD) {
            // Not an addition of nothing: compilers read instead, and a page that is only read is not taken.
            _ = page[0].compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(loom)]
mod memory {
    use std::io;

    use std::sync::Arc;

    use super::{AtomicU64, WORD};

    /// Loom's atomics are no plain words; a vector of them takes the place of the mapping.
    pub(super) struct Memory(Box<[AtomicU64]>);

    impl Memory {
        pub(super) fn anonymous(bytes: usize, _huge_pages: bool) -> io::Result<Self> {
            Ok(Self((0..bytes / WORD).map(|_| AtomicU64::new(0)).collect()))
        }

        pub(super) fn of_file(_: &std::fs::File, _: usize, _: bool) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn touch(&self) -> io::Result<()> {
            Ok(())
        }

        pub(super) fn words(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    pub(super) fn touch_beside(_memory: &Arc<Memory>) {}
}
