//! The atomic word as this crate's own tests have it: before each access it asks whether the calling thread may go on.
//!
//! A thread says how many accesses it may make, and what is to be done before the one that is too many: to stop, so that others can be seen to go on
//! without it; or to fail, because an operation that takes so many will never end. Whoever has said nothing may do anything.

use std::cell::Cell;
use std::sync::atomic::{self, Ordering};

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static THEN: Cell<Option<Then>> = const { Cell::new(None) };
}

/// Answers how many accesses more there may be.
type Then = Box<dyn FnMut() -> u64>;

/// The calling thread may make so many accesses, and then as many more as `then` answers, again and again. `then` may panic, too.
pub(crate) fn allow(accesses: u64, then: impl FnMut() -> u64 + 'static) {
    LEFT.set(accesses);
    THEN.set(Some(Box::new(then)));
}

/// To be called before each access.
#[inline]
pub(super) fn ask() {
    while LEFT.get() == 0 {
        exhausted();
    }
    LEFT.set(LEFT.get() - 1);
}

#[cold]
fn exhausted() {
    // What is done on the way out of a panic may be done.
    LEFT.set(u64::MAX);
    if let Some(mut then) = THEN.take() {
        LEFT.set(then());
        THEN.set(Some(then));
    }
}

/// As [`atomic::AtomicU64`], with those of its methods that this crate uses.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

/// Methods with one operand that answer what was there before.
macro_rules! fetch {
    ($($name:ident)*) => {
        $(#[inline]
        pub(crate) fn $name(&self, operand: u64, order: Ordering) -> u64 {
            ask();
            self.0.$name(operand, order)
        })*
    };
}

impl AtomicU64 {
    pub(crate) const fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        ask();
        self.0.load(order)
    }

    #[inline]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        ask();
        self.0.store(value, order);
    }

    fetch!(swap fetch_add fetch_and fetch_max fetch_or fetch_sub);

    #[inline]
    pub(crate) fn compare_exchange(
        &self,
        seen: u64,
        to: u64,
        order: Ordering,
        failed: Ordering,
    ) -> Result<u64, u64> {
        ask();
        self.0.compare_exchange(seen, to, order, failed)
    }

    #[inline]
    pub(crate) fn compare_exchange_weak(
        &self,
        seen: u64,
        to: u64,
        order: Ordering,
        failed: Ordering,
    ) -> Result<u64, u64> {
        ask();
        self.0.compare_exchange_weak(seen, to, order, failed)
    }

    /// As several accesses, which it is.
    pub(crate) fn fetch_update(
        &self,
        order: Ordering,
        load: Ordering,
        mut f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut seen = self.load(load);
        while let Some(to) = f(seen) {
            match self.compare_exchange_weak(seen, to, order, load) {
                Ok(before) => return Ok(before),
                Err(now) => seen = now,
            }
        }
        Err(seen)
    }
}
