use super::*;
use crate::redis::reply::Replies;
use crate::redis::request::{Bounds, Parser};
use proptest::prelude::*;

/// The algorithm of redis-cell, written down from its description: nanoseconds, whole microseconds for what remains, seconds as it rounds them. Without what
/// it does for quantities below 0, which is to give more than there was.
#[derive(Default)]
struct Cell {
    tat: Option<i64>,
}

impl Cell {
    fn throttle(&mut self, now: i64, max_burst: i64, count: i64, period: i64, quantity: i64) -> [i64; 5] {
        let interval = (period * 1_000_000_000) / count;
        let tolerance = interval * (max_burst + 1);
        let increment = interval * quantity;
        // A bucket that is empty is not kept: its key expires.
        let tat = self.tat.filter(|tat| *tat > now).unwrap_or(now);
        let new_tat = now.max(tat) + increment;
        let ahead = new_tat - tolerance - now;
        let limited = ahead > 0;
        let retry_after = if limited && increment <= tolerance { Some(ahead) } else { None };
        let ttl = if limited {
            tat - now
        } else {
            self.tat = Some(new_tat);
            new_tat - now
        };
        let next = tolerance - ttl;
        let remaining =
            if next > -interval { ((next / 1_000) as f64 / (interval / 1_000) as f64) as i64 } else { 0 };
        let seconds = |ns: i64| ns / 1_000_000_000 + i64::from(ns / 1_000_000 % 1_000 > 0);
        [i64::from(limited), max_burst + 1, remaining, retry_after.map_or(-1, seconds), seconds(ttl.max(0))]
    }
}

fn zone() -> LimitZone {
    let rate = Rate::per_day(1).expect("a rate");
    LimitZone::builder("req").size(64 << 10).rate(rate).build().expect("a zone")
}

fn ask(zone: &LimitZone, line: &str, now: Time) -> String {
    let (mut parser, mut replies) = (Parser::default(), Replies::default());
    let line = format!("cl.throttle {line}\n");
    parser.read(line.as_bytes(), Bounds::KNOWN).expect("well-formed").expect("whole");
    if let Err(refusal) = throttle(zone, parser.request(line.as_bytes()), now, &mut replies) {
        replies.error(refusal);
    }
    String::from_utf8_lossy(replies.bytes()).trim_end().to_owned()
}

fn shown(answer: [i64; 5]) -> String {
    let [a, b, c, d, e] = answer;
    format!("*5\r\n:{a}\r\n:{b}\r\n:{c}\r\n:{d}\r\n:{e}")
}

const START: i64 = 1_700_000_000_000_000_000;

fn at(ns: i64) -> Time {
    Time::from_nanos(u64::try_from(START + ns).expect("a time"))
}

#[test]
fn the_example_of_redis_cell() {
    assert_eq!(ask(&zone(), "user123 15 30 60", at(0)), shown([0, 16, 15, -1, 2]));
}

#[test]
fn a_bucket_fills_refuses_and_drains() {
    let zone = zone();
    for remaining in (0..5).rev() {
        assert_eq!(ask(&zone, "k 4 1 1", at(0)), shown([0, 5, remaining, -1, 5 - remaining]));
    }
    assert_eq!(ask(&zone, "k 4 1 1", at(0)), shown([1, 5, 0, 1, 5]));
    // More than it ever holds: waiting does not help.
    assert_eq!(ask(&zone, "k 4 1 1 6", at(0)), shown([1, 5, 0, -1, 5]));
    assert_eq!(ask(&zone, "k 4 1 1 0", at(0)), shown([0, 5, 0, -1, 5]));
    assert_eq!(ask(&zone, "k 4 1 1 2", at(1_500_000_000)), shown([1, 5, 1, 1, 4]));
    // What is given back is there again, and never more than there was.
    assert_eq!(ask(&zone, "k 4 1 1 -2", at(1_500_000_000)), shown([0, 5, 3, -1, 2]));
    assert_eq!(ask(&zone, "k 4 1 1 -9", at(1_500_000_000)), shown([0, 5, 5, -1, 0]));
}

#[test]
fn other_parameters_are_another_view_of_the_same_bucket() {
    let zone = zone();
    assert_eq!(ask(&zone, "k 9 10 10 5", at(0)), shown([0, 10, 5, -1, 5]));
    // Five seconds of work are ten requests at twice the rate.
    assert_eq!(ask(&zone, "k 19 20 10 0", at(0)), shown([0, 20, 10, -1, 5]));
}

#[test]
fn nonsense_is_refused_and_named() {
    let zone = zone();
    for (line, expected) in [
        ("k 1 1 x", "-ERR value is not an integer or out of range"),
        ("k +1 1 1", "-ERR value is not an integer or out of range"),
        ("k -1 1 1", "-ERR max_burst, count and period must not be negative"),
        ("k 1 0 1", "-ERR rate `0r/s`: a rate admits at least one request per period"),
        ("k 1 1 0", "-ERR rate `1r/0s`: a period is from one second to ten years long, 315360000 seconds"),
        ("k 1 9000000000 1", "-ERR rate `9000000000r/s`: a rate admits at most one request per nanosecond"),
        ("\"\" 1 1 1", "-ERR the key is empty; a limit needs one"),
        ("k 1 1 1 1 1", "-ERR Usage: CL.THROTTLE <key> <max_burst> <count per period> <period> [<quantity>]"),
    ] {
        assert_eq!(ask(&zone, line, at(0)), expected, "{line}");
    }
    // The largest numbers are numbers.
    let answer = ask(&zone, &format!("k {} 1 315360000 1", i64::MAX), at(0));
    assert!(answer.starts_with("*5\r\n:0\r\n:9223372036854775807\r\n"), "{answer}");
    let answer = ask(&zone, &format!("m 1 1 1 {}", i64::MIN), at(0));
    assert!(answer.starts_with("*5\r\n:0\r\n:2\r\n:2\r\n"), "{answer}");
}

proptest! {
    /// Whatever is asked at whatever times, the answers are those of redis-cell.
    #[test]
    fn answers_are_those_of_redis_cell(
        max_burst in 0..40i64,
        count in 1..2_000i64,
        period in 1..200i64,
        steps in proptest::collection::vec((0..8_000_000_000i64, 0..6i64), 1..60),
        scale in 0..4u32,
    ) {
        let (zone, mut cell, mut now) = (zone(), Cell::default(), 0);
        for (step, quantity) in steps {
            now += step / 1_000i64.pow(scale);
            let ours = ask(&zone, &format!("k {max_burst} {count} {period} {quantity}"), at(now));
            let theirs = cell.throttle(START + now, max_burst, count, period, quantity);
            prop_assert_eq!(ours, shown(theirs), "at {} quantity {}", now, quantity);
        }
    }
}
