//! Numbers at the ends of their ranges: an error that says so, or a result that makes sense. Never a panic, an overflow or an abort.

use std::time::Duration;

use sync_store::{
    Check, Cursor, Delay, Error, Expiry, KeyvalZone, LimitZone, LimitZoneBuilder, MatchBy, Outcome, Rate,
    Record, Replica, StickyZone, Time,
};

use crate::support::{END, NOW, origin};

/// The largest zone: 16 GiB.
const SIZE_MAX: u64 = 16 << 30;

type Build = Box<dyn Fn(u64) -> Result<Box<dyn Replica>, Error>>;

/// How to make a zone of a size, for each kind of zone and some bounds of records.
fn builders() -> Vec<(String, Build)> {
    let mut builders: Vec<(String, Build)> = Vec::new();
    // The usual size of a record may be larger than any, or much smaller: then memory is badly shared out, and that is all.
    for (most, usual) in
        [(1, 48), (5, 1), (64, 64 << 10), (1_024, 1_024), (16 << 10, 48), (64 << 10, 64 << 10)]
    {
        for match_by in [MatchBy::Exact, MatchBy::Ip, MatchBy::Prefix] {
            let build = move |size| -> Result<Box<dyn Replica>, Error> {
                let zone = KeyvalZone::builder("z").size(size).match_by(match_by);
                Ok(Box::new(zone.max_record(most).record_size(usual).build()?))
            };
            builders.push((format!("keyval {match_by:?} {most} {usual}"), Box::new(build)));
        }
        let build = move |size| -> Result<Box<dyn Replica>, Error> {
            let zone = StickyZone::builder("z").size(size).max_record(most).record_size(usual);
            Ok(Box::new(zone.build()?))
        };
        builders.push((format!("sticky {most} {usual}"), Box::new(build)));
    }
    let build = |size| -> Result<Box<dyn Replica>, Error> { Ok(Box::new(limit().size(size).build()?)) };
    builders.push(("limit".to_owned(), Box::new(build)));
    builders
}

fn limit() -> LimitZoneBuilder {
    LimitZone::builder("z").rate("1r/s".parse().expect("a rate"))
}

/// The bounds that the error for this size names.
fn bounds(what: &str, build: &Build, refused: u64) -> (u64, u64) {
    match build(refused) {
        Err(Error::InvalidSize { zone, size, min, max }) => {
            assert_eq!((zone.as_str(), size), ("z", refused), "{what}");
            assert!(min < max && !(min..=max).contains(&refused), "{what}: {refused} is in {min}..={max}");
            (min, max)
        }
        other => panic!("{what}: a size of {refused}: {other:?}"),
    }
}

#[test]
fn sizes_outside_the_bounds_are_refused_and_the_bounds_are_right() {
    for (what, build) in builders() {
        let (min, max) = bounds(&what, &build, 0);
        assert_eq!(max, SIZE_MAX, "{what}");
        let refused =
            [1, 2, 7, 8, 63, 64, 65, 127, 1_023, min - 1_024, max + 1, max + 4_096, 1 << 40, 1 << 63];
        for size in refused.into_iter().chain([i64::MAX as u64, u64::MAX - 4_095, u64::MAX - 1, u64::MAX]) {
            assert_eq!(bounds(&what, &build, size), (min, max), "{what}: {size}");
        }
        // From the smallest size on all work, whole words and pages or not, and none takes more than it was given.
        for size in (min..min + 2_000).step_by(61).chain((min..80_000).step_by(1_237)) {
            let zone = build(size).unwrap_or_else(|error| panic!("{what}: {error}"));
            let stats = zone.stats();
            assert_eq!((stats.size_bytes, stats.records), (size, 0), "{what}");
            assert!(stats.used_bytes < size, "{what}: {stats:?}");
        }
        // The largest one is only asked for, not used: the system may have no memory for it, and may say so.
        match build(max) {
            // Its figures are left alone: a limit zone would look at every entry for them.
            Ok(zone) => assert_eq!(zone.dirty_count(), 0),
            Err(Error::InvalidSetting { setting: "size", value, .. }) => assert_eq!(value, max.to_string()),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn the_smallest_zones_work() {
    for (what, build) in builders() {
        let (min, _) = bounds(&what, &build, 0);
        let zone = build(min).expect("the smallest");
        for now in [Time::EPOCH, NOW, END] {
            assert_eq!(zone.sweep(now, usize::MAX), 0, "{what}");
            assert_eq!(zone.publish(now, &mut |_| true), (0, 0), "{what}");
            let mut meet = |_: &Record<'_>| true;
            let end = zone.scan(now, &[zone.origin()], &zone.vector(), Cursor::default(), &mut meet);
            assert!(end.is_none(), "{what}");
            assert_eq!((zone.digest(now), zone.dirty_count()), (0, 0), "{what}");
        }
        zone.cover(&[(origin(1), u64::MAX)].into_iter().collect());
        assert!(!zone.adopt(&[]), "{what}");
        assert_eq!(zone.vector().len(), 1, "{what}");
    }
    for max_record in [5, 64, 1_024, 16 << 10, 64 << 10] {
        let keyval = |size| KeyvalZone::builder("z").size(size).max_record(max_record).build();
        let Err(Error::InvalidSize { min, .. }) = keyval(0) else { panic!("0 is no size") };
        let zone = keyval(min).expect("the smallest");
        for round in 0..10u8 {
            for key in ["a", "b"] {
                zone.set(key, [round; 4], NOW, Expiry::Never).expect("room for two");
                assert_eq!(zone.get(key, NOW).as_deref(), Some(&[round; 4][..]));
            }
            assert_eq!(zone.remove("a", NOW), Ok(true));
        }
        let sticky = |size| StickyZone::builder("z").size(size).max_record(max_record).build();
        let Err(Error::InvalidSize { min, .. }) = sticky(0) else { panic!("0 is no size") };
        let zone = sticky(min).expect("the smallest");
        for session in 0..1_000u32 {
            zone.learn(session.to_le_bytes(), [7], NOW).expect("evicts");
            assert_eq!(zone.lookup(session.to_le_bytes(), NOW).as_deref(), Some(&[7][..]));
        }
    }
    let zone = limit().size(4_096).build().expect("the smallest");
    for key in 0..1_000u32 {
        assert!(zone.check(key.to_le_bytes(), &Check::default(), NOW).is_admitted());
        assert!(!zone.check(key.to_le_bytes(), &Check::default(), NOW).is_admitted());
    }
}

#[test]
fn a_bound_of_records_that_no_record_has_is_refused() {
    for max_record in [0, (64 << 10) + 1, 1 << 32, usize::MAX - 7, usize::MAX] {
        let expected = |error| match error {
            Error::InvalidSetting { zone, setting: "max_record", value, .. } => {
                assert_eq!((zone.as_str(), value), ("z", max_record.to_string()));
            }
            error => panic!("{error}"),
        };
        expected(KeyvalZone::builder("z").max_record(max_record).build().expect_err("out of bounds"));
        expected(StickyZone::builder("z").max_record(max_record).build().expect_err("out of bounds"));
        let record_size = KeyvalZone::builder("z").record_size(max_record).build();
        assert!(matches!(record_size, Err(Error::InvalidSetting { setting: "record_size", .. })));
        let record_size = StickyZone::builder("z").record_size(max_record).build();
        assert!(matches!(record_size, Err(Error::InvalidSetting { setting: "record_size", .. })));
        // Whatever else is wrong.
        let both = KeyvalZone::builder("z").max_record(max_record).size(0).build();
        assert!(both.is_err());
    }
}

#[test]
fn names_are_only_names() {
    for name in [String::new(), "\0".to_owned(), "../\n\u{202e}".to_owned(), "n".repeat(1 << 20)] {
        let keyval = KeyvalZone::builder(name.clone()).build().expect("a zone");
        let sticky = StickyZone::builder(name.clone()).build().expect("a zone");
        let limit = LimitZone::builder(name.clone()).rate("1r/s".parse().expect("a rate"));
        assert_eq!(Replica::name(&keyval), name);
        assert_eq!(sticky.name(), name);
        assert_eq!(Replica::name(&limit.build().expect("a zone")), name);
    }
}

#[test]
fn a_limit_zone_needs_a_rate() {
    let none = LimitZone::builder("z").size(0).build();
    assert!(matches!(none, Err(Error::InvalidSetting { setting: "rate", .. })), "{none:?}");
}

#[test]
fn times_without_end_mean_never_and_times_of_nothing_mean_at_once() {
    // Small enough that one sweep sees all of it.
    const SMALL: u64 = 64 << 10;
    let keyval = || KeyvalZone::builder("z").size(SMALL);
    let zone = keyval().timeout(Duration::MAX).tombstone_retention(Duration::MAX);
    let zone = zone.max_clock_skew(Duration::MAX).build().expect("a zone");
    for now in [Time::EPOCH, NOW, END] {
        zone.set("default", "v", now, Expiry::Default).expect("room");
        zone.set("after", "v", now, Expiry::After(Duration::MAX)).expect("room");
        zone.set("never", "v", now, Expiry::Never).expect("room");
        for at in [Time::EPOCH, NOW, END] {
            for key in ["default", "after", "never"] {
                assert!(zone.get(key, at).is_some(), "{key}");
            }
        }
        // "As late as there are times" is not "never", and may be asked for.
        assert_eq!(zone.entry("after", now).expect("there").expires_at, Some(END));
        assert_eq!(zone.entry("never", now).expect("there").expires_at, None);
        zone.sweep(END, usize::MAX);
        assert_eq!(zone.len(END), 3);
        zone.update("after", None, now, Some(Expiry::After(Duration::ZERO))).expect("there");
        assert!(zone.get("after", now.saturating_add(Duration::from_millis(1))).is_none() || now == END);
    }
    assert!(zone.remove("never", Time::EPOCH).expect("room"));
    zone.sweep(END, usize::MAX);
    assert_eq!(zone.stats().tombstones, 1, "a tombstone that is kept without end");

    let zone = keyval().timeout(Duration::ZERO).tombstone_retention(Duration::ZERO);
    let zone = zone.max_clock_skew(Duration::ZERO).build().expect("a zone");
    zone.set("default", "v", NOW, Expiry::Default).expect("room");
    zone.set("after", "v", NOW, Expiry::After(Duration::from_nanos(999_999))).expect("room");
    assert_eq!(zone.len(NOW), 0, "expired at once: expiry counts whole milliseconds");
    zone.sweep(NOW, usize::MAX);
    assert_eq!(zone.stats().records, 0);

    let sticky = |timeout| StickyZone::builder("z").size(SMALL).timeout(timeout).build();
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_nanos(999_999)] {
        let refused = sticky(timeout);
        assert!(matches!(&refused, Err(Error::InvalidSetting { setting: "timeout", value, .. })
            if *value == format!("{timeout:?}")));
    }
    for timeout in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_millis(u64::MAX - 1)] {
        let zone = sticky(timeout).expect("a zone");
        zone.learn("a", "server", Time::EPOCH).expect("room");
        assert!(zone.lookup("a", END).is_some());
        assert!(zone.lookup("a", Time::EPOCH).is_some());
        zone.sweep(END, usize::MAX);
        assert!(zone.forget("a", NOW).expect("room"));
    }
    let zone = sticky(Duration::from_millis(1)).expect("the shortest");
    zone.learn("a", "server", NOW).expect("room");
    assert!(zone.lookup("a", NOW).is_some());
    assert!(zone.lookup("a", Time::from_millis(NOW.as_millis() + 1)).is_none());
}

#[test]
fn rates_at_both_ends() {
    let most = [1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000];
    let per = [Rate::per_second, Rate::per_minute, Rate::per_hour, Rate::per_day];
    for ((per, most), suffix) in per.into_iter().zip(most).zip(["r/s", "r/m", "r/h", "r/d"]) {
        assert_eq!(per(most).expect("the highest").interval(), Duration::from_nanos(1));
        assert_eq!(per(1).expect("the lowest").interval(), Duration::from_nanos(most));
        for requests in [0, most + 1, i64::MAX as u64, u64::MAX] {
            let rate = format!("{requests}{suffix}");
            for refused in [per(requests), rate.parse()] {
                assert!(
                    matches!(&refused, Err(Error::InvalidRate { rate: named, .. }) if *named == rate),
                    "{refused:?}"
                );
            }
        }
    }
    // More digits than any number, and digits that are none.
    for rate in ["18446744073709551616r/s", "٣r/s", "1e3r/s", "\0r/s", "1r/s\0", "1 r/s", "-0r/s"] {
        assert!(matches!(rate.parse::<Rate>(), Err(Error::InvalidRate { .. })), "{rate}");
    }
    assert!(matches!(format!("{}r/s", "9".repeat(1 << 20)).parse::<Rate>(), Err(Error::InvalidRate { .. })));
}

/// Costs, bursts, delays, rates and times at their ends, all with all, each with a key of its own: what a bucket that was empty answers is what
/// arithmetic without bounds says.
#[test]
fn checks_at_the_ends_of_all_ranges() {
    // 292 years: no bucket holds more, whatever its burst.
    const CAPACITY_MAX: u128 = i64::MAX as u128;
    const COSTS: [i64; 8] = [i64::MIN, i64::MIN + 1, -1, 0, 1, 2, i64::MAX - 1, i64::MAX];
    const BURSTS: [u64; 5] = [0, 1, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    const DELAYS: [Delay; 5] =
        [Delay::None, Delay::After(0), Delay::After(1), Delay::After(u64::MAX), Delay::Nodelay];
    let zone = limit().size(1 << 20).build().expect("a zone");
    let rates =
        ["1r/d", "1r/s", "1000000000r/s", "86400000000000r/d"].map(|rate| rate.parse().expect("a rate"));
    let times = [0, 1, NOW.as_nanos(), i64::MAX as u64, u64::MAX - 1, u64::MAX];
    let mut key = 0u64;
    for rate in rates {
        let with = |burst| DELAYS.into_iter().flat_map(move |delay| COSTS.map(|cost| (burst, delay, cost)));
        for (burst, delay, cost) in BURSTS.into_iter().flat_map(with) {
            for now in times {
                key += 1;
                let terms = Check {
                    cost,
                    burst: Some(burst),
                    delay: Some(delay),
                    rate: Some(rate),
                    dry_run: Some(key.is_multiple_of(5)),
                };
                let what = format!("{terms:?} at {now}");
                let check =
                    |cost| zone.check(key.to_le_bytes(), &Check { cost, ..terms }, Time::from_nanos(now));
                let interval = rate.interval().as_nanos();
                let capacity = ((u128::from(burst) + 1) * interval).min(CAPACITY_MAX);
                let empty = u64::try_from(capacity / interval).expect("no more than the burst and one");

                let decision = check(cost);
                let work = u128::try_from(cost).unwrap_or(0) * interval;
                let fits = work <= capacity && u128::from(now) + work <= u128::from(u64::MAX);
                let left = (capacity - if fits { work } else { 0 }) / interval;
                assert_eq!(decision.outcome == Outcome::Passed, fits, "{what}: {decision:?}");
                assert_eq!(u128::from(decision.remaining()), left, "{what}: {decision:?}");
                assert!(decision.wait().is_zero(), "{what}: the bucket was empty");
                assert_eq!(decision.is_admitted(), fits || key.is_multiple_of(5), "{what}");
                let reset = Duration::from_nanos(if fits { work as u64 } else { 0 });
                assert_eq!(decision.reset(), reset, "{what}");
                assert!(
                    fits || decision.retry_after().is_none() || work <= capacity,
                    "{what}: waiting will not help"
                );

                // A second one at the same time finds what the first left.
                let second = check(1);
                assert!(second.remaining() <= decision.remaining(), "{what}: {second:?}");
                assert!(second.wait().as_nanos() <= capacity, "{what}: {second:?}");
                // Whatever is given back, there is no credit.
                for refund in [-1, i64::MIN + 1, i64::MIN] {
                    assert!(check(refund).remaining() <= empty, "{what}");
                }
                assert_eq!(check(0).remaining(), empty, "{what}: all was given back");
            }
        }
    }
}

#[test]
fn a_budget_of_any_size_sweeps_a_zone_once_at_most() {
    for budget in [0, 1, usize::MAX / 2, usize::MAX] {
        let keyval = KeyvalZone::builder("z").size(16 << 10).build().expect("a zone");
        keyval.set("a", "v", NOW, Expiry::After(Duration::from_secs(1))).expect("room");
        assert_eq!(keyval.sweep(END, budget), usize::from(budget > 0));
        let sticky = StickyZone::builder("z").size(16 << 10).build().expect("a zone");
        sticky.learn("a", "server", NOW).expect("room");
        assert_eq!(sticky.sweep(END, budget), usize::from(budget > 0));
        let limit = limit().size(4_096).build().expect("a zone");
        limit.check("a", &Check::default(), NOW);
        limit.publish(NOW, &mut |_| true);
        // A budget of one looks at one entry: once around they all were looked at.
        let freed: usize = (0..64).map(|_| limit.sweep(END, budget)).sum();
        assert_eq!(freed, usize::from(budget > 0));
    }
}
