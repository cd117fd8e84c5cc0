use super::*;

#[test]
fn a_tick_follows_the_wall_clock_and_never_repeats() {
    let word = AtomicU64::new(0);
    let clock = Hlc::new(&word);
    let first = clock.tick(Time::from_millis(1_000));
    let second = clock.tick(Time::from_millis(1_000));
    let third = clock.tick(Time::from_millis(900));
    assert_eq!((first.millis(), second.millis(), third.millis()), (1_000, 1_000, 1_000));
    assert!(first < second && second < third);
    assert_eq!(
        clock.tick(Time::from_millis(2_000)).raw(),
        Stamp::from_time(Time::from_millis(2_000)).raw() + 1,
        "odd"
    );
}

#[test]
fn what_was_observed_comes_before_the_next_tick() {
    let word = AtomicU64::new(0);
    let clock = Hlc::new(&word);
    let seen = Stamp::from_raw((5_000 << 16) | 9);
    clock.observe(seen);
    clock.observe(Stamp::from_raw(3));
    assert_eq!(clock.tick(Time::from_millis(1)).raw(), seen.raw() + 2, "the next odd one");
}

#[test]
fn the_successor_of_a_record_is_even_and_later_than_it_and_the_wall_clock() {
    let now = Time::from_millis(1_000);
    let first = Stamp::from_time(now);
    for seen in [first, Stamp::from_raw(first.raw() + 1), Stamp::from_raw(first.raw() + 2)] {
        let next = seen.next_even(now);
        assert!(next > seen && next.raw() % 2 == 0);
    }
    assert_eq!(Stamp::NEVER.next_even(now), first);
    assert!(Stamp::from_raw(u64::MAX).next_even(now).raw() >= u64::MAX - 1);
}

#[test]
fn the_counter_runs_over_into_the_milliseconds() {
    let full = Stamp::from_raw((7 << 16) | 0xffff);
    assert_eq!(full.tick(Time::EPOCH).millis(), 8);
    assert_eq!(Stamp::from_raw(u64::MAX).tick(Time::EPOCH).raw(), u64::MAX);
}

#[test]
fn a_stamp_too_far_ahead_names_both_times() {
    let now = Time::from_millis(10_000);
    let skew = Duration::from_secs(5);
    assert!(Stamp::from_time(Time::from_millis(15_000)).check_skew("z", now, skew).is_ok());
    let error = Stamp::from_time(Time::from_millis(15_001)).check_skew("z", now, skew).unwrap_err();
    assert_eq!(
        error,
        Error::StampAhead { zone: "z".to_owned(), stamp_ms: 15_001, now_ms: 10_000, max_skew: skew }
    );
    assert!(Stamp::from_raw(u64::MAX).check_skew("z", now, skew).is_err());
    let end = Time::from_nanos(u64::MAX);
    assert!(Stamp::from_time(end).check_skew("z", end, Duration::MAX).is_ok());
    assert!(
        Stamp::from_raw(u64::MAX).check_skew("z", end, Duration::MAX).is_err(),
        "nothing could come after it"
    );
}

#[test]
fn threads_never_share_a_stamp() {
    let word = AtomicU64::new(0);
    let mut all: Vec<Stamp> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..1_000).map(|i| Hlc::new(&word).tick(Time::from_millis(i / 100))).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4_000);
}
