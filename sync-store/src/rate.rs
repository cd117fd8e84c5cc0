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
    /// So many seconds, none of the above and at most [`SECONDS_MAX`].
    Seconds(u64),
}

impl Period {
    /// So many seconds, by its own name if it has one.
    const fn of(seconds: u64) -> Self {
        match seconds {
            1 => Self::Second,
            60 => Self::Minute,
            3_600 => Self::Hour,
            86_400 => Self::Day,
            seconds => Self::Seconds(seconds),
        }
    }

    const fn nanos(self) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3_600 * SECOND,
            Self::Day => 86_400 * SECOND,
            Self::Seconds(seconds) => seconds * SECOND,
        }
    }

    /// As a mapped region keeps it: its place in [`PERIODS`], or its seconds beyond those.
    const fn to_word(self) -> u64 {
        match self {
            Self::Second => 0,
            Self::Minute => 1,
            Self::Hour => 2,
            Self::Day => 3,
            Self::Seconds(seconds) => PERIODS.len() as u64 + seconds,
        }
    }

    /// What [`Self::to_word`] was made of.
    fn from_word(word: u64) -> Option<Self> {
        let named = usize::try_from(word).ok().and_then(|word| PERIODS.get(word));
        named.copied().or_else(|| {
            let seconds = word - PERIODS.len() as u64;
            (1..=SECONDS_MAX).contains(&seconds).then(|| Self::of(seconds))
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Second => f.write_str("r/s"),
            Self::Minute => f.write_str("r/m"),
            Self::Hour => f.write_str("r/h"),
            Self::Day => f.write_str("r/d"),
            Self::Seconds(seconds) => write!(f, "r/{seconds}s"),
        }
    }
}

const PERIODS: [Period; 4] = [Period::Second, Period::Minute, Period::Hour, Period::Day];

/// The longest period, ten years: an arrival time that far ahead is still one that a clock can show.
const SECONDS_MAX: u64 = 10 * 365 * 86_400;

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
        let invalid = |expected| Err(Error::InvalidRate { rate: format!("{requests}{period}"), expected });
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
        [self.requests, self.period.to_word()]
    }

    /// What [`Self::to_words`] was made of.
    pub(crate) fn from_words([requests, period]: [u64; 2]) -> Option<Self> {
        Self::new(requests, Period::from_word(period)?).ok()
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

    /// `requests` in `seconds`, up to ten years, and at most one per nanosecond.
    ///
    /// ```
    /// # use sync_store::Rate;
    /// let rate = Rate::per_seconds(30, 90)?;
    /// assert_eq!(rate.interval().as_secs(), 3);
    /// assert_eq!(Rate::per_seconds(30, 60)?, Rate::per_minute(30)?);
    /// # Ok::<(), sync_store::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRate`] outside that range.
    pub fn per_seconds(requests: u64, seconds: u64) -> Result<Self, Error> {
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return Err(Error::InvalidRate {
                rate: format!("{requests}r/{seconds}s"),
                expected: "a period is from one second to ten years long, 315360000 seconds",
            });
        }
        Self::new(requests, Period::of(seconds))
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
        write!(f, "{}{}", self.requests, self.period)
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
            .find_map(|period| Some((period, text.strip_suffix(period.to_string().as_str())?)))
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
    fn a_period_of_any_seconds_is_kept_and_bounded() {
        for seconds in [1, 2, 7, 60, 61, 3_600, 86_400, SECONDS_MAX] {
            let rate = Rate::per_seconds(3, seconds).expect("valid");
            assert_eq!(rate.interval(), Duration::from_nanos(seconds * 1_000_000_000 / 3));
            assert_eq!(Rate::from_words(rate.to_words()), Some(rate), "{rate}");
        }
        assert_eq!(Rate::per_seconds(3, 7).expect("valid").to_string(), "3r/7s");
        for (requests, seconds) in [(0, 7), (1, 0), (1, SECONDS_MAX + 1), (u64::MAX, 7)] {
            assert!(Rate::per_seconds(requests, seconds).is_err(), "{requests} in {seconds} s");
        }
        for word in [4, 5 + SECONDS_MAX, u64::MAX] {
            assert_eq!(Rate::from_words([1, word]), None, "{word}");
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
