//! A small number for each thread, to spread threads over stripes.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads that have a number of their own.
pub(crate) const OWN: usize = u64::BITS as usize;

/// The numbers in use, as bits; those from [`OWN`] on are shared, and not kept track of.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static NEXT_SHARED: AtomicUsize = AtomicUsize::new(OWN);

struct Number(usize);

impl Number {
    fn take() -> Self {
        let first_free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        // Acquire pairs with the Release of `drop`: what the last holder did with its stripes comes before.
        match TAKEN.fetch_update(Ordering::AcqRel, Ordering::Relaxed, first_free) {
            Ok(taken) => Self(taken.trailing_ones() as usize),
            Err(_) => Self(NEXT_SHARED.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // A thread that still works in the destructors of its other variables shares a number from here on.
        let shared = NEXT_SHARED.fetch_add(1, Ordering::Relaxed);
        let _ = CACHED.try_with(|cached| cached.set(Some(shared)));
        if self.0 < OWN {
            TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

thread_local! {
    static NUMBER: Number = Number::take();
    /// The same without the check for a destructor: this is read at every write.
    static CACHED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of the calling thread: below [`OWN`] and no other living thread's, as long as there are no more threads than that; then one from
/// [`OWN`] on, which others may have as well.
#[inline]
pub(crate) fn number() -> usize {
    CACHED.with(|cached| match cached.get() {
        Some(number) => number,
        None => assign(cached),
    })
}

#[cold]
fn assign(cached: &Cell<Option<usize>>) -> usize {
    // Its variables are gone already: a number that is shared.
    let number =
        NUMBER.try_with(|number| number.0).unwrap_or_else(|_| NEXT_SHARED.fetch_add(1, Ordering::Relaxed));
    cached.set(Some(number));
    number
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn living_threads_have_different_numbers_and_numbers_come_back() {
        for _ in 0..20 {
            let all = Barrier::new(16);
            let mut numbers = thread::scope(|scope| {
                let threads: Vec<_> = (0..16)
                    .map(|_| {
                        scope.spawn(|| {
                            let own = number();
                            all.wait();
                            assert_eq!(number(), own);
                            own
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
            });
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 16);
        }
    }
}
