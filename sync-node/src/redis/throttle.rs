//! `CL.THROTTLE key max_burst count period [quantity]`, as the module redis-cell answers it.
//!
//! Rate and burst come with each call, so that one zone serves any number of limits: what a bucket holds is kept as a time, whatever the rate.
//! The zone's own `rate` and `burst` mean nothing here; its `dry_run` does.

use super::keys::{Refusal, integer};
use super::reply::Replies;
use super::request::Request;
use std::time::Duration;
use sync_store::{Check, Decision, Delay, LimitZone, Rate, Time};

/// The five figures of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    limited: bool,
    limit: u64,
    remaining: i64,
    /// Seconds; -1 if the request was not limited, or will be however long one waits.
    retry_after: i64,
    /// Seconds.
    reset_after: i64,
}

/// Carries out the command.
pub(super) fn throttle(
    zone: &LimitZone,
    request: Request<'_>,
    now: Time,
    replies: &mut Replies,
) -> Result<(), Refusal> {
    if request.len() > 6 {
        return Err(Refusal::Plain(
            "ERR Usage: CL.THROTTLE <key> <max_burst> <count per period> <period> [<quantity>]",
        ));
    }
    let key = request.get(1);
    if key.is_empty() {
        return Err(Refusal::Plain("ERR the key is empty; a limit needs one"));
    }
    let natural = |index| u64::try_from(integer(request.get(index))?).map_err(|_| NOT_NATURAL);
    let max_burst = natural(2)?;
    let rate = Rate::per_seconds(natural(3)?, natural(4)?)?;
    let cost = if request.len() == 6 { integer(request.get(5))? } else { 1 };
    let check = Check {
        cost,
        burst: Some(max_burst),
        delay: Some(Delay::Nodelay),
        rate: Some(rate),
        ..Check::default()
    };
    let Answer { limited, limit, remaining, retry_after, reset_after } =
        answer(&zone.check(key, &check, now), max_burst, rate);
    replies.array(5);
    replies.integer(i64::from(limited));
    replies.count(limit);
    replies.integer(remaining);
    replies.integer(retry_after);
    replies.integer(reset_after);
    Ok(())
}

const NOT_NATURAL: Refusal = Refusal::Plain("ERR max_burst, count and period must not be negative");

fn answer(decision: &Decision, max_burst: u64, rate: Rate) -> Answer {
    let limit = max_burst.saturating_add(1);
    Answer {
        limited: !decision.is_admitted(),
        limit,
        remaining: remaining(decision.reset(), limit, rate),
        retry_after: decision.retry_after().filter(|_| !decision.is_admitted()).map_or(-1, seconds),
        reset_after: seconds(decision.reset()),
    }
}

/// How many more would be admitted: in whole microseconds, as redis-cell counts, so that what it would round is rounded alike. Intervals below that, for which
/// it divides by zero, are not.
fn remaining(reset: Duration, limit: u64, rate: Rate) -> i64 {
    let interval = rate.interval();
    let nanos = i128::from(limit) * interval.as_nanos() as i128 - reset.as_nanos() as i128;
    let interval_us = interval.as_micros() as i128;
    let remaining = if interval_us == 0 {
        nanos / interval.as_nanos() as i128
    } else {
        // The quotient of two such floats differs from this by rounding alone, from 2⁵³ µs on.
        nanos / 1_000 / interval_us
    };
    i64::try_from(remaining.max(0)).unwrap_or(i64::MAX)
}

/// Whole seconds, up if there is a millisecond more: redis-cell's rounding, by which less than that is nothing.
fn seconds(time: Duration) -> i64 {
    let seconds = time.as_secs() + u64::from(time.subsec_millis() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
