//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng;

use crate::Error;

/// How fast the wait may grow from one attempt to the next.
const GROWTH: u32 = 3;

/// Growing, jittered waits between attempts, never shorter than a base and never longer than a bound.
///
/// Decorrelated jitter: each wait is drawn evenly from base to three times the previous wait. Nodes that
/// lost the same peer at the same moment spread out from the first attempt on, and unlike with full
/// jitter no attempt follows the one before it sooner than the base, which operators set as the
/// retry interval.
///
/// ```
/// use std::time::Duration;
/// use sync_transport::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30))?;
/// let wait = backoff.next(&mut rand::rng());
/// assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(3));
/// backoff.reset(); // after a success
/// # Ok::<(), sync_transport::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    last: Duration,
}

impl Backoff {
    /// Waits of at least `base` and at most `max`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if `base` is zero (that would be a busy loop) or `max` is below `base`.
    pub fn new(base: Duration, max: Duration) -> Result<Self, Error> {
        if base.is_zero() {
            return Err(Error::InvalidOption { option: "retry interval", reason: "it is zero".to_owned() });
        }
        if max < base {
            let reason = format!("its bound, {max:?}, is below the interval, {base:?}");
            return Err(Error::InvalidOption { option: "retry interval", reason });
        }
        Ok(Self { base, max, last: base })
    }

    /// The wait before the next attempt.
    pub fn next<R: Rng + ?Sized>(&mut self, rng: &mut R) -> Duration {
        let longest = self.last.saturating_mul(GROWTH).min(self.max);
        self.last = rng.random_range(self.base..=longest);
        self.last
    }

    /// Starts over from the base: call it after a success.
    pub fn reset(&mut self) {
        self.last = self.base;
    }
}

#[cfg(test)]
mod tests;
