//! What a caller says to a limit, and what it is answered.

use std::time::Duration;

use crate::Rate;

/// Which of the requests that come before their time, within the burst, have to wait for it. The settings `delay` and `nodelay`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delay {
    /// All of them, which is nginx's default: the same as `After(0)`.
    #[default]
    None,
    /// Those beyond the first so many.
    After(u64),
    /// None of them.
    Nodelay,
}

impl Delay {
    /// As a mapped region keeps it.
    pub(super) const fn to_words(self) -> [u64; 2] {
        match self {
            Self::None => [0, 0],
            Self::After(requests) => [1, requests],
            Self::Nodelay => [2, 0],
        }
    }

    /// What [`Self::to_words`] was made of; all of them have to wait if it was something else.
    pub(super) const fn from_words([kind, requests]: [u64; 2]) -> Self {
        match kind {
            1 => Self::After(requests),
            2 => Self::Nodelay,
            _ => Self::None,
        }
    }

    /// How many early requests go without waiting; `None`: all.
    pub(super) const fn free(self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::After(requests) => Some(requests),
            Self::Nodelay => None,
        }
    }
}

/// The particulars of one check; what is `None` comes from the zone.
///
/// ```
/// use sync_store::{Check, Delay};
///
/// let check = Check { cost: 5, delay: Some(Delay::Nodelay), ..Check::default() };
/// assert_eq!((check.cost, check.burst), (5, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// How many requests this one counts for. 0 only looks; a negative cost refunds, at most what is in the bucket.
    pub cost: i64,
    /// How many requests may come before their time.
    pub burst: Option<u64>,
    /// Which of those wait.
    pub delay: Option<Delay>,
    /// The rate; callers of one key should agree on it.
    pub rate: Option<Rate>,
    /// Whether to let everything pass and only count.
    pub dry_run: Option<bool>,
}

impl Default for Check {
    fn default() -> Self {
        Self { cost: 1, burst: None, delay: None, rate: None, dry_run: None }
    }
}

/// What becomes of a request; the names of nginx's `$limit_req_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Let it pass.
    Passed,
    /// Let it pass after [`Decision::wait`].
    Delayed,
    /// Refuse it.
    Rejected,
    /// Let it pass; without the dry run it would have been delayed.
    DelayedDryRun,
    /// Let it pass; without the dry run it would have been refused.
    RejectedDryRun,
}

impl Outcome {
    /// `PASSED`, `DELAYED`, `REJECTED`, `DELAYED_DRY_RUN` or `REJECTED_DRY_RUN`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Delayed => "DELAYED",
            Self::Rejected => "REJECTED",
            Self::DelayedDryRun => "DELAYED_DRY_RUN",
            Self::RejectedDryRun => "REJECTED_DRY_RUN",
        }
    }
}

/// The answer to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// What becomes of the request.
    pub outcome: Outcome,
    /// Nanoseconds to wait if it is `Delayed`, until it would be admitted if it was refused.
    pub(super) wait_ns: Option<u64>,
    /// Nanoseconds of work in the bucket afterwards.
    pub(super) backlog_ns: u64,
    pub(super) capacity_ns: u64,
    /// At least 1.
    pub(super) interval_ns: u64,
}

// Methods and not fields: a proxy that only wants the outcome does not pay for divisions.
impl Decision {
    /// Whether the request may pass, now or after a wait.
    #[must_use]
    pub const fn is_admitted(&self) -> bool {
        !matches!(self.outcome, Outcome::Rejected)
    }

    /// How long to hold the request back; zero unless it is `Delayed`.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        match (self.outcome, self.wait_ns) {
            (Outcome::Delayed, Some(wait_ns)) => Duration::from_nanos(wait_ns),
            _ => Duration::ZERO,
        }
    }

    /// How many more requests of cost 1 would be admitted now.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.capacity_ns.saturating_sub(self.backlog_ns) / self.interval_ns
    }

    /// How long until the key is as if it had never been seen.
    #[must_use]
    pub const fn reset(&self) -> Duration {
        Duration::from_nanos(self.backlog_ns)
    }

    /// For a request that is (or in a dry run would be) refused: when to try again. `None` for any other, and for one that costs
    /// more than the bucket holds.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match (self.outcome, self.wait_ns) {
            (Outcome::Rejected | Outcome::RejectedDryRun, Some(wait_ns)) => {
                Some(Duration::from_nanos(wait_ns))
            }
            _ => None,
        }
    }
}
