//! How many requests in how much time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Error;

/// The unit of time in a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

impl Period {
    const fn nanos(self) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3_600 * SECOND,
            Self::Day => 86_400 * SECOND,
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Second => "r/s",
            Self::Minute => "r/m",
            Self::Hour => "r/h",
            Self::Day => "r/d",
        }
    }
}

const PERIODS: [Period; 4] = [Period::Second, Period::Minute, Period::Hour, Period::Day];

/// A rate: requests per second, minute, hour or day, written `100r/s`, `10r/m`, `10r/h`, `10r/d`.
///
/// At least one request per period, at most one per nanosecond (10⁹ per second). `r/s` and `r/m` are nginx's.
///
/// ```
/// use std::time::Duration;
/// use sync_store::Rate;
///
/// let rate: Rate = "10r/m".parse()?;
/// assert_eq!(rate.interval(), Duration::from_secs(6));
/// assert_eq!(rate, Rate::per_minute(10)?);
/// assert_eq!(rate.to_string(), "10r/m");
/// assert!("0r/s".parse::<Rate>().is_err());
/// # Ok::<(), sync_store::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    requests: u64,
    period: Period,
    /// Follows from the other two; a division that every check would have to wait for.
    interval_ns: u64,
}

impl Rate {
    fn new(requests: u64, period: Period) -> Result<Self, Error> {
        let invalid =
            |expected| Err(Error::InvalidRate { rate: format!("{requests}{}", period.suffix()), expected });
        if requests == 0 {
            return invalid("a rate admits at least one request per period");
        }
        if requests > period.nanos() {
            return invalid("a rate admits at most one request per nanosecond");
        }
        Ok(Self { requests, period, interval_ns: period.nanos() / requests })
    }

    /// As a mapped region keeps it.
    pub(crate) const fn to_words(self) -> [u64; 2] {
        [self.requests, self.period as u64]
    }

    /// What [`Self::to_words`] was made of.
    pub(crate) fn from_words([requests, period]: [u64; 2]) -> Option<Self> {
        let period = *PERIODS.get(usize::try_from(period).ok()?)?;
        Self::new(requests, period).ok()
    }

    /// `requests` per second, 1 to 10⁹.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRate`] outside that range.
    pub fn per_second(requests: u64) -> Result<Self, Error> {
        Self::new(requests, Period::Second)
    }

    /// `requests` per minute, 1 to 6·10¹⁰.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRate`] outside that range.
    pub fn per_minute(requests: u64) -> Result<Self, Error> {
        Self::new(requests, Period::Minute)
    }

    /// `requests` per hour, 1 to 3.6·10¹².
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRate`] outside that range.
    pub fn per_hour(requests: u64) -> Result<Self, Error> {
        Self::new(requests, Period::Hour)
    }

    /// `requests` per day, 1 to 8.64·10¹³.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRate`] outside that range.
    pub fn per_day(requests: u64) -> Result<Self, Error> {
        Self::new(requests, Period::Day)
    }

    /// The time that one request takes from the rate: period / requests, never zero.
    ///
    /// Rounded down to the nanosecond, in favour of who is limited: at 3 r/s three requests fit into a second. The rate in force
    /// is therefore higher than the one written by at most 1 in 10⁹ / (requests per second): 0.1 % at a million per second.
    pub const fn interval(self) -> Duration {
        Duration::from_nanos(self.interval_ns())
    }

    pub(crate) const fn interval_ns(self) -> u64 {
        self.interval_ns
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.requests, self.period.suffix())
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidRate {
            rate: text.to_owned(),
            expected: "a whole number and r/s, r/m, r/h or r/d, such as 100r/s",
        };
        let (period, digits) = PERIODS
            .into_iter()
            .find_map(|period| Some((period, text.strip_suffix(period.suffix())?)))
            .ok_or_else(invalid)?;
        // `u64::from_str` would take a leading plus sign.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        Self::new(digits.parse().map_err(|_| invalid())?, period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["1r/s", "1000000000r/s", "10r/m", "10r/h", "1r/d"] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_nonsense_and_names_it() {
        for text in
            ["", "r/s", "10", "10r", "-1r/s", "+1r/s", "1.5r/s", " 1r/s", "1R/S", "99999999999999999999r/s"]
        {
            let error = text.parse::<Rate>().expect_err(text).to_string();
            assert!(error.contains("such as 100r/s"), "{error}");
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!("0r/s".parse::<Rate>().is_err());
        assert!("1000000001r/s".parse::<Rate>().is_err());
    }

    #[test]
    fn an_interval_is_never_zero_and_a_period_holds_all_its_requests() {
        for (rate, nanos) in [
            (Rate::per_second(3), 333_333_333),
            (Rate::per_second(1_000_000_000), 1),
            (Rate::per_hour(10), 360_000_000_000),
            (Rate::per_day(86_400_000_000_000), 1),
        ] {
            assert_eq!(rate.expect("valid").interval(), Duration::from_nanos(nanos));
        }
    }
}
