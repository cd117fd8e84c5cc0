use proptest::collection::vec;
use proptest::prelude::*;

use std::time::Duration;

use super::*;
use crate::{Replica as _, State};

mod stopped;

fn at(nanos: u64) -> Time {
    Time::from_nanos(1_000_000_000_000 + nanos)
}

fn zone(rate: &str, burst: u64) -> LimitZone {
    let builder = LimitZone::builder("z").size(32 << 10).rate(rate.parse().expect("a rate")).burst(burst);
    builder.delay(Delay::Nodelay).build().expect("a zone")
}

fn of(cost: i64) -> Check {
    Check { cost, ..Check::default() }
}

fn admitted(zone: &LimitZone, key: &str, tries: usize, now: Time) -> usize {
    (0..tries).filter(|_| zone.check(key, &Check::default(), now).is_admitted()).count()
}

#[test]
fn an_idle_key_admits_burst_and_one() {
    let zone = zone("10r/h", 9);
    assert_eq!(admitted(&zone, "a", 20, at(0)), 10);
    assert_eq!(admitted(&zone, "b", 3, at(0)), 3);
    let strict = Check { burst: Some(0), ..Check::default() };
    assert!(zone.check("c", &strict, at(0)).is_admitted());
    assert_eq!(zone.check("c", &strict, at(0)).outcome, Outcome::Rejected);
    assert_eq!(admitted(&zone, "a", 20, at(360_000_000_000 * 3)), 3, "three intervals later");
}

#[test]
fn early_requests_wait_their_turn() {
    let zone = zone("1r/s", 4);
    let second = Duration::from_secs(1);
    let delay = |delay| Check { delay: Some(delay), ..Check::default() };
    let waits = |key, check: Check| -> Vec<Duration> {
        (0..5).map(|_| zone.check(key, &check, at(0)).wait()).collect()
    };
    assert_eq!(waits("all", delay(Delay::None)), [0, 1, 2, 3, 4].map(|n| second * n));
    assert_eq!(waits("after", delay(Delay::After(2))), [0, 0, 0, 1, 2].map(|n| second * n));
    assert_eq!(waits("none", delay(Delay::Nodelay)), [Duration::ZERO; 5]);
    assert_eq!(
        zone.counters(),
        LimitCounters { passed: 1 + 3 + 5, delayed: 4 + 2, ..LimitCounters::default() }
    );
}

#[test]
fn a_dry_run_charges_and_lets_everything_pass() {
    let zone = zone("1r/s", 1);
    let check = Check { dry_run: Some(true), delay: Some(Delay::None), ..Check::default() };
    let outcomes = [0; 3].map(|_| zone.check("k", &check, at(0)));
    assert_eq!(
        outcomes.map(|decision| decision.outcome),
        [Outcome::Passed, Outcome::DelayedDryRun, Outcome::RejectedDryRun]
    );
    assert!(outcomes.iter().all(|decision| decision.is_admitted() && decision.wait().is_zero()));
    assert_eq!(outcomes[2].retry_after(), Some(Duration::from_secs(1)));
    let expected =
        LimitCounters { passed: 1, delayed_dry_run: 1, rejected_dry_run: 1, ..LimitCounters::default() };
    assert_eq!(zone.counters(), expected);
    zone.reset_counters();
    assert_eq!(zone.counters(), LimitCounters::default());
}

#[test]
fn cost_zero_looks_and_a_negative_cost_refunds() {
    let zone = zone("1r/s", 9);
    assert_eq!(zone.check("k", &of(0), at(0)).remaining(), 10);
    assert_eq!(zone.stats().records, 0, "looking leaves nothing behind");
    assert_eq!(zone.check("k", &of(7), at(0)).remaining(), 3);
    assert_eq!(zone.check("k", &of(4), at(0)).outcome, Outcome::Rejected);
    assert_eq!(zone.check("k", &of(0), at(0)).reset(), Duration::from_secs(7));
    assert_eq!(zone.check("k", &of(-2), at(0)).remaining(), 5);
    assert_eq!(zone.check("k", &of(i64::MIN), at(0)).remaining(), 10, "no credit");
    assert_eq!(zone.check("unseen", &of(-5), at(0)).remaining(), 10);
    assert_eq!(zone.check("k", &of(11), at(0)).retry_after(), None, "never");
    assert_eq!(zone.stats().records, 1);
}

#[test]
fn forgetting_empties_the_bucket() {
    let zone = zone("1r/h", 1);
    let long = "a key that is longer than sixteen bytes";
    assert_eq!(admitted(&zone, "a", 9, at(0)) + admitted(&zone, long, 9, at(0)), 4);
    assert!(zone.forget(long, at(0)));
    assert!(!zone.forget(long, at(0)));
    assert_eq!(admitted(&zone, long, 9, at(0)), 2);
    assert_eq!(zone.clear(at(0)), 2);
    assert_eq!(admitted(&zone, "a", 9, at(0)), 2);
}

#[test]
fn the_empty_key_is_not_limited() {
    let zone = zone("1r/h", 0);
    assert_eq!(admitted(&zone, "", 100, at(0)), 100);
    assert_eq!(zone.counters(), LimitCounters::default(), "nor accounted");
}

#[test]
fn a_zone_without_rate_or_of_no_size_is_refused() {
    assert!(LimitZone::builder("z").build().expect_err("no rate").to_string().contains("100r/s"));
    let rate = "1r/s".parse().expect("a rate");
    for size in [0, MIN_SIZE - 1, MAX_SIZE + 1, u64::MAX] {
        let error = LimitZone::builder("z").size(size).rate(rate).build().expect_err("bad size");
        assert_eq!(error, Error::InvalidSize { zone: "z".to_owned(), size, min: MIN_SIZE, max: MAX_SIZE });
    }
    assert!(LimitZone::builder("z").size(MIN_SIZE).rate(rate).build().expect("small").slots() >= 32);
    let slots = LimitZone::builder("z").size(1 << 20).rate(rate).build().expect("1 MiB").slots();
    assert!(slots * 64 > (1 << 20) * 96 / 100, "{slots} of 16384");
}

#[test]
fn a_full_zone_keeps_the_busiest() {
    let zone = LimitZone::builder("z").size(MIN_SIZE).rate("1r/h".parse().expect("a rate")).burst(99);
    let zone = zone.build().expect("a zone");
    let slots = zone.slots();
    for i in 0..slots {
        zone.check(format!("idle-{i}"), &Check::default(), at(0));
    }
    // All of those have drained and are published; the new ones find room without evicting anything that counts.
    zone.publish(at(0), &mut |_| true);
    let later = at(3_600_000_000_001);
    let evicted = zone.stats().evicted;
    for i in 0..slots / 8 {
        zone.check(format!("busy-{i}"), &of(2), later);
    }
    assert_eq!(zone.stats().evicted, evicted);
    for i in 0..slots / 8 {
        assert_eq!(zone.check(format!("busy-{i}"), &of(0), later).remaining(), 98);
    }
    // Far more than fit: the earliest arrival times go.
    zone.check("favourite", &of(100), later);
    for i in 0..slots * 4 {
        zone.check(format!("flood-{i}"), &Check::default(), later);
    }
    assert!(zone.stats().evicted > 0);
    assert_eq!(zone.check("favourite", &of(0), later).remaining(), 0);
    assert_eq!(zone.stats().records, slots as u64);
}

#[test]
fn sweeping_frees_what_is_idle_and_published() {
    let zone = zone("1r/s", 0);
    for i in 0..20 {
        zone.check(format!("{i}"), &Check::default(), at(0));
    }
    let later = at(2_000_000_000);
    assert_eq!(zone.sweep_idle(later.as_nanos(), usize::MAX), 0, "their debts are to be published");
    zone.publish(later, &mut |_| true);
    assert_eq!(zone.sweep_idle(at(0).as_nanos(), usize::MAX), 0, "they are busy");
    let freed: usize = (0..16).map(|part| zone.sweep_part(later, usize::MAX, part, 16)).sum();
    assert_eq!(freed, 20);
    assert_eq!((zone.stats().records, zone.stats().expired), (0, 20));
    assert!(zone.stats().used_bytes < 2500);
}

#[test]
fn threads_on_one_key_admit_exactly_what_fits() {
    for round in 0..50 {
        let zone = zone("10r/h", 99);
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| admitted(&zone, "a key that races", 60, at(round)))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(total, 100);
        let mut debts = Vec::new();
        zone.publish(at(round), &mut |record| {
            let State::Limit { tat_ns, debt_ns } = record.state else { panic!("not a limit") };
            debts.push((tat_ns, debt_ns));
            true
        });
        let work = 100 * 360_000_000_000;
        assert_eq!(debts, [(at(round).as_nanos() + work, work.cast_signed())]);
    }
}

#[test]
fn threads_on_many_keys_lose_nothing_while_idle_entries_are_taken_away() {
    // More keys than entries; each is checked at a time of its own, when all others are idle or published.
    let zone = LimitZone::builder("z").size(MIN_SIZE).rate("1000r/s".parse().expect("a rate")).burst(9);
    let zone = zone.build().expect("a zone");
    let keys = zone.slots() * 2;
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let zone = &zone;
            scope.spawn(move || {
                for i in 0..20_000_u64 {
                    let key = format!("{}", (i * 7 + thread * 13) % keys as u64);
                    zone.check(&key, &Check::default(), at(i * 1_000_000));
                    zone.publish(at(0), &mut |_| true);
                    zone.sweep_idle(at(i * 1_000_000).as_nanos(), 4);
                }
            });
        }
    });
    // No key is there twice.
    let mut live: Vec<_> =
        (0..zone.slots()).filter_map(|slot| zone.live(slot)).map(|key| key.words).collect();
    let count = live.len();
    live.sort_unstable();
    live.dedup();
    assert_eq!(live.len(), count);
}

/// The oracle: the list of all admitted work with its times; the level is found by draining second after second.
#[derive(Default)]
struct Oracle {
    level: u128,
    at: u64,
}

impl Oracle {
    fn check(&mut self, interval: u64, burst: u64, cost: i64, now: u64) -> bool {
        self.level = self.level.saturating_sub(u128::from(now - self.at));
        self.at = now;
        let work = u128::from(cost.unsigned_abs()) * u128::from(interval);
        if cost < 0 {
            self.level = self.level.saturating_sub(work);
            return true;
        }
        let fits = self.level + work <= (u128::from(burst) + 1) * u128::from(interval);
        if fits {
            self.level += work;
        }
        fits
    }
}

proptest! {
    #[test]
    fn decisions_are_those_of_a_leaky_bucket(
        requests in 1_u64..5_000,
        burst in 0_u64..50,
        checks in vec((0_u64..3_000_000_000, -2_i64..6), 1..80),
    ) {
        let zone = LimitZone::builder("z").size(MIN_SIZE).burst(burst).delay(Delay::Nodelay);
        let rate = Rate::per_second(requests).expect("valid");
        let zone = zone.rate(rate).build().expect("a zone");
        let mut oracle = Oracle { level: 0, at: at(0).as_nanos() };
        let mut now = 0;
        for (step, cost) in checks {
            now += step / requests;
            let expected = oracle.check(rate.interval_ns(), burst, cost, at(now).as_nanos());
            let decision = zone.check("k", &of(cost), at(now));
            prop_assert_eq!(decision.is_admitted(), expected);
            prop_assert_eq!(u128::from(decision.reset().as_nanos() as u64), oracle.level);
            prop_assert_eq!(decision.remaining(), burst + 1 - (oracle.level as u64).div_ceil(rate.interval_ns()));
            if let Some(wait) = decision.retry_after() {
                prop_assert!(!zone.check("k", &of(cost), at(now + wait.as_nanos() as u64 - 1)).is_admitted());
            }
        }
    }

    #[test]
    fn extreme_values_never_panic(
        checks in vec((any::<u64>(), any::<i64>(), any::<u64>(), any::<u64>()), 1..40),
        edges in vec(0_usize..4, 40),
    ) {
        let zone = zone("1r/d", u64::MAX);
        for ((now, cost, burst, delay), edge) in checks.into_iter().zip(edges) {
            let now = [now, 0, u64::MAX, now % 1000][edge];
            let cost = [cost, i64::MAX, i64::MIN, 1][edge];
            let check = Check { cost, burst: Some(burst), delay: Some(Delay::After(delay)), ..Check::default() };
            zone.check("k", &check, Time::from_nanos(now));
            zone.publish(Time::from_nanos(now), &mut |_| true);
            zone.digest(Time::from_nanos(now));
        }
    }
}

/// What `docs/performance.md` says a key takes: 80 bytes of a zone, everything included, and then hardly one in a hundred busy keys has to go.
#[test]
fn a_zone_of_80_bytes_a_key_keeps_its_keys() {
    let keys = 50_000u64;
    let zone = LimitZone::builder("full").size(keys * 80).rate("1r/m".parse().expect("a rate")).burst(5);
    let zone = zone.build().expect("a zone");
    for key in 0..keys {
        zone.check(key.to_be_bytes(), &Check::default(), at(0));
    }
    assert!(zone.stats().records >= keys * 99 / 100, "{}", zone.stats().records);
}

#[test]
fn a_strict_zone_that_is_divided_admits_its_share_and_publishes_what_it_admitted() {
    let builder =
        || LimitZone::builder("strict").size(8 << 10).rate("10r/s".parse().expect("a rate")).burst(8);
    let at = |ms: u64| at(ms * 1_000_000);
    let admitted = |zone: &LimitZone, key: &str, from_ms: u64, to_ms: u64| {
        (from_ms..to_ms).filter(|&ms| zone.check(key, &Check::default(), at(ms)).is_admitted()).count()
    };
    let zone = builder().strict(true).build().expect("a good one");
    assert_eq!(admitted(&zone, "whole", 0, 1), 1);
    assert_eq!(zone.check("whole", &Check::default(), at(0)).remaining(), 7);
    zone.divide(3);
    // A third of 9 at once and a third of 10 a second.
    assert_eq!(admitted(&zone, "divided", 0, 1_501), 3 + 5);
    assert_eq!(zone.check("divided", &Check { cost: 0, ..Check::default() }, at(1_500)).remaining(), 0);
    let mut published = 0;
    zone.publish(at(1_500), &mut |record| {
        if let (b"divided", State::Limit { debt_ns, .. }) = (record.key, record.state) {
            published += debt_ns;
        }
        true
    });
    assert_eq!(published, 8 * 100_000_000);
    // More members than the burst has requests: none.
    zone.divide(10);
    assert_eq!(admitted(&zone, "none", 0, 1_000), 0);
    zone.divide(1);
    assert_eq!(admitted(&zone, "none", 1_000, 1_001), 1);

    let loose = builder().build().expect("a good one");
    loose.divide(3);
    assert_eq!((loose.members(), loose.is_strict()), (1, false));
    assert_eq!((0..20).filter(|_| loose.check("k", &Check::default(), at(0)).is_admitted()).count(), 9);
}
