use super::super::rules::Rules;
use super::super::schema::Strategy;
use super::*;
use proptest::prelude::{prop, prop_assert, proptest};
use sync_store::{Origin, Record, Replica, State};

const RULES: &str = "
domain: web
descriptors:
- {key: hundred, rate_limit: {unit: hour, requests_per_unit: 100}}
- {key: fast, rate_limit: {unit: second, requests_per_unit: 100}}
- {key: none, rate_limit: {unit: second, requests_per_unit: 0}}
- {key: shadow, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 100}}
- key: b
  descriptors:
  - {key: a, rate_limit: {unit: hour, requests_per_unit: 7}}
";

fn at(ms: u64) -> Time {
    Time::from_millis(1_700_000_000_000 + ms)
}

fn rules() -> Rules {
    Rules::parse(RULES, "r.yaml".as_ref()).expect("good rules")
}

fn zone(dry_run: bool) -> Arc<LimitZone> {
    let zone = LimitZone::builder("req").rate("1r/s".parse().expect("a rate")).dry_run(dry_run).build();
    Arc::new(zone.expect("a zone"))
}

/// The zone of one of several nodes.
fn zone_of_node(number: u64) -> Arc<LimitZone> {
    let zone = LimitZone::builder("req")
        .rate("1r/s".parse().expect("a rate"))
        .origin(Origin::from_raw(number).expect("not 0"));
    Arc::new(zone.build().expect("a zone"))
}

/// Two nodes hear of what the other one has charged since they last did.
fn exchange(zones: &[Arc<LimitZone>; 2], ms: u64) {
    let published = zones.each_ref().map(|zone| {
        let mut rows = Vec::new();
        let (from, through) = zone.publish(at(ms), &mut |record| {
            let State::Limit { tat_ns, debt_ns } = record.state else { panic!("not a limit") };
            rows.push((record.key.to_vec(), record.dot, tat_ns, debt_ns));
            true
        });
        (zone.origin(), from, through, rows)
    });
    for (zone, (origin, from, through, rows)) in zones.iter().rev().zip(published) {
        let mut records = rows.iter().map(|&(ref key, dot, tat_ns, debt_ns)| Record {
            key,
            dot,
            state: State::Limit { tat_ns, debt_ns },
        });
        zone.apply_batch(at(ms), origin, from, through, &mut records).expect("good rows");
    }
}

fn id(keys: &[&str]) -> Id {
    keys.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect()
}

fn usage(key: &str, allowed: u64, denied: u64) -> BucketQuotaUsage {
    BucketQuotaUsage {
        bucket_id: Some(BucketId { bucket: id(&[key]) }),
        num_requests_allowed: allowed,
        num_requests_denied: denied,
    }
}

/// What is left of the limit of a bucket.
fn left(zone: &LimitZone, key: &str, now: Time) -> u64 {
    match Terms::new(rules().find_unordered("web", &id(&[key])), false) {
        Terms::Limited(limit) | Terms::Open(Some(limit)) => {
            limit.check(zone, 0, limit.capacity(), now).remaining()
        }
        other => panic!("{other:?}"),
    }
}

fn strategy(action: BucketAction) -> Strategy {
    match action.bucket_action {
        Some(Action::QuotaAssignmentAction(assignment)) => {
            let life = assignment.assignment_time_to_live.expect("it ends");
            assert_eq!((life.seconds, life.nanos), (10, 0));
            assignment.rate_limit_strategy.and_then(|strategy| strategy.strategy).expect("a strategy")
        }
        other => panic!("{other:?}"),
    }
}

/// How many requests assignments of one bucket admit: the last counts, and is full only behind a refusal, or as the first.
fn allowance(actions: Vec<BucketAction>) -> Option<u64> {
    let mut strategies: Vec<Strategy> = actions.into_iter().map(strategy).collect();
    match strategies.pop()? {
        Strategy::TokenBucket(bucket) => {
            assert!(strategies.iter().all(|before| *before == blanket(BlanketRule::DenyAll)));
            Some(bucket.max_tokens.into())
        }
        other => panic!("{other:?}"),
    }
}

/// The one strategy that is assigned.
fn only(mut actions: Vec<BucketAction>) -> Option<Strategy> {
    assert!(actions.len() <= 1, "{actions:?}");
    actions.pop().map(strategy)
}

/// What is answered to a report.
fn report(quotas: &mut Quotas, rules: &Rules, usage: BucketQuotaUsage, ms: u64) -> Vec<BucketAction> {
    let mut actions = Vec::new();
    quotas.report(rules, "web", usage, at(ms), &mut actions);
    actions
}

fn tick(quotas: &mut Quotas, ms: u64) -> Vec<BucketAction> {
    let mut actions = Vec::new();
    quotas.tick(at(ms), &mut actions);
    actions
}

/// One Envoy, as it keeps a bucket.
struct Envoy {
    quotas: Quotas,
    tokens: u64,
    last: Option<Strategy>,
    allowed: u64,
    denied: u64,
    allowed_ever: u64,
}

impl Envoy {
    fn new(zone: &Arc<LimitZone>) -> Self {
        let quotas = Quotas::new(Arc::clone(zone));
        Self { quotas, tokens: 0, last: None, allowed: 0, denied: 0, allowed_ever: 0 }
    }

    fn obey(&mut self, action: BucketAction) {
        let new = strategy(action);
        self.tokens = match (self.last.replace(new), new) {
            (last, new) if last == Some(new) => self.tokens,
            // The part of it that was left of the last.
            (Some(Strategy::TokenBucket(last)), Strategy::TokenBucket(new)) => {
                u64::from(new.max_tokens) * self.tokens / u64::from(last.max_tokens)
            }
            (_, Strategy::TokenBucket(new)) => new.max_tokens.into(),
            (_, Strategy::BlanketRule(_)) => 0,
        };
    }

    fn request(&mut self, times: u64) {
        let passed = self.tokens.min(times);
        self.tokens -= passed;
        self.allowed += passed;
        self.allowed_ever += passed;
        self.denied += times - passed;
    }

    fn report(&mut self, ms: u64) {
        let usage = usage("fast", self.allowed, self.denied);
        (self.allowed, self.denied) = (0, 0);
        report(&mut self.quotas, &rules(), usage, ms).into_iter().for_each(|action| self.obey(action));
    }

    fn tick(&mut self, ms: u64) {
        tick(&mut self.quotas, ms).into_iter().for_each(|action| self.obey(action));
    }
}

#[test]
fn an_allowance_is_charged_and_what_was_not_used_is_given_back() {
    let (zone, rules) = (zone(false), rules());
    let mut quotas = Quotas::new(Arc::clone(&zone));
    let mut after =
        |allowed, denied, ms| allowance(report(&mut quotas, &rules, usage("hundred", allowed, denied), ms));
    // The request that was let through without an assignment counts. A quarter of what is left stands ready.
    assert_eq!(after(1, 0, 0), Some(25));
    assert_eq!(left(&zone, "hundred", at(0)), 74);
    // It wants more: 2 times 28, besides the 5 that it has, which it may use until it hears of the others.
    assert_eq!(after(20, 8, 1000), Some(51));
    assert_eq!(left(&zone, "hundred", at(1000)), 23);
    // It has enough to do the same again. The 5 count as the first that were used: they may have been.
    assert_eq!(after(20, 0, 2000), None);
    assert_eq!(left(&zone, "hundred", at(2000)), 23);
    // Much less was used: it shrinks, and the rest is given back as soon as it cannot be used any more.
    assert_eq!(after(1, 0, 3000), Some(15));
    assert_eq!(left(&zone, "hundred", at(3000)), 23);
    assert_eq!(after(0, 0, 4000), None);
    assert_eq!(left(&zone, "hundred", at(4000)), 43);
    quotas.close(at(4000));
    assert_eq!(left(&zone, "hundred", at(4000)), 100 - 42);
}

#[test]
fn an_envoy_that_has_nothing_left_is_told_so_once_and_given_more_when_there_is_more() {
    let (zone, rules) = (zone(false), rules());
    let (mut one, mut other) = (Quotas::new(Arc::clone(&zone)), Quotas::new(Arc::clone(&zone)));
    assert_eq!(allowance(report(&mut one, &rules, usage("fast", 0, 1000), 0)), Some(100));
    let denied = only(report(&mut other, &rules, usage("fast", 1, 0), 0));
    assert_eq!(denied, Some(blanket(BlanketRule::DenyAll)));
    // The one that was let through beyond all allowances was charged as well.
    assert_eq!(tick(&mut other, 10).len(), 0);
    assert_eq!(allowance(tick(&mut other, 20)), Some(1));
}

#[test]
fn nodes_that_are_asked_in_the_same_moment_give_the_limit_twice_and_make_up_for_it() {
    let (zones, rules) = ([1, 2].map(zone_of_node), rules());
    let mut quotas = zones.each_ref().map(|zone| Quotas::new(Arc::clone(zone)));
    for quotas in &mut quotas {
        assert_eq!(allowance(report(quotas, &rules, usage("fast", 0, 1000), 0)), Some(100));
    }
    exchange(&zones, 0);
    let mut given = |ms| {
        let given = quotas
            .each_mut()
            .map(|quotas| report(quotas, &rules, usage("fast", 0, 1000), ms).len() + tick(quotas, ms).len());
        given.iter().sum::<usize>()
    };
    assert_eq!((given(500), given(1000)), (0, 0));
    // What one bucket would have admitted by now, there is again: the first 200, and 50.
    assert_eq!(zones.each_ref().map(|zone| left(zone, "fast", at(1500))), [50, 50]);
}

#[test]
fn what_a_client_holds_that_was_turned_away_stays_charged() {
    let (zone, rules) = (zone(false), rules());
    let mut quotas = Quotas::new(Arc::clone(&zone));
    report(&mut quotas, &rules, usage("hundred", 0, 20), 0);
    assert_eq!(left(&zone, "hundred", at(0)), 60);
    quotas.forget();
    quotas.close(at(0));
    assert_eq!(left(&zone, "hundred", at(0)), 60);
}

#[test]
fn envoys_that_want_all_get_equal_parts_and_one_that_wants_less_gets_what_it_wants() {
    let zone = zone(false);
    let mut envoys = [(); 3].map(|()| Envoy::new(&zone));
    let mut random = 1_u64;
    let mut ticks = [0_u64; 3];
    for ms in 0..20_000 {
        for (n, envoy) in envoys.iter_mut().enumerate() {
            // Two want ten times what there is, the third a tenth of it.
            if n < 2 || ms % 100 == 0 {
                envoy.request(1);
            }
            if ms % 1000 == 333 * n as u64 {
                envoy.report(ms);
            }
            if ms >= ticks[n] {
                envoy.tick(ms);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ticks[n] = ms + 50 + (random >> 33) % 101;
            }
        }
    }
    let [one, two, modest] = envoys.map(|envoy| envoy.allowed_ever);
    let all = one + two + modest;
    assert!((1900..=2100).contains(&all), "{one} {two} {modest}");
    assert!(one.abs_diff(two) < all / 8, "{one} {two}");
    // Of 200; it waits for a turn whenever it has used up what it had.
    assert!(modest >= 160, "{modest}");
}

#[test]
fn what_is_not_limited_is_told_so_and_counted_if_there_is_a_limit() {
    let rules = rules();
    for (key, dry_run, rule) in [
        ("none", false, BlanketRule::DenyAll),
        ("none", true, BlanketRule::AllowAll),
        ("unknown", false, BlanketRule::AllowAll),
        ("shadow", false, BlanketRule::AllowAll),
        ("hundred", true, BlanketRule::AllowAll),
    ] {
        let zone = zone(dry_run);
        let mut quotas = Quotas::new(Arc::clone(&zone));
        let told = only(report(&mut quotas, &rules, usage(key, 3, 0), 0));
        assert_eq!(told, Some(blanket(rule)), "{key}");
        assert!(report(&mut quotas, &rules, usage(key, 2, 0), 1000).is_empty());
        if ["shadow", "hundred"].contains(&key) {
            assert_eq!(left(&zone, key, at(1000)), 95, "{key}");
        }
    }
}

#[test]
fn entries_of_a_bucket_have_no_order() {
    let rules = rules();
    let found = rules.find_unordered("web", &id(&["a", "b"])).expect("b, then a");
    assert!(matches!(found.limit.measure, Measure::Counted { requests: 7, .. }));
    for keys in [&["a"][..], &["b"], &["a", "b", "hundred"], &[]] {
        assert_eq!(rules.find_unordered("web", &id(keys)), None, "{keys:?}");
    }
}

#[test]
fn assignments_are_prolonged_and_buckets_without_requests_are_given_up() {
    let (zone, rules) = (zone(false), rules());
    let mut quotas = Quotas::new(Arc::clone(&zone));
    let first = only(report(&mut quotas, &rules, usage("hundred", 0, 5), 0));
    assert!(report(&mut quotas, &rules, usage("hundred", 0, 5), 1000).is_empty());
    assert_eq!(tick(&mut quotas, 2999).len(), 0);
    assert_eq!(only(tick(&mut quotas, 4000)), first);
    assert_eq!(tick(&mut quotas, 4100).len(), 0);
    // What stands ready stays, for a while.
    assert!(report(&mut quotas, &rules, usage("hundred", 0, 0), 5000).is_empty());
    let last =
        report(&mut quotas, &rules, usage("hundred", 0, 0), 61_000).pop().and_then(|a| a.bucket_action);
    assert_eq!(last, Some(Action::AbandonAction(AbandonAction {})));
    assert_eq!((quotas.buckets.len(), left(&zone, "hundred", at(61_000))), (0, 100));
}

#[test]
fn an_envoy_that_does_not_report_any_more_is_not_given_more_and_more() {
    let (zone, rules) = (zone(false), rules());
    let mut quotas = Quotas::new(Arc::clone(&zone));
    report(&mut quotas, &rules, usage("fast", 0, 20), 0);
    report(&mut quotas, &rules, usage("fast", 20, 0), 1000);
    let mut told = 0;
    for n in 1..300 {
        told += tick(&mut quotas, 1000 + n * 100).len();
    }
    // It is told the last again every four seconds, and before that a few times that it may a little more.
    assert!(told <= 20, "{told}");
    assert_eq!(left(&zone, "fast", at(31_000)), 100);
}

#[test]
fn rules_that_change_begin_anew_with_what_was_not_used_given_back() {
    let zone = zone(false);
    let mut quotas = Quotas::new(Arc::clone(&zone));
    report(&mut quotas, &rules(), usage("hundred", 0, 30), 0);
    assert_eq!(left(&zone, "hundred", at(0)), 40);
    let none = only(report(&mut quotas, &Rules::default(), usage("hundred", 10, 0), 1000));
    assert_eq!(none, Some(blanket(BlanketRule::AllowAll)));
    assert_eq!(left(&zone, "hundred", at(1000)), 90);
}

#[test]
fn a_hostile_client_is_bounded() {
    let (zone, rules) = (zone(false), rules());
    let mut quotas = Quotas::new(Arc::clone(&zone));
    let mut said = |bucket: Option<Id>, allowed| {
        let usage = BucketQuotaUsage {
            bucket_id: bucket.map(|bucket| BucketId { bucket }),
            num_requests_allowed: allowed,
            num_requests_denied: u64::MAX,
        };
        report(&mut quotas, &rules, usage, 0).len()
    };
    assert_eq!(said(None, 1) + said(Some(id(&[])), 1), 0);
    assert_eq!(said(Some(id(&["1", "2", "3", "4", "5", "6", "7", "8", "9"])), 1), 0);
    assert_eq!(said(Some(id(&[&"k".repeat(ID_MAX)])), 1), 0);
    assert_eq!(said(Some(id(&["hundred"])), u64::MAX), 1);
    for n in 0..2 * BUCKETS_MAX {
        said(Some(id(&[&n.to_string()])), 1);
    }
    assert_eq!(quotas.buckets.len(), BUCKETS_MAX);
    // A limit is closed by a wrong report, but for no more than an hour beyond the one that it stands for.
    assert_eq!(left(&zone, "hundred", at(3_600_000)), 0);
    assert_eq!(left(&zone, "hundred", at(2 * 3_600_000)), 100);
}

proptest! {
    #[test]
    fn no_more_is_let_through_than_the_limit_admits(
        steps in prop::collection::vec((0_usize..3, 0_u8..4, 0_u64..40, 0_u64..200), 1..300),
    ) {
        let zone = zone(false);
        let mut envoys = [(); 3].map(|()| Envoy::new(&zone));
        let mut ms = 0;
        for (who, what, times, pause) in steps {
            ms += pause;
            let envoy = &mut envoys[who];
            match what {
                0 | 1 => envoy.request(times),
                2 => envoy.report(ms),
                _ => envoy.tick(ms),
            }
            // All of it was charged before.
            let allowed: u64 = envoys.iter().map(|envoy| envoy.allowed_ever).sum();
            prop_assert!(allowed <= 100 + ms / 10 + 1);
        }
    }

    /// The formula of `docs/semantics.md`, with the longest time between two exchanges in place of a delay.
    #[test]
    fn at_two_nodes_no_more_is_let_through_than_the_formula_admits(
        steps in prop::collection::vec((0_usize..4, 0_u8..5, 0_u64..40, 0_u64..200), 1..300),
    ) {
        let zones = [1, 2].map(zone_of_node);
        let mut envoys = [0, 1, 0, 1].map(|node: usize| Envoy::new(&zones[node]));
        let (mut ms, mut exchanged, mut delay) = (0, 0, 0);
        for (who, what, times, pause) in steps {
            ms += pause;
            delay = delay.max(ms - exchanged);
            let envoy = &mut envoys[who];
            match what {
                0 | 1 => envoy.request(times),
                2 => envoy.report(ms),
                3 => envoy.tick(ms),
                _ => {
                    exchange(&zones, ms);
                    exchanged = ms;
                }
            }
            let allowed: u64 = envoys.iter().map(|envoy| envoy.allowed_ever).sum();
            prop_assert!(allowed <= ms / 10 + 100 + (100 + delay / 10) + 2, "{allowed} in {ms} ms, {delay} apart");
        }
    }
}
