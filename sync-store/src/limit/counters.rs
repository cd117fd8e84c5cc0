//! How many requests met which outcome.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::Outcome;
use crate::threads;

/// Stripes per zone, 8 KiB: one for each thread with a number of its own, and one that the others share.
const STRIPES: usize = threads::OWN + 1;
const OUTCOMES: usize = 5;

/// The figures that the API shows for a limit zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitCounters {
    /// Let pass at once.
    pub passed: u64,
    /// Let pass after a wait.
    pub delayed: u64,
    /// Refused.
    pub rejected: u64,
    /// Would have been delayed.
    pub delayed_dry_run: u64,
    /// Would have been refused.
    pub rejected_dry_run: u64,
}

/// Counts without sharing a cache line between threads: under attack one key is checked by all of them at once, nothing but these
/// counters is written, and a shared one would cost more than the check.
#[derive(Debug)]
pub(super) struct Counters {
    stripes: Box<[CachePadded<[AtomicU64; OUTCOMES]>; STRIPES]>,
    /// The sums when they were last reset: a thread that owns a stripe would not notice a zero.
    reset_at: Mutex<[u64; OUTCOMES]>,
}

const fn at(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Passed => 0,
        Outcome::Delayed => 1,
        Outcome::Rejected => 2,
        Outcome::DelayedDryRun => 3,
        Outcome::RejectedDryRun => 4,
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            stripes: Box::new(std::array::from_fn(|_| CachePadded::default())),
            reset_at: Mutex::default(),
        }
    }
}

impl Counters {
    // Relaxed throughout: figures for people.
    #[inline]
    pub(super) fn count(&self, outcome: Outcome) {
        let number = threads::number();
        if let Some(stripe) = self.stripes[..threads::OWN].get(number) {
            // Nobody else writes this stripe, so no count is lost, and the processor need not lock anything.
            let counter = &stripe[at(outcome)];
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            self.stripes[threads::OWN][at(outcome)].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sums(&self) -> [u64; OUTCOMES] {
        std::array::from_fn(|at| {
            self.stripes.iter().map(|stripe| stripe[at].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        })
    }

    pub(super) fn get(&self) -> LimitCounters {
        let (sums, reset_at) = (self.sums(), *self.reset_at.lock());
        let since = |outcome: Outcome| sums[at(outcome)].wrapping_sub(reset_at[at(outcome)]);
        LimitCounters {
            passed: since(Outcome::Passed),
            delayed: since(Outcome::Delayed),
            rejected: since(Outcome::Rejected),
            delayed_dry_run: since(Outcome::DelayedDryRun),
            rejected_dry_run: since(Outcome::RejectedDryRun),
        }
    }

    pub(super) fn reset(&self) {
        let mut reset_at = self.reset_at.lock();
        *reset_at = self.sums();
    }
}
