//! Connections that were refused, and links that failed: all are counted, some are logged.

use std::collections::BTreeMap;
use std::time::Duration;

/// Lines for one cause within the interval. A person sees what happens and from where; who dials a thousand times a second fills no disk.
const LINES_MAX: u64 = 5;
const INTERVAL: Duration = Duration::from_secs(10);

/// Refusals by cause. Causes are words of the program, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    causes: BTreeMap<&'static str, Cause>,
}

#[derive(Debug, Default)]
struct Cause {
    count: u64,
    /// When the interval began, and the lines logged in it.
    since: Duration,
    lines: u64,
    /// Not logged since the last line.
    silent: u64,
}

impl Refusals {
    /// Counts a refusal. If it should be logged: how many of the same cause were not before it.
    pub(super) fn handle(&mut self, now: Duration, cause: &'static str) -> Option<u64> {
        let cause = self.causes.entry(cause).or_default();
        cause.count += 1;
        if now.saturating_sub(cause.since) >= INTERVAL {
            (cause.since, cause.lines) = (now, 0);
        }
        if cause.lines == LINES_MAX {
            cause.silent += 1;
            return None;
        }
        cause.lines += 1;
        Some(std::mem::take(&mut cause.silent))
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.causes.iter().map(|(&word, cause)| (word, cause.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_for_each_cause_and_none_is_lost_from_the_count() {
        let mut refusals = Refusals::default();
        let second = Duration::from_secs(1);
        let mut logged = [0, 0];
        let mut told = 0;
        for turn in 0..1000 {
            let now = second * (turn / 20);
            for (at, cause) in ["expired", "revoked"].into_iter().enumerate() {
                if let Some(silent) = refusals.handle(now, cause) {
                    logged[at] += 1;
                    told += 1 + silent;
                }
            }
        }
        // 50 seconds are five intervals of ten.
        assert_eq!(logged, [25, 25]);
        assert_eq!(refusals.counts(), BTreeMap::from([("expired", 1000), ("revoked", 1000)]));
        for cause in ["expired", "revoked"] {
            told += 1 + refusals.handle(second * 60, cause).expect("a new interval");
        }
        assert_eq!(told, 2002);
    }
}
