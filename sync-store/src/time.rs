//! Time as the zones see it: a number that comes in through a parameter.
//!
//! Nothing in this crate reads a clock on its own: reading one costs more than the lookup it would serve, and a test that owns
//! the clock owns the outcome. Callers take the time once per turn of their event loop from a [`Clock`] and pass it down.
//!
//! The unit is the nanosecond. Microseconds would be long enough for expiry, but not for limits: the interval between two
//! requests at 300,000 r/s is 3.3 µs, and rounding that to 3 µs admits a tenth more than was asked for.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a millisecond.
const NANOS_PER_MILLI: u64 = 1_000_000;

/// A point in time: nanoseconds since the Unix epoch.
///
/// A `u64` of nanoseconds lasts until the year 2554. Arithmetic saturates at both ends, so that a hostile or broken value
/// never wraps into the opposite.
///
/// ```
/// use std::time::Duration;
/// use sync_store::Time;
///
/// let start = Time::from_millis(1_000);
/// let later = start.saturating_add(Duration::from_millis(250));
/// assert_eq!(later.as_millis(), 1_250);
/// assert_eq!(later.saturating_sub(start), Duration::from_millis(250));
/// assert_eq!(start.saturating_sub(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// 1970-01-01T00:00:00Z, the earliest time there is.
    pub const EPOCH: Self = Self(0);

    /// The time that lies `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time that lies `millis` milliseconds after the Unix epoch; saturates in the year 2554.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(NANOS_PER_MILLI))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / NANOS_PER_MILLI
    }

    /// The time `duration` later; saturates in the year 2554.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// How long ago `earlier` was, seen from here; zero if it is later than this.
    pub fn saturating_sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds; saturates at 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the time comes from. The owner of the zones asks it; the zones never do.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present time. Later calls may answer an earlier time if the clock of the machine was set back; zones bear that.
    fn now(&self) -> Time;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the system clock is read")]
    fn now(&self) -> Time {
        // A machine that believes in a year before 1970 gets the epoch.
        Time::EPOCH.saturating_add(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// A clock that moves only when told to: for tests and simulation.
///
/// ```
/// use std::time::Duration;
/// use sync_store::{Clock, ManualClock, Time};
///
/// let clock = ManualClock::new(Time::from_millis(5));
/// clock.advance(Duration::from_millis(2));
/// assert_eq!(clock.now(), Time::from_millis(7));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now` until it is set or advanced.
    pub const fn new(now: Time) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Shows `now` from here on, which may be earlier than before.
    pub fn set(&self, now: Time) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves forward by `duration`; saturates in the year 2554.
    pub fn advance(&self, duration: Duration) {
        let step = nanos(duration);
        // The closure never answers None, so this cannot fail.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now.saturating_add(step)));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let last = Time::from_nanos(u64::MAX);
        assert_eq!(last.saturating_add(Duration::MAX), last);
        assert_eq!(Time::from_millis(u64::MAX), last);
        assert_eq!(Time::EPOCH.saturating_sub(last), Duration::ZERO);
        assert_eq!(last.saturating_sub(Time::EPOCH), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn the_system_clock_is_past_2020() {
        assert!(SystemClock.now() > Time::from_millis(1_577_836_800_000));
    }
}
