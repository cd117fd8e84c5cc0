//! When a write happened, and who published it: stamps, origins and dots.
//!
//! A stamp is a hybrid logical clock value (Kulkarni et al., "Logical Physical Clocks", 2014) in one word: 48 bits of
//! milliseconds and 16 bits of counter. It follows the wall clock closely enough for people to read and for expiry to use, and it
//! still respects causality: a write made after another one was seen carries the higher stamp, even when the clock of the second
//! writer is behind. Two rules do that, and both are "take the maximum":
//!
//! - *tick*: a local write gets `max(last + 1, now)`, where `last` is the record that it replaces; a key that is not there takes its `last` from the zone;
//! - *observe*: a stamp that leaves the zone, or is kept out of it, raises the zone's `last` to at least itself.
//!
//! So a key's stamps only ever grow, and writers of different keys share no word, because stamps of different keys need no order.
//!
//! The counter needs no rule of its own: it is the low end of the same number, and running over into the milliseconds (more than
//! 65,536 writes in one) only moves the clock ahead by one of them. The price of taking maxima is that a clock in the future is
//! contagious; [`Stamp::check_skew`] keeps such stamps out.

use std::fmt;
use std::time::Duration;

use crate::Error;
use crate::time::{Time, nanos};
use crate::words::{AtomicU64, Ordering};

/// Bits of a stamp below the milliseconds.
const COUNTER_BITS: u32 = 16;

/// How far ahead of the local clock a stamp from a peer may be unless the zone says otherwise. Machines that run any time
/// synchronization agree to far better than this; machines that run none are the ones to be told.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A hybrid logical clock value: 48 bits of milliseconds since the Unix epoch, 16 bits of counter.
///
/// Orders conflicting writes of a key; equal stamps are ordered by their writers' [`Origin`].
///
/// ```
/// use sync_store::{Stamp, Time};
///
/// let first = Stamp::NEVER.tick(Time::from_millis(7));
/// assert_eq!(first.millis(), 7);
/// let second = first.tick(Time::from_millis(3)); // our clock went back: still later
/// assert!(second > first);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// Before every write.
    pub const NEVER: Self = Self(0);

    /// The stamp that travels as this number.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number to send.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The smallest stamp of the millisecond that `time` lies in.
    pub const fn from_time(time: Time) -> Self {
        // No overflow: u64::MAX nanoseconds are 1.8e13 ms, below 2^45.
        Self(time.as_millis() << COUNTER_BITS)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The time it tells, to the millisecond.
    pub const fn time(self) -> Time {
        Time::from_millis(self.millis())
    }

    /// The stamp of a write made now by a clock whose last stamp was this one: later than it, and not before `now`.
    #[must_use]
    pub fn tick(self, now: Time) -> Self {
        Self(self.0.saturating_add(1)).max(Self::from_time(now))
    }

    /// The smallest even stamp that is later than this one and not before `now`.
    pub(crate) fn next_even(self, now: Time) -> Self {
        const _: () = assert!(COUNTER_BITS > 0, "milliseconds begin with an even stamp");
        Self(self.0.saturating_add(2) & !1).max(Self::from_time(now))
    }

    /// Refuses a stamp that is further ahead of `now` than `max_skew`, or than a [`Time`] can tell, in 2554: no write could come after it.
    ///
    /// # Errors
    ///
    /// [`Error::StampAhead`], naming the zone and both times.
    pub fn check_skew(self, zone: &str, now: Time, max_skew: Duration) -> Result<(), Error> {
        let latest = now.as_nanos().saturating_add(nanos(max_skew));
        if self.time().as_nanos() > latest || self.millis() > Time::from_nanos(u64::MAX).as_millis() {
            return Err(Error::StampAhead {
                zone: zone.to_owned(),
                stamp_ms: self.millis(),
                now_ms: now.as_millis(),
                max_skew,
            });
        }
        Ok(())
    }
}

/// A hybrid logical clock that threads share: the two rules on one atomic word, which usually lies in a zone's region.
///
/// Relaxed orderings are enough: modifications of one word have one order, and the word guards no other memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hlc<'a>(&'a AtomicU64);

impl<'a> Hlc<'a> {
    /// The clock whose last stamp is kept in `word`; 0 is a clock that has not ticked yet.
    pub(crate) const fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// The stamp of a write made now. No two calls get the same one, and all are odd.
    pub(crate) fn tick(self, now: Time) -> Stamp {
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            let next = Stamp(Stamp(last).tick(now).0 | 1);
            match self.0.compare_exchange_weak(last, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(current) => last = current,
            }
        }
    }

    /// Makes every later tick come after `seen`, whose skew was checked.
    pub(crate) fn observe(self, seen: Stamp) {
        // Without this load every applied row would take the cache line of the writers.
        if self.0.load(Ordering::Relaxed) < seen.0 {
            self.0.fetch_max(seen.0, Ordering::Relaxed);
        }
    }
}

/// A node's identity for one run: random, new at every start, never 0.
///
/// A node that restarts gets a new one, because what it published before died with its memory: sequence numbers start again,
/// and nobody must take the new ones for the old. People know a node by its name.
///
/// ```
/// use sync_store::Origin;
///
/// let origin = Origin::from_raw(0xbeef).expect("not 0");
/// assert_eq!(origin.to_string(), "000000000000beef");
/// assert_ne!(Origin::random(), Origin::random());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(std::num::NonZeroU64);

impl Origin {
    /// A new identity, from the operating system's randomness.
    pub fn random() -> Self {
        loop {
            if let Some(origin) = Self::from_raw(rand::random()) {
                return origin;
            }
        }
    }

    /// The origin that travels as this number; `None` for 0, which is nobody.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        match std::num::NonZeroU64::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The number to send, never 0.
    pub const fn raw(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.raw())
    }
}

/// Names one publication of one record: the origin that published it, and the place in that origin's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who published.
    pub origin: Origin,
    /// The place in that origin's sequence for the zone. The first is 1; 0 stands for "not published".
    pub seq: u64,
}

#[cfg(all(test, not(loom)))]
mod tests;
