use super::super::definition::tests::any_definition;
use super::*;
use proptest::prelude::*;

const PERIOD_MS: u64 = 10_000;

fn now() -> Time {
    Time::from_millis(1_700_000_000_000)
}

fn window(age_ms: u64, current: u64, previous: u64) -> Window {
    Window { began_ms: now().as_millis() - age_ms, current, previous }
}

fn add(windows: &[Window]) -> Rate {
    sum_rates(windows.iter().copied(), PERIOD_MS, now())
}

/// What HAProxy reads from a rate: `read_freq_ctr_period`.
fn reading(rate: Rate) -> f64 {
    rate.current as f64 + rate.previous as f64 * (PERIOD_MS - rate.age_ms) as f64 / PERIOD_MS as f64
}

#[test]
fn a_record_says_in_words_what_was_counted() {
    let fields = [(2, 1, 0), (10, 1, PERIOD_MS), (23, 3, 0), (1, 1, 0)];
    let fields = fields.map(|(number, count, period_ms)| Field { number, count, period_ms });
    let rate = Datum::Rate(Rate { age_ms: 500, current: 12, previous: 40 });
    let data = [vec![Datum::Number(17)], vec![rate], vec![Datum::Number(1); 3], vec![Datum::Number(9)]];
    let text = Counts::new(&fields, &data, now()).to_text();
    assert_eq!(text, "gpc0=17 http_req_rate/10000=1699999999500:12:40 gpc=1,1,1");
}

#[test]
fn sums_are_of_what_is_the_same() {
    let parse = |text: &str| Counts::parse(text.as_bytes());
    let field = |number, count, period_ms| Field { number, count, period_ms };
    let all = [
        parse("gpc0=5 http_req_cnt=7 gpc=1,2,3"),
        parse("gpc0=6 gpc=10"),
        parse("http_req_rate/1000=1:2:3 gpc0=4294967295"),
        parse("gpc0=x http_req_cnt=1"),
        parse("nonsense"),
        Counts::parse(b"\xff"),
    ];
    let fields = [field(2, 1, 0), field(9, 1, 0), field(10, 1, PERIOD_MS), field(23, 2, 0)];
    let numbers = |n: &[u64]| n.iter().map(|n| Datum::Number(*n)).collect::<Vec<_>>();
    let expected =
        [numbers(&[u64::from(u32::MAX), 8]), vec![Datum::Rate(Rate::default())], numbers(&[11, 2])];
    assert_eq!(sum(&fields, &all, now()), expected.concat());
    assert_eq!(sum(&fields[..2], &all[..2], now()), numbers(&[11, 7]));
}

#[test]
fn periods_that_are_over_move_on() {
    assert_eq!(add(&[window(PERIOD_MS - 1, 5, 7)]), Rate { age_ms: PERIOD_MS - 1, current: 5, previous: 7 });
    assert_eq!(add(&[window(PERIOD_MS + 100, 5, 7)]), Rate { age_ms: 100, current: 0, previous: 5 });
    assert_eq!(add(&[window(2 * PERIOD_MS, 5, 7)]), Rate::default());
    // A clock that is ahead.
    let ahead = Window { began_ms: now().as_millis() + 5, current: 3, previous: 4 };
    assert_eq!(add(&[ahead]), Rate { age_ms: 0, current: 3, previous: 4 });
    assert_eq!(add(&[]), Rate::default());
}

#[test]
fn nothing_is_too_large() {
    let largest = window(PERIOD_MS / 2, u64::MAX, u64::MAX);
    let most = u64::from(u32::MAX);
    assert_eq!(add(&[largest, largest]), Rate { age_ms: PERIOD_MS / 2, current: most, previous: most });
}

proptest! {
    #[test]
    fn a_sum_reads_as_the_sum_of_what_is_read(
        parts in prop::collection::vec((0..PERIOD_MS, 0_u64..100_000, 0_u64..100_000), 1..8),
    ) {
        let windows: Vec<_> = parts.iter().map(|&(age_ms, current, previous)| window(age_ms, current, previous)).collect();
        let sum: f64 = parts.iter().map(|&(age_ms, current, previous)| reading(Rate { age_ms, current, previous })).sum();
        let read = reading(add(&windows));
        prop_assert!((read - sum).abs() <= 1.0, "{read} for {sum}");
    }

    /// Requests that come evenly at each HAProxy, wherever its periods begin: right in both parts, so that it stays right.
    #[test]
    fn even_rates_add_up(parts in prop::collection::vec((0..PERIOD_MS, 1_u64..100), 1..8)) {
        let windows: Vec<_> =
            parts.iter().map(|&(age_ms, rate)| window(age_ms, rate * age_ms, rate * PERIOD_MS)).collect();
        let sum: u64 = parts.iter().map(|(_, rate)| rate).sum();
        let rate = add(&windows);
        prop_assert_eq!((rate.current, rate.previous), (sum * rate.age_ms, sum * PERIOD_MS));
    }

    #[test]
    fn a_sum_of_periods_that_begin_together_is_exact(
        age_ms in 0..PERIOD_MS,
        counts in prop::collection::vec((0_u64..1_000_000, 0_u64..1_000_000), 1..8),
    ) {
        let windows: Vec<_> = counts.iter().map(|&(current, previous)| window(age_ms, current, previous)).collect();
        let sum = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        prop_assert_eq!(add(&windows), Rate { age_ms, current: sum.0, previous: sum.1 });
    }

    #[test]
    fn a_sum_is_bounded_by_what_came(parts in prop::collection::vec((0..2 * PERIOD_MS, 0_u64..100_000, 0_u64..100_000), 1..8)) {
        let windows: Vec<_> = parts.iter().map(|&(age, current, previous)| window(age, current, previous)).collect();
        let rate = add(&windows);
        let most: u64 = parts.iter().map(|(_, current, previous)| current + previous).sum();
        prop_assert!(rate.age_ms < PERIOD_MS);
        // A period before the two that are known may have been like the earlier one.
        prop_assert!(rate.current + rate.previous <= 2 * most + 2);
    }

    #[test]
    fn a_record_is_read_as_it_was_written(definition in any_definition(), number: u64, age_ms in 0..1_000_000_u64) {
        let datum = |field: &Field| match field.form() {
            Form::Rate => Datum::Rate(Rate { age_ms, current: number, previous: number / 2 }),
            Form::Server => Datum::Server(None),
            Form::Number | Form::Total(_) => Datum::Number(number),
        };
        let data: Vec<_> = definition.fields.iter().map(|field| vec![datum(field); field.count]).collect();
        let counts = Counts::new(&definition.fields, &data, now());
        prop_assert_eq!(Counts::parse(counts.to_text().as_bytes()), counts);
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, text in "(gpc0|http_req_rate|gpc)(/[0-9]{0,3})?=[0-9:,]{0,20}( gpc0=[0-9]{0,30})?") {
        let fields = [10, 2, 23].map(|number| Field { number, count: 3, period_ms: 10 });
        let all = [Counts::parse(&bytes), Counts::parse(text.as_bytes())];
        prop_assert_eq!(sum(&fields, &all, now()).len(), 9);
    }
}
