//! How many requests met which outcome.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::Outcome;

/// Stripes per zone. Threads count on different cache lines as long as there are no more of them than stripes; 16 stripes are 2 KiB
/// per zone.
const STRIPES: usize = 16;
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
#[derive(Debug, Default)]
pub(super) struct Counters([CachePadded<[AtomicU64; OUTCOMES]>; STRIPES]);

const fn at(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Passed => 0,
        Outcome::Delayed => 1,
        Outcome::Rejected => 2,
        Outcome::DelayedDryRun => 3,
        Outcome::RejectedDryRun => 4,
    }
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static STRIPE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    STRIPE.with(|stripe| *stripe)
}

impl Counters {
    // Relaxed throughout: figures for people.
    pub(super) fn count(&self, outcome: Outcome) {
        self.0[stripe()][at(outcome)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> LimitCounters {
        let sum = |outcome| self.0.iter().map(|stripe| stripe[at(outcome)].load(Ordering::Relaxed)).sum();
        LimitCounters {
            passed: sum(Outcome::Passed),
            delayed: sum(Outcome::Delayed),
            rejected: sum(Outcome::Rejected),
            delayed_dry_run: sum(Outcome::DelayedDryRun),
            rejected_dry_run: sum(Outcome::RejectedDryRun),
        }
    }

    pub(super) fn reset(&self) {
        for counter in self.0.iter().flat_map(|stripe| stripe.iter()) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
